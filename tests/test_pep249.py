"""PEP 249 and what ``sqlite3`` adds to it, side by side: each program runs on the standard module and on VerityDB.

Results, types, error classes, error codes and messages have to be equal. What is meant to differ is in
``docs/reference/differences.md``.
"""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading
import warnings
from copy import copy
from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.twins import See, same
from veritydb import adaptation

ROWS = [(1, "a", 1.5, b"x"), (2, None, None, None), (3, "\u00e9\0z", -2.0, b"")]


def table(db: Any, see: See, **options: Any) -> Any:
    con = see.opened(db.connect(":memory:", **options))
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, real REAL, data BLOB)")
    con.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", ROWS)
    con.commit()
    return con


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


# Functions and handlers -----------------------------------------------------------------------------------------------


def test_functions_get_and_return_the_same_values(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        got: list[Any] = []
        con.create_function("echo", 1, lambda value: got.append(value) or value)
        for value in (1, -(2**63), 1.5, "text", "n\0l", b"blob", b"", None):
            see(con.execute("SELECT echo(?)", (value,)).fetchall())
        see(got)
        returns: list[Any] = [2**63, float("nan"), "\ud800", object(), memoryview(b"x"), bytearray(b"y"), True, [1]]
        con.create_function("give", 0, lambda: returns[-1])
        while returns:
            see(lambda: con.execute("SELECT give()").fetchall())
            returns.pop()
        for error in (ZeroDivisionError, MemoryError, OverflowError, KeyboardInterrupt):

            def failing(error: Any = error) -> None:
                raise error("mine")

            con.create_function("fail", 0, failing)
            see(lambda: con.execute("SELECT fail()").fetchall())
        con.create_function("count_all", -1, lambda *values: len(values), deterministic=True)
        see(con.execute("SELECT count_all(), count_all(1, 2, 3)").fetchall())

    same(tmp_path, program)


class Sum:
    def __init__(self) -> None:
        self.total = 0

    def step(self, value: int) -> None:
        self.total += value

    def inverse(self, value: int) -> None:
        self.total -= value

    def value(self) -> int:
        return self.total

    def finalize(self) -> int:
        return self.total


def test_aggregates_and_windows_work_and_fail_alike(tmp_path: Path) -> None:
    def without(name: str) -> Any:
        return type("Lame", (), {key: value for key, value in vars(Sum).items() if key != name})

    def failing(name: str) -> Any:
        def fail(*_: Any) -> None:
            raise ZeroDivisionError

        return type("Failing", (Sum,), {name: fail})

    over = "SELECT id, {}(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM t"

    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.create_aggregate("total_of", 1, Sum)
        con.create_window_function("moving", 1, Sum)
        see(con.execute("SELECT total_of(id), total_of(id) FILTER (WHERE id > 9) FROM t").fetchall())
        see(con.execute("SELECT total_of(id) FROM t WHERE 0").fetchall())
        see(con.execute(over.format("moving")).fetchall())
        see(con.execute("SELECT moving(id) FROM t").fetchall())
        for number, name in enumerate(("__init__", "step", "value", "inverse", "finalize")):
            for make in (failing, without):
                if make is without and name == "__init__":
                    continue
                function = f"f{number}{make.__name__}"
                con.create_window_function(function, 1, make(name))
                con.create_aggregate(f"a{function}", 1, make(name))
                see(lambda function=function: con.execute(over.format(function)).fetchall())
                see(lambda function=function: con.execute(f"SELECT a{function}(id) FROM t").fetchall())

    same(tmp_path, program)


def test_a_function_that_fails_inside_an_insert_leaves_what_sqlite_leaves(tmp_path: Path) -> None:
    def refuse(value: int) -> int:
        if value == 3:
            raise ValueError("no threes")
        return value

    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(see.folder / "x.db"))
        con.create_function("refuse", 1, refuse)
        con.execute("CREATE TABLE u(a UNIQUE)")
        con.execute("INSERT INTO u VALUES (10)")
        see(lambda: con.execute("INSERT INTO u SELECT refuse(column1) FROM (VALUES (1), (2), (3))"))
        see(con.execute("SELECT * FROM u").fetchall())
        con.commit()
        see(con.execute("SELECT * FROM u").fetchall())

    same(tmp_path, program)
    # And the log holds no more than that.
    from veritydb.replay.rebuilding import rebuild

    rebuild(tmp_path / "veritydb" / "x.db", tmp_path / "again.db")
    import sqlite3

    again = sqlite3.connect(tmp_path / "again.db")
    assert again.execute("SELECT a FROM u").fetchall() == [(10,)]
    again.close()


