"""One member of an exploration as a value: its disk, its process, and what any event makes of them.

:mod:`~veritydb.simulation.exploring` goes into millions of states of a group, in which few thousand states of a single
member come up again and again. So what an event does to a member is computed once, by the real
:meth:`~veritydb.vsr.replica.Replica.step`, and remembered under what the member is: the hash of all of it that
matters. What its messages promise is checked there as well.

What does not matter, and why: numbers that only rise (tokens, a superblock's sequence, the stamps of heartbeats, which
are all taken for new), chance (it only decides whom to ask), and what follows from what is on disk or being written.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from veritydb.kernel.commands import Register, encode_command
from veritydb.simulation.code import Code
from veritydb.simulation.founding import CLUSTER, new_disk
from veritydb.simulation.violation import Violation
from veritydb.simulation.world import EPOCH
from veritydb.vsr.effects import Image, Zone

_FAR = 1 << 20
_NOW = EPOCH * 1000
_REMEMBERED_MAX = 400_000
"""Steps kept. When there are so many all are forgotten, and those that are needed come back."""


class Disk(NamedTuple):
    """What is on a member's disk, and what is being written; entries and headers by slot."""

    superblock: bytes
    entries: tuple[bytes | None, ...]
    headers: tuple[bytes | None, ...]
    pending: tuple[tuple[int, int, bytes, int], ...]
    """Zone, key, data, token, oldest first."""


class Member(NamedTuple):
    """A member: its process, its disk, what it has promised."""

    number: int
    replica: Any
    """None: it is down. Never changed: a step is made by a copy."""
    disk: Disk
    acknowledged: tuple[tuple[int, int], ...]
    """Op and view of what it said to have."""
    starts: int
    """How often its process has begun: each has chance of its own, and so knows its questions from older ones."""
    committed: tuple[tuple[int, bytes], ...]
    """Op and checksum of what it takes to be committed, as far as it knows the headers."""
    key: int
    """Two members with one key are the same."""


class Outcome(NamedTuple):
    """What an event makes of a member."""

    member: Member
    sent: tuple[int, ...]
    """Messages by number, in order."""
    started: tuple[tuple[int, bytes], ...]
    """Op and checksum of what it told others to be committed, starting a view."""


