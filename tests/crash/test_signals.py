"""Signals whose handlers raise while a transaction commits: the program learns the truth about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.support import files
from tests.support.child import POINTS
from tests.support.life import RAW
from tests.support.processes import run

if TYPE_CHECKING:
    from tests.conftest import Count

SCRIPT = Path(__file__).parent / "scripts" / "interrupt.py"


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_a_signal_that_raises_tells_the_truth_about_the_transaction(folder: Path, signal: str, count_of: Count) -> None:
    path = folder / "interrupted.db"
    ledger.create(path, RAW)
    ended = run(SCRIPT, path, signal)
    assert ended.status == 0, ended.errors
    cases: list[dict[str, Any]] = [json.loads(line) for line in ended.said.splitlines()]

    in_log = {int(one.actor): one.offset for one in files.transactions(path, RAW) if one.actor}
    for case in cases:
        assert in_log.get(case["number"]) == case["committed_offset"], case
        assert case["raised"] == ("Interrupted" if case["met"] else None), case
        assert not case["open"], case
    assert {case["at"].partition(":")[0] for case in cases if case["met"]} == set(POINTS)

    count_of(f"commits interrupted by SIG{signal}", sum(bool(case["met"]) for case in cases))
    numbers = {case["number"] for case in cases}
    refused = {case["number"] for case in cases if case["committed_offset"] is None}
    recovered = ledger.examine(path, Ledger(numbers, numbers - refused, refused), key=RAW)
    assert recovered == numbers - refused
