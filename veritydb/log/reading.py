"""A log, read from some offset to a known head, without its lock.

Records below a head are durable and never change, so readers need not wait for writers. Everything a record says is
verified before it is handed out: its hash, that it builds on the record before, its place, offset, and time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veritydb.errors import LogMissing
from veritydb.log.index import SPACING, Index, load_index, store_index
from veritydb.log.record import Malformed
from veritydb.log.segment import (
    FIRST,
    End,
    Head,
    Place,
    Segment,
    StoredRecord,
    damaged,
    enter,
    follow,
    segment_name,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veritydb.log.files import Files


class Reader:
    """Reads the segments of one folder; made for one stream."""

    def __init__(self, files: Files, folder: str, stream: bytes, *, read_only: bool, mode: int) -> None:
        self._files = files
        self._folder = folder
        self._stream = stream
        self._read_only = read_only
        self._mode = mode

    def records(self, start_offset: int, until: Head, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield the records from the one that holds ``start_offset`` up to a head, in order.

        ``place``, if it is known, is where a record at or before that offset begins. A record without transactions is
        yielded if its offset is not lower than ``start_offset``.
        """
        try:
            number, head = self._begin(start_offset, until, place)
            while True:
                segment = self._open(number, head)
                try:
                    head = self._enter(segment, head)
                    for record, behind in self._walk(segment, head, until):
                        head = behind
                        if record.header.first_offset >= start_offset or behind.next_offset > start_offset:
                            yield record
                finally:
                    segment.close()
                if number >= until.segment:
                    return
                number += 1
        except OSError as error:
            raise unreadable(error) from error

    def _begin(self, offset: int, until: Head, place: Place | None) -> tuple[int, Head | None]:
        """Return the segment to begin in, and the head to begin at unless it is the segment's first."""
        if place is not None and place < (until.segment, until.position):
            head = self._hinted(place, offset + 1)
            if head is not None:
                return place.segment, head
        if offset <= 0:
            return 0, None

        low, high = 0, until.segment
        while low < high:
            middle = (low + high + 1) // 2
            if self._first_offset(middle) < offset:
                low = middle
            else:
                high = middle - 1
        position = None if low == until.segment else self._index(low, until).find(offset)
        return low, None if position is None else self._hinted(Place(low, position), offset)

    def _hinted(self, place: Place, below: int) -> Head | None:
        """Return the head before the record at a place, or None if no good record below an offset begins there.

        What the first record builds on is taken from itself; the chain is checked from there on.
        """
        try:
            segment = self._open(place.segment, None)
        except LogMissing:
            return None
        try:
            record = segment.record(place.position)
        finally:
            segment.close()
        if record is None or record.header.first_offset >= below:
            return None
        return record.before()

    def _enter(self, segment: Segment, head: Head | None) -> Head:
        """Return the head to begin at in a segment just opened, coming from a head, or from nowhere."""
        try:
            header = segment.header()
            if head is None:
                head = Head(header.first_offset, header.prev_hash, 0, 0, segment.number, FIRST)
            if head.segment != segment.number:
                return enter(head, header, self._stream)
            if header.stream != self._stream:
                raise Malformed("the segment belongs to another stream")
        except Malformed as bad:
            raise damaged(segment.number, 0, None if head is None else head.next_offset, bad.why) from None
        return head

    def _walk(self, segment: Segment, head: Head, until: Head) -> Iterator[tuple[StoredRecord, Head]]:
        """Yield the records of one segment from a head on, each with the head behind it."""
        last = segment.number == until.segment
        while not (last and head.position >= until.position):
            try:
                frame = segment.frame(head.position)
                if isinstance(frame, StoredRecord):
                    head = follow(head, frame, self._stream)
                    yield frame, head
                    continue
                if last:
                    raise Malformed("records that were there are gone")
                if frame is not None and frame != End(head.segment + 1, head.hash):
                    raise Malformed("the mark at the segment's end is damaged")
            except Malformed as bad:
                raise damaged(segment.number, head.position, head.next_offset, bad.why) from None
            # The mark, or zeros where a crash prevented it; whether the next segment goes on from here is seen there.
            return

    def _open(self, number: int, head: Head | None) -> Segment:
        name = segment_name(number)
        try:
            return Segment(self._files, f"{self._folder}/{name}", number)
        except FileNotFoundError:
            begins = "" if head is None else f", which begins at offset {head.next_offset},"
            raise LogMissing(f"the log's segment {name}{begins} is missing from {self._folder}; restore it") from None

    def _first_offset(self, number: int) -> int:
        segment = self._open(number, None)
        try:
            return segment.header().first_offset
        except Malformed as bad:
            raise damaged(number, 0, None, bad.why) from None
        finally:
            segment.close()

    def _index(self, number: int, until: Head) -> Index:
        """Return the index of a closed segment, from its sidecar or made now."""
        path = f"{self._folder}/{number:08d}.idx"
        index = load_index(self._files, path, number)
        if index is None:
            index = self._build_index(number, until)
            if not self._read_only:
                store_index(self._files, path, index, self._mode)
        return index

    def _build_index(self, number: int, until: Head) -> Index:
        offsets: list[int] = []
        positions: list[int] = []
        times: list[int] = []
        segment = self._open(number, None)
        try:
            length = due = FIRST
            for record, behind in self._walk(segment, self._enter(segment, None), until):
                position = record.place.position
                length = behind.position
                if position >= due:
                    offsets.append(record.header.first_offset)
                    positions.append(position)
                    times.append(record.header.timestamp)
                    due = position + SPACING
        finally:
            segment.close()
        return Index(number, length, tuple(offsets), tuple(positions), tuple(times))