class Alone:
    """Steps single members."""

    def __init__(self, code: Code, members: int) -> None:
        self.code = code
        self.options = code.options.Options(
            slots=24, checkpoint_interval=9, pipeline_max=3, pipeline_eager=2, batch_max=1
        )
        self.slots: int = self.options.slots
        self._effects = code.effects
        self._messages = code.messages
        self._members = tuple(range(members))
        self._snapshots: dict[bytes, bytes] = dict(self._blank(0).snapshots)
        self._command = encode_command(Register())
        self._remembered: dict[tuple[int, str, Any], Outcome] = {}
        self._numbers: dict[tuple[int, Any], int] = {}
        self._superblocks: dict[bytes, Any] = {}
        self.letters: list[tuple[int, Any]] = []
        """By number: receiver and message."""

    def _blank(self, number: int) -> Image:
        return new_disk(self.code, number, self._members, self.slots)

    def new(self, number: int) -> Member:
        """Return a member that has never run."""
        image = self._blank(number)
        disk = Disk(image.superblock[0] or b"", image.entries, image.headers, ())
        return self._named(Member(number, None, disk, (), 0, (), 0))

    def outcome(self, member: Member, kind: str, what: Any) -> Outcome:
        """Return what becomes of ``member``. Raises Violation, or what the replica raises."""
        name = (member.key, kind, what)
        known = self._remembered.get(name)
        if known is None:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            known = self._remembered[name] = self._compute(member, kind, what)
        return known

    def _compute(self, member: Member, kind: str, what: Any) -> Outcome:
        disk = member.disk
        if kind == "arrives":
            return self._step(member, self._effects.Arrived(self.letters[what][1]))
        if kind in ("written", "loses"):
            (zone, key, data, token), *rest = disk.pending
            if kind == "written":
                disk = _put(disk, zone, key, data)
            return self._step(
                member._replace(disk=disk._replace(pending=tuple(rest))), self._effects.WriteDone(token, True)
            )
        if kind == "asked":
            client = bytes([what]) * 16
            return self._step(member, self._effects.Arrived(self._messages.Request(client, 0, 0, self._command, 0)))
        if kind == "expires":
            return self._step(member, self._effects.Tick(), timer=what)
        if kind == "starts":
            return self._start(member)
        if kind == "crashes":
            if what:
                for zone, key, data, _ in disk.pending:
                    disk = _put(disk, zone, key, data)
            return self._still(member._replace(replica=None, disk=disk._replace(pending=()), committed=()))
        assert kind == "rots"
        entries = (*disk.entries[:what], None, *disk.entries[what + 1 :])
        return self._still(member._replace(disk=disk._replace(entries=entries)))

    def _still(self, member: Member) -> Outcome:
        return Outcome(self._named(member), (), ())

    def _start(self, member: Member) -> Outcome:
        disk = member.disk
        as_copy = self.code.superblock.as_copy
        image = Image(
            tuple(as_copy(disk.superblock, copy) for copy in range(4)), disk.entries, disk.headers, self._snapshots
        )
        replica = self.code.replica.Replica(
            cluster=CLUSTER, member=member.number, image=image, seed=16 * member.starts + member.number + 1,
            options=self.options,
        )  # fmt: skip
        effects = replica.start(_NOW)
        return self._carry_out(member._replace(replica=replica, starts=member.starts + 1), effects)

    def _step(self, member: Member, event: Any, *, timer: str | None = None) -> Outcome:
        replica = clone(member.replica)
        if timer is not None:
            replica._timers[timer] = 1
        effects = replica.step(_NOW, event)
        outcome = self._carry_out(member._replace(replica=replica), effects)
        _share(replica, member.replica)
        return outcome

    def _carry_out(self, member: Member, effects: list[Any]) -> Outcome:
        replica = member.replica
        pending = list(member.disk.pending)
        sent: list[int] = []
        started: list[tuple[int, bytes]] = []
        kinds = self._effects
        waiting = deque(effects)
        while waiting:
            effect = waiting.popleft()
            kind: type = effect.__class__
            if kind is kinds.Send:
                message = effect.message
                if isinstance(message, self._messages.Commit):
                    message = message._replace(stamp=1)
                member = self._check_send(member, message)
                if isinstance(message, self._messages.StartView):
                    started += [(h.op, h.checksum) for h in message.headers if 0 < h.op <= message.commit_max]
                sent.append(self._number((effect.dst, message)))
            elif kind is kinds.Write:
                assert effect.zone != Zone.SNAPSHOT
                pending.append((int(effect.zone), int(effect.key), effect.data, effect.token))
            elif kind is kinds.Halt:
                raise Violation("a replica halts only when its disk failed", f"member {member.number}: {effect.reason}")
            elif kind is kinds.Read:
                assert effect.zone == Zone.ENTRY
                more = replica.step(_NOW, kinds.ReadDone(effect.token, member.disk.entries[effect.key]))
                waiting.extendleft(reversed(more))
        for timer in replica._timers:
            replica._timers[timer] = _FAR
        replica._stamp_seen = -1
        committed = tuple(
            (op, header.checksum)
            for op in range(1, replica.commit_max + 1)
            if (header := replica.headers.get(op)) is not None
        )
        member = member._replace(disk=member.disk._replace(pending=tuple(pending)), committed=committed)
        return Outcome(self._named(member), tuple(sent), tuple(started))

    def _check_send(self, member: Member, message: Any) -> Member:
        if isinstance(message, self._messages.PrepareOk):
            # A rotten or lost entry was durable as far as its member could know: only the header record is looked at.
            raw: bytes | None = member.disk.headers[int(message.op) % self.slots]
            if raw is None or raw[16:32] != message.checksum:
                raise Violation(
                    "no PrepareOk without a durable header record", f"member {member.number}, op {message.op}"
                )
            block = member.replica.durable_block
            if block.view != message.view or block.log_view != message.view:
                raise Violation("no PrepareOk without a durable view", f"member {member.number}, view {message.view}")
            known = dict(member.acknowledged)
            known[message.op] = message.view
            return member._replace(acknowledged=tuple(sorted(known.items())))
        if isinstance(message, self._messages.JoinView):
            for op, view in member.acknowledged:
                index = message.op - op
                if view == message.log_view and (
                    index < 0 or (index < len(message.suffix.headers) and message.suffix.nack >> index & 1)
                ):
                    raise Violation("a member never denies what it acknowledged", f"member {member.number}, op {op}")
        return member

    def _number(self, letter: tuple[int, Any]) -> int:
        number = self._numbers.get(letter)
        if number is None:
            number = self._numbers[letter] = len(self.letters)
            self.letters.append(letter)
        return number

    # What a member is

    def _named(self, member: Member) -> Member:
        disk = member.disk
        parts: list[Any] = [
            member.number,
            self._superblock(disk.superblock),
            disk.entries,
            disk.headers,
            tuple([(zone, key, self._superblock(data) if zone == 1 else data) for zone, key, data, _ in disk.pending]),
            member.acknowledged,
            member.starts,
        ]
        if member.replica is not None:
            for name, value in member.replica.__dict__.items():
                if name in _BY_TOKEN:
                    parts.append(tuple(value.values()))
                elif name not in _IGNORED:
                    parts.append(_frozen(value))
        return member._replace(key=hash(tuple(parts)))

    def _superblock(self, data: bytes) -> Any:
        """Return what a superblock says, without its place in the row of all that were written."""
        said = self._superblocks.get(data)
        if said is None:
            block, _ = self.code.superblock.open_copies((data, self.code.superblock.as_copy(data, 1), None, None))
            said = self._superblocks[data] = hash(block._replace(sequence=0, parent=b""))
        return said


