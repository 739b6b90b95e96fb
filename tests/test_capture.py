"""Capture: what the hooks report, what the witnesses take back, and what is refused when neither can be trusted.

The connection is a plain one, driven as the session drives it (``tests/support/captured.py``).
"""

from __future__ import annotations

import _thread
import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import apsw
import pytest

from tests.support.captured import Captured, State
from veritydb.errors import CaptureError
from veritydb.events import Clear, Event, Op, Rows, Schema, Sequence, Setting
from veritydb.hooks.witness import Head

Make = Callable[..., Captured]

NUMBERS = "WITH RECURSIVE r(x) AS (SELECT {} UNION ALL SELECT x + 1 FROM r WHERE x < {}) SELECT x, x FROM r"


@pytest.fixture
def make() -> Iterator[Make]:
    """Connections that the test need not close."""
    made: list[Captured] = []

    def make(script: str = "", **options: Any) -> Captured:
        made.append(Captured(script=script, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def brief(events: list[Event]) -> list[Any]:
    """Return row events as (op, table, rowids), others as they are."""
    return [(event.op.name, event.table, event.rowids) if isinstance(event, Rows) else event for event in events]


def rows(table: str, op: Op, rowids: list[int] | None, before: Any, after: Any, moved: list[int] | None = None) -> Rows:
    return Rows(table, op, rowids, moved, before, after)


# Rows


def test_inserts_updates_and_deletes_have_full_images(make: Make) -> None:
    c = make("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)")
    events = c.transact(
        "INSERT INTO t VALUES (1, 'x', NULL), (2, 1.5, x'00')",
        "UPDATE t SET b = 7 WHERE id = 1",
        "UPDATE t SET id = 9 WHERE id = 2",
        "DELETE FROM t WHERE id = 1",
    )
    assert events == [
        rows("t", Op.INSERT, [1, 2], None, [(1, "x", None), (2, 1.5, b"\0")]),
        rows("t", Op.UPDATE, [1, 2], [(1, "x", None), (2, 1.5, b"\0")], [(1, "x", 7), (9, 1.5, b"\0")], [1, 9]),
        rows("t", Op.DELETE, [1], [(1, "x", 7)], None),
    ]


def test_replace_triggers_and_cascades_are_reported_in_order(make: Make) -> None:
    c = make(
        "PRAGMA foreign_keys = 1; CREATE TABLE p(id INTEGER PRIMARY KEY, k UNIQUE);"
        "CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE);"
        "CREATE TABLE log(x); CREATE TRIGGER g AFTER DELETE ON c BEGIN INSERT INTO log VALUES (old.id); END;"
        "INSERT INTO p VALUES (1, 'a'); INSERT INTO c VALUES (5, 1)"
    )
    assert brief(c.transact("REPLACE INTO p VALUES (2, 'a')", "DELETE FROM p")) == [
        ("DELETE", "p", [1]),
        ("DELETE", "c", [5]),
        ("INSERT", "log", [1]),
        ("INSERT", "p", [2]),
        ("DELETE", "p", [2]),
    ]


def test_a_delete_of_all_rows_is_reported_row_by_row(make: Make) -> None:
    c = make("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)")
    assert brief(c.transact("DELETE FROM t")) == [("DELETE", "t", [1, 2])]


def test_rows_without_rowid_are_told_by_their_images_in_table_order(make: Make) -> None:
    c = make("CREATE TABLE t(v, k, PRIMARY KEY(k)) WITHOUT ROWID; INSERT INTO t VALUES ('old', 1)")
    assert c.transact("UPDATE t SET k = 2", "INSERT INTO t VALUES ('new', 3)") == [
        rows("t", Op.UPDATE, None, [("old", 1)], [("old", 2)]),
        rows("t", Op.INSERT, None, None, [("new", 3)]),
    ]


def test_temporary_attached_and_meta_tables_are_not_captured(make: Make) -> None:
    c = make(
        "CREATE TABLE t(a); CREATE TEMP TABLE t(a);"
        "CREATE TABLE _veritydb_applied(id INTEGER PRIMARY KEY, applied BLOB);"
        "ATTACH ':memory:' AS other; CREATE TABLE other.t(a)"
    )
    events = c.transact(
        "INSERT INTO main.t VALUES (1)",
        "INSERT INTO temp.t VALUES (2)",
        "INSERT INTO other.t VALUES (3)",
        "INSERT INTO _veritydb_applied VALUES (1, x'00')",
        "INSERT INTO main.t VALUES (4)",
    )
    assert events == [rows("t", Op.INSERT, [1, 2], None, [(1,), (4,)])]


def test_a_short_row_is_reported_with_the_affinity_a_query_would_give_it(make: Make) -> None:
    defaults = ["7", "-7", "+7", "7.0", "'7'", "'x'", "NULL", "x'37'", "1e3", "TRUE", "9223372036854775807"]
    types = ["REAL", "INT", "TEXT", "BLOB", "NUMERIC", "", "DOUBLE", "FLOATING POINT"]
    c = make("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
    names: list[str] = []
    for number, (declared, default) in enumerate((d, v) for d in types for v in defaults):
        names.append(f"c{number}")
        c.setup(f"ALTER TABLE t ADD COLUMN c{number} {declared} DEFAULT {default}")
    c.capture.schema_changed()
    before = State(c.db)
    events = c.transact("UPDATE t SET a = 2", "DELETE FROM t")
    before.apply(events)
    assert before == State(c.db)
    assert len(names) == len(defaults) * len(types)


def test_tables_named_like_shadow_tables_are_captured(make: Make) -> None:
    names = ["f_data", "f_content", "f_docsize", "f_segdir", "f_config", "f_node"]
    c = make(";".join(f"CREATE TABLE {name}(a)" for name in names))
    events = c.transact(*[f"INSERT INTO {name} VALUES (1)" for name in names])
    assert brief(events) == [("INSERT", name, [1]) for name in names]


def test_nothing_is_captured_while_capture_is_off(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    c.capture.enabled = False
    c.do("INSERT INTO t VALUES (2)")
    c.capture.enabled = True
    c.do("INSERT INTO t VALUES (3)")
    assert [event.rowids for event in c.commit() if isinstance(event, Rows)] == [[1], [3]]


def test_a_delete_prepared_while_capture_is_off_is_reported_when_it_is_on(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.capture.enabled = False
    c.cursor.execute("DELETE FROM t")
    c.cursor.execute("INSERT INTO t VALUES (1)")
    c.capture.enabled = True
    assert brief(c.transact("DELETE FROM t")) == [("DELETE", "t", [1])]


# The client


def test_the_client_is_told_of_sync_and_commit_in_this_order_and_may_write_in_sync(make: Make) -> None:
    c = make("CREATE TABLE t(a); CREATE TABLE _veritydb_applied(id INTEGER PRIMARY KEY, applied BLOB NOT NULL);"
             "INSERT INTO _veritydb_applied VALUES (1, zeroblob(4))")  # fmt: skip
    on_sync = c.on_sync

    def write() -> None:
        on_sync()
        with c.db.blob_open("main", "_veritydb_applied", "applied", 1, True) as blob:
            blob.write(b"done")

    c.on_sync = write  # type: ignore[method-assign]
    c.begin()
    c.do("INSERT INTO t VALUES (1), (2)")
    c.commit()
    assert c.told == ["sync", "commit"]
    assert c.db.changes() == 2
    assert c.db.execute("SELECT applied FROM _veritydb_applied").get == b"done"
    assert not c.capture.joined
    assert not c.capture.captured


def test_joining_keeps_last_insert_rowid_and_total_changes_and_remembers_changes(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.transact("INSERT INTO t VALUES (1), (2), (3)")
    before = c.db.last_insert_rowid(), c.db.total_changes()
    c.begin()
    assert (c.db.last_insert_rowid(), c.db.total_changes()) == before
    assert c.capture.changes == 3
    c.cursor.execute("ROLLBACK")


def test_joining_leaves_no_trace_in_the_schema(make: Make) -> None:
    c = make("CREATE TABLE t(a); CREATE VIRTUAL TABLE f USING fts5(x)")
    c.transact("INSERT INTO f VALUES ('a')", "INSERT INTO t VALUES (1)")
    assert not [name for (name,) in c.db.execute("SELECT name FROM sqlite_schema") if "verity" in str(name)]


def test_an_error_in_sync_or_commit_refuses_the_commit_and_is_kept(make: Make) -> None:
    for where in ("on_sync", "on_commit"):
        c = make("CREATE TABLE t(a)")
        problem = KeyboardInterrupt(where)

        def fail(problem: BaseException = problem) -> Any:
            raise problem

        setattr(c, where, fail)
        c.begin()
        c.do("INSERT INTO t VALUES (1)")
        with pytest.raises(apsw.ConstraintError):
            c.commit()
        assert c.capture.poison is problem
        assert c.told[-1] == "rollback"
        assert c.db.get_autocommit()
        assert c.db.execute("SELECT count(*) FROM t").get == 0
        delattr(c, where)
        assert brief(c.transact("INSERT INTO t VALUES (2)")) == [("INSERT", "t", [1])]


def test_a_refused_release_leaves_a_transaction_that_can_be_joined_again(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.begin("SAVEPOINT outermost")
    c.do("INSERT INTO t VALUES (1)")
    c.refuse = ValueError()
    with pytest.raises(apsw.ConstraintError):
        c.commit("RELEASE outermost")
    assert not c.db.get_autocommit()
    assert not c.capture.joined
    c.refuse = None
    c.capture.join()
    c.do("INSERT INTO t VALUES (2)")
    assert brief(c.commit()) == [("INSERT", "t", [1])]


def test_rows_of_a_transaction_that_was_not_joined_cannot_commit(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.cursor.execute("BEGIN")
    c.do("INSERT INTO t VALUES (1)")
    c.capture.join()
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert isinstance(c.capture.poison, CaptureError)
    with pytest.raises(apsw.ConstraintError):
        c.cursor.execute("INSERT INTO t VALUES (1)")
    assert c.db.execute("SELECT count(*) FROM t").get == 0


def test_a_direct_write_to_the_schema_table_cannot_commit(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    c.db.execute("PRAGMA writable_schema = 1")
    c.begin()
    c.do("UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a, b)'")
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert isinstance(c.capture.poison, CaptureError)


def test_a_commit_that_failed_as_busy_can_be_repeated_after_more_changes(make: Make, tmp_path: Any) -> None:
    c = make(path=str(tmp_path / "x.db"))
    c.setup("PRAGMA journal_mode = DELETE; CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, g AS (a));")
    c.setup("INSERT INTO t(a) VALUES (0), (0)")
    state = State(c.db)
    reader = apsw.Connection(c.path)
    reading = reader.execute("SELECT * FROM t")
    next(reading)
    c.begin()
    c.do("INSERT INTO t(a) VALUES (1)")
    with pytest.raises(apsw.BusyError):
        c.commit()
    c.do("SAVEPOINT s")
    c.do("UPDATE t SET a = a + 1")
    with pytest.raises(apsw.BusyError):
        c.commit()
    c.do("ROLLBACK TO s")
    c.do("INSERT INTO t(a) VALUES (3)")
    reading.close()
    reader.close()
    state.apply(c.commit())
    assert state == State(c.db)


def sequenced_and_read(make: Make, tmp_path: Any) -> tuple[Captured, Callable[[], None]]:
    """Return a connection whose commit is busy, and what ends that."""
    c = make(path=str(tmp_path / "x.db"))
    c.setup(f"PRAGMA journal_mode = DELETE; {SEQUENCED}")
    reader = apsw.Connection(c.path)
    reading = reader.execute("SELECT 1 FROM t, (VALUES (1), (2))")
    next(reading)

    def stop() -> None:
        reading.close()
        reader.close()

    return c, stop


def test_a_sequence_logged_by_a_commit_that_failed_is_logged_again_if_it_was_rolled_back(
    make: Make, tmp_path: Any
) -> None:
    c, stop = sequenced_and_read(make, tmp_path)
    c.begin()
    c.do("SAVEPOINT s")
    c.do("UPDATE sqlite_sequence SET seq = 9")
    with pytest.raises(apsw.BusyError):
        c.commit()
    c.do("ROLLBACK TO s")
    c.do("UPDATE sqlite_sequence SET seq = 9")
    stop()
    assert c.commit() == [Sequence("t", 9)]


def test_a_commit_that_failed_does_not_move_a_sequence_twice(make: Make, tmp_path: Any) -> None:
    c, stop = sequenced_and_read(make, tmp_path)
    c.begin()
    assert c.fails("INSERT OR FAIL INTO t(k) VALUES ('b'), ('c'), ('a')") == "ConstraintError"
    with pytest.raises(apsw.BusyError):
        c.commit()
    c.do("UPDATE sqlite_sequence SET seq = 3")
    stop()
    assert c.commit()[1:] == [Sequence("t", 1), Sequence("t", 3)]
    assert brief(c.transact("INSERT INTO t(k) VALUES ('d')")) == [("INSERT", "t", [4])]


def test_rows_inserted_after_a_commit_that_failed_are_counted(make: Make, tmp_path: Any) -> None:
    c, stop = sequenced_and_read(make, tmp_path)
    c.begin()
    c.do("INSERT INTO t(k) VALUES ('b')")
    with pytest.raises(apsw.BusyError):
        c.commit()
    c.do("INSERT INTO t(k) VALUES ('c')")
    stop()
    assert all(isinstance(event, Rows) for event in c.commit())


# Rolling back


def test_each_kind_of_partial_rollback_takes_back_its_events_and_no_others(make: Make) -> None:
    c = make("CREATE TABLE t(a UNIQUE)")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    assert c.fails("INSERT INTO t VALUES (2), (3), (1)") == "ConstraintError"
    assert c.fails("INSERT OR FAIL INTO t VALUES (4), (1)") == "ConstraintError"
    c.do("INSERT OR IGNORE INTO t VALUES (5), (1)")
    c.do("SAVEPOINT a")
    c.do("INSERT INTO t VALUES (6)")
    c.do("SAVEPOINT b")
    assert c.fails("INSERT INTO t VALUES (7), (7)") == "ConstraintError"
    c.do("INSERT INTO t VALUES (8)")
    c.do("ROLLBACK TO b")
    c.do("INSERT INTO t VALUES (9)")
    c.do("RELEASE b")
    c.do("ROLLBACK TO a")
    c.do("INSERT INTO t VALUES (10)")
    images = [image for event in c.commit() if isinstance(event, Rows) for image in event.after or ()]
    assert images == [(1,), (4,), (5,), (10,)]


def test_a_rollback_to_a_savepoint_older_than_the_join_leaves_nothing(make: Make) -> None:
    for opening in (["BEGIN", "SAVEPOINT a", "SAVEPOINT s"], ["SAVEPOINT s"]):
        c = make("CREATE TABLE t(a)")
        for sql in opening:
            c.cursor.execute(sql)
        c.capture.join()
        c.do("INSERT INTO t VALUES (1)")
        c.do("ROLLBACK TO s")
        assert not c.capture.captured
        c.do("INSERT INTO t VALUES (2), (3)")
        assert c.fails("INSERT INTO t SELECT abs(-9223372036854775808)") == "SQLError"
        assert brief(c.commit()) == [("INSERT", "t", [1, 2])]


def test_what_raise_fail_keeps_is_captured_and_what_raise_abort_undoes_is_not(make: Make) -> None:
    for how, kept in (("FAIL", 1), ("ABORT", 0)):
        c = make(
            "CREATE TABLE t(a); CREATE TABLE log(a); CREATE TRIGGER g BEFORE INSERT ON t BEGIN "
            f"INSERT INTO log VALUES (1); SELECT RAISE({how}, 'no'); END"
        )
        c.begin()
        assert c.fails("INSERT INTO t VALUES (1)") == "ConstraintError"
        assert len(c.commit()) == kept


def test_a_rollback_of_the_whole_transaction_is_heard_and_forgets_it(make: Make) -> None:
    c = make("CREATE TABLE t(a UNIQUE)")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    assert c.fails("INSERT OR ROLLBACK INTO t VALUES (1)") == "ConstraintError"
    assert c.told == ["rollback"]
    assert not c.capture.joined
    assert not c.capture.captured
    assert brief(c.transact("INSERT INTO t VALUES (1)")) == [("INSERT", "t", [1])]


def test_a_transaction_larger_than_memory_is_rolled_back_into_its_parts(make: Make) -> None:
    c = make("CREATE TABLE t(a UNIQUE, b); INSERT INTO t VALUES (-1, 0)", rows_max=50)
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO t " + NUMBERS.format(0, 499))
    c.do("SAVEPOINT s")
    c.do("UPDATE t SET b = b + 1")
    assert c.overflow.count > 10
    assert c.fails("INSERT INTO t " + NUMBERS.format(500, 999) + " UNION ALL SELECT 0, 0") == "ConstraintError"
    c.do("ROLLBACK TO s")
    c.do("DELETE FROM t WHERE a > 400")
    state.apply(c.commit())
    assert state == State(c.db)
    assert c.overflow.count == 0


# Full-text search


@pytest.mark.parametrize("module", ["fts5(x)", "fts4(x)", "fts3(x)", "fts5(x, content='', columnsize=0)"])
@pytest.mark.parametrize("failing", ["INSERT INTO t VALUES (1), (1)", "INSERT INTO t SELECT 1 UNION ALL SELECT 1"])
def test_what_fts_writes_out_before_a_savepoint_outlives_its_rollback(make: Make, module: str, failing: str) -> None:
    c = make(f"CREATE VIRTUAL TABLE f USING {module}; CREATE TABLE t(a UNIQUE)")
    undone = ["SAVEPOINT s", "INSERT INTO f(rowid, x) VALUES (50, 'inner')", "ROLLBACK TO s"]
    for number, way in enumerate((undone, [failing]), 1):
        state = State(c.db)
        c.begin()
        c.do("INSERT INTO f(rowid, x) VALUES (?1, 'word'), (?1 + 1, 'other words')", (10 * number,))
        c.capture.wrote_virtual("f")
        for sql in way:
            try:
                c.do(sql)
            except apsw.ConstraintError:
                pass
        c.do("INSERT INTO t VALUES (NULL)")
        state.apply(c.commit())
        assert not state.different(State(c.db))


def test_several_virtual_tables_are_each_followed_by_a_witness(make: Make) -> None:
    c = make("CREATE TABLE t(a UNIQUE);" + ";".join(f"CREATE VIRTUAL TABLE f{n} USING fts5(x)" for n in range(4)))
    for _ in range(2):
        state = State(c.db)
        c.begin()
        for number in range(4):
            c.do(f"INSERT INTO f{number} VALUES ('word')")
            assert c.capture.tail_due
            assert c.fails("INSERT INTO t VALUES (1), (1)") == "ConstraintError"
            c.do(f"SAVEPOINT s{number}")
            c.do("INSERT INTO f0 VALUES ('again')")
            c.do(f"ROLLBACK TO s{number}")
        state.apply(c.commit())
        assert not state.different(State(c.db))


def test_a_witness_that_joins_inside_a_savepoint_does_not_mark_it_anew(make: Make) -> None:
    c = make("CREATE VIRTUAL TABLE f USING fts5(x); CREATE TABLE t(a)")
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    c.do("SAVEPOINT s")
    c.do("INSERT INTO f VALUES ('word')")
    c.capture.join_tail()
    c.do("ROLLBACK TO s")
    state.apply(c.commit())
    assert not state.different(State(c.db))


def test_a_witness_that_joins_does_not_make_fts_write(make: Make) -> None:
    c = make("CREATE VIRTUAL TABLE f USING fts5(x)")
    c.begin()
    c.do("INSERT INTO f VALUES ('word')")
    c.capture.join_tail()
    assert "f_data" not in [event.table for event in c.capture.buffer.events() if isinstance(event, Rows)]
    assert [event.table for event in c.commit() if isinstance(event, Rows)].count("f_data") > 1


@pytest.mark.parametrize("module", ["fts5(x, content='', columnsize=0)", "fts4(x)"])
def test_with_a_witness_behind_it_fts_has_written_when_the_client_is_told_of_the_commit(
    make: Make, module: str
) -> None:
    c = make(f"CREATE VIRTUAL TABLE f USING {module}")
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO f(rowid, x) VALUES (1, 'word')")
    c.capture.wrote_virtual("f")
    c.capture.join_tail()
    known: list[int] = []
    c.on_sync = lambda: known.append(len(c.capture.buffer))  # type: ignore[method-assign]
    c.cursor.execute("COMMIT")
    assert known == [len(c.offered)]
    state.apply(c.offered)
    assert not state.different(State(c.db))


def test_an_index_written_while_committing_without_a_drain_is_refused_if_nobody_was_told(make: Make) -> None:
    c = make("CREATE VIRTUAL TABLE f USING fts5(x, content='', columnsize=0)")
    c.begin()
    c.do("INSERT INTO f(rowid, x) VALUES (1, 'word')")
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert isinstance(c.capture.poison, CaptureError)


def test_rtree_rows_are_captured_as_the_rows_of_its_tables(make: Make) -> None:
    c = make("CREATE VIRTUAL TABLE b USING rtree(id, low, high); CREATE TABLE t(a UNIQUE)")
    state = State(c.db)
    events = c.transact(
        "INSERT INTO b VALUES (1, 0, 1), (2, 5, 6)",
        "SAVEPOINT s",
        "DELETE FROM b",
        "ROLLBACK TO s",
        "INSERT INTO t VALUES (1), (1)",
        "UPDATE b SET high = 9",
    )
    state.apply(events)
    assert not state.different(State(c.db))


# Exceptions on their way through SQLite


def broken(c: Captured, error: BaseException) -> None:
    """Register a function ``fail(value)`` that raises for anything true."""

    def fail(value: Any) -> Any:
        if value:
            raise error
        return value

    c.db.create_scalar_function("fail", fail)
    # SQLite knows that a function may fail, and opens a journal; of an aggregate it does not think so.
    c.db.create_aggregate_function("fail_total", lambda: (None, lambda _, value: fail(value), lambda _: 0))


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("INSERT INTO t VALUES (1, fail(0)), (2, fail(1))", 0),
        ("INSERT OR FAIL INTO t VALUES (1, fail(0)), (2, fail(1))", 0),
        ("INSERT INTO plain SELECT x, fail_total(g = 3) FROM s GROUP BY g", 2),
        ("UPDATE three SET a = fail(a = 3)", 0),
        ("INSERT INTO watched VALUES (1), (2)", 0),
    ],
)
def test_after_a_python_exception_the_buffer_holds_what_the_statement_left(
    make: Make, sql: str, kept: int, error: BaseException
) -> None:
    c = make(
        "CREATE TABLE t(a UNIQUE, b); CREATE TABLE plain(a, b); CREATE TABLE s(g, x); CREATE TABLE three(a);"
        "INSERT INTO s VALUES (1, 1), (2, 1), (3, 1); INSERT INTO three VALUES (0), (0), (3);"
        "CREATE TABLE watched(a); CREATE TRIGGER g AFTER INSERT ON watched BEGIN"
        " INSERT INTO t VALUES (new.a, fail(new.a = 2)); END"
    )
    broken(c, error)
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO t VALUES (100, 0)")
    c.do("SAVEPOINT s")
    total = c.db.execute("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM plain)").get
    with pytest.raises(type(error)):
        c.do(sql)
    assert c.capture.poison is None
    left: Any = c.db.execute("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM plain)").get
    assert left - total == kept
    c.do("INSERT INTO t VALUES (101, 0)")
    assert c.fails("INSERT INTO t VALUES (102, 0), (101, 0)") == "ConstraintError"
    state.apply(c.commit())
    assert not state.different(State(c.db))


def test_an_exception_in_an_inner_statement_that_the_outer_one_survives_takes_back_the_inner_rows(make: Make) -> None:
    c = make("CREATE TABLE log(a UNIQUE); CREATE TABLE t(a UNIQUE)")
    broken(c, ValueError())
    inner = c.db.cursor()

    def attempt(value: Any) -> Any:
        c.db.execute("INSERT INTO log VALUES (?)", (value,)).fetchall()
        mark = c.capture.statement_mark()
        try:
            inner.execute("INSERT INTO log VALUES (fail(0)), (fail(1))")
        except ValueError as error:
            c.capture.unwind(mark, error)
        return value

    c.db.create_scalar_function("attempt", attempt)
    state = State(c.db)
    c.begin()
    c.do("INSERT INTO t SELECT attempt(column1) FROM (VALUES (1), (2))")
    state.apply(c.commit())
    assert not state.different(State(c.db))
    assert c.db.execute("SELECT count(*) FROM log").get == 2


def test_an_exception_that_ends_the_transaction_is_noticed_though_no_callback_came(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    broken(c, apsw.FullError("full"))
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    mark = c.capture.statement_mark()
    with pytest.raises(apsw.FullError) as caught:
        c.cursor.execute("INSERT INTO t VALUES (fail(0)), (fail(1))")
    c.capture.unwind(mark, caught.value)
    assert c.db.get_autocommit() == (not c.capture.joined)
    if c.capture.joined:
        c.cursor.execute("ROLLBACK")
    assert not c.capture.captured
    assert c.told == ["rollback"]


def test_a_signal_at_the_first_instruction_of_the_hook_poisons_the_transaction(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    # A C function as SQL function: the next Python code that runs, and so meets the signal, is the hook.
    c.db.create_scalar_function("interrupt", lambda: None)
    c.db.create_scalar_function("interrupt", _thread.interrupt_main, 0)
    c.begin()
    mark = c.capture.statement_mark()
    with pytest.raises(KeyboardInterrupt) as caught:
        c.cursor.execute("INSERT INTO t VALUES (interrupt())")
    c.capture.unwind(mark, caught.value)
    assert c.capture.poison is caught.value
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert c.db.execute("SELECT count(*) FROM t").get == 0
    assert brief(c.transact("INSERT INTO t VALUES (1)")) == [("INSERT", "t", [1])]


def test_an_end_that_was_not_heard_lets_no_later_transaction_commit_unprepared(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = make("CREATE TABLE t(a)")
    with monkeypatch.context() as patch:
        patch.setattr(Head, "Commit", lambda _: (_ for _ in ()).throw(Stop()))
        c.begin()
        c.do("INSERT INTO t VALUES (1)")
        with pytest.raises(Stop):
            c.cursor.execute("COMMIT")
    c.cursor.execute("BEGIN")
    c.cursor.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(apsw.ConstraintError):
        c.cursor.execute("COMMIT")
    assert brief(c.transact("INSERT INTO t VALUES (3)")) == [("INSERT", "t", [2])]


def test_an_interrupted_join_poisons_the_transaction_that_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    c = make("CREATE TABLE t(a)")
    c.cursor.execute("BEGIN")
    with monkeypatch.context() as patch:
        patch.setattr(Head, "Begin", lambda _: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            c.capture.join()
    c.capture.join()
    c.do("INSERT INTO t VALUES (1)")
    try:
        events = c.commit()
    except apsw.ConstraintError:
        assert isinstance(c.capture.poison, Stop)
    else:
        assert brief(events) == [("INSERT", "t", [1])]


class Stop(BaseException):
    """What the signal of a worker's time-out raises."""


class Interruption:
    """Raises Stop at the n-th line of the callbacks; a signal can do so wherever one begins."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.cause: Stop | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if "hooks" not in frame.f_code.co_filename:
            return None
        if event in ("call", "line"):
            self.left -= 1
            if self.left == 0:
                self.cause = Stop()
                raise self.cause
        return self


INTERRUPTED = (
    "INSERT OR REPLACE INTO t " + NUMBERS.format(1, 9),
    "SAVEPOINT s",
    "INSERT INTO f VALUES ('word')",
    "UPDATE t SET b = b + 1 WHERE a < 5",
    "INSERT INTO t VALUES (50, 0), (1, 0)",
    "SAVEPOINT inner",
    "INSERT INTO v VALUES (1)",
    "ROLLBACK TO s",
    "INSERT INTO f VALUES ('other')",
    "DELETE FROM t WHERE a > 3",
    "RELEASE s",
)


def test_an_interruption_anywhere_in_the_callbacks_never_lets_a_wrong_buffer_commit(make: Make, campaign: bool) -> None:
    script = (
        "CREATE TABLE t(a UNIQUE, b); CREATE TABLE log(a); CREATE VIRTUAL TABLE f USING fts5(x);"
        "CREATE TABLE v(a, g AS (a)); INSERT INTO t VALUES (1, 1), (2, 1);"
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END"
    )
    step = 1 if campaign else 5
    outcomes = {"refused": 0, "exact": 0}
    for number in itertools.count(1, step):
        c = make(script, rows_max=8)
        interruption = Interruption(number)
        outcomes[interrupted(c, interruption)] += 1
        if interruption.cause is None:
            break
    assert outcomes["refused"] > 10
    assert outcomes["exact"] >= 1


def interrupted(c: Captured, interruption: Interruption) -> str:
    """Run a transaction with an interruption in it, and say what became of it."""
    state = State(c.db)
    before = State(c.db)
    c.cursor.execute("BEGIN")
    if traced(interruption, c.capture.join) is not None:
        c.capture.join()
    for sql in INTERRUPTED:
        mark = c.capture.statement_mark()
        handles_savepoints = sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK TO"))
        error = traced(interruption, lambda sql=sql: c.cursor.execute(sql).fetchall())
        if isinstance(error, Stop):
            c.capture.unwind(None if handles_savepoints else mark, error)
    c.capture.drain()
    error = traced(interruption, lambda: c.cursor.execute("COMMIT"))
    if isinstance(error, Stop):
        c.capture.unwind(None, error)
    if not c.db.get_autocommit():
        c.cursor.execute("ROLLBACK")
    assert not c.capture.captured
    assert not c.capture.joined
    life = State(c.db)
    if life == before:
        assert c.capture.poison is interruption.cause
    else:
        state.apply(c.offered)
        assert not state.different(life)
    assert brief(c.transact("INSERT INTO log VALUES (7)"))[0][:2] == ("INSERT", "log")
    return "refused" if life == before else "exact"


def traced(interruption: Interruption, call: Callable[[], object]) -> BaseException | None:
    """Call with the interruption waiting; return what was raised."""
    old = sys.gettrace()
    sys.settrace(interruption)
    try:
        call()
    except (apsw.Error, Stop) as error:
        return error
    finally:
        sys.settrace(old)
    return None


# Sequences, statistics, settings


SEQUENCED = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE);"
    "CREATE TABLE u(id INTEGER PRIMARY KEY AUTOINCREMENT);"
    "INSERT INTO t(k) VALUES ('a')"
)


def test_a_sequence_that_replay_moves_by_itself_is_not_logged(make: Make) -> None:
    c = make(SEQUENCED)
    events = c.transact(
        "INSERT INTO t(k) VALUES ('b'), ('c')", "INSERT INTO t VALUES (50, 'd')", "INSERT INTO u VALUES (-4)"
    )
    assert not [event for event in events if not isinstance(event, Rows)]


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT OR IGNORE INTO t(k) VALUES ('a')"],
        ["INSERT INTO t(k) VALUES ('a') ON CONFLICT DO NOTHING"],
        ["INSERT OR FAIL INTO t(k) VALUES ('b'), ('c'), ('a')"],
        ["UPDATE sqlite_sequence SET seq = 70"],
        ["UPDATE sqlite_sequence SET seq = 'seventy'", "INSERT INTO t(k) VALUES ('x')"],
        ["DELETE FROM sqlite_sequence"],
        ["DELETE FROM sqlite_sequence", "INSERT INTO t(k) VALUES ('x')"],
        ["INSERT INTO sqlite_sequence VALUES ('nobody', 1.5)"],
        ["INSERT INTO t VALUES (9, 'x')", "DELETE FROM t WHERE id = 9"],
        ["UPDATE t SET id = 80"],
        ["SAVEPOINT s", "INSERT INTO t(k) VALUES ('b'), ('c')", "ROLLBACK TO s", "INSERT INTO t(k) VALUES ('d')"],
        ["UPDATE sqlite_sequence SET seq = 5.0"],
    ],
)
@pytest.mark.parametrize("rows_max", [1, 10_000])
def test_sequences_end_as_they_do_in_life(make: Make, statements: list[str], rows_max: int) -> None:
    c = make(SEQUENCED, rows_max=rows_max)
    state = State(c.db)
    state.apply(c.transact(*statements))
    assert not state.different(State(c.db))
    assert repr(sorted(state.sequences.items())) == repr(sorted(State(c.db).sequences.items()))


def test_a_sequence_that_changed_alone_is_one_event(make: Make) -> None:
    c = make(SEQUENCED)
    assert c.transact("INSERT OR IGNORE INTO t(k) VALUES ('a')") == [Sequence("t", 2)]
    assert c.transact("DELETE FROM sqlite_sequence") == [Sequence("t", None, gone=True)]


def test_rows_of_sqlite_sequence_that_are_no_sequences_are_logged_as_content(make: Make) -> None:
    c = make(SEQUENCED)
    events = c.transact("INSERT INTO sqlite_sequence VALUES ('t', 5), (NULL, 3)")
    assert events == [
        Clear("sqlite_sequence"),
        Rows("sqlite_sequence", Op.INSERT, [1, 2, 3], None, None, [("t", 1), ("t", 5), (None, 3)]),
    ]


def test_a_sequence_that_another_connection_moved_is_known_at_the_next_join(make: Make, tmp_path: Any) -> None:
    c = make(SEQUENCED, path=str(tmp_path / "s.db"))
    assert c.transact("INSERT INTO t(k) VALUES ('b')")
    other = apsw.Connection(c.path)
    other.execute("INSERT INTO t(k) VALUES ('c'); UPDATE sqlite_sequence SET seq = 40")
    other.close()
    assert brief(c.transact("INSERT INTO t(k) VALUES ('d')")) == [("INSERT", "t", [41])]
    other = apsw.Connection(c.path)
    other.execute("UPDATE sqlite_sequence SET seq = 80")
    other.close()
    assert c.transact("UPDATE sqlite_sequence SET seq = 41") == [Sequence("t", 41)]
    c.setup("UPDATE sqlite_sequence SET seq = 50")
    assert brief(c.transact("INSERT INTO t(k) VALUES ('e')")) == [("INSERT", "t", [51])]
    c.setup("UPDATE sqlite_sequence SET seq = 60")
    assert c.transact("UPDATE sqlite_sequence SET seq = 51") == [Sequence("t", 51)]
    assert c.transact(
        "UPDATE sqlite_sequence SET seq = 5", "SAVEPOINT s", "DELETE FROM sqlite_sequence", "ROLLBACK TO s"
    )
    assert c.transact("UPDATE sqlite_sequence SET seq = 5") == []


@pytest.mark.parametrize("rows_max", [1, 10_000])
def test_a_table_made_anew_in_one_transaction_has_its_sequence_logged(make: Make, rows_max: int) -> None:
    c = make(SEQUENCED, rows_max=rows_max)
    c.begin()
    c.do("INSERT INTO t(k) VALUES ('b')")
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE)")
    c.do("INSERT INTO t(k) SELECT k FROM t")
    assert c.commit()[-1] == Sequence("t", 0)


def test_statistics_are_logged_as_content_when_they_changed(make: Make, tmp_path: Any) -> None:
    c = make(
        "CREATE TABLE t(a, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES (1, 1), (1, 2), (2, 2)",
        path=str(tmp_path / "s.db"),
    )
    c.begin()
    c.do("ANALYZE")
    c.capture.schema_changed()
    c.capture.refresh_statistics()
    assert [event.table for event in c.commit() if isinstance(event, Clear)] == ["sqlite_stat1", "sqlite_stat4"]
    assert c.transact("INSERT INTO t VALUES (5, 5)") == [rows("t", Op.INSERT, [4], None, [(5, 5)])]
    c.begin()
    c.capture.refresh_statistics()
    assert c.commit() == []
    state = State(c.db)
    events = c.transact("UPDATE sqlite_stat1 SET stat = 'x'")
    assert [event.table for event in events if isinstance(event, Clear)] == ["sqlite_stat1"]
    state.apply(events)
    assert not state.different(State(c.db))


def test_added_events_stand_where_they_were_added_and_go_with_a_rollback(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    c.capture.add(Setting("user_version", 1))
    c.do("SAVEPOINT s")
    c.capture.add(Setting("user_version", 2))
    c.do("ROLLBACK TO s")
    c.do("INSERT INTO t VALUES (2)")
    assert brief(c.commit()) == [("INSERT", "t", [1]), Setting("user_version", 1), ("INSERT", "t", [2])]


# Schema statements


def schema(sql: str) -> Schema:
    return Schema(sql, False, False, b"")


def alter(c: Captured, sql: str) -> None:
    """Run a schema statement as the session does."""
    c.capture.settle()
    mark = c.capture.statement_mark()
    c.do(sql)
    c.capture.add_schema(schema(sql), mark)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE VIRTUAL TABLE f USING fts4(x)",
        "CREATE VIRTUAL TABLE f USING rtree(id, a, b)",
        "ALTER TABLE t RENAME TO other",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t ADD COLUMN c DEFAULT 1",
        "CREATE TABLE copy AS SELECT * FROM t",
        "DROP TABLE t",
    ],
)
def test_a_schema_statement_is_one_event_without_the_rows_that_replaying_it_makes(make: Make, sql: str) -> None:
    c = make("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 2)")
    c.begin()
    alter(c, sql)
    assert c.commit() == [schema(sql)]


def test_cascades_of_dropping_a_parent_come_before_the_schema_event(make: Make) -> None:
    c = make(
        "PRAGMA foreign_keys = 1; CREATE TABLE p(id INTEGER PRIMARY KEY);"
        "CREATE TABLE c(p REFERENCES p ON DELETE CASCADE); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1)"
    )
    c.begin()
    alter(c, "DROP TABLE p")
    assert brief(c.commit()) == [("DELETE", "p", [1]), ("DELETE", "c", [1]), schema("DROP TABLE p")]


def test_rows_are_told_by_the_schema_of_their_time(make: Make) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(a)")
    c.do("INSERT INTO t VALUES (2)")
    assert c.commit() == [
        rows("t", Op.INSERT, None, None, [(1,)]),
        schema("DROP TABLE t"),
        schema("CREATE TABLE t(a)"),
        rows("t", Op.INSERT, [1], None, [(2,)]),
    ]


def test_a_schema_that_another_connection_changed_is_read_at_the_next_join(make: Make, tmp_path: Any) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY)", path=str(tmp_path / "s.db"))
    assert c.transact("INSERT INTO t VALUES (1)") == [rows("t", Op.INSERT, [1], None, [(1,)])]
    other = apsw.Connection(c.path)
    other.execute("DROP TABLE t; CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID")
    other.close()
    assert c.transact("INSERT INTO t VALUES (1)") == [rows("t", Op.INSERT, None, None, [(1,)])]


@pytest.mark.parametrize("other_changes", [False, True])
def test_a_schema_change_that_was_rolled_back_is_not_believed_afterwards(
    make: Make, tmp_path: Any, other_changes: bool
) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY, v)", path=str(tmp_path / "s.db"))
    version = c.db.pragma("schema_version")
    c.begin()
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID")
    c.cursor.execute("ROLLBACK")
    if other_changes:
        other = apsw.Connection(c.path)
        other.execute("CREATE TABLE one(a); CREATE TABLE two(a)")
        other.close()
    else:
        assert c.db.pragma("schema_version") == version
    assert c.transact("INSERT INTO t VALUES (1, 2)") == [rows("t", Op.INSERT, [1], None, [(1, 2)])]


def test_a_schema_change_that_a_savepoint_took_back_is_not_believed_afterwards(make: Make) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY, v)")
    c.begin()
    c.do("SAVEPOINT s")
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID")
    c.do("ROLLBACK TO s")
    c.do("INSERT INTO t VALUES (1, 2)")
    assert c.commit() == [rows("t", Op.INSERT, [1], None, [(1, 2)])]


def test_the_content_of_a_table_can_be_logged_as_inserts(make: Make) -> None:
    c = make("CREATE TABLE t(a); INSERT INTO t VALUES (1), ('x')")
    c.begin()
    alter(c, "CREATE TABLE copy AS SELECT * FROM t")
    c.capture.add_table("copy")
    assert brief(c.commit()) == [schema("CREATE TABLE copy AS SELECT * FROM t"), ("INSERT", "copy", [1, 2])]


def test_a_closed_capture_leaves_a_plain_connection() -> None:
    c = Captured(script="CREATE TABLE t(a)")
    c.capture.close()
    c.db.execute("INSERT INTO t VALUES (1)")
    assert not c.capture.captured
    assert c.told == []
    c.close()
