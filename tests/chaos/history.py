"""What clients did and saw, and whether one order of it all explains it: strict serializability.

Every transaction that writes has a place in the stream, its offset, and the stream is an order of all of them. So what
has to be shown is that this order explains what was seen: each transaction read exactly what the ones before it wrote;
who began after another one had been acknowledged comes later; and what was read without writing is the state at one
place of that order, not before anything that had been acknowledged when it began.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Key = int | str
State = dict[Key, tuple[int, ...]]
"""By key, what it holds: a list what was appended to it, in order; a "register" its last value; a "set" its values."""


class Done(NamedTuple):
    """One transaction of one client."""

    client: int
    began: float
    """Seconds, by a clock that all processes share."""
    ended: float
    outcome: str
    """"committed", "rolled back", "unknown", "read"."""
    read: State
    """What it saw of the keys that it looked at."""
    appended: tuple[tuple[Key, int], ...]
    """(key, value), in order, that were written; no value occurs twice."""
    offset: int | None = None


def problems(history: Iterable[Done], log: list[tuple[tuple[Key, int], ...]]) -> list[str]:
    """Return what cannot be explained; ``log`` is what each transaction of the stream appended, by offset."""
    history = list(history)
    found: list[str] = []
    at_value = {value: offset for offset, appended in enumerate(log) for _, value in appended}
    placed: list[tuple[int, Done]] = []
    for done in history:
        offsets = {at_value.get(value) for _, value in done.appended}
        if done.outcome == "committed":
            if offsets != {done.offset}:
                found.append(f"acknowledged at {done.offset} and not there: {done} ({offsets})")
                continue
            placed.append((done.offset, done))
        elif done.outcome == "rolled back":
            if offsets - {None}:
                found.append(f"rolled back, and in the stream at {offsets}: {done}")
        elif done.outcome == "unknown" and len(offsets) > 1:
            found.append(f"in the stream in part: {done} ({offsets})")
    placed.sort(key=lambda each: each[0])

    states = _states(log)
    for offset, done in placed:
        found.extend(_sees(done, states[offset]))
    # Acknowledged before another one began: earlier in the stream.
    by_end = sorted(placed, key=lambda each: each[1].ended)
    latest, at = -1, 0
    acknowledged_before: dict[int, int] = {}
    for number, done in sorted(enumerate(history), key=lambda each: each[1].began):
        while at < len(by_end) and by_end[at][1].ended < done.began:
            latest = max(latest, by_end[at][0])
            at += 1
        acknowledged_before[number] = latest
        if done.outcome == "committed" and done.offset is not None and done.offset <= latest:
            found.append(f"began after {latest} was acknowledged, and comes before it: {done}")

    lowest = -1
    reads: list[tuple[float, int]] = []
    for number, done in sorted(enumerate(history), key=lambda each: each[1].began):
        if done.outcome != "read":
            continue
        lowest = max([acknowledged_before[number]] + [place for ended, place in reads if ended < done.began])
        place = next((at for at in range(lowest + 1, len(states)) if not _sees(done, states[at])), None)
        if place is None:
            found.append(f"no state since {lowest} is what was read: {done}")
        else:
            reads.append((done.ended, place - 1))
    return found


def _states(log: list[tuple[tuple[Key, int], ...]]) -> list[State]:
    """Return the state before each transaction, and the one after the last."""
    states: list[State] = [{}]
    for appended in log:
        state = dict(states[-1])
        for key, value in appended:
            state[key] = _written(key, state.get(key, ()), value)
        states.append(state)
    return states


def _written(key: Key, before: tuple[int, ...], value: int) -> tuple[int, ...]:
    kind = str(key).partition(" ")[0]
    if kind == "register":
        return (value,)
    after = (*before, value)
    return tuple(sorted(after)) if kind == "set" else after


def _sees(done: Done, state: State) -> list[str]:
    wrong = {key: (seen, state.get(key, ())) for key, seen in done.read.items() if seen != state.get(key, ())}
    return [f"read {seen} where {there} was: {done}" for seen, there in wrong.values()]
