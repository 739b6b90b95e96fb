"""What a program can do from inside: its own callbacks, while SQLite or VerityDB is in the middle of something.

Whatever they do, a transaction is either in the log and in the file, or in neither; and the program sees what it would
see of sqlite3. The fixture ``life`` rebuilds each database from its log.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support import files
from tests.support.life import RAW, Life
from tests.support.twins import See, same

if TYPE_CHECKING:
    from tests.conftest import Count

SCHEMA = """
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, g AS (a || '!'));
CREATE TABLE log(what, a);
CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('new', new.a); END;
CREATE VIRTUAL TABLE words USING fts5(x);
CREATE TABLE parent(id INTEGER PRIMARY KEY);
CREATE TABLE child(p REFERENCES parent ON DELETE CASCADE);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1), (1), (2);
"""


# Handlers that stop what runs


def work(db: veritydb.Connection) -> None:
    """Two transactions, one of them bare, with everything that has to be read before a commit."""
    db.execute("BEGIN")
    db.execute("INSERT INTO t(a) VALUES ('one'), ('two')")
    db.execute("SAVEPOINT s")
    db.execute("INSERT INTO words VALUES ('some words')")
    db.execute("UPDATE t SET a = CAST(x'ff' AS TEXT) WHERE id = 1")
    db.execute("ROLLBACK TO s")
    db.execute("DELETE FROM parent WHERE id = 1")
    db.execute("INSERT INTO words VALUES ('other words')")
    db.execute("COMMIT")
    db.execute("CREATE TABLE made AS SELECT * FROM t")
    db.execute("INSERT INTO t(a) SELECT a FROM t")


@pytest.mark.parametrize("steps", [1, 7])
def test_a_progress_handler_may_stop_any_step(life: Life, steps: int, campaign: bool, count_of: Count) -> None:
    """Also one that VerityDB makes for itself: what was acknowledged is in the log, what failed is in neither."""
    for number in itertools.count(1, 1 if campaign else 23):
        db = life.connect(f"{number}.db", isolation_level=None)
        db.executescript(SCHEMA)
        db.execute("PRAGMA foreign_keys = ON")
        calls = itertools.count(1)
        db.set_progress_handler(lambda calls=calls, at=number: next(calls) >= at, steps)
        why = ""
        try:
            work(db)
        except veritydb.OperationalError as error:
            why = str(error)
        db.set_progress_handler(None, steps)
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("INSERT INTO t(a) VALUES ('after')")
        assert why in ("", "interrupted")
        count_of("steps that a progress handler stopped", bool(why))
        if not why:
            assert next(calls) <= number
            return
        life.close()
        life.check(life.folder / f"{number}.db")
        life.forget(life.folder / f"{number}.db")


def test_an_interrupt_from_another_thread_leaves_all_or_nothing(life: Life) -> None:
    db = life.connect(key=RAW, isolation_level=None, check_same_thread=False)
    db.executescript(SCHEMA)
    over = threading.Event()

    def interrupt() -> None:
        pause = 0.0
        while not over.is_set():
            time.sleep(pause)
            db.interrupt()
            pause = (pause + 0.000_3) % 0.004

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = 0
    try:
        for number in range(150):
            why = "interrupted"
            try:
                with db:
                    db.execute("BEGIN")
                    db.executemany("INSERT INTO t(a) VALUES (?)", [(number,)] * 20)
                done += 1
            except veritydb.OperationalError as error:
                why = str(error)
            assert why == "interrupted"
            if db.in_transaction:
                db.rollback()
    finally:
        over.set()
        thread.join()
    ((found,),) = db.execute("SELECT count(*) FROM t").fetchall()
    assert found == 20 * done


@pytest.mark.parametrize("verdict", ["SQLITE_DENY", "SQLITE_IGNORE"])
def test_an_authorizer_may_say_no_to_anything(tmp_path: Path, verdict: str) -> None:
    """And hears of nothing that VerityDB does by itself; of a statement it may hear twice."""

    def program(module: Any, see: See) -> None:
        for number in range(1, 12):
            db = see.opened(module.connect(see.folder / f"{number}.db", isolation_level=None))
            db.executescript(
                "CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE TABLE u(a); INSERT INTO t VALUES (1, 2)"
            )
            asked: list[Any] = []

            def ask(*question: Any, asked: list[Any] = asked, at: int = number) -> int:
                if question not in asked:
                    asked.append(question)
                return int(getattr(module, verdict) if asked.index(question) + 1 == at else module.SQLITE_OK)

            db.set_authorizer(ask)
            see(lambda db=db: db.execute("INSERT INTO u SELECT a FROM t WHERE id = 1").fetchall())
            see(lambda db=db: db.execute("UPDATE t SET a = a + 1, id = 5").fetchall())
            see(asked)
            db.set_authorizer(None)
            see(lambda db=db: db.execute("SELECT * FROM t").fetchall())
            see(lambda db=db: db.execute("SELECT * FROM u").fetchall())

    same(tmp_path, program)


# Functions that use the connection they are called by

NESTED: dict[str, Callable[[Any], Any]] = {
    "reads": lambda db: db.execute("SELECT count(*) FROM t").fetchone()[0],
    "writes": lambda db: db.execute("INSERT INTO log VALUES ('nested', 1)").rowcount,
    "writes and fails": lambda db: db.execute("INSERT INTO parent VALUES (1)"),
    "commits": lambda db: db.commit(),
    "commits in SQL": lambda db: db.execute("COMMIT"),
    "rolls back": lambda db: db.execute("ROLLBACK"),
    "makes a savepoint": lambda db: db.execute("SAVEPOINT nested"),
    "changes the schema": lambda db: db.execute("CREATE TABLE nested(a)"),
    "writes late": lambda db: db.execute("INSERT INTO t(a) VALUES ('nested')").rowcount,
    "writes words": lambda db: db.execute("INSERT INTO words VALUES ('nested')").rowcount,
}


@pytest.mark.parametrize("level", [None, ""])
@pytest.mark.parametrize("what", NESTED)
def test_a_function_may_use_the_connection_that_calls_it(tmp_path: Path, what: str, level: str | None) -> None:
    def program(module: Any, see: See) -> None:
        db = see.opened(module.connect(see.folder / "nested.db", isolation_level=level))
        db.executescript(SCHEMA)

        def nested(value: Any) -> Any:
            try:
                NESTED[what](db)
            except module.Error as error:
                see(f"{type(error).__name__} {error}")
            return value

        db.create_function("nested", 1, nested)
        for statement in (
            "SELECT nested(id) FROM parent",
            "INSERT INTO log SELECT 'outer', nested(id) FROM parent",
            "UPDATE parent SET id = nested(id) + 10 WHERE id = 2",
            "INSERT INTO parent VALUES (nested(20)), (1)",
            "DELETE FROM child WHERE nested(p) = 1",
        ):
            see(lambda statement=statement: db.execute(statement).fetchall())
            see(db.in_transaction)
            for table in ("t", "log", "parent", "child", "words"):
                see(lambda table=table: db.execute(f"SELECT rowid, * FROM {table}").fetchall())
            if what != "writes words":  # How often FTS writes its index depends on SQLite's version.
                see(db.total_changes)
        see(db.commit)

    same(tmp_path, program)
    with Life(tmp_path / "veritydb") as life:
        life.watch(tmp_path / "veritydb" / "nested.db")


# Commands that virtual tables take

COMMANDS = (
    "INSERT INTO words(words) VALUES ('rebuild')",
    "INSERT INTO words(words) VALUES ('optimize')",
    "INSERT INTO words(words, rank) VALUES ('merge', 16)",
    "INSERT INTO words(words, rank) VALUES ('automerge', 2)",
    "INSERT INTO words(words, rank) VALUES ('crisismerge', 3)",
    "INSERT INTO words(words, rank) VALUES ('pgsz', 64)",
    "INSERT INTO words(words, rank) VALUES ('usermerge', 2)",
    "INSERT INTO words(words, rank) VALUES ('rank', 'bm25(10.0)')",
    "INSERT INTO words(words, rank) VALUES ('secure-delete', 1)",
    "INSERT INTO words(words) VALUES ('flush')",
    "INSERT INTO words(words) VALUES ('integrity-check')",
    "INSERT INTO words(words) VALUES ('nonsense')",
    "INSERT INTO old(old) VALUES ('rebuild')",
    "INSERT INTO old(old) VALUES ('optimize')",
    "INSERT INTO old(old) VALUES ('merge=4,2')",
    "INSERT INTO old(old) VALUES ('automerge=2')",
    "INSERT INTO old(old) VALUES ('integrity-check')",
    "SELECT optimize(old) FROM old LIMIT 1",
    "INSERT INTO empty(empty, rowid, x) VALUES ('delete', 7, 'text 7 ')",
    "INSERT INTO empty(empty) VALUES ('delete-all')",
    "DELETE FROM words WHERE rowid % 3 = 0",
    "UPDATE words SET x = x || ' more'",
    "UPDATE OR REPLACE words SET rowid = rowid + 1",
    "DELETE FROM old",
    "DELETE FROM words",
)


WAYS = ("bare", "one transaction", "undone and done again")


@pytest.mark.parametrize("way", WAYS)
def test_every_command_of_the_text_indexes_is_logged(life: Life, way: str) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE VIRTUAL TABLE words USING fts5(x, prefix='1 2')")
    db.execute("CREATE VIRTUAL TABLE old USING fts4(x)")
    db.execute("CREATE VIRTUAL TABLE empty USING fts5(x, content='')")
    db.execute("CREATE VIRTUAL TABLE gone USING fts5(x, content='', contentless_delete=1)")
    rows = [(number, f"text {number} " + "word " * (number % 7)) for number in range(60)]
    for table in ("words", "old", "empty", "gone"):
        db.executemany(f"INSERT INTO {table}(rowid, x) VALUES (?, ?)", rows)
    refused, failed = set[str](), set[str]()
    if way != "bare":
        db.execute("BEGIN")
    for command in (*COMMANDS, "DELETE FROM gone WHERE rowid < 20"):
        for step in ("SAVEPOINT s", command, "ROLLBACK TO s", command, "RELEASE s") if way == WAYS[2] else (command,):
            try:
                db.execute(step).fetchall()
            except veritydb.StatementRefused:
                refused.add(command)
            except veritydb.OperationalError:
                failed.add(command)
    if way != "bare":
        db.execute("COMMIT")
    assert not refused
    assert failed == {"INSERT INTO words(words) VALUES ('nonsense')"}


# Names and values at their limits


def test_names_of_every_kind_are_logged(life: Life) -> None:
    db = life.connect(isolation_level=None)
    names = [
        "a b",
        'qu"ote',
        "qu'ote",
        "[x]",
        "`",
        "ü€😀",
        "select",
        "x" * 5_000,
        ";",
        "--",
        "/*",
        "\t",
        "%s",
        "{}",
        "?",
        "0",
    ]
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        db.execute(f"CREATE TABLE {quoted}({quoted} PRIMARY KEY, g AS ({quoted})) WITHOUT ROWID")
        db.execute(f"INSERT INTO {quoted} VALUES (1), (CAST(x'ff' AS TEXT))")
        db.execute(f'CREATE INDEX {quoted[:-1]}i" ON {quoted}(lower({quoted})) WHERE {quoted} IS NOT 5')
        db.execute(f"UPDATE {quoted} SET {quoted} = {quoted} || 'x'")
        with db:
            db.execute("BEGIN")
            db.execute(f"ALTER TABLE {quoted} RENAME COLUMN {quoted} TO renamed")
            db.execute(f"DELETE FROM {quoted} WHERE renamed = '1x'")


def test_the_largest_and_smallest_of_everything_is_logged(life: Life) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    values = [2**63 - 1, -(2**63), 5e-324, 1.7976931348623157e308, float("inf"), -float("inf"), float("nan"), -0.0]
    values += ["", "\0", "a\0b\0", "\U0010ffff", "\ufffd", "\ufeff", b"", bytes(3_000_000), "x" * 3_000_000]
    for rowid, value in zip([2**63 - 1, -(2**63), 0, *range(1, 99)], values, strict=False):
        db.execute("INSERT INTO t VALUES (?, ?)", (rowid, value))
    db.execute("UPDATE t SET v = v WHERE v IS NOT NULL")
    db.execute("UPDATE t SET id = -id WHERE id > 0 AND id < 50")
    assert files.chain_is_whole(life.folder / "life.db")
