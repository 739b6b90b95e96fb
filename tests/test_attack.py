"""What a hostile or careless program tries; each was once a way to change the file and not the log, or to be stopped.

Every database is rebuilt from its log at the end of its test and compared (the fixture ``life``).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support.life import RAW
from tests.support.sides import Ours, Plain, run_both

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.sides import Ours, Plain, run_both
from tests.support.life import Life


def names(db: veritydb.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM sqlite_schema ORDER BY name") if name[0] != "_"]


# Plans that somebody else has made wrong


@pytest.mark.parametrize(
    ("statement", "undo"),
    [
        ("CREATE INDEX IF NOT EXISTS i ON t(a)", "DROP INDEX i"),
        ("CREATE TABLE IF NOT EXISTS u(a)", "DROP TABLE u"),
        ("CREATE VIEW IF NOT EXISTS v AS SELECT 1", "DROP VIEW v"),
        ("CREATE TRIGGER IF NOT EXISTS g AFTER INSERT ON t BEGIN SELECT 1; END", "DROP TRIGGER g"),
    ],
)
def test_what_was_there_is_made_and_logged_after_another_connection_dropped_it(
    life: Life, statement: str, undo: str
) -> None:
    one, other = life.connect(), life.connect()
    one.execute("CREATE TABLE t(a)")
    one.execute(statement)
    other.execute(statement)
    assert other.last_offset is None
    one.execute(undo)
    other.execute(statement)
    assert other.last_offset == one.last_offset + 1
    assert len(names(other)) == 2


@pytest.mark.parametrize("isolation_level", ["", None])
def test_what_was_not_there_is_dropped_and_logged_after_another_connection_made_it(
    life: Life, isolation_level: str | None
) -> None:
    one, other = life.connect(), life.connect(isolation_level=isolation_level)
    other.execute("DROP TABLE IF EXISTS t")
    one.execute("CREATE TABLE t(a)")
    with one:
        one.execute("INSERT INTO t VALUES (1)")
    other.execute("DROP TABLE IF EXISTS t")
    assert names(other) == []
    assert other.last_offset == 2


def test_a_table_that_a_temporary_one_hid_is_dropped_and_logged(life: Life) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    for end in ("ROLLBACK", "COMMIT"):
        db.execute("BEGIN")
        db.execute("CREATE TEMP TABLE t(a)")
        db.execute("DROP TABLE IF EXISTS t")
        assert names(db) == ["t"]
        db.execute(end)
    db.execute("DROP TABLE IF EXISTS t")
    assert names(db) == []


# Statements that change the schema from within


def test_statistics_made_by_a_query_are_refused(life: Life) -> None:
    db = life.connect()
    db.executescript("CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES (1), (2)")
    with pytest.raises(veritydb.StatementRefused, match="PRAGMA optimize"):
        db.execute("SELECT * FROM pragma_optimize(65538)").fetchall()
    assert names(db) == ["i", "t"]
    db.execute("PRAGMA optimize(65538)")
    assert "sqlite_stat1" in names(db)


def test_a_table_that_fts3_makes_while_it_writes_rows_is_refused(life: Life) -> None:
    db = life.connect()
    db.execute("CREATE VIRTUAL TABLE f USING fts3(x)")
    with db:
        db.execute("INSERT INTO f VALUES ('hello')")
    with pytest.raises(veritydb.StatementRefused, match="FTS5"):
        db.execute("INSERT INTO f(f) VALUES ('merge=2,2')")
    db.commit()
    assert "f_stat" not in names(db)


@pytest.mark.parametrize("value", ["'1x'", "'1 '", "1.0", "'on '", "0x1"])
def test_no_spelling_makes_the_schema_writable(life: Life, value: str) -> None:
    with pytest.raises(veritydb.StatementRefused):
        life.connect().execute(f"PRAGMA writable_schema = {value}")


@pytest.mark.parametrize("value", ["0", "00", "1.0", "10", "'1x'", "other", "file"])
def test_no_spelling_lets_an_encrypted_database_have_temporary_files(life: Life, value: str) -> None:
    db = life.connect(key=RAW)
    with pytest.raises(veritydb.StatementRefused):
        db.execute(f"PRAGMA temp_store = {value}")
    db.execute("PRAGMA temp_store = MEMORY")
    assert db.execute("PRAGMA temp_store").fetchone() == (2,)


# VACUUM

GAPS = "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3), (4); DELETE FROM t WHERE a = 2"
MOVED = [(1, 1), (2, 3), (3, 4)]


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM",
        "VACUUM /* INTO */",
        "VACUUM -- INTO it\n",
        ";/* INTO */ VACUUM main",
        'vacuum/**/"MAIN"',
        "VACUUM[main]",
    ],
)
def test_rows_that_vacuum_moves_are_logged_however_it_is_written(life: Life, statement: str) -> None:
    db = life.connect()
    db.executescript(GAPS)
    db.execute(statement)
    assert db.execute("SELECT rowid, a FROM t").fetchall() == MOVED


@pytest.mark.parametrize("statement", ["VACUUM/**/INTO/**/?", "VACUUM main INTO?", "VACUUM 'main' /**/ into ?"])
def test_a_copy_by_vacuum_moves_no_rows_of_the_original(life: Life, statement: str) -> None:
    db = life.connect()
    db.executescript(GAPS)
    db.execute(statement, (str(life.folder / "copy.db"),))
    assert db.execute("SELECT rowid, a FROM t").fetchall() == [(1, 1), (3, 3), (4, 4)]


@pytest.mark.parametrize("name", ["other", '"OTHER"', "[other]"])
def test_an_attached_database_is_not_vacuumed_past_its_log(life: Life, name: str) -> None:
    db = life.connect()
    db.executescript(GAPS)
    one = life.connect("one.db")
    one.execute("ATTACH ? AS other", (str(life.folder / "life.db"),))
    with pytest.raises(veritydb.StatementRefused, match="attached"):
        one.execute(f"VACUUM {name}")
    with pytest.raises(veritydb.OperationalError, match="unknown database"):
        one.execute("VACUUM nobody")
    assert db.execute("SELECT rowid, a FROM t").fetchall() == [(1, 1), (3, 3), (4, 4)]


def test_a_vacuum_that_is_refused_takes_no_row_from_a_query_that_is_read(life: Life) -> None:
    db = life.connect()
    db.executescript(GAPS)
    cursor = db.execute("SELECT a FROM t")
    assert cursor.fetchone() == (1,)
    with pytest.raises(veritydb.OperationalError, match="SQL statements in progress"):
        db.execute("VACUUM")
    assert cursor.fetchall() == [(3,), (4,)]


HIDDEN = "CREATE TABLE t(rowid, oid, _rowid_{}); INSERT INTO t(oid) VALUES (1), ('2'), (x'33'), (NULL)"


@pytest.mark.parametrize("more", ["", ", g AS (oid)"])
def test_vacuum_does_not_move_rows_whose_numbers_no_name_reaches(life: Life, more: str) -> None:
    db = life.connect()
    if more:  # Rows are there only if the column came after them.
        db.executescript(HIDDEN.format("") + "; ALTER TABLE t ADD COLUMN g AS (oid)")
    else:
        db.executescript(HIDDEN.format(""))
        db.execute("VACUUM")  # They are numbered from 1 on, so nothing moves.
        db.execute("DELETE FROM t WHERE oid = '2'")
        db.commit()
    with pytest.raises(veritydb.StatementRefused, match="rename one of the columns, or add an index"):
        db.execute("VACUUM")
    db.execute("CREATE INDEX i ON t(oid)")
    db.execute("VACUUM")
    if not more:
        db.execute("DELETE FROM t WHERE oid IS NULL")  # The log says by its number which row that was.
        db.commit()


def test_the_one_query_that_changes_rows_is_logged(life: Life) -> None:
    db = life.connect(isolation_level=None)
    for version in ("fts3", "fts4"):
        db.execute(f"CREATE VIRTUAL TABLE {version} USING {version}(x)")
        db.execute(f"CREATE VIEW v_{version} AS SELECT optimize({version}) FROM {version}")
        for word in ("one", "two", "three"):
            db.execute(f"INSERT INTO {version} VALUES (?)", (word,))
        before = db.last_offset
        assert db.execute(f"SELECT optimize({version}) FROM {version} LIMIT 1").fetchall() == [("Index optimized",)]
        assert db.last_offset == before + 1
        db.execute("BEGIN")
        db.execute(f"INSERT INTO {version} VALUES ('four')")
        db.execute(f"SELECT * FROM v_{version} LIMIT 1").fetchall()
        db.execute("COMMIT")
        assert db.last_offset == before + 2


def test_a_function_of_the_program_with_that_name_is_no_reason_to_write(life: Life) -> None:
    db = life.connect(isolation_level=None, timeout=0)
    db.create_function("optimize", 1, lambda value: value + 1)
    db.execute("CREATE TABLE t(a)")
    before = db.last_offset
    assert db.execute("SELECT optimize(1)").fetchall() == [(2,)]
    assert (db.last_offset, db.in_transaction) == (before, False)


# Tables whose rows are read late


@pytest.mark.parametrize(
    "then",
    [
        "CREATE TABLE u(y)",
        "CREATE TABLE u(y PRIMARY KEY, g AS (y)) WITHOUT ROWID; INSERT INTO u VALUES (3)",
        "CREATE TABLE U(y, z, g AS (y)); INSERT INTO u VALUES (3, 4)",
        "ALTER TABLE t RENAME TO u",
        "INSERT INTO t VALUES (9)",
    ],
)
def test_a_table_with_virtual_columns_whose_making_was_rolled_back_is_forgotten(life: Life, then: str) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute("BEGIN")
    db.execute("SAVEPOINT s")
    db.execute("CREATE TABLE u(x, g AS (x))")
    db.execute("INSERT INTO u VALUES (1), (2)")
    db.execute("ALTER TABLE u ADD COLUMN more")
    db.execute("UPDATE u SET more = 1")
    db.execute("ROLLBACK TO s")
    for statement in then.split("; "):
        db.execute(statement)
    db.execute("COMMIT")


HIDING = """
CREATE TABLE t(rowid, oid UNIQUE, _rowid_, g AS (oid), CHECK (oid IS NOT 13));
CREATE TABLE text(rowid, oid, _rowid_ REFERENCES t(oid) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX covering ON t(_rowid_ DESC, oid, rowid);
CREATE TRIGGER tr AFTER UPDATE ON t BEGIN INSERT INTO log VALUES ('updated', new.oid); END;
CREATE TABLE log(what, a);
CREATE VIRTUAL TABLE words USING fts5(x);
"""
HIDDEN_STEPS = (
    "INSERT INTO t VALUES (1, 2, 3), (4, 5, 6), (7, 8, 9)",
    "INSERT INTO text VALUES (CAST(x'ff' AS TEXT), 1, 2), ('fine', 2, 5), (CAST(x'c3' AS TEXT), 3, 8)",
    "INSERT INTO words VALUES ('one'), ('two')",
    "DELETE FROM t WHERE oid = 5",
    "INSERT INTO t VALUES (1, 0, 3)",
    "SAVEPOINT s",
    "UPDATE t SET oid = oid + 100",
    "INSERT INTO words VALUES ('three')",
    "CREATE TABLE made(a)",
    "INSERT INTO t VALUES (9, 9, 9)",
    "DELETE FROM text WHERE oid = 1",
    "ROLLBACK TO s",
    "UPDATE t SET oid = 100 WHERE rowid = 7",
    "RELEASE s",
    "INSERT INTO log SELECT 'total', total_changes()",
    "DELETE FROM t WHERE oid = 100",
    "UPDATE text SET rowid = rowid || 'x'",
    "SELECT changes(), total_changes(), last_insert_rowid()",
)


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize("way", ["bare", "transaction", "implicit"])
def test_tables_that_hide_their_row_ids_are_logged_exactly(life: Life, way: str, encoding: str) -> None:
    db = life.connect(isolation_level="" if way == "implicit" else None)
    db.execute(f"PRAGMA encoding = '{encoding}'")
    plain = Plain(str(life.folder / "plain.db"), implicit="BEGIN" if way == "implicit" else None)
    plain.run(f"PRAGMA encoding = '{encoding}'")
    steps = [step.strip() for step in HIDING.split(";\n")[:-1]]
    steps += ["PRAGMA foreign_keys = ON", "PRAGMA reverse_unordered_selects = ON"]
    if way == "transaction":
        steps.append("BEGIN")
    run_both(Ours(db), plain, steps)
    run_both(Ours(db), plain, HIDDEN_STEPS)
    if way != "bare":
        run_both(Ours(db), plain, ["COMMIT", "DELETE FROM t WHERE oid = 0", "COMMIT"])
    plain.close()


def test_a_trigger_that_cannot_be_switched_off_keeps_hidden_row_ids_from_being_found(life: Life) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t(rowid, oid, _rowid_, g AS (oid))")
    db.execute("CREATE TEMP TRIGGER tr AFTER UPDATE ON main.t BEGIN SELECT 1; END")
    db.execute("INSERT INTO t VALUES (1, 2, 3)")
    with pytest.raises(veritydb.CaptureError, match="rename one of the columns"):
        db.commit()
    assert db.execute("SELECT * FROM t").fetchall() == []


def test_a_table_made_from_a_query_may_hide_its_row_ids(life: Life) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t AS SELECT 1 AS rowid, 2 AS oid, 3 AS _rowid_ UNION ALL SELECT 4, 5, 6")
    with db:
        db.execute("UPDATE t SET oid = 9 WHERE rowid = 4")


def test_an_exclusive_lock_does_not_make_each_commit_wait(life: Life) -> None:
    db = life.connect(timeout=30)
    db.execute("CREATE TABLE t(a, g AS (a))")
    db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    db.execute("PRAGMA user_version = 1")
    began = time.monotonic()
    with db:
        db.execute("INSERT INTO t VALUES (1)")
    assert time.monotonic() - began < 10


# What a program may set or replace


def test_functions_of_the_program_do_not_mislead_us(life: Life) -> None:
    db = life.connect()

    def nothing(*_: Any) -> None:
        return None

    db.create_function("upper", 1, nothing)
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a REAL DEFAULT 3, g AS (a))")
    with db:
        db.execute("INSERT INTO t(a) VALUES (1)")
    db.execute("VACUUM")


def test_rows_changed_before_query_only_was_set_are_committed(life: Life) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.execute("PRAGMA query_only = 1")
    db.commit()
    assert db.execute("PRAGMA query_only").fetchone() == (1,)
    with pytest.raises(veritydb.OperationalError, match="readonly"):
        db.execute("INSERT INTO t VALUES (2)")
    db.rollback()
    db.execute("PRAGMA query_only = 0")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_a_connection_closes_though_its_progress_handler_stops_everything(life: Life) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.set_progress_handler(lambda: 1, 1)
    db.close()
    with life.connect() as other:
        assert other.execute("SELECT * FROM t").fetchall() == []


# One connection, several threads


def both(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


@pytest.mark.parametrize("isolation_level", ["", None])
def test_a_failure_in_one_thread_takes_nothing_from_what_another_was_told(
    life: Life, isolation_level: str | None
) -> None:
    db = life.connect(check_same_thread=False, isolation_level=isolation_level)
    db.execute("CREATE TABLE t(a)")
    over = threading.Event()
    unexpected: list[Exception] = []

    def slow(_: int) -> None:
        time.sleep(0.002)
        raise ValueError

    def failing() -> None:
        while not over.is_set():
            try:
                db.execute("INSERT INTO t SELECT slow(1)")
            except veritydb.OperationalError as error:
                if "user-defined function" not in str(error):
                    unexpected.append(error)

    def writing() -> None:
        try:
            for number in range(60):
                db.execute("INSERT INTO t VALUES (?)", (number,))
        except veritydb.Error as error:
            unexpected.append(error)
        finally:
            over.set()

    db.create_function("slow", 1, slow)
    both(failing, writing)
    db.commit()
    assert unexpected == []
    assert db.execute("SELECT a FROM t").fetchall() == [(number,) for number in range(60)]


class Counting(veritydb.Cursor):
    """A cursor class of a program, with attributes of its own."""

    def __init__(self, connection: veritydb.Connection) -> None:
        super().__init__(connection)
        self.calls = 0

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        self.calls += 1
        return super().execute(sql, parameters)


def test_threads_may_read_and_write_one_connection_at_once(life: Life) -> None:
    db = life.connect(check_same_thread=False)
    db.execute("CREATE TABLE t(a)")
    unexpected: list[Exception] = []

    def writing() -> None:
        try:
            for number in range(100):
                with db:
                    db.executemany("INSERT INTO t VALUES (?)", [(number,), (number,)])
        except veritydb.Error as error:
            unexpected.append(error)

    def reading() -> None:
        try:
            for _ in range(100):
                cursor = db.cursor(Counting)
                cursor.execute("SELECT a FROM t")
                assert cursor.calls == 1
                for _ in zip(range(20), cursor, strict=False):
                    pass
        except veritydb.Error as error:
            unexpected.append(error)

    both(writing, reading, reading)
    assert unexpected == []
    assert db.execute("SELECT count(*) FROM t").fetchone() == (200,)
    assert isinstance(db.cursor(Counting), Counting)
    assert type(db.cursor()).__qualname__ == "Cursor"
    other = life.connect(check_same_thread=False)
    assert isinstance(other.cursor(lambda _: db.cursor()), veritydb.Cursor)


# Transactions of several large runs


@pytest.mark.parametrize("runs", [3, 20])
def test_a_transaction_of_several_large_runs_can_be_read_back(life: Life, runs: int) -> None:
    """Its message has several segments, and reading it comes to more words than it has."""
    db = life.connect()
    for number in range(runs):
        db.execute(f"CREATE TABLE t{number}(a)")
    with db:
        for number in range(runs):
            db.executemany(f"INSERT INTO t{number} VALUES (?)", [("x" * 8,)] * 1000)


@pytest.mark.parametrize("width", [8, 200])
def test_many_rows_that_are_read_late_can_be_read_back(life: Life, width: int) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t(a, g AS (a))")
    with db:
        db.executemany("INSERT INTO t VALUES (?)", [("x" * width,)] * 12_000)
    with db:
        db.execute("UPDATE t SET a = a || 'y'")
