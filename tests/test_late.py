"""Late rows: what the hook cannot see is read before the commit, and the difference is logged as a set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.captured import Captured, Make, State, alter, making
from veritydb.errors import CaptureError
from veritydb.events import Clear, Event, Op, RawText, Rows, Schema
from veritydb.hooks import late, stored
from veritydb.hooks.images import Table, exact_text

VIRTUAL = (
    "CREATE TABLE v(id INTEGER PRIMARY KEY, a UNIQUE, g AS (a || '!')); INSERT INTO v(a) VALUES ('x'), ('y'), ('z')"
)
KEYED = (
    "CREATE TABLE v(k TEXT COLLATE NOCASE PRIMARY KEY, a, g AS (a)) WITHOUT ROWID;"
    "INSERT INTO v(k, a) VALUES ('x', 1), ('y', 2)"
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Connections on a file that the test need not close."""
    yield from making(path=str(tmp_path / "late.db"))


def follows(c: Captured, *statements: str) -> list[Event]:
    """Run a transaction, require that the model follows it, and return its events."""
    state = State(c.db)
    events = c.transact(*statements)
    state.apply(events)
    assert not state.different(State(c.db))
    return events


def test_the_difference_of_a_table_with_virtual_columns_is_one_set_of_each_kind(make: Make) -> None:
    c = make(VIRTUAL)
    assert follows(
        c,
        "UPDATE v SET a = 'changed' WHERE id = 1",
        "DELETE FROM v WHERE id = 2",
        "INSERT INTO v(id, a) VALUES (9, 'new')",
        "UPDATE v SET a = a WHERE id = 3",
    ) == [
        Rows("v", Op.DELETE, [2], None, [(2, "y")], None, net=True),
        Rows("v", Op.UPDATE, [1], None, [(1, "x")], [(1, "changed")], net=True),
        Rows("v", Op.INSERT, [9], None, None, [(9, "new")], net=True),
    ]


def test_rows_that_end_as_they_were_are_no_events(make: Make) -> None:
    c = make(VIRTUAL)
    assert follows(c, "UPDATE v SET a = 'q' WHERE id = 1", "UPDATE v SET a = 'x' WHERE id = 1") == []
    assert follows(c, "INSERT INTO v(a) VALUES ('q')", "DELETE FROM v WHERE a = 'q'") == []
    assert follows(c, "SAVEPOINT s", "DELETE FROM v", "ROLLBACK TO s") == []


def test_unique_values_that_change_places_are_one_set(make: Make) -> None:
    c = make(VIRTUAL)
    events = follows(
        c,
        "UPDATE v SET a = 'spare' WHERE id = 1",
        "UPDATE v SET a = 'x' WHERE id = 2",
        "UPDATE v SET a = 'y' WHERE id = 1",
    )
    assert [len(event) for event in events if isinstance(event, Rows)] == [2]


def test_a_rowid_that_moves_is_a_delete_and_an_insert(make: Make) -> None:
    c = make(VIRTUAL)
    events = follows(c, "UPDATE v SET id = 70 WHERE id = 1", "UPDATE v SET id = 1 WHERE id = 2")
    assert [(e.op, e.rowids) for e in events if isinstance(e, Rows)] == [
        (Op.DELETE, [2]),
        (Op.UPDATE, [1]),
        (Op.INSERT, [70]),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "REPLACE INTO v(id, a) VALUES (8, 'x'), (9, 'y')",
        "INSERT OR FAIL INTO v(a) VALUES ('q'), ('x')",
        "INSERT INTO v(a) VALUES ('q'), ('x')",
    ],
)
def test_conflicts_are_followed(make: Make, sql: str) -> None:
    follows(make(VIRTUAL), sql)


