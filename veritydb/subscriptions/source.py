"""Where committed records come from: the log of a file, or of a database in memory.

:mod:`veritydb.subscriptions.feed` asks a :class:`Source` for what is new, and reads what is old through it. A source
hands out a record only when it is committed for good and, as far as can be told, when whoever reads the database next
will see what it says: :class:`FileSource` compares with the AppliedIndex in the file, because a record is in the log a
moment before its rows are in the file, and a cache that was dropped in that moment would be filled with old rows again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import apsw

from veritydb import applied, opening
from veritydb.errors import DatabaseError, LogMismatch
from veritydb.log import Place, StoredRecord
from veritydb.log.store import Log
from veritydb.log.tailing import Tail
from veritydb.subscriptions.catalogs import statements_of

if TYPE_CHECKING:
    from veritydb.log.memory import MemoryLog
    from veritydb.publishing import Topic

PATIENCE = 1.0
"""Seconds after which a record is handed out although the file does not have it: its writer died in between."""
_PAUSE = 0.000_05
_PAUSE_MAX = 0.01


class Source(Protocol):
    """One stream of committed records. ``advance`` and ``ready`` are for one thread at a time."""

    stream: bytes

    @property
    def next_offset(self) -> int:
        """Behind the last transaction that was handed out."""
        ...

    @property
    def soon(self) -> float | None:
        """Seconds after which to look again although nothing has happened; None if there is no need."""
        ...

    def advance(self, limit: int) -> list[StoredRecord]:
        """Return records that are new, at most about ``limit``."""
        ...

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield old records, up to what was handed out by :meth:`advance`."""
        ...

    def first_offset(self) -> int:
        """Return the first offset that can still be read."""
        ...

    def replaced(self) -> bool:
        """Whether the database has another log now."""
        ...

    def schema(self) -> list[str] | None:
        """Return statements that make the schema in force where the source began; None if only the log can tell."""
        ...

    def watched(self) -> str | None:
        """Return the file that grows when something is committed."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Projection:
    """The database file, read beside those who write it."""

    def __init__(self, path: str, file_key: bytes | None) -> None:
        self.path = path
        self._file_key = file_key
        self._db: apsw.Connection | None = None
        self._cursor: apsw.Cursor | None = None

    def open(self) -> apsw.Connection:
        """Return a new connection that only reads; the caller closes it. Raises apsw.Error."""
        db = opening.open_file(self.path, self._file_key, read_only=True)
        db.set_busy_timeout(1000)
        return db

    def begin(self) -> tuple[applied.AppliedIndex | None, list[str] | None]:
        """Return how far the file is, and statements that make its schema; None for both if it cannot be told."""
        try:
            with contextlib.closing(self.open()) as db:
                db.execute("BEGIN")
                index = applied.read(db.cursor())
                return index, None if index is None else statements_of(db.cursor())
        except (apsw.Error, LogMismatch):
            return None, None

    def index(self) -> applied.AppliedIndex | None:
        """Return how far the file is; None if it cannot be told, because it is not there yet, for one."""
        try:
            if self._cursor is None:
                self._db = self.open()
                self._cursor = self._db.cursor()
            found = self._cursor.execute(applied.SELECT).fetchall()
            return applied.unpack(found[0][0]) if found else None
        except (apsw.Error, LogMismatch):
            self.close()  # Another file may stand there now.
            return None

    def close(self) -> None:
        """Close it; the next question opens it again."""
        db, self._db, self._cursor = self._db, None, None
        if db is not None:
            db.close(True)


class FileSource:
    """The log in a folder, and the file that it makes."""

    def __init__(
        self,
        folder: Path,
        projection: Projection | None,
        topic_of: Callable[[bytes], Topic],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._projection = projection
        self._clock = clock
        index, statements = projection.begin() if projection is not None else (None, None)
        place = Place(index.segment, index.position) if index is not None and index.next_offset else None
        self.tail = tail = Tail(folder, start=place)
        self.stream = tail.stream
        self._topic = topic_of(tail.stream)
        here = index is not None and (index.stream, index.next_offset) == (tail.stream, tail.head.next_offset)
        self._statements = statements if here else None
        self._in_file = tail.head.next_offset if here else 0
        self._held: list[StoredRecord] = []
        self._held_since = 0.0
        self._unsettled_since: float | None = None
        self._pause = _PAUSE
        self._next_offset = self.tail.head.next_offset

    @property
    def next_offset(self) -> int:
        """Behind the last transaction that was handed out."""
        return self._next_offset

    @property
    def soon(self) -> float | None:
        """Seconds after which to look again; None if there is no need."""
        if not self._held and not self.tail.unsettled:
            self._pause = _PAUSE
            return None
        self._pause = min(2 * self._pause, _PAUSE_MAX)
        return self._pause

    def advance(self, limit: int) -> list[StoredRecord]:
        """Return records that are durable, and in the file."""
        tail = self.tail
        if len(self._held) < limit:
            fresh = tail.advance(limit)
            if fresh and not self._held:
                self._held_since = self._clock()
            self._held += fresh
        self._settle()
        ready = list(self._held)
        if ready and self._projection is not None:
            ready = self._visible(ready)
        del self._held[: len(ready)]
        if ready:
            header = ready[-1].header
            self._next_offset = header.first_offset + header.transaction_count
            self._held_since = self._clock()
        return ready

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield the records up to what was handed out."""
        for record in self.tail.records(start_offset, place=place):
            if record.header.first_offset >= self._next_offset:
                return
            yield record

    def first_offset(self) -> int:
        """Return the first offset that can still be read."""
        return self.tail.first_offset()

    def replaced(self) -> bool:
        """Whether the database has another log now."""
        return self.tail.replaced()

    def schema(self) -> list[str] | None:
        """Return the schema that the file had where the source began."""
        return self._statements

    def watched(self) -> str | None:
        """Return the segment that grows."""
        return self.tail.segment_path

    def close(self) -> None:
        """Close the files."""
        self.tail.close()
        if self._projection is not None:
            self._projection.close()

    def _visible(self, records: list[StoredRecord]) -> list[StoredRecord]:
        """Return those that whoever opens the file now will see."""
        assert self._projection is not None
        last = records[-1].header
        if self._topic.committed > self._in_file:
            self._in_file = self._topic.committed  # This process has said so itself.
        if last.first_offset + last.transaction_count > self._in_file:
            index = self._projection.index()
            if index is None or index.stream != self.stream:
                return records  # There is no file that could lag.
            self._in_file = index.next_offset
        if last.first_offset + last.transaction_count <= self._in_file:
            return records
        if self._clock() - self._held_since > PATIENCE:
            self._projection.close()  # Another file may stand there, which is to be asked from now on.
            return records
        return [each for each in records if each.header.first_offset + each.header.transaction_count <= self._in_file]

    def _settle(self) -> None:
        """See that an append whose writer died is settled, if that is allowed to us and nobody else does it."""
        if not self.tail.unsettled:
            self._unsettled_since = None
            return
        now = self._clock()
        if self._unsettled_since is None:
            self._unsettled_since = now
        elif now - self._unsettled_since > PATIENCE:
            self._unsettled_since = now
            with contextlib.suppress(DatabaseError, OSError):
                Log.open(self.tail.folder).close()


