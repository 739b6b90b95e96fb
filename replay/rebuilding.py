"""A database file made from its log alone, as it is now or as it was at some offset or time.

``veritydb replay`` drives it, and the tests, for which it is the proof that the log holds everything. The file appears
under its name complete and durable, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from veritydb import applied, opening
from veritydb.errors import ConfigurationError, OperationalError
from veritydb.events import Genesis
from veritydb.records import Reader, Transaction
from veritydb.replay.applier import Applier
from veritydb.replay.redo import index_after
from veritydb.replay.registering import Register, load, prepare
from veritydb.sealing import Opener
from veritydb.streams import log_folder, open_log
from veritydb.syncing import sync
from veritydb.translation import translated

At: TypeAlias = "int | str | datetime | None"
"""The last offset to apply, or the last moment; a moment without a zone is UTC, as the times of a log are."""
Progress: TypeAlias = "Callable[[int, int], object]"
"""Called with the transactions done and those there are."""

_PROGRESS_EVERY = 256
_CACHE_KIB = 64 << 10
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What :func:`rebuild` did."""

    path: Path
    transactions: int
    """Applied."""
    offset: int | None
    """Of the last one; None if there is none."""
    seconds: float


def rebuild(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    key: Any = None,
    at: At = None,
    progress: Progress | None = None,
    register: Register = None,
) -> Rebuilt:
    """Make the file ``target`` from the log of the database ``source``, or from the folder of a log.

    The new file is encrypted under the same key as ``source``. ``at`` is the last offset to apply or the last moment
    (ISO 8601). ``register`` names a function that registers what the schema needs: :mod:`veritydb.replay.registering`.

    Raises ConfigurationError if ``target`` exists, its folder does not, or ``at`` names nothing in the log;
    LogMissing, LogDamaged, KeyMissing and WrongKey as reading a log does; MissingFunction and ReplayMismatch as
    applying it does. No ``target`` is left.
    """
    started = time.monotonic()
    path = Path(target)
    if path.exists():
        raise ConfigurationError(f"{path} exists; nothing was written")
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}; nothing was written")
    load(register)  # A name that cannot be imported is found before anything is made.
    source_path = Path(source)
    folder = source_path if source_path.is_dir() else log_folder(source_path)
    log, keyring = open_log(folder, key, database=str(source_path))
    with contextlib.closing(log):
        work = _Work(
            reader=Reader(log, Opener(keyring)),
            stream=log.stream,
            until=_until(at, log.head.next_offset),
            total=log.head.next_offset,
            file_key=keyring.current.file_key() if keyring is not None else None,
            progress=progress,
            register=register,
        )
        try:
            with _workshop(path) as unfinished:
                count = work.build(unfinished)
        except apsw.Error as error:
            raise translated(error) from error
        except OSError as error:
            raise OperationalError(f"{path} cannot be written: {error}; nothing is left of it") from error
    offset = count - 1 if count else None
    return Rebuilt(path=path, transactions=count, offset=offset, seconds=time.monotonic() - started)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Until:
    """The end of what is wanted, both ends included."""

    offset: int | None = None
    timestamp: int | None = None
    """Microseconds since 1970-01-01 UTC."""

    def excludes(self, transaction: Transaction) -> bool:
        """Whether ``transaction`` comes after it. So does then every later one: a log's time does not go back."""
        if self.offset is not None:
            return transaction.offset > self.offset
        return self.timestamp is not None and transaction.timestamp > self.timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One rebuild."""

    reader: Reader
    stream: bytes
    until: _Until
    total: int
    file_key: bytes | None
    progress: Progress | None
    register: Register

    def build(self, path: Path) -> int:
        """Fill the file at ``path``, which does not exist yet; return how many transactions it holds."""
        genesis = self.reader.genesis()
        count, mode = self._attempt(path, genesis)
        if genesis is not None and mode is not None and bool(mode) != bool(genesis.auto_vacuum):
            # A VACUUM gave the live file room for auto_vacuum, or took it away. In a replayed file that has to be so
            # from the start, for VACUUM would also renumber rows; it is a matter of pages, so nothing else changes.
            path.unlink()
            genesis = Genesis(genesis.encoding, genesis.page_size, mode, genesis.software)
            count, _ = self._attempt(path, genesis)
        return count

    def _attempt(self, path: Path, genesis: Genesis | None) -> tuple[int, int | None]:
        db = opening.open_file(str(path), self.file_key)
        try:
            prepare(db, self.register)
            _make_fast(db, encrypted=self.file_key is not None)
            with Applier(db) as applier:
                if genesis is not None:
                    applier.apply(genesis)
                # One transaction for all: a new file needs no journal, so what does not fit into the cache is written
                # once, and memory stays bounded whatever the log holds.
                db.execute("BEGIN IMMEDIATE")
                index = applied.first(self.stream)
                for transaction in self._wanted():
                    for event in transaction.events:
                        applier.apply(event)
                    applier.finish()
                    index = index_after(transaction, self.stream)
                applied.write(db.cursor(), index)
                db.execute("COMMIT")
                return index.next_offset, applier.auto_vacuum
        finally:
            db.close(True)

    def _wanted(self) -> Iterator[Transaction]:
        progress, total = self.progress, self.total
        if self.until.offset is not None:
            total = self.until.offset + 1
        done = 0
        for transaction in self.reader.transactions():
            if self.until.excludes(transaction):
                break
            yield transaction
            done += 1
            if progress is not None and done % _PROGRESS_EVERY == 0:
                progress(done, total)
        if progress is not None:
            progress(done, max(done, total) if self.until.timestamp is None else done)


def _make_fast(db: apsw.Connection, *, encrypted: bool) -> None:
    # Nobody sees the file before it is whole and on disk, so nothing has to survive a crash before that.
    db.pragma("journal_mode", "delete")
    db.pragma("locking_mode", "exclusive")
    db.pragma("synchronous", 0)
    db.pragma("cache_size", -_CACHE_KIB)
    if not encrypted:
        db.pragma("temp_store", 1)  # Sorting for an index may use a file, unless the file would hold secrets.


def _until(at: At, total: int) -> _Until:
    if at is None:
        return _Until()
    if isinstance(at, str) and at.strip().isdecimal():
        at = int(at)
    if isinstance(at, int):
        if not 0 <= at < total:
            raise ConfigurationError(f"there is no offset {at} in the log, which has {total} transactions")
        return _Until(offset=at)
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at.strip())
        except ValueError:
            raise ConfigurationError(f"{at!r} is neither an offset nor an ISO 8601 time") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (since.days * 86_400 + since.seconds) * _MICROSECONDS + since.microseconds
    return _Until(timestamp=microseconds)


@contextlib.contextmanager
def _workshop(path: Path) -> Generator[Path]:
    """Give a name beside ``path``; what was made under it becomes ``path`` durably, unless an exception comes by."""
    unfinished = path.with_name(f"{path.name}.rebuilding-{secrets.token_hex(4)}")
    try:
        yield unfinished
        sync(unfinished)
        try:
            os.link(unfinished, path)  # Unlike a rename it refuses a file that came in the meantime.
        except FileExistsError:
            raise ConfigurationError(f"{path} exists; nothing was written") from None
        except OSError:  # A file system without links.
            unfinished.rename(path)
        sync(path.parent)
    finally:
        for leftover in (unfinished, unfinished.with_name(unfinished.name + "-journal")):
            leftover.unlink(missing_ok=True)
