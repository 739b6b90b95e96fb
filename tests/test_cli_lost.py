"""What the command line says of what is missing (a log, its keys, a file, a part of an argument): the truth."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import veritydb
from tests.support.cli import KEY, command


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    """An encrypted database with its log."""
    path = tmp_path / "clinic.db"
    with veritydb.connect(path, key=KEY) as db:
        db.execute("CREATE TABLE t(a)")
    db.close()
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """One that is not encrypted."""
    path = tmp_path / "plain.db"
    with veritydb.connect(path) as db:
        db.execute("CREATE TABLE t(a)")
        db.execute("INSERT INTO t VALUES (1)")
    db.close()
    return path


READING = (("log",), ("verify",), ("replay", "TARGET"), ("keys", "check"), ("keys", "export"), ("tail", "--no-follow"))


def _arguments(words: tuple[str, ...], path: Path) -> list[object]:
    names = [word for word in words if word != "TARGET" and not word.startswith("--")]
    options = [word for word in words if word.startswith("--")]
    target = [path.with_name("target.db")] if "TARGET" in words else []
    return [*names, path, *target, *options]


def _ordinary(folder: Path) -> Path:
    path = folder / "ordinary.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t(a)")
    db.close()
    return path


def _noise(folder: Path) -> Path:
    path = folder / "noise.db"
    path.write_bytes(b"\x9d\x01noise" * 1_000)
    return path


@pytest.mark.parametrize("words", READING, ids=" ".join)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_ordinary, "`veritydb adopt "),
        (_noise, "if it is SQLCipher's, `veritydb adopt` gives it one"),
        (lambda folder: folder / "absent.db", "and no file "),
    ],
    ids=["a file of sqlite3", "no database", "no file"],
)
def test_where_there_is_no_log_the_error_says_what_the_file_is(
    make: Callable[[Path], Path], says: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    ran = command(*_arguments(words, make(tmp_path)))
    assert ran.code == 4
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_lost_log_is_not_told_from_a_file_that_never_had_one_by_guessing(plain: Path) -> None:
    """``info`` does not send to ``adopt``, which would refuse, and the way out that is named works."""
    shutil.rmtree(plain.with_name("plain.db-log"))
    for words in ("info",), *READING:
        ran = command(*_arguments(words, plain))
        assert (ran.code, "put it back, or take the content out with `veritydb export`" in ran.err) == (4, True)
    assert "`veritydb export`" in command("adopt", plain).err
    out = plain.with_name("out.db")
    assert command("export", plain, out).code == 0
    assert command("adopt", out).code == 0
    assert command("verify", out).code == 0


def test_info_says_that_a_folder_is_none(plain: Path) -> None:
    ran = command("info", plain.with_name("plain.db-log"))
    assert (ran.code, "is a folder" in ran.err) == (2, True)


@pytest.mark.parametrize("words", [("info",), *READING], ids=" ".join)
def test_lost_keys_are_not_called_a_file_without_encryption(words: tuple[str, ...], encrypted: Path) -> None:
    """The file with the wrapped keys is gone, and the records are still sealed."""
    encrypted.with_name("clinic.db-log").joinpath("keys").unlink()
    ran = command(*_arguments(words, encrypted), key=KEY)
    assert (ran.code, "is missing, and the log is sealed" in ran.err) == (4, True)
    with pytest.raises(veritydb.LogDamaged, match="is missing, and the log is sealed") as caught:
        veritydb.connect(encrypted, key=KEY)
    assert caught.value.segment == "keys"


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_an_encrypted_file_without_its_log_is_not_exported_and_told_why(key: str | None, encrypted: Path) -> None:
    shutil.rmtree(encrypted.with_name("clinic.db-log"))
    ran = command("export", encrypted, encrypted.with_name("out.db"), key=key)
    assert (ran.code, "the key that the file needs is kept there" in ran.err) == (4, True)
    assert not encrypted.with_name("out.db").exists()


def test_a_key_for_a_plain_database_is_still_one_too_many(plain: Path) -> None:
    for words in ("info",), *READING:
        ran = command(*_arguments(words, plain), key=KEY)
        assert (ran.code, "is not encrypted, but a key was given" in ran.err) == (3, True), words


def test_a_database_that_has_its_log_is_not_adopted_under_another_name(plain: Path) -> None:
    """Also where its file was emptied: what it holds is in the log, and the new one would hold nothing."""
    target = plain.with_name("new.db")
    for _ in range(2):
        ran = command("adopt", plain, target)
        assert (ran.code, "already, with its log" in ran.err) == (2, True)
        assert not target.exists()
        plain.write_bytes(b"")


@pytest.mark.parametrize("hash_", ["", "5f0c", "5f" * 31, "5f" * 33])
def test_what_is_no_whole_hash_is_not_told_as_a_log_that_was_cut(hash_: str, plain: Path) -> None:
    """A script whose variable is empty has made a mistake; nobody has touched the log."""
    ran = command("verify", plain, "--chain-only", "--expect", hash_)
    assert (ran.code, "64 hexadecimal digits" in ran.err) == (2, True)
    assert command("verify", plain, "--chain-only", "--expect", "5f" * 32).code == 1


def test_replay_names_the_folder_that_is_not_there(plain: Path) -> None:
    ran = command("replay", plain, plain.parent / "nowhere" / "out.db")
    assert (ran.code, f"there is no folder {plain.parent / 'nowhere'}" in ran.err) == (2, True)
