"""A connection as an object, side by side with ``sqlite3``: closing, threads, copies, the file; and what is our own."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import warnings
from copy import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.life import Life
from tests.support.twins import See, same, table

# Closing, threads, copies ---------------------------------------------------------------------------------------------


def test_what_is_closed_or_never_initialised_says_so(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = db.connect(":memory:")
        cursor = con.execute("SELECT 1 UNION SELECT 2")
        other = con.cursor()
        other.close()
        see(other.fetchone)
        see(lambda: other.execute("SELECT 1"))
        see(other.close)
        con.close()
        con.close()
        for use in (
            cursor.fetchone,
            cursor.fetchall,
            lambda: next(cursor),
            lambda: cursor.execute("SELECT 1"),
            lambda: cursor.executemany("SELECT 1", []),
            lambda: cursor.executescript("SELECT 1"),
            con.commit,
            con.rollback,
            con.cursor,
            con.interrupt,
            con.iterdump,
            con.__enter__,
            lambda: con("SELECT 1"),
            lambda: con.total_changes,
            lambda: con.in_transaction,
            lambda: con.set_trace_callback(None),
            lambda: con.create_function("f", 0, None),
        ):
            see(use)
        lame = type("Lame", (db.Connection,), {"__init__": lambda self, *_: None})(":memory:")
        for use in (lame.cursor, lame.close, lambda: lame.isolation_level, lambda: lame.nothing):
            see(use)
        con = see.opened(db.connect(":memory:"))
        lame = type("LameCursor", (db.Cursor,), {"__init__": lambda self, *_: None})(con)
        for use in (lame.fetchone, lame.close, lambda: lame.execute("SELECT 1"), lame.fetchall):
            see(use)

    same(tmp_path, program)


def test_another_thread_is_refused_unless_it_was_allowed(tmp_path: Path) -> None:
    def elsewhere(use: Any) -> Any:
        found: list[Any] = []

        def run() -> None:
            try:
                found.append(use())
            except Exception as error:
                found.append(f"{type(error).__name__}: {str(error).split('thread id')[0]}")

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return found[0]

    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.execute("SELECT 1 UNION SELECT 2")
        for use in (
            con.cursor,
            con.commit,
            con.close,
            cursor.fetchone,
            cursor.fetchall,
            cursor.close,
            lambda: next(cursor),
            lambda: cursor.execute("SELECT 1"),
            lambda: con.execute("SELECT 1"),
        ):
            see(elsewhere(use))
        free = see.opened(db.connect(":memory:", check_same_thread=False))
        cursor = free.execute("SELECT 1 UNION SELECT 2")
        see(elsewhere(cursor.fetchone))
        see(elsewhere(lambda: free.execute("SELECT 3").fetchall()))

    same(tmp_path, program)


def test_a_cursor_cannot_be_used_inside_its_own_work(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see, detect_types=db.PARSE_COLNAMES)
        cursor = con.cursor()
        uses = [lambda: cursor.execute("SELECT 2"), cursor.fetchone, cursor.close, lambda: cursor.__init__(con)]
        for use in uses:
            db.register_converter("again", lambda data, use=use: use())
            cursor.execute('SELECT 1 AS "a [again]" UNION ALL SELECT 2')
            see(cursor.fetchone)
        del db.converters["AGAIN"]
        see(lambda: cursor.executemany("INSERT INTO t(name) VALUES (?)", (cursor.fetchone() for _ in range(2))))
        con.create_function("again", 0, lambda: cursor.execute("SELECT 3") and 1)
        see(lambda: cursor.execute("SELECT again()"))

    same(tmp_path, program)


def test_nothing_is_pickled_or_copied(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.row_factory = db.Row
        cursor = con.execute("SELECT 1 AS a")
        for thing in (con, cursor, cursor.fetchone()):
            see(lambda thing=thing: pickle.dumps(thing))
            see(lambda thing=thing: copy(thing))
            see(hasattr(thing, "__dict__"))

    same(tmp_path, program)


def test_read_only_attributes_stay_as_they_are() -> None:
    con = veritydb.connect(":memory:")
    cursor = con.cursor()
    for thing, name in (
        (cursor, "description"),
        (cursor, "lastrowid"),
        (cursor, "rowcount"),
        (cursor, "connection"),
        (con, "in_transaction"),
        (con, "total_changes"),
        (con, "last_offset"),
    ):
        with pytest.raises(AttributeError):
            setattr(thing, name, 1)
    con.close()


def test_a_connection_that_is_dropped_open_is_closed_with_a_warning() -> None:
    con: Any = veritydb.connect(":memory:")
    with pytest.warns(ResourceWarning, match="unclosed database in <veritydb.Connection object at 0x"):
        del con
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        con = veritydb.connect(":memory:")
        con.close()
        del con


def test_a_connection_can_be_initialised_again(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.execute("SELECT id FROM t")
        see(cursor.fetchone())
        con.__init__(":memory:")
        see(cursor.fetchall())
        see(lambda: con.execute("SELECT * FROM t"))
        see(cursor.execute("SELECT 5").fetchall())

    same(tmp_path, program)


def test_factories_make_connections_cursors_and_rows(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        class Mine(db.Connection):
            def cursor(self, *arguments: Any) -> Any:
                see("cursor() was asked")
                return super().cursor(*arguments)

        con = table(db, see, factory=Mine)
        see(type(con).__name__)
        con.execute("SELECT 1")
        con.row_factory = lambda cursor, row: dict(zip([c[0] for c in cursor.description], row, strict=True))
        see(con.execute("SELECT id, name FROM t").fetchall())
        see(con.execute("SELECT id FROM t").fetchone())
        see(next(con.execute("SELECT id FROM t")))
        cursor = con.cursor()
        cursor.row_factory = None
        see(cursor.execute("SELECT id FROM t").fetchmany(2))

    same(tmp_path, program)


# The file -------------------------------------------------------------------------------------------------------------


def test_dumps_are_the_same_text(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(see.folder / "x.db"))
        con.executescript(
            """
            CREATE TABLE "odd ""name"(id INTEGER PRIMARY KEY AUTOINCREMENT, "a'b" TEXT, data BLOB);
            INSERT INTO "odd ""name"("a'b", data) VALUES ('it''s', x'00ff'), (NULL, 1.5);
            CREATE INDEX i ON "odd ""name"(data);
            CREATE VIEW v AS SELECT 1;
            CREATE TRIGGER g AFTER DELETE ON "odd ""name" BEGIN SELECT 1; END;
            CREATE TABLE plain(x);
            """
        )
        see(list(con.iterdump()))

    seen = same(tmp_path, program)
    assert "_veritydb" not in seen[0]


def test_limits_and_settings_are_sqlites(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        before = con.getlimit(db.SQLITE_LIMIT_SQL_LENGTH)
        see(con.setlimit(db.SQLITE_LIMIT_SQL_LENGTH, 200) == before)
        see(con.getlimit(db.SQLITE_LIMIT_SQL_LENGTH))
        see(lambda: con.execute("SELECT 1".ljust(201)))
        see(lambda: con.executescript("SELECT 1".ljust(201)))
        con.setlimit(db.SQLITE_LIMIT_SQL_LENGTH, before)
        if sys.version_info >= (3, 12):
            op = db.SQLITE_DBCONFIG_ENABLE_FKEY
            see(con.getconfig(op))
            con.setconfig(op, True)
            see(con.getconfig(op))
            see(con.execute("PRAGMA foreign_keys").fetchall())
            see(lambda: con.getconfig(1))

    same(tmp_path, program)


def test_settings_that_bypass_the_log_are_refused() -> None:
    con = veritydb.connect(":memory:")
    for op in (veritydb.SQLITE_DBCONFIG_WRITABLE_SCHEMA, veritydb.SQLITE_DBCONFIG_RESET_DATABASE):
        with pytest.raises(veritydb.NotSupportedError):
            con.setconfig(op)
        con.setconfig(op, False)
    with pytest.raises(veritydb.NotSupportedError):
        con.enable_load_extension(True)
    con.enable_load_extension(False)
    con.close()


def test_a_database_is_copied_into_memory_and_into_standard_connections(tmp_path: Path) -> None:
    import sqlite3

    con = veritydb.connect(tmp_path / "x.db", key=bytes(32))
    con.execute("CREATE TABLE t(a)")
    con.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(1000)])
    con.commit()
    memory = veritydb.connect(":memory:")
    memory.execute("CREATE TABLE gone(a)")
    con.backup(memory)
    assert memory.execute("SELECT sum(a) FROM t").fetchone() == (499500,)
    memory.execute("INSERT INTO t VALUES (1)")
    memory.commit()
    offset = memory.last_offset
    assert offset is not None
    assert offset >= 2
    standard = sqlite3.connect(tmp_path / "standard.db")
    con.backup(standard)
    assert standard.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    standard.close()
    image = con.serialize()
    assert image.startswith(b"SQLite format 3\0")
    memory.deserialize(memory.serialize())
    assert memory.execute("SELECT count(*) FROM t").fetchone() == (1001,)
    with pytest.raises(veritydb.NotSupportedError, match="through its log only"):
        con.deserialize(image)
    with pytest.raises(veritydb.NotSupportedError, match="through its log only"):
        memory.backup(con)
    assert con.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    memory.close()
    con.close()


def test_more_connections_are_open_at_once_than_apsw_has_slots(tmp_path: Path) -> None:
    connections = [veritydb.connect(tmp_path / "x.db") for _ in range(40)]
    connections[0].execute("CREATE TABLE t(a)")
    assert [con.execute("SELECT count(*) FROM t").fetchone() for con in connections] == [(0,)] * 40
    for con in connections:
        con.close()


# What VerityDB adds ---------------------------------------------------------------------------------------------------


def test_transactions_carry_actor_and_reason_and_tell_their_offset(tmp_path: Path) -> None:
    con = veritydb.connect(tmp_path / "x.db", actor="dr.lee")
    assert con.last_offset is None
    con.execute("CREATE TABLE t(a)")
    assert con.last_offset == 0
    with con.reason("first visit"), con:
        con.execute("INSERT INTO t VALUES (1)")
    assert con.last_offset == 1
    con.actor = "dr.who"
    assert con.actor == "dr.who"
    with con:
        con.execute("INSERT INTO t VALUES (2)")
    from veritydb.records import Reader
    from veritydb.sealing import Opener
    from veritydb.streams import log_folder, open_log

    log, keyring = open_log(log_folder(tmp_path / "x.db"))
    told = [(each.offset, each.actor, each.reason) for each in Reader(log, Opener(keyring)).transactions()]
    assert told == [(0, "dr.lee", ""), (1, "dr.lee", "first visit"), (2, "dr.who", "")]
    log.close()
    con.close()


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("timeout", "5", TypeError("timeout must be a real number, not str")),
        ("timeout", None, TypeError("timeout must be a real number, not NoneType")),
        ("timeout", float("nan"), ValueError("timeout must be a number of seconds, not nan")),
        ("actor", 7, veritydb.ProgrammingError("actor must be str, not int")),
        ("actor", "x" * 10_001, veritydb.ProgrammingError("actor has 10,001 characters; 10,000 is the limit")),
    ],
)
def test_an_option_that_cannot_be_is_named_and_nothing_is_made(
    tmp_path: Path, option: str, value: Any, error: Exception
) -> None:
    with pytest.raises(type(error), match=f"^{error}$"):
        veritydb.connect(tmp_path / "clinic.db", **{option: value})
    assert not list(tmp_path.glob("*.db"))


@pytest.mark.parametrize("seconds", [0, -1, True, Decimal(3), 1e300, float("inf")])
def test_any_number_is_a_timeout(life: Life, seconds: Any) -> None:
    life.connect(timeout=seconds).execute("CREATE TABLE t(a)")


def test_installed_it_is_what_import_sqlite3_finds() -> None:
    import sqlite3 as standard

    with veritydb.install():
        import sqlite3
        import sqlite3.dbapi2 as dbapi2

        assert sqlite3 is not standard
        assert sqlite3.Connection is veritydb.Connection
        assert sqlite3.dbapi2 is dbapi2
        assert dbapi2.connect is veritydb.connect
        con = sqlite3.connect(":memory:")
        assert con.execute("SELECT 1").fetchall() == [(1,)]
        con.close()
    import sqlite3 as after

    assert after is standard


def test_a_script_runs_unchanged(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sqlite3, sys, helper\n"
        "con = sqlite3.connect(sys.argv[1])\n"
        "con.execute('CREATE TABLE t(a)')\n"
        "with con: con.execute('INSERT INTO t VALUES (1)')\n"
        "print(type(con).__module__, sys.argv[1:], __name__, helper.x, con.last_offset)\n"
        "con.close()\n"
        "sys.exit(3)\n"
    )
    (tmp_path / "helper.py").write_text("x = 5\n")
    command = [sys.executable, "-m", "veritydb", "run", str(script), str(tmp_path / "x.db"), "--option"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"veritydb ['{tmp_path / 'x.db'}', '--option'] __main__ 5 1\n"
    assert done.returncode == 3
    assert (tmp_path / "x.db-log").is_dir()
    none = [sys.executable, "-m", "veritydb", "run", str(tmp_path / "none.py")]
    done = subprocess.run(none, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no" in done.stderr
