"""The log of a database that lives in memory: the same interface, the bytes in a list."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from veritydb.errors import LogMismatch, LogUnavailable
from veritydb.log.record import PART_HEAD_SIZE, ZERO_HASH, RecordHeader, misfit, unpack_header, unpack_part_head
from veritydb.log.segment import Head, Place, StoredRecord, Torn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veritydb.log.spill import Spill


class MemoryRecord(StoredRecord):
    """A record in memory."""

    __slots__ = ("_stored",)

    def __init__(
        self,
        header: RecordHeader,
        header_bytes: bytes,
        hash: bytes,  # noqa: A002  the word of the design
        number: int,
        tail: bytes,
        stored: list[bytes],
    ) -> None:
        self.header = header
        self.header_bytes = header_bytes
        self.hash = hash
        self.place = Place(0, number)
        self.end = number + 1
        self.tail = tail
        self._stored = stored

    def parts(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (nonce, sealed bytes) of each spilled part."""
        for stored in self._stored:
            yield unpack_part_head(stored[:PART_HEAD_SIZE])[1], stored[PART_HEAD_SIZE:]


class MemoryLog:
    """What :class:`veritydb.log.store.Log` does, without files: nobody else can write it, and nothing can be torn.

    A place is (0, number of the record). The log grows with every transaction, as the one on disk does.
    """

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.folder = Path(":memory:")
        self.head = Head(0, ZERO_HASH, 0, 0, 0, 0)
        self.torn: Torn | None = None
        self.floor = 0
        self.held = False
        self._records: list[MemoryRecord] = []

    shared = False

    def follow(self, timeout: float) -> None:
        """Do nothing: nobody else can write it."""

    def acquire(self, timeout: float | None = None) -> None:
        """Begin to append; nobody else can."""
        self.held = True

    def release(self) -> None:
        """End it."""
        self.held = False

    def refresh(self) -> None:
        """Do nothing: the head is exact."""

    def place(self) -> Place:
        """Return where the next record will begin."""
        return Place(0, len(self._records))

    def append(self, header: bytes, tail: bytes, parts: Spill | None, transaction_count: int, timestamp: int) -> None:
        """Append one record. Raises ``LogMismatch`` if it does not build on the head."""
        if not self.held:
            raise LogUnavailable("the log's lock is not held; nothing was changed")
        head = self.head
        claims = unpack_header(header)
        stored: list[bytes] = []
        if parts is not None:
            for index in range(parts.count):
                stored.append(parts.stored(index))
        if (
            claims.stream != self.stream
            or misfit(*head[:4], claims.first_offset, claims.prev_hash, claims.timestamp, claims.generation)
            or claims.timestamp != timestamp
            or claims.transaction_count != transaction_count
            or claims.tail_length != len(tail)
            or claims.parts_length != sum(map(len, stored))
            or claims.part_count != len(stored)
        ):
            raise LogMismatch("the record does not build on the head of the log; nothing was written")

        digest = sha256(b"".join((head.hash, header, *stored, tail))).digest()
        number = len(self._records)
        after = Head(head.next_offset + transaction_count, digest, timestamp, claims.generation, 0, number + 1)
        record = MemoryRecord(claims, header, digest, number, tail, stored)
        # The list decides: an interruption between the two lines is mended by whoever looks at the head next.
        self._records.append(record)
        self.head = after

    def cut(self, torn: Torn) -> None:
        """Refuse: nothing is ever torn here."""
        raise LogMismatch("what was to be cut is not the end of this log; nothing was changed")

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield the records from the one that holds ``start_offset`` on, up to :attr:`head`."""
        first = 0 if place is None else place.position
        for record in self._records[first : self.head.position]:
            header = record.header
            if header.first_offset >= start_offset or header.first_offset + header.transaction_count > start_offset:
                yield record

    def close(self) -> None:
        """Release it. The records stay: connections to one shared cache have one log, and the last of them frees it."""
        self.held = False
