"""Databases as they were, rebuilt from the log and kept for a while.

Whoever drags a slider asks for many moments that lie close together, so a file as of an offset is made from the nearest
earlier one that is kept, by replaying what lies between. Files are few and bounded in size; the one that was not asked
for longest goes first. They lie in a folder beside the database, encrypted as it is, and go with the process.

Driven by :mod:`veritydb.sse.queries` in worker threads. One file is made at a time: replaying is work, and the next
request may find that what it wanted is there.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from veritydb import applied, opening
from veritydb.errors import ConfigurationError, Error, LogMissing
from veritydb.log import Place
from veritydb.records import Reader
from veritydb.replay.applier import Applier
from veritydb.replay.rebuilding import rebuild
from veritydb.replay.redo import index_after
from veritydb.replay.registering import Register, prepare
from veritydb.sealing import Opener
from veritydb.sse.problems import Problem
from veritydb.sse.settings import Past
from veritydb.streams import log_folder, open_log
from veritydb.workshop import folder_beside

SUFFIX = "-past-"
_CACHE_KIB = 16 << 10


@dataclass(slots=True)
class _File:
    offset: int
    path: Path
    size: int
    used: float
    readers: int = 0


class _TooLong(Exception):
    pass


class PastFiles:
    """The files of one database as of earlier offsets. :meth:`close` takes them away."""

    def __init__(self, database: Path, key: Any, limits: Past, register: Register = None) -> None:
        self._database = database
        self._key = key
        self._limits = limits
        self._register = register
        self._files: dict[int, _File] = {}
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._folder: Path | None = None
        self._resources = contextlib.ExitStack()
        self._number = 0

    def close(self) -> None:
        """Take all files away."""
        with self._making, self._lock:
            self._files.clear()
            self._folder = None
            self._resources.close()

    @contextlib.contextmanager
    def at(self, offset: int) -> Generator[Path]:
        """Give the file as of ``offset``, which stays as long as it is used. Raises Problem."""
        file = self._take(offset)
        if file is None:
            # Only those who wait for the same work wait here.
            if not self._making.acquire(timeout=self._limits.seconds):
                raise Problem("too-slow", "other moments of the past are being rebuilt")
            try:
                file = self._take(offset) or self._made(offset)
            finally:
                self._making.release()
        try:
            yield file.path
        finally:
            with self._lock:
                file.readers -= 1

    def _take(self, offset: int) -> _File | None:
        with self._lock:
            file = self._files.get(offset)
            if file is not None:
                file.readers += 1
                file.used = time.monotonic()
            return file

    def _made(self, offset: int) -> _File:
        if self._folder is None:
            self._folder = self._resources.enter_context(folder_beside(self._database, SUFFIX))
        self._number += 1
        path = self._folder / f"{offset}-{self._number}.db"
        deadline = time.monotonic() + self._limits.seconds
        try:
            with self._nearest(offset) as base:
                if base is None:
                    self._rebuild(offset, path, deadline)
                else:
                    shutil.copyfile(base, path)
                    self._advance(path, offset, deadline)
        except _TooLong:
            path.unlink(missing_ok=True)
            raise Problem("too-slow", f"rebuilding takes more than {self._limits.seconds:g} s") from None
        except ConfigurationError:
            raise Problem("future-offset") from None
        except LogMissing as error:
            raise Problem("retired") from error
        except (Error, apsw.Error, OSError) as error:
            path.unlink(missing_ok=True)
            raise Problem("unavailable") from error
        file = _File(offset, path, path.stat().st_size, time.monotonic(), readers=1)
        with self._lock:
            self._files[offset] = file
            self._forget()
        return file

    @contextlib.contextmanager
    def _nearest(self, offset: int) -> Generator[Path | None]:
        """Give the kept file that is nearest before ``offset``."""
        with self._lock:
            earlier = [file for file in self._files.values() if file.offset < offset]
            file = max(earlier, key=lambda file: file.offset, default=None)
            if file is not None:
                file.readers += 1
        try:
            yield None if file is None else file.path
        finally:
            if file is not None:
                with self._lock:
                    file.readers -= 1

    def _forget(self) -> None:
        """Under the lock, take away what is too much; what is being read stays."""
        limits = self._limits
        for file in sorted(self._files.values(), key=lambda file: file.used)[:-1]:
            size = sum(kept.size for kept in self._files.values())
            if len(self._files) <= limits.files_max and size <= limits.bytes_max:
                return
            if not file.readers:
                del self._files[file.offset]
                file.path.unlink(missing_ok=True)

    def _rebuild(self, offset: int, path: Path, deadline: float) -> None:
        def look(done: int, total: int) -> None:
            if time.monotonic() > deadline:
                raise _TooLong

        rebuild(self._database, path, key=self._key, at=offset, register=self._register, progress=look)

    def _advance(self, path: Path, offset: int, deadline: float) -> None:
        """Replay onto the file at ``path``, up to ``offset``."""
        log, keyring = open_log(log_folder(self._database), self._key, database=str(self._database))
        file_key = keyring.current.file_key() if keyring is not None else None
        with (
            contextlib.closing(log),
            contextlib.closing(opening.open_file(str(path), file_key, create=False)) as db,
        ):
            if not 0 <= offset < log.head.next_offset:
                raise ConfigurationError(f"there is no offset {offset}")
            prepare(db, self._register)
            # Nobody else sees the file, and it need not survive a crash.
            db.pragma("journal_mode", "off")
            db.pragma("synchronous", 0)
            db.pragma("cache_size", -_CACHE_KIB)
            index = applied.read(db.cursor())
            assert index is not None, "rebuild wrote it"
            with Applier(db) as applier:
                db.execute("BEGIN IMMEDIATE")
                reader = Reader(log, Opener(keyring))
                for transaction in reader.transactions(index.next_offset, place=Place(index.segment, index.position)):
                    if transaction.offset > offset:
                        break
                    if time.monotonic() > deadline:
                        raise _TooLong
                    for event in transaction.events:
                        applier.apply(event)
                    applier.finish()
                    index = index_after(transaction, index.stream)
                applied.write(db.cursor(), index)
                db.execute("COMMIT")
