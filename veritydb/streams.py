"""A database file, its log and its keys, opened together.

:func:`open_stream` decides what a path means: a new database, one with a log, one whose file is missing, or one of the
combinations that are refused. Nothing is written before that is clear. Driven by :mod:`veritydb.session`; the tools
(verify, replay, export) open logs without sessions through :func:`open_log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import apsw

from veritydb import applied, keys, opening
from veritydb.applied import AppliedIndex
from veritydb.errors import (
    ConfigurationError,
    KeyMissing,
    LogDamaged,
    LogMismatch,
    LogMissing,
    LogUnavailable,
    NotAdopted,
    NotEncrypted,
    OperationalError,
)
from veritydb.log import Place, Replicator
from veritydb.log.memory import MemoryLog
from veritydb.log.resuming import resumed
from veritydb.log.store import Log
from veritydb.syncing import sync

LOG_SUFFIX = "-log"
ADOPT_SUFFIX = "-adopt"
"""Of the folder in which an adoption works; while it is there, the adoption is not finished."""
ON_MISSING = ("rebuild", "new")
SHARED_FILE = "shared"
"""Of a log's folder: says which stream of which cluster it is a copy of."""

# In-memory databases that several connections share (cache=shared) share their log, found by its stream id.
_memory_logs: WeakValueDictionary[bytes, MemoryLog] = WeakValueDictionary()
_memory_keys: WeakKeyDictionary[MemoryLog, keys.Keyring | None] = WeakKeyDictionary()


class Shared(Protocol):
    """A stream that a cluster keeps, of which the log beside a database is a copy."""

    name: str

    def check(self, folder: Path) -> None:
        """Raise LogMismatch unless ``folder`` is a copy of it."""
        ...

    def create(self, folder: Path, secret: keys.Secret | None, timeout: float) -> None:
        """Make the copy."""
        ...

    def open(self, folder: Path, *, read_only: bool, start: Place | None, floor: int) -> Replicator:
        """Open the copy."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """What :func:`open_stream` opened."""

    db: apsw.Connection
    log: Replicator
    keyring: keys.Keyring | None
    path: str
    """Absolute path of the file; empty for in-memory and temporary databases."""
    folder: Path | None
    read_only: bool
    fresh: bool
    """Nothing is in the file yet."""
    resumed: AppliedIndex | None = None
    """The file's AppliedIndex, if it and the log are as this process has seen them agree: there is nothing to redo."""


