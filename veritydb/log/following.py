"""Finding a log's true end, and deciding what the bytes behind it are.

The half of :class:`veritydb.log.store.Log` that reads. :meth:`Following.begin` finds a place to read on from,
:meth:`Following.catch_up` reads on under the lock, verifying each record, and then judges:

* zeros, or the end of the file: the log ends here;
* bytes that are no record, with nothing of this stream behind them and not below what the database holds: a write that
  was torn. It was never acknowledged, and may be cut;
* anything else: damage, which is reported and never cut.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from veritydb.errors import LogDamaged, LogMissing, LogUnavailable
from veritydb.log.record import PREFIX_SIZE, Malformed, SegmentHeader, pack_end
from veritydb.log.segment import (
    CHUNK,
    FIRST,
    End,
    Head,
    Place,
    Segment,
    StoredRecord,
    Torn,
    damaged,
    enter,
    follow,
    is_segment_name,
    segment_name,
)

if TYPE_CHECKING:
    from pathlib import Path

    from veritydb.log.files import Files
    from veritydb.log.lock import FolderLock

RESERVE = 64
"""Behind every record there is room, in zeros already written, for the end mark and for the look at the head."""

# Other processes usually append one small record before we look again.
_WINDOW = 1 << 14

END_BYTES = 512
"""How much of the last record is compared at each look."""
ZEROS = bytes(8)
"""Behind the last record, where nobody has appended."""


class Following:
    """The state of one handle, and how it is brought up to date."""

    stream: bytes
    """16 bytes that name the stream."""
    folder: Path
    head: Head
    """The end, as far as this handle knows; exact while the lock is held. The same object until it changes."""
    torn: Torn | None
    """Bytes at the end that are no record; nothing can be appended before they are cut."""
    floor: int
    """Transactions below it were acknowledged: bad bytes in their place are damage."""

    def __init__(self, folder: Path, lock: FolderLock, files: Files, *, read_only: bool, floor: int) -> None:
        self.folder = folder
        self.torn = None
        self.floor = floor
        self._path = str(folder)
        self._lock = lock
        self._files = files
        self._pread = files.pread
        self._read_only = read_only
        # Set whenever the head may be inexact or the tail unclean: the next acquire then reads on, with care.
        self._stale = True
        self._failed: BaseException | None = None
        self._segment: Segment | None = None
        self._fd = -1
        # Up to where records may be written without a look at the file's size.
        self._space = 0
        # What stands at the end if nobody has appended, and where that begins: the last record's end, then zeros.
        # Empty if not known.
        self._end = b""
        self._end_at = 0

    def begin(self, start: Place | None) -> None:
        """Find a head to read on from: behind the record at ``start``, or where the newest records begin.

        Raises ``LogMissing``, ``LogDamaged``, ``OSError``.
        """
        if start is not None and self._begin_at(start):
            return

        numbers = [int(name[:8]) for name in self._files.listdir(self._path) if is_segment_name(name)]
        if not numbers:
            raise LogMissing(f"{self.folder} holds no segment of a log; restore it")
        number = max(numbers)
        while True:
            segment = self._open(number)
            header = self._header(segment)
            self._adopt(segment, Head(header.first_offset, header.prev_hash, 0, 0, number, FIRST), header.stream)
            # One without a good record does not tell the time of the last one: the segment before it does.
            if number - 1 not in numbers or segment.record(FIRST) is not None:
                return
            number -= 1

    def catch_up(self, *, judging: bool = True) -> None:
        """Under the lock, read on to the true end and judge what stands behind it.

        A reader that could not have the lock reads on without ``judging``: what is no whole record may be one that is
        being written.

        Raises ``LogDamaged``, ``OSError``; the head then still names verified records only.
        """
        if self._failed is not None:
            raise LogUnavailable(f"this connection's log has failed before ({self._failed}); connect again")
        careful = self._stale
        self._stale = True
        self.torn = None
        segment = self._current()
        self._see_last_record()
        segment.forget()
        before_last: Head | None = None
        while True:
            why = mark = None
            try:
                frame = segment.frame(self.head.position)
                if isinstance(frame, StoredRecord):
                    before_last, self.head = self.head, follow(self.head, frame, self.stream)
                    continue
                mark = frame
            except Malformed as bad:
                why = bad.why
                if bad.whole:
                    raise self._damaged(why) from None
            if not self._step(segment, mark, why):
                break
            segment, before_last = self._current(), None

        self._space = self._files.size(self._fd) - RESERVE
        if judging and (careful or why is not None):
            self._judge(segment, why)
        self.remember_end()
        if self.torn is None:
            if not self._read_only and not self._lock.settled(self.head.segment, self.head.position):
                self._settle(before_last)
            self._stale = self._read_only

    def remember_end(self) -> None:
        """Note how the end looks while nobody has appended, so that one look can tell."""
        position = self.head.position
        self._end_at = max(position - END_BYTES, 0)
        self._end = self._pread(self._fd, position - self._end_at, self._end_at) + ZEROS

    def _see_last_record(self) -> None:
        """See that the last record we know of is still there; what comes is checked against its hash only."""
        last = self._end[: -len(ZEROS)]
        if self._pread(self._fd, len(last), self._end_at) != last:
            raise self._damaged("the record before it is not the one that was there: the segment was overwritten")
        self._end = b""  # Not known until reading on has come to its end.

    def _begin_at(self, start: Place) -> bool:
        """Begin behind the record at a place, if there is one."""
        try:
            segment = self._open(start.segment)
        except FileNotFoundError:
            return False
        header = self._header(segment)
        record = segment.record(start.position)
        if record is None or record.header.stream != header.stream:
            segment.close()
            return False
        self._adopt(segment, follow(record.before(), record, header.stream), header.stream)
        return True

    def _current(self) -> Segment:
        assert self._segment is not None, "begin() has found one"
        return self._segment

    def _open(self, number: int) -> Segment:
        flags = os.O_RDONLY if self._read_only else os.O_RDWR | os.O_DSYNC
        return Segment(self._files, f"{self._path}/{segment_name(number)}", number, flags, window=_WINDOW)

    def _header(self, segment: Segment) -> SegmentHeader:
        try:
            return segment.header()
        except Malformed as bad:
            segment.close()
            raise damaged(segment.number, 0, None, bad.why) from None
        except BaseException:
            segment.close()
            raise

    def _adopt(self, segment: Segment, head: Head, stream: bytes) -> None:
        """Go on in a segment."""
        before = self._segment
        self._segment, self._fd, self.head, self.stream, self._space = segment, segment.fd, head, stream, 0
        if before is not None:
            before.close()

    def _step(self, segment: Segment, mark: End | None, why: str | None) -> bool:
        """Go on to the next segment if there is one: the end mark, or a crash that prevented it, led here."""
        head = self.head
        number = head.segment + 1
        try:
            following = self._open(number)
        except FileNotFoundError:
            if mark is not None:
                raise self._damaged(f"{segment_name(number)} is missing") from None
            return False
        header = self._header(following)
        try:
            try:
                after = enter(head, header, self.stream)
                if mark != End(number, head.hash):
                    self._mend_mark(segment, why)
            except Malformed as bad:
                raise self._damaged(bad.why) from None
        except BaseException:
            following.close()
            raise
        self._adopt(following, after, self.stream)
        return True

    def _mend_mark(self, segment: Segment, why: str | None) -> None:
        """Write the mark that leads to the next segment: whoever began that one died before the mark was whole.

        That the next segment continues this one has been seen, so no record can have stood here.
        """
        head = self.head
        end, _ = segment.remainder(head.position, self.stream, head.next_offset)
        if end > head.position + PREFIX_SIZE:  # More than a torn mark can be.
            raise Malformed(why or "bytes stand behind the last record of the segment")
        if not self._read_only:
            self._files.fsync_dir(self._path)
            self._files.write(segment.fd, pack_end(head.segment + 1, head.hash), head.position)

    def _judge(self, segment: Segment, why: str | None) -> None:
        """Decide about the bytes behind the last good record: none, torn, or damage."""
        head = self.head
        end, later = segment.remainder(head.position, self.stream, head.next_offset)
        if end == head.position:
            return
        why = why or "bytes stand behind the end that belong to no record"
        if later is not None:
            raise self._damaged(f"{why}, and a later record stands at byte {later}")
        if head.next_offset < self.floor:
            raise self._damaged(f"{why}, and the database holds what it said")
        self.torn = Torn(head.segment, head.position, end - head.position, why)

    def _settle(self, before_last: Head | None) -> None:
        """Make the end of the log durable as we found it: who wrote last died or failed before it was.

        The last record is written again, because an fsync would not do: after a failed one the kernel may take the
        pages for clean. Zeros behind it keep a record from coming back whose removal did not reach the disk.
        """
        head = self.head
        if before_last is not None:
            # Not in the log for us before it is for good.
            self.head = before_last
            position = before_last.position
            while position < head.position:
                data = self._pread(self._fd, min(CHUNK, head.position - position), position)
                self._files.write(self._fd, data, position)
                position += len(data)
            self.head = head
        self._files.write(self._fd, bytes(RESERVE), head.position)
        self._lock.settle(head.segment, head.position)

    def _damaged(self, why: str) -> LogDamaged:
        head = self.head
        return damaged(head.segment, head.position, head.next_offset, why)
