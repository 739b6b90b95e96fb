"""One segment file, read: which frame stands at a position, and whether it is what was written.

:mod:`veritydb.log.store` reads on to the true end with it, and :mod:`veritydb.log.reading` walks through a log for
everybody else. Nothing here writes, waits, or holds a lock. Memory is bounded by a window and by the tail of one
record: lengths that a file claims are compared with the bytes it has before anything is allocated.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from veritydb.errors import LogDamaged, LogUnavailable
from veritydb.log.record import (
    FRAME_SIZE,
    HEADER_SIZE,
    MAGIC,
    MAGIC_BEGUN,
    MAGIC_END,
    PART_HEAD_SIZE,
    PART_MAX,
    PREFIX_SIZE,
    SEGMENT_HEADER_SIZE,
    Malformed,
    Misfit,
    RecordHeader,
    SegmentHeader,
    misfit,
    unpack_header,
    unpack_part_head,
    unpack_prefix,
    unpack_segment_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from veritydb.log.files import Files

FIRST = SEGMENT_HEADER_SIZE
"""Where the first record of a segment begins."""
CHUNK = 1 << 16
"""Bytes read at once. Below the size from which the allocator asks the kernel for fresh pages each time."""

_ZEROS = bytes(CHUNK)
# From a frame's magic to the end of its first offset: what identifies a frame of this stream.
_RECOGNISED = PREFIX_SIZE + 40


class Place(NamedTuple):
    """Where a record begins."""

    segment: int
    position: int


class Head(NamedTuple):
    """The end of a log: what the next record builds on, and where it will stand."""

    next_offset: int
    hash: bytes
    timestamp: int
    generation: int
    segment: int
    position: int


class Torn(NamedTuple):
    """Bytes at the end of a log that are not a record and were never acknowledged."""

    segment: int
    position: int
    length: int
    """Up to and with the last byte that is not zero."""
    why: str

    @property
    def segment_name(self) -> str:
        """The file they stand in."""
        return segment_name(self.segment)


class End(NamedTuple):
    """The mark behind the last record of a segment."""

    next_segment: int
    last_hash: bytes


class StoredRecord:
    """A record as it stands in the log, its hash verified."""

    __slots__ = ("_files", "_path", "end", "hash", "header", "header_bytes", "place", "tail")

    def __init__(
        self,
        header: RecordHeader,
        header_bytes: bytes,
        hash: bytes,  # noqa: A002  the word of the design
        place: Place,
        end: int,
        tail: bytes,
        files: Files,
        path: str,
    ) -> None:
        self.header = header
        self.header_bytes = header_bytes
        self.hash = hash
        self.place = place
        self.end = end
        """The position behind it."""
        self.tail = tail
        self._files = files
        self._path = path

    @property
    def segment_name(self) -> str:
        """The file it stands in."""
        return segment_name(self.place.segment)

    def before(self) -> Head:
        """Return the head it says it was written at; time and generation are not known."""
        header = self.header
        return Head(header.first_offset, header.prev_hash, 0, 0, *self.place)

    def parts(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (nonce, sealed bytes) of each spilled part, read from the file one at a time."""
        header = self.header
        if not header.part_count:
            return

        start = self.place.position + FRAME_SIZE
        try:
            segment = Segment(self._files, self._path, self.place.segment)
            try:
                for nonce, position, length in segment.walk_parts(start, header):
                    yield nonce, segment.read_exactly(position, length)
            finally:
                segment.close()
        except Malformed as bad:
            raise damaged(self.place.segment, self.place.position, header.first_offset, bad.why) from None
        except OSError as error:
            raise unreadable(error) from error


Frame: TypeAlias = "StoredRecord | End | None"


