"""The world in which simulated members live: virtual time, disks, the network, and what befalls them.

One :class:`World` drives the real :class:`~veritydb.vsr.replica.Replica` of every member by the contract in
:mod:`veritydb.vsr.effects`: one event at a time, effects in order. Between any two effects of a step the process may
die. Everything that happens is put in one queue by its time, so a run is a function of its scenario.

Elsewhere is what befalls it (:mod:`veritydb.simulation.faults`), who runs it (:mod:`~veritydb.simulation.people`), who
asks (:mod:`~veritydb.simulation.clients`) and who judges (:mod:`~veritydb.simulation.checkers`).
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappop, heappush
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from veritydb.simulation.chance import Chance
from veritydb.simulation.faults import Faults
from veritydb.simulation.founding import CLUSTER, new_disk
from veritydb.simulation.frames import Frame, Frames
from veritydb.simulation.network import CLIENTS, Network
from veritydb.simulation.people import People
from veritydb.simulation.storage import SLOWEST, Atlas, Disk
from veritydb.vsr.effects import TICK_MS, Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.simulation.code import Code
    from veritydb.simulation.scenario import Scenario
    from veritydb.vsr.effects import Image

TICK = TICK_MS * 1_000
EPOCH = 1_700_000_000_000_000
"""Cluster time at the beginning, microseconds."""
_INBOX_MAX = 2_000
_SUMMARY = Struct("<QBBBQQQQQI").pack


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
        self.trap = ""
        """At which event it will crash: a message's or event's name, or "superblock", while one is being written."""
        self.trap_at = 0
        """So many effects behind that event, or copies; negative: none of the copies."""
        self.trap_others = False
        """Whether it is the primary that crashes then, and not this one."""
        self.down_until = 0
        self.stumbles = 0
        """How often it crashes again in the middle of starting."""
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
        """Stays down whatever happens: it is outside of the healthy core, or was switched off for good."""
        self.lost = False
        """Its disk is gone; there is nothing to start from."""


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

    def formatted(self, node: Node) -> None:
        """A member whose disk was lost has a new one."""
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

    def __init__(self, scenario: Scenario, code: Code) -> None:
        self.scenario = scenario
        self.code = code
        self.now = 0
        self.steps = 0
        self.chance = Chance(scenario.seed)
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self.frames = Frames(code, self.chance.split("frames")) if scenario.wire else None
        spoil = self.frames.spoil if self.frames is not None else None
        self.network = Network(scenario.weather, self.chance.split("network"), self._carry, spoil)
        members = tuple(range(scenario.members))
        self.atlas = Atlas(members)
        self.atlas.beyond = scenario.beyond
        self.atlas.uncertain = self._uncertain
        self.nodes: dict[int, Node] = {}
        for member in members:
            self.give_disk(member, members)
        self.people = People(self, members)
        self.plan = Faults(self)
        self.watcher: Watcher | None = None
        self.story: Story | None = None
        self.clients: Callable[[int, Any], None] = lambda member, message: None
        """Takes what a member says to a client."""
        self.known: Callable[[tuple[int, ...]], None] = lambda members: None
        """Is told whom clients may ask from now on."""
        self.faults: dict[str, int] = {}
        """How often which kind of fault really happened."""
        self.trace = blake2b(digest_size=8)
        """Over what every step was and led to: two runs of one scenario have one digest."""
        self._kinds: dict[type, int] = {}
        self.options = code.options.Options(
            slots=scenario.slots,
            checkpoint_interval=scenario.checkpoint_interval,
            pipeline_max=scenario.pipeline_max,
            pipeline_eager=min(scenario.pipeline_eager, scenario.pipeline_max),
            chunk_size=scenario.chunk_size,
            batch_max=scenario.batch_max,
        )
        effects = code.effects
        self._arrived, self._tick, self._write_done = effects.Arrived, effects.Tick(), effects.WriteDone
        self._read_done, self._retained_event = effects.ReadDone, effects.Retained
        self._gone, self._step_down = effects.Gone, effects.StepDown()
        self.chance_of_gone = self.chance.split("gone")
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

    def give_disk(self, member: int, members: tuple[int, ...], *, epoch: int = 0, view: int = 0) -> Node:
        """Give a member a new disk, and a place in the world if it has none."""
        node = self.nodes.get(member)
        image = new_disk(self.code, member, members, self.scenario.slots, epoch=epoch, view=view)
        age = "" if node is None else f" {node.incarnation}"
        disk = Disk(member, image, self.scenario.habits, self.atlas, self.chance.split(f"disk {member}{age}"))
        if node is None:
            node = self.nodes[member] = Node(member, disk)
        node.disk, node.lost = disk, False
        return node

    def start(self, member: int) -> None:
        """Start a member's process on what its disk holds."""
        node = self.nodes[member]
        assert node.replica is None
        node.incarnation += 1
        node.write_failed = False
        node.doom = -1
        node.trap = ""
        node.inbox, node.pauses = None, 0
        node.retaining, node.flushing = [], False
        seed = self.chance.split(f"replica {member} {node.incarnation}").bits()
        try:
            node.replica = self.make_replica(node, node.disk.open(), seed)
            if node.replica.head_uncertain and not self.atlas.beyond and not self.can_do_without(node):
                node.disk.mend()
                node.replica = self.make_replica(node, node.disk.open(), seed)
            effects = node.replica.start((EPOCH + self.now + node.skew) * 1000)
        except (self.code.superblock.SuperblockDamaged, self.code.core.CannotStart) as error:
            node.replica, node.refused = None, str(error)
            self.tell(member, "refused to start", str(error))
            if self.watcher is not None:
                self.watcher.halted(node, f"refused to start: {error}")
            return
        node.refused = None
        self.tell(member, "started", node.incarnation)
        if self.watcher is not None:
            self.watcher.started(node, effects)
        self.after(self.chance.below(TICK), self._ticked, node, node.incarnation)
        if node.stumbles:
            node.stumbles -= 1
            if self.chance.happens(500_000):
                node.doom = self.chance.below(10)
            else:
                node.trap, node.trap_at = "superblock", self.chance.below(4) - 1
            node.down_until = self.now + self.chance.between(1, 20) * TICK
            self.count("crash while starting")
        self._carry_out(node, effects)

    def _uncertain(self) -> set[int]:
        """Return the members who do not know where their log ended."""
        status = self.code.core.Status.RECOVERING_HEAD
        return {
            member
            for member in self.people.members
            if (replica := self.nodes[member].replica) is not None and replica.status == status
        }

    def can_do_without(self, node: Node) -> bool:
        """Whether the others can go on if this one does not know where its log ended, or has none.

        It takes no part in view changes then, so the others have to be able to tell by themselves what was committed.
        """
        uncertain = self.code.core.Status.RECOVERING_HEAD
        if self.people.changing:
            return False
        others = [self.nodes[other] for other in self.people.members if other != node.member]
        return node.member not in self.people.members or all(
            other.replica is not None
            and other.replica.status != uncertain
            and not other.replica.faulty
            and not other.disk.has_lost_above(other.replica.checkpoint.op)
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
        self.tell(member, "crashed", "")
        if self.watcher is not None:
            self.watcher.stopped(node)
        node.replica = None
        node.incarnation += 1
        node.inbox, node.pauses = None, 0
        node.disk.crash()
        for other in self.nodes.values():
            if other is not node and self.chance_of_gone.happens(500_000):
                self.say_gone(other, member)

    def say_gone(self, node: Node, member: int) -> None:
        """Tell a member that nobody listens at another's address any more."""
        delay = self.chance_of_gone.below(50_000)
        self.after(delay, self._event, node, node.incarnation, self._gone(member))

    def step_down(self, node: Node) -> None:
        """Tell a member that its process is about to end."""
        self._event(node, node.incarnation, self._step_down)

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
        if node.trap and node.trap == type(event.message if isinstance(event, self._arrived) else event).__name__:
            self._spring(node)
        if effects:
            self._carry_out(node, effects)

    def _spring(self, node: Node) -> None:
        node.trap = ""
        primary = self.plan.primary() if node.trap_others else node.member
        if primary is not None:
            self.nodes[primary].doom, self.nodes[primary].down_until = node.trap_at, node.down_until

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
        if node.replica is None and node.incarnation == incarnation and not node.dead and not node.lost:
            self.start(member)

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

    # Effects

    def _send(self, node: Node, effect: Any) -> None:
        self._give(node.member, effect.dst, effect.message)

    def _answer(self, node: Node, effect: Any) -> None:
        self._give(node.member, CLIENTS, effect.message)

    def ask(self, member: int, message: Any) -> None:
        """Have a client's message sent to a member."""
        self._give(CLIENTS, member, message)

    def _give(self, src: int, dst: int, message: Any) -> None:
        self.network.send(src, dst, message if self.frames is None else self.frames.make(message))

    def _carry(self, delay: int, src: int, dst: int, message: Any) -> None:
        self.after(delay, self._arrive, self.now, src, dst, message)

    def _arrive(self, sent: int, src: int, dst: int, message: Any) -> None:
        if isinstance(message, Frame):
            assert self.frames is not None
            message = self.frames.hear(dst, message)
            if message is None:
                return
        if dst == CLIENTS:
            if self.story is not None:
                self.story.carry(sent, self.now, src, dst, message)
            if message.client == self.people.id:
                self.people.hear(src, message)
            else:
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
        if node.trap == "superblock" and node.trap_at < 0 and effect.zone == Zone.SUPERBLOCK:
            self._die(node)

    def _written(self, node: Node, incarnation: int, token: int) -> None:
        if node.incarnation != incarnation:
            return
        ok = node.disk.finish(token)
        if ok is None and node.trap == "superblock":
            node.trap_at -= 1
            if node.trap_at < 0:
                self._die(node)
                return
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
        delay = min(node.disk.delay() * self.scenario.keeping, SLOWEST)
        self.after(delay, self._retained, node, node.incarnation, node.retaining[-1])
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
        self.tell(node.member, "halted", effect.reason)
        if self.watcher is not None:
            self.watcher.halted(node, effect.reason)
        self.crash(node.member)
        # People look at it for a while and start it again.
        self.after(self.chance.between(20, 200) * TICK, self.revive, node.member, node.incarnation)

    # What is told

    def count(self, kind: str) -> None:
        """One more fault of this kind has really happened."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def tell(self, member: int, kind: str, what: Any) -> None:
        """Something has happened at a member that is no event and no effect."""
        if self.story is not None:
            self.story.tell(self.now, member, kind, what)
