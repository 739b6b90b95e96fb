"""Capture: what the hooks report, what the witnesses take back, and what is refused when neither can be trusted.

The connection is a plain one, driven as the session drives it (``tests/support/captured.py``).
"""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from tests.support.captured import NUMBERS, Captured, Make, State, brief, rows
from veritydb.errors import CaptureError
from veritydb.events import Op, Rows, Setting

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
    c.capture.pause()
    c.do("INSERT INTO t VALUES (2)")
    c.capture.enabled = True
    c.do("INSERT INTO t VALUES (3)")
    assert [event.rowids for event in c.commit() if isinstance(event, Rows)] == [[1], [3]]


def test_a_delete_prepared_while_capture_is_off_is_reported_when_it_is_on(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.capture.pause()
    c.cursor.execute("DELETE FROM t")
    c.cursor.execute("INSERT INTO t VALUES (1)")
    c.capture.enabled = True
    assert brief(c.transact("DELETE FROM t")) == [("DELETE", "t", [1])]


def test_a_blob_that_is_written_after_a_row_was_deleted_is_read_late(make: Make) -> None:
    c = make("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, zeroblob(2)), (2, zeroblob(2))")
    c.begin()
    c.do("DELETE FROM t WHERE a = 1")
    with c.db.blob_open("main", "t", "b", 2, True) as blob:
        blob.write(b"xy")
    events = c.commit()
    assert (Op.INSERT, [2], [(2, b"xy")]) in [(e.op, e.rowids, e.after) for e in events if isinstance(e, Rows)]


# The client


def test_the_client_is_told_of_sync_and_commit_in_this_order_and_may_write_in_sync(make: Make) -> None:
    c = make("CREATE TABLE t(a); CREATE TABLE _veritydb_applied(id INTEGER PRIMARY KEY, applied BLOB NOT NULL);"
             "INSERT INTO _veritydb_applied VALUES (1, zeroblob(4))")  # fmt: skip
    on_sync = c.on_sync

    def write() -> None:
        on_sync()
        with c.db.blob_open("main", "_veritydb_applied", "applied", 1, True) as blob:
            blob.write(b"done")

    c.on_sync = write
    c.begin()
    c.do("INSERT INTO t VALUES (1), (2)")
    c.commit()
    assert c.told == ["sync", "commit"]
    assert c.db.changes() == 2
    assert c.db.execute("SELECT applied FROM _veritydb_applied").get == b"done"
    assert not c.capture.joined
    assert not c.capture.captured


def test_joining_keeps_last_insert_rowid_and_total_changes(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.transact("INSERT INTO t VALUES (1), (2), (3)")
    before = c.db.last_insert_rowid(), c.db.total_changes()
    c.begin()
    assert (c.db.last_insert_rowid(), c.db.total_changes()) == before
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
        assert c.capture.refusal is problem
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
    assert isinstance(c.capture.refusal, CaptureError)
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
    assert isinstance(c.capture.refusal, CaptureError)


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


def test_a_closed_capture_leaves_a_plain_connection() -> None:
    c = Captured(script="CREATE TABLE t(a)")
    c.capture.close()
    c.db.execute("INSERT INTO t VALUES (1)")
    assert not c.capture.captured
    assert c.told == []
    c.close()


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


def test_a_rollback_while_nothing_is_captured_is_told_to_nobody(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.setup("BEGIN; INSERT INTO t VALUES (1); ROLLBACK")
    assert c.told == []
