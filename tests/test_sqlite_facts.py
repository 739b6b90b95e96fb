"""What SQLite and APSW do to a capture by hooks: the facts that veritydb.hooks is built on.

Nothing of VerityDB runs here. When SQLite or APSW moves, what goes red says which assumption went with it.
"""

from __future__ import annotations

import gc
import sqlite3
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

Heard = list[tuple[Any, ...]]
COMMIT, ROLLBACK = ("commit hook",), ("rollback hook",)


class Observed:
    """A connection that keeps what its hooks say of the last statement."""

    def __init__(self, path: str = ":memory:") -> None:
        self.db = apsw.Connection(path)
        self.heard: Heard = []

    def watch(self) -> None:
        """Install the hooks."""
        self.db.preupdate_hook(self._on_row)
        self.db.set_commit_hook(lambda: bool(self.heard.append(COMMIT)))
        self.db.set_rollback_hook(lambda: self.heard.append(ROLLBACK))

    def _on_row(self, u: apsw.PreUpdate) -> None:
        images: list[Any] = []
        for which in ("old", "new"):
            try:
                images.append(getattr(u, which))
            except (apsw.RangeError, UnicodeDecodeError) as error:
                images.append(type(error))
        self.heard.append((u.op, u.table_name, *images, u.blob_write))

    def do(self, *statements: str) -> list[Any]:
        """Run statements; return the rows of the last one. ``heard`` is what the last one caused."""
        rows: list[Any] = []
        for sql in statements:
            self.heard.clear()
            rows = self.db.execute(sql).fetchall()
        return rows

    def fails(self, sql: str) -> str:
        """Run a statement that fails; return the name of its error."""
        with pytest.raises(apsw.Error) as caught:
            self.do(sql)
        return caught.type.__name__

    @property
    def tables(self) -> list[str]:
        """Tables of the rows reported for the last statement."""
        return [event[1] for event in self.heard if len(event) > 1]

    @property
    def hooks(self) -> Heard:
        """The commit and rollback hooks that the last statement ran."""
        return [event for event in self.heard if len(event) == 1]

    def is_open(self) -> bool:
        """Whether a transaction is open."""
        return not self.db.get_autocommit()


@pytest.fixture
def seen() -> Iterator[Observed]:
    observed = Observed()
    yield observed
    observed.db.close(True)


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[Observed]:
    observed = Observed(str(tmp_path / "facts.db"))
    yield observed
    observed.db.close(True)


def prepared(observed: Observed, script: str) -> Observed:
    """Run ``script`` before the hooks are there."""
    observed.do(script)
    observed.watch()
    return observed


# Full-text search writes when it likes


@pytest.mark.parametrize(("module", "shadow"), [("fts5", "f_data"), ("fts4", "f_segdir"), ("fts3", "f_segdir")])
def test_fts_writes_its_index_inside_commit_before_the_commit_hook(seen: Observed, module: str, shadow: str) -> None:
    prepared(seen, f"CREATE VIRTUAL TABLE f USING {module}(x)")
    seen.do("BEGIN", "INSERT INTO f VALUES ('word')")
    assert shadow not in seen.tables
    seen.do("COMMIT")
    assert shadow in seen.tables
    assert seen.heard[-1] == COMMIT


def test_a_savepoint_makes_fts_write_before_it_exists(seen: Observed) -> None:
    prepared(seen, "CREATE VIRTUAL TABLE f USING fts5(x)")
    seen.do("BEGIN", "INSERT INTO f VALUES ('word')", "SAVEPOINT s")
    assert "f_data" in seen.tables
    seen.do("ROLLBACK TO s", "COMMIT")
    assert "f_data" not in seen.tables
    assert seen.do("SELECT rowid FROM f('word')") == [(1,)]


def test_a_savepoint_and_its_release_drain_fts_so_that_commit_reports_no_row(seen: Observed) -> None:
    prepared(seen, "CREATE VIRTUAL TABLE f USING fts5(x)")
    seen.do("BEGIN", "INSERT INTO f VALUES ('word')", "SAVEPOINT drain", "RELEASE drain", "COMMIT")
    assert seen.heard == [COMMIT]