def log_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder of the log of the database at ``path``."""
    return Path(os.path.realpath(path) + LOG_SUFFIX)


def open_stream(
    database: str,
    *,
    key: Any = None,
    uri: bool = False,
    on_missing: str = "rebuild",
    statement_cache: int = 128,
    read_only: bool = False,
    timeout: float = 5.0,
    vfs: str | None = None,
    shared: Shared | None = None,
) -> Stream:
    """Open ``database`` (a path, ``:memory:``, or with ``uri`` a ``file:`` URI) and its log.

    Raises KeyMissing, WrongKey, NotEncrypted, NotAdopted, LogMissing, LogMismatch, LogDamaged, OperationalError; the
    files are then as they were.
    """
    if on_missing not in ON_MISSING:
        raise ConfigurationError(f"on_missing must be one of {', '.join(ON_MISSING)}, not {on_missing!r}")
    secret = keys.normalise(key, database) if key is not None else None
    db = opening.open_file(database, None, read_only=read_only, uri=uri, statement_cache=statement_cache, vfs=vfs)
    try:
        path = db.filename
        if not path:
            if shared is not None:
                raise ConfigurationError("a database in memory is its connection's alone; cluster=… needs a file")
            return _in_memory(db, secret)
        read_only = read_only or db.readonly("main")
        # SQLite's own VFS has followed all symbolic links already.
        folder = log_folder(path) if vfs or (uri and "vfs=" in database) else Path(path + LOG_SUFFIX)
        return _on_disk(
            db, path, folder, secret, on_missing=on_missing, read_only=read_only, timeout=timeout, shared=shared
        )
    except BaseException:
        db.close(True)
        raise


def open_log(folder: Path, key: Any = None, *, database: str = "") -> tuple[Log, keys.Keyring | None]:
    """Open the log in ``folder`` for reading, with the keys that ``key`` opens; for tools that have no session."""
    if not folder.is_dir():
        raise LogMissing(str(without_log(folder)))
    secret = keys.normalise(key, database or str(folder)) if key is not None else None
    keyring = keyring_of(folder, secret, database or str(folder))
    return Log.open(folder, read_only=True), keyring


def _in_memory(db: apsw.Connection, secret: keys.Secret | None) -> Stream:
    index = applied.read(db.cursor())
    log = _memory_logs.get(index.stream) if index is not None else None
    if log is None:
        log = MemoryLog(os.urandom(16))
        _memory_logs[log.stream] = log
        _memory_keys[log] = keys.Keyring.ephemeral() if secret is not None else None
    keyring = _memory_keys[log]
    return Stream(db, log, keyring, "", None, False, index is None)


def _on_disk(
    db: apsw.Connection,
    path: str,
    folder: Path,
    secret: keys.Secret | None,
    *,
    on_missing: str,
    read_only: bool,
    timeout: float,
    shared: Shared | None,
) -> Stream:
    if shared is not None and on_missing == "new":
        raise ConfigurationError('on_missing="new" would begin another history; a stream of a cluster has one')
    empty = _size(path) == 0
    if not os.path.isdir(folder):
        if not empty:
            _refuse_without_log(db, path, keyed=secret is not None)
        if read_only:
            return Stream(db, MemoryLog(os.urandom(16)), None, path, None, True, True)
        if shared is None:
            create_log(folder, secret)
        else:
            shared.create(folder, secret, timeout)
    elif shared is not None:
        shared.check(folder)
    elif not read_only and os.path.exists(f"{folder}/{SHARED_FILE}"):
        raise ConfigurationError(
            f"{path} is a copy of a stream that a cluster keeps: pass cluster=… (or set VERITYDB_CLUSTER) to write it, "
            "or open it for reading (file:…?mode=ro); nothing was touched"
        )
    elif empty and on_missing == "new" and not read_only:
        _replace_log(folder, path, secret, timeout)
    keyring = keyring_of(folder, secret, path)
    if keyring is not None:
        opening.unlock(db, keyring.current.file_key())
    db.set_busy_timeout(int(timeout * 1000))
    try:
        stored, index = _applied(db, path, keyed=keyring is not None)
    except apsw.BusyError as error:
        raise OperationalError(str(error)) from error
    log: Replicator | None = None
    if stored is not None and shared is None:
        log = resumed(folder, stored, read_only=read_only)
    if log is not None:
        return Stream(db, log, keyring, path, folder, read_only, False, index)
    if index is None and not empty and not _no_content(db):
        _refuse_half_adopted(path)
        raise NotAdopted(f"{path} has content that is not in its log {folder}; nothing was touched")
    place = Place(index.segment, index.position) if index is not None and index.next_offset else None
    try:
        opened = Log.open if shared is None else shared.open
        log = opened(folder, read_only=read_only, start=place, floor=index.next_offset if index is not None else 0)
    except LogMismatch as error:
        raise LogMismatch(f"{path} and {folder} do not belong together: {error}") from error
    return Stream(db, log, keyring, path, folder, read_only, index is None)


def _applied(db: apsw.Connection, path: str, *, keyed: bool) -> tuple[bytes | None, AppliedIndex | None]:
    """Read the AppliedIndex, as it is stored and as what it says; None if there is none. Finds a wrong key."""
    cursor = db.cursor()
    try:
        rows = cursor.execute(applied.SELECT).fetchall()
    except apsw.BusyError:
        raise
    except apsw.Error:
        opening.check_key(db, path, keyed=keyed)
        return None, applied.read(cursor)
    if not rows:
        return None, applied.read(cursor)  # Which says what is wrong.
    stored: Any = rows[0][0]
    return stored, applied.unpack(stored)


def create_log(folder: Path, secret: keys.Secret | None) -> None:
    """Create an empty log. It appears whole or not at all, and whoever comes second uses the first one's."""
    stream = os.urandom(16)
    with appearing(folder) as workshop:
        if secret is not None:
            keys.create_keys(workshop, stream, secret)
        Log.create(workshop, stream).close()