class MemorySource:
    """The log of a database in memory: what is committed is what its connections have said is."""

    def __init__(self, log: MemoryLog, topic: Topic) -> None:
        self._log = log
        self._topic = topic
        self.stream = log.stream
        topic.committed = max(topic.committed, log.head.next_offset)
        self._position = 0
        self._next_offset = 0

    @property
    def next_offset(self) -> int:
        """Behind the last transaction that was handed out."""
        return self._next_offset

    @property
    def soon(self) -> float | None:
        """Nothing but a commit makes a difference."""
        return None

    def advance(self, limit: int) -> list[StoredRecord]:
        """Return records whose transactions are in the database."""
        found: list[StoredRecord] = []
        committed = self._topic.committed
        for record in self._log.records(0, place=Place(0, self._position)):
            header = record.header
            end = header.first_offset + header.transaction_count
            if len(found) >= limit or end > committed:
                break
            found.append(record)
            self._position += 1
            self._next_offset = end
        return found

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield old records."""
        for record in self._log.records(start_offset, place=place):
            if record.header.first_offset >= self._next_offset:
                return
            yield record

    def first_offset(self) -> int:
        """Everything is there."""
        return 0

    def replaced(self) -> bool:
        """A database in memory keeps its log."""
        return False

    def schema(self) -> list[str] | None:
        """The log, which is as near, tells."""
        return None

    def watched(self) -> str | None:
        """There is no file."""
        return None

    def close(self) -> None:
        """Nothing to give back."""
