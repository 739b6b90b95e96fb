"""The power fails: what SQLite had not synced is gone or half there, what the log had synced is not.

In WAL mode with ``synchronous=NORMAL`` SQLite syncs the WAL only before a checkpoint, so after a power failure any part
of it may be missing, or be there as zeros or as rubbish. The log is synced at each commit, and holds what it held.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import veritydb
from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.support.life import RAW

SECTOR = 512


def cut(wal: bytes, chance: random.Random) -> bytes:
    """Keep a beginning."""
    return wal[: chance.randint(0, len(wal))]


def lose(wal: bytes, chance: random.Random) -> bytes:
    """Lose sectors anywhere, as a disk that writes them in an order of its own."""
    sectors = [wal[at : at + SECTOR] for at in range(0, len(wal), SECTOR)]
    return b"".join(bytes(len(one)) if chance.random() < 0.2 else one for one in sectors)


def spoil(wal: bytes, chance: random.Random) -> bytes:
    """End in the rubbish that stood on the disk before."""
    keep = chance.randint(0, len(wal))
    return wal[:keep] + chance.randbytes(len(wal) - keep)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.mark.parametrize("harm", [cut, lose, spoil])
def test_a_wal_that_never_reached_the_disk_costs_nothing(
    folder: Path, harm: Callable[[bytes, random.Random], bytes], campaign: bool
) -> None:
    chance = random.Random(harm.__name__)
    path, image = folder / "life.db", folder / "image" / "life.db"
    ledger.create(path, RAW)
    told = Ledger()
    db = veritydb.connect(path, key=RAW, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 30").fetchall()
    try:
        for number in range(1, 400 if campaign else 60):
            told.attempted.add(number)
            (ledger.single, ledger.several)[number % 2](db, number)
            told.acknowledged.add(number)
            if number % 3 == 0:
                copy_as_after_a_power_failure(path, image, harm, chance)
                ledger.examine(image, told, key=RAW)
                shutil.rmtree(image.parent)
    finally:
        db.close()


def copy_as_after_a_power_failure(
    path: Path, image: Path, harm: Callable[[bytes, random.Random], bytes], chance: random.Random
) -> None:
    """Copy what is on the disk; the index of the WAL is in memory only."""
    shutil.copytree(f"{path}-log", f"{image}-log")
    shutil.copy(path, image)
    wal = path.with_name(f"{path.name}-wal").read_bytes()
    image.with_name(f"{image.name}-wal").write_bytes(harm(wal, chance))
