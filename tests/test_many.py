"""``executemany`` over a generator that uses the connection itself does what it does in sqlite3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.life import Life
from tests.support.twins import See, same

SCHEMA = """
CREATE TABLE t(a UNIQUE, b);
CREATE TABLE u(a);
CREATE TABLE traced(a);
CREATE TABLE log(a);
CREATE TRIGGER tr AFTER INSERT ON traced BEGIN INSERT INTO log VALUES (new.a), (new.a + 10); END;
"""

INSERT = "INSERT INTO t(a) VALUES (?)"
DISTURBANCES: dict[str, Callable[[Any], Any]] = {
    "commit": lambda db: db.commit(),
    "rollback": lambda db: db.rollback(),
    "commit in SQL": lambda db: db.execute("COMMIT"),
    "rollback in SQL": lambda db: db.execute("ROLLBACK"),
    "another insert": lambda db: db.execute("INSERT INTO u VALUES (1)"),
    "an update of the same rows": lambda db: db.execute("UPDATE t SET b = coalesce(b, 0) + 1"),
    "another many": lambda db: db.executemany("INSERT INTO u VALUES (?)", iter([(1,), (2,)])),
    "commit and a new transaction": lambda db: (db.commit(), db.execute("INSERT INTO u VALUES (3)")),
    "savepoint": lambda db: db.execute("SAVEPOINT s"),
    "savepoint undone": lambda db: (db.execute("SAVEPOINT s"), db.execute("INSERT INTO u VALUES (5)"),
                                    db.execute("ROLLBACK TO s")),
    "rows taken away": lambda db: db.execute("DELETE FROM t"),
    "schema": lambda db: db.execute("CREATE TABLE made(a)"),
    "a column more": lambda db: db.execute("ALTER TABLE t ADD COLUMN c DEFAULT 7"),
    "script": lambda db: db.executescript("INSERT INTO u VALUES (7); INSERT INTO u VALUES (8)"),
    "pragma": lambda db: db.execute("PRAGMA user_version = 3"),
    "a query": lambda db: db.execute("SELECT count(*) FROM t").fetchall(),
    "another isolation level": lambda db: setattr(db, "isolation_level", None),
}  # fmt: skip


def looked_at(see: See, db: Any) -> None:
    """See all that there is."""
    for table in ("t", "u", "traced", "log"):
        see(lambda table=table: db.execute(f"SELECT rowid, * FROM {table}").fetchall())
    see(db.in_transaction)
    see(db.total_changes)
    see(lambda: db.execute("SELECT changes(), total_changes(), last_insert_rowid()").fetchall())
    db.rollback()
    see(lambda: db.execute("SELECT count(*) FROM t").fetchall())


@pytest.mark.parametrize("level", ["", None, "IMMEDIATE"])
@pytest.mark.parametrize("disturbance", DISTURBANCES)
def test_a_generator_may_use_the_connection(disturbance: str, level: str | None, tmp_path: Path) -> None:
    disturb = DISTURBANCES[disturbance]

    def program(module: Any, see: See) -> None:
        db = see.opened(module.connect(see.folder / "many.db", isolation_level=level))
        db.executescript(SCHEMA)

        for statement in (INSERT, "INSERT INTO traced VALUES (?)", "INSERT OR IGNORE INTO t(a) VALUES (?)"):

            def sets() -> Iterator[tuple[int]]:
                for number in range(7):
                    if number in (2, 5):
                        see(lambda: type(disturb(db)).__name__)
                        see(db.in_transaction)
                    yield (number,)

            cursor = db.cursor()
            see(lambda cursor=cursor, statement=statement, sets=sets: cursor.executemany(statement, sets()).rowcount)
            see(cursor.rowcount)
            looked_at(see, db)

    same(tmp_path, program)


def test_what_such_a_generator_does_is_logged(life: Life) -> None:
    db = life.connect()
    db.executescript(SCHEMA)

    def sets() -> Iterator[tuple[int]]:
        for number in range(40):
            if number % 7 == 6:
                db.commit()
            if number % 11 == 10:
                db.execute("INSERT INTO u VALUES (?)", (number,))
            if number == 25:
                db.rollback()
            yield (number,)

    db.executemany(INSERT, sets())
    db.commit()


def test_a_set_that_fails_after_a_disturbance_leaves_the_others(tmp_path: Path) -> None:
    def program(module: Any, see: See) -> None:
        db = see.opened(module.connect(see.folder / "many.db"))
        db.executescript(SCHEMA)

        def sets() -> Iterator[tuple[int]]:
            yield (1,)
            db.commit()
            yield (2,)
            db.execute("INSERT INTO u VALUES (1)")
            yield (3,)
            yield (1,)
            yield (4,)

        see(lambda: db.executemany(INSERT, sets()))
        looked_at(see, db)

    same(tmp_path, program)


@pytest.mark.parametrize("sets", [[], (), iter(())])
def test_no_sets_at_all_begin_a_transaction_all_the_same(sets: Any, tmp_path: Path) -> None:
    def program(module: Any, see: See) -> None:
        db = see.opened(module.connect(see.folder / "many.db"))
        db.executescript(SCHEMA)
        for _ in range(2):
            see(lambda: db.executemany(INSERT, sets).rowcount)
            see(db.in_transaction)
            db.rollback()
        see(lambda: db.executemany("INSERT INTO nowhere VALUES (?)", sets))
        see(lambda: db.executemany("SELECT ?", sets))

    same(tmp_path, program)


def test_the_transaction_is_there_before_the_first_set_is_asked_for(tmp_path: Path) -> None:
    def program(module: Any, see: See) -> None:
        db = see.opened(module.connect(see.folder / "many.db"))
        db.executescript(SCHEMA)

        def sets() -> Iterator[tuple[int]]:
            see(db.in_transaction)
            yield (1,)

        see(lambda: db.executemany(INSERT, sets()).rowcount)
        see(lambda: db.executemany("INSERT INTO nowhere VALUES (?)", sets()))

    same(tmp_path, program)


def test_temporary_rows_wait_for_nobodys_lock(life: Life) -> None:
    writer = life.connect(isolation_level=None, timeout=0)
    writer.execute("CREATE TABLE t(a)")
    other = life.connect(timeout=0)
    other.execute("CREATE TEMP TABLE mine(a)")
    writer.execute("BEGIN IMMEDIATE")
    assert other.executemany("INSERT INTO mine VALUES (?)", [(1,), (2,)]).rowcount == 2
    assert other.in_transaction
    with pytest.raises(veritydb.OperationalError, match="locked"):
        other.executemany("INSERT INTO t VALUES (?)", [(1,)])
    writer.execute("ROLLBACK")
    other.executemany("INSERT INTO t VALUES (?)", [(1,)])
    other.commit()


def test_what_another_connection_has_done_to_the_schema_is_known(tmp_path: Path) -> None:
    """A trigger that has come in between changes rows of its own, which are not the statement's."""

    def program(module: Any, see: See) -> None:
        path = see.folder / "many.db"
        one, other = (see.opened(module.connect(path, isolation_level=level)) for level in ("", None))
        one.executescript(SCHEMA)
        see(lambda: one.executemany("INSERT INTO u VALUES (?)", [(1,), (2,)]).rowcount)
        one.commit()
        other.execute("CREATE TRIGGER tu AFTER INSERT ON u BEGIN INSERT INTO log VALUES (1), (2), (3); END")
        see(lambda: one.executemany("INSERT INTO u VALUES (?)", [(3,), (4,)]).rowcount)
        see(lambda: one.execute("INSERT INTO u VALUES (5)").rowcount)
        looked_at(see, one)

    same(tmp_path, program)
