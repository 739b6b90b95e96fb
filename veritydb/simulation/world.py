"""The world in which simulated members live: virtual time, disks, the network, and what befalls them.

One :class:`World` drives the real :class:`~veritydb.vsr.replica.Replica` of every member by the contract in
:mod:`veritydb.vsr.effects`: one event at a time, effects in order. Between any two effects of a step the process may
die. Everything that happens is put in one queue by its time, so a run is a function of its scenario.

Who asks and who judges is elsewhere: :mod:`veritydb.simulation.clients`, :mod:`veritydb.simulation.checkers`.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappop, heappush
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from veritydb.simulation.chance import Chance
from veritydb.simulation.network import CLIENTS, Network
from veritydb.simulation.storage import Atlas, Disk
from veritydb.vsr.effects import TICK_MS, Image, Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.simulation.code import Code
    from veritydb.simulation.scenario import Fault, Scenario

TICK = TICK_MS * 1_000
EPOCH = 1_700_000_000_000_000
"""Cluster time at the beginning, microseconds."""
CLUSTER = b"simulated group."
_INBOX_MAX = 2_000
_SUMMARY = Struct("<QBBBQQQQQI").pack


class Violation(Exception):
    """The protocol did what it must not, or did not do what it must."""

    def __init__(self, what: str, facts: str = "") -> None:
        super().__init__(f"{what}: {facts}" if facts else what)
        self.what = what
        """The rule that was broken; failures of one kind have one text."""


class Node:
    """A process and what it lives on."""

    def __init__(self, member: int, disk: Disk) -> None:
        self.member = member
        self.disk = disk
        self.replica: Any = None
        self.incarnation = 0
        """Of the process. Events of an earlier one are nobody's."""
        self.inbox: list[Any] | None = None
        """While paused: what waits."""
        self.pauses = 0
        self.doom = -1
        """Effects until it crashes; negative: it does not."""
        self.down_until = 0
        self.skew = 0
        self.release = 1
        self.write_failed = False
        """Whether this process was told of a failed write: it must halt, then."""
        self.halts: list[str] = []
        self.refused: str | None = None
        """Why it could not start, if it could not."""
        self.retaining: list[int] = []
        self.retained = 0
        self.flushing = False
        self.dead = False
        """Stays down whatever happens: it is outside of the healthy core."""


class Watcher(Protocol):
    """Looks at everything."""

    def started(self, node: Node, effects: list[Any]) -> None:
        """A process has started."""
        ...

    def stepped(self, node: Node, event: Any, effects: list[Any]) -> None:
        """A step was made; its effects are not carried out yet."""
        ...

    def stopped(self, node: Node) -> None:
        """A process is gone."""
        ...

    def halted(self, node: Node, reason: str) -> None:
        """A replica has halted."""
        ...


class Story(Protocol):
    """Is told what happens, for traces and diagrams."""

    def tell(self, time: int, member: int, kind: str, what: Any) -> None:
        """Something has happened at a member."""
        ...

    def carry(self, sent: int, arrived: int, src: int, dst: int, message: Any) -> None:
        """A message has arrived."""
        ...


