"""Many seeds, on several processes, and what they add up to."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from veritydb.simulation.run import Result, simulate
from veritydb.simulation.scenario import draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 4


class Total(NamedTuple):
    """What a campaign has found."""

    runs: int
    useful: int
    """Runs with at least 200 committed ops and 5 kinds of fault."""
    failures: tuple[Result, ...]
    ops: int
    steps: int
    kinds: dict[str, int]
    marks: dict[str, int]
    virtual: int
    """Microseconds of virtual time."""
    cpu: float
    """Seconds of one core."""

    @property
    def per_minute(self) -> float:
        """Useful seeds per minute of one core."""
        return 60 * self.useful / self.cpu if self.cpu else 0.0


NOTHING = Total(0, 0, (), 0, 0, {}, {}, 0, 0.0)


def run_seed(seed: int) -> tuple[Result, float]:
    """Run one seed; also say how much CPU time it took."""
    begun = time.process_time()
    result = simulate(draw(seed))
    return result, time.process_time() - begun


def run_seeds(seeds: Iterable[int], *, jobs: int = 1) -> Iterator[tuple[Result, float]]:
    """Run seeds, ``jobs`` at a time; results come in the order of the seeds."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_seed, seeds, chunksize=_CHUNK)


def add(total: Total, result: Result, cpu: float) -> Total:
    """Return the total with one more run."""
    kinds, marks = dict(total.kinds), dict(total.marks)
    for name, count in result.kinds.items():
        kinds[name] = kinds.get(name, 0) + count
    for name, count in result.marks.items():
        marks[name] = marks.get(name, 0) + count
    return Total(
        total.runs + 1,
        total.useful + result.useful,
        total.failures if result.failure is None else (*total.failures, result),
        total.ops + result.ops,
        total.steps + result.steps,
        kinds,
        marks,
        total.virtual + result.virtual,
        total.cpu + cpu,
    )
