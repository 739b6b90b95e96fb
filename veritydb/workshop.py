"""What the tools that work on whole databases share: adopt, export and verify.

Each makes files before it touches or answers anything, in a folder of its own beside the database: the same file
system, so that a rename moves what was made, and the same protection as the database has. A folder is locked as long
as its maker lives, so what a killed process left can be told from what another one is at, and be cleared away.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeAlias

import apsw

from veritydb import opening
from veritydb.errors import OperationalError
from veritydb.keys import Key, KeyProvider, Keyring

Progress: TypeAlias = "Callable[[str, int, int], object]"
"""Called with what is being done, how much of it is done, and how much there is."""


_BUSY_MS = 5_000


def silent(what: str, done: int, total: int) -> None:
    """Nobody asked for the progress."""


def asked_once(key: Key | None, database: str) -> str | bytes | None:
    """Return the key itself, so that a provider is asked once, by the name of the database and not of a folder."""
    if isinstance(key, KeyProvider):
        return key.get_key(database)
    if callable(key):
        return key(database)
    return key


def file_key_of(keyring: Keyring | None) -> bytes | None:
    """Return the raw key of the database file; None if it is not encrypted."""
    return None if keyring is None else keyring.current.file_key()


@contextlib.contextmanager
def open_to_read(path: Path, file_key: bytes | None, *, uri: bool = False) -> Generator[apsw.Connection]:
    """Open a database that is only going to be read. Raises what :func:`veritydb.opening.check_key` raises.

    Not with SQLite's read-only flag: such a connection makes ``-wal`` and ``-shm`` files and cannot take them away.
    Where it may not write, SQLite falls back to reading by itself.
    """
    with contextlib.closing(opening.open_file(str(path), file_key, create=False, uri=uri)) as db:
        db.set_busy_timeout(_BUSY_MS)
        opening.check_key(db, str(path), keyed=file_key is not None)
        yield db


@contextlib.contextmanager
def folder_beside(path: Path, suffix: str) -> Generator[Path]:
    """Yield a new folder ``<path><suffix><random>``, gone afterwards; those that killed processes left go first."""
    try:
        for left in path.parent.glob(f"{glob.escape(path.name + suffix)}*"):
            with _held(left) as ours:
                if ours:
                    shutil.rmtree(left, ignore_errors=True)
        folder = path.with_name(f"{path.name}{suffix}{secrets.token_hex(6)}")
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise OperationalError(f"no folder can be made beside {path}: {error.strerror}; nothing was touched") from error
    with _held(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path) -> Generator[bool]:
    """Lock a folder if nobody has it; yield whether that worked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
