"""A disk that is full, as the kernel says it: short writes, then errors, in the log, the WAL and the database at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.support.life import RAW
from tests.support.processes import run

SCRIPT = Path(__file__).parent / "scripts" / "full.py"


# Where the limit is decides which file meets it first: the log's space ahead (256 KiB), the WAL, or the index of the WAL.
@pytest.mark.parametrize("limit", [40_000, 270_000, 300_001, 700_123])
def test_a_full_disk_refuses_and_loses_nothing(folder: Path, limit: int) -> None:
    path = folder / "full.db"
    ledger.create(path, RAW)
    ended = run(SCRIPT, path, limit)
    assert ended.status == 0, ended.errors
    refused = set(json.loads(ended.said.splitlines()[-1])["refused"])
    assert len(refused) >= 30
    told = Ledger(set(ended.attempted), set(ended.acknowledged), refused)
    assert max(ended.attempted) in told.acknowledged
    ledger.examine(path, told, key=RAW)
