"""Adopting existing files: the content is kept exactly; a crash at any point leaves the old state or the new one."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import sqlcipher3

import veritydb
from tests.support.content import content, different
from veritydb import adopt as adopting
from veritydb.adopt import Adopted, adopt
from veritydb.errors import (
    ConfigurationError,
    KeyMissing,
    LogMismatch,
    MissingFunction,
    NotEncrypted,
    OperationalError,
    StatementRefused,
    WrongKey,
)
from veritydb.records import Reader
from veritydb.sealing import Opener
from veritydb.streams import open_log
from veritydb.verify import verify

KEY = "hex:" + "a7" * 32

EVERYTHING = """
PRAGMA user_version = 77;
PRAGMA application_id = 4711;
CREATE TABLE plain(a, b);
INSERT INTO plain(rowid, a, b) VALUES (5, 'x', 1.5), (-9, NULL, x'00ff');
INSERT INTO plain(rowid, a, b) VALUES (9223372036854775807, 'nul' || char(0) || 'nul', -0.0);
INSERT INTO plain(rowid, a, b) VALUES (6, 9e999, 1), (7, 1.0, '1');
CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT UNIQUE COLLATE NOCASE);
INSERT INTO counted(v) VALUES ('a'), ('b'), ('c');
DELETE FROM counted WHERE v = 'c';
CREATE TABLE made(id INTEGER PRIMARY KEY, a INT, stored AS (a * 2) STORED, virtual AS (a + 1) VIRTUAL, z DEFAULT 9);
INSERT INTO made(a) VALUES (1), (2);
CREATE TABLE keyed(k TEXT COLLATE NOCASE, n INT, v, PRIMARY KEY (n DESC, k)) WITHOUT ROWID;
INSERT INTO keyed VALUES ('b', 1, 'one'), ('a', 2, 'two');
CREATE TABLE strict_one(a INTEGER, b ANY, c BLOB) STRICT;
INSERT INTO strict_one VALUES (1, '2', x'03');
CREATE TABLE "odd ""name"" here"("rowid" TEXT, "select" INT, CHECK ("select" > 0));
INSERT INTO "odd ""name"" here"(_rowid_, "rowid", "select") VALUES (42, 'not the rowid', 1);
CREATE TABLE parent(id INTEGER PRIMARY KEY);
CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
INSERT INTO child VALUES (1, 99);
CREATE TABLE altered(a);
INSERT INTO altered VALUES (1);
ALTER TABLE altered ADD COLUMN b DEFAULT 'later';
CREATE INDEX by_b ON plain(b DESC) WHERE b IS NOT NULL;
CREATE UNIQUE INDEX by_expression ON counted(lower(v), length(v));
CREATE VIEW looking AS SELECT a FROM plain;
CREATE TRIGGER acting AFTER INSERT ON plain BEGIN INSERT INTO altered VALUES (new.a, 'by trigger'); END;
CREATE TRIGGER instead INSTEAD OF INSERT ON looking BEGIN SELECT RAISE(ABORT, 'no'); END;
CREATE VIRTUAL TABLE words USING fts5(x, y UNINDEXED, prefix='2 3');
INSERT INTO words VALUES ('hello world', 1), ('other words', 2);
CREATE VIRTUAL TABLE outside USING fts5(v, content='counted', content_rowid='id');
INSERT INTO outside(outside) VALUES ('rebuild');
CREATE VIRTUAL TABLE older USING fts4(x);
INSERT INTO older VALUES ('an older one');
CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, +label);
INSERT INTO boxes VALUES (1, 2, 3, 'box');
CREATE TABLE empty_one(a PRIMARY KEY);
ANALYZE;
"""


def make(path: Path, script: str = EVERYTHING) -> Path:
    """Make a plain database, with a row whose text is not valid UTF-8."""
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute(script)
        db.execute("CREATE TABLE invalid(a)")
        db.execute("INSERT INTO invalid VALUES ('fine'), (CAST(x'ff41' AS TEXT)), ('after')")
    return path


def of_plain(path: Path) -> dict[str, object]:
    """Everything that a plain file holds."""
    with contextlib.closing(apsw.Connection(str(path))) as db:
        return content(db, header=("user_version", "application_id", "encoding", "auto_vacuum"))


def of_adopted(path: Path, key: str | None) -> dict[str, object]:
    """Everything that an adopted file holds, read through VerityDB's own key handling and plain SQLite."""
    log, keyring = open_log(Path(f"{path}-log"), key)
    log.close()
    file_key = None if keyring is None else keyring.current.file_key()
    with contextlib.closing(veritydb.opening.open_file(str(path), file_key)) as db:
        return content(db, header=("user_version", "application_id", "encoding", "auto_vacuum"))


