"""Processes that are killed while they commit: at every mark of the commit path, and wherever they happen to be.

One database goes through many deaths, so that each recovery starts from what the one before it has left.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.support import files
from tests.support.child import POINTS
from tests.support.life import RAW
from tests.support.processes import Child, Ended, run

if TYPE_CHECKING:
    from tests.conftest import Count

SCRIPT = Path(__file__).parent / "scripts" / "commits.py"
COUNT = 60
"""Transactions that a process commits if nobody kills it."""
PAUSE_MAX = 0.005
"""Seconds; a transaction takes less."""


class Mortals:
    """A database and those who write it until they die."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger()
        self.deaths = 0
        ledger.create(path, RAW)

    def die_at(self, point: str, count: int) -> None:
        """Let a process write until it meets ``point`` for the ``count``-th time, and die there."""
        ended = run(SCRIPT, self.path, self._next(), COUNT, crash_at=f"{point}:{count}")
        assert ended.killed, f"{point}:{count} was never met: {ended.errors}"
        self._examine(ended)

    def die_after(self, commits: int, pause: float) -> None:
        """Let a process write, and kill it a little while after it has committed so often."""
        with Child(SCRIPT, self.path, self._next(), COUNT) as child:
            while commits:
                line = child.line()
                assert line, child.errors()
                commits -= line.startswith("acknowledged")
            time.sleep(pause)
            child.signal()
            ended = child.end()
        assert ended.killed or (ended.status == 0 and len(ended.acknowledged) == COUNT), ended.errors
        self._examine(ended)

    def _next(self) -> int:
        return max(self.ledger.attempted, default=0) + 1

    def _examine(self, ended: Ended) -> None:
        assert len(ended.attempted) - len(ended.acknowledged) in (0, 1)
        self.deaths += ended.killed
        self.ledger.add(ended.attempted, ended.acknowledged)
        ledger.examine(self.path, self.ledger, key=RAW)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that recovers has the same sizes as those that died."""
    make_small(monkeypatch)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_mark_loses_nothing_that_it_acknowledged(
    folder: Path, point: str, campaign: bool, count_of: Count
) -> None:
    mortals = Mortals(folder / "mortal.db")
    chance = random.Random(point)
    # Opening alone makes thirty calls; three hundred are enough to see segments roll and parts spill.
    counts = [1, 2, 3] if point != "log call" else [7, 61, 150]
    if campaign:
        counts += [chance.randint(1, 40 if point != "log call" else 300) for _ in range(27)]
    for count in counts:
        mortals.die_at(point, count)
    assert mortals.deaths == len(counts)
    count_of("SIGKILLs at marks", mortals.deaths)
    count_of("transactions acknowledged before a SIGKILL", len(mortals.ledger.acknowledged))
    if point == "torn append":
        with files.opened_log(mortals.path) as log:
            assert log.head.generation == len(counts)  # The log says of each cut that it was made.


@pytest.mark.parametrize("seed", range(2))
def test_a_process_killed_anywhere_loses_nothing_that_it_acknowledged(
    folder: Path, seed: int, campaign: bool, count_of: Count
) -> None:
    mortals = Mortals(folder / "mortal.db")
    chance = random.Random(seed)
    for _ in range(130 if campaign else 8):
        mortals.die_after(chance.randint(0, COUNT // 2), chance.uniform(0, PAUSE_MAX))
    count_of("SIGKILLs at random moments", mortals.deaths)
    count_of("transactions acknowledged before a SIGKILL", len(mortals.ledger.acknowledged))
