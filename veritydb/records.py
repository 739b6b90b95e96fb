"""Transactions into the log and out of it: codec, sealing and log put together.

:class:`Writer` makes one record of a transaction and has it made durable; a transaction too large for memory hands it
sealed parts as it grows (:class:`Spilled`). :class:`Reader` streams transactions back. Sessions write; redo, rebuild,
verify and the command line read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from veritydb.codec import Piece, decode_part, encode_part
from veritydb.errors import LogDamaged, TransactionTooLarge
from veritydb.events import Cut, Event, Genesis
from veritydb.log import Place, Recorded, Replicator, StoredRecord
from veritydb.log.record import PART_MAX, Kind, pack_header
from veritydb.log.spill import Spill
from veritydb.sealing import Opener, Sealer

_NO_DIGEST = bytes(32)


class Transaction:
    """One transaction of the log."""

    __slots__ = ("actor", "events", "id", "offset", "reason", "record", "timestamp")

    def __init__(
        self,
        offset: int,
        identity: bytes,
        actor: str,
        reason: str,
        timestamp: int,
        events: Iterator[Event],
        record: StoredRecord,
    ) -> None:
        self.offset = offset
        """From 0."""
        self.id = identity
        """16 bytes."""
        self.actor = actor
        self.reason = reason
        self.timestamp = timestamp
        """Microseconds since 1970-01-01 UTC."""
        self.events = events
        """Streamed from the log: to be read once, before the next transaction is asked for."""
        self.record = record


class Spilled:
    """The part of a growing transaction that no longer fits in memory: sealed parts in a file without a name."""

    def __init__(self, folder: Path | None, sealer: Sealer, opener: Opener, identity: bytes) -> None:
        self._sealer = sealer
        self._opener = opener
        self._identity = identity
        self.file = Spill(folder)

    @property
    def count(self) -> int:
        """Parts held."""
        return self.file.count

    def add(self, events: Sequence[Event]) -> None:
        """Seal ``events`` as the next part."""
        plain = encode_part([Piece(self._identity, "", "", events, True)])
        nonce, sealed = self._sealer.seal(plain, part_associated_data(self._identity, self.file.count))
        self.file.add(nonce, sealed)

    def read(self, number: int) -> list[Event]:
        """Return the events of part ``number``."""
        nonce, sealed = self.file.read(number)
        associated = part_associated_data(self._identity, number)
        plain = self._opener.open(self._sealer.key_id, self._sealer.salt, nonce, sealed, associated)
        return list(decode_part(plain)[0].events)

    def truncate(self, count: int) -> None:
        """Forget all but the first ``count`` parts."""
        self.file.truncate(count)

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()


def part_associated_data(identity: bytes, number: int) -> bytes:
    """Return what a spilled part is bound to: its transaction and its place in it.

    The header cannot be, because it is made last; it commits to the parts by their digest instead.
    """
    return identity + number.to_bytes(4, "little")


class Writer:
    """Appends records to one log."""

    __slots__ = ("_append", "_key_id", "_log", "_seal", "sealer")

    def __init__(self, log: Replicator, sealer: Sealer) -> None:
        self._log = log
        self._append = log.append
        self.sealer = sealer
        self._seal = sealer.seal
        self._key_id = sealer.key_id

    def note(self, events: Sequence[Event]) -> None:
        """Append a record without transactions: genesis, or a new generation."""
        identity = os.urandom(16)
        generation = self._log.head.generation + any(isinstance(event, Cut) for event in events)
        body = encode_part([Piece(identity, "", "", events, False)])
        self.commit(identity, body, kind=Kind.GENERATION, count=0, generation=generation)

    def commit(
        self,
        identity: bytes,
        body: bytes,
        spilled: Spilled | None = None,
        *,
        kind: Kind = Kind.DATA,
        count: int = 1,
        generation: int | None = None,
    ) -> None:
        """Make a record of one transaction and append it; durable when this returns.

        ``body`` is the encoded tail part. Raises LogUnavailable if the record is certainly not in the log,
        OutcomeUnknown if that cannot be told, TransactionTooLarge before anything was written.
        """
        head = self._log.head
        now = time.time_ns() // 1000
        if now < head.timestamp:
            now = head.timestamp  # The clock went back; the log's time does not.
        sealer = self.sealer
        length = len(body) + sealer.overhead
        if length > PART_MAX:
            raise TransactionTooLarge(f"one change of {length:,} bytes exceeds what a part may hold; rolled back")
        salt, nonce = sealer.draw()
        if spilled is None:
            parts, digest, parts_length, part_count = None, _NO_DIGEST, 0, 0
        else:
            parts = spilled.file
            digest, parts_length, part_count = parts.digest, parts.length, parts.count
        header = pack_header(
            self._log.stream,
            head.next_offset,
            now,
            head.hash,
            identity,
            sealer.key_id,
            salt,
            nonce,
            digest,
            parts_length,
            length,
            part_count,
            head.generation if generation is None else generation,
            count,
            kind,
        )
        sealed = self._seal(body, header, nonce)[1]
        self._append(header, sealed, parts, count, now)
        if sealer.left <= 0:
            sealer.renew()


class Reader:
    """Streams transactions out of a log."""

    def __init__(self, log: Recorded, opener: Opener) -> None:
        self._log = log
        self._opener = opener

    def transactions(self, start: int = 0, *, place: Place | None = None) -> Iterator[Transaction]:
        """Yield the transactions from offset ``start`` on; ``place`` may name a record at or before it.

        Raises LogDamaged where bytes are not what was written, WrongKey or KeyMissing if they cannot be opened.
        """
        for record in self._log.records(start, place=place):
            if record.header.transaction_count:
                for transaction in self.of_record(record):
                    if transaction.offset >= start:
                        yield transaction

    def genesis(self) -> Genesis | None:
        """Return what a new file needs to be told before its first transaction; None for an empty log."""
        found: Genesis | None = None
        for record in self._log.records(0):
            if record.header.first_offset > 0 or record.header.transaction_count:
                break
            for event in self.notes_of_record(record):
                if isinstance(event, Genesis):
                    found = event
        return found

    def notes_of_record(self, record: StoredRecord) -> list[Event]:
        """Return the events of a record without transactions."""
        if record.header.kind is Kind.KEYS:
            return []
        return [event for piece in decode_part(self._tail(record)) for event in piece.events]

    def of_record(self, record: StoredRecord) -> Iterator[Transaction]:
        """Yield the transactions of one record."""
        header = record.header
        pieces = decode_part(self._tail(record))
        if len(pieces) != header.transaction_count or (header.part_count and len(pieces) != 1):
            raise LogDamaged(
                f"record at offset {header.first_offset} promises {header.transaction_count} transactions "
                f"and holds {len(pieces)}",
                segment=record.segment_name,
                position=record.place.position,
                offset=header.first_offset,
            )
        for number, piece in enumerate(pieces):
            events: Iterator[Event] = iter(piece.events)
            if header.part_count:
                events = self._streamed(record, piece)
            yield Transaction(
                header.first_offset + number, piece.id, piece.actor, piece.reason, header.timestamp, events, record
            )

    def _streamed(self, record: StoredRecord, last: Piece) -> Iterator[Event]:
        header = record.header
        for number, (nonce, sealed) in enumerate(record.parts()):
            associated = part_associated_data(header.id, number)
            plain = self._opener.open(header.key_id, header.salt, nonce, sealed, associated)
            for piece in decode_part(plain):
                yield from piece.events
        yield from last.events

    def _tail(self, record: StoredRecord) -> bytes:
        header = record.header
        return self._opener.open(header.key_id, header.salt, header.nonce, record.tail, record.header_bytes)


def one_transaction(identity: bytes, actor: str, reason: str, events: Sequence[Event]) -> bytes:
    """Encode the tail part of a record of one transaction."""
    return encode_part([Piece(identity, actor, reason, events, False)])
