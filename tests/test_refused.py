"""What cannot be logged exactly is refused, says why, and has changed nothing."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support import files
from tests.support.content import content, different
from tests.support.life import RAW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.life import Life

REFUSED = (
    "PRAGMA writable_schema = ON",
    "PRAGMA writable_schema = 1",
    "PRAGMA writable_schema(true)",
    "PRAGMA main.writable_schema = RESET",
    "PRAGMA schema_version = 7",
    "PRAGMA key = 'secret'",
    "PRAGMA rekey = 'secret'",
    "PRAGMA hexrekey = '00'",
    "PRAGMA main.rekey = 'secret'",
    "PRAGMA cipher = 'aes256cbc'",
    "PRAGMA kdf_iter = 5",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA journal_mode = OFF",
    "PRAGMA main.journal_mode = TRUNCATE",
    "PRAGMA journal_mode('persist')",
    "INSERT INTO other.t VALUES (2)",
    "UPDATE other.t SET a = 5",
    "DELETE FROM other.t",
    "REPLACE INTO other.t VALUES (2)",
    "INSERT INTO other.t SELECT a FROM main.t",
    "CREATE TABLE other.u(a)",
    "CREATE TABLE other.u AS SELECT 1",
    "CREATE INDEX other.i ON t(a)",
    "CREATE VIEW other.v AS SELECT 1",
    "CREATE TRIGGER other.g AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE other.f USING fts5(x)",
    "ALTER TABLE other.t ADD COLUMN b",
    "ALTER TABLE other.t RENAME TO u",
    "DROP TABLE other.t",
    "PRAGMA other.user_version = 3",
    "PRAGMA other.application_id = 3",
    "PRAGMA other.journal_mode = WAL",
    "UPDATE _veritydb_applied SET applied = x''",
    "DELETE FROM _veritydb_applied",
    "INSERT INTO _veritydb_applied VALUES (2, x'')",
    "REPLACE INTO main._veritydb_applied VALUES (1, x'00')",
    "DROP TABLE _veritydb_applied",
    "ALTER TABLE _veritydb_applied RENAME TO mine",
    "ALTER TABLE _veritydb_applied ADD COLUMN more",
    "CREATE INDEX i ON _veritydb_applied(applied)",
    "CREATE TRIGGER g AFTER UPDATE ON _veritydb_applied BEGIN SELECT 1; END",
    "CREATE TABLE _veritydb_mine(a)",
    "CREATE VIRTUAL TABLE _veritydb_f USING fts5(x)",
    "ALTER TABLE t RENAME TO _veritydb_mine",
    "DELETE FROM _veritydb_head",
    "INSERT INTO _veritydb_tail VALUES (1)",
    "EXPLAIN PRAGMA writable_schema = ON",
    "SELECT load_extension('nothing')",
)  # fmt: skip


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An ordinary SQLite file, to be attached."""
    path = tmp_path / "other.db"
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE t(a); INSERT INTO t VALUES (1);")
    db.close()
    return path


def _everything(path: Path, key: bytes | None) -> tuple[dict[str, Any], int]:
    with files.opened(path, key) as db, files.opened_log(path) as log:
        return content(db), log.head.next_offset


