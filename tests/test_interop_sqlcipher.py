"""The file of an encrypted database is SQLCipher 4's: the real SQLCipher reads it and writes it.

SQLCipher runs in a process of its own. Two SQLite libraries in one process do not see each other's locks (POSIX), and
the one that closes first may take the WAL away from the other.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support import files
from tests.support.life import KEY, RAW
from veritydb import keys
from veritydb.replay.rebuilding import rebuild

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.life import Life


_SQLCIPHER = """
import json, sys
from sqlcipher3 import dbapi2
path, key, *statements = sys.argv[1:]
db = dbapi2.connect(path, isolation_level=None)
db.execute(f'PRAGMA key = "{key}"')
try:
    print(json.dumps([db.execute(sql).fetchall() for sql in statements]))
except dbapi2.DatabaseError as error:
    print(json.dumps(str(error)))
db.close()
"""


def _sqlcipher(path: Path, exported: str, *statements: str) -> Any:
    """Run ``statements`` in the real SQLCipher; returns the rows of each, or the error's text."""
    command = [sys.executable, "-c", _SQLCIPHER, str(path), exported, *statements]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)


@pytest.mark.parametrize("key", [KEY, RAW], ids=["passphrase", "raw key"])
def test_sqlcipher_opens_the_file_with_the_exported_key(key: str | bytes, life: Life, tmp_path: Path) -> None:
    db = life.connect(key=key)
    with db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)")
        db.executemany("INSERT INTO t(a, b) VALUES (?, ?)", [(n, f"ü {n}" * 50) for n in range(500)])
    path = tmp_path / "life.db"
    exported = keys.export_text(files.keyring(path, key))
    # While it is open here, in WAL mode, and after.
    for _ in range(2):
        assert _sqlcipher(
            path,
            exported,
            "SELECT count(*), sum(a) FROM t",
            "SELECT b FROM t WHERE id = 3",
            "PRAGMA integrity_check",
            "PRAGMA cipher_integrity_check",
            "PRAGMA journal_mode",
        ) == [[[500, 124750]], [["ü 2" * 50]], [["ok"]], [], [["wal"]]]
        life.close()


def test_sqlcipher_does_not_open_it_with_another_key(life: Life, tmp_path: Path) -> None:
    with life.connect(key=RAW) as db:
        db.execute("CREATE TABLE t(a)")
    life.close()
    for pragma in ("x'" + "00" * 32 + "'", f"x'{RAW.hex()}'", KEY):
        assert "not a database" in _sqlcipher(tmp_path / "life.db", pragma, "SELECT * FROM t")


def test_sqlite_itself_reads_nothing_of_it(life: Life, tmp_path: Path) -> None:
    with life.connect(key=RAW) as db:
        db.execute("CREATE TABLE t(a)")
    life.close()
    other = sqlite3.connect(tmp_path / "life.db")
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        other.execute("SELECT * FROM sqlite_master")
    other.close()


def test_a_rebuilt_file_opens_with_the_same_exported_key(life: Life, tmp_path: Path) -> None:
    with life.connect(key=RAW) as db:
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES ('kept')")
    life.close()
    rebuild(tmp_path / "life.db", tmp_path / "again.db", key=RAW)
    exported = keys.export_text(files.keyring(tmp_path / "life.db", RAW))
    assert _sqlcipher(tmp_path / "again.db", exported, "SELECT a FROM t") == [[["kept"]]]


def test_a_file_that_sqlcipher_wrote_behind_the_log_is_found_out(life: Life, tmp_path: Path) -> None:
    with life.connect(key=RAW) as db:
        db.execute("CREATE TABLE t(a)")
    life.close()
    path = tmp_path / "life.db"
    exported = keys.export_text(files.keyring(path, RAW))
    assert _sqlcipher(path, exported, "INSERT INTO t VALUES ('smuggled')") == [[]]
    with pytest.raises(AssertionError):
        life.check(path)
    life.forget(path)


@pytest.mark.parametrize("key", [None, "another passphrase", bytes(32)], ids=["none", "passphrase", "raw key"])
def test_a_wrong_or_missing_key_is_one_clear_error_and_touches_nothing(
    key: str | bytes | None, life: Life, tmp_path: Path
) -> None:
    with life.connect(key=RAW) as db:
        db.execute("CREATE TABLE t(a)")
    life.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(veritydb.KeyMissing if key is None else veritydb.WrongKey, match="nothing was touched"):
        veritydb.connect(tmp_path / "life.db", key=key)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_key_for_a_database_without_one_is_refused(life: Life, tmp_path: Path) -> None:
    with life.connect() as db:
        db.execute("CREATE TABLE t(a)")
    life.close()
    with pytest.raises(veritydb.NotEncrypted, match="nothing was touched"):
        veritydb.connect(tmp_path / "life.db", key=RAW)