class World:
    """All of it."""

    def __init__(self, scenario: Scenario, code: Code, images: Callable[[int], Image]) -> None:
        self.scenario = scenario
        self.code = code
        self.now = 0
        self.steps = 0
        self.chance = Chance(scenario.seed)
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self.network = Network(scenario.weather, self.chance.split("network"), self._carry)
        self.atlas = Atlas(scenario.members)
        self.nodes: dict[int, Node] = {}
        for member in range(scenario.members):
            disk = Disk(member, images(member), scenario.habits, self.atlas, self.chance.split(f"disk {member}"))
            self.nodes[member] = Node(member, disk)
        self.watcher: Watcher | None = None
        self.story: Story | None = None
        self.clients: Callable[[int, Any], None] = lambda member, message: None
        """Takes what a member says to a client."""
        self.faults: dict[str, int] = {}
        """How often which kind of fault really happened."""
        self.trace = blake2b(digest_size=8)
        """Over what every step was and led to: two runs of one scenario have one digest."""
        self._kinds: dict[type, int] = {}
        self.options = code.options.Options(
            slots=scenario.slots,
            checkpoint_interval=scenario.checkpoint_interval,
            pipeline_max=scenario.pipeline_max,
            pipeline_eager=min(2, scenario.pipeline_max),
            batch_max=scenario.batch_max,
        )
        effects = code.effects
        self._arrived, self._tick, self._write_done = effects.Arrived, effects.Tick(), effects.WriteDone
        self._read_done, self._retained_event = effects.ReadDone, effects.Retained
        self._doers: dict[type, Callable[[Node, Any], None]] = {
            effects.Send: self._send,
            effects.Answer: self._answer,
            effects.Write: self._write,
            effects.Read: self._read,
            effects.Remove: self._remove,
            effects.Committed: self._committed,
            effects.Halt: self._halt,
        }

    # Time

    def after(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        """Have ``call`` made after ``delay`` microseconds."""
        self._order += 1
        heappush(self._queue, (self.now + delay, self._order, call, args))

    def run(self, until: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until ``until``, or until ``done`` says so, which is returned."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            time, _, call, args = heappop(queue)
            self.now = time
            call(*args)
            if done is not None and done():
                return True
        self.now = max(self.now, until)
        return False

    # Processes

    def start(self, member: int) -> None:
        """Start a member's process on what its disk holds."""
        node = self.nodes[member]
        assert node.replica is None
        node.incarnation += 1
        node.write_failed = False
        node.doom = -1
        node.inbox, node.pauses = None, 0
        node.retaining, node.flushing = [], False
        seed = self.chance.split(f"replica {member} {node.incarnation}").bits()
        try:
            node.replica = self.make_replica(node, node.disk.open(), seed)
            if node.replica.head_uncertain and not self.atlas.beyond and not self._may_be_uncertain(node):
                node.disk.mend()
                node.replica = self.make_replica(node, node.disk.open(), seed)
            effects = node.replica.start((EPOCH + self.now + node.skew) * 1000)
        except (self.code.superblock.SuperblockDamaged, self.code.core.CannotStart) as error:
            node.replica, node.refused = None, str(error)
            self._tell(member, "refused to start", str(error))
            if self.watcher is not None:
                self.watcher.halted(node, f"refused to start: {error}")
            return
        node.refused = None
        self._tell(member, "started", node.incarnation)
        if self.watcher is not None:
            self.watcher.started(node, effects)
        self.after(self.chance.below(TICK), self._ticked, node, node.incarnation)
        self._carry_out(node, effects)

    def _may_be_uncertain(self, node: Node) -> bool:
        """Whether the others can go on if this one does not know where its log ended.

        It takes no part in view changes then, so the others have to be able to tell by themselves what was committed.
        """
        uncertain = self.code.core.Status.RECOVERING_HEAD
        others = [other for other in self.nodes.values() if other is not node]
        return all(
            other.replica is not None
            and other.replica.status != uncertain
            and not other.replica.faulty
            and not other.disk.has_lost
            for other in others
        )

    def make_replica(self, node: Node, image: Image, seed: int) -> Any:
        """Return the replica of a process."""
        return self.code.replica.Replica(
            cluster=CLUSTER, member=node.member, image=image, seed=seed, options=self.options, release=node.release
        )

    def crash(self, member: int) -> None:
        """End a member's process; its disk keeps what it keeps."""
        node = self.nodes[member]
        if node.replica is None:
            return
        self._tell(member, "crashed", "")
        if self.watcher is not None:
            self.watcher.stopped(node)
        node.replica = None
        node.incarnation += 1
        node.inbox, node.pauses = None, 0
        node.disk.crash()

    def _ticked(self, node: Node, incarnation: int) -> None:
        if node.incarnation != incarnation:
            return
        self.after(TICK, self._ticked, node, incarnation)
        if node.inbox is None:
            self.step(node, self._tick)

    def _event(self, node: Node, incarnation: int, event: Any) -> None:
        if node.incarnation != incarnation or node.replica is None:
            return
        if node.inbox is not None:
            if len(node.inbox) < _INBOX_MAX or not isinstance(event, self._arrived):
                node.inbox.append(event)
            return
        self.step(node, event)

    def step(self, node: Node, event: Any) -> None:
        """Make one step and carry its effects out, as far as the process lives."""
        self.steps += 1
        effects = node.replica.step((EPOCH + self.now + node.skew) * 1000, event)
        if self.story is not None:
            self.story.tell(self.now, node.member, "event", event)
        replica = node.replica
        kind: type = event.__class__
        number = self._kinds.get(kind)
        if number is None:
            number = self._kinds[kind] = len(self._kinds)
        self.trace.update(
            _SUMMARY(
                self.now, node.member, number, replica.status, replica.view, replica.log_view, replica.head,
                replica.commit_max, replica.commit_min, len(effects),
            )
        )  # fmt: skip
        if self.watcher is not None:
            self.watcher.stepped(node, event, effects)
        if effects:
            self._carry_out(node, effects)

    def _carry_out(self, node: Node, effects: list[Any]) -> None:
        incarnation = node.incarnation
        doers = self._doers
        for effect in effects:
            if node.doom >= 0:
                node.doom -= 1
                if node.doom < 0:
                    self._die(node)
                    return
            if self.story is not None:
                self.story.tell(self.now, node.member, "effect", effect)
            doers[type(effect)](node, effect)
            if node.incarnation != incarnation:
                return

    def _die(self, node: Node) -> None:
        self.count("crash")
        self.crash(node.member)
        self.after(max(1, node.down_until - self.now), self.revive, node.member, node.incarnation)

    def revive(self, member: int, incarnation: int) -> None:
        """Start a member's process again, if it still is the one that ended."""
        node = self.nodes[member]
        if node.replica is None and node.incarnation == incarnation and not node.dead:
            self.start(member)

    # Effects

    def _send(self, node: Node, effect: Any) -> None:
        self.network.send(node.member, effect.dst, effect.message)

    def _answer(self, node: Node, effect: Any) -> None:
        self.network.send(node.member, CLIENTS, effect.message)

    def ask(self, member: int, message: Any) -> None:
        """Have a client's message sent to a member."""
        self.network.send(CLIENTS, member, message)

    def _carry(self, delay: int, src: int, dst: int, message: Any) -> None:
        self.after(delay, self._arrive, self.now, src, dst, message)

    def _arrive(self, sent: int, src: int, dst: int, message: Any) -> None:
        if dst == CLIENTS:
            if self.story is not None:
                self.story.carry(sent, self.now, src, dst, message)
            self.clients(src, message)
            return
        node = self.nodes.get(dst)
        if node is None or node.replica is None:
            return
        if self.story is not None:
            self.story.carry(sent, self.now, src, dst, message)
        self._event(node, node.incarnation, self._arrived(message))

    def _write(self, node: Node, effect: Any) -> None:
        self.after(node.disk.submit(effect), self._written, node, node.incarnation, effect.token)

    def _written(self, node: Node, incarnation: int, token: int) -> None:
        if node.incarnation != incarnation:
            return
        ok = node.disk.finish(token)
        if ok is None:
            self.after(node.disk.delay(), self._written, node, incarnation, token)
            return
        if not ok:
            self.count("write error")
            node.write_failed = True
        self._event(node, incarnation, self._write_done(token, ok))

    def _read(self, node: Node, effect: Any) -> None:
        self.after(node.disk.delay(), self._was_read, node, node.incarnation, effect)

    def _was_read(self, node: Node, incarnation: int, effect: Any) -> None:
        if node.incarnation == incarnation:
            self._event(node, incarnation, self._read_done(effect.token, node.disk.read(effect.zone, effect.key)))

    def _remove(self, node: Node, effect: Any) -> None:
        node.disk.remove(effect.zone, effect.key)

    def _committed(self, node: Node, effect: Any) -> None:
        node.retaining.append(effect.header.op)
        if not node.flushing:
            self._flush(node)

    def _flush(self, node: Node) -> None:
        node.flushing = True
        self.after(node.disk.delay(), self._retained, node, node.incarnation, node.retaining[-1])
        node.retaining = []

    def _retained(self, node: Node, incarnation: int, op: int) -> None:
        if node.incarnation != incarnation:
            return
        node.flushing = False
        node.retained = max(node.retained, op)
        if node.retaining:
            self._flush(node)
        self._event(node, incarnation, self._retained_event(op))

    def _halt(self, node: Node, effect: Any) -> None:
        node.halts.append(effect.reason)
        self._tell(node.member, "halted", effect.reason)
        if self.watcher is not None:
            self.watcher.halted(node, effect.reason)
        self.crash(node.member)
        # People look at it for a while and start it again.
        self.after(self.chance.between(20, 200) * TICK, self.revive, node.member, node.incarnation)

    # Faults

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """Have each of these happen at its time."""
        for fault in faults:
            self.after(fault.at - self.now, self.suffer, fault)

    def suffer(self, fault: Fault) -> None:
        """Have it happen now."""
        self._tell(fault.members[0] if fault.members else 0, "fault", fault)
        self._faults[fault.kind](self, fault, Chance(fault.draw))

    def count(self, kind: str) -> None:
        """One more fault of this kind has really happened."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def _tell(self, member: int, kind: str, what: Any) -> None:
        if self.story is not None:
            self.story.tell(self.now, member, kind, what)

    def _crash_soon(self, fault: Fault, chance: Chance) -> None:
        for member in fault.members:
            node = self.nodes[member]
            if node.replica is not None:
                node.doom = chance.below(12)
                node.down_until = self.now + fault.lasts

    def _primary(self) -> int | None:
        """Return the primary of the latest view that runs, if there is one."""
        normal = self.code.core.Status.NORMAL
        found: tuple[int, int] | None = None
        for member, node in self.nodes.items():
            replica = node.replica
            if replica is not None and replica.status == normal and replica.is_primary:
                found = max(found or (0, 0), (replica.view, member))
        return None if found is None else found[1]

    def _crash_primary(self, fault: Fault, chance: Chance) -> None:
        primary = self._primary()
        if primary is not None:
            self.count("primary crash")
            self._crash_soon(fault._replace(members=(primary,)), chance)

    def _isolate_primary(self, fault: Fault, chance: Chance) -> None:
        primary = self._primary()
        if primary is not None:
            self.count("primary isolation")
            links = [(primary, other) for other in self.nodes if other != primary]
            if chance.happens(500_000):  # Its clients still reach it.
                links += [(primary, CLIENTS), (CLIENTS, primary)]
            if chance.happens(700_000):  # Else what it sends is heard by one of the others.
                links += [(other, primary) for other in self.nodes if other != primary]
            self.network.cut(links)
            self.after(fault.lasts, self.network.mend, links)

    def _crash_with_rot(self, fault: Fault, chance: Chance) -> None:
        """Processes end, and one of the last entries of their disks is not what it was when they come back."""
        for member in fault.members:
            node = self.nodes[member]
            if node.replica is None:
                continue
            head = node.replica.head
            self.count("crash")
            self.crash(member)
            slot = (head - chance.below(3)) % len(node.disk.entries)
            zone = chance.pick((Zone.ENTRY, Zone.ENTRY, Zone.HEADER))
            if node.disk.rot(zone, slot):
                self.count("bit rot")
            self.after(chance.below(fault.lasts) + 1, self.revive, member, node.incarnation)

    def _upgrade(self, fault: Fault, chance: Chance) -> None:
        self.nodes[fault.members[0]].release += 1
        self.count("upgrade")
        self._crash_soon(fault, chance)

    def _blackout(self, fault: Fault, chance: Chance) -> None:
        """All processes end at one instant, as when the power fails, and come back one by one."""
        self.count("blackout")
        for member in fault.members:
            node = self.nodes[member]
            if node.replica is not None:
                self.crash(member)
                self.after(chance.below(fault.lasts) + 1, self.revive, member, node.incarnation)

    def _pause(self, fault: Fault, chance: Chance) -> None:
        node = self.nodes[fault.members[0]]
        if node.replica is None:
            return
        self.count("pause")
        node.pauses += 1
        if node.inbox is None:
            node.inbox = []
        self.after(fault.lasts, self.resume, node, node.incarnation)

    def resume(self, node: Node, incarnation: int) -> None:
        """End one pause; what waited comes at once."""
        if node.incarnation != incarnation:
            return
        node.pauses -= 1
        if node.pauses or node.inbox is None:
            return
        waiting, node.inbox = node.inbox, None
        for event in waiting:
            self._event(node, incarnation, event)

    def _partition(self, fault: Fault, chance: Chance) -> None:
        inside = set(fault.members)
        outside = [member for member in self.nodes if member not in inside]
        links = [(a, b) for a in sorted(inside) for b in outside] + [(b, a) for a in sorted(inside) for b in outside]
        if chance.happens(300_000):  # Clients are on the other side.
            links += [(CLIENTS, a) for a in sorted(inside)] + [(a, CLIENTS) for a in sorted(inside)]
        self._cut_for("partition", links, fault.lasts)

    def _isolate(self, fault: Fault, chance: Chance) -> None:
        member = fault.members[0]
        links = [(member, CLIENTS), (CLIENTS, member)]
        links += [(member, other) for other in self.nodes if other != member]
        links += [(other, member) for other in self.nodes if other != member]
        self._cut_for("isolation", links, fault.lasts)

    def _one_way(self, fault: Fault, chance: Chance) -> None:
        src = fault.members[0]
        shape = chance.below(3)
        if shape == 0:  # It hears nothing.
            links = [(other, src) for other in self.nodes if other != src]
        elif shape == 1:  # It is not heard.
            links = [(src, other) for other in self.nodes if other != src]
        else:
            links = [(src, fault.members[1])]
        self._cut_for("one-way cut", links, fault.lasts)

    def _cut_for(self, kind: str, links: list[tuple[int, int]], lasts: int) -> None:
        self.count(kind)
        self.network.cut(links)
        self.after(lasts, self.network.mend, links)

    def _clog(self, fault: Fault, chance: Chance) -> None:
        """Clog all links of these members one after the other, and open them in another order."""
        self.count("clog")
        order = list(fault.members)
        for number, member in enumerate(order):
            links = [(member, other) for other in self.nodes] + [(other, member) for other in self.nodes]
            self.after(number * fault.lasts // 8, self.network.clog, links)
        chance.shuffle(order)
        for number, member in enumerate(order):
            links = [(member, other) for other in self.nodes] + [(other, member) for other in self.nodes]
            self.after(fault.lasts + number * fault.lasts // 8, self.network.unclog, links)

    def _slow_disk(self, fault: Fault, chance: Chance) -> None:
        self.count("slow disk")
        disk = self.nodes[fault.members[0]].disk
        disk.slowness = chance.pick((10, 30, 100))
        self.after(fault.lasts, self._normal_disk, disk)

    def _normal_disk(self, disk: Disk) -> None:
        disk.slowness = 1

    def _rot(self, fault: Fault, chance: Chance) -> None:
        disk = self.nodes[fault.members[0]].disk
        for _ in range(chance.between(1, 4)):
            zone, slot = self._some_place(disk, chance)
            happened = disk.rot(zone, slot) if fault.kind == "bit rot" else disk.unreadable(zone, slot)
            if happened:
                self.count(fault.kind)

    def _some_place(self, disk: Disk, chance: Chance) -> tuple[Zone, int]:
        """Return a slot, more likely one near the end of the log, where it hurts."""
        zone = chance.pick((Zone.ENTRY, Zone.ENTRY, Zone.HEADER))
        node = self.nodes[disk.member]
        if node.replica is not None and chance.happens(700_000):
            return zone, (node.replica.head - chance.below(8)) % len(disk.entries)
        return zone, chance.below(len(disk.entries))

    def _rot_superblock(self, fault: Fault, chance: Chance) -> None:
        disk = self.nodes[fault.members[0]].disk
        for _ in range(4 if self.atlas.beyond else 1):
            number = chance.below(4)
            happened = (
                disk.rot(Zone.SUPERBLOCK, number)
                if chance.happens(500_000)
                else disk.unreadable(Zone.SUPERBLOCK, number)
            )
            if happened:
                self.count("superblock rot")

    def _jump(self, fault: Fault, chance: Chance) -> None:
        self.count("clock jump")
        node = self.nodes[fault.members[0]]
        node.skew += chance.pick((-3_600_000_000, -1_000_000, -20_000, 20_000, 1_000_000, 3_600_000_000))

    _faults: ClassVar[dict[str, Callable[[World, Fault, Chance], None]]] = {
        "crash": _crash_soon,
        "upgrade": _upgrade,
        "blackout": _blackout,
        "pause": _pause,
        "partition": _partition,
        "isolation": _isolate,
        "one-way cut": _one_way,
        "clog": _clog,
        "slow disk": _slow_disk,
        "bit rot": _rot,
        "unreadable sector": _rot,
        "superblock rot": _rot_superblock,
        "clock jump": _jump,
        "primary crash": _crash_primary,
        "primary isolation": _isolate_primary,
        "crash with rot": _crash_with_rot,
    }
