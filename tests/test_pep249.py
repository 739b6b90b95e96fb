"""PEP 249 and what ``sqlite3`` adds to it, side by side: each program runs on the standard module and on VerityDB.

Results, types, error classes, error codes and messages have to be equal. What is meant to differ is in
``docs/reference/differences.md``.
"""

from __future__ import annotations

import gc
import sys
from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.twins import See, same, table
from veritydb import adaptation

# The module ---------------------------------------------------------------------------------------------------------


def test_every_public_name_of_the_standard_module_is_there() -> None:
    import sqlite3

    modules = {"collections", "datetime", "time"}  # It imports them; they are not its own.
    missing = {name for name in vars(sqlite3) if not name.startswith("_") and not hasattr(veritydb, name)} - modules
    assert missing == set()
    assert {name for name in vars(sqlite3.dbapi2) if not name.startswith("_")} - set(dir(veritydb.dbapi2)) <= {
        *modules,
        "version",
        "version_info",
    }


def test_constants_have_the_values_of_the_standard_module_and_of_sqlite() -> None:
    import sqlite3

    import apsw

    for name in veritydb.constants.__all__:
        value = getattr(veritydb, name)
        assert value == getattr(sqlite3, name, value)
        assert value == getattr(apsw, name, value)


def test_what_is_named_in_all_exists_and_says_that_it_is_veritydbs() -> None:
    for name in veritydb.__all__:
        assert hasattr(veritydb, name)
    for name in ("Connection", "Cursor", "Row", "Blob", "connect", "PrepareProtocol"):
        assert getattr(veritydb, name).__module__ == "veritydb"


def test_the_module_speaks_of_itself_as_sqlite3_does(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        see([db.apilevel, db.paramstyle, db.version, db.version_info])
        see([db.Date, db.Time, db.Timestamp, db.Binary])
        see(db.DateFromTicks(86400 * 365))
        see(lambda: db.complete_statement("SELECT 1"))
        see(lambda: db.complete_statement("SELECT 1;"))
        see([cls.__mro__[1].__name__ for cls in (db.DataError, db.DatabaseError, db.InterfaceError)])

    same(tmp_path, program)


def test_errors_are_also_the_standard_modules() -> None:
    import sqlite3

    for name in ("Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError"):
        assert issubclass(getattr(veritydb, name), getattr(sqlite3, name))
    con = veritydb.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError):
        con.execute("nonsense")
    con.close()


# Statements and rows --------------------------------------------------------------------------------------------------


