"""With a key, no byte on disk shows what is in a row: not in database, WAL, log, spilled or temporary files.

A file that is unlinked while it is open is on the disk all the same. So the test reads every file of the folder *and*
every regular file that the process holds open, at each step of the work.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

import veritydb
from tests.support.life import KEY, RAW
from veritydb.replay.rebuilding import rebuild

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.life import Life

MARK = "c0nf1d3ntial"
SQL = "PlainSchemaName"
_FORMS = tuple(
    text.encode(encoding) for text in (MARK, MARK.upper(), SQL) for encoding in ("utf-8", "utf-16-le", "utf-16-be")
)  # fmt: skip


def _bytes_on_disk(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file in ``folder``, and every file that this process holds open, with or without a name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
    for descriptor in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            status = os.fstat(descriptor)
            name = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and (name.startswith(str(folder)) or name.endswith("(deleted)")):
            with open(f"/proc/self/fd/{descriptor}", "rb") as file:
                yield name, file.read()


def _clean(folder: Path) -> int:
    """Require that nothing is readable; returns how many bytes were searched."""
    searched = 0
    for name, content in _bytes_on_disk(folder):
        found = [form for form in _FORMS if form in content]
        assert not found, f"{name} shows {found}"
        searched += len(content)
    return searched


@pytest.fixture(autouse=True)
def temporary_files_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's temporary files would be made where the test looks."""
    (tmp_path / "tmp").mkdir()
    for name in ("SQLITE_TMPDIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "tmp"))


@pytest.mark.parametrize("key", [KEY, RAW], ids=["passphrase", "raw key"])
def test_nothing_that_is_written_shows_a_row(key: str | bytes, life: Life, tmp_path: Path) -> None:
    db = life.connect(key=key, isolation_level=None, actor=f"actor {MARK}")
    db.execute(f"CREATE TABLE {SQL}(id INTEGER PRIMARY KEY, name TEXT, note)")
    db.execute(f"CREATE INDEX by_name ON {SQL}(name)")
    assert _clean(tmp_path)
    with db.reason(f"reason {MARK}"):
        db.execute(f"INSERT INTO {SQL}(name, note) VALUES (?, ?)", (f"{MARK} one", MARK.encode()))
    db.execute(f"UPDATE {SQL} SET note = ?", (f"{MARK} changed",))
    assert _clean(tmp_path)
    db.execute("CREATE VIRTUAL TABLE f USING fts5(x)")
    db.execute("INSERT INTO f VALUES (?)", (f"{MARK} in an index",))
    db.execute("ANALYZE")
    db.execute(f"DELETE FROM {SQL} WHERE id = 1")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert _clean(tmp_path)
    db.execute("VACUUM")
    assert _clean(tmp_path)
    life.close()
    assert _clean(tmp_path)
    rebuild(tmp_path / "life.db", tmp_path / "again.db", key=key)
    assert _clean(tmp_path) > 10_000


def test_a_transaction_larger_than_memory_spills_sealed(life: Life, tmp_path: Path) -> None:
    """The change buffer spills to a file without a name; it is searched through the descriptor that is open."""
    db = life.connect(key=RAW)
    db.execute(f"CREATE TABLE {SQL}(a, b)")
    db.commit()
    rows = [(number, f"{MARK} {number} " + "x" * 400) for number in range(60_000)]
    db.executemany(f"INSERT INTO {SQL} VALUES (?, ?)", rows)
    names = [name for name, _ in _bytes_on_disk(tmp_path)]
    assert any(name.endswith("(deleted)") for name in names), "nothing was spilled; make the transaction larger"
    assert _clean(tmp_path) > 10_000_000
    db.commit()
    assert _clean(tmp_path)


def test_sorting_and_temp_tables_write_no_temporary_file(life: Life, tmp_path: Path) -> None:
    db = life.connect(key=RAW, isolation_level=None)
    db.execute(f"CREATE TABLE {SQL}(a, b)")
    db.execute("PRAGMA cache_size = 10")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
    db.execute(f"{numbers} INSERT INTO {SQL} SELECT i, '{MARK} ' || hex(randomblob(150)) FROM n")
    cursor = db.execute(f"SELECT b FROM {SQL} ORDER BY b || a")
    cursor.fetchone()
    assert _clean(tmp_path)
    cursor.close()
    db.execute(f"CREATE TEMP TABLE scratch AS SELECT * FROM {SQL}")
    db.execute("CREATE INDEX temp.i ON scratch(b)")
    assert _clean(tmp_path)
    db.execute("BEGIN")
    db.execute(f"UPDATE {SQL} SET b = b || '.'")  # Larger than the cache: pages go to the WAL before the commit.
    assert _clean(tmp_path)
    db.execute("ROLLBACK")


@pytest.mark.parametrize("sql", ["PRAGMA temp_store = FILE", "PRAGMA temp_store = 0", "PRAGMA temp_store(1)"])
def test_temporary_files_cannot_be_switched_on(sql: str, life: Life) -> None:
    db = life.connect(key=RAW)
    with pytest.raises(veritydb.StatementRefused):
        db.execute(sql)


def test_the_search_itself_finds_what_is_there(tmp_path: Path, life: Life) -> None:
    """Without a key everything is readable, in the database and in the log; and a file without a name is found too."""
    db = life.connect(isolation_level=None)
    db.execute(f"CREATE TABLE {SQL}(a)")
    db.execute(f"INSERT INTO {SQL} VALUES ('{MARK}')")
    shown = {Path(name).name for name, content in _bytes_on_disk(tmp_path) if MARK.encode() in content}
    assert {"life.db-wal", "00000000.seg"} <= shown
    nameless = os.open(tmp_path / "gone", os.O_RDWR | os.O_CREAT)
    os.unlink(tmp_path / "gone")
    os.write(nameless, MARK.encode())
    try:
        nameless_ones = [content for name, content in _bytes_on_disk(tmp_path) if name.endswith("(deleted)")]
        assert any(MARK.encode() in content for content in nameless_ones)
    finally:
        os.close(nameless)


@pytest.mark.parametrize("base", ["", "unix"])
def test_a_vfs_that_would_write_the_wal_in_clear_is_refused(base: str, tmp_path: Path) -> None:
    class Passing(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("passing", base)

        def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
            return apsw.VFSFile(base, name, flags)

    vfs = Passing()
    with pytest.raises(veritydb.ConfigurationError, match="in clear"):
        veritydb.connect(f"file:{tmp_path}/clear.db?vfs=passing", uri=True, key=RAW)
    vfs.unregister()