def test_invalid_text_is_kept_byte_for_byte(make: Make) -> None:
    c = make("CREATE TABLE t(a, b)")
    state = State(c.db)
    events = c.transact(
        "INSERT INTO t VALUES ('fine', 1), (CAST(x'ff41' AS TEXT), 2)", "INSERT INTO t VALUES ('too', 3)"
    )
    assert events == [
        Rows("t", Op.INSERT, [1, 2, 3], None, None, [("fine", 1), (RawText(b"\xffA"), 2), ("too", 3)], net=True)
    ]
    state.apply(events)
    assert state == State(c.db)
    assert follows(c, "UPDATE t SET a = 'valid now' WHERE b = 2", "UPDATE t SET b = b + 1")
    assert follows(c, "UPDATE t SET b = CAST(x'00c3' AS TEXT)", "DELETE FROM t WHERE a = 'too'")
    assert follows(c, "DELETE FROM t")


def test_other_tables_keep_their_order_and_images(make: Make) -> None:
    c = make(f"{VIRTUAL}; CREATE TABLE t(a)")
    events = follows(c, "INSERT INTO t VALUES (1)", "DELETE FROM v", "DELETE FROM t")
    assert [(e.op, e.table, e.net) for e in events if isinstance(e, Rows)] == [
        (Op.INSERT, "t", False),
        (Op.DELETE, "t", False),
        (Op.DELETE, "v", True),
    ]


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
@pytest.mark.parametrize(
    "text", ["00d84100", "410042", "4100", "d8000041", "d83dde00", "3dd800de", "", "ffff4100", "fffe", "fffe4100"]
)
def test_text_of_a_utf_16_database_is_logged_as_it_is_stored(make: Make, encoding: str, text: str) -> None:
    c = make(f"PRAGMA encoding = '{encoding}'; CREATE TABLE t(a, b); CREATE TABLE n(a)")
    follows(
        c, f"INSERT INTO t VALUES (CAST(x'{text}' AS TEXT), 1), ('ü', 2)", "INSERT INTO n VALUES (1), (x'00'), (NULL)"
    )
    kept: Any = c.db.execute("SELECT hex(CAST(a AS BLOB)) FROM t WHERE b = 1").get
    value = exact_text(bytes.fromhex(kept), encoding.lower())
    again = "SELECT hex(CAST(CAST(? AS TEXT) AS BLOB))" if isinstance(value, RawText) else "SELECT hex(CAST(? AS BLOB))"
    assert c.db.execute(again, (value,)).get == kept
    follows(c, "UPDATE t SET b = b + 1")
    follows(c, "UPDATE t SET a = b", "DELETE FROM n")


def test_rows_of_a_utf_16_database_without_text_need_not_be_late(make: Make) -> None:
    c = make("PRAGMA encoding = 'UTF-16'; CREATE TABLE n(a)")
    assert follows(c, "INSERT INTO n VALUES (1), (2)") == [Rows("n", Op.INSERT, [1, 2], None, None, [(1,), (2,)])]
    follows(c, "INSERT INTO n VALUES (3), (CAST(x'00d84100' AS TEXT)), (4)")


def test_full_text_search_in_a_utf_16_database_is_followed(make: Make) -> None:
    c = make("PRAGMA encoding = 'UTF-16'; CREATE VIRTUAL TABLE f USING fts5(x); CREATE VIRTUAL TABLE g USING fts4(x)")
    follows(c, "INSERT INTO f VALUES ('words'), ('more words')", "SAVEPOINT s", "DELETE FROM f", "ROLLBACK TO s")
    follows(c, "INSERT INTO f(f, rank) VALUES ('automerge', 8)", "INSERT INTO g VALUES ('words')")


def test_blob_writes_of_full_text_search_are_read_late(make: Make) -> None:
    c = make("CREATE VIRTUAL TABLE f USING fts5(x)")
    follows(c, "INSERT INTO f(f, rank) VALUES ('automerge', 8)", "INSERT INTO f VALUES ('word')")
    follows(c, "INSERT INTO f VALUES ('word')", "INSERT INTO f(f, rank) VALUES ('pgsz', 64)")