class Segment:
    """An open segment file with a window on its bytes."""

    def __init__(self, files: Files, path: str, number: int, flags: int = os.O_RDONLY, window: int = CHUNK) -> None:
        self.number = number
        self.path = path
        self.fd = files.open(path, flags | os.O_CLOEXEC)
        self._files = files
        self._size = window
        self._base = 0
        self._window = b""

    def close(self) -> None:
        """Close the file."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._files.close(fd)

    def forget(self) -> None:
        """Forget what was read: the file may have grown or changed."""
        self._window = b""

    def read(self, position: int, length: int) -> bytes:
        """Return bytes of the file, fewer than asked for only at its end."""
        start = position - self._base
        if start < 0 or start + length > len(self._window):
            self._base = position
            self._window = self._pread(max(length, self._size), position)
            if length > self._size:  # A large tail: keep no second copy of it.
                data, self._window = self._window, b""
                return data
            start = 0
        return self._window[start : start + length]

    def read_exactly(self, position: int, length: int) -> bytes:
        """Return exactly that many bytes, or raise :class:`Malformed`."""
        # What a file claims is compared with what it has before so much is allocated.
        if length <= self._size or position + length <= self._files.size(self.fd):
            data = self.read(position, length)
            if len(data) == length:
                return data
        raise Malformed("the file ends inside the record")

    def header(self) -> SegmentHeader:
        """Read and check the segment's header; raise :class:`Malformed`."""
        header = unpack_segment_header(self.read(0, SEGMENT_HEADER_SIZE))
        if header.number != self.number:
            raise Malformed(f"the segment says that it is number {header.number}")
        return header

    def frame(self, position: int) -> Frame:
        """Return what stands at a position: a record whose hash fits, the end mark, or None for zeros or no bytes.

        Raises :class:`Malformed` for anything else. Whether a record belongs there is for :func:`follow` to say.
        """
        prefix = self.read(position, PREFIX_SIZE)
        if not prefix[:8].strip(b"\0"):
            return None
        if len(prefix) != PREFIX_SIZE:
            raise Malformed("the file ends inside a record's prefix")
        magic, header_length, body_length, stored_hash = unpack_prefix(prefix)
        if magic == MAGIC_END and body_length == 0:
            return End(header_length, stored_hash)
        if magic == MAGIC_BEGUN:
            raise Malformed("a large record was begun and not finished")
        if magic != MAGIC or header_length != HEADER_SIZE:
            raise Malformed("what stands there does not begin as a record does")

        header_bytes = self.read_exactly(position + PREFIX_SIZE, HEADER_SIZE)
        header = unpack_header(header_bytes)
        parts_length = header.parts_length
        tail_length = header.tail_length
        if parts_length + tail_length != body_length:
            raise Malformed("prefix and header disagree about the record's length")

        start = position + FRAME_SIZE
        digest = sha256(header.prev_hash + header_bytes)
        parts_digest = self._digest_parts(start, parts_length, digest.update) if parts_length else None
        pad = -body_length & 7
        tail = self.read_exactly(start + parts_length, tail_length + pad)
        padding_bytes = b""
        if pad:
            tail, padding_bytes = tail[:tail_length], tail[tail_length:]
        digest.update(tail)
        if digest.digest() != stored_hash:
            raise Malformed("the record's bytes do not have the hash that stands with them")

        if padding_bytes.strip(b"\0"):
            raise Malformed("the bytes that fill the record up are not zero", whole=True)
        if parts_digest is not None:
            if parts_digest != header.parts_digest:
                raise Malformed("the parts are not the ones the header names", whole=True)
            try:
                for _ in self.walk_parts(start, header):
                    pass
            except Malformed as bad:
                raise Malformed(bad.why, whole=True) from None
        return StoredRecord(
            header,
            header_bytes,
            stored_hash,
            Place(self.number, position),
            start + body_length + pad,
            tail,
            self._files,
            self.path,
        )

    def record(self, position: int) -> StoredRecord | None:
        """Return the record that begins at a position, or None if that is not where a good one begins."""
        if position < FIRST or position % 8:
            return None
        try:
            frame = self.frame(position)
        except Malformed:
            return None
        return frame if isinstance(frame, StoredRecord) else None

    def walk_parts(self, position: int, header: RecordHeader) -> Iterator[tuple[bytes, int, int]]:
        """Yield (nonce, position, length) of each spilled part; raise :class:`Malformed` if they do not add up."""
        end = position + header.parts_length
        for _ in range(header.part_count):
            length, nonce = unpack_part_head(self.read_exactly(position, PART_HEAD_SIZE))
            position += PART_HEAD_SIZE
            if length > PART_MAX or position + length > end:
                raise Malformed("a part is longer than what is left of its record")
            yield nonce, position, length
            position += length
        if position != end:
            raise Malformed("the parts are shorter than their record says")

    def remainder(self, position: int, stream: bytes, next_offset: int) -> tuple[int, int | None]:
        """Look at everything behind the last good record.

        Returns the position behind the last byte that is not zero, and the position of a later frame of this stream,
        if one is found: a frame is begun only when the record before it is durable, so if there is one, the bad bytes
        at ``position`` were once acknowledged. Its own hash does not matter for that.
        """
        end = position
        carried = b""
        at = position
        while data := self._pread(CHUNK, at):
            if data != _ZEROS[: len(data)]:
                end = at + len(data.rstrip(b"\0"))
                found = _find_frame(carried + data, at - len(carried), position, stream, next_offset)
                if found is not None:
                    return end, found
            carried = (carried + data)[-_RECOGNISED:]
            at += len(data)
        return end, None

    def _digest_parts(self, position: int, length: int, update: Callable[[bytes], None]) -> bytes:
        """Feed the parts to the chain hash and return their own digest."""
        own = sha256()
        while length:
            data = self.read_exactly(position, min(length, CHUNK))
            update(data)
            own.update(data)
            position += len(data)
            length -= len(data)
        return own.digest()

    def _pread(self, length: int, position: int) -> bytes:
        return self._files.pread(self.fd, length, position)


