"""The records of all streams that a node has: a log folder a stream, the same that an application has.

The kernel's outputs end here (:class:`~veritydb.kernel.RecordAppended`), and followers read from here. The journal has
made every record durable before; so these logs are written without waiting for the disk, and made durable together
before a checkpoint gives the journal's part up (:meth:`RecordStore.flush`). After a crash the ops above the checkpoint
come again, and what is there already is skipped.

``veritydb verify --chain-only`` reads them, without a key.

A log that has lost something is cut behind its last good record (:mod:`veritydb.cluster.mending`), and what is missing
then is fetched from other nodes; a node that is alone refuses such a log instead.

Of a stream of which records are missing, those that are committed meanwhile are *held*, and follow when the gap is
filled. Were they left to be fetched, too, a stream that is written to all the time would never be whole: what is sent
is always a bit older than what has been committed when it comes.

A stream that was dropped is set aside, into ``dropped`` beside the others, and stays there until a person deletes it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from veritydb.chain import HEADER_SIZE, PART_HEAD_SIZE, ZERO_HASH, Malformed, unpack_header
from veritydb.cluster.marks import Marks
from veritydb.cluster.mending import mend
from veritydb.errors import LogDamaged, LogMismatch, LogMissing, LogProblem
from veritydb.kernel import RecordAppended
from veritydb.log import Log
from veritydb.log.files import UnsyncedFiles
from veritydb.log.record import unpack_part_head
from veritydb.log.segment import segment_name
from veritydb.syncing import sync

_log = logging.getLogger("veritydb.node")

OPEN_MAX = 128
"""Logs that are open at once."""
HELD_MAX = 16 << 20
"""Bytes of records that are held because others are missing before them. What is beyond is fetched."""
_PATIENCE_SECONDS = 10.0
"""For the lock of a log: whoever reads one (``veritydb verify``) holds it for a moment, while it looks for the end."""


class End(NamedTuple):
    """Where a stream ends."""

    next_offset: int
    hash: bytes
    """Of the last record."""


class Missing(NamedTuple):
    """Records that are committed and not here."""

    stream: bytes
    here: End
    there: End


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
        self._marks: dict[bytes, Marks] = {}
        """Of the logs that are open."""
        self._files = UnsyncedFiles()
        self._dirty: dict[bytes, int] = {}
        """By stream, the first segment that has been written and not been made durable."""
        self.missing: dict[bytes, Missing] = {}
        """By stream, what has to be fetched from other nodes."""
        self._held: dict[bytes, deque[RecordAppended]] = {}
        """By stream, what has been committed since records are missing, in order."""
        self._held_size = 0

    def keep(self, effect: RecordAppended) -> None:
        """Append a committed record, unless it is here. Raises LogUnavailable, LogDamaged."""
        if effect.stream in self.dropped:
            return  # After a restart the ops before it come again.
        log = self._log(effect.stream, create=True)
        head = log.head
        after = End(effect.first_offset + effect.transaction_count, effect.hash)
        if after.next_offset < head.next_offset or after.hash == head.hash:
            return
        follows = _prev_hash(effect) == head.hash
        if follows and effect.stream not in self.missing:
            self._append(log, effect.record)
        elif after.next_offset > head.next_offset or not self._has(log, effect):
            # A snapshot was installed: what led to it was never seen here.
            self.missing[effect.stream] = Missing(effect.stream, End(head.next_offset, head.hash), after)
            if self._held_size + len(effect.record) <= HELD_MAX:
                self._held.setdefault(effect.stream, deque()).append(effect)
                self._held_size += len(effect.record)

    @staticmethod
    def _has(log: Log, effect: RecordAppended) -> bool:
        """Whether a record without transactions is among those at the end."""
        return any(stored.hash == effect.hash for stored in log.records(effect.first_offset))

    def expect(self, stream: bytes, end: End) -> None:
        """Note that a stream has records up to here, wherever they are."""
        here = self.end(stream) or End(0, ZERO_HASH)
        known = self.missing.get(stream)
        there = known.there if known is not None else here
        if end != here and end.next_offset >= max(here.next_offset, there.next_offset):
            self.missing[stream] = Missing(stream, here, end)

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
        self._append_held(log)
        wanted = self.missing.get(stream)
        if wanted is not None:
            here = End(log.head.next_offset, log.head.hash)
            if here == wanted.there or here.next_offset > wanted.there.next_offset:
                del self.missing[stream]
                self._drop_held(stream)
            else:
                self.missing[stream] = wanted._replace(here=here)

    def _append_held(self, log: Log) -> None:
        """Append what was held, from where it continues the log; what the log has by now is not looked at again."""
        held = self._held.get(log.stream, deque())
        following = (at for at, effect in enumerate(held) if _prev_hash(effect) == log.head.hash)
        first = next(following, None)
        if first is None:
            return
        for _ in range(first):
            self._held_size -= len(held.popleft().record)
        while held and _prev_hash(held[0]) == log.head.hash:
            effect = held.popleft()
            self._held_size -= len(effect.record)
            self._append(log, effect.record)

    def _drop_held(self, stream: bytes) -> None:
        self._held_size -= sum(len(effect.record) for effect in self._held.pop(stream, ()))

    def end(self, stream: bytes) -> End | None:
        """Return where a stream ends here; None if there is no such stream."""
        try:
            head = self._log(stream, create=False).head
        except LogMissing:
            return None
        return End(head.next_offset, head.hash)

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
            self.expect(stream, End(head.next_offset, head.hash))
            return ()

    def _read(self, stream: bytes, first_offset: int, bytes_max: int) -> tuple[bytes, ...]:
        log, marks = self._log(stream, create=False), self._marks[stream]
        records: list[bytes] = []
        size = 0
        for stored in log.records(first_offset, place=marks.find(first_offset)):
            marks.note(stored.header.first_offset, stored.place)
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
        self._drop_held(stream)
        if stream in self.dropped:
            return
        log = self._forget(stream)
        if log is not None:
            make_durable(log, self._dirty.pop(stream, log.head.segment))
            log.close()
        self._aside.mkdir(mode=0o700, exist_ok=True)
        folder, aside = self._folder / stream.hex(), self._aside / stream.hex()
        if folder.is_dir():
            folder.rename(aside)
        else:
            aside.mkdir(mode=0o700)
        for changed in (self._folder, self._aside, self._aside.parent):
            sync(changed)
        self.dropped.add(stream)

    def flush(self) -> None:
        """Make all durable that was kept."""
        dirty, self._dirty = self._dirty, {}
        for stream, first in dirty.items():
            make_durable(self._log(stream, create=False), first)

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
            self._create(folder, stream)
        try:
            log = Log.open(folder, files=self._files)
        except (LogDamaged, LogMismatch, LogMissing) as error:
            if self._alone:
                raise
            self._mend(stream, error)
            return self._log(stream, create=create)
        log.acquire(_PATIENCE_SECONDS)
        if log.torn is not None:
            log.cut(log.torn)  # It comes again: the journal has it.
        self._logs[stream], self._marks[stream] = log, Marks()
        while len(self._logs) > OPEN_MAX:
            oldest, closing = next(iter(self._logs.items()))
            if oldest in self._dirty:
                self.flush()
            self._forget(oldest)
            closing.close()
        return log

    def _forget(self, stream: bytes) -> Log | None:
        """Take a log out of those that are open."""
        self._marks.pop(stream, None)
        return self._logs.pop(stream, None)

    def _mend(self, stream: bytes, error: LogProblem) -> None:
        """Cut a log behind its last good record. What is missing then is noted by who knows where the stream ends."""
        log = self._forget(stream)
        if log is not None:
            log.close()
        self._dirty.pop(stream, None)
        mended = mend(self._folder / stream.hex(), stream, self._damaged)
        _log.warning(
            "the log of stream %s was cut at offset %s and is fetched from there on: %s (%s). It is in %s as it was",
            stream.hex(), mended.next_offset, mended.why, error, mended.aside,
        )  # fmt: skip

    def _create(self, folder: Path, stream: bytes) -> None:
        """Begin a log. Its folder appears whole: a node that is killed here begins again."""
        unfinished = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        Log.create(unfinished, stream).close()
        unfinished.rename(folder)
        sync(self._folder)

    def _append(self, log: Log, record: bytes) -> None:
        self._dirty.setdefault(log.stream, log.head.segment)
        self._marks[log.stream].note(log.head.next_offset, log.place())
        log.append(*split_record(record))


def _prev_hash(effect: RecordAppended) -> bytes:
    return unpack_header(effect.record[:HEADER_SIZE]).prev_hash


def split_record(record: bytes) -> tuple[bytes, bytes, Any, int, int]:
    """Return what :meth:`Log.append` is given for a record that comes whole, header and body as stored."""
    header_bytes = record[:HEADER_SIZE]
    header = unpack_header(header_bytes)
    end = HEADER_SIZE + header.parts_length
    parts = _Parts(record[HEADER_SIZE:end], header.part_count) if header.part_count else None
    return header_bytes, record[end:], parts, header.transaction_count, header.timestamp


def make_durable(log: Log, first_segment: int = 0) -> None:
    """Make durable what was appended without waiting for the disk."""
    for number in range(first_segment, log.head.segment + 1):
        fd = os.open(log.folder / segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)


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
