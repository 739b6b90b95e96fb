"""Sequences and statistics: what moves without an event ends, replayed, as it did in life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw
import pytest

from tests.support.captured import Captured, Make, State, alter, brief, rows
from veritydb.events import Clear, Op, Rows, Sequence

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


def test_a_table_of_sequences_that_held_something_else_is_emptied(make: Make) -> None:
    c = make(SEQUENCED)
    c.transact("INSERT INTO sqlite_sequence VALUES ('t', 5), (NULL, 3)")
    assert c.transact("DELETE FROM sqlite_sequence") == [Clear("sqlite_sequence")]


def test_a_sequence_whose_commit_was_refused_is_where_it_was(make: Make) -> None:
    c = make(SEQUENCED)
    state = State(c.db)
    c.begin()
    c.do("INSERT OR IGNORE INTO t(k) VALUES ('a')")
    c.refuse = ValueError()
    with pytest.raises(apsw.ConstraintError):
        c.commit()
    c.refuse = None
    state.apply(c.transact("INSERT INTO t(k) VALUES ('z')"))
    assert not state.different(State(c.db))


def test_a_sequence_that_spilled_rows_have_moved_is_logged(make: Make) -> None:
    c = make(f"{SEQUENCED}; CREATE TABLE plain(a)", rows_max=8)
    state = State(c.db)
    numbers = "WITH r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 100) SELECT 'k' || x FROM r"
    events = c.transact(f"INSERT INTO plain {numbers}", f"INSERT INTO t(k) {numbers}")
    assert c.overflow.count == 0  # It is the next transaction's now.
    state.apply(events)
    assert not state.different(State(c.db))
    assert [event for event in events if isinstance(event, Sequence)] == [Sequence("t", 101)]
