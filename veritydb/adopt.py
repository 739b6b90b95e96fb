"""An existing SQLite or SQLCipher file becomes a VerityDB database: its content is the first transaction of a new log.

The command line and programs drive it. Nothing is converted in place: log and file are made new in a folder beside the
database (``clinic.db-adopt``), the file by replaying the log, which proves the log complete; then both are compared
with the source, made durable, and moved to where they belong by two renames::

    1  clinic.db-adopt/clinic.db-log  ->  clinic.db-log
    2  clinic.db-adopt/clinic.db      ->  clinic.db        replaces the source, if it is adopted in place

A crash before 1 leaves the old state and a folder that the next run clears away. A crash between the two leaves a note
in the folder that says which source was read: if the source is still that one, the next run does 2; if somebody has
written to it since, the next run takes 1 back and begins anew. A source adopted in place stays locked meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from veritydb import applied, keys, opening, reading
from veritydb.errors import (
    ConfigurationError,
    KeyMissing,
    LogMismatch,
    NotEncrypted,
    OperationalError,
    ReplayMismatch,
    WrongKey,
)
from veritydb.events import Event
from veritydb.keys import Key
from veritydb.log.store import Log
from veritydb.records import Spilled, Writer, one_transaction
from veritydb.replay.compare import differences
from veritydb.replay.rebuilding import rebuild
from veritydb.sealing import Opener, Sealer
from veritydb.streams import ADOPT_SUFFIX, log_folder
from veritydb.syncing import sync, sync_tree
from veritydb.workshop import Progress, asked_once, file_key_of, silent

FOLDER_SUFFIX = ADOPT_SUFFIX
PENDING_BYTES_MAX = 1 << 20
"""Events kept in memory before they go into a part of their own."""

_NOTE = "source"
_LOCK = "lock"
_LEGACY = (4, 3, 2, 1)
"""Versions of SQLCipher whose files can be read."""
_ENCRYPTED_PAGE_SIZE = 4096
_BUSY_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What :func:`adopt` made."""

    path: Path
    log: Path
    stream: bytes
    encrypted: bool
    finished: bool
    """An adoption that had been interrupted was finished; the source was not read again."""
    seconds: float


def adopt(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    key: Key | None = None,
    source_key: Key | None = None,
    actor: str = "",
    reason: str = "",
    register: str | None = None,
    progress: Progress | None = None,
) -> Adopted:
    """Make ``source`` a VerityDB database, in place or, with ``target``, as a new file beside the untouched source.

    With ``key`` the result is encrypted. ``source_key`` opens a source that is a SQLCipher file (a passphrase, or 32
    bytes or ``hex:…`` for a raw key); if it is not given, ``key`` is tried. ``actor`` and ``reason`` stand in the log
    with the first transaction. ``register`` names what the schema needs, ``"module:function"`` as in ``rebuild``.

    Raises OperationalError if the source is in use, ConfigurationError if source or target cannot be that,
    KeyMissing, WrongKey, MissingFunction, StatementRefused or ReplayMismatch if the content cannot be logged exactly.
    The source is then as it was.
    """
    began = time.monotonic()
    path = Path(os.path.realpath(source))
    place = path if target is None else Path(os.path.realpath(target))
    if target is not None and place == path:
        raise ConfigurationError("source and target are the same file; leave the target out to adopt it in place")
    key, source_key = asked_once(key, str(place)), asked_once(source_key, str(path))
    if key is not None:
        keys.normalise(key, str(place))  # What is no key is refused before anything is made.
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}")
    adoption = _Adoption(path, place, key, source_key, actor, reason, register, progress or silent)
    with _exclusive(adoption.work) as left_over:
        finished = adoption.after_interruption() if left_over else None
        stream = adoption.run() if finished is None else finished
    sync(place.parent)
    return Adopted(
        path=place,
        log=adoption.log,
        stream=stream,
        encrypted=key is not None,
        finished=finished is not None,
        seconds=time.monotonic() - began,
    )


