"""What a program is told when its commit ran into something, and what it can do next."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import apsw
import pytest

import veritydb
from tests.support.unfollowed import left_behind
from veritydb.translation import translated

if TYPE_CHECKING:
    from tests.support.life import Life


def rows(db: veritydb.Connection) -> list[Any]:
    return db.execute("SELECT a FROM t ORDER BY a").fetchall()


@pytest.fixture
def db(life: Life) -> veritydb.Connection:
    """A connection to a database with one table."""
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    return db


@pytest.mark.parametrize("statements", [("INSERT INTO t VALUES (1)",), ("BEGIN", "INSERT INTO t VALUES (1)", "COMMIT")])
def test_a_progress_handler_that_stops_everything_once_the_log_has_the_record_comes_too_late(
    db: veritydb.Connection, statements: tuple[str, ...], life: Life
) -> None:
    """SQLite asks it once more at the end of COMMIT. The transaction is committed, and the program is told so."""
    log = db._session.stream.log
    before = log.head.next_offset
    stopped: list[int] = []
    db.set_progress_handler(lambda: log.head.next_offset > before and not stopped.append(1), 1)
    for statement in statements:
        db.execute(statement)
    assert stopped
    assert db.last_offset == before
    with pytest.raises(veritydb.OperationalError, match=r"^interrupted$"):
        rows(db)  # It is in its place again.
    db.set_progress_handler(None, 1)
    assert rows(db) == rows(life.connect()) == [(1,)]


def test_a_file_that_could_not_follow_its_log_follows_before_the_next_change(db: veritydb.Connection) -> None:
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (1)")
    with left_behind(db), pytest.raises(veritydb.OutcomeUnknown, match=r"could not follow .no disk.") as caught:
        db.execute("COMMIT")
    assert caught.value.committed_offset == db.last_offset == 1
    assert rows(db) == []
    db.execute("INSERT INTO t VALUES (2)")
    assert rows(db) == [(1,), (2,)]
    assert db.last_offset == 2


def test_what_is_half_redone_cannot_be_committed(
    db: veritydb.Connection, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second interruption may keep the first one from rolling back."""
    with left_behind(db), contextlib.suppress(veritydb.OutcomeUnknown):
        db.execute("INSERT INTO t VALUES (1)")

    def half(db: apsw.Connection, *_: object, **__: object) -> None:
        db.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES ('half')")
        raise KeyboardInterrupt

    monkeypatch.setattr(db._session._recovery, "run", half)
    db.execute("BEGIN")
    with pytest.raises(KeyboardInterrupt):
        db.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(KeyboardInterrupt):
        db.execute("COMMIT")
    monkeypatch.undo()
    assert rows(life.connect()) == [(1,)]
    db.execute("INSERT INTO t VALUES (2)")
    assert rows(db) == [(1,), (2,)]


@pytest.mark.parametrize(
    "next_ones", [("INSERT INTO own VALUES (1)",), ("BEGIN", "INSERT INTO own VALUES (1)", "COMMIT")]
)
def test_a_transaction_that_was_refused_takes_no_later_one_with_it(
    db: veritydb.Connection, next_ones: tuple[str, ...]
) -> None:
    """Also none of temp tables alone, which nothing is captured of."""
    db.execute("CREATE TEMP TABLE own(a)")
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (1)")
    db._session.capture._poison(ValueError("no row tonight"))  # As a callback of ours does that fails.
    with pytest.raises(veritydb.CaptureError, match="no row tonight"):
        db.execute("COMMIT")
    for statement in next_ones:
        db.execute(statement)
    assert db.execute("SELECT * FROM own").fetchall() == [(1,)]
    assert rows(db) == []


def test_an_interruption_is_called_one_whatever_sqlite_was_about() -> None:
    """Where it was preparing a statement anew, its message is still the reason for that."""
    error: Any = apsw.InterruptError("database schema has changed")
    error.result = error.extendedresult = apsw.SQLITE_INTERRUPT
    assert str(translated(error)) == "interrupted"
