"""The records of all streams that a node has: a log folder a stream, the same that an application has.

The kernel's outputs end here (:class:`~veritydb.kernel.RecordAppended`), and followers read from here. The journal has
made every record durable before; so these logs are written without waiting for the disk, and made durable together
before a checkpoint gives the journal's part up (:meth:`RecordStore.flush`). After a crash the ops above the checkpoint
come again, and what is there already is skipped.

``veritydb verify --chain-only`` reads them, without a key.

A log that has lost something is cut behind its last good record (:mod:`veritydb.cluster.mending`), and what is missing
then is fetched from other nodes; a node that is alone refuses such a log instead.

A stream that was dropped is set aside, into ``dropped`` beside the others, and stays there until a person deletes it.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from veritydb.chain import HEADER_SIZE, PART_HEAD_SIZE, Malformed, unpack_header
from veritydb.cluster.files import sync_folder
from veritydb.cluster.mending import mend
from veritydb.errors import LogDamaged, LogMismatch, LogMissing, LogProblem
from veritydb.kernel import RecordAppended
from veritydb.log import Files, Log
from veritydb.log.record import unpack_part_head
from veritydb.log.segment import segment_name

_log = logging.getLogger("veritydb.node")

OPEN_MAX = 128
"""Logs that are open at once."""


class Missing(NamedTuple):
    """Records that are committed and not here."""

    stream: bytes
    first_offset: int
    next_offset: int


class RecordStore:
    """The streams of one node. For one thread."""

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._alone = alone
        self._damaged = folder.with_name("damaged")
        self._aside = folder.with_name("dropped")
        self.dropped = {bytes.fromhex(each.name) for each in self._aside.glob("[0-9a-f]" * 32)}
        """Streams that were set aside."""
        self._logs: OrderedDict[bytes, Log] = OrderedDict()
        self._files = _Unsynced()
        self._dirty: dict[bytes, int] = {}
        """By stream, the first segment that has been written and not been made durable."""
        self.missing: dict[bytes, Missing] = {}
        """By stream, what has to be fetched from other nodes."""

    def keep(self, effect: RecordAppended) -> None:
        """Append a committed record, unless it is here. Raises LogUnavailable, LogDamaged."""
        if effect.stream in self.dropped:
            return  # After a restart the ops before it come again.
        log = self._log(effect.stream, create=True)
        offset = log.head.next_offset
        if effect.first_offset < offset or (effect.transaction_count == 0 and effect.hash == log.head.hash):
            return
        if effect.first_offset > offset or effect.stream in self.missing:
            # A snapshot was installed: what led to it was never seen here.
            self.missing[effect.stream] = Missing(effect.stream, offset, effect.first_offset + effect.transaction_count)
            return
        self._append(log, effect.record)

    def expect(self, stream: bytes, next_offset: int) -> None:
        """Note that a stream has records up to this offset, wherever they are."""
        here = self.head(stream)
        if next_offset > (here or 0):
            known = self.missing.get(stream)
            self.missing[stream] = Missing(stream, here or 0, max(next_offset, known.next_offset if known else 0))

    def fill(self, stream: bytes, records: tuple[bytes, ...]) -> None:
        """Append records that another node has sent; only those that continue the log are taken."""
        if stream in self.dropped:
            return
        log = self._log(stream, create=True)
        for record in records:
            try:
                header = unpack_header(record[:HEADER_SIZE])
            except Malformed:
                return
            if header.prev_hash != log.head.hash or header.first_offset != log.head.next_offset:
                continue
            try:
                self._append(log, record)
            except LogMismatch:
                return  # It is not what its header says.
        wanted = self.missing.get(stream)
        if wanted is not None:
            if log.head.next_offset >= wanted.next_offset:
                del self.missing[stream]
            else:
                self.missing[stream] = wanted._replace(first_offset=log.head.next_offset)

    def head(self, stream: bytes) -> int | None:
        """Return the offset at which a stream ends here; None if there is no such stream."""
        try:
            return self._log(stream, create=False).head.next_offset
        except LogMissing:
            return None

    def read(self, stream: bytes, first_offset: int, bytes_max: int) -> tuple[bytes, ...]:
        """Return records from the one that holds the offset on; the first even if it is larger."""
        try:
            return self._read(stream, first_offset, bytes_max)
        except (LogDamaged, LogMissing) as error:
            log = self._logs.get(stream)
            if log is None or self._alone:
                raise
            head = log.head
            self._mend(stream, error)
            self.expect(stream, head.next_offset)
            return ()

    def _read(self, stream: bytes, first_offset: int, bytes_max: int) -> tuple[bytes, ...]:
        log = self._log(stream, create=False)
        records: list[bytes] = []
        size = 0
        for stored in log.records(first_offset):
            parts = b"".join(len(sealed).to_bytes(4, "little") + nonce + sealed for nonce, sealed in stored.parts())
            record = stored.header_bytes + parts + stored.tail
            size += len(record)
            if records and size > bytes_max:
                break
            records.append(record)
        return tuple(records)

    def set_aside(self, stream: bytes) -> None:
        """Put a stream's records out of the way, durably: it was dropped. Doing so again changes nothing."""
        self.missing.pop(stream, None)
        if stream in self.dropped:
            return
        log = self._logs.pop(stream, None)
        if log is not None:
            self._make_durable(log, self._dirty.pop(stream, log.head.segment))
            log.close()
        self._aside.mkdir(mode=0o700, exist_ok=True)
        folder, aside = self._folder / stream.hex(), self._aside / stream.hex()
        if folder.is_dir():
            folder.rename(aside)
        else:
            aside.mkdir(mode=0o700)
        for changed in (self._folder, self._aside, self._aside.parent):
            sync_folder(changed)
        self.dropped.add(stream)

    def flush(self) -> None:
        """Make all durable that was kept."""
        dirty, self._dirty = self._dirty, {}
        for stream, first in dirty.items():
            self._make_durable(self._log(stream, create=False), first)

    @staticmethod
    def _make_durable(log: Log, first: int) -> None:
        for number in range(first, log.head.segment + 1):
            fd = os.open(log.folder / segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Make all durable and close."""
        self.flush()
        for log in self._logs.values():
            log.close()
        self._logs.clear()

    def _log(self, stream: bytes, *, create: bool) -> Log:
        log = self._logs.get(stream)
        if log is not None:
            self._logs.move_to_end(stream)
            return log
        folder = self._folder / stream.hex()
        if not folder.is_dir():
            if not create:
                raise LogMissing(f"this node has no stream {stream.hex()}")
            Log.create(folder, stream).close()
        try:
            log = Log.open(folder, files=self._files)
        except (LogDamaged, LogMismatch, LogMissing) as error:
            if self._alone:
                raise
            self._mend(stream, error)
            return self._log(stream, create=create)
        log.acquire(0)
        if log.torn is not None:
            log.cut(log.torn)  # It comes again: the journal has it.
        self._logs[stream] = log
        while len(self._logs) > OPEN_MAX:
            oldest, closing = next(iter(self._logs.items()))
            if oldest in self._dirty:
                self.flush()
            del self._logs[oldest]
            closing.close()
        return log

    def _mend(self, stream: bytes, error: LogProblem) -> None:
        """Cut a log behind its last good record. What is missing then is noted by who knows where the stream ends."""
        log = self._logs.pop(stream, None)
        if log is not None:
            log.close()
        self._dirty.pop(stream, None)
        mended = mend(self._folder / stream.hex(), stream, self._damaged)
        _log.warning(
            "the log of stream %s was cut at offset %s and is fetched from there on: %s (%s). It is in %s as it was",
            stream.hex(), mended.next_offset, mended.why, error, mended.aside,
        )  # fmt: skip

    def _append(self, log: Log, record: bytes) -> None:
        self._dirty.setdefault(log.stream, log.head.segment)
        header_bytes = record[:HEADER_SIZE]
        header = unpack_header(header_bytes)
        end = HEADER_SIZE + header.parts_length
        parts: Any = None
        if header.part_count:
            parts = _Parts(record[HEADER_SIZE:end], header.part_count)
        log.append(header_bytes, record[end:], parts, header.transaction_count, header.timestamp)


class _Parts:
    """Spilled parts that came as bytes, as a log takes them."""

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self.length = len(data)
        self.count = count

    def copy(self, write: Callable[[bytes], None]) -> None:
        """Write them."""
        write(self._data)

    def stored(self, number: int) -> bytes:
        """Return one of them."""
        at = 0
        for _ in range(number):
            at += PART_HEAD_SIZE + unpack_part_head(self._data[at : at + PART_HEAD_SIZE])[0]
        return self._data[at : at + PART_HEAD_SIZE + unpack_part_head(self._data[at : at + PART_HEAD_SIZE])[0]]


class _Unsynced(Files):
    """System calls that leave it to :meth:`RecordStore.flush` to wait for the disk."""

    @staticmethod
    def open(path: Any, flags: int, mode: int = 0o777) -> int:  # type: ignore[override]  # a bound function stands for it
        """Open, and never wait in a write."""
        return os.open(path, flags & ~os.O_DSYNC, mode)

    @staticmethod
    def fdatasync(fd: int) -> None:  # type: ignore[override]  # a bound function stands for it
        """Do not wait."""
