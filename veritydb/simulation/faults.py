"""What befalls members: each kind of fault of a plan, as something done to the world.

A plan (:mod:`veritydb.simulation.scenario`) says when, what kind, whom, for how long, and has a number from which all
else is drawn. What the weather and the disks do by habit is elsewhere; so is what people do, who are only wished here
to do something (:mod:`veritydb.simulation.people`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from veritydb.simulation.chance import Chance
from veritydb.simulation.network import CLIENTS
from veritydb.vsr.effects import Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.simulation.scenario import Fault
    from veritydb.simulation.storage import Disk
    from veritydb.simulation.world import Node, World

MILLISECOND = 1_000
_HOT = 1_500 * MILLISECOND
"""How long primaries are not left alone, at least: long enough for a few views."""
_MOMENTS = (
    "StartView", "JoinView", "ExitView", "Prepare", "PrepareOk", "Commit", "SnapshotChunk", "SnapshotChunk",
    "NewEpoch", "Repair",
    "GetView", "WriteDone", "ReadDone", "Retained",
)  # fmt: skip


class Faults:
    """All kinds that a plan may name."""

    def __init__(self, world: World) -> None:
        self._world = world

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """Have each of these happen at its time."""
        for fault in faults:
            self._world.after(fault.at - self._world.now, self.suffer, fault)

    def suffer(self, fault: Fault) -> None:
        """Have it happen now, to those who are there: members come and go, and a plan was made before."""
        world = self._world
        there = [member for member, node in sorted(world.nodes.items()) if not node.dead and not node.lost]
        members = tuple(dict.fromkeys(one if one in there else there[one % len(there)] for one in fault.members))
        if fault.kind == "blackout":
            members = tuple(there)
        fault = fault._replace(members=members)
        world.tell(members[0] if members else 0, "fault", fault)
        self._kinds[fault.kind](self, fault, Chance(fault.draw))

    def _crash_soon(self, fault: Fault, chance: Chance) -> None:
        for member in fault.members:
            node = self._world.nodes[member]
            if node.replica is not None:
                node.doom = chance.below(12)
                node.down_until = self._world.now + fault.lasts
                if chance.happens(250_000):
                    node.stumbles = chance.between(1, 3)

    def _crash_at(self, fault: Fault, chance: Chance) -> None:
        """A process ends before the effect of this number, counted from now: for whoever wants to try them all."""
        node = self._world.nodes[fault.members[0]]
        node.doom, node.down_until = fault.draw, self._world.now + fault.lasts

    def primary(self) -> int | None:
        """Return the primary of the latest view that runs, if there is one."""
        normal = self._world.code.core.Status.NORMAL
        found: tuple[int, int] | None = None
        for member, node in self._world.nodes.items():
            replica = node.replica
            if replica is not None and replica.status == normal and replica.is_primary:
                found = max(found or (0, 0), (replica.view, member))
        return None if found is None else found[1]

    def _crash_primary(self, fault: Fault, chance: Chance) -> None:
        primary = self.primary()
        if primary is not None:
            self._world.count("primary crash")
            self._crash_soon(fault._replace(members=(primary,)), chance)

    def _isolate_primary(self, fault: Fault, chance: Chance) -> None:
        primary = self.primary()
        if primary is not None:
            self._world.count("primary isolation")
            links = [(primary, other) for other in self._world.nodes if other != primary]
            if chance.happens(500_000):  # Its clients still reach it.
                links += [(primary, CLIENTS), (CLIENTS, primary)]
            if chance.happens(700_000):  # Else what it sends is heard by one of the others.
                links += [(other, primary) for other in self._world.nodes if other != primary]
            self._world.network.cut(links)
            self._world.after(fault.lasts, self._later, self._world.network.mend, links)

    def _crash_with_rot(self, fault: Fault, chance: Chance) -> None:
        """Processes end, and one of the last entries of their disks is not what it was when they come back."""
        for member in fault.members:
            node = self._world.nodes[member]
            if node.replica is None:
                continue
            head = node.replica.head
            self._world.count("crash")
            self._world.crash(member)
            slot = (head - chance.below(3)) % len(node.disk.entries)
            zone = chance.pick((Zone.ENTRY, Zone.ENTRY, Zone.HEADER))
            if node.disk.rot(zone, slot):
                self._world.count("bit rot")
            self._world.after(chance.below(fault.lasts) + 1, self._world.revive, member, node.incarnation)

    def _upgrade(self, fault: Fault, chance: Chance) -> None:
        self._world.nodes[fault.members[0]].release += 1
        self._world.count("upgrade")
        self._crash_soon(fault, chance)

    def _blackout(self, fault: Fault, chance: Chance) -> None:
        """All processes end at one instant, as when the power fails, and come back one by one."""
        self._world.count("blackout")
        for member in fault.members:
            node = self._world.nodes[member]
            if node.replica is not None:
                self._world.crash(member)
                self._world.after(chance.below(fault.lasts) + 1, self._world.revive, member, node.incarnation)

    def _pause(self, fault: Fault, chance: Chance) -> None:
        node = self._world.nodes[fault.members[0]]
        if node.replica is None:
            return
        self._world.count("pause")
        node.pauses += 1
        if node.inbox is None:
            node.inbox = []
        self._world.after(fault.lasts, self._world.resume, node, node.incarnation)

    def _partition(self, fault: Fault, chance: Chance) -> None:
        inside = set(fault.members)
        outside = [member for member in self._world.nodes if member not in inside]
        links = [(a, b) for a in sorted(inside) for b in outside] + [(b, a) for a in sorted(inside) for b in outside]
        if chance.happens(300_000):  # Clients are on the other side.
            links += [(CLIENTS, a) for a in sorted(inside)] + [(a, CLIENTS) for a in sorted(inside)]
        self._cut_for("partition", links, fault.lasts)

    def _isolate(self, fault: Fault, chance: Chance) -> None:
        self.cut_off(fault.members[0], fault.lasts)

    def cut_off(self, member: int, lasts: int) -> None:
        """Have nothing reach a member for so long, and nothing it says."""
        links = [(member, CLIENTS), (CLIENTS, member)]
        links += [(member, other) for other in self._world.nodes if other != member]
        links += [(other, member) for other in self._world.nodes if other != member]
        self._cut_for("isolation", links, lasts)

    def _one_way(self, fault: Fault, chance: Chance) -> None:
        src = fault.members[0]
        shape = chance.below(3)
        if shape == 0:  # It hears nothing.
            links = [(other, src) for other in self._world.nodes if other != src]
        elif shape == 1:  # It is not heard.
            links = [(src, other) for other in self._world.nodes if other != src]
        else:
            links = [(src, fault.members[-1])]
        self._cut_for("one-way cut", links, fault.lasts)

    def _cut_for(self, kind: str, links: list[tuple[int, int]], lasts: int) -> None:
        self._world.count(kind)
        self._world.network.cut(links)
        self._world.after(lasts, self._later, self._world.network.mend, links)

    def _later(self, act: Callable[[list[tuple[int, int]]], None], links: list[tuple[int, int]]) -> None:
        """Do what a fault does some time after it began: not in the healthy end, which has cuts of its own."""
        if not self._world.people.finishing:
            act(links)

    def _clog(self, fault: Fault, chance: Chance) -> None:
        """Clog all links of these members one after the other, and open them in another order."""
        self._world.count("clog")
        order = list(fault.members)
        for number, member in enumerate(order):
            links = [(member, other) for other in self._world.nodes] + [(other, member) for other in self._world.nodes]
            self._world.after(number * fault.lasts // 8, self._later, self._world.network.clog, links)
        chance.shuffle(order)
        for number, member in enumerate(order):
            links = [(member, other) for other in self._world.nodes] + [(other, member) for other in self._world.nodes]
            self._world.after(fault.lasts + number * fault.lasts // 8, self._later, self._world.network.unclog, links)

    def _slow_disk(self, fault: Fault, chance: Chance) -> None:
        self._world.count("slow disk")
        disk = self._world.nodes[fault.members[0]].disk
        disk.slowness = chance.pick((10, 30, 100))
        self._world.after(fault.lasts, self._normal_disk, disk)

    def _normal_disk(self, disk: Disk) -> None:
        disk.slowness = 1

    def _rot(self, fault: Fault, chance: Chance) -> None:
        disk = self._world.nodes[fault.members[0]].disk
        for _ in range(chance.between(1, 4)):
            zone, slot = self._some_place(disk, chance)
            happened = disk.rot(zone, slot) if fault.kind == "bit rot" else disk.unreadable(zone, slot)
            if happened:
                self._world.count(fault.kind)

    def _some_place(self, disk: Disk, chance: Chance) -> tuple[Zone, int]:
        """Return a slot, more likely one near the end of the log, where it hurts."""
        zone = chance.pick((Zone.ENTRY, Zone.ENTRY, Zone.HEADER))
        node = self._world.nodes[disk.member]
        if node.replica is not None and chance.happens(700_000):
            return zone, (node.replica.head - chance.below(8)) % len(disk.entries)
        return zone, chance.below(len(disk.entries))

    def _rot_superblock(self, fault: Fault, chance: Chance) -> None:
        disk = self._world.nodes[fault.members[0]].disk
        for _ in range(4 if self._world.atlas.beyond else 1):
            number = chance.below(4)
            happened = (
                disk.rot(Zone.SUPERBLOCK, number)
                if chance.happens(500_000)
                else disk.unreadable(Zone.SUPERBLOCK, number)
            )
            if happened:
                self._world.count("superblock rot")

    def _jump(self, fault: Fault, chance: Chance) -> None:
        self._world.count("clock jump")
        node = self._world.nodes[fault.members[0]]
        node.skew += chance.pick((-3_600_000_000, -1_000_000, -20_000, 20_000, 1_000_000, 3_600_000_000))

    def _crash_at_event(self, fault: Fault, chance: Chance) -> None:
        node = self._world.nodes[fault.members[0]]
        node.trap, node.trap_at = chance.pick(_MOMENTS), chance.below(5)
        node.trap_others = chance.happens(400_000)
        node.down_until = self._world.now + fault.lasts

    def _crash_in_superblock(self, fault: Fault, chance: Chance) -> None:
        """A crash between two copies of a superblock, and perhaps others while it is read and written again."""
        node = self._world.nodes[fault.members[0]]
        node.trap, node.trap_at = "superblock", chance.below(4) - 1
        node.down_until = self._world.now + fault.lasts
        node.stumbles = chance.below(4)

    def _thin_superblock(self, fault: Fault, chance: Chance) -> None:
        """A crash leaves one copy of a new superblock; the process is there again, and then just that copy rots."""
        node = self._world.nodes[fault.members[0]]
        node.trap, node.trap_at = "superblock", 0
        node.down_until = self._world.now + MILLISECOND
        self._world.after(fault.lasts, self._thin_out, node, chance)

    def _thin_out(self, node: Node, chance: Chance) -> None:
        copies = node.disk.copies
        single = [number for number, copy in enumerate(copies) if copies.count(copy) == 1]
        if single and node.replica is not None and node.disk.rot(Zone.SUPERBLOCK, chance.pick(single)):
            self._world.count("thin superblock")
            node.doom, node.down_until = chance.below(12), self._world.now + MILLISECOND

    def _rotten_head(self, fault: Fault, chance: Chance) -> None:
        """A member ends, and the last thing it has said to be durable is not there when it comes back."""
        world = self._world
        node = world.nodes[fault.members[0]]
        if node.replica is None:
            return
        head = node.replica.head
        world.count("crash")
        world.crash(node.member)
        slot = head % len(node.disk.entries)
        if node.disk.rot(Zone.ENTRY, slot) and (chance.happens(250_000) or node.disk.rot(Zone.HEADER, slot)):
            world.count("rotten head")
        world.after(MILLISECOND, world.revive, node.member, node.incarnation)
        primary = self.primary()
        if primary is not None and chance.happens(500_000):
            self._crash_soon(fault._replace(members=(primary,)), chance)

    def _hot_seat(self, fault: Fault, chance: Chance) -> None:
        """Whoever becomes primary, and has committed something, is cut off; then the one before is there again."""
        self._world.count("hot seat")
        self._take_seat(self._world.now + max(fault.lasts, _HOT), None, [], chance)

    def _take_seat(self, until: int, out: int | None, links: list[tuple[int, int]], chance: Chance) -> None:
        world = self._world
        if world.people.finishing:
            return
        clogs = chance.happens(400_000)
        primary = self.primary()
        over = world.now >= until
        if links and (over or (primary is not None and primary != out)):
            world.network.mend(links)
            world.network.unclog(links)
            if out is not None and chance.happens(400_000):
                node = world.nodes[out]
                node.trap, node.trap_at, node.trap_others = "StartView", chance.below(6), False
                node.down_until = world.now + chance.below(_HOT)
            links = []
        if over:
            return
        if not links and primary is not None and world.nodes[primary].replica.view_committed:
            out = primary
            links = [(primary, other) for other in world.nodes if other != primary]
            links += [(other, primary) for other in world.nodes if other != primary]
            if chance.happens(300_000):
                links += [(primary, CLIENTS), (CLIENTS, primary)]
            if clogs:
                world.network.clog(links)
            else:
                world.network.cut(links)
        world.after(5 * MILLISECOND, self._take_seat, until, out, links, chance)

    def _late_answer(self, fault: Fault, chance: Chance) -> None:
        """Who is asked whether a view still runs says yes; that arrives when the next view has committed something."""
        primary = self.primary()
        if primary is None:
            return
        self._world.count("late answer")
        others = [other for other in self._world.nodes if other != primary]
        inward = [(other, primary) for other in others]
        self._world.network.clog(inward)
        self._hold_answers(self._world.now + max(fault.lasts, _HOT), primary, inward, [])

    def _hold_answers(
        self, until: int, old: int, inward: list[tuple[int, int]], outward: list[tuple[int, int]]
    ) -> None:
        world, network = self._world, self._world.network
        replica, now = world.nodes[old].replica, self.primary()
        ahead = None if now is None else world.nodes[now].replica
        overtaken = (
            replica is not None
            and now != old
            and ahead is not None
            and ahead.view_committed
            and ahead.commit_max > replica.commit_max
        )
        if world.people.finishing or world.now >= until or replica is None or overtaken:
            network.mend(outward)
            # In between, somebody may ask the old one, who does not know yet.
            world.after(50 * MILLISECOND, network.let_through, inward, "CommitAck")
            world.after(60 * MILLISECOND, network.unclog, inward)
            return
        if not outward and sum(network.holds_back(link, "CommitAck") for link in inward) > len(inward) // 2:
            outward = [(old, other) for other, _ in inward]
            network.cut(outward)
        world.after(MILLISECOND, self._hold_answers, until, old, inward, outward)

    def _member_comes(self, fault: Fault, chance: Chance) -> None:
        self._world.people.wish_more()

    def _member_leaves(self, fault: Fault, chance: Chance) -> None:
        self._world.people.wish_fewer(fault.members[0])

    def _false_alarm(self, fault: Fault, chance: Chance) -> None:
        """All the others hear that a member is gone, who is there, and may be primary."""
        self._world.count("false alarm")
        for member, node in sorted(self._world.nodes.items()):
            if member != fault.members[0]:
                self._world.say_gone(node, fault.members[0])

    def _step_down(self, fault: Fault, chance: Chance) -> None:
        """A process is asked to end, and does, some time later or never."""
        node = self._world.nodes[fault.members[0]]
        if node.replica is not None:
            self._world.count("step down")
            self._world.step_down(node)
            if chance.happens(500_000):
                self._crash_soon(fault, chance)

    def _old_wish(self, fault: Fault, chance: Chance) -> None:
        self._world.people.wish_again(chance.bits())

    def _split_epoch(self, fault: Fault, chance: Chance) -> None:
        """When the next epoch begins, somebody who has not heard of it is cut off."""
        self._world.people.split = (fault.lasts, chance.bits())

    def _lose_disk(self, fault: Fault, chance: Chance) -> None:
        self._world.people.lose_disk(fault.members[0], formatted=chance.happens(500_000))

    _kinds: ClassVar[dict[str, Callable[[Faults, Fault, Chance], None]]] = {
        "crash": _crash_soon,
        "crash at effect": _crash_at,
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
        "crash at event": _crash_at_event,
        "crash in superblock": _crash_in_superblock,
        "rotten head": _rotten_head,
        "hot seat": _hot_seat,
        "member comes": _member_comes,
        "member leaves": _member_leaves,
        "lost disk": _lose_disk,
        "thin superblock": _thin_superblock,
        "old wish": _old_wish,
        "split epoch": _split_epoch,
        "false alarm": _false_alarm,
        "step down": _step_down,
        "late answer": _late_answer,
    }
