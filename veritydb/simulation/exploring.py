"""Every order of everything, for three members and very little work.

Seeds go deep and seldom twice the same way; this goes everywhere, within a scope: so many values, view changes,
crashes, lost or rotten writes. It drives the real :meth:`~veritydb.vsr.replica.Replica.step`, through
:mod:`~veritydb.simulation.alone`, which remembers what an event makes of a single member. What may happen next in a
state: a message arrives (or does not: whatever is never delivered is lost), the oldest write of a member ends, or is
lost although its end is reported, a timer of a member runs out, a client asks, a member crashes with its writes kept
or lost, an entry rots. Each state that was seen before, by the hash of all that matters, is not gone into again.

Time does not exist here: a timer that runs may run out whenever its budget allows. The VR Revisited state-transfer bug
needs three values and three view changes (Vanlightly), so a smaller scope says nothing about it.

``python -m veritydb.simulation.exploring --help`` explores from the command line.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from veritydb.simulation.alone import Alone, Member, Outcome
from veritydb.simulation.chance import Chance
from veritydb.simulation.code import Code, installed
from veritydb.simulation.telling import say
from veritydb.simulation.violation import Violation
from veritydb.vsr.effects import Zone
from veritydb.vsr.quorums import QUORUMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TIMERS = ("suspect", "prepare_retry", "view_change", "join_resend", "getview_resend", "repair", "heartbeat")
"""Timers that may run out; the others (scrub, ping, exit votes' windows) only repeat what these do."""
_CHANGING = frozenset({"suspect", "view_change"})
"""Timers by which a member wants to leave its view."""

_BROKEN = (Violation, AssertionError, LookupError, ValueError)
"""What a broken promise is raised as, by the checks here or by the replica itself."""


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


class State(NamedTuple):
    """All members, and what is under way."""

    members: tuple[Member, ...]
    messages: tuple[int, ...]
    """By their numbers, oldest first."""
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


class Explorer:
    """Goes into every state of a scope once."""

    def __init__(
        self,
        scope: Scope | None = None,
        code: Code | None = None,
        *,
        members: int = 3,
        seed: int = 0,
        waiting_max: int = 100_000,
    ) -> None:
        self.scope = scope or Scope()
        self.code = code = code or installed()
        self.count = members
        self.chance = Chance(seed)
        self.shuffled = seed != 0
        self.waiting_max = waiting_max
        self.alone = Alone(code, members)
        self._status = code.core.Status
        self._quorums = QUORUMS[members]
        self._seen: set[int] = set()
        self._agreeing: set[tuple[int, int]] = set()
        """Pairs of members, by key, whose headers do not contradict each other."""

    # Walking

    def explore(self, limit: int, *, progress: Callable[[int], None] | None = None) -> Report:
        """Go into states until there are none left or ``limit`` distinct ones were seen.

        Without a seed the newest is gone into first, which needs the least memory; with one, any of those that wait,
        which reaches more of the scope with few states, and the newest while more than ``waiting_max`` wait.
        """
        try:
            first = self.settle(self.boot())
        except _BROKEN as error:
            return Report(0, 0, 0, False, f"{type(error).__name__}: {error}", ("the first view is begun",))
        self._seen = {self._hash(first)}
        waiting: list[tuple[State, _Link | None, int]] = [(first, None, 0)]
        transitions = deepest = 0
        while waiting:
            if self.shuffled and len(waiting) <= self.waiting_max:
                chosen = self.chance.below(len(waiting))
                waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
            state, link, depth = waiting.pop()
            for action in self._possible(state):
                transitions += 1
                try:
                    after = self.act(state, action)
                except _BROKEN as error:
                    story = self._told(_Link(link, action))
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
        state = State(tuple(self.alone.new(number) for number in range(self.count)), (), (), self.scope)
        for number in range(self.count):
            state = self.act(state, ("starts", number, None))
        return state

    def settle(self, state: State) -> State:
        """Deliver and write all that is under way, in order, until nothing is: the first view runs."""
        scope, state = state.left, state._replace(left=state.left._replace(in_flight=1_000))
        while True:
            writing = [member.number for member in state.members if member.disk.pending]
            if writing:
                state = self.act(state, ("written", writing[0], None))
            elif state.messages:
                letter = state.messages[0]
                state = self.act(state, ("arrives", self.alone.letters[letter][0], letter))
            else:
                return state._replace(left=scope)

    def _possible(self, state: State) -> Iterator[Action]:
        left, members = state.left, state.members
        letters = self.alone.letters
        for number, member in enumerate(members):
            if member.replica is not None and member.disk.pending:
                yield "written", number, None
                if left.faults and member.disk.pending[0][0] == Zone.ENTRY:
                    yield "loses", number, None
        for letter in state.messages:
            dst = letters[letter][0]
            if members[dst].replica is not None:
                yield "arrives", dst, letter
        everybody = all(member.replica is not None for member in members)
        for number, member in enumerate(members):
            replica = member.replica
            if replica is None:
                yield "starts", number, None
                continue
            if left.values and replica.status == self._status.NORMAL and replica.is_primary:
                yield "asked", number, left.values
            for timer in _TIMERS:
                if (left.view_changes if timer in _CHANGING else left.nudges) > 0 and timer in replica._timers:
                    yield "expires", number, timer
            if left.crashes:
                yield "crashes", number, True
                if member.disk.pending:
                    yield "crashes", number, False
            if left.faults and everybody:
                slot = replica.head % self.alone.slots
                if member.disk.entries[slot] is not None and self._spare(state, number, slot):
                    yield "rots", number, slot

    def _spare(self, state: State, number: int, slot: int) -> bool:
        """Whether another member has the entry too: the last copy of an op is not taken away."""
        own = state.members[number].disk.entries[slot]
        return any(member.disk.entries[slot] == own for member in state.members if member.number != number)

    # One transition

    def act(self, state: State, action: Action) -> State:
        """Return the state after ``action``. Raises Violation."""
        kind, number, what = action
        messages, left = state.messages, state.left
        if kind == "arrives":
            at = messages.index(what)
            messages = messages[:at] + messages[at + 1 :]
        elif kind == "asked":
            left = left._replace(values=left.values - 1)
        elif kind == "expires":
            if what in _CHANGING:
                left = left._replace(view_changes=left.view_changes - 1)
            else:
                left = left._replace(nudges=left.nudges - 1)
        elif kind == "crashes":
            left = left._replace(crashes=left.crashes - 1)
        elif kind in ("rots", "loses"):
            left = left._replace(faults=left.faults - 1)

        outcome = self.alone.outcome(state.members[number], kind, what)
        for letter in outcome.sent:
            if letter not in messages:
                messages += (letter,)
        members = (*state.members[:number], outcome.member, *state.members[number + 1 :])
        committed = self._learn(members, state.committed, outcome)
        self._check_headers(members, number)
        return State(members, messages[-left.in_flight :], committed, left)

    # What must hold

    def _learn(self, members: tuple[Member, ...], committed: tuple[bytes, ...], outcome: Outcome) -> tuple[bytes, ...]:
        """Note what is known to be committed; a quorum must have it."""
        for op, checksum in outcome.started:
            if op <= len(committed):
                _agree(committed, op, checksum, outcome.member)
        for op, checksum in outcome.member.committed:
            if op <= len(committed):
                _agree(committed, op, checksum, outcome.member)
            elif op == len(committed) + 1:
                slot = op % self.alone.slots
                raws = [member.disk.headers[slot] for member in members]
                holders = sum(raw is not None and raw[16:32] == checksum for raw in raws)
                if holders < self._quorums.replication:
                    raise Violation("a replication quorum has on disk what is committed", f"op {op} is on {holders}")
                committed = (*committed, checksum)
        return committed

    def _check_headers(self, members: tuple[Member, ...], number: int) -> None:
        own = members[number]
        if own.replica is None:
            return
        for member in members:
            if member.number == number or member.replica is None or (own.key, member.key) in self._agreeing:
                continue
            for op, header in member.replica.headers.items():
                mine = own.replica.headers.get(op)
                if mine is not None and mine.view == header.view and mine.checksum != header.checksum:
                    raise Violation("one entry stands at a view and op", f"view {header.view}, op {op}")
            if len(self._agreeing) >= self.waiting_max:
                self._agreeing.clear()
            self._agreeing |= {(own.key, member.key), (member.key, own.key)}

    def _hash(self, state: State) -> int:
        keys = tuple([member.key for member in state.members])
        return hash((keys, tuple(sorted(state.messages)), len(state.committed), state.left))

    # For people

    def _told(self, link: _Link | None) -> tuple[str, ...]:
        """Return a way in words, from its beginning."""
        lines: list[str] = []
        while link is not None:
            lines.append(self.describe(link.action))
            link = link.before
        return tuple(reversed(lines))

    def describe(self, action: Action) -> str:
        """Return an action in words."""
        kind, number, what = action
        if kind == "arrives":
            return f"member {number} hears {say(self.alone.letters[what][1])}"
        if kind == "crashes":
            return f"member {number} crashes, what it was writing is {'there' if what else 'lost'}"
        words = {
            "written": "its oldest write is done",
            "loses": "its oldest write is reported done, and lost",
            "expires": f"timer {what}",
            "asked": f"is asked for value {what}",
            "rots": f"the entry in slot {what} rots",
            "starts": "starts",
        }
        return f"member {number}: {words[kind]}"


def _agree(committed: tuple[bytes, ...], op: int, checksum: bytes, member: Member) -> None:
    if committed[op - 1] != checksum:
        raise Violation("there is one committed history", f"op {op} at member {member.number}")


def main(arguments: list[str]) -> int:
    """Explore a scope, and say how far it went. 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m veritydb.simulation.exploring", description=main.__doc__)
    parser.add_argument("--states", type=int, default=5_000_000, help="go into so many distinct states")
    parser.add_argument("--seed", type=int, default=0, help="draw the next one by lot; 0: the newest first")
    parser.add_argument("--members", type=int, default=3)
    for name, number in Scope()._asdict().items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=number)
    chosen = vars(parser.parse_args(arguments))
    scope = Scope(**{name: chosen[name] for name in Scope._fields})

    def progress(states: int) -> None:
        if states % 100_000 == 0:
            print(f"{states:,} states", file=sys.stderr, flush=True)

    report = Explorer(scope, members=chosen["members"], seed=chosen["seed"]).explore(
        chosen["states"], progress=progress
    )
    for line in report.story:
        print(line)
    print(
        f"{scope}: {report.states:,} states, {report.transitions:,} transitions, {report.deepest} deep, "
        f"{'complete' if report.complete else 'not complete'}: {report.violation or 'no promise broken'}"
    )
    return int(report.violation is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