def test_collations_order_and_may_fail(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        query = "SELECT column1 FROM (VALUES ('b'), ('a'), ('c')) ORDER BY column1 COLLATE mine"
        con.create_collation("mine", lambda one, two: (one < two) - (one > two))
        see(con.execute(query).fetchall())
        con.create_collation("mine", lambda one, two: 2**70 * ((one > two) - (one < two)))
        see(con.execute(query).fetchall())
        con.create_collation("mine", lambda one, two: 1 // 0)
        see(lambda: con.execute(query).fetchall())
        con.create_collation("mine", lambda one, two: "neither")
        see(len(con.execute(query).fetchall()))
        con.create_collation("mine", None)
        see(lambda: con.execute(query))

    same(tmp_path, program)


def test_the_programs_authorizer_is_asked_before_ours_and_may_deny(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = table(db, see)
        for deny in (db.SQLITE_DENY, db.SQLITE_IGNORE, 2**40, "x", None):
            con.set_authorizer(
                lambda action, one, two, schema, trigger, deny=deny: (
                    deny if action == db.SQLITE_READ and two == "name" else db.SQLITE_OK
                )
            )
            see(lambda: con.execute("SELECT id, name FROM t").fetchall())
        con.set_authorizer(lambda *_: 1 // 0)
        see(lambda: con.execute("SELECT id FROM t").fetchall())
        con.set_authorizer(None)
        see(con.execute("SELECT id, name FROM t").fetchall())

    same(tmp_path, program)


def test_a_progress_handler_can_stop_a_statement(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 1000000) SELECT count(*) FROM r"

    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.set_progress_handler(lambda: 1, 100)
        see(lambda: con.execute(endless).fetchall())
        con.set_progress_handler(lambda: 1 // 0, 100)
        see(lambda: con.execute(endless).fetchall())
        con.set_progress_handler(None, 100)
        see(con.execute("SELECT count(*) FROM t").fetchall())

    same(tmp_path, program)


def test_interrupt_stops_a_statement_from_another_thread() -> None:
    con = veritydb.connect(":memory:")
    con.create_function("wait", 0, lambda: threading.Thread(target=con.interrupt).start())
    with pytest.raises(veritydb.OperationalError, match="interrupted"):
        con.execute(
            "WITH RECURSIVE r(x) AS (SELECT wait() UNION ALL SELECT 1 FROM r) SELECT count(*) FROM r"
        ).fetchall()
    con.close()


def test_callbacks_tracebacks_are_reported_only_if_wanted(tmp_path: Path) -> None:
    caught: list[Any] = []

    def program(db: Any, see: See) -> None:
        con = table(db, see)
        con.create_function("fail", 0, lambda: 1 // 0)
        for enable in (False, True):
            db.enable_callback_tracebacks(enable)
            caught.clear()
            see(lambda: con.execute("SELECT fail()").fetchall())
            see([(error.exc_type.__name__, callable(error.object)) for error in caught])
        db.enable_callback_tracebacks(False)

    before, sys.unraisablehook = sys.unraisablehook, caught.append
    try:
        same(tmp_path, program)
    finally:
        sys.unraisablehook = before


def test_a_trace_shows_the_programs_statements_and_none_of_ours(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(see.folder / "x.db"))
        con.execute("CREATE TABLE t(a)")
        traced: list[str] = []
        cursor = con.cursor()
        con.set_trace_callback(traced.append)
        cursor.execute("INSERT INTO t VALUES (?)", ("bound",))
        con.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        con.commit()
        con.execute("CREATE TABLE u(a)")
        con.executescript("SELECT 1; INSERT INTO u VALUES (3)")
        see(con.execute("SELECT count(*) FROM t").fetchone())
        con.isolation_level = None
        con.execute("DELETE FROM u")
        con.set_trace_callback(None)
        con.execute("SELECT 2")
        see(traced)

    same(tmp_path, program)


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