def test_a_failing_statement_first_flushes_fts_and_that_outlives_its_failure(seen: Observed) -> None:
    prepared(seen, "CREATE VIRTUAL TABLE f USING fts5(x); CREATE TABLE t(a UNIQUE)")
    seen.do("BEGIN", "INSERT INTO f VALUES ('word')")
    assert seen.fails("INSERT INTO t VALUES (1), (2), (1)") == "ConstraintError"
    assert "f_data" in seen.tables
    assert seen.tables.count("t") == 2
    seen.do("COMMIT")
    assert "f_data" not in seen.tables
    assert seen.do("SELECT count(*) FROM t") == [(0,)]
    assert seen.do("SELECT rowid FROM f('word')") == [(1,)]


def test_fts5_options_arrive_as_a_blob_write_that_nobody_made(seen: Observed) -> None:
    prepared(seen, "CREATE VIRTUAL TABLE f USING fts5(x)")
    seen.do("INSERT INTO f(f, rank) VALUES ('automerge', 8)")
    assert [event[:2] for event in seen.heard if len(event) > 1 and event[-1] >= 0] == [("DELETE", "f_data")]


# What a failure leaves

SUMS = """
    CREATE TABLE s(g, x); CREATE TABLE t(a);
    INSERT INTO s VALUES (1, 1), (2, 2), (3, 9223372036854775807), (3, 1)
"""
OVERFLOWING = "INSERT INTO t SELECT sum(x) FROM s GROUP BY g"


def test_a_failing_statement_without_a_journal_keeps_its_first_rows_with_changes_at_zero(seen: Observed) -> None:
    prepared(seen, SUMS).do("BEGIN")
    assert seen.fails(OVERFLOWING) == "SQLError"
    assert seen.db.changes() == 0
    seen.do("COMMIT")
    assert seen.do("SELECT a FROM t") == [(1,), (2,)]


def test_so_does_a_recursion_of_triggers_that_goes_too_deep(seen: Observed) -> None:
    trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t VALUES (new.n + 1); END"
    prepared(seen, f"PRAGMA recursive_triggers = 1; CREATE TABLE t(n); {trigger}").do("BEGIN")
    assert seen.fails("INSERT INTO t VALUES (0)") == "SQLError"
    assert seen.do("SELECT count(*) FROM t") == [(1001,)]


def test_so_does_an_update_whose_value_becomes_too_long(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a); INSERT INTO t VALUES ('a'), ('b'), (zeroblob(900))")
    seen.db.limit(apsw.SQLITE_LIMIT_LENGTH, 1000)
    seen.do("BEGIN")
    assert seen.fails("UPDATE t SET a = a || a") == "TooBigError"
    assert seen.do("SELECT length(a) FROM t") == [(2,), (2,), (900,)]


def test_the_same_bare_statement_keeps_nothing(seen: Observed) -> None:
    prepared(seen, SUMS)
    assert seen.fails(OVERFLOWING) == "SQLError"
    assert seen.hooks == [ROLLBACK]
    assert seen.do("SELECT count(*) FROM t") == [(0,)]


def test_raise_fail_and_raise_abort_look_the_same_and_leave_different_rows() -> None:
    looks: list[Any] = []
    kept: list[int] = []
    for how in ("FAIL", "ABORT"):
        seen = Observed()
        trigger = (
            f"CREATE TRIGGER g BEFORE INSERT ON t BEGIN INSERT INTO log VALUES (1); SELECT RAISE({how}, 'no'); END"
        )
        prepared(seen, f"CREATE TABLE t(a); CREATE TABLE log(a); {trigger}").do("BEGIN")
        error = seen.fails("INSERT INTO t VALUES (1)")
        looks.append((error, list(seen.heard), seen.db.changes(), seen.db.total_changes()))
        kept.append(seen.do("SELECT count(*) FROM log")[0][0])
        seen.db.close(True)
    assert looks[0] == looks[1]
    assert kept == [1, 0]


