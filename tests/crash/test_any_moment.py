"""An exception at every place where a signal can raise one, while a program opens a database and commits.

CPython runs signal handlers when a function begins and when a call of C code has returned. A profile function is
called at the same places, and what it raises comes out of them as if a handler had raised it; so place N is tried
after place N - 1, until a run meets none.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.crash import beginnings, ledger
from tests.crash.beginnings import NAME
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.support import files
from tests.support.life import RAW
from tests.support.unfollowed import left_behind

if TYPE_CHECKING:
    from tests.conftest import Count

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
        # Kept, so that it is there for as long as it runs: it takes itself off.
        self._hook = self._look

    def __enter__(self) -> None:
        sys.setprofile(self._hook)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: Any, event: str, argument: Any) -> None:
        if event not in ("call", "c_return") or not frame.f_globals.get("__name__", "").startswith("veritydb"):
            return
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
    with db:
        db.executemany("INSERT INTO entries VALUES (?, ?, ?)", ledger.rows_of(number, 2))
        db.execute("UPDATE totals SET n = n + 2")


def autocommit_many(db: veritydb.Connection, number: int) -> None:
    db.executemany("INSERT INTO entries VALUES (?, ?, ?)", ledger.rows_of(number, 1))


def returning(db: veritydb.Connection, number: int) -> None:
    db.execute("INSERT INTO entries VALUES (?, ?, ?) RETURNING id", ledger.rows_of(number, 1)[0])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python ignores, and reports, what is raised while an object goes away; who had the profile function keeps it."""
    report, profile = sys.unraisablehook, sys.getprofile()
    monkeypatch.setattr(
        sys, "unraisablehook", lambda what: None if isinstance(what.exc_value, Interrupted) else report(what)
    )
    yield
    sys.setprofile(profile)


