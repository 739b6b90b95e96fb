"""An exception at every place where a signal can raise one, while a program opens a database and commits.

CPython runs signal handlers when a function begins and when a call of C code has returned. A profile function is called at
the same places, and what it raises comes out of them as if a handler had raised it; so place N is tried after place
N - 1, until a run meets none.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.support import files
from tests.support.life import RAW

PLACES_MAX = 20_000
TIMEOUT = 0.5
"""Seconds. Nobody else is there: a lock that is not free is one that was left behind."""


class Interrupted(BaseException):
    """What the handler raises."""


class Interrupting:
    """While it is entered, place ``at`` raises :class:`Interrupted`."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._count = 0
        self.where = ""

    def __enter__(self) -> None:
        sys.setprofile(self._look)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: Any, event: str, argument: Any) -> None:
        if event not in ("call", "c_return") or not frame.f_globals.get("__name__", "").startswith("veritydb"):
            return
        if frame.f_code.co_name in ("__del__", "<genexpr>"):
            return  # Python ignores what is raised while an object goes away, and says so.
        self._count += 1
        if self._count == self._at:
            sys.setprofile(None)
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}, {event} {getattr(argument, '__name__', '')}"
            raise Interrupted


def bare(db: veritydb.Connection, number: int) -> None:
    ledger.single(db, number)


def explicit(db: veritydb.Connection, number: int) -> None:
    ledger.several(db, number)


def large(db: veritydb.Connection, number: int) -> None:
    ledger.several(db, number, 12)


def implicit(db: veritydb.Connection, number: int) -> None:
    db.isolation_level = ""
    try:
        with db:
            db.executemany("INSERT INTO entries VALUES (?, ?, ?)", ledger.rows_of(number, 2))
            db.execute("UPDATE totals SET n = n + 2")
    finally:
        if db.in_transaction:
            db.rollback()
        db.isolation_level = None


def returning(db: veritydb.Connection, number: int) -> None:
    sql = "INSERT INTO entries VALUES (?, ?, ?) RETURNING id"
    assert db.execute(sql, ledger.rows_of(number, 1)[0]).fetchall() == [(number * ledger.ROWS_MAX,)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture(autouse=True)
def profile_function() -> Iterator[None]:
    """Whoever measures coverage gets the profile function back."""
    before = sys.getprofile()
    yield
    sys.setprofile(before)


@pytest.mark.parametrize("commit", [bare, explicit, implicit, returning, large])
def test_wherever_a_commit_is_interrupted_the_program_is_told_the_truth(
    folder: Path, commit: Callable[[veritydb.Connection, int], None], campaign: bool
) -> None:
    path = folder / "life.db"
    ledger.create(path, RAW)
    told = Ledger()
    step = 1 if campaign or commit is not large else 7
    numbers = iter(range(1, 10**9))
    with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as db:
        for at in range(1, PLACES_MAX, step):
            number = next(numbers)
            told.attempted.add(number)
            interrupting = Interrupting(at)
            offset: int | None = None
            try:
                with interrupting:
                    commit(db, number)
                offset = db.last_offset
            except Interrupted as interruption:
                offset = getattr(interruption, "committed_offset", None)
            where = interrupting.where
            if commit is not explicit and commit is not large:
                assert not db.in_transaction, where
            elif db.in_transaction:
                db.rollback()  # BEGIN itself was interrupted, after SQLite had done it.
            with files.opened(path, RAW) as raw:
                there = bool(raw.execute("SELECT 1 FROM entries WHERE number = ?", (number,)).fetchall())
            assert there == (offset is not None), where
            (told.acknowledged if there else told.refused).add(number)
            go_on(path, db, told, numbers, where)
            if not where:
                break
    assert len(told.attempted) > 50
    ledger.examine(path, told, key=RAW)


def go_on(path: Path, db: veritydb.Connection, told: Ledger, numbers: Iterator[int], where: str) -> None:
    """Require that others can write, then that the connection can."""
    try:
        with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as other:
            for connection in (other, db):
                number = next(numbers)
                told.attempted.add(number)
                ledger.single(connection, number)
                told.acknowledged.add(number)
    except BaseException as error:
        error.add_note(where)
        raise


@pytest.mark.parametrize("state", ["new", "existing", "behind", "missing"])
def test_wherever_opening_is_interrupted_nothing_is_lost_and_no_lock_is_left(
    folder: Path, state: str, campaign: bool
) -> None:
    path = folder / "life.db"
    told = Ledger()
    numbers = iter(range(1, 10**9))

    def commit(count: int) -> None:
        with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as db:
            ledger.make_if_needed(db)
            for _ in range(count):
                number = next(numbers)
                told.attempted.add(number)
                ledger.several(db, number)
                told.acknowledged.add(number)

    for at in range(1, PLACES_MAX, 1 if campaign else 3):
        if state != "new":
            commit(1)
        if state == "behind":
            before = path.read_bytes()
            commit(1)
            path.write_bytes(before)
        if state == "missing":
            path.unlink()
        interrupting = Interrupting(at)
        db = None
        with contextlib.suppress(Interrupted), interrupting:
            db = veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)
        if db is not None:
            db.close()
        gc.collect()
        try:
            commit(1)
        except BaseException as error:
            error.add_note(interrupting.where)
            raise
        if not interrupting.where:
            break
        if state == "new":
            remove(path)
            told = Ledger()
    ledger.examine(path, told, key=RAW)


def remove(path: Path) -> None:
    """Remove a database and its log."""
    import shutil

    for found in path.parent.iterdir():
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()
