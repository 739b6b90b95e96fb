"""Every order of everything, for three members and very little work.

Seeds go deep and seldom twice the same way; this goes everywhere, within a scope: so many values, view changes,
crashes, lost or rotten writes. It drives the real :meth:`~veritydb.vsr.replica.Replica.step`. What may happen next in
a state: a message arrives (or does not: whatever is never delivered is lost), the oldest write of a member ends, a
timer of a member runs out, a client asks, a member crashes with its writes kept or lost, an entry rots. Each state
that was seen before, by the hash of all that matters, is not gone into again.

Time does not exist here: a timer that runs may run out whenever its budget allows. Numbers that only rise (tokens,
stamps, jitter) are left out of the hash. The VR Revisited state-transfer bug needs three values and three view changes
(Vanlightly), so a smaller scope says nothing about it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from veritydb.kernel.commands import Register, encode_command
from veritydb.simulation.chance import Chance
from veritydb.simulation.code import Code, installed
from veritydb.simulation.run import blank_disk
from veritydb.simulation.world import CLUSTER, EPOCH, Violation
from veritydb.vsr.effects import Image, Zone
from veritydb.vsr.quorums import QUORUMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FAR = 1 << 20
_NOW = EPOCH * 1000
_TIMERS = ("suspect", "prepare_retry", "view_change", "join_resend", "getview_resend", "repair", "heartbeat")
"""Timers that may run out; the others (scrub, ping, exit votes' windows) only repeat what these do."""


class Scope(NamedTuple):
    """How much may happen."""

    values: int = 3
    view_changes: int = 3
    """Beyond the view in which the exploration begins."""
    crashes: int = 1
    faults: int = 1
    """Entries that rot, or whose write is lost."""
    nudges: int = 3
    """Timers that run out, besides those that change the view."""
    in_flight: int = 8
    """Messages under way; of more, the oldest is lost."""


class Disk(NamedTuple):
    """What is on a member's disk, and what is being written; entries and headers by slot."""

    superblock: bytes
    entries: tuple[bytes | None, ...]
    headers: tuple[bytes | None, ...]
    pending: tuple[tuple[int, int, bytes, int], ...]
    """Zone, key, data, token, oldest first."""


class Member(NamedTuple):
    """A member: its process, its disk, what it has promised."""

    replica: Any
    """None: it is down."""
    disk: Disk
    acknowledged: tuple[tuple[int, int], ...]
    """Op and view of what it said to have."""
    key: int


class State(NamedTuple):
    """All of them, and what is under way."""

    members: tuple[Member, ...]
    messages: tuple[tuple[int, Any], ...]
    """Receiver and message, oldest first."""
    committed: tuple[bytes, ...]
    """Checksums of what was ever known to be committed, from op 1."""
    left: Scope


class Report(NamedTuple):
    """What an exploration has found."""

    states: int
    transitions: int
    deepest: int
    complete: bool
    """Whether there was nothing left to go into."""
    violation: str | None
    story: tuple[str, ...]
    """How it came to the violation."""


Action = tuple[str, int, Any]


class _Link(NamedTuple):
    """How a state was reached."""

    before: _Link | None
    action: Action


def _told(link: _Link | None) -> tuple[str, ...]:
    """Return a way in words, from its beginning."""
    lines: list[str] = []
    while link is not None:
        lines.append(describe(link.action))
        link = link.before
    return tuple(reversed(lines))


class Explorer:
    """Goes into every state of a scope once."""

    def __init__(
        self, scope: Scope | None = None, code: Code | None = None, *, members: int = 3, seed: int = 0
    ) -> None:
        self.scope = scope or Scope()
        self.code = code = code or installed()
        self.count = members
        self.chance = Chance(seed)
        self.shuffled = seed != 0
        self.options = code.options.Options(
            slots=24, checkpoint_interval=9, pipeline_max=3, pipeline_eager=2, batch_max=1
        )
        self._effects = code.effects
        self._messages = code.messages
        self._status = code.core.Status
        self._blank = blank_disk(code, members, self.options.slots)
        self._quorums = QUORUMS[members]
        self._seen: set[int] = set()
        self._numbers: dict[Any, int] = {}
        self._snapshots: dict[bytes, bytes] = dict(self._blank(0).snapshots)
        self._client = encode_command(Register())

    # Walking

    def explore(self, limit: int, *, progress: Callable[[int], None] | None = None) -> Report:
        """Go into states until there are none left or ``limit`` distinct ones were seen.

        Without a seed the newest is gone into first, which needs the least memory; with one, any of those that wait,
        which reaches more of the scope with few states.
        """
        first = self.settle(self.boot())
        self._seen = {self._hash(first)}
        waiting: list[tuple[State, _Link | None, int]] = [(first, None, 0)]
        transitions = deepest = 0
        while waiting:
            if self.shuffled:
                chosen = self.chance.below(len(waiting))
                waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
            state, link, depth = waiting.pop()
            for action in self._possible(state):
                transitions += 1
                try:
                    after = self.act(state, action)
                except (Violation, AssertionError, LookupError, ValueError) as error:
                    story = _told(_Link(link, action))
                    what = f"{type(error).__name__}: {error}"
                    return Report(len(self._seen), transitions, deepest, False, what, story)
                key = self._hash(after)
                if key in self._seen:
                    continue
                self._seen.add(key)
                deepest = max(deepest, depth + 1)
                if len(self._seen) >= limit:
                    return Report(len(self._seen), transitions, deepest, False, None, ())
                if progress is not None and len(self._seen) % 1000 == 0:
                    progress(len(self._seen))
                waiting.append((after, _Link(link, action), depth + 1))
        return Report(len(self._seen), transitions, deepest, True, None, ())

    def boot(self) -> State:
        """Return the state in which all members have just started."""
        members: list[Member] = []
        state = State((), (), (), self.scope)
        for number in range(self.count):
            image = self._blank(number)
            disk = Disk(image.superblock[0] or b"", image.entries, image.headers, ())
            members.append(Member(None, disk, (), 0))
        state = state._replace(members=tuple(members))
        for number in range(self.count):
            state = self._start(state, number)
        return state

    def settle(self, state: State) -> State:
        """Deliver and write all that is under way, in order, until nothing is: the first view runs."""
        generous = state.left._replace(in_flight=1_000)
        scope, state = state.left, state._replace(left=generous)
        while True:
            for number, member in enumerate(state.members):
                if member.disk.pending:
                    state = self.act(state, ("written", number, None))
                    break
            else:
                if not state.messages:
                    break
                state = self.act(state, ("arrives", state.messages[0][0], state.messages[0][1]))
        return state._replace(left=scope)

    def _possible(self, state: State) -> Iterator[Action]:
        left = state.left
        for number, member in enumerate(state.members):
            if member.disk.pending and member.replica is not None:
                yield "written", number, None
        told: set[int] = set()
        for dst, message in state.messages:
            name = self._number((dst, message))
            if name not in told and state.members[dst].replica is not None:
                told.add(name)
                yield "arrives", dst, message
        for number, member in enumerate(state.members):
            replica = member.replica
            if replica is None:
                yield "starts", number, None
                continue
            if left.values and replica.status == self._status.NORMAL and replica.is_primary:
                yield "asked", number, left.values
            for timer in _TIMERS:
                if timer in replica._timers:
                    changing = timer in ("suspect", "view_change")
                    if (left.view_changes if changing else left.nudges) > 0:
                        yield "expires", number, timer
            if left.crashes:
                yield "crashes", number, True
                if member.disk.pending:
                    yield "crashes", number, False
            if left.faults and not any(m.replica is None for m in state.members):
                slot = replica.head % self.options.slots
                if member.disk.entries[slot] is not None and self._spare(state, number, slot):
                    yield "rots", number, slot

    def _spare(self, state: State, number: int, slot: int) -> bool:
        """Whether another member has the entry too: the last copy of an op is not taken away."""
        own = state.members[number].disk.entries[slot]
        return any(member.disk.entries[slot] == own for other, member in enumerate(state.members) if other != number)

    # One transition

    def act(self, state: State, action: Action) -> State:
        """Return the state after ``action``. Raises Violation."""
        kind, number, what = action
        left = state.left
        if kind == "arrives":
            messages = list(state.messages)
            messages.remove((number, what))
            state = state._replace(messages=tuple(messages))
            return self._step(state, number, self._effects.Arrived(what))
        if kind == "written":
            return self._written(state, number)
        if kind == "asked":
            state = state._replace(left=left._replace(values=left.values - 1))
            client = bytes([what]) * 16
            return self._step(
                state, number, self._effects.Arrived(self._messages.Request(client, 0, 0, self._client, 0))
            )
        if kind == "expires":
            changing = what in ("suspect", "view_change")
            left = (
                left._replace(view_changes=left.view_changes - 1) if changing else left._replace(nudges=left.nudges - 1)
            )
            return self._step(state._replace(left=left), number, self._effects.Tick(), timer=what)
        if kind == "crashes":
            return self._crash(state._replace(left=left._replace(crashes=left.crashes - 1)), number, kept=what)
        if kind == "starts":
            return self._start(state, number)
        assert kind == "rots"
        member = state.members[number]
        entries = list(member.disk.entries)
        entries[what] = None
        disk = member.disk._replace(entries=tuple(entries))
        state = state._replace(left=left._replace(faults=left.faults - 1))
        return self._with(state, number, member._replace(disk=disk))

    def _with(self, state: State, number: int, member: Member) -> State:
        member = member._replace(key=self._member_key(member))
        return state._replace(members=(*state.members[:number], member, *state.members[number + 1 :]))

    def _written(self, state: State, number: int) -> State:
        member = state.members[number]
        (zone, key, data, token), *rest = member.disk.pending
        disk = _put(member.disk, zone, key, data)._replace(pending=tuple(rest))
        state = state._replace(
            members=(*state.members[:number], member._replace(disk=disk), *state.members[number + 1 :])
        )
        return self._step(state, number, self._effects.WriteDone(token, True))

    def _crash(self, state: State, number: int, *, kept: bool) -> State:
        member = state.members[number]
        disk = member.disk
        if kept:
            for zone, key, data, _ in disk.pending:
                disk = _put(disk, zone, key, data)
        return self._with(state, number, member._replace(replica=None, disk=disk._replace(pending=())))

    def _start(self, state: State, number: int) -> State:
        member = state.members[number]
        disk = member.disk
        as_copy = self.code.superblock.as_copy
        image = Image(
            tuple(as_copy(disk.superblock, copy) for copy in range(4)), disk.entries, disk.headers, self._snapshots
        )
        replica = self.code.replica.Replica(
            cluster=CLUSTER, member=number, image=image, seed=number + 1, options=self.options
        )
        effects = replica.start(_NOW)
        return self._carry_out(state, number, member._replace(replica=replica), effects)

    def _step(self, state: State, number: int, event: Any, *, timer: str | None = None) -> State:
        member = state.members[number]
        replica = clone(member.replica)
        if timer is not None:
            replica._timers[timer] = 1
        effects = replica.step(_NOW, event)
        return self._carry_out(state, number, member._replace(replica=replica), effects)

    def _carry_out(self, state: State, number: int, member: Member, effects: list[Any]) -> State:
        replica = member.replica
        for timer in replica._timers:
            replica._timers[timer] = _FAR
        messages = list(state.messages)
        kinds = self._effects
        for effect in effects:
            kind: type = effect.__class__
            if kind is kinds.Send:
                member = self._check_send(state, member, number, effect.message)
                item = (effect.dst, effect.message)
                if item not in messages:
                    messages.append(item)
            elif kind is kinds.Write:
                assert effect.zone != Zone.SNAPSHOT
                write = (int(effect.zone), int(effect.key), effect.data, effect.token)
                member = member._replace(disk=member.disk._replace(pending=(*member.disk.pending, write)))
            elif kind is kinds.Halt:
                raise Violation("a replica halts only when its disk failed", f"member {number}: {effect.reason}")
            elif kind is kinds.Read:
                zone, slot = effect.zone, effect.key
                assert zone == Zone.ENTRY
                more = replica.step(_NOW, kinds.ReadDone(effect.token, member.disk.entries[slot]))
                state = state._replace(messages=tuple(messages))
                return self._carry_out(state, number, member, more + effects[effects.index(effect) + 1 :])
        left = state.left
        if len(messages) > left.in_flight:
            messages = messages[-left.in_flight :]
        state = self._with(state._replace(messages=tuple(messages)), number, member)
        state = self._learn(state, number)
        self._check_headers(state, number)
        return state

    # What must hold

    def _check_send(self, state: State, member: Member, number: int, message: Any) -> Member:
        kind: type = message.__class__
        if kind is self._messages.PrepareOk:
            slot: int = message.op % self.options.slots
            # A rotten entry was durable when it was acknowledged, so only the header record is looked at.
            raw: bytes | None = member.disk.headers[slot]
            if raw is None or raw[16:32] != message.checksum:
                raise Violation("no PrepareOk without a durable header record", f"member {number}, op {message.op}")
            block = member.replica.durable_block
            if block.view != message.view or block.log_view != message.view:
                raise Violation("no PrepareOk without a durable view", f"member {number}, view {message.view}")
            known = dict(member.acknowledged)
            known[message.op] = message.view
            return member._replace(acknowledged=tuple(sorted(known.items())))
        if kind is self._messages.JoinView:
            for op, view in member.acknowledged:
                index = message.op - op
                if view == message.log_view and (
                    index < 0 or (index < len(message.suffix.headers) and message.suffix.nack >> index & 1)
                ):
                    raise Violation("a member never denies what it acknowledged", f"member {number}, op {op}")
        if kind is self._messages.StartView:
            for header in message.headers:
                if header.op <= message.commit_max and 0 < header.op <= len(state.committed):
                    _agree(state, header.op, header.checksum, number)
        return member

    def _learn(self, state: State, number: int) -> State:
        """Note what is known to be committed; a quorum must have it."""
        replica = state.members[number].replica
        committed = state.committed
        for op in range(1, replica.commit_max + 1):
            header: Any = replica.headers.get(op)
            if header is None:
                continue
            if op <= len(committed):
                _agree(state, op, header.checksum, number)
            elif op == len(committed) + 1:
                slot: int = op % self.options.slots
                raws: list[bytes | None] = [member.disk.headers[slot] for member in state.members]
                holders = sum(raw is not None and raw[16:32] == header.checksum for raw in raws)
                if holders < self._quorums.replication:
                    raise Violation("a replication quorum has on disk what is committed", f"op {op} is on {holders}")
                committed = (*committed, header.checksum)
        return state if committed is state.committed else state._replace(committed=committed)

    def _check_headers(self, state: State, number: int) -> None:
        own = state.members[number].replica.headers
        for other, member in enumerate(state.members):
            if other == number or member.replica is None:
                continue
            for op, header in member.replica.headers.items():
                mine = own.get(op)
                if mine is not None and mine.view == header.view and mine.checksum != header.checksum:
                    raise Violation("one entry stands at a view and op", f"view {header.view}, op {op}")

    # Hashing

    def _number(self, item: Any) -> int:
        number = self._numbers.get(item)
        if number is None:
            number = self._numbers[item] = len(self._numbers)
        return number

    def _hash(self, state: State) -> int:
        # Each with its number: the interning table makes a message an int once.
        messages = frozenset([self._number(item) for item in state.messages])
        return hash((tuple([member.key for member in state.members]), messages, len(state.committed), state.left))

    def _member_key(self, member: Member) -> int:
        disk = member.disk
        replica = member.replica
        parts: list[Any] = [
            disk.superblock, disk.entries, disk.headers, tuple([write[:3] for write in disk.pending]),
            member.acknowledged ]  # fmt: skip
        if replica is not None:
            for name, value in replica.__dict__.items():
                if name in _BY_TOKEN:
                    parts.append(tuple(value.values()))
                elif name not in _IGNORED:
                    parts.append(_frozen(value))
        return hash(tuple(parts))


_IGNORED = frozenset(
    {
        "_random", "_now", "_token", "_stamp", "_nonce", "_view_nonce", "_out", "options", "cluster", "release",
        "state", "snapshot", "retained", "_scrub_op", "_asked_in_vain", "_grown", "_heard", "_heard_views",
        "_block_checksum", "_block_write", "durable_block", "_stamp_seen",
    }
)  # fmt: skip
"""Fields that rise for ever, or follow from others: from the log, or from what is on disk and being written."""


_BY_TOKEN = frozenset({"_writes", "_serving"})
"""Dicts whose keys are tokens, in the order in which they were given out."""


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
    fields: dict[str, Any] = {}
    for name, value in replica.__dict__.items():
        kind: type = value.__class__
        if kind is dict or kind is set or kind is list or kind is deque or kind is bytearray:
            value = value.copy()
        fields[name] = value
    fields["oks"] = {op: set(voters) for op, voters in replica.oks.items()}
    kind_of: Any = replica.__class__
    copy: Any = object.__new__(kind_of)
    copy.__dict__.update(fields)
    return copy


def _put(disk: Disk, zone: int, key: int, data: bytes) -> Disk:
    if zone == Zone.SUPERBLOCK:
        return disk._replace(superblock=data)
    area = list(disk.entries if zone == Zone.ENTRY else disk.headers)
    area[key] = data
    return disk._replace(entries=tuple(area)) if zone == Zone.ENTRY else disk._replace(headers=tuple(area))


def _agree(state: State, op: int, checksum: bytes, number: int) -> None:
    if state.committed[op - 1] != checksum:
        raise Violation("there is one committed history", f"op {op} at member {number}")


def describe(action: Action) -> str:
    """Return an action in words."""
    from veritydb.simulation.telling import say

    kind, number, what = action
    if kind == "arrives":
        return f"member {number} hears {say(what)}"
    if kind == "written":
        return f"member {number}: its oldest write is done"
    if kind == "crashes":
        return f"member {number} crashes, what it was writing is {'there' if what else 'lost'}"
    if kind == "expires":
        return f"member {number}: timer {what}"
    if kind == "asked":
        return f"member {number} is asked for value {what}"
    if kind == "rots":
        return f"member {number}: the entry in slot {what} rots"
    return f"member {number} starts"