@pytest.mark.parametrize("commit", [bare, explicit, implicit, autocommit_many, returning, large])
def test_wherever_a_commit_is_interrupted_the_program_is_told_the_truth(
    folder: Path, commit: Callable[[veritydb.Connection, int], None], campaign: bool, count_of: Count
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
            db.isolation_level = "" if commit is implicit else None
            try:
                with interrupting:
                    commit(db, number)
                offset = db.last_offset
            except Interrupted as interruption:
                offset = getattr(interruption, "committed_offset", None)
            except veritydb.Error as error:
                error.add_note(f"interrupted at place {at}: {interrupting.where}")
                raise
            where = interrupting.where
            # A statement of its own leaves nothing open; BEGIN may have been done when its call is interrupted.
            assert not db.in_transaction or commit not in (bare, autocommit_many, returning), where
            if db.in_transaction:
                db.rollback()
            db.isolation_level = None
            with files.opened(path, RAW) as raw:
                there = bool(raw.execute("SELECT 1 FROM entries WHERE number = ?", (number,)).fetchall())
            assert there == (offset is not None), where
            (told.acknowledged if there else told.refused).add(number)
            go_on(path, db, told, numbers, where)
            if not where:
                break
    assert len(told.attempted) > 50
    count_of("places of a commit that were interrupted", at // step)
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


@pytest.mark.parametrize("commit", [bare, explicit])
def test_wherever_catching_up_is_interrupted_the_program_is_told_the_truth(
    folder: Path, commit: Callable[[veritydb.Connection, int], None], campaign: bool, count_of: Count
) -> None:
    """Another process has died between log and file, and the next change redoes what it has left."""
    path = folder / "life.db"
    ledger.create(path, RAW)
    told = Ledger()
    numbers = iter(range(1, 10**9))
    with (
        contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as dying,
        contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as db,
    ):
        for at in range(1, PLACES_MAX, 1 if campaign else 11):
            left, number = next(numbers), next(numbers)
            told.attempted |= {left, number}
            with left_behind(dying), pytest.raises(veritydb.OutcomeUnknown):
                ledger.single(dying, left)
            told.acknowledged.add(left)
            interrupting = Interrupting(at)
            offset: int | None = None
            try:
                with interrupting:
                    commit(db, number)
                offset = db.last_offset
            except Interrupted as interruption:
                offset = getattr(interruption, "committed_offset", None)
            where = interrupting.where
            assert not db.in_transaction or commit is explicit, where
            if db.in_transaction:
                db.rollback()
            (told.acknowledged if offset is not None else told.refused).add(number)
            go_on(path, db, told, numbers, where)
            if not where:
                break
    count_of("places of catching up that were interrupted", at)
    ledger.examine(path, told, key=RAW)


def schema(db: veritydb.Connection, number: int) -> None:
    db.execute(f"CREATE TABLE made_{number}(id INTEGER PRIMARY KEY, a)")
    db.execute(f"INSERT INTO made_{number}(a) VALUES (1)")
    db.execute(f"CREATE TABLE copied_{number} AS SELECT a FROM made_{number}")
    db.execute(f"ALTER TABLE made_{number} ADD COLUMN b")
    db.execute(f"DROP TABLE made_{number}")
    db.execute(f"DROP TABLE copied_{number}")


def settings(db: veritydb.Connection, number: int) -> None:
    db.execute(f"PRAGMA user_version = {number}")
    db.execute("ANALYZE")
    db.execute(f"PRAGMA application_id = {number}")


def pieces(db: veritydb.Connection, number: int) -> None:
    with db.blobopen("pieces", "piece", 1) as blob:
        blob.write(number.to_bytes(4))
        blob.write(number.to_bytes(4))


def words(db: veritydb.Connection, number: int) -> None:
    db.execute("INSERT INTO words VALUES (?)", (f"number {number}",))
    db.execute("SAVEPOINT s")
    db.execute("INSERT INTO words VALUES ('not to stay')")
    db.execute("ROLLBACK TO s")
    db.execute("UPDATE words SET x = x || ' again' WHERE rowid = (SELECT max(rowid) FROM words)")


def late(db: veritydb.Connection, number: int) -> None:
    db.execute("INSERT INTO late(a) VALUES (?)", (number,))
    db.execute("UPDATE late SET a = a + 1 WHERE id = (SELECT max(id) FROM late)")
    db.execute("INSERT OR IGNORE INTO late(id, a) VALUES (1, 'no')")


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("work", [schema, settings, pieces, words, late])
def test_what_is_committed_after_an_interruption_is_what_the_log_says(
    folder: Path, work: Callable[[veritydb.Connection, int], None], explicit: bool, campaign: bool, count_of: Count
) -> None:
    """A program may go on with a transaction in the middle of which something was raised."""
    path = folder / "life.db"
    with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as db:
        db.execute("CREATE TABLE pieces(id INTEGER PRIMARY KEY, piece)")
        db.execute("INSERT INTO pieces VALUES (1, zeroblob(8))")
        db.execute("CREATE INDEX with_id ON pieces(id)")
        db.execute("CREATE VIRTUAL TABLE words USING fts5(x)")
        db.execute("CREATE TABLE late(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b AS (a || '!'))")
        for at in range(1, PLACES_MAX, 1 if campaign else 37):
            interrupting = Interrupting(at)
            try:
                with interrupting:
                    if explicit:
                        db.execute("BEGIN")
                    work(db, at)
            except Interrupted:
                pass
            except veritydb.Error as error:
                error.add_note(interrupting.where)
                raise
            try:
                if db.in_transaction:
                    db.execute("COMMIT")
            except (Interrupted, veritydb.CaptureError):
                assert not db.in_transaction, interrupting.where
            if campaign:
                ledger.compare(path, key=RAW)
            if not interrupting.where:
                break
        db.execute("INSERT INTO words VALUES ('life goes on')")
    count_of("places of a transaction that were interrupted, and it was committed", at)
    ledger.compare(path, key=RAW)


def close(db: veritydb.Connection) -> None:
    db.close()


def write(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO t VALUES (1)")


def begin(db: veritydb.Connection) -> None:
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (1)")
    db.rollback()


@pytest.mark.parametrize("then", [close, write, begin])
def test_wherever_vacuum_is_interrupted_the_log_has_the_files_auto_vacuum(
    folder: Path, then: Callable[[veritydb.Connection], None], count_of: Count
) -> None:
    path = folder / "life.db"
    with contextlib.closing(veritydb.connect(path, isolation_level=None, timeout=TIMEOUT)) as db:
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES (7)")
        db.execute("DELETE FROM t WHERE a = 7")
    interrupted = 0
    modes: set[int] = set()
    for at in range(1, PLACES_MAX):
        db = veritydb.connect(path, isolation_level=None, timeout=TIMEOUT)
        db.execute(f"PRAGMA auto_vacuum = {at % 3}")
        interrupting = Interrupting(at)
        try:
            with contextlib.suppress(Interrupted), interrupting:
                db.execute("VACUUM")
            then(db)
            db.close()
            ledger.compare(path)
        except BaseException as error:
            error.add_note(interrupting.where)
            raise
        with files.opened(path) as raw:
            modes.add(int(raw.pragma("auto_vacuum")))
        if not interrupting.where:
            break
        interrupted += 1
    assert modes == {0, 1, 2}
    assert interrupted > 50
    count_of("places of a VACUUM that were interrupted", interrupted)


@pytest.mark.parametrize("state", beginnings.STATES)
def test_wherever_opening_is_interrupted_nothing_is_lost_and_no_lock_is_left(
    folder: Path, state: str, campaign: bool, count_of: Count
) -> None:
    beginning = beginnings.make(folder, state)
    path = folder / "run" / NAME
    for at in range(1, PLACES_MAX, 1 if campaign else 17):
        shutil.copytree(beginning.folder, path.parent)
        told = copy.deepcopy(beginning.told)
        interrupting = Interrupting(at)
        db = None
        with contextlib.suppress(Interrupted), interrupting:
            db = veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)
            ledger.make_if_needed(db)
        if db is not None:
            db.close()
        gc.collect(1)  # What was half open when the exception left connect() is nobody's.
        try:
            with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None, timeout=TIMEOUT)) as db:
                ledger.make_if_needed(db)
            ledger.examine(path, told, key=RAW)
        except BaseException as error:
            error.add_note(interrupting.where)
            raise
        shutil.rmtree(path.parent)
        count_of("places of an opening that were interrupted", bool(interrupting.where))
        if not interrupting.where:
            break