_IGNORED = frozenset(
    {
        "_random", "_now", "_token", "_stamp", "_nonce", "_view_nonce", "_out", "options", "cluster", "release",
        "state", "snapshot", "retained", "_scrub_op", "_asked_in_vain", "_best", "_pieces_in_vain", "_heard",
        "_block_checksum", "_block_write", "durable_block", "_stamp_seen",
    }
)  # fmt: skip
"""Fields that rise for ever, or follow from others: from the log, or from what is on disk and being written."""


_BY_TOKEN = frozenset({"_writes", "_serving"})
"""Dicts whose keys are tokens, in the order in which they were given out."""

_CONTAINERS = frozenset({dict, set, list, deque, bytearray})


def _frozen(value: Any) -> Any:
    kind: type = value.__class__
    if kind is dict:
        return frozenset([(key, _frozen(item)) for key, item in value.items()])
    if kind is set:
        return frozenset(value)
    if kind is list or kind is deque:
        return tuple(value)
    if kind is bytearray:
        return bytes(value)
    return value


def clone(replica: Any) -> Any:
    """Return a copy of a replica that can be stepped without changing the original."""
    fields: dict[str, Any] = {
        name: value.copy() if value.__class__ in _CONTAINERS else value for name, value in replica.__dict__.items()
    }
    fields["oks"] = {op: set(voters) for op, voters in replica.oks.items()}
    kind_of: Any = replica.__class__
    copy: Any = object.__new__(kind_of)
    copy.__dict__.update(fields)
    return copy


def _share(replica: Any, before: Any) -> None:
    """Let a copy have what is as it was from its original: most of it is, and a million of them are kept."""
    own, old = replica.__dict__, before.__dict__
    for name, value in own.items():
        if value.__class__ in _CONTAINERS and value == old.get(name):
            own[name] = old[name]


def _put(disk: Disk, zone: int, key: int, data: bytes) -> Disk:
    if zone == Zone.SUPERBLOCK:
        return disk._replace(superblock=data)
    area = list(disk.entries if zone == Zone.ENTRY else disk.headers)
    area[key] = data
    return disk._replace(entries=tuple(area)) if zone == Zone.ENTRY else disk._replace(headers=tuple(area))


__all__ = ["Alone", "Disk", "Member", "Outcome", "clone"]