def same(path: Path, before: dict[str, object], key: str | None = KEY) -> None:
    """Check that ``path`` is whole and holds what there was before."""
    assert different(before, of_adopted(path, key)) == ""
    found = verify(path, key=key)
    assert found.ok, found.problems or found.chain.damage


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_adopted_in_place_a_file_keeps_everything(tmp_path: Path, key: str | None) -> None:
    """Schema, rows, rowids, storage classes, bytes, sequences, statistics, header fields, shadow tables."""
    path = make(tmp_path / "a.db")
    before = of_plain(path)
    done = adopt(path, key=key, actor="me", reason="today")
    assert isinstance(done, Adopted)
    assert (done.path, done.encrypted, done.finished) == (path, key is not None, False)
    same(path, before, key)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.db", "a.db-log"]
    with contextlib.closing(veritydb.connect(path, key=key)) as db:
        assert db.execute("SELECT x FROM words('hello')").fetchall() == [("hello world",)]
        assert db.execute("SELECT id FROM boxes WHERE x0 > 1").fetchall() == [(1,)]
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.execute("INSERT INTO counted(v) VALUES ('d')")
        assert db.execute("SELECT max(id) FROM counted").fetchone() == (4,)  # 3 was used, before it was deleted.
        db.commit()
    assert verify(path, key=key).ok


def test_adopted_as_a_new_file_the_source_stays_as_it_was(tmp_path: Path) -> None:
    """Byte for byte; and the new file has its own log."""
    source, target = make(tmp_path / "a.db"), tmp_path / "new.db"
    before, bytes_before = of_plain(source), source.read_bytes()
    adopt(source, target, key=KEY)
    assert source.read_bytes() == bytes_before
    same(target, before)
    with pytest.raises(ConfigurationError, match="has a log already"):
        adopt(source, target, key=KEY)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_text_of_utf_16_databases_keeps_its_bytes(tmp_path: Path, encoding: str) -> None:
    """Also half of a surrogate pair, which is no text."""
    path = tmp_path / "a.db"
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.pragma("encoding", encoding)
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES ('grün'), (CAST(x'd83dd83d' AS TEXT)), (CAST(x'3dd83dd8' AS TEXT)), ('𝄞')")
    before = of_plain(path)
    adopt(path, key=KEY)
    same(path, before)


def test_a_sqlcipher_file_is_adopted_under_another_key(tmp_path: Path) -> None:
    """Written by the real SQLCipher, with a passphrase that has a quote in it."""
    path = tmp_path / "a.db"
    db = sqlcipher3.connect(path)
    db.execute("PRAGMA key = 'it''s secret'")
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t(rowid, a) VALUES (7, 'seven')")
    db.commit()
    db.close()
    with pytest.raises(KeyMissing):
        adopt(path)
    with pytest.raises(WrongKey):
        adopt(path, key=KEY, source_key="not it")
    adopt(path, key=KEY, source_key="it's secret")
    with contextlib.closing(veritydb.connect(path, key=KEY)) as adopted:
        assert adopted.execute("SELECT rowid, a FROM t").fetchall() == [(7, "seven")]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.db", "a.db-log"]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_older_sqlcipher_are_adopted(tmp_path: Path, version: int) -> None:
    """Under the key they have."""
    path = tmp_path / "a.db"
    db = sqlcipher3.connect(path)
    db.execute("PRAGMA key = 'old'")
    db.execute(f"PRAGMA cipher_compatibility = {version}")
    db.execute("CREATE TABLE t AS SELECT 1 AS a")
    db.commit()
    db.close()
    adopt(path, key="old")
    with contextlib.closing(veritydb.connect(path, key="old")) as adopted:
        assert adopted.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_key_for_a_plain_source_is_refused(tmp_path: Path) -> None:
    """It would mean that somebody takes the file for encrypted."""
    path = make(tmp_path / "a.db")
    with pytest.raises(NotEncrypted):
        adopt(path, key=KEY, source_key="key")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.db"]


