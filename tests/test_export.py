"""Exporting: a plain SQLite file with the same content, which anything reads."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

import veritydb
from tests.support.content import different
from tests.test_adopt import EVERYTHING, KEY, make, of_plain
from veritydb.adopt import adopt
from veritydb.errors import ConfigurationError, KeyMissing, NotEncrypted, WrongKey
from veritydb.export import export


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_what_was_adopted_comes_out_as_it_went_in(tmp_path: Path, key: str | None) -> None:
    """Adopt and export are each other's inverse: schema, rows, rowids, bytes, header fields."""
    path, target = make(tmp_path / "a.db", EVERYTHING), tmp_path / "plain.db"
    before = of_plain(path)
    adopt(path, key=key)
    done = export(path, target, key=key)
    assert (done.path, done.next_offset, done.bytes) == (target, 1, target.stat().st_size)
    assert different(before, of_plain(target)) == ""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.db", "a.db-log", "plain.db"]


def test_the_copy_is_a_file_that_sqlite_reads_without_us(tmp_path: Path) -> None:
    """No table of ours, no room kept on its pages, no WAL; and Python's own sqlite3 finds it sound."""
    path, target = tmp_path / "a.db", tmp_path / "plain.db"
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db:
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES ('kept')")
        db.commit()
        export(path, target, key=KEY)  # While the connection is open, and may write.
        db.execute("INSERT INTO t VALUES ('later')")
        db.commit()
    assert target.read_bytes()[20] == 0
    with contextlib.closing(sqlite3.connect(target)) as plain:
        assert plain.execute("SELECT name FROM sqlite_schema").fetchall() == [("t",)]
        assert plain.execute("SELECT a FROM t").fetchall() == [("kept",)]
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_names_with_odd_characters_are_names(tmp_path: Path) -> None:
    """The target goes through a URI, where these would mean something."""
    path, target = tmp_path / "a b?c#d%41.db", tmp_path / "to&fro?key=x#%20'.db"
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db:
        db.execute("CREATE TABLE t(a)")
    export(path, target, key=KEY)
    with contextlib.closing(sqlite3.connect(target)) as plain:
        assert plain.execute("SELECT name FROM sqlite_schema").fetchall() == [("t",)]


def test_keys_are_checked_and_nothing_is_written_over(tmp_path: Path) -> None:
    """Each mistake is one clear error and leaves nothing."""
    path, plain, target = tmp_path / "a.db", tmp_path / "p.db", tmp_path / "plain.db"
    for name, key in ((path, KEY), (plain, None)):
        with contextlib.closing(veritydb.connect(name, key=key)) as db:
            db.execute("CREATE TABLE t(a)")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyMissing):
        export(path, target)
    with pytest.raises(WrongKey):
        export(path, target, key="hex:" + "00" * 32)
    with pytest.raises(NotEncrypted):
        export(plain, target, key=KEY)
    with pytest.raises(ConfigurationError, match="exists"):
        export(path, plain, key=KEY)
    with pytest.raises(ConfigurationError, match="there is no file"):
        export(tmp_path / "none.db", target)
    assert sorted(tmp_path.iterdir()) == before
