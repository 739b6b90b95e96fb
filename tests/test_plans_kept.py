"""A plan is made once for a text, also where SQLite prepares the statement anew at each run; and not kept too long."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support.life import Life

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITED = "SELECT * FROM t LIMIT ?"


@pytest.fixture
def db(life: Life) -> veritydb.Connection:
    db = life.connect(detect_types=veritydb.PARSE_DECLTYPES)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, day DATE)")
    db.executemany("INSERT INTO t (day) VALUES (?)", [("2026-11-30",)] * 3)
    db.commit()
    return db


def planned(db: veritydb.Connection, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of statements that are planned from now on."""
    texts: list[str] = []
    session = db._session
    assert session is not None
    plan: Callable[..., Any] = session.planner.plan

    def noted(sql: str, *arguments: Any) -> Any:
        texts.append(sql)
        return plan(sql, *arguments)

    monkeypatch.setattr(session.planner, "plan", noted)
    return texts


def test_a_query_with_a_bound_limit_is_planned_once(db: veritydb.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = planned(db, monkeypatch)
    for count in (1, 2, 3, 1):
        assert len(db.execute(LIMITED, (count,)).fetchall()) == count
    assert texts == [LIMITED]


@pytest.mark.filterwarnings("ignore:The default date converter")
def test_returning_is_planned_no_oftener_than_it_is_prepared(
    db: veritydb.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = planned(db, monkeypatch)
    sql = "INSERT INTO t (day) VALUES (?) RETURNING id, day"
    for number in range(4, 9):
        ((rowid, day),) = db.execute(sql, ("2026-12-01",)).fetchall()
        assert (rowid, day.year) == (number, 2026)
    db.commit()
    assert len(texts) <= 2


@pytest.mark.parametrize("count", [3, 0])
def test_columns_that_another_connection_renamed_have_their_new_names(
    db: veritydb.Connection, life: Life, count: int
) -> None:
    for _ in range(2):
        assert [name for name, *_ in db.execute(LIMITED, (count,)).description] == ["id", "day"]
    other = life.connect()
    other.execute("ALTER TABLE t RENAME COLUMN day TO since")
    other.commit()
    assert [name for name, *_ in db.execute(LIMITED, (count,)).description] == ["id", "since"]


@pytest.mark.filterwarnings("ignore:The default date converter")
def test_a_column_that_another_connection_made_anew_is_read_by_its_new_type(
    db: veritydb.Connection, life: Life
) -> None:
    sql = "INSERT INTO t (day) VALUES (?) RETURNING day"
    for text in (LIMITED.replace("*", "day"), sql):
        values = db.execute(text, (1,) if text != sql else ("2026-12-01",)).fetchall()
        assert not isinstance(values[0][0], str)
    db.commit()
    other = life.connect()
    other.execute("ALTER TABLE t DROP COLUMN day")
    other.execute("ALTER TABLE t ADD COLUMN day TEXT DEFAULT '2026-01-01'")
    other.commit()
    for text in (sql, LIMITED.replace("*", "day")):
        values = db.execute(text, (1,) if text != sql else ("2026-12-01",)).fetchall()
        assert isinstance(values[0][0], str), text
    db.commit()


@pytest.mark.parametrize("sql", ["SELECT day FROM t", "EXPLAIN SELECT day FROM t", "PRAGMA user_version", "SELECT 1; "])
def test_a_new_statement_is_prepared_once_so_the_programs_authorizer_hears_of_it_once(
    db: veritydb.Connection, sql: str
) -> None:
    """As it does with sqlite3."""
    standard = sqlite3.connect(":memory:")
    standard.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, day DATE)")
    heard: dict[str, list[tuple[Any, ...]]] = {}
    for name, connection in (("ours", db), ("standard", standard)):
        calls = heard[name] = []

        def authorize(*words: Any, calls: list[tuple[Any, ...]] = calls) -> int:
            calls.append(words)
            return 0

        connection.set_authorizer(authorize)
        connection.execute(sql).fetchall()
    standard.close()
    assert heard["ours"]
    assert heard["ours"] == heard["standard"]


def test_a_statement_that_is_prepared_already_is_planned_all_the_same(db: veritydb.Connection) -> None:
    """It asks no authorizer; taken at its word it would write past the log."""
    write = "INSERT INTO t (day) VALUES ('2026-12-01')"
    db.execute(write)
    db.commit()
    session = db._session
    assert session is not None
    session.planner.forget()
    offset = db.last_offset
    db.execute(write)
    db.commit()
    assert offset is not None
    assert db.last_offset == offset + 1