def test_rows_come_with_the_same_values_and_types(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        see(con.execute("SELECT * FROM t ORDER BY id").fetchall())
        cursor = con.execute("SELECT * FROM t ORDER BY id")
        see([cursor.fetchone(), cursor.fetchmany(1), cursor.fetchmany(), list(cursor), cursor.fetchone()])
        see([next(con.execute("SELECT 1"), None), next(con.execute("SELECT 1 WHERE 0"), None)])
        cursor = con.execute("SELECT id FROM t")
        see([iter(cursor) is cursor, list(cursor), cursor.fetchall()])
        see(con.execute("SELECT 9223372036854775807, -9223372036854775808, 1e400, -1e400, 0.1").fetchall())

    same(tmp_path, program)


@pytest.mark.parametrize("size", [None, 0, 1, 2, 3, 4, -1])
def test_fetchmany_counts_as_sqlite3_counts(tmp_path: Path, size: int | None) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.execute("SELECT id FROM t")
        cursor.arraysize = 2
        for _ in range(4):
            see(cursor.fetchmany() if size is None else cursor.fetchmany(size))
        see(lambda: cursor.fetchmany("two"))

    same(tmp_path, program)


def test_cursors_describe_their_results(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.cursor()
        see([cursor.description, cursor.lastrowid, cursor.rowcount, cursor.arraysize])
        for sql in (
            "SELECT id, name AS n, 1 + 1 FROM t",
            "SELECT * FROM t WHERE 0",
            "INSERT INTO t(name) VALUES ('z')",
            "UPDATE t SET real = 0",
            "DELETE FROM t WHERE id > 2",
            "INSERT INTO t(name) VALUES ('r'), ('s') RETURNING id, name",
            "PRAGMA user_version",
            "CREATE TABLE u(a)",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "REPLACE INTO t(id, name) VALUES (1, 'again')",
            "EXPLAIN QUERY PLAN SELECT 1",
            "",
            "-- nothing",
        ):
            cursor.execute(sql)
            see([sql, cursor.rowcount, cursor.lastrowid, cursor.description and [c[0] for c in cursor.description]])
            cursor.fetchall()
            see([sql, cursor.rowcount, cursor.lastrowid])

    same(tmp_path, program)


def test_descriptions_follow_a_schema_that_another_connection_changes(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        one = see.opened(db.connect(see.folder / "x.db"))
        other = see.opened(db.connect(see.folder / "x.db"))
        one.execute("CREATE TABLE t(x)")
        one.execute("INSERT INTO t VALUES (1)")
        one.commit()
        for change in ("SELECT 1", "ALTER TABLE t ADD COLUMN y DEFAULT 5", "ALTER TABLE t RENAME COLUMN y TO z"):
            other.execute(change).fetchall()
            for sql in ("SELECT * FROM t", "SELECT * FROM t WHERE 0"):
                cursor = one.execute(sql)
                see([cursor.description, cursor.fetchall()])

    same(tmp_path, program)


def test_executemany_takes_lists_iterators_and_mappings(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.cursor()
        insert = "INSERT INTO t(name) VALUES (?)"
        see(cursor.executemany(insert, [("b",), ["c"]]).rowcount)
        see(cursor.executemany(insert, ((str(n),) for n in range(5))).rowcount)
        see(cursor.executemany("INSERT INTO t(name) VALUES (:n)", [{"n": "x"}, {"n": "y"}]).rowcount)
        see(cursor.executemany(insert, []).rowcount)
        see(cursor.executemany("UPDATE t SET real = ? WHERE id < ?", [(1, 3), (2, 4)]).rowcount)
        see([cursor.lastrowid, cursor.description, con.in_transaction, con.total_changes])
        see(lambda: cursor.executemany("SELECT ?", [(1,)]))
        see(lambda: cursor.executemany(insert, 5))
        see(lambda: cursor.executemany(insert, [5]))
        see(lambda: cursor.executemany(insert, [("p",), ("q", "r")]))
        see(lambda: cursor.executemany(insert, [("same",), ("same",)]))
        see(cursor.rowcount)
        see(con.execute("SELECT name FROM t").fetchall())

        def breaking() -> Any:
            yield ("before",)
            raise LookupError("the program's own")

        see(lambda: cursor.executemany(insert, breaking()))
        see(con.execute("SELECT count(*) FROM t WHERE name = 'before'").fetchall())

    same(tmp_path, program)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", 5),
        ("SELECT ?", None),
        ("SELECT ?", {1}),
        ("SELECT ?", (1, 2)),
        ("SELECT ?", ()),
        ("SELECT ?", "x"),
        ("SELECT ?", "xy"),
        ("SELECT ?", {"a": 1}),
        ("SELECT :a", {"b": 1}),
        ("SELECT :a, @b, $c", {"a": 1, "b": 2, "c": 3, "unused": object()}),
        ("SELECT ?2, ?1", (1, 2)),
        ("SELECT ?3", (1,)),
        ("SELECT ?", (object(),)),
        ("SELECT :a, :b", {"a": 1, "b": object()}),
        ("SELECT ?", (2**63,)),
        ("SELECT ?", (-(2**63),)),
        ("SELECT ?", (True,)),
        ("SELECT ?", (float("nan"),)),
        ("SELECT ?", (float("inf"),)),
        ("SELECT ?", ("\ud800",)),
        ("SELECT ?", (bytearray(b"ab"),)),
        ("SELECT ?", (memoryview(b"ab"),)),
        ("SELECT ?", (memoryview(b"abcd")[::2],)),
        ("SELECT ?", (Decimal("1.5"),)),
        ("SELECT ?", (1j,)),
        ("SELECT 1; SELECT 2", ()),
        ("SELECT 1;", ()),
        (";SELECT 1", ()),
        ("SELECT 1 /* open", ()),
        ("SELECT", ()),
        ("SELECT 1\0", ()),
        ("SELECT '\ud800'", ()),
        ("SELECT * FROM nowhere", ()),
        ("SELECT nothing", ()),
        ("INSERT INTO t(name) VALUES ('a')", ()),
        ("INSERT INTO t(id) VALUES ('a')", ()),
        ("CREATE TABLE t(a)", ()),
        ("COMMIT", ()),
        ("ROLLBACK", ()),
        ("RELEASE nothing", ()),
    ],
)
def test_parameters_and_mistakes_give_the_same_answer(tmp_path: Path, sql: str, parameters: Any) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.cursor()
        see(lambda: cursor.execute(sql, parameters).fetchall())
        see([cursor.rowcount, cursor.description is None, con.in_transaction])

    same(tmp_path, program)


def test_arguments_of_wrong_types_are_refused_in_the_same_words(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        cursor = con.cursor()
        see(lambda: con.execute(5))
        see(lambda: cursor.execute([]))
        see(lambda: cursor.executemany(5, []))
        see(lambda: cursor.executescript(b"SELECT 1"))
        see(lambda: cursor.executescript("SELECT 1\0"))
        see(lambda: con(b"SELECT 1"))
        see(lambda: con.cursor("x"))
        see(lambda: con.cursor(lambda _: 3))
        see(lambda: db.Cursor(4))
        see(lambda: db.connect(5))
        see(lambda: db.connect(":memory:", isolation_level=5))
        see(lambda: db.connect(":memory:", isolation_level="LATER"))
        see(lambda: db.Row(1, ()))
        see(lambda: db.Row(cursor, []))
        see(lambda: con.create_collation("x", 5))
        see(lambda: con.create_collation(None, None))
        see(lambda: con.create_function("f", -100, len))
        see(lambda: con.create_aggregate("f", -100, len))
        see(lambda: con.getlimit(99))
        see(lambda: con.setlimit(-1, 5))
        see(lambda: con.backup(con))
        see(lambda: con.serialize(name="nowhere"))

    same(tmp_path, program)


def test_values_are_adapted_by_registry_and_by_conform(tmp_path: Path) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    class Conforming:
        def __conform__(self, protocol: Any) -> Any:
            return "conformed" if protocol.__name__ == "PrepareProtocol" else None

    class Colour(IntEnum):
        RED = 7

    class Text(str):
        __slots__ = ()

    def program(db: Any, see: See) -> None:
        db.register_adapter(Point, lambda point: f"P{point.x}")
        con = table(db, see)
        for value in (
            Point(1),
            Conforming(),
            Colour.RED,
            Text("t"),
            date(2020, 2, 3),
            datetime(2020, 2, 3, 4, 5, 6, 7),
        ):
            see(con.execute("SELECT ?, typeof(?1)", (value,)).fetchall())
            see(con.execute("SELECT :v", {"v": value}).fetchall())
        con.executemany("INSERT INTO t(name) VALUES (?)", [(Point(n),) for n in range(3)])
        see(con.execute("SELECT name FROM t").fetchall())
        see(lambda: db.adapt(Point(2)))
        see(lambda: db.adapt(1.0))
        see(lambda: db.adapt(1.0, None, "other"))
        del db.adapters[Point, db.PrepareProtocol]
        see(lambda: con.execute("SELECT ?", (Point(1),)))

    same(tmp_path, program)


def test_an_adapter_for_a_basic_type_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_stored", "_all_stored"):  # They change for the rest of the process.
        monkeypatch.setattr(adaptation, name, getattr(adaptation, name))

    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:"))
        db.register_adapter(bool, lambda value: "yes" if value else "no")
        try:
            see(con.execute("SELECT ?, ?", (True, 1)).fetchall())
            con.execute("CREATE TABLE t(a)")
            con.executemany("INSERT INTO t VALUES (?)", [(True,), (False,)])
            see(con.execute("SELECT a FROM t").fetchall())
        finally:
            del db.adapters[bool, db.PrepareProtocol]
        see(con.execute("SELECT ?", (True,)).fetchall())

    same(tmp_path, program)


def test_types_are_converted_by_declaration_and_by_name(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        db.register_converter("point", lambda data: ("point", data))
        for detect in (0, db.PARSE_DECLTYPES, db.PARSE_COLNAMES, db.PARSE_DECLTYPES | db.PARSE_COLNAMES):
            con = see.opened(db.connect(":memory:", detect_types=detect))
            con.execute("CREATE TABLE c(p point, q point(5), d date, s timestamp, f FLOAT)")
            con.execute("INSERT INTO c VALUES ('1;2', 17, '2020-02-03', '2020-02-03 04:05:06.5', 0.25)")
            con.execute("INSERT INTO c VALUES (NULL, x'', NULL, NULL, NULL)")
            for sql in (
                "SELECT * FROM c",
                'SELECT p AS "p [point]", d AS "d [date]", f AS "f [point]", 1 AS "x [none]" FROM c',
                'SELECT p AS "[point]", p || p AS "bare[point]" FROM c',
            ):
                cursor = con.execute(sql)
                see([cursor.description, cursor.fetchall()])
                see([tuple(row) for row in con.execute(sql)])
            see(con.execute("SELECT p FROM c").fetchone())
        del db.converters["POINT"]

    same(tmp_path, program)


def test_text_that_is_no_utf8_is_an_error_or_the_factorys_business(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:"))
        con.execute("CREATE TABLE t(id INTEGER, a TEXT)")
        con.executemany("INSERT INTO t VALUES (?, CAST(? AS TEXT))", [(1, b"fine"), (2, b"\xffrot"), (3, b"good")])
        see(lambda: con.execute("SELECT a FROM t").fetchall())
        see(lambda: con.execute("SELECT id, a AS aa FROM t WHERE id > ?", (1,)).fetchone())
        cursor = con.execute("SELECT a FROM t")
        see(cursor.fetchone())
        see(cursor.fetchone)
        for factory in (bytes, bytearray, lambda data: data.decode("latin-1"), str):
            con.text_factory = factory
            see(lambda: con.execute("SELECT id, a FROM t ORDER BY id").fetchall())
            see(lambda: con.execute("SELECT a FROM t WHERE id >= ? ORDER BY id", (2,)).fetchmany(2))
            see(lambda: list(con.execute("SELECT a, 1, NULL, x'ff' FROM t ORDER BY id;")))
            see(lambda: con.execute("SELECT 'plain', 1.5, NULL").fetchone())

    same(tmp_path, program)


# Transactions ---------------------------------------------------------------------------------------------------------

WORK = (
    "INSERT INTO t(name) VALUES ('one')",
    "SELECT count(*) FROM t",
    "SAVEPOINT s",
    "UPDATE t SET real = 9",
    "ROLLBACK TO s",
    "RELEASE s",
    "CREATE TABLE IF NOT EXISTS u(a)",
    "DELETE FROM t WHERE id = 1",
)


@pytest.mark.parametrize("level", ["", "DEFERRED", "immediate", "EXCLUSIVE", None])
def test_transactions_begin_and_end_where_sqlite3_begins_and_ends_them(tmp_path: Path, level: str | None) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see, isolation_level=level)
        see(con.isolation_level)
        traced: list[str] = []
        con.set_trace_callback(traced.append)
        for end in (con.commit, con.rollback):
            for sql in WORK:
                see(lambda sql=sql: con.execute(sql).fetchall())
                see(con.in_transaction)
            end()
            see(con.in_transaction)
        con.set_trace_callback(None)
        see(traced)
        see(con.execute("SELECT * FROM t").fetchall())

    same(tmp_path, program)


def test_with_commits_or_rolls_back(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        with con as entered:
            see(entered is con)
            con.execute("INSERT INTO t(name) VALUES ('kept')")
        see(con.in_transaction)

        def failing() -> None:
            with con:
                con.execute("INSERT INTO t(name) VALUES ('lost')")
                raise ZeroDivisionError("inside")

        see(failing)
        see([con.in_transaction, con.execute("SELECT name FROM t").fetchall()])

    same(tmp_path, program)


def test_the_isolation_level_can_be_changed(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        for level in ("", "deferred", "Immediate", None, "EXCLUSIVE", "x", 5, b"", "DEFERRED\0"):
            see(lambda level=level: setattr(con, "isolation_level", level))
            see(con.isolation_level)
        con.isolation_level = ""
        con.execute("INSERT INTO t(name) VALUES ('n')")
        con.isolation_level = None
        see(con.in_transaction)

    same(tmp_path, program)


def test_executescript_commits_first_and_runs_everything(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.execute("INSERT INTO t(name) VALUES ('open')")
        con.executescript(
            """
            -- a comment; with a semicolon
            CREATE TABLE u(a);
            INSERT INTO u VALUES ('one;two'), ("three");
            CREATE TRIGGER g AFTER INSERT ON u BEGIN INSERT INTO t(name) VALUES (new.a); SELECT 1; END;
            INSERT INTO u VALUES ('four');
            SELECT * FROM u;
            BEGIN; INSERT INTO u VALUES ('five')
            """
        )
        see([con.in_transaction, con.execute("SELECT * FROM u").fetchall()])
        con.rollback()
        see(con.execute("SELECT a FROM u").fetchall())
        see(con.execute("SELECT name FROM t").fetchall())
        see(lambda: con.executescript("INSERT INTO u VALUES ('six'); nonsense; INSERT INTO u VALUES ('seven')"))
        see(con.execute("SELECT a FROM u").fetchall())

    same(tmp_path, program)


def test_a_finished_query_holds_nothing_and_a_dropped_one_neither(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.execute("CREATE TABLE u(a)")
        con.executemany("INSERT INTO u VALUES (?)", [(1,), (2,)])
        con.commit()
        cursor = con.execute("SELECT a FROM u WHERE a = 1")
        see(cursor.fetchone())
        see(lambda: con.execute("DROP TABLE u").rowcount)  # The one row was the last: the query is over.
        con.execute("CREATE TABLE u(a)")
        con.executemany("INSERT INTO u VALUES (?)", [(1,), (2,)])
        con.commit()
        cursor = con.execute("SELECT a FROM u")
        see(lambda: con.execute("DROP TABLE u").rowcount)
        younger = con.execute("SELECT 1")
        del younger
        del cursor
        gc.collect()
        see(lambda: con.execute("DROP TABLE u").rowcount)

    same(tmp_path, program)


def test_rows_can_be_written_while_others_are_read(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.execute("CREATE TABLE copy(id)")
        for (number,) in con.execute("SELECT id FROM t"):
            con.execute("INSERT INTO copy VALUES (?)", (number,))
            con.commit()
        see(con.execute("SELECT * FROM copy").fetchall())
        cursor = con.execute("SELECT id FROM t")
        see(cursor.fetchone())
        con.execute("INSERT INTO copy VALUES (9)")
        con.rollback()
        see(cursor.fetchall)

    same(tmp_path, program)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the standard module has no autocommit before Python 3.12")
@pytest.mark.parametrize("mode", [True, False, -1])
def test_autocommit_works_as_in_python_3_12(tmp_path: Path, mode: Any) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:", autocommit=mode))
        see([con.autocommit, con.in_transaction])
        for sql in ("CREATE TABLE t(a)", "INSERT INTO t VALUES (1)", "SELECT * FROM t"):
            see([con.execute(sql).fetchall(), con.in_transaction])
        con.rollback()
        see(lambda: con.execute("SELECT * FROM t").fetchall())
        con.commit()
        see(con.in_transaction)
        for other in (False, True, -1, 5, None):
            see(lambda other=other: setattr(con, "autocommit", other))
            see([con.autocommit, con.in_transaction])

    same(tmp_path, program)