def test_the_sequence_table_stays_when_its_last_user_has_gone(tmp_path: Path) -> None:
    """SQLite never removes sqlite_sequence, so an adopted file has it, too."""
    counted = "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (9)"
    path = make(tmp_path / "a.db", f"{counted}; DROP TABLE t; CREATE TABLE u(a)")
    before = of_plain(path)
    adopt(path, key=KEY)
    same(path, before)


def test_an_empty_file_is_adopted(tmp_path: Path) -> None:
    """No table, no row: a log with one transaction that says so."""
    path = tmp_path / "a.db"
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.pragma("user_version", 3)
    adopt(path)
    same(path, of_adopted(path, None), None)


def test_many_rows_are_streamed_through_parts(tmp_path: Path) -> None:
    """A transaction of many parts; what is large never is in memory as a whole."""
    path = tmp_path / "a.db"
    with contextlib.closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b BLOB)")
        db.execute("CREATE INDEX i ON t(a)")
        with db:
            rows = [(n, f"row {n}", n % 300) for n in range(30_000)]
            db.executemany("INSERT INTO t VALUES (?, ?, zeroblob(?))", rows)
            db.execute("INSERT INTO t VALUES (-1, 'large', randomblob(5000000))")
    before = of_plain(path)
    seen: list[tuple[str, int, int]] = []
    adopt(path, key=KEY, progress=lambda *step: seen.append(step))
    same(path, before)
    assert {what for what, _, _ in seen} >= {"reading", "writing the log", "comparing"}
    assert all(0 <= done <= total for _, done, total in seen)
    log, keyring = open_log(Path(f"{path}-log"), KEY)
    with contextlib.closing(log):
        (transaction,) = Reader(log, Opener(keyring)).transactions()
        assert transaction.record.header.part_count > 5


def test_the_log_says_who_adopted_and_why(tmp_path: Path) -> None:
    """The first transaction has actor and reason."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")
    adopt(path, actor="dr.lee", reason="moving in")
    log, _ = open_log(Path(f"{path}-log"))
    with contextlib.closing(log):
        (transaction,) = Reader(log, Opener(None)).transactions()
        assert (transaction.offset, transaction.actor, transaction.reason) == (0, "dr.lee", "moving in")


def test_a_wal_file_is_adopted_with_all_of_its_wal(tmp_path: Path) -> None:
    """What was committed and not yet checkpointed is content, too; no journal with old content stays."""
    path = tmp_path / "a.db"
    script = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA journal_mode=wal')\n"
        "db.execute('CREATE TABLE t(a)'); db.execute('INSERT INTO t VALUES (1)'); db.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert Path(f"{path}-wal").stat().st_size > 0
    adopt(path, key=KEY)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.db", "a.db-log"]
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db:
        assert db.execute("SELECT a FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_file_that_is_in_use_is_not_adopted(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that goes on writing to the old file would lose what it writes."""
    monkeypatch.setattr(adopting, "_BUSY_MS", 50)
    path = tmp_path / "a.db"
    # Not through sqlite3: it brings an SQLite of its own, and locks of one process do not keep its libraries apart.
    with contextlib.closing(apsw.Connection(str(path))) as other:
        other.pragma("journal_mode", mode)
        other.execute("CREATE TABLE t(a)")
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(OperationalError, match=r"in use|open in another"):
            adopt(path)
        other.execute("COMMIT")
        assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)
    assert not Path(f"{path}-log").exists()
    adopt(path)


