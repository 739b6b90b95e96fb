"""When a transaction begins and ends, what of it is in the log, and who made it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support import files
from tests.support.twins import See, same
from veritydb.events import Op, Rows
from veritydb.streams import log_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.life import Life


@pytest.fixture
def db(life: Life) -> Iterator[veritydb.Connection]:
    """A database with a table, opened as sqlite3 opens it."""
    connection = life.connect()
    connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE)")
    return connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of ``db``."""
    return tmp_path / "life.db"


def _logged(path: Path, start: int = 1) -> list[list[tuple[str, str, int]]]:
    """Return for each transaction from ``start`` on its row changes: operation, table, count."""
    return [
        [(event.op.name, event.table, len(event)) for event in transaction.events if isinstance(event, Rows)]
        for transaction in files.transactions(path, start=start)
    ]


def test_a_row_change_opens_a_transaction_and_commit_logs_it_whole(db: veritydb.Connection, path: Path) -> None:
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.execute("INSERT INTO t VALUES (2, 'y')")
    assert db.in_transaction
    assert _logged(path) == []
    db.commit()
    assert not db.in_transaction
    assert _logged(path) == [[("INSERT", "t", 2)]]


def test_rollback_logs_nothing(db: veritydb.Connection, path: Path) -> None:
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.rollback()
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert _logged(path) == []


def test_closing_rolls_back(db: veritydb.Connection, path: Path) -> None:
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.close()
    assert _logged(path) == []


def test_the_context_manager_commits_or_rolls_back(db: veritydb.Connection, path: Path) -> None:
    with db:
        db.execute("INSERT INTO t VALUES (1, 'x')")
    with pytest.raises(ZeroDivisionError), db:
        db.execute("INSERT INTO t VALUES (2, 'y')")
        raise ZeroDivisionError
    assert _logged(path) == [[("INSERT", "t", 1)]]


def test_transactions_that_change_nothing_are_not_logged(db: veritydb.Connection, path: Path) -> None:
    offset = db.last_offset
    db.execute("BEGIN IMMEDIATE")
    db.execute("SELECT * FROM t").fetchall()
    db.execute("COMMIT")
    with db:
        db.execute("DELETE FROM t")
    with db:
        db.execute("UPDATE t SET b = 1 WHERE a = 77")
    with db:
        db.execute("INSERT INTO t VALUES (1, 'x')")
        db.execute("SELECT 1")
    with db:
        db.execute("SAVEPOINT s")
        db.execute("DELETE FROM t")
        db.execute("ROLLBACK TO s")
    assert _logged(path) == [[("INSERT", "t", 1)]]
    assert offset is not None
    assert db.last_offset == offset + 1


def test_bare_statements_are_transactions_of_their_own(life: Life, path: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1), (2)")
    assert not db.in_transaction
    db.execute("DELETE FROM t")
    assert _logged(path) == [[("INSERT", "t", 2)], [("DELETE", "t", 2)]]


def test_last_offset_is_that_of_this_connections_last_commit(life: Life) -> None:
    one, two = life.connect(isolation_level=None), life.connect(isolation_level=None)
    assert one.last_offset is None
    one.execute("CREATE TABLE t(a)")
    first = one.last_offset
    assert first == 0
    two.execute("INSERT INTO t VALUES (1)")
    two.execute("INSERT INTO t VALUES (2)")
    assert (one.last_offset, two.last_offset) == (0, 2)
    one.execute("INSERT INTO t VALUES (3)")
    assert (one.last_offset, two.last_offset) == (3, 2)