class _Adoption:
    def __init__(
        self,
        path: Path,
        place: Path,
        key: str | bytes | None,
        source_key: str | bytes | None,
        actor: str,
        reason: str,
        register: str | None,
        progress: Progress,
    ) -> None:
        self.path = path
        self.place = place
        self.in_place = path == place
        self.log = log_folder(place)
        self.work = place.with_name(place.name + FOLDER_SUFFIX)
        self.new_file = self.work / place.name
        self.new_log = log_folder(self.new_file)
        self._key = key
        self._source_key = source_key
        self._actor = actor
        self._reason = reason
        self._register = register
        self._progress = progress

    # A former run that did not come to its end

    def after_interruption(self) -> bytes | None:
        """Clear away what an interrupted run left, or finish it; return the stream if the adoption is now complete."""
        note = self._read_note()
        if self.new_log.exists() or not self.log.is_dir():
            _clear(self.work)
            return None
        with contextlib.closing(Log.open(self.log, read_only=True)) as log:
            stream = log.stream
            if note is None:  # The folder was being cleared away.
                return stream if self._holds(self.place, stream) else None
            if stream.hex() != note["stream"]:
                raise LogMismatch(
                    f"{self.work} is left of an interrupted adoption, and {self.log} is the log of another database. "
                    f"Nothing was touched; delete {self.work} if {self.place} needs no adoption"
                )
            untouched = log.head.next_offset == 1
        if self._holds(self.place, stream):
            return stream
        if not self._holds(self.new_file, stream):
            raise WrongKey(f"an adoption of {self.path} was interrupted, and this is not the key it was begun with")
        if self.in_place:
            with self._opened_source() as source:
                if self._fingerprint() == note["fingerprint"]:
                    self._move_file()
                    return stream
                del source
        elif not self.place.exists():
            self._move_file()
            return stream
        if not untouched:
            raise LogMismatch(
                f"an adoption of {self.path} was interrupted, and since then both {self.path} and {self.log} were "
                "written to. Nothing was touched; decide which of them is right, and move the other away"
            )
        os.rename(self.log, self.new_log)
        sync(self.place.parent)
        _clear(self.work)
        return None

    def _holds(self, file: Path, stream: bytes) -> bool:
        """Whether ``file`` is a projection of ``stream``."""
        if not file.exists():
            return False
        keyring = None if self._key is None else keys.load_keys(self.log, keys.normalise(self._key))
        with contextlib.closing(opening.open_file(str(file), file_key_of(keyring), create=False)) as db:
            try:
                index = applied.read(db.cursor())
            except apsw.NotADBError:
                return False
        return index is not None and index.stream == stream

    # A run

    def run(self) -> bytes:
        """Build, compare, move; return the stream."""
        if self.log.exists():
            raise ConfigurationError(f"{self.place} has a log already ({self.log}); nothing was touched")
        if not self.in_place and self.place.exists():
            raise ConfigurationError(f"{self.place} exists; nothing was touched")
        if not self.in_place and log_folder(self.path).is_dir():
            raise ConfigurationError(
                f"{self.path} is a VerityDB database already, with its log {log_folder(self.path)}; nothing was touched"
            )
        with self._opened_source() as source:
            if applied.exists(source.cursor()):
                raise ConfigurationError(
                    f"{self.path} is a VerityDB database without its log. Put the log back, or take the content out "
                    "with `veritydb export` and adopt that; nothing was touched"
                )
            try:
                stream = self._build(source)
                self._write_note(stream)
                os.rename(self.new_log, self.log)
            except BaseException:
                _clear(self.work)
                raise
            sync(self.place.parent)
            self._move_file()
        return stream

    def _build(self, source: apsw.Connection) -> bytes:
        """Make log and file in the work folder and return the stream.

        Raises ReplayMismatch if what came out is not what the source holds.
        """
        stream = secrets.token_bytes(16)
        self.new_log.mkdir(mode=0o700)
        keyring: keys.Keyring | None = None
        if self._key is not None:
            keyring = keys.create_keys(self.new_log, stream, keys.normalise(self._key, str(self.place)))
        log = Log.create(self.new_log, stream)
        try:
            self._write(source, log, keyring)
        finally:
            log.close()
        self._progress("making the new file", 0, 1)
        rebuild(
            self.new_log,
            self.new_file,
            key=self._key,
            progress=lambda done, total: self._progress("making the new file", done, total),
            register=self._register,
        )
        self._progress("comparing", 0, 1)
        with contextlib.closing(opening.open_file(str(self.new_file), file_key_of(keyring), create=False)) as made:
            if found := differences(source, made):
                raise ReplayMismatch(
                    f"{self.path} cannot be adopted exactly, nothing was touched. The file and what its log makes of "
                    f"it differ: {'; '.join(found[:3])}"
                )
        self._progress("comparing", 1, 1)
        _no_companions(self.new_file)
        self._take_over_permissions()
        sync_tree(self.work)
        return stream

    def _write(self, source: apsw.Connection, log: Log, keyring: keys.Keyring | None) -> None:
        sealer = Sealer(None if keyring is None else keyring.current)
        writer = Writer(log, sealer)
        identity = os.urandom(16)
        spilled: Spilled | None = None
        pending: list[Event] = []
        size = 0
        log.acquire()
        try:
            writer.note([reading.genesis(source, page_size=None if keyring is None else _ENCRYPTED_PAGE_SIZE)])
            total = source.pragma("page_count") * source.pragma("page_size")
            done = 0
            for event, event_size in reading.content(source):
                if pending and size + event_size > PENDING_BYTES_MAX:
                    spilled = spilled or Spilled(self.new_log, sealer, Opener(keyring), identity)
                    spilled.add(pending)
                    pending, size = [], 0
                pending.append(event)
                size += event_size
                done += event_size
                self._progress("reading", min(done, total), total)
            self._progress("writing the log", 0, 1)
            writer.commit(identity, one_transaction(identity, self._actor, self._reason, pending), spilled)
            self._progress("writing the log", 1, 1)
        finally:
            if spilled is not None:
                spilled.close()
            log.release()

    def _move_file(self) -> None:
        os.replace(self.new_file, self.place)
        sync(self.place.parent)

    def _take_over_permissions(self) -> None:
        status = self.path.stat()
        mode = stat.S_IMODE(status.st_mode)
        os.chmod(self.new_file, mode)
        if os.geteuid() == 0:
            for made in (self.new_file, self.new_log, *self.new_log.iterdir()):
                os.chown(made, status.st_uid, status.st_gid)

    # The source

    @contextlib.contextmanager
    def _opened_source(self) -> Generator[apsw.Connection]:
        """Open the source: locked against everybody if it is adopted in place, else as of one moment."""
        db: apsw.Connection | None = None
        try:
            db = self._unlocked()
            if self.in_place:
                # Leaving WAL mode takes the file for itself, so this also tells whether another program has it open.
                # All of it is then in the one file, and no journal with old content stays behind.
                db.pragma("journal_mode", "delete")
                db.execute("BEGIN EXCLUSIVE")
            else:
                db.execute("BEGIN")
                db.pragma("schema_version")
            yield db
        except (apsw.BusyError, apsw.LockedError) as error:
            busy = OperationalError(f"{self.path} is in use by another program; nothing was touched")
            busy.sqlite_errorcode, busy.sqlite_errorname = apsw.SQLITE_BUSY, "SQLITE_BUSY"
            raise busy from error
        except apsw.NotADBError as error:
            raise WrongKey(
                f"{self.path} is no SQLite database, or its key is another one; nothing was touched"
            ) from error
        except apsw.Error as error:
            raise OperationalError(f"{self.path} cannot be read: {error}; nothing was touched") from error
        finally:
            if db is not None:
                db.close(True)

    def _unlocked(self) -> apsw.Connection:
        """Open the source with the first of the keys and ways that fit."""
        path = str(self.path)
        db = self._opened()
        if _readable(db):
            if self._source_key is not None:
                db.close(True)
                raise NotEncrypted(f"{path} is not encrypted, but a key for it was given; nothing was touched")
            return db
        db.close(True)
        source_key = self._key if self._source_key is None else self._source_key
        if source_key is None:
            raise KeyMissing(f"{path} is encrypted or no database, and no key was given; nothing was touched")
        phrase = _sqlcipher_key(source_key)
        for version in _LEGACY:
            db = self._opened()
            db.pragma("cipher", "sqlcipher")
            db.pragma("legacy", version)
            db.pragma("key", phrase)
            if _readable(db):
                return db
            db.close(True)
        raise WrongKey(f"the key does not open {path}, or it is no database; nothing was touched")

    def _opened(self) -> apsw.Connection:
        db = opening.open_file(str(self.path), None, create=False)
        db.set_busy_timeout(_BUSY_MS)
        return db

    # The note

    def _fingerprint(self) -> list[int]:
        # By stat, not by reading: to close a descriptor of the file would drop the locks SQLite holds on it.
        status = os.stat(self.path)
        return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]

    def _write_note(self, stream: bytes) -> None:
        note = {"stream": stream.hex(), "fingerprint": self._fingerprint()}
        temporary = self.work / f"{_NOTE}.tmp"
        with temporary.open("w", encoding="ascii") as file:
            json.dump(note, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.work / _NOTE)
        sync(self.work)

    def _read_note(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self.work / _NOTE).read_text(encoding="ascii")))
        except FileNotFoundError:
            return None


