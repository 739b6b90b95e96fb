"""Capture of full-text search and R-trees: SQLite writes their tables when it likes, and a witness follows each."""

from __future__ import annotations

import apsw
import pytest

from tests.support.captured import Make, State, brief
from veritydb.errors import CaptureError
from veritydb.events import Rows


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
    c.on_sync = lambda: known.append(len(c.capture.buffer))
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
    assert isinstance(c.capture.refusal, CaptureError)


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


def test_joining_again_is_nothing_and_what_may_be_captured_is_told_before_it_is_certain(make: Make) -> None:
    c = make("CREATE TABLE t(a); CREATE VIRTUAL TABLE f USING fts5(x)")
    c.begin()
    c.capture.join()
    assert not c.capture.may_have_captured
    c.do("INSERT INTO f VALUES ('word')")
    assert c.capture.may_have_captured
    c.capture.join()
    assert {name for _, name, _ in brief(c.commit())} >= {"f_data", "f_content"}