def test_a_bare_or_fail_raises_its_error_and_commits_its_first_rows(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a UNIQUE)")
    assert seen.fails("INSERT OR FAIL INTO t VALUES (1), (1)") == "ConstraintError"
    assert seen.hooks == [COMMIT]
    assert seen.do("SELECT count(*) FROM t") == [(1,)]


def test_raise_ignore_undoes_nothing(seen: Observed) -> None:
    trigger = "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); SELECT RAISE(IGNORE); END"
    prepared(seen, f"CREATE TABLE t(a); CREATE TABLE log(a); {trigger}")
    seen.do("INSERT INTO t VALUES (1), (2)")
    assert seen.tables == ["t", "log", "t", "log"]
    assert seen.do("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM log)") == [(2, 2)]


def test_rows_of_an_inner_statement_vanish_with_the_outer_one(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE log(a); CREATE TABLE u(a UNIQUE)")

    def note(value: Any) -> Any:
        seen.db.execute("INSERT INTO log VALUES (?)", (value,)).fetchall()
        return value

    seen.db.create_scalar_function("note", note)
    seen.do("BEGIN")
    assert seen.fails("INSERT INTO u SELECT note(column1) FROM (VALUES (1), (2), (1))") == "ConstraintError"
    assert seen.tables.count("log") == 3
    assert seen.do("SELECT count(*) FROM log") == [(0,)]


def test_a_full_database_and_an_interrupt_end_the_whole_transaction(seen: Observed) -> None:
    prepared(
        seen,
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (9223372036854775807);"
        "CREATE TABLE u(a)",
    )
    seen.do("BEGIN", "UPDATE sqlite_sequence SET seq = seq")
    assert seen.fails("INSERT INTO t VALUES (NULL)") == "FullError"
    assert seen.hooks == [ROLLBACK]
    assert not seen.is_open()
    seen.do("BEGIN", "INSERT INTO u VALUES (1)")
    seen.db.set_progress_handler(lambda: True, 100)
    numbers = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 9999) SELECT x FROM r"
    assert seen.fails(f"INSERT INTO u {numbers}") == "InterruptError"
    seen.db.set_progress_handler(None)
    assert not seen.is_open()
    assert seen.do("SELECT count(*) FROM u") == [(0,)]


# Changes that no row event tells


@pytest.mark.parametrize(
    "sql", ["INSERT OR IGNORE INTO t(k) VALUES ('a')", "INSERT INTO t(k) VALUES ('a') ON CONFLICT DO NOTHING"]
)
def test_a_sequence_moves_without_any_row(seen: Observed, sql: str) -> None:
    prepared(seen, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE); INSERT INTO t(k) VALUES ('a')").do(
        sql
    )
    assert seen.heard == [COMMIT]
    assert seen.do("SELECT seq FROM sqlite_sequence") == [(2,)]


def test_or_fail_keeps_rows_and_not_their_sequence(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE); INSERT INTO t(k) VALUES ('a')")
    assert seen.fails("INSERT OR FAIL INTO t(k) VALUES ('b'), ('c'), ('a')") == "ConstraintError"
    assert seen.do("SELECT (SELECT max(id) FROM t), (SELECT seq FROM sqlite_sequence)") == [(3, 1)]


def test_sqlite_stat1_is_reported_and_sqlite_stat4_is_not(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a, b); CREATE INDEX i ON t(a); INSERT INTO t VALUES (1, 1), (1, 2), (2, 2)")
    seen.do("ANALYZE")
    assert set(seen.tables) == {"sqlite_stat1"}
    assert seen.do("SELECT count(*) > 0 FROM sqlite_stat4") == [(1,)]
    seen.do("DROP INDEX i")
    assert seen.tables == ["sqlite_stat1"]
    assert seen.do("SELECT count(*) FROM sqlite_stat4") == [(0,)]