def interrupted(path: str | os.PathLike[str]) -> bool:
    """Whether an adoption of ``path`` was begun and not finished; running :func:`adopt` again settles it."""
    return Path(os.path.realpath(path) + FOLDER_SUFFIX).is_dir()


def _sqlcipher_key(key: str | bytes) -> str:
    """Return what ``PRAGMA key`` of SQLCipher is given: a passphrase as it is, a raw key as ``x'…'``."""
    if isinstance(key, bytes):
        return f"x'{key.hex()}'"
    if key.startswith(keys.HEX_PREFIX):
        return f"x'{key.removeprefix(keys.HEX_PREFIX)}'"
    return key


def _readable(db: apsw.Connection) -> bool:
    try:
        db.pragma("schema_version")
    except apsw.NotADBError:
        return False
    return True


@contextlib.contextmanager
def _exclusive(work: Path) -> Generator[bool]:
    """Hold the work folder, making it if need be; only one adoption of a database at a time.

    Yields whether it was there before. Afterwards it goes, unless it holds what the next run needs.
    """
    try:
        left_over = work.is_dir()
        work.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperationalError(f"{work} cannot be made: {error.strerror}; nothing was touched") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperationalError(f"another process is adopting {work.with_suffix('')}; nothing was touched") from None
        try:
            yield left_over
        except BaseException:
            if [entry.name for entry in work.iterdir()] == [_LOCK]:
                shutil.rmtree(work)
            raise
        _clear(work)
        shutil.rmtree(work)
    finally:
        os.close(descriptor)


def _clear(work: Path) -> None:
    """Empty the work folder, but for the lock."""
    for entry in list(work.iterdir()):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def _no_companions(file: Path) -> None:
    """Make sure that all of a database is in its one file."""
    for suffix in ("-wal", "-journal"):
        companion = file.with_name(file.name + suffix)
        assert not companion.exists() or companion.stat().st_size == 0, f"{companion} holds a part of the new database"
        companion.unlink(missing_ok=True)
    file.with_name(file.name + "-shm").unlink(missing_ok=True)
