"""A process that is killed between a VACUUM and its note leaves what the next one needs to log what is missing."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import veritydb
from tests.crash import ledger
from tests.support import files
from tests.support.cli import ROOT
from tests.support.life import RAW
from veritydb.reminder import REMINDER_FILE, Reminder

KILLED = """
import os, signal, sys
import veritydb
from veritydb import boundaries, reminder

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

where, path, key, mode = sys.argv[1:]
db = veritydb.connect(path, key=bytes.fromhex(key) or None, isolation_level=None)
db.execute(f"PRAGMA auto_vacuum = {mode}")
if where == "before the reminder is written":
    reminder.Reminder._begun = die
elif where == "before the vacuum":
    made = reminder.Reminder.make
    reminder.Reminder.make = lambda self, *given: (made(self, *given), die())
elif where == "before the note":
    boundaries.Boundaries.log_mode = die
else:
    reminder.Reminder.remove = die
db.execute("VACUUM")
"""
PLACES = (
    "before the reminder is written",
    "before the vacuum",
    "before the note",
    "before the reminder goes",
)


def killed(path: Path, where: str, mode: int, key: bytes | None) -> None:
    arguments = [where, str(path), (key or b"").hex(), str(mode)]
    ran = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL


def mode_of(path: Path, key: bytes | None) -> int:
    with files.opened(path, key) as raw:
        return int(raw.pragma("auto_vacuum"))


@pytest.mark.parametrize("key", [None, RAW], ids=["plain", "encrypted"])
@pytest.mark.parametrize("where", PLACES)
def test_the_next_opening_logs_what_a_killed_vacuum_has_left(where: str, key: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    with veritydb.connect(path, key=key) as db:
        db.execute("CREATE TABLE t(a)")
    db.close()
    killed(path, where, 2, key)
    assert mode_of(path, key) == (0 if where in PLACES[:2] else 2)
    veritydb.connect(path, key=key).close()
    ledger.compare(path, key=key)
    assert not (tmp_path / "life.db-log" / REMINDER_FILE).exists()


def test_a_vacuum_that_finds_another_one_not_followed_up_logs_what_it_leaves(tmp_path: Path) -> None:
    """Also where it leaves the mode that the file had before: nobody knows which one the log has."""
    path = tmp_path / "life.db"
    with veritydb.connect(path) as db:
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES (1)")
        with contextlib.closing(veritydb.connect(path, isolation_level=None)) as other:
            db.commit()
            killed(path, "before the note", 2, None)
            other.execute("PRAGMA auto_vacuum = 0")
            other.execute("VACUUM")
            ledger.compare(path)
            killed(path, "before the note", 1, None)
            other.execute("VACUUM")
    db.close()
    ledger.compare(path)


def test_a_reminder_that_somebody_is_at_work_with_is_let_be(tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    with veritydb.connect(path, timeout=0.1) as db:
        db.execute("CREATE TABLE t(a)")
    log = tmp_path / "life.db-log"
    working = Reminder(log)
    assert not working.make(0)
    veritydb.connect(path).close()
    assert (log / REMINDER_FILE).exists()
    with pytest.raises(veritydb.OperationalError, match="database is locked"):
        db.execute("VACUUM")
    working.remove()
    db.execute("VACUUM")
    assert not (log / REMINDER_FILE).exists()
    db.close()
    ledger.compare(path)


def test_a_vacuum_that_fails_keeps_no_other_one_waiting(tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    with veritydb.connect(path, timeout=0) as db:
        db.execute("CREATE TABLE t(a)")
    with files.opened(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(veritydb.OperationalError, match="database is locked"):
            db.execute("VACUUM")
        writer.execute("ROLLBACK")
    with contextlib.closing(veritydb.connect(path, timeout=0)) as other:
        other.execute("VACUUM")
    db.execute("VACUUM")
    db.close()
    assert not (tmp_path / "life.db-log" / REMINDER_FILE).exists()
    ledger.compare(path)


def test_where_it_cannot_be_noted_nothing_is_vacuumed(tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    with veritydb.connect(path) as db:
        db.execute("CREATE TABLE t(a)")
    (tmp_path / "life.db-log" / REMINDER_FILE).mkdir()
    db.execute("PRAGMA auto_vacuum = 2")
    with pytest.raises(veritydb.LogUnavailable, match="cannot be noted"):
        db.execute("VACUUM")
    assert mode_of(path, None) == 0
    db.close()
    ledger.compare(path)


def test_what_cannot_be_logged_is_left_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    with veritydb.connect(path) as db:
        db.execute("CREATE TABLE t(a)")
    killed(path, "before the note", 2, None)
    with files.opened(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        veritydb.connect(path, timeout=0).close()
        assert (tmp_path / "life.db-log" / REMINDER_FILE).exists()
        writer.execute("ROLLBACK")
    veritydb.connect(path, timeout=0).close()
    db.close()
    ledger.compare(path)
