"""Verifying: every kind of change is found, named, and nothing is touched by looking."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import apsw
import pytest

import veritydb
from veritydb import opening
from veritydb.errors import KeyMissing, LogMissing, MissingFunction, NotEncrypted, WrongKey
from veritydb.streams import open_log
from veritydb.verify import verify

KEY = "hex:" + "3c" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small encrypted database: five transactions, an index, a full-text table."""
    path = tmp_path / "a.db"
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b)")
        db.execute("CREATE INDEX i ON t(a)")
        db.execute("CREATE VIRTUAL TABLE words USING fts5(x)")
        with db:
            db.executemany("INSERT INTO t(a, b) VALUES (?, ?)", [(f"row {n}", n) for n in range(200)])
        with db:
            db.execute("INSERT INTO words VALUES ('hello world')")
    return path


@contextlib.contextmanager
def behind_its_back(path: Path) -> contextlib._GeneratorContextManager[apsw.Connection]:
    """Write to the file as a program would that has the key and knows nothing of the log."""
    log, keyring = open_log(Path(f"{path}-log"), KEY)
    log.close()
    assert keyring is not None
    with contextlib.closing(opening.open_file(str(path), keyring.current.file_key())) as db:
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        yield db


def test_a_good_database_is_good(path: Path) -> None:
    """And the answer says how much was read."""
    steps: list[str] = []
    found = verify(path, key=KEY, progress=lambda what, done, total: steps.append(what))
    assert found.ok
    assert found.chain.transactions == 5
    assert found.file is not None
    assert (found.file.next_offset, found.file.pending) == (5, 0)
    assert list(dict.fromkeys(steps)) == ["reading the chain", "checking the file", "replaying the log", "comparing"]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.db", "a.db-log"]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("UPDATE t SET b = 1.0 WHERE b = 1", "table t"),
        ("DELETE FROM t WHERE id = 9", "table t"),
        ("UPDATE t SET id = 1000 WHERE id = 200", "table t"),
        ("INSERT INTO t(a) VALUES ('new')", "table t"),
        ("DROP INDEX i", "index i"),
        ("CREATE TABLE u(a)", "table u"),
        ("PRAGMA user_version = 3", "user_version"),
        ("UPDATE words_content SET c0 = 'other words'", "words"),
    ],
)
def test_a_change_behind_the_logs_back_is_found(path: Path, sql: str, word: str) -> None:
    """Whatever it is: a row, a rowid, a storage class, a schema object, a header field, a shadow table."""
    with behind_its_back(path) as db:
        db.execute(sql)
    found = verify(path, key=KEY)
    assert not found.ok
    assert found.chain.damage is None
    assert any(word in problem for problem in found.problems), found.problems


def test_every_byte_of_the_log_counts(path: Path) -> None:
    """Any one of them changed, in a sample of all, is found without a key, with its place."""
    segment = Path(f"{path}-log") / "00000000.seg"
    original = segment.read_bytes()
    length = len(original.rstrip(b"\0"))
    # The last record may be one that nobody acknowledged, as far as the log alone can tell: the file knows better.
    last = max(position for position in range(length) if original[position : position + 4] == b"VRec")
    for position in range(3, last, 41):
        changed = bytearray(original)
        changed[position] ^= 0x10
        segment.write_bytes(changed)
        damage = verify(path, chain_only=True).chain.damage
        assert damage is not None, position
        assert damage.segment == segment.name
        assert damage.position <= position
    segment.write_bytes(original)
    assert verify(path, chain_only=True).ok


def test_the_file_knows_that_the_last_record_was_acknowledged(path: Path) -> None:
    """The chain alone cannot tell a cut or damaged end from an unfinished one; file and log together can."""
    segment = Path(f"{path}-log") / "00000000.seg"
    original = segment.read_bytes()
    last = original.rindex(b"VRec")
    for changed, damaged in (
        (original[:last].ljust(len(original), b"\0"), False),
        (original[: last + 400] + b"\xff" + original[last + 401 :], True),
    ):
        segment.write_bytes(changed)
        found = verify(path, key=KEY)
        assert not found.ok, found
        assert (found.chain.damage is not None) == damaged
        assert found.chain.torn is None, "no unfinished record: what it says is in the file"
        assert segment.read_bytes() == changed


