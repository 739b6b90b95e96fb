"""A member's disk that keeps what it was told, until it does not.

What can go wrong: a write that is under way at a crash is there, not there, or torn; a write is reported durable and
was
*lost*; it went to another slot (*misdirected*); bytes *rot*; a sector can no longer be *read*; a write *fails* (EIO,
ENOSPC); all of it is slow. The superblock is four copies that are written one after the other.

Faults stay within what the protocol promises to survive. The :class:`Atlas` decides: of each slot so many members keep
a good copy that one of every replication quorum has it; if both places of one slot, the entry and the header record,
are bad at one member, both show it; at most one copy of a superblock is bad. Beyond that (:attr:`Atlas.beyond`)
anything goes, and then what is asked of the replica is to stop rather than to guess.

A disk knows what it *said* is durable (:attr:`Disk.promised`) beside what *is* there. The first is what a replica may
rely on and what the checkers compare with; the difference is what the atlas counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from veritydb.vsr.effects import Image, Zone
from veritydb.vsr.entry import HEADER_SIZE
from veritydb.vsr.quorums import QUORUMS
from veritydb.vsr.superblock import COPIES, as_copy

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.simulation.chance import Chance
    from veritydb.vsr.effects import Key, Write

SECTOR = 512
SLOWEST = 1_500_000
"""Microseconds that an access takes at most: a disk that takes longer is a disk that failed."""
Place = tuple[int, "Key"]
"""Zone and key; for a copy of the superblock, its number."""


class Habits(NamedTuple):
    """How a disk is; chances per million writes or reads, times in microseconds."""

    delay_low: int = 50
    delay_scale: int = 300
    lost: int = 0
    misdirected: int = 0
    failed: int = 0
    unreadable: int = 0
    """A read that gives nothing this time."""
    keep: int = 500_000
    """That a write under way at a crash is there afterwards."""
    tear: int = 300_000
    """That it is torn, if it is not there."""


_SILENT = frozenset({"lost write", "misdirected write"})
_SLOTS = (Zone.ENTRY, Zone.HEADER)


class Atlas:
    """Where on which disks a fault may be, so that the protocol can survive all of them."""

    def __init__(self, members: tuple[int, ...]) -> None:
        self.groups: tuple[tuple[int, ...], ...] = (members,)
        """Who counts; two sets while members change."""
        self.beyond = False
        self.disks: dict[int, Disk] = {}
        self.gone: set[int] = set()
        """Members whose disk was lost: they have nothing good in any slot until they caught up."""
        self.uncertain: Callable[[], set[int]] = set
        """Tells who does not know where its log ended. It can deny nothing of any slot that others lose."""

    def may_damage(self, member: int, zone: int, key: Key, *, silently: bool = False) -> bool:
        """Whether the place may be lost now; ``silently``: what is there afterwards is whole, and older."""
        bad = self.disks[member].bad
        if self.beyond:
            return zone not in _SLOTS or not self._leaves_no_trace(bad, zone, key, silently=silently)
        if zone == Zone.SUPERBLOCK:
            return not any(place[0] == Zone.SUPERBLOCK for place in bad if place[1] != key)
        if zone == Zone.SNAPSHOT:
            return any(
                other != member and other not in self.gone and key in disk.snapshots and (zone, key) not in disk.bad
                for other, disk in self.disks.items()
            )
        if self._leaves_no_trace(bad, zone, key, silently=silently) or self.uncertain() - {member}:
            return False
        others = self.gone | {other for other, disk in self.disks.items() if disk.is_bad(key)}
        others.discard(member)
        return all(
            member not in group or len(others.intersection(group)) < QUORUMS[len(group)].replication - 1
            for group in self.groups
        ) and (len(self.groups) == 1 or self._stays_elsewhere(member, key))

    @staticmethod
    def _leaves_no_trace(bad: dict[Place, str], zone: int, key: Key, *, silently: bool) -> bool:
        # An op of which both places are lost, one of them without a sign, is to its member one that never was
        # (docs/internals/vsr.md), and then no protocol can keep it from denying it.
        loss = bad.get((Zone.HEADER if zone == Zone.ENTRY else Zone.ENTRY, key))
        return loss is not None and (silently or loss in _SILENT)

    def _stays_elsewhere(self, member: int, key: Key) -> bool:
        """Whether somebody who stays while members change has what this member has in a slot.

        The old members' quorum had it. Who of them is there when the new ones have theirs is not sure.
        """
        own = self.disks[member].promised.get((Zone.ENTRY, key))
        return any(
            other != member
            and other not in self.gone
            and all(other in group for group in self.groups)
            and not self.disks[other].is_bad(key)
            and self.disks[other].promised.get((Zone.ENTRY, key)) == own
            for other in sorted(self.disks)
        )

    def may_change_to(self, members: tuple[int, ...]) -> bool:
        """Whether what is bad now may be so while these become the members."""
        stay = set(members).intersection(*self.groups)
        if self.gone & stay:
            return False
        before, self.groups = self.groups, (*self.groups, members)
        try:
            bad = {(one, place[1]) for one in stay for place in self.disks[one].bad if place[0] in _SLOTS}
            return all(self._stays_elsewhere(one, key) for one, key in sorted(bad)) and not any(
                self.disks[one].has_lost for one in members if one not in stay
            )
        finally:
            self.groups = before

    def may_lose(self, member: int) -> bool:
        """Whether a whole disk may be lost now: all others have all they should, and enough of them are left."""
        if self.beyond or self.gone or len(self.groups) > 1 or min(map(len, self.groups)) < 3:
            return False
        return not any(disk.bad for other, disk in self.disks.items() if other != member)


class Pending:
    """A write under way."""

    __slots__ = ("copy", "data", "fails", "key", "lost", "target", "token", "zone")

    def __init__(self, write: Write) -> None:
        self.zone, self.key, self.data, self.token = write
        self.copy = 0
        """Of the superblock: the copy that is being written."""
        self.fails = False
        self.lost = False
        self.target = self.key
        """Where it really goes."""


class Disk:
    """What one member has."""

    def __init__(self, member: int, image: Image, habits: Habits, atlas: Atlas, chance: Chance) -> None:
        self.member = member
        self.habits = habits
        self.atlas = atlas
        self._chance = chance
        self.copies = list(image.superblock)
        self.entries = list(image.entries)
        self.headers = list(image.headers)
        self.snapshots = dict(image.snapshots)
        self.promised: dict[Place, bytes | None] = {}
        self.bad: dict[Place, str] = {}
        """Places that do not hold what was promised, and what happened to them."""
        self.pending: dict[int, Pending] = {}
        self.slowness = 1
        self.counts: dict[str, int] = {}
        atlas.disks[member] = self
        for number, data in enumerate(self.copies):
            self.promised[Zone.SUPERBLOCK, number] = data
        for slot in range(len(self.entries)):
            self.promised[Zone.ENTRY, slot] = self.entries[slot]
            self.promised[Zone.HEADER, slot] = self.headers[slot]
        for root, data in self.snapshots.items():
            self.promised[Zone.SNAPSHOT, root] = data

    # What a driver does

    def submit(self, write: Write) -> int:
        """Begin a write; return how long its first part takes."""
        pending = Pending(write)
        if self.habits.failed and self._chance.happens(self.habits.failed):
            pending.fails = True
        elif write.zone in (Zone.ENTRY, Zone.HEADER):
            self._go_astray(pending)
        assert write.token not in self.pending, f"member {self.member} has two writes under way with one token"
        self.pending[write.token] = pending
        return self.delay()

    def _go_astray(self, pending: Pending) -> None:
        habits, chance, atlas = self.habits, self._chance, self.atlas
        if chance.happens(habits.lost) and atlas.may_damage(self.member, pending.zone, pending.key, silently=True):
            pending.lost = True
        elif chance.happens(habits.misdirected) and atlas.may_damage(
            self.member, pending.zone, pending.key, silently=True
        ):
            other = chance.below(len(self.entries))
            if other != pending.key and atlas.may_damage(self.member, pending.zone, other):
                pending.target = other

    def finish(self, token: int) -> bool | None:
        """A part of a write has ended. Return whether the write succeeded, or None when another part of it begins."""
        pending = self.pending[token]
        if pending.fails:
            del self.pending[token]
            self._count("write error")
            self._settle(pending)  # Nobody knows what is there: any of what a crash could leave.
            return False
        if pending.zone == Zone.SUPERBLOCK:
            number = pending.copy
            self._put(Zone.SUPERBLOCK, number, as_copy(pending.data, number))
            pending.copy += 1
            if pending.copy < COPIES:
                return None
        elif pending.lost or pending.target != pending.key:
            self._lose(pending)
        else:
            self._put(pending.zone, pending.key, pending.data)
        del self.pending[token]
        return True

    def _lose(self, pending: Pending) -> None:
        # Asked again: between the beginning of the write and its end, other places may have gone bad.
        if not self.atlas.may_damage(self.member, pending.zone, pending.key, silently=True) or (
            not pending.lost and not self.atlas.may_damage(self.member, pending.zone, pending.target, silently=True)
        ):
            self._put(pending.zone, pending.key, pending.data)
            return
        self.promised[pending.zone, pending.key] = pending.data
        self._mark(pending.zone, pending.key, "lost write" if pending.lost else "misdirected write")
        if not pending.lost:
            self._area(pending.zone)[self._slot(pending.target)] = pending.data
            self._mark(pending.zone, pending.target, "misdirected write")

    def read(self, zone: Zone, key: Key) -> bytes | None:
        """Return what is there now, or None."""
        if self._chance.happens(self.habits.unreadable):
            self._count("read error")
            return None
        return self._get(zone, key)

    def remove(self, zone: Zone, key: Key) -> None:
        """Forget a snapshot."""
        assert zone == Zone.SNAPSHOT
        assert isinstance(key, bytes)
        self.snapshots.pop(key, None)
        self.promised.pop((zone, key), None)
        self.bad.pop((zone, key), None)

    def delay(self) -> int:
        """How long the next access takes."""
        return min(self._chance.heavy(self.habits.delay_low, self.habits.delay_scale) * self.slowness, SLOWEST)

    def open(self) -> Image:
        """Read everything, as a process that starts."""
        assert not self.pending, "a process starts on a disk whose writes have settled"
        return Image(tuple(self.copies), tuple(self.entries), tuple(self.headers), dict(self.snapshots))

    # What happens to it

    def crash(self) -> None:
        """The process is gone: whatever is under way ends somehow."""
        pending, self.pending = self.pending, {}
        for write in pending.values():
            self._settle(write)

    def _settle(self, write: Pending) -> None:
        chance, habits = self._chance, self.habits
        if chance.happens(habits.keep):
            if write.zone == Zone.SUPERBLOCK:
                self._put(Zone.SUPERBLOCK, write.copy, as_copy(write.data, write.copy))
            else:
                self._put(write.zone, write.key, write.data)
            return
        if write.zone == Zone.SNAPSHOT:
            return
        key: Key = write.copy if write.zone == Zone.SUPERBLOCK else write.key
        place = (write.zone, key)
        if not chance.happens(habits.tear) or not self._may_tear(place):
            return
        data = as_copy(write.data, write.copy) if write.zone == Zone.SUPERBLOCK else write.data
        old = self._get(write.zone, key) or b""
        self._count("torn write")
        torn = _torn(old, data, chance)
        self._area(write.zone)[self._slot(key)] = torn
        if write.zone == Zone.SUPERBLOCK:
            self.bad[place] = "torn write"
        elif self.promised.get(place) != data:
            # What stood there before was promised; a write of something else that never ended takes that back.
            self.promised[place] = torn
            self.bad.pop(place, None)
        elif torn == data:
            self.bad.pop(place, None)

    def _may_tear(self, place: Place) -> bool:
        if place[0] == Zone.SUPERBLOCK:
            return self.atlas.may_damage(self.member, *place)
        return True

    def rot(self, zone: Zone, key: Key) -> bool:
        """Flip a bit, if the atlas allows it; return whether."""
        data = self._get(zone, key)
        if data is None or not data or not self.atlas.may_damage(self.member, zone, key):
            return False
        at = self._chance.below(min(len(data), SECTOR))
        rotten = data[:at] + bytes([data[at] ^ (1 << self._chance.below(8))]) + data[at + 1 :]
        self._store(zone, key, rotten)
        self._mark(zone, key, "bit rot")
        return True

    def unreadable(self, zone: Zone, key: Key) -> bool:
        """Have a sector that can no longer be read, until it is written again."""
        if zone == Zone.SNAPSHOT or not self.atlas.may_damage(self.member, zone, key):
            return False
        self._area(zone)[self._slot(key)] = None
        self._mark(zone, key, "unreadable sector")
        return True

    def mend(self) -> None:
        """Have again all that was promised of the log."""
        for zone, key in [place for place in self.bad if place[0] in _SLOTS]:
            data = self.promised[zone, key]
            assert data is not None
            self._put(Zone(zone), key, data)

    @property
    def has_lost(self) -> bool:
        """Whether something of the log is not here that was promised."""
        return any(place[0] in _SLOTS for place in self.bad)

    def has_lost_above(self, op: int) -> bool:
        """Whether something that was promised of an op above ``op`` is not here."""
        return any(
            zone in _SLOTS and (data := self.promised[zone, key]) is not None and _op_of(data) > op
            for zone, key in self.bad
        )

    def is_bad(self, slot: Key) -> bool:
        """Whether one of a slot's two places does not hold what was promised."""
        return (Zone.ENTRY, slot) in self.bad or (Zone.HEADER, slot) in self.bad

    # Details

    def holds(self, zone: Zone, key: Key) -> bytes | None:
        """Return what a truthful disk would have there: what was last reported durable."""
        return self.promised.get((zone, key))

    def _put(self, zone: Zone, key: Key, data: bytes) -> None:
        self._store(zone, key, data)
        self.promised[zone, key] = data
        self.bad.pop((zone, key), None)

    def _store(self, zone: Zone, key: Key, data: bytes) -> None:
        if zone == Zone.SNAPSHOT:
            assert isinstance(key, bytes)
            self.snapshots[key] = data
        else:
            self._area(zone)[self._slot(key)] = data

    def _get(self, zone: Zone, key: Key) -> bytes | None:
        if zone == Zone.SNAPSHOT:
            assert isinstance(key, bytes)
            return self.snapshots.get(key)
        return self._area(zone)[self._slot(key)]

    def _area(self, zone: Zone) -> list[bytes | None]:
        if zone == Zone.ENTRY:
            return self.entries
        return self.headers if zone == Zone.HEADER else self.copies

    @staticmethod
    def _slot(key: Key) -> int:
        assert isinstance(key, int)
        return key

    def _mark(self, zone: Zone, key: Key, what: str) -> None:
        self.bad[zone, key] = what
        self._count(what)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def _op_of(data: bytes) -> int:
    """Return the op in the bytes of an entry or header record; 0 for those of an empty slot."""
    return int.from_bytes(data[96:104], "little") if len(data) >= HEADER_SIZE else 0


def _torn(old: bytes, new: bytes, chance: Chance) -> bytes:
    """Return ``new`` in some sectors and ``old`` in the others; of less than two, any bytes may be the new ones."""
    size = max(len(old), len(new))
    if size <= SECTOR:
        cut = chance.below(size + 1)
        return (new[:cut] + old[cut:])[:size]
    pieces: list[bytes] = []
    for start in range(0, size, SECTOR):
        source = new if chance.happens(500_000) else old
        pieces.append(source[start : start + SECTOR].ljust(min(SECTOR, size - start), b"\0"))
    return b"".join(pieces)
