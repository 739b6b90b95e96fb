"""The log, followed by somebody who holds no lock: what it may believe, and when.

:class:`Tail` is for readers beside the writers, in this process or another: subscriptions, mostly. A writer waits for
nobody, so a follower takes no lock; and what it sees in the page cache may not be on the disk yet. It hands out a
record only when one of two things shows that it is durable:

* another record stands behind it. A frame is begun only when the one before is durable.
* the *marker*, read after the record, names its end or a later place, and the record still stands there after that.
  The marker is moved on only by who has made everything before it durable: the writer of a record, or whoever found the
  one that a dead writer left (:mod:`veritydb.log.lock`). So what ended there or further on is durable, and the second
  look says whether that is this record, or one that took its place because this one failed and was taken away.

The argument needs the writer and the follower to share a page cache, so it holds on one machine; there is no
durability to doubt after a restart of the machine, since what is read then comes from the disk.

Bytes that are no record are no reason to complain, as long as they stand at the end: they are being written, or torn,
and then the next writer cuts them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from veritydb.errors import LogMissing
from veritydb.log.files import Files
from veritydb.log.lock import MARKER_FILE, MARKER_SIZE, unpack_marker
from veritydb.log.reading import Reader
from veritydb.log.record import MAGIC, PREFIX_SIZE, Malformed
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
    is_segment_name,
    segment_name,
    unreadable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOW = 1 << 13
"""Bytes read at once: the usual record is small, and most looks find one."""


class Tail:
    """A place in the log of a folder that moves on as records become durable. Not for two threads at once."""

    def __init__(self, folder: Path | str, *, start: Place | None = None, files: Files | None = None) -> None:
        """Open the log; ``start`` is where a record that is known to be durable begins, the later the better.

        Raises LogMissing, LogDamaged, LogUnavailable.
        """
        self.folder = Path(folder)
        self._path = str(folder)
        self._files = files or Files()
        self._marker = -1
        self._segment: Segment | None = None
        self.head = Head(0, bytes(32), 0, 0, 0, FIRST)
        """Behind the last record that was handed out."""
        self.stream = b""
        self.unsettled = False
        """Whether a whole record stands at the end of which it is not known that it is durable."""
        self._identity = self._identity_of(f"{self._path}/lock") or self._identity_of(self._path)
        try:
            self._begin(start)
        except FileNotFoundError:
            self.close()
            raise LogMissing(f"there is no log at {folder}; restore its folder") from None
        except OSError as error:
            self.close()
            raise unreadable(error) from error
        except BaseException:
            self.close()
            raise

    @property
    def segment_path(self) -> str:
        """The file in which the next record will stand, or whose end mark leads on."""
        return f"{self._path}/{segment_name(self.head.segment)}"

    def advance(self, limit: int) -> list[StoredRecord]:
        """Return up to ``limit`` records that have become durable, in order, and move on behind them.

        Raises LogDamaged, LogMissing, LogUnavailable.
        """
        try:
            return self._advance(limit)
        except OSError as error:
            raise unreadable(error) from error

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield the records from the one that holds an offset up to :attr:`head`, as :meth:`Log.records` does."""
        if place is None and (first := self._first_segment()):
            place = Place(first, FIRST)  # Older ones are gone: no search among them.
        return Reader(self._files, self._path, self.stream, read_only=True, mode=0).records(
            start_offset, self.head, place
        )

    def first_offset(self) -> int:
        """Return the first offset from which on the log is there without a gap."""
        number = self._first_segment()
        try:
            segment = self._open(number)
        except OSError as error:
            raise unreadable(error) from error
        try:
            return segment.header().first_offset
        except Malformed as bad:
            raise damaged(number, 0, None, bad.why) from None
        finally:
            segment.close()

    def _first_segment(self) -> int:
        """Return the number of the first segment from which on none is missing."""
        try:
            numbers = self._numbers()
        except OSError as error:
            raise unreadable(error) from error
        number = self.head.segment
        while number - 1 in numbers:
            number -= 1
        return number

    def replaced(self) -> bool:
        """Whether the folder at the path is another one now, or gone."""
        return (self._identity_of(f"{self._path}/lock") or self._identity_of(self._path)) != self._identity

    def close(self) -> None:
        """Close the files."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        marker, self._marker = self._marker, -1
        if marker >= 0:
            self._files.close(marker)

    # Inside

    def _begin(self, start: Place | None) -> None:
        if start is not None:
            try:
                segment = self._open(start.segment)
            except FileNotFoundError:
                pass
            else:
                record = segment.record(start.position)
                if record is not None:
                    self._segment, self.stream = segment, record.header.stream
                    self.head = follow(record.before(), record, self.stream)
                    return
                segment.close()
        numbers = self._numbers()
        if not numbers:
            raise LogMissing(f"{self.folder} holds no segment of a log; restore it")
        number = max(numbers)
        while True:
            segment = self._open(number)
            try:
                header = segment.header()
                record = segment.record(FIRST)
            except Malformed as bad:
                segment.close()
                raise damaged(number, 0, None, bad.why) from None
            # The first record of a segment does not tell the time of the one before; it is a lower bound all the same.
            if record is not None or number - 1 not in numbers:
                self._segment, self.stream = segment, header.stream
                self.head = Head(header.first_offset, header.prev_hash, 0, 0, number, FIRST)
                return
            segment.close()
            number -= 1

    def _advance(self, limit: int) -> list[StoredRecord]:
        found: list[StoredRecord] = []
        segment = self._current()
        segment.forget()
        head, self.unsettled = self.head, False
        before = head
        while len(found) <= limit:
            try:
                frame = segment.frame(head.position)
                if frame is None:
                    break
                if isinstance(frame, StoredRecord):
                    before, head = head, follow(head, frame, self.stream)
                    found.append(frame)
                    continue
                # An end mark: the record before it is durable, and the next segment was before the mark.
                head = self._enter(frame, head)
            except Malformed as bad:
                if not bad.whole:
                    break  # Being written, or torn.
                if not found:
                    raise damaged(head.segment, head.position, head.next_offset, bad.why) from None
                # What was read before may have been taken away meanwhile, and be another record now: look again.
                found.pop()
                self.head = before
                return found
            self.head = before = head
            segment = self._current()
            if found:
                return found
        if len(found) > limit:
            found.pop()
            self.head = before
        elif found:
            if self._settled(found[-1]):
                self.head = head
            else:
                self.unsettled = True
                found.pop()
                self.head = before
        return found

    def _settled(self, record: StoredRecord) -> bool:
        """Whether the last record is durable: see the module's docstring for the order of the two looks."""
        files = self._files
        if self._marker < 0:
            try:
                self._marker = files.open(f"{self._path}/{MARKER_FILE}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return True  # A copy that nobody has ever written to.
        if unpack_marker(files.pread(self._marker, MARKER_SIZE, 0)) < (record.place.segment, record.end):
            return False
        prefix = files.pread(self._current().fd, PREFIX_SIZE, record.place.position)
        return prefix[:4] == MAGIC and prefix[16:48] == record.hash

    def _enter(self, mark: End, head: Head) -> Head:
        """Go on in the next segment."""
        number = head.segment + 1
        if mark != End(number, head.hash):
            raise Malformed("the mark at the segment's end is being written, or damaged")
        try:
            following = self._open(number)
        except FileNotFoundError:
            if self.replaced():  # It was moved away between two looks.
                raise Malformed("the log was moved") from None
            raise LogMissing(
                f"the log's segment {segment_name(number)}, which begins at offset {head.next_offset}, is missing from "
                f"{self.folder}; restore it"
            ) from None
        try:
            after = enter(head, following.header(), self.stream)
        except BaseException as error:
            following.close()
            if isinstance(error, Malformed) and not self.replaced():  # Or it is another log's.
                # It was whole before the mark that leads to it was written.
                raise damaged(number, 0, head.next_offset, error.why) from None
            raise
        before, self._segment = self._current(), following
        before.close()
        return after

    def _current(self) -> Segment:
        assert self._segment is not None, "it is open"
        return self._segment

    def _open(self, number: int) -> Segment:
        return Segment(self._files, f"{self._path}/{segment_name(number)}", number, window=_WINDOW)

    def _numbers(self) -> set[int]:
        return {int(name[:8]) for name in self._files.listdir(self._path) if is_segment_name(name)}

    @staticmethod
    def _identity_of(path: str) -> tuple[int, int] | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