def _find_frame(data: bytes, base: int, behind: int, stream: bytes, next_offset: int) -> int | None:
    """Return the position of a frame of the stream that begins behind a position and is not an old one."""
    at = data.find(stream)
    while at >= 0:
        start = at - PREFIX_SIZE - 16
        position = base + start
        if start >= 0 and position > behind and position % 8 == 0 and data[start : start + 4] in (MAGIC, MAGIC_BEGUN):
            # A user may store a copy of the log in a row; the frames in it have offsets that were used up before.
            offset = data[start + _RECOGNISED - 8 : start + _RECOGNISED]
            if len(offset) == 8 and int.from_bytes(offset, "little") >= next_offset:
                return position
        at = data.find(stream, at + 1)
    return None


def follow(head: Head, record: StoredRecord, stream: bytes) -> Head:
    """Return the head behind a record, or raise :class:`Malformed` if the record does not belong there."""
    header = record.header
    why = misfit(
        head.next_offset, head.hash, head.timestamp, head.generation,
        header.first_offset, header.prev_hash, header.timestamp, header.generation,
    )  # fmt: skip
    if why is Misfit.HASH:
        raise Malformed("the record does not build on the one before it", whole=True)
    if header.stream != stream:
        raise Malformed("the record belongs to another stream", whole=True)
    if why is Misfit.OFFSET:
        raise Malformed(f"the record begins at offset {header.first_offset}, not {head.next_offset}", whole=True)
    if why is not None:
        raise Malformed("the record's time or generation is lower than that of the one before it", whole=True)
    return Head(
        header.first_offset + header.transaction_count,
        record.hash,
        header.timestamp,
        header.generation,
        head.segment,
        record.end,
    )


def enter(head: Head, header: SegmentHeader, stream: bytes) -> Head:
    """Return the head at the beginning of the next segment, or raise :class:`Malformed` if it is another one's."""
    if header.stream != stream or header.first_offset != head.next_offset or header.prev_hash != head.hash:
        raise Malformed("the segment does not continue the one before it", whole=True)
    return head._replace(segment=header.number, position=FIRST)


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"{number:08d}.seg"


def is_segment_name(name: str) -> bool:
    """Return whether a file of the folder is a segment."""
    return len(name) == 12 and name.isascii() and name[:8].isdecimal() and name[8:] == ".seg"


def damaged(segment: int, position: int, offset: int | None, why: str) -> LogDamaged:
    """Return the error that names the place of the damage."""
    name = segment_name(segment)
    behind = "" if offset is None else f"; transactions from offset {offset} on cannot be read there"
    return LogDamaged(
        f"the log is damaged in {name} at byte {position}: {why}{behind}. Nothing was changed; restore the log's "
        f"folder from a copy",
        segment=name,
        position=position,
        offset=offset,
    )


def unreadable(error: OSError) -> LogUnavailable:
    """Return the error for a log that the operating system does not let us read."""
    return LogUnavailable(f"the log cannot be read: {error}; nothing was changed")
