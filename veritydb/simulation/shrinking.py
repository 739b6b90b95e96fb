"""From a failing seed to a short story.

A scenario is a value, so it can be made smaller as long as it still fails by the same rule: fewer faults (delta
debugging, Zeller and Hildebrandt 2002), no bad weather, good disks, fewer clients and streams, less work. What is left
is what the bug needs, and the plan is what a person reads.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from veritydb.simulation.network import Weather
from veritydb.simulation.run import simulate
from veritydb.simulation.scenario import SECOND
from veritydb.simulation.storage import Habits
from veritydb.simulation.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from veritydb.simulation.code import Code
    from veritydb.simulation.run import Failure, Result
    from veritydb.simulation.scenario import Fault, Scenario

BUDGET = 200
"""Runs that are spent on one seed."""


class Shrunk(NamedTuple):
    """The smallest scenario that was found."""

    scenario: Scenario
    failure: Failure
    runs: int
    code: Code | None


def shrink(
    scenario: Scenario,
    failure: Failure,
    code: Code | None = None,
    *,
    budget: int = BUDGET,
    progress: Callable[[int], None] | None = None,
) -> Shrunk:
    """Return a smaller scenario that breaks the same rule."""
    search = _Search(scenario, failure, code, budget, progress)
    search.cut_time()
    search.drop_faults()
    for candidate in _calmer(search.scenario):
        search.attempt(candidate(search.scenario))
    search.drop_faults()
    search.cut_time()
    return Shrunk(search.scenario, search.failure, search.runs, code)


class _Search:
    def __init__(
        self,
        scenario: Scenario,
        failure: Failure,
        code: Code | None,
        budget: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.scenario: Scenario = scenario
        self.failure: Failure = failure
        self.runs = 0
        self._code = code
        self._budget = budget
        self._progress = progress

    def attempt(self, candidate: Scenario) -> bool:
        """Keep ``candidate`` if it still fails in the same way."""
        if self.runs >= self._budget or candidate == self.scenario:
            return False
        self.runs += 1
        if self._progress is not None:
            self._progress(self.runs)
        result: Result = simulate(candidate, self._code)
        if result.failure is None or result.failure.rule != self.failure.rule:
            return False
        self.scenario, self.failure = candidate, result.failure
        return True

    def cut_time(self) -> None:
        """Drop what was planned for after the failure, and end soon after it."""
        at = self.failure.at
        faults = tuple(fault for fault in self.scenario.faults if fault.at <= at)
        if at < self.scenario.chaos:
            self.attempt(self.scenario._replace(faults=faults))
        for chaos in (SECOND // 2, SECOND, 2 * SECOND, 5 * SECOND):
            if chaos < self.scenario.chaos:
                early = tuple(fault for fault in self.scenario.faults if fault.at < chaos)
                if self.attempt(self.scenario._replace(faults=early, chaos=chaos, chaos_max=chaos)):
                    return

    def drop_faults(self) -> None:
        """Take faults out, many at a time first."""
        size = max(1, len(self.scenario.faults) // 2)
        while size:
            start = 0
            while start < len(self.scenario.faults):
                faults: tuple[Fault, ...] = self.scenario.faults
                fewer = faults[:start] + faults[start + size :]
                if not self.attempt(self.scenario._replace(faults=fewer)):
                    start += size
            size //= 2


def _calmer(scenario: Scenario) -> Iterator[Callable[[Scenario], Scenario]]:
    """Yield ways to make a scenario plainer, each of its own."""
    calm, good = Weather(), Habits()
    for field in ("loss", "duplication", "replay"):
        yield lambda s, field=field: s._replace(weather=s.weather._replace(**{field: 0}))  # type: ignore[misc]  # mypy cannot infer a default
    yield lambda s: s._replace(weather=s.weather._replace(delay_low=calm.delay_low, delay_scale=calm.delay_scale))
    for field in ("lost", "misdirected", "failed", "unreadable", "tear"):
        yield lambda s, field=field: s._replace(habits=s.habits._replace(**{field: 0}))  # type: ignore[misc]  # mypy cannot infer a default
    yield lambda s: s._replace(habits=s.habits._replace(delay_low=good.delay_low, delay_scale=good.delay_scale))
    yield lambda s: s._replace(wire=False)
    for clients in (1, 2, 3):
        if clients < scenario.clients:
            yield lambda s, clients=clients: s._replace(clients=min(clients, s.clients))  # type: ignore[misc]  # mypy cannot infer a default
    yield lambda s: s._replace(streams=1)
    yield lambda s: s._replace(record_max=20)
    yield lambda s: s._replace(batch_max=1)


def story(small: Shrunk, *, lines: int = 60) -> Iterator[str]:
    """Tell a shrunk run: what it is made of, and how it ends."""
    scenario = small.scenario
    yield f"after {small.runs} runs: {small.failure}"
    yield (
        f"  {scenario.members} members, {scenario.clients} clients, {scenario.streams} streams, "
        f"slots {scenario.slots}, checkpoints every {scenario.checkpoint_interval}, pipeline {scenario.pipeline_max}"
    )
    for field, value in scenario.weather._asdict().items():
        if value and not field.startswith("delay"):
            yield f"  {value / 10_000:g} % of messages: {field}"
    for field, value in scenario.habits._asdict().items():
        if value and not field.startswith(("delay", "keep")):
            yield f"  {value / 10_000:g} % of disk accesses: {field}"
    for fault in scenario.faults:
        yield f"  {fault}"
    told: deque[str] = deque(maxlen=lines)
    simulate(scenario, small.code, Telling(told.append))
    yield f"  its last {len(told)} lines:"
    yield from (f"  {line}" for line in told)