def test_a_row_that_was_touched_from_outside_is_read_late(make: Make) -> None:
    c = make("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(3))")
    state = State(c.db)
    c.begin()
    c.capture.pause()
    with c.db.blob_open("main", "t", "a", 1, True) as blob:
        blob.write(b"abc")
    c.capture.enabled = True
    c.capture.touch("T", 1)
    state.apply(c.commit())
    assert state == State(c.db)


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE v SET k = 'X' WHERE k = 'x'"],
        ["UPDATE v SET a = a + 1"],
        ["DELETE FROM v", "INSERT INTO v(k, a) VALUES ('y', 2), ('new', 3)"],
        ["UPDATE v SET k = 'z' WHERE k = 'y'", "UPDATE v SET k = 'y' WHERE k = 'x'"],
        ["INSERT INTO v(k, a) VALUES (CAST(x'ff' AS TEXT), 1)"],
    ],
)
@pytest.mark.parametrize("memory", [False, True])
def test_a_table_without_rowid_is_compared_by_its_rows(make: Make, statements: list[str], memory: bool) -> None:
    c = make(KEYED, path=":memory:") if memory else make(KEYED)
    events = follows(c, *statements)
    assert isinstance(events[0], Clear) is memory


@pytest.mark.parametrize(
    "sql",
    ["UPDATE v SET a = a + 1 WHERE k = 'x'", "DELETE FROM v WHERE k = 'y'", "INSERT INTO v(k) VALUES ('q'), ('r')"],
)
def test_a_large_table_without_rowid_is_logged_as_content(
    make: Make, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    c = make(KEYED)
    if sql.startswith("INSERT"):
        c.setup("DELETE FROM v WHERE k = 'y'")
    monkeypatch.setattr(stored, "KEYED_ROWS_MAX", 1)
    assert follows(c, sql)[0] == Clear("v")


def test_what_is_in_memory_is_logged_as_content(make: Make) -> None:
    c = make(VIRTUAL, path=":memory:")
    assert follows(c, "DELETE FROM v WHERE id = 2") == [
        Clear("v"),
        Rows("v", Op.INSERT, [1, 3], None, None, [(1, "x"), (3, "z")]),
    ]


def test_what_a_locked_out_reader_cannot_see_is_logged_as_content(make: Make) -> None:
    c = make("PRAGMA journal_mode = DELETE")
    c.setup(VIRTUAL)
    assert not any(isinstance(event, Clear) for event in follows(c, "UPDATE v SET a = 'q' WHERE id = 1"))
    assert c.transact("DELETE FROM v WHERE a = 'q'")
    state = State(c.db)
    c.db.execute("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; CREATE TEMP TABLE none(a)")
    c.begin("BEGIN EXCLUSIVE")
    c.do("UPDATE v SET a = 'r' WHERE id = 2")
    events = c.commit()
    assert events[0] == Clear("v")
    state.apply(events)
    assert state == State(c.db)


# Settlements in the middle


def test_rows_changed_before_a_schema_statement_are_logged_before_it(make: Make) -> None:
    c = make(VIRTUAL)
    c.begin()
    c.do("UPDATE v SET a = 'q' WHERE id = 1")
    alter(c, "ALTER TABLE v ADD COLUMN b DEFAULT 5")
    c.do("UPDATE v SET b = 6 WHERE id = 2")
    events = c.commit()
    assert events[0] == Rows("v", Op.UPDATE, [1], None, [(1, "x")], [(1, "q")], net=True)
    assert isinstance(events[1], Schema)
    assert events[2:] == [
        Clear("v"),
        Rows("v", Op.INSERT, [1, 2, 3], None, None, [(1, "q", 5), (2, "y", 6), (3, "z", 5)]),
    ]


def test_a_table_dropped_and_made_again_is_not_compared_with_the_old_one(make: Make) -> None:
    c = make("CREATE TABLE v(a, g AS (a)); INSERT INTO v(a) VALUES (1)")
    c.begin()
    alter(c, "DROP TABLE v")
    alter(c, "CREATE TABLE v(a, g AS (a))")
    c.do("INSERT INTO v(a) VALUES (1)")
    assert c.commit()[2:] == [Clear("v"), Rows("v", Op.INSERT, [1], None, None, [(1,)])]


def test_a_settlement_that_a_savepoint_takes_back_is_made_again(make: Make) -> None:
    c = make(f"{VIRTUAL}; CREATE TABLE t(a)")
    state = State(c.db)
    c.begin()
    c.do("UPDATE v SET a = 'q' WHERE id = 1")
    c.do("INSERT INTO t VALUES (CAST(x'ff' AS TEXT)), ('kept')")
    c.do("SAVEPOINT s")
    c.do("UPDATE v SET a = 'r' WHERE id = 2")
    c.do("INSERT INTO t VALUES ('undone')")
    alter(c, "CREATE TABLE u(a)")
    c.do("DELETE FROM v")
    c.do("ROLLBACK TO s")
    c.do("UPDATE v SET a = 's' WHERE id = 3")
    events = c.commit()
    state.apply(events)
    assert not state.different(State(c.db))
    assert not any(isinstance(event, Clear) for event in events)


def test_an_empty_settlement_that_a_savepoint_takes_back_was_none(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.begin()
    c.do("INSERT INTO t VALUES ('x')")
    c.do("SAVEPOINT s")
    c.capture.settle()
    c.do("DELETE FROM t")
    c.do("ROLLBACK TO s")
    c.do("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
    assert c.commit() == [Rows("t", Op.INSERT, [1, 2], None, None, [("x",), (RawText(b"\xff"),)], net=True)]


def test_rows_recorded_before_an_empty_settlement_are_not_compared_away(make: Make) -> None:
    c = make("CREATE TABLE t(a); INSERT INTO t VALUES ('old')")
    state = State(c.db)
    c.begin()
    c.do("UPDATE t SET a = 'x'")
    c.capture.settle()
    c.do("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
    events = c.commit()
    assert [type(event).__name__ for event in events] == ["Rows", "Clear", "Rows"]
    state.apply(events)
    assert state == State(c.db)


def test_rows_that_were_spilled_are_followed_by_the_content(make: Make) -> None:
    c = make("CREATE TABLE t(a)", rows_max=10)
    numbers = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 50) SELECT x FROM r"
    events = follows(
        c, f"INSERT INTO t {numbers}", "INSERT INTO t VALUES (CAST(x'ff' AS TEXT))", "DELETE FROM t WHERE a = 7"
    )
    assert Clear("t") in events


def test_rows_of_a_table_made_by_the_running_statement_are_forgotten_with_it(make: Make) -> None:
    c = make("PRAGMA encoding = 'UTF-16'; CREATE TABLE t(a)")
    c.begin()
    alter(c, "CREATE VIRTUAL TABLE f USING fts5(x)")
    assert [type(event) for event in c.commit()] == [Schema]


# Sizes and shapes


@pytest.mark.parametrize("script", [VIRTUAL, KEYED])
def test_a_large_difference_is_logged_in_pieces_old_rows_first(
    make: Make, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(late, "CHUNK_ROWS", 2)
    c = make(script)
    follows(c, "INSERT INTO v(a) VALUES ('1'), ('2'), ('3'), ('4'), ('5')") if script == VIRTUAL else None
    column = "id" if script == VIRTUAL else "k"
    events = follows(
        c,
        f"UPDATE v SET a = a || '?' WHERE {column} IS NOT 'y'",
        f"INSERT INTO v({column}, a) VALUES (90, 'n'), (91, 'm'), (92, 'l')",
    )
    ops = [event.op for event in events if isinstance(event, Rows)]
    assert ops == sorted(ops, key=lambda op: op is Op.INSERT)
    assert len(ops) > 2


def test_beyond_a_number_of_rowids_the_whole_table_is_compared(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "ROWIDS_MAX", 2)
    c = make(VIRTUAL)
    events = follows(
        c,
        "UPDATE v SET a = a || '?' WHERE id <> 2",
        "INSERT INTO v(id, a) VALUES (-1, 'n'), (9, 'm')",
        "DELETE FROM v WHERE id = 3",
    )
    assert all(isinstance(event, Rows) and event.net for event in events)


def test_columns_called_rowid_do_not_confuse_the_reading(make: Make) -> None:
    follows(make("CREATE TABLE v(oid, rowid, g AS (oid)); INSERT INTO v VALUES (5, 6)"), "UPDATE v SET oid = 7")


def test_a_key_column_serves_where_all_names_of_the_rowid_are_taken(make: Make) -> None:
    c = make('CREATE TABLE v(rowid INTEGER PRIMARY KEY, "_rowid_", OID, g AS (oid)); INSERT INTO v VALUES (5, 6, 7)')
    c.begin()
    c.do("UPDATE v SET oid = 8")
    assert c.commit() == [Rows("v", Op.UPDATE, [5], None, [(5, 6, 7)], [(5, 6, 8)], net=True)]


def test_a_late_row_that_comes_when_the_commit_is_prepared_refuses_it(make: Make) -> None:
    c = make(f"{VIRTUAL}; CREATE TABLE t(a)")
    inner = c.db.cursor()
    c.on_sync = lambda: inner.execute("DELETE FROM v")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert isinstance(c.capture.refusal, CaptureError)


HIDES = "CREATE TABLE v(rowid, oid, _rowid_, g AS (oid)); INSERT INTO v VALUES (1, 1, 1), (1, 1, 1), (2, 2, 2)"


def test_a_table_that_hides_its_rowids_is_logged_as_a_whole_under_them(make: Make) -> None:
    c = make(f"{HIDES}; DELETE FROM v WHERE oid = 2; INSERT INTO v VALUES (3, 3, 3); DELETE FROM v WHERE oid = 3")
    c.setup("INSERT INTO v VALUES (3, 3, 3), (4, 4, 4); DELETE FROM v WHERE oid = 3")
    c.begin()
    c.do("UPDATE v SET rowid = 7 WHERE rowid = 4")
    assert c.capture.settlement_due
    c.capture.settle_early()
    assert not c.capture.settlement_due
    clear, rows = c.commit()
    assert isinstance(clear, Clear)
    assert isinstance(rows, Rows)
    assert (rows.rowids, rows.after) == ([1, 2, 4], [(1, 1, 1), (1, 1, 1), (7, 4, 4)])


def test_late_rows_of_a_table_that_hides_its_rowids_are_refused_when_it_is_too_late(make: Make) -> None:
    c = make(HIDES)
    c.begin()
    c.do("UPDATE v SET rowid = 2 WHERE rowid = 1")
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert isinstance(c.capture.refusal, CaptureError)


def test_a_table_of_many_columns_is_read_in_pieces(make: Make) -> None:
    names = ", ".join(f"c{number}" for number in range(1998))
    c = make(f"CREATE TABLE v({names}, g AS (c0))")
    c.begin()
    c.do("INSERT INTO v(c0, c1997) VALUES (CAST(x'ff' AS TEXT), 'last')")
    (event,) = c.commit()
    assert isinstance(event, Rows)
    assert event.after is not None
    assert (event.after[0][0], event.after[0][1997], len(event.after[0])) == (RawText(b"\xff"), "last", 1998)


def test_too_many_columns_without_a_rowid_cannot_be_read(make: Make) -> None:
    names = ", ".join(f"c{number}" for number in range(1000))
    c = make(f"CREATE TABLE v({names}, g AS (c0), PRIMARY KEY(c0)) WITHOUT ROWID")
    c.begin()
    c.do("INSERT INTO v(c0) VALUES (1)")
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    assert isinstance(c.capture.refusal, CaptureError)


def test_values_that_python_calls_equal_are_told_apart(make: Make) -> None:
    c = make("CREATE TABLE v(a BLOB, g AS (a)); INSERT INTO v(a) VALUES (1), (0.0), ('x'), (x'ff')")
    follows(c, "UPDATE v SET a = 1.0 WHERE rowid = 1")
    follows(c, "UPDATE v SET a = -0.0 WHERE rowid = 2")
    follows(c, "UPDATE v SET a = x'78' WHERE rowid = 3")
    events = follows(c, "UPDATE v SET a = CAST(a AS TEXT) WHERE rowid = 4")
    assert len(events) == 1


def test_a_stored_table_says_when_it_is_not_there(make: Make) -> None:
    c = make("")
    with pytest.raises(apsw.SQLError):
        stored.StoredTable(c.db, Table("nowhere"), "utf-8")


@pytest.mark.parametrize(("was", "meanwhile"), [("", " WITHOUT ROWID"), (" WITHOUT ROWID", "")])
def test_a_table_that_was_another_kind_of_table_for_a_while_is_compared_as_what_it_is(
    make: Make, was: str, meanwhile: str
) -> None:
    made = "CREATE TABLE v(id INTEGER PRIMARY KEY, a, g AS (a))"
    c = make(f"{made}{was}; INSERT INTO v(id, a) VALUES (1, 'one'), (11, 'eleven')")
    state = State(c.db)
    c.begin()
    c.do("SAVEPOINT s")
    alter(c, "DROP TABLE v")
    alter(c, f"{made}{meanwhile}")
    c.do("INSERT INTO v(id, a) VALUES (1, 'other'), (2, 'other')")
    c.do("ROLLBACK TO s")
    c.do("UPDATE v SET a = 'changed' WHERE id = 11")
    events = c.commit()
    assert [e.after for e in events if isinstance(e, Rows) and e.after] == [[(11, "changed")]]
    state.apply(events)
    assert not state.different(State(c.db))


def test_whether_a_table_is_unchanged_cannot_be_told_where_it_was_not(make: Make) -> None:
    c = make(VIRTUAL)
    c.begin()
    alter(c, "CREATE TABLE new(a)")
    c.do("INSERT INTO new VALUES (1)")
    assert not c.capture._late.is_unchanged("new")
    assert c.capture._late.is_unchanged("v")
    c.do("ROLLBACK")


def test_rows_that_were_recorded_of_a_table_without_rowid_are_compared_with_the_late_ones(make: Make) -> None:
    c = make("CREATE TABLE w(a PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w VALUES ('old', 1)")
    follows(c, "INSERT INTO w VALUES ('new', 1)", "INSERT INTO w VALUES (CAST(x'ff' AS TEXT), 1)")


def test_rows_that_were_recorded_of_a_table_that_hides_its_rowids_are_logged_with_the_late_ones(make: Make) -> None:
    c = make("CREATE TABLE v(rowid, oid, _rowid_)")
    c.begin()
    c.do("INSERT INTO v VALUES (1, 1, 1)")
    c.do("INSERT INTO v VALUES (2, 2, CAST(x'ff' AS TEXT))")
    c.capture.settle_early()
    images = [(1, 1, 1), (2, 2, RawText(b"\xff"))]
    assert c.commit() == [Clear("v"), Rows("v", Op.INSERT, [1, 2], None, None, images)]


def test_row_ids_that_were_found_and_are_too_few_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    c = make(HIDES)
    c.begin()
    c.do("UPDATE v SET rowid = 2 WHERE rowid = 1")
    monkeypatch.setattr(c.capture, "numbers", lambda _: [1])
    with pytest.raises(CaptureError):
        c.capture.settle_early()
    c.do("ROLLBACK")


def test_whether_a_table_that_is_too_large_to_compare_is_unchanged_cannot_be_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    c = make("CREATE TABLE w(a PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w VALUES (1, 1), (2, 2)")
    c.begin()
    assert c.capture._late.is_unchanged("w")
    monkeypatch.setattr(stored, "KEYED_ROWS_MAX", 1)
    assert not c.capture._late.is_unchanged("w")
    c.do("ROLLBACK")