def test_a_noted_hash_finds_a_cut_log_without_the_file(path: Path) -> None:
    """What was noted off the machine must be in the chain."""
    head = verify(path, chain_only=True).chain.head
    assert verify(path, chain_only=True, expect=head).chain.expected_at == 5
    segment = Path(f"{path}-log") / "00000000.seg"
    original = segment.read_bytes()
    segment.write_bytes(original[: original.rindex(b"VRec")].ljust(len(original), b"\0"))
    assert verify(path, chain_only=True).ok
    found = verify(path, chain_only=True, expect=head)
    assert head.hex() in found.problems[0]


def test_a_file_that_is_behind_its_log_is_good(path: Path, tmp_path: Path) -> None:
    """The next open brings it up; until then it must equal what the log says up to its own offset."""
    old = tmp_path / "old.db"
    shutil.copy(path, old)
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db, db:
        db.execute("INSERT INTO t(a) VALUES ('newer')")
    shutil.copy(old, path)
    found = verify(path, key=KEY)
    assert found.ok, found.problems
    assert found.file is not None
    assert (found.file.next_offset, found.file.pending) == (5, 1)


def test_a_damaged_page_is_found(path: Path) -> None:
    """SQLCipher's tag on the page does not fit any more."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = verify(path, key=KEY)
    assert not found.ok
    assert "damaged" in found.problems[0]


def test_looking_while_somebody_writes_is_looking_at_one_moment(path: Path) -> None:
    """The file is compared with the log as of one commit, however many come meanwhile."""
    with contextlib.closing(veritydb.connect(path, key=KEY)) as db:

        def write(what: str, done: int, total: int) -> None:
            with db:
                db.execute("INSERT INTO t(a) VALUES (?)", (what,))

        assert verify(path, key=KEY, progress=write).ok
    assert verify(path, key=KEY).ok


def test_keys_are_checked_first(path: Path, tmp_path: Path) -> None:
    """A wrong key is an error and no finding."""
    with pytest.raises(KeyMissing):
        verify(path)
    with pytest.raises(WrongKey):
        verify(path, key="hex:" + "00" * 32)
    plain = tmp_path / "plain.db"
    veritydb.connect(plain).close()
    with pytest.raises(NotEncrypted):
        verify(plain, key=KEY)
    assert verify(plain).ok
    with pytest.raises(LogMissing):
        verify(tmp_path / "none.db")


def test_what_the_schema_needs_is_asked_for(tmp_path: Path) -> None:
    """A function of the application, by name; with it the check runs."""
    path = tmp_path / "a.db"
    with contextlib.closing(veritydb.connect(path)) as db:
        register(db)
        db.execute("CREATE TABLE t(a)")
        db.execute("CREATE INDEX i ON t(twice(a))")
        db.execute("INSERT INTO t VALUES (21)")
        db.commit()
    with pytest.raises(MissingFunction, match="twice"):
        verify(path)
    assert verify(path, register=f"{__name__}:register").ok


def register(connection: veritydb.Connection) -> None:
    """What the database of the test above needs."""
    connection.create_function("twice", 1, lambda value: value * 2, deterministic=True)


def test_a_folder_that_a_killed_process_left_is_cleared_away(path: Path) -> None:
    """But not that of a process which is still at work."""
    left = path.with_name("a.db-verify-000000000000")
    left.mkdir()
    (left / "a.db").write_bytes(b"much")
    seen: list[bool] = []
    assert verify(path, key=KEY, progress=lambda what, done, total: seen.append(left.exists())).ok
    assert not left.exists()
    assert os.listdir(path.parent) in (["a.db", "a.db-log"], ["a.db-log", "a.db"])
