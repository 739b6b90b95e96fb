"""Could one copy, doing one thing at a time, have given these answers at these times?

The algorithm is Wing and Gong's search over the orders that real time allows ("Testing and Verifying Concurrent
Objects", 1993) with Lowe's memory ("Testing for linearizability", 2017): a set of operations done and the state they
led to need never be tried twice. As in Porcupine, calls and returns are one linked list, an operation is lifted out of
it while it is assumed to be done, and put back on backtracking.

An operation whose outcome is unknown may have happened at any time after its call, or never. It has no return, so the
search may leave it out: it is done when all operations *with* a return are.

What changes nothing, and gives the right answer in the state that there is, may as well come at once: in any order that
explains the rest it can be moved to where it is now. So reads and refusals never have to be put back and tried later.

A history over many objects is linearizable exactly when the part of each object is (Herlihy and Wing, 1990, theorem 1),
so callers split it first (:func:`by_object`): the search is exponential in how much overlaps within one part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

BUDGET = 20_000_000
"""Steps of the model before the search gives up and says so."""


class Operation(NamedTuple):
    """What one client asked, when, and what it was told."""

    call: int
    ret: int | None
    """None: never answered, or answered with "unknown"."""
    input: Any
    output: Any
    """Meaningless where ``ret`` is None."""


class Model(Protocol):
    """The object that the history should be explained by."""

    def initial(self) -> Hashable:
        """Return the state before all operations."""
        ...

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Hashable | None:
        """Return the state after the operation, or None if it cannot have had that output in this state.

        With ``known`` false any output is possible.
        """
        ...


class Verdict(NamedTuple):
    """What the search found."""

    ok: bool
    order: tuple[int, ...]
    """Indexes of operations: an order that explains all, or the longest that was found."""
    stuck: int | None
    """The operation that returned and cannot be explained after that longest order."""
    steps: int


class Undecided(Exception):
    """The search was longer than its budget; neither verdict would be true."""


def check(model: Model, history: Sequence[Operation], *, budget: int = BUDGET) -> Verdict:
    """Return whether ``history`` is linearizable. Raises Undecided when ``budget`` steps do not tell."""
    count = len(history)
    # Nodes of the list: operation i is called at node i + 1 and returns at node i + 1 + count; 0 is before all.
    # At one instant calls come before returns: operations that touch are taken to overlap, which accuses nobody
    # falsely.
    events: list[tuple[int, int, int]] = [(op.call, 0, index + 1) for index, op in enumerate(history)]
    events += [(op.ret, 1, index + 1 + count) for index, op in enumerate(history) if op.ret is not None]
    events.sort()
    following = [0] * (2 * count + 1)
    before = [0] * (2 * count + 1)
    node = 0
    for _, _, upcoming in events:
        following[node] = upcoming
        before[upcoming] = node
        node = upcoming
    following[node] = 0
    before[0] = node

    awaited = sum(op.ret is not None for op in history)
    state: Any = model.initial()
    done = 0
    seen: set[tuple[int, Hashable]] = set()
    path: list[tuple[int, Any, bool]] = []
    best: tuple[int, ...] = ()
    best_known = -1
    stuck: int | None = None
    known_count = 0
    steps = 0
    node = following[0]
    while known_count < awaited:
        if 0 < node <= count:  # A call: let it take effect now.
            op = history[node - 1]
            steps += 1
            if steps > budget:
                raise Undecided(f"not decided within {budget} steps, {count} operations")
            after = model.step(state, op.input, op.output, known=op.ret is not None)
            if after is None or (after is state and op.ret is None):  # It cannot, or it makes no difference whether.
                node = following[node]
                continue
            bit = 1 << node
            # What changes nothing and has the right answer now, may as well come now: nothing else has to be tried.
            surely = after is state
            if (done | bit, after) not in seen:
                seen.add((done | bit, after))
                path.append((node, state, surely))
                state, done = after, done | bit
                _lift(node, following, before)
                if op.ret is not None:
                    _lift(node + count, following, before)
                    known_count += 1
                node = following[0]
                continue
            if not surely:
                node = following[node]
                continue
        # A return whose call has not taken effect, or the end, or all that follows was tried: some choice was wrong.
        if known_count > best_known:
            best_known, best = known_count, tuple(index - 1 for index, _, _ in path)
            stuck = node - 1 - count if node > count else None
        surely = True
        while surely:
            if not path:
                return Verdict(False, best, stuck, steps)
            node, state, surely = path.pop()
            done &= ~(1 << node)
            if history[node - 1].ret is not None:
                known_count -= 1
                _put_back(node + count, following, before)
            _put_back(node, following, before)
        node = following[node]
    return Verdict(True, tuple(index - 1 for index, _, _ in path), None, steps)


def _lift(node: int, following: list[int], before: list[int]) -> None:
    following[before[node]] = following[node]
    before[following[node]] = before[node]


def _put_back(node: int, following: list[int], before: list[int]) -> None:
    following[before[node]] = node
    before[following[node]] = node


def by_object(
    history: Iterable[Operation], object_of: Callable[[Operation], Hashable]
) -> dict[Hashable, list[Operation]]:
    """Return the part of each object, in the order of ``history``."""
    parts: dict[Hashable, list[Operation]] = {}
    for op in history:
        parts.setdefault(object_of(op), []).append(op)
    return parts


def check_each(
    model: Model, parts: dict[Hashable, list[Operation]], *, budget: int = BUDGET
) -> dict[Hashable, Verdict]:
    """Return the verdict on each part; what is found soon is found before what takes long.

    One part that cannot be explained condemns the whole, so the search of the others ends there: they are then missing.
    """
    verdicts: dict[Hashable, Verdict] = {}
    limit = min(100_000, budget)
    while len(verdicts) < len(parts):
        undecided: Undecided | None = None
        for name, part in parts.items():
            if name in verdicts:
                continue
            try:
                verdicts[name] = check(model, part, budget=limit)
            except Undecided as error:
                undecided = error
                continue
            if not verdicts[name].ok:
                return verdicts
        if undecided is not None and limit >= budget:
            raise undecided
        limit = min(limit * 10, budget)
    return verdicts
