"""When a follower asks a node; what it does with the answer, tests/crash and tests/cluster show with real processes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from veritydb import follower as module
from veritydb.follower import Follower


class Written:
    """A log in which this machine writes so many times between two looks, and then no more."""

    def __init__(self, *counts: int) -> None:
        self._counts = list(counts)
        self.looks = 0

    def advance(self, _: int) -> list[int]:
        self.looks += 1
        return [0] * (self._counts.pop(0) if self._counts else 0)


@pytest.fixture
def resting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "WRITING", 0.0)
    made = Follower.__new__(Follower)
    made._stopping = threading.Event()
    made._users = {object()}  # type: ignore[assignment]  # somebody has the database open
    return made


def test_nobody_is_asked_while_this_machine_writes_and_somebody_when_it_has_paused(resting: Follower) -> None:
    tail = Written(2, 1, 5)
    resting._rest(tail)  # type: ignore[arg-type]
    assert tail.looks == 4, "each look but the last one found something"


def test_a_follower_that_is_told_to_stop_does_not_rest(resting: Follower) -> None:
    resting._stopping.set()
    tail = Written(1, 1)
    resting._rest(tail)  # type: ignore[arg-type]
    assert tail.looks == 0
