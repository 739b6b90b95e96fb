"""Workers that are killed between their work and its ack, and everywhere else: effects are exactly once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import veritydb
from tests.support.child import POINTS
from tests.support.life import RAW
from tests.support.processes import Child, run

SCRIPT = Path(__file__).parent / "scripts" / "works.py"


class Clinic:
    """Visits, the invoices that workers make of them, and those who die over it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.visits = 0
        db = veritydb.connect(path, key=RAW)
        db.executescript(
            "CREATE TABLE visits (id INTEGER PRIMARY KEY);"
            "CREATE TABLE invoices (id INTEGER PRIMARY KEY, visit INT, try INT);"
        )
        with db.consumer("billing", "visits"):
            pass
        db.close()

    def visit(self, count: int) -> None:
        db = veritydb.connect(self.path, key=RAW, timeout=60)
        with db:
            db.executemany("INSERT INTO visits VALUES (?)", ((self.visits + number,) for number in range(1, count + 1)))
        db.close()
        self.visits += count

    def finish(self) -> None:
        """Let a worker that nobody kills do what is left."""
        while "done" not in (ended := run(SCRIPT, self.path, 10)).said.splitlines():
            assert ended.status == 0, ended.errors

    def examine(self) -> None:
        """Every visit has exactly one invoice."""
        db = veritydb.connect(self.path, key=RAW, timeout=60)
        billed = [visit for (visit,) in db.execute("SELECT visit FROM invoices ORDER BY visit")]
        db.close()
        assert billed == list(range(1, self.visits + 1))


def test_a_worker_killed_between_work_and_ack_did_not_work(folder: Path, campaign: bool) -> None:
    clinic = Clinic(folder / "clinic.db")
    chance = random.Random(6)
    deaths = 0
    for _ in range(200 if campaign else 8):
        clinic.visit(4)
        stop = chance.randrange(1, 4)
        with Child(SCRIPT, clinic.path, chance.choice([1, 3]), stop) as worker:
            for _ in range(stop):
                worker.until("between")
            worker.signal()
            deaths += worker.end().killed
        time.sleep(0.002)  # Its lease ends.
    assert deaths == (200 if campaign else 8)
    clinic.finish()
    clinic.examine()


# "wal" and "checkpoint" are met through a VFS of their own; what becomes of a commit there is test_kills's business.
@pytest.mark.parametrize("point", [point for point in POINTS if point not in ("wal", "checkpoint")])
def test_a_worker_killed_anywhere_in_a_commit_has_worked_once_or_not_at_all(
    folder: Path, point: str, campaign: bool
) -> None:
    clinic = Clinic(folder / "clinic.db")
    chance = random.Random(point)
    for _ in range(20 if campaign else 2):
        clinic.visit(3)
        count = chance.randrange(1, 8) * (12 if point == "log call" else 1)
        ended = run(SCRIPT, clinic.path, 2, crash_at=f"{point}:{count}")
        assert ended.killed or ended.status == 0, ended.errors
        time.sleep(0.002)
    clinic.finish()
    clinic.examine()