@pytest.mark.parametrize("key", [None, RAW], ids=["plain", "encrypted"])
@pytest.mark.parametrize("inside", [False, True], ids=["bare", "transaction"])
@pytest.mark.parametrize("sql", REFUSED)
def test_a_refused_statement_changes_nothing(
    sql: str, inside: bool, key: bytes | None, life: Life, other: Path, tmp_path: Path
) -> None:
    db = life.connect(key=key, isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.execute("ATTACH ? AS other" + (" KEY ''" if key else ""), (str(other),))
    path = tmp_path / "life.db"
    before, before_other = _everything(path, key), other.read_bytes()
    if inside:
        db.execute("BEGIN")
        db.execute("INSERT INTO t VALUES (2)")
    with pytest.raises((veritydb.NotSupportedError, veritydb.OperationalError)) as caught:
        db.execute(sql).fetchall()
    assert isinstance(caught.value, veritydb.StatementRefused) or _sqlite_refuses_itself(sql)
    assert db.in_transaction == inside
    if inside:
        db.execute("ROLLBACK")
    assert other.read_bytes() == before_other
    after = _everything(path, key)
    assert not different(before[0], after[0])
    assert before[1] == after[1]
    db.execute("INSERT INTO t VALUES (3)")
    assert db.execute("SELECT count(*) FROM t").fetchone() == (2,)


def _sqlite_refuses_itself(sql: str) -> bool:
    # Extensions are off, and a table of ours that is none takes no rows.
    return "load_extension" in sql or "_veritydb_head" in sql or "_veritydb_tail" in sql


def test_a_refusal_says_what_to_do_instead(life: Life) -> None:
    db = life.connect()
    with pytest.raises(veritydb.StatementRefused, match=r"use CREATE, ALTER and DROP; nothing was changed"):
        db.execute("PRAGMA writable_schema = ON")


def test_a_trigger_that_writes_an_attached_database_is_refused(life: Life, other: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute("ATTACH ? AS other", (str(other),))
    with pytest.raises(veritydb.Error):
        db.execute("CREATE TEMP TRIGGER g AFTER INSERT ON main.t BEGIN INSERT INTO other.t VALUES (new.a); END")
        db.execute("INSERT INTO t VALUES (5)")
    assert db.execute("SELECT count(*) FROM other.t").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM main.t").fetchone() == (0,)


def test_attached_databases_can_be_read(life: Life, other: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE mine AS SELECT 5 AS a")
    db.execute("ATTACH ? AS other", (str(other),))
    assert db.execute("SELECT a FROM other.t").fetchall() == [(1,)]
    db.execute("INSERT INTO mine SELECT a FROM other.t")
    db.execute("CREATE TABLE copy AS SELECT * FROM other.t")
    db.execute("BEGIN")
    db.execute("UPDATE mine SET a = (SELECT max(a) FROM other.t)")
    db.execute("COMMIT")
    db.execute("DETACH other")
    assert db.execute("SELECT a FROM mine").fetchall() == [(1,), (1,)]


ALLOWED = (
    "PRAGMA writable_schema",
    "PRAGMA writable_schema = OFF",
    "PRAGMA journal_mode",
    "PRAGMA journal_mode = WAL",
    "PRAGMA schema_version",
    "PRAGMA temp.user_version = 5",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_checkpoint",
    "SELECT * FROM _veritydb_applied",
    "CREATE TEMP TABLE _mine(a)",
)


@pytest.mark.parametrize("sql", ALLOWED)
def test_what_is_harmless_is_not_refused(sql: str, life: Life) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute(sql).fetchall()


def _deserialize(db: veritydb.Connection, image: bytes, _: Path) -> None:
    db.deserialize(image)


def _load_extension(db: veritydb.Connection, _: bytes, __: Path) -> None:
    db.load_extension("nothing")


def _backup_into(db: veritydb.Connection, _: bytes, other: Path) -> None:
    source = veritydb.connect(":memory:")
    try:
        source.execute("CREATE TABLE t(a)")
        source.backup(db)
    finally:
        source.close()


@pytest.mark.parametrize("call", [_deserialize, _load_extension, _backup_into])
def test_what_would_bring_content_past_the_log_is_refused(
    call: Callable[[veritydb.Connection, bytes, Path], None], life: Life, other: Path, tmp_path: Path
) -> None:
    db = life.connect()
    with db:
        db.execute("CREATE TABLE mine(a)")
    before = _everything(tmp_path / "life.db", None)
    with pytest.raises(veritydb.NotSupportedError):
        call(db, other.read_bytes(), other)
    assert _everything(tmp_path / "life.db", None) == before


def test_the_meta_row_cannot_be_written_through_a_blob_handle(life: Life) -> None:
    db = life.connect()
    with db:
        db.execute("CREATE TABLE t(a)")
    with pytest.raises(veritydb.NotSupportedError):
        db.blobopen("_veritydb_applied", "applied", 1)


def test_an_attached_database_cannot_be_written_through_a_blob_handle(life: Life, other: Path) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    db.execute("ATTACH ? AS other", (str(other),))
    with pytest.raises(veritydb.Error):
        db.blobopen("t", "a", 1, name="other")
