"""What SQLite calls back, side by side with ``sqlite3``: functions, collations, handlers, traces."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.twins import See, same, table

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