def test_dropping_a_parent_reports_its_rows_and_their_cascades_as_deletes(seen: Observed) -> None:
    prepared(
        seen,
        "PRAGMA foreign_keys = 1; CREATE TABLE p(id INTEGER PRIMARY KEY);"
        "CREATE TABLE c(p REFERENCES p ON DELETE CASCADE); CREATE TABLE alone(a);"
        "INSERT INTO p VALUES (1); INSERT INTO c VALUES (1); INSERT INTO alone VALUES (1)",
    )
    seen.do("DROP TABLE p")
    assert [event[:2] for event in seen.heard[:2]] == [("DELETE", "p"), ("DELETE", "c")]
    seen.do("DROP TABLE alone")
    assert seen.tables == []


def test_a_delete_of_all_rows_prepared_before_the_hook_escapes_it(seen: Observed) -> None:
    seen.do("CREATE TABLE t(a)", "DELETE FROM t", "INSERT INTO t VALUES (1)")
    seen.watch()
    seen.do("DELETE FROM t")
    assert seen.tables == []
    assert seen.do("SELECT count(*) FROM t") == [(0,)]


def test_vacuum_reports_only_the_schema_rows_of_virtual_tables_and_runs_no_commit_hook(on_file: Observed) -> None:
    prepared(on_file, "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)")
    on_file.do("VACUUM")
    assert on_file.heard == []
    on_file.do("CREATE VIRTUAL TABLE f USING fts5(x)", "VACUUM")
    assert on_file.tables == ["sqlite_master"]
    assert on_file.hooks == []


# Row images that are not what is stored


