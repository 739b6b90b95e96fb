"""A disk that is full, as the kernel says it.

Short writes, then errors, in the log, the WAL and the database at once.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.support.life import RAW
from tests.support.processes import run

SCRIPT = Path(__file__).parent / "scripts" / "full.py"


# The limit decides what is full first: the WAL, so that records are in the log and the file cannot follow; or the log.
@pytest.mark.parametrize("limit", [40_000, 150_000, 270_000, 500_000])
def test_a_full_disk_refuses_and_loses_nothing(folder: Path, limit: int) -> None:
    path = folder / "full.db"
    ledger.create(path, RAW)
    ended = run(SCRIPT, path, limit)
    assert ended.status == 0, ended.errors
    refused = set(json.loads(ended.said.splitlines()[-1])["refused"])
    told = Ledger(set(ended.attempted), set(ended.acknowledged), refused)
    assert refused or len(told.acknowledged) < len(told.attempted)
    assert max(told.attempted) in told.acknowledged  # There was room again.
    ledger.examine(path, told, key=RAW)