@contextlib.contextmanager
def appearing(folder: Path) -> Generator[Path]:
    """Yield a folder that becomes the log's once it is filled: whole or not at all, and the first one stays.

    Raises LogUnavailable if the disk fails.
    """
    import shutil

    workshop = folder.with_name(f"{folder.name}.new-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        workshop.mkdir(mode=0o700)
        yield workshop
        try:
            workshop.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
        sync_folder(folder.parent)
    except OSError as error:
        raise LogUnavailable(f"the log {folder} cannot be created: {error}; nothing was written") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _replace_log(folder: Path, path: str, secret: keys.Secret | None, timeout: float) -> None:
    # Under the old log's lock, so that a second process that also found the file missing waits and then finds it there.
    try:
        old = Log.open(folder)
    except (LogMismatch, OSError):
        return
    try:
        old.acquire(timeout)
        try:
            if _size(path) == 0 and old.head.next_offset:
                set_aside(folder)
                create_log(folder, secret)
        finally:
            old.release()
    finally:
        old.close()


@contextlib.contextmanager
def making(database: str, *, uri: bool) -> Generator[None]:
    """While a file that is missing or empty is opened: let others that open it wait until it is made.

    It may be made under another name and then put in its place. SQLite must not have opened the empty one before that:
    reading it, it would find the new one's write-ahead log and, as the file has no pages, remove it. What is not empty
    is never replaced, and nobody waits then.
    """
    path = database
    if uri and database.startswith("file:"):
        from urllib.parse import unquote, urlsplit

        path = unquote(urlsplit(database).path)
    if path in ("", ":memory:") or _size(path):
        yield
        return
    folder = os.path.dirname(os.path.realpath(path))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        yield  # SQLite says what is wrong with it.
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def set_aside(folder: Path) -> Path:
    """Give a log that is no longer wanted a dated name; logs are never deleted."""
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    for suffix in ("", *(f".{number}" for number in range(1, 1000))):
        target = folder.with_name(f"{folder.name}.{stamp}{suffix}")
        if not target.exists():
            folder.rename(target)
            sync_folder(folder.parent)
            return target
    raise LogUnavailable(f"{folder} could not be set aside")


def _refuse_half_adopted(path: str) -> None:
    if Path(path + ADOPT_SUFFIX).is_dir():
        raise NotAdopted(f"adopting {path} was begun and not finished; run `veritydb adopt {path}` again")


def _refuse_without_log(db: apsw.Connection, path: str, *, keyed: bool) -> None:
    _refuse_half_adopted(path)
    # An empty database that sqlite3 made (a header, no content) may be taken over; anything else has a history.
    if not opening.starts_plain(path):
        raise LogMissing(f"{_of_no_log(path)}. Nothing was touched")
    if keyed:
        raise NotEncrypted(
            f"{path} is not encrypted and has no log, but a key was given; `veritydb adopt` encrypts it and gives it "
            "a log. Nothing was touched"
        )
    if applied.exists(db.cursor()):
        raise LogMissing(f"{_of_no_log(path, ours=True)}. Nothing was touched")
    if not _no_content(db):
        raise NotAdopted(
            f"{path} has content and no log: VerityDB could not prove where it came from. "
            f"`veritydb adopt {path}` makes its content the first records of a log. Nothing was touched"
        )


def without_log(folder: Path) -> LogMissing | NotAdopted:
    """Return what is wrong, and what to do, where the log of a database is looked for in ``folder`` and is not."""
    path = str(folder).removesuffix(LOG_SUFFIX)
    if not os.path.exists(path):
        return LogMissing(f"there is no log at {folder}, and no file {path} either")
    if os.path.isdir(path):
        return LogMissing(f"there is no log at {folder}, and {path} is a folder")
    if _size(path) and not opening.starts_plain(path):
        return NotAdopted(_of_no_log(path))
    try:
        with contextlib.closing(opening.open_file(path, None, create=False)) as db:
            ours = applied.exists(db.cursor())
    except apsw.Error as error:
        return NotAdopted(f"there is no log at {folder}, and {path} cannot be read: {error}")
    return (LogMissing if ours else NotAdopted)(_of_no_log(path, ours=ours))


def _of_no_log(path: str, *, ours: bool | None = None) -> str:
    """Say it of a file that is ours, is not, or cannot be read without its key."""
    folder = path + LOG_SUFFIX
    if ours is None:
        return (
            f"{path} is encrypted or not a database, and there is no log at {folder}. If it is VerityDB's, "
            "put its log back; if it is SQLCipher's, `veritydb adopt` gives it one"
        )
    if ours:
        return (
            f"{path} says that it has a log, and there is none at {folder}; put it back, or take the content "
            "out with `veritydb export` and adopt that"
        )
    return f"there is no log at {folder}; `veritydb adopt {path}` makes one"


def _no_content(db: apsw.Connection) -> bool:
    return bool(db.execute("SELECT count(*) = 0 FROM main.sqlite_schema").get)


def keyring_of(folder: Path, secret: keys.Secret | None, name: str) -> keys.Keyring | None:
    """Return the keys in ``folder``, None if it keeps none. Raises NotEncrypted, KeyMissing, WrongKey, LogDamaged."""
    if not keys.exists(folder):
        if secret is not None:
            _look_for_lost_keys(folder)
            raise NotEncrypted(f"{name} is not encrypted, but a key was given; nothing was touched")
        return None
    if secret is None:
        raise KeyMissing(f"{name} is encrypted and no key was given; pass key=…; nothing was touched")
    return keys.load_keys(folder, secret)


def _look_for_lost_keys(folder: Path) -> None:
    """Raise LogDamaged if the log in ``folder`` keeps no keys and has records that were sealed by some."""
    with contextlib.suppress(LogMismatch, LogMissing), contextlib.closing(Log.open(folder, read_only=True)) as log:
        first = next(iter(log.records(0)), None)
        if first is not None and first.header.key_id:
            raise LogDamaged(
                f"{folder / keys.KEY_FILE} is missing, and the log is sealed with the keys that were in it; restore it "
                "from a backup. Nothing was touched",
                segment=keys.KEY_FILE,
            )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where the file system can."""
    with contextlib.suppress(OSError):
        sync(folder)
