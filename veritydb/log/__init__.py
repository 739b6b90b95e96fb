"""The event log of one database: framed, hash-chained records in segment files.

=============  =====================================================================================================
``record``     the bytes of a record and of a segment's header (pure)
``segment``    one segment file, read and verified frame by frame
``reading``    a walk through the log from an offset to a known head, without the lock
``index``      sidecars of closed segments, hints for that walk
``store``      :class:`Log`: lock, append, roll, catch up, cut
``tailing``    :class:`Tail`: follows a log that others write, without the lock
``lock``       the folder's lock and its marker
``spill``      sealed parts of a large transaction, put aside on disk
``memory``     :class:`MemoryLog`: the same for a database in memory
``files``      every system call of the above, replaceable by tests
=============  =====================================================================================================

``docs/internals/log-format.md`` has the bytes. What a record says inside its sealed parts is not this package's
business (:mod:`veritydb.codec`), nor is who may read it (:mod:`veritydb.sealing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from veritydb.log.files import Files
from veritydb.log.lock import LogBusy
from veritydb.log.memory import MemoryLog
from veritydb.log.record import ZERO_HASH, Kind, Malformed, RecordHeader, pack_header, unpack_header
from veritydb.log.segment import Head, Place, StoredRecord, Torn
from veritydb.log.spill import Spill
from veritydb.log.store import SEGMENT_SIZE, Log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Recorded(Protocol):
    """A log that can be read."""

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield records from an offset up to what is known of its end."""
        ...


class Replicator(Protocol):
    """One ordered, durable log with compare-and-append: what a session commits through.

    :class:`Log` is a quorum of one. The methods are described there; every implementation passes the same tests.
    """

    @property
    def stream(self) -> bytes:
        """16 bytes that name the stream."""
        ...

    @property
    def folder(self) -> Path:
        """Where its files are."""
        ...

    @property
    def head(self) -> Head:
        """The end; exact while the lock is held."""
        ...

    @property
    def torn(self) -> Torn | None:
        """Bytes at the end that are no record."""
        ...

    @property
    def shared(self) -> bool:
        """Whether it is a copy of what others, on other machines, append to as well."""
        ...

    @property
    def held(self) -> bool:
        """Whether this handle holds the lock."""
        ...

    def acquire(self, timeout: float | None = None) -> None:
        """Take the lock and read on to the true end."""
        ...

    def release(self) -> None:
        """Let others append."""
        ...

    def refresh(self) -> None:
        """Under the lock, settle an append that was interrupted."""
        ...

    def place(self) -> Place:
        """Return where the next record will begin."""
        ...

    def append(self, header: bytes, tail: bytes, parts: Spill | None, transaction_count: int, timestamp: int) -> None:
        """Append one record and make it durable."""
        ...

    def follow(self, timeout: float) -> None:
        """Under the lock, take in what others have appended on other machines, as far as it is known that they have."""
        ...

    def cut(self, torn: Torn) -> None:
        """Take away what is torn."""
        ...

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield records from an offset up to the head."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


__all__ = [
    "SEGMENT_SIZE",
    "ZERO_HASH",
    "Files",
    "Head",
    "Kind",
    "Log",
    "LogBusy",
    "Malformed",
    "MemoryLog",
    "Place",
    "RecordHeader",
    "Recorded",
    "Replicator",
    "Spill",
    "StoredRecord",
    "Torn",
    "pack_header",
    "unpack_header",
]