def test_nobody_can_write_while_a_file_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source stays locked from before it is read until the new file is in its place."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")
    refused: list[str] = []

    def write(what: str, done: int, total: int) -> None:
        if what == "comparing" and not done:
            with contextlib.closing(apsw.Connection(str(path))) as other:
                try:
                    other.execute("INSERT INTO t VALUES (1)")
                except apsw.BusyError as error:
                    refused.append(str(error))

    adopt(path, progress=write)
    assert refused == ["database is locked"]


def test_only_one_adoption_at_a_time(tmp_path: Path) -> None:
    """A second one is told so, and the first goes on."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")
    errors: list[BaseException] = []

    def second() -> None:
        try:
            adopt(path)
        except OperationalError as error:
            errors.append(error)

    def step(what: str, done: int, total: int) -> None:
        if what == "comparing" and not done:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    adopt(path, progress=step)
    assert len(errors) == 1
    assert "adopting" in str(errors[0])


def test_missing_functions_are_named_before_anything_changes(tmp_path: Path) -> None:
    """And with register= they are found."""
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.create_function("twice", 1, lambda value: value * 2, deterministic=True)
        db.execute("CREATE TABLE t(a)")
        db.execute("CREATE INDEX i ON t(twice(a))")
        db.execute("INSERT INTO t VALUES (21)")
        db.commit()
    with pytest.raises(MissingFunction, match="twice"):
        adopt(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.db"]
    adopt(path, register=f"{__name__}:register_twice")
    with contextlib.closing(veritydb.connect(path)) as db:
        db.create_function("twice", 1, lambda value: value * 2, deterministic=True)
        assert db.execute("SELECT a FROM t WHERE twice(a) = 42").fetchall() == [(21,)]


def register_twice(connection: veritydb.Connection) -> None:
    """What the database of the test above needs."""
    connection.create_function("twice", 1, lambda value: value * 2, deterministic=True)


def test_what_cannot_be_adopted_is_refused_and_untouched(tmp_path: Path) -> None:
    """Rowids that nobody can read, a file that is no database, one that has a log, a target that exists."""
    hidden = make(tmp_path / "hidden.db", "CREATE TABLE t(rowid, oid, _rowid_)")
    with pytest.raises(StatementRefused, match="rowid, oid and _rowid_"):
        adopt(hidden)
    nonsense = tmp_path / "nonsense.db"
    nonsense.write_bytes(b"no database" * 1_000)
    with pytest.raises(KeyMissing):
        adopt(nonsense)
    with pytest.raises(WrongKey):
        adopt(nonsense, key=KEY)
    with pytest.raises(ConfigurationError, match="there is no file"):
        adopt(tmp_path / "nothing.db")
    plain = make(tmp_path / "plain.db", "CREATE TABLE t(a)")
    with pytest.raises(ConfigurationError, match="exists"):
        adopt(plain, hidden)
    with pytest.raises(ConfigurationError, match="same file"):
        adopt(plain, plain)
    with pytest.raises(ConfigurationError, match="empty"):
        adopt(plain, key="")
    adopt(plain)
    with pytest.raises(ConfigurationError, match="has a log already"):
        adopt(plain)
    left = ["hidden.db", "nonsense.db", "plain.db", "plain.db-log"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == left


def test_permissions_are_taken_over(tmp_path: Path) -> None:
    """Whoever could read the file can read it afterwards, and nobody else; the log is the owner's alone."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")
    path.chmod(0o640)
    adopt(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(Path(f"{path}-log").stat().st_mode) == 0o700


def test_nothing_of_a_row_is_on_disk_in_plain(tmp_path: Path) -> None:
    """At no moment: log, spilled parts, and new file are encrypted from the first byte."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a); INSERT INTO t VALUES ('Xylophonist')")
    target = tmp_path / "new" / "b.db"
    target.parent.mkdir()

    def look(what: str, done: int, total: int) -> None:
        for file in target.parent.rglob("*"):
            assert not file.is_file() or b"Xylophonist" not in file.read_bytes()

    adopt(path, target, key=KEY, progress=look)
    look("", 0, 0)


# Crashes


def in_a_child(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own; return how it ended (0, or minus the signal)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of fork beside the threads of the test runner.
        child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


CALLS = ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link", "chmod")


def killed_at(number: int, work: Callable[[], object]) -> None:
    """Run ``work`` and SIGKILL the process just before its N-th call that changes names or makes them durable."""
    seen = 0

    def counting(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        return call

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))
    work()


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "new file"])
def test_after_a_crash_anywhere_a_second_run_completes(tmp_path: Path, in_place: bool) -> None:
    """SIGKILL before every call in turn, until a run passes untouched."""
    template = make(tmp_path / "template.db", "CREATE TABLE t(a); INSERT INTO t VALUES ('kept')")
    before = of_plain(template)
    finished = number = 0
    ended = -9
    while ended != 0:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        source = folder / "a.db"
        source.write_bytes(template.read_bytes())
        target = None if in_place else folder / "b.db"
        place = target or source
        ended = in_a_child(lambda n=number, s=source, t=target: killed_at(n, lambda: adopt(s, t, key=KEY)))
        assert ended in (0, -9)
        adopted = place.exists() and Path(f"{place}-log").exists() and place.read_bytes()[:6] != b"SQLite"
        if not adopted:
            assert different(before, of_plain(source)) == ""
        elif not place.with_name(f"{place.name}-adopt").exists():
            same(place, before)
            continue
        done = adopt(source, target, key=KEY)
        finished += done.finished
        same(place, before)
        assert {entry.name for entry in folder.iterdir()} == {source.name, place.name, f"{place.name}-log"}
    assert number > 20
    assert finished > 0


def test_a_source_that_was_written_to_after_a_crash_is_read_again(tmp_path: Path) -> None:
    """Between the two renames an old program still finds its file; what it writes then must not be lost."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")

    def crash() -> None:
        adopting._Adoption._move_file = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        adopt(path, key=KEY)

    assert in_a_child(crash) == -9
    assert Path(f"{path}-log").exists()
    assert adopting.interrupted(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO t VALUES ('written in between')")
        db.commit()
    before = of_plain(path)
    done = adopt(path, key=KEY)
    assert not done.finished
    same(path, before)
    assert not adopting.interrupted(path)


def test_two_histories_are_never_reduced_to_one(tmp_path: Path) -> None:
    """If after a crash both the old file and the new log went on, a person has to decide."""
    path, aside = make(tmp_path / "a.db", "CREATE TABLE t(a)"), tmp_path / "aside.db"

    def crash() -> None:
        adopting._Adoption._move_file = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        adopt(path, key=KEY)

    assert in_a_child(crash) == -9
    path.rename(aside)
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db, db:  # Made again, from the log.
        db.execute("INSERT INTO t VALUES ('in the log')")
    with contextlib.closing(sqlite3.connect(aside)) as old:
        old.execute("INSERT INTO t VALUES ('in the old file')")
        old.commit()
    aside.replace(path)
    with pytest.raises(LogMismatch, match="decide which"):
        adopt(path, key=KEY)
    with contextlib.closing(sqlite3.connect(path)) as old:
        assert old.execute("SELECT a FROM t").fetchall() == [("in the old file",)]
    assert verify(path, key=KEY, chain_only=True).chain.transactions == 2


def test_an_interrupted_adoption_is_finished_only_with_its_key(tmp_path: Path) -> None:
    """Another key would leave a database that nobody can open."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")

    def crash() -> None:
        adopting._Adoption._move_file = lambda self: os.kill(os.getpid(), signal.SIGKILL)
        adopt(path, key=KEY)

    assert in_a_child(crash) == -9
    before = of_plain(path)
    for wrong in ("hex:" + "00" * 32, None):
        with pytest.raises((WrongKey, KeyMissing)):
            adopt(path, key=wrong)
    assert adopt(path, key=KEY).finished
    same(path, before)


def test_an_error_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, say: the source is as it was, the work folder is gone, and it can be tried again."""
    path = make(tmp_path / "a.db", "CREATE TABLE t(a)")
    before = of_plain(path)

    def full(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(adopting, "rebuild", full)
        with pytest.raises(OSError, match="No space"):
            adopt(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.db"]
    assert different(before, of_plain(path)) == ""
    adopt(path)