def test_invalid_utf_16_text_is_another_text_in_the_image_without_an_error(seen: Observed) -> None:
    prepared(seen, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(a)")
    seen.do("INSERT INTO t VALUES (CAST(x'00d84100' AS TEXT))")
    assert seen.heard[0][3][0].encode("utf-16-le").hex() != "00d84100"
    assert seen.do("SELECT hex(CAST(a AS BLOB)) FROM t") == [("00D84100",)]


def test_the_old_image_of_a_row_older_than_its_real_column_has_an_integer(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a); INSERT INTO t VALUES (1); ALTER TABLE t ADD COLUMN r REAL DEFAULT 7")
    seen.do("UPDATE t SET a = 2")
    _, _, old, new, _ = seen.heard[0]
    assert type(old[1]) is int
    assert type(new[1]) is float


@pytest.mark.parametrize(("kind", "image"), [("STORED", (1, 2)), ("VIRTUAL", apsw.RangeError)])
def test_images_include_stored_generated_columns_and_fail_with_virtual_ones(
    seen: Observed, kind: str, image: Any
) -> None:
    prepared(seen, f"CREATE TABLE t(a, g AS (a + 1) {kind})")
    seen.do("INSERT INTO t(a) VALUES (1)")
    assert seen.heard[0][3] == image


def test_invalid_utf_8_text_cannot_be_had_from_either_image(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a)")
    seen.do("INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
    assert seen.heard[0][3] is UnicodeDecodeError
    seen.do("UPDATE t SET a = 'valid'")
    assert seen.heard[0][2:4] == (UnicodeDecodeError, ("valid",))


def test_changing_the_key_of_a_without_rowid_table_is_one_update(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t VALUES (1, 2)")
    seen.do("UPDATE t SET k = 9")
    assert seen.heard[0] == ("UPDATE", "t", (1, 2), (9, 2), -1)


def test_no_blob_can_be_opened_in_a_table_with_generated_columns(seen: Observed) -> None:
    seen.do("CREATE TABLE t(b, g AS (1)); INSERT INTO t(b) VALUES (zeroblob(5))")
    with pytest.raises(apsw.SQLError):
        seen.db.blob_open("main", "t", "b", 1, True)


def test_a_table_of_two_thousand_columns_can_be_inserted_with_its_rowid_but_not_read_or_updated_so(
    seen: Observed,
) -> None:
    names = [f"c{number}" for number in range(2000)]
    listed = ",".join(names)
    seen.do(f"CREATE TABLE t({listed})")
    seen.do(f"INSERT INTO t(rowid, {listed}) VALUES (7, {','.join('1' * 2000)})")
    assert seen.fails("SELECT rowid, * FROM t") == "SQLError"
    assert seen.fails(f"UPDATE t SET rowid = 1, {','.join(f'{name} = 1' for name in names)}") == "SQLError"
    assert seen.fails(f"SELECT 1 FROM t WHERE {' AND '.join(f'{name} IS 1' for name in names)}") == "SQLError"


# Commit and rollback


def test_a_deferred_foreign_key_fails_commit_before_the_hook_and_leaves_the_transaction_open(seen: Observed) -> None:
    prepared(
        seen,
        "PRAGMA foreign_keys = 1; CREATE TABLE p(a PRIMARY KEY);"
        "CREATE TABLE c(x REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    ).do("BEGIN", "INSERT INTO c VALUES (1)")
    assert seen.fails("COMMIT") == "ConstraintError"
    assert seen.hooks == []
    assert seen.is_open()


def test_a_reader_fails_commit_before_the_hook_in_delete_mode_and_leaves_the_transaction_open(
    on_file: Observed,
) -> None:
    prepared(on_file, "CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)")
    reader = apsw.Connection(on_file.db.filename)
    cursor = reader.execute("SELECT * FROM t")
    next(cursor)
    on_file.do("BEGIN", "INSERT INTO t VALUES (3)")
    assert on_file.fails("COMMIT") == "BusyError"
    assert on_file.hooks == []
    assert on_file.is_open()
    cursor.close()
    on_file.do("COMMIT")
    assert on_file.hooks == [COMMIT]
    reader.close()


def test_an_fts_whose_tables_were_rolled_back_fails_commit_and_takes_the_transaction_with_it(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a)").do("BEGIN", "INSERT INTO t VALUES (1)", "SAVEPOINT s")
    seen.do("CREATE VIRTUAL TABLE f USING fts5(a)", "INSERT INTO f VALUES ('x')", "ROLLBACK TO s")
    assert seen.fails("COMMIT") == "SQLError"
    assert seen.hooks == [ROLLBACK]
    assert not seen.is_open()
    assert seen.do("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM t", "UPDATE t SET a = 1", "PRAGMA incremental_vacuum", "CREATE TABLE u(a)"]
)
def test_the_commit_hook_runs_for_statements_that_change_no_row(seen: Observed, sql: str) -> None:
    prepared(seen, "CREATE TABLE t(a)").do(sql)
    assert seen.heard == [COMMIT]


def test_the_commit_hook_runs_for_an_empty_immediate_transaction(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a)").do("BEGIN IMMEDIATE", "COMMIT")
    assert seen.heard == [COMMIT]


def test_creating_twice_by_one_prepared_statement_runs_the_rollback_hook(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a)").do(*["CREATE TABLE IF NOT EXISTS u(a)"] * 2)
    assert seen.heard == [ROLLBACK]


# Python


def test_apsw_never_frees_a_connection_whose_younger_cursor_went_first() -> None:
    db = apsw.Connection(":memory:")
    gone = weakref.ref(db)
    older, younger = db.cursor(), db.cursor()
    del younger, older, db
    gc.collect()
    left = gone()
    assert left is not None
    left.close()


@pytest.mark.parametrize(
    "sql",
    [
        "\ufeffINSERT INTO t VALUES (1)",
        ";INSERT INTO t VALUES (1)",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
    ],
)
def test_sqlite3_sees_no_insert_behind_a_mark_a_semicolon_or_a_with(sql: str) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t(a)")
    db.execute(sql)
    assert not db.in_transaction
    assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
    db.close()


# Witnesses


class Listening:
    """A virtual table that writes down what its transaction does."""

    def __init__(self, name: str, heard: Heard, cursor: apsw.Cursor | None = None) -> None:
        self.name = name
        self.heard = heard
        self.cursor = cursor

    def Create(self, *_: Any) -> tuple[str, Listening]:
        return "CREATE TABLE x(v)", self

    Connect = Create

    def BestIndex(self, *_: Any) -> None:
        return None

    def Disconnect(self) -> None:
        return None

    Destroy = Disconnect

    def UpdateInsertRow(self, rowid: int | None, fields: Any) -> int:
        return 1

    def Begin(self) -> None:
        self.heard.append((self.name, "begin"))

    def Savepoint(self, level: int) -> None:
        self.heard.append((self.name, "savepoint", level))

    def RollbackTo(self, level: int) -> None:
        self.heard.append((self.name, "rollback to", level))

    def Release(self, level: int) -> None:
        self.heard.append((self.name, "release", level))

    def Sync(self) -> None:
        self.heard.append((self.name, "sync"))
        if self.cursor is not None:
            self.cursor.execute("UPDATE meta SET applied = applied + 1")

    def Commit(self) -> None:
        self.heard.append((self.name, "commit"))

    def Rollback(self) -> None:
        self.heard.append((self.name, "rollback"))


def listen(observed: Observed, *names: str, cursor: apsw.Cursor | None = None, version: int = 3) -> None:
    for name in names:
        module: Any = Listening(name, observed.heard, cursor)
        observed.db.create_module(name, module, iVersion=version, eponymous_only=True)


def test_a_witness_hears_every_partial_rollback_and_nothing_where_or_fail_keeps_rows(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES (1)")
    listen(seen, "w")
    seen.do("BEGIN", "INSERT INTO w VALUES (1)", "SAVEPOINT s")
    seen.fails("INSERT INTO t VALUES (2), (3), (1)")
    assert ("w", "rollback to", 1) in seen.heard
    seen.fails("INSERT OR FAIL INTO t VALUES (4), (1)")
    assert not [event for event in seen.heard if event[1] == "rollback to"]
    seen.do("ROLLBACK TO s")
    assert seen.heard == [("w", "rollback to", 0)]
    seen.do("COMMIT")
    assert seen.heard == [("w", "sync"), COMMIT, ("w", "commit")]
    assert seen.do("SELECT name FROM sqlite_schema WHERE type = 'table'") == [("t",)]


def test_a_witness_hears_of_no_savepoint_unless_its_module_says_version_three(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a UNIQUE)")
    listen(seen, "w", version=1)
    seen.do("BEGIN", "INSERT INTO w VALUES (1)", "SAVEPOINT s", "ROLLBACK TO s")
    assert seen.heard == []


def test_what_a_witness_writes_in_its_sync_belongs_to_the_transaction(seen: Observed) -> None:
    prepared(seen, "CREATE TABLE t(a); CREATE TABLE meta(applied); INSERT INTO meta VALUES (0)")
    listen(seen, "w", cursor=seen.db.cursor())
    seen.do("BEGIN", "INSERT INTO w VALUES (1)", "INSERT INTO t VALUES (1)", "COMMIT")
    assert seen.do("SELECT applied FROM meta") == [(1,)]
    seen.db.set_commit_hook(lambda: True)
    seen.do("BEGIN", "INSERT INTO w VALUES (1)", "INSERT INTO t VALUES (2)")
    assert seen.fails("COMMIT") == "ConstraintError"
    assert not seen.is_open()
    assert seen.do("SELECT (SELECT applied FROM meta), (SELECT count(*) FROM t)") == [(1, 1)]


def test_a_witness_that_joined_after_fts_hears_a_savepoint_after_its_flush(seen: Observed) -> None:
    prepared(seen, "CREATE VIRTUAL TABLE f USING fts5(x)")
    listen(seen, "head", "tail")
    seen.do("BEGIN", "INSERT INTO head VALUES (1)", "INSERT INTO f VALUES ('word')", "INSERT INTO tail VALUES (1)")
    seen.do("SAVEPOINT s")
    assert seen.heard[0] == ("head", "savepoint", 0)
    assert seen.heard[-1] == ("tail", "savepoint", 0)
    assert "f_data" in seen.tables
    seen.do("ROLLBACK TO s", "COMMIT")
    assert seen.do("SELECT rowid FROM f('word')") == [(1,)]