def test_actor_and_reason_stand_in_the_log(life: Life, path: Path) -> None:
    db = life.connect(actor="dr.lee", isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    with db.reason("corrected after a call"):
        db.execute("INSERT INTO t VALUES (1)")
    db.execute("DELETE FROM t")
    found = [(t.offset, t.actor, t.reason) for t in files.transactions(path)]
    assert found == [(0, "dr.lee", ""), (1, "dr.lee", "corrected after a call"), (2, "dr.lee", "")]


def test_timestamps_never_go_back_and_ids_differ(life: Life, path: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    for number in range(5):
        db.execute("INSERT INTO t VALUES (?)", (number,))
    found = files.transactions(path)
    times = [t.timestamp for t in found]
    assert times == sorted(times)
    assert len({t.id for t in found}) == len(found) == 6


def test_a_bare_statement_that_fails_with_or_fail_commits_what_it_kept(life: Life, path: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a UNIQUE)")
    with pytest.raises(veritydb.IntegrityError):
        db.execute("INSERT OR FAIL INTO t VALUES (1), (2), (1), (3)")
    assert not db.in_transaction
    assert _logged(path) == [[("INSERT", "t", 2)]]


def test_a_deferred_key_fails_the_commit_and_the_transaction_stays_open(life: Life, path: Path) -> None:
    db = life.connect()
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE p(a PRIMARY KEY)")
    db.execute("CREATE TABLE c(x REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
    db.execute("INSERT INTO c VALUES (1)")
    with pytest.raises(veritydb.IntegrityError, match="FOREIGN KEY constraint failed"):
        db.commit()
    assert db.in_transaction
    db.execute("INSERT INTO p VALUES (1)")
    db.commit()
    assert _logged(path, 2) == [[("INSERT", "c", 1), ("INSERT", "p", 1)]]


def test_two_writers_wait_for_each_other_or_give_up(life: Life) -> None:
    one, two = life.connect(), life.connect(timeout=0)
    one.execute("CREATE TABLE t(a)")
    one.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(veritydb.OperationalError, match="database is locked"):
        two.execute("INSERT INTO t VALUES (2)")
    assert two.execute("SELECT count(*) FROM t").fetchone() == (0,)
    two.rollback()
    one.commit()
    two.execute("INSERT INTO t VALUES (2)")
    two.commit()
    assert one.execute("SELECT a FROM t").fetchall() == [(1,), (2,)]


def test_a_snapshot_that_is_no_longer_the_last_one_cannot_write(life: Life) -> None:
    one, two = life.connect(isolation_level=None), life.connect(isolation_level=None, timeout=0)
    one.execute("CREATE TABLE t(a)")
    two.execute("BEGIN")
    two.execute("SELECT * FROM t").fetchall()
    one.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(veritydb.OperationalError):
        two.execute("INSERT INTO t VALUES (2)")
    two.execute("ROLLBACK")
    two.execute("INSERT INTO t VALUES (2)")


def test_savepoints_that_were_rolled_back_leave_no_trace(db: veritydb.Connection, path: Path) -> None:
    with db:
        db.execute("INSERT INTO t VALUES (1, 'kept')")
        db.execute("SAVEPOINT s")
        db.execute("INSERT INTO t VALUES (2, 'undone')")
        db.execute("UPDATE t SET b = b || ' changed'")
        db.execute("ROLLBACK TO s")
        db.execute("INSERT INTO t VALUES (3, 'also kept')")
    (events,) = [list(t.events) for t in files.transactions(path, start=1)]
    assert events == [Rows("t", Op.INSERT, [1, 3], None, None, [(1, "kept"), (3, "also kept")])]


def test_a_savepoint_without_a_transaction_commits_when_it_is_released(life: Life, path: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute("SAVEPOINT s")
    db.execute("INSERT INTO t VALUES (1)")
    assert _logged(path) == []
    db.execute("RELEASE s")
    assert not db.in_transaction
    assert _logged(path) == [[("INSERT", "t", 1)]]


def test_updates_and_deletes_carry_the_full_before_image(db: veritydb.Connection, path: Path) -> None:
    with db:
        db.execute("INSERT INTO t VALUES (1, 'x')")
    with db:
        db.execute("UPDATE t SET a = 5, b = 2.5")
    with db:
        db.execute("DELETE FROM t")
    changed, deleted = [list(t.events) for t in files.transactions(path, start=2)]
    assert changed == [Rows("t", Op.UPDATE, [1], [5], [(1, "x")], [(5, 2.5)])]
    assert deleted == [Rows("t", Op.DELETE, [5], None, [(5, 2.5)], None)]


@pytest.mark.parametrize("script", ["CREATE TABLE u(a); INSERT INTO u VALUES (1); INSERT INTO u VALUES (2);"])
def test_executescript_commits_first_and_runs_bare(db: veritydb.Connection, path: Path, script: str) -> None:
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.executescript(script)
    assert not db.in_transaction
    assert _logged(path) == [[("INSERT", "t", 1)], [], [("INSERT", "u", 1)], [("INSERT", "u", 1)]]


def test_autocommit_false_is_always_in_a_transaction(life: Life, path: Path) -> None:
    db = life.connect(autocommit=False)
    assert db.in_transaction
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.commit()
    assert db.in_transaction
    db.execute("INSERT INTO t VALUES (2)")
    db.rollback()
    assert db.execute("SELECT a FROM t").fetchall() == [(1,)]
    assert len(files.transactions(path)) == 1


def test_autocommit_true_never_is(life: Life, path: Path) -> None:
    db = life.connect(autocommit=True)
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.rollback()
    assert not db.in_transaction
    assert _logged(path) == [[("INSERT", "t", 1)]]


def test_temp_tables_are_not_logged_and_wait_for_nobody(life: Life, path: Path) -> None:
    one, two = life.connect(), life.connect(timeout=0, isolation_level=None)
    one.execute("CREATE TABLE t(a)")
    one.execute("INSERT INTO t VALUES (1)")  # Holds the write lock.
    two.execute("CREATE TEMP TABLE s(a)")
    two.execute("INSERT INTO s VALUES (1)")
    assert two.execute("SELECT a FROM s").fetchall() == [(1,)]
    one.rollback()
    assert _logged(path) == []


def test_threads_with_a_connection_each_write_one_chain(life: Life, path: Path) -> None:
    life.connect(isolation_level=None).execute("CREATE TABLE t(a)")
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            db = veritydb.connect(path, timeout=120, isolation_level=None)
            for turn in range(10):
                db.execute("INSERT INTO t VALUES (?)", (100 * number + turn,))
            db.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = files.transactions(path)
    assert [t.offset for t in found] == list(range(41))


def test_memory_databases_have_a_log_in_memory() -> None:
    db = veritydb.connect(":memory:", isolation_level=None)
    try:
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES (1)")
        assert db.last_offset == 1
        with pytest.raises(veritydb.IntegrityError):
            db.execute("CREATE UNIQUE INDEX i ON t(abs(a))")
            db.execute("INSERT INTO t VALUES (-1)")
        assert db.last_offset == 2
    finally:
        db.close()


def test_a_program_that_asks_changes_is_told_what_sqlite_would_say(db: veritydb.Connection) -> None:
    def asked() -> tuple[Any, ...]:
        found: tuple[Any, ...] = db.execute("SELECT changes(), total_changes(), last_insert_rowid()").fetchone()
        return found

    db.execute("INSERT INTO t VALUES (7, 'x'), (8, 'y')")
    assert asked() == (2, 2, 8)
    db.commit()
    assert asked() == (2, 2, 8)
    db.execute("UPDATE t SET b = 'z' WHERE a = 8")
    db.execute("INSERT INTO t SELECT 9, 'w' WHERE changes() = 1")
    db.commit()
    assert asked() == (1, 4, 9)
    assert db.total_changes == 4


@pytest.mark.parametrize("inside", [True, False], ids=["with-reason-inside", "with-reason-outside"])
def test_the_reason_of_a_block_reaches_the_commit_that_ends_it(
    db: veritydb.Connection, path: Path, inside: bool
) -> None:
    if inside:
        with db, db.reason("referral"):
            db.execute("INSERT INTO t VALUES (1, 'a')")
    else:
        with db.reason("referral"), db:
            db.execute("INSERT INTO t VALUES (1, 'a')")
    with db:
        db.execute("INSERT INTO t VALUES (2, 'b')")
    assert [t.reason for t in files.transactions(path, start=1)] == ["referral", ""]


def test_a_reason_given_in_the_middle_of_a_transaction_is_its_reason(db: veritydb.Connection, path: Path) -> None:
    with db:
        db.execute("INSERT INTO t VALUES (1, 'a')")
        with db.reason("found later"):
            db.execute("INSERT INTO t VALUES (2, 'b')")
    assert [t.reason for t in files.transactions(path, start=1)] == ["found later"]


def test_a_schema_that_another_connection_changed_is_planned_anew(life: Life, path: Path) -> None:
    one, two = life.connect(), life.connect()
    one.executescript("CREATE TABLE t(a); CREATE TABLE l(a)")
    assert two.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)]).rowcount == 2
    two.commit()
    one.execute("CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO l VALUES (new.a); END")
    assert two.executemany("INSERT INTO t VALUES (?)", [(3,), (4,)]).rowcount == 2
    two.commit()
    assert one.execute("SELECT count(*) FROM l").fetchone() == (2,)


def test_what_is_registered_is_there_for_redo_and_for_the_program(tmp_path: Path) -> None:
    calls: list[str] = []

    def register(connection: Any) -> None:
        calls.append(type(connection).__name__)
        connection.create_function("twice", 1, lambda x: 2 * x, deterministic=True)

    path = tmp_path / "registered.db"
    db = veritydb.connect(path, register=register)
    db.execute("CREATE TABLE t(a)")
    db.execute("CREATE INDEX i ON t(twice(a))")
    db.execute("INSERT INTO t VALUES (4)")
    db.commit()
    db.close()
    assert calls == ["Connection"]
    path.unlink()
    db = veritydb.connect(path, register=register)
    assert db.execute("SELECT a FROM t WHERE twice(a) = 8").fetchall() == [(4,)]
    db.close()
    assert calls == ["Connection", "Registrar", "Connection"]
    path.unlink()
    with pytest.raises(veritydb.MissingFunction, match="twice"):
        veritydb.connect(path)
    with pytest.raises(veritydb.ConfigurationError, match="cannot be imported"):
        veritydb.connect(path, register="no.such:thing")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("CREATE INDEX i ON t(a)", "DROP INDEX IF EXISTS i"),
        ("CREATE TABLE u(a)", "DROP TABLE IF EXISTS u"),
        ("CREATE VIEW v AS SELECT 1", "DROP VIEW IF EXISTS v"),
        ("DROP TABLE gone", "CREATE TABLE IF NOT EXISTS gone(b)"),
        ("DROP INDEX g", "CREATE INDEX IF NOT EXISTS g ON t(a, b)"),
        ("CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM gone; END", "INSERT INTO t VALUES (2, 2)"),
        ("ALTER TABLE t RENAME TO s", "CREATE TABLE IF NOT EXISTS t(z)"),
        ("CREATE INDEX i ON t(a)", "EXPLAIN DROP INDEX IF EXISTS i"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["run before", "new"])
def test_what_another_connection_did_to_the_schema_is_seen_in_time(
    first: str, then: str, known: bool, life: Life, path: Path
) -> None:
    """A statement that had nothing to do when it was planned, and has now, is logged like any other."""
    one, two = life.connect(isolation_level=None), life.connect(isolation_level=None)
    for sql in (
        "CREATE TABLE t(a, b)",
        "CREATE TABLE gone(a)",
        "CREATE INDEX g ON t(b)",
        "INSERT INTO gone VALUES (1)",
    ):
        one.execute(sql)
    two.execute("SELECT * FROM t").fetchall()
    if known:
        two.execute(then)
    one.execute(first)
    two.execute(then)
    one.execute("SELECT * FROM sqlite_schema").fetchall()


def test_a_query_that_is_known_follows_what_another_connection_does_to_the_schema(tmp_path: Path) -> None:
    """Its rows, the names of its columns, and what its converters and row factory make of them."""
    queries = (
        "SELECT * FROM t",
        "SELECT * FROM v",
        "SELECT a FROM t",
        "WITH x AS (SELECT * FROM t) SELECT * FROM x",
        "SELECT count(*) FROM t",
        "SELECT name FROM sqlite_master WHERE name NOT LIKE '_verity%'",
        "PRAGMA table_info(t)",
        "PRAGMA index_list(t)",
    )
    changes = (
        "ALTER TABLE t ADD COLUMN c numbers DEFAULT 'x'",
        "UPDATE t SET c = '7'",
        "DROP VIEW v",
        "CREATE VIEW v AS SELECT b, a FROM t",
        "CREATE INDEX i ON t(b)",
        "ALTER TABLE t RENAME COLUMN a TO z",
        "DROP TABLE t",
        "CREATE TABLE t(n)",
        "INSERT INTO t VALUES (3)",
        "DROP VIEW v",
        "CREATE TABLE v(q, r)",
        "INSERT INTO v VALUES (4, 5)",
        "DROP TABLE v",
        "CREATE VIRTUAL TABLE v USING fts5(w)",
        "INSERT INTO v VALUES ('words')",
    )

    def program(module: Any, see: See) -> None:
        path = see.folder / "read.db"
        module.register_converter("numbers", lambda value: -int(value) if value.isdigit() else value)
        writer = see.opened(module.connect(path, isolation_level=None))
        reader = see.opened(module.connect(path, isolation_level=None, detect_types=module.PARSE_DECLTYPES))
        writer.executescript("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 2); CREATE VIEW v AS SELECT a FROM t")
        for change in ("SELECT 1", *changes):
            writer.execute(change)
            for query in queries:
                cursor = reader.cursor()
                see(lambda cursor=cursor, query=query: cursor.execute(query).fetchall())
                see([name for name, *_ in cursor.description or ()])
                cursor.row_factory = module.Row
                see(lambda cursor=cursor, query=query: [row.keys() for row in cursor.execute(query)])

    same(tmp_path, program)


def test_a_log_that_is_moved_away_gets_nothing_of_the_open_transaction(db: veritydb.Connection, path: Path) -> None:
    """The descriptors go with the folder, and nobody who opens the database would look for the record there."""
    folder, elsewhere = log_folder(path), path.with_name("elsewhere")
    db.execute("INSERT INTO t VALUES (1, 'x')")
    folder.rename(elsewhere)
    before = (elsewhere / "00000000.seg").read_bytes()
    with pytest.raises(veritydb.LogMismatch, match="moved or replaced"):
        db.commit()
    assert not db.in_transaction
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert (elsewhere / "00000000.seg").read_bytes() == before
    elsewhere.rename(folder)
    db.execute("INSERT INTO t VALUES (2, 'y')")
    db.commit()
    assert _logged(path) == [[("INSERT", "t", 1)]]


def test_a_log_that_is_overwritten_in_place_gets_no_further_transaction(db: veritydb.Connection, path: Path) -> None:
    """As by ``cp`` of a backup, while the program runs: inode and lock stay what they were."""
    segment = log_folder(path) / "00000000.seg"
    older = segment.read_bytes()
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.commit()
    newer = segment.read_bytes()
    segment.write_bytes(older)
    for _ in range(2):
        with pytest.raises(veritydb.LogDamaged, match="overwritten"):
            db.execute("INSERT INTO t VALUES (2, 'y')")
        db.rollback()
    assert segment.read_bytes() == older
    segment.write_bytes(newer)
    db.execute("INSERT INTO t VALUES (3, 'z')")
    db.commit()
    assert _logged(path) == [[("INSERT", "t", 1)], [("INSERT", "t", 1)]]


def test_what_a_foreign_program_makes_of_the_applied_index_is_seen_before_the_next_change(
    db: veritydb.Connection, path: Path
) -> None:
    """The row is not read again while nobody else has written the file; then it is."""
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.commit()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        ((kept,),) = foreign.execute("SELECT applied FROM _veritydb_applied")
        foreign.execute("UPDATE _veritydb_applied SET applied = zeroblob(104)")
        with pytest.raises(veritydb.LogMismatch, match="written by hand"):
            db.execute("INSERT INTO t VALUES (2, 'y')")
        db.rollback()
        foreign.execute("UPDATE _veritydb_applied SET applied = ?", (kept,))
    db.execute("INSERT INTO t VALUES (2, 'y')")
    db.commit()


def test_a_schema_change_that_was_rolled_back_is_not_taken_for_the_schema(db: veritydb.Connection, path: Path) -> None:
    """The file is in the same state as after the last commit, and what was read of the schema in between is not."""
    db.execute("INSERT INTO t VALUES (1, 'x')")
    db.commit()
    db.execute("BEGIN")
    db.execute("DROP TABLE t")
    db.execute("CREATE TABLE t(a TEXT PRIMARY KEY, b) WITHOUT ROWID")
    db.execute("INSERT INTO t VALUES ('one', 1)")
    db.rollback()
    db.execute("INSERT INTO t VALUES (7, 'y')")
    db.commit()
    (transaction,) = files.transactions(path, start=2)
    (rows,) = transaction.events
    assert isinstance(rows, Rows)
    assert (rows.table, rows.rowids) == ("t", [7])
