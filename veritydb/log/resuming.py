"""Going on with a log that this process has had open before, and opening it only when something is to be written.

A web application opens a connection for each request, and most requests only read. So a process remembers, of each
log, the last record and the AppliedIndex that the file held when the two agreed (:func:`remember`). If the file still
holds that AppliedIndex, and the same segment file still ends in the same record with zeros behind it, then nobody has
written since, there is nothing to redo, and the end of the log is known: one ``pread`` has told (:func:`resumed`).
Otherwise the log is opened and read as always.

What such an opening does not look at, the first :meth:`ResumedLog.acquire` does, because it opens the log: the folder's
lock and marker, and what a torn write may have left behind the zeros. A reader has no business with any of these.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from veritydb.errors import LogUnavailable
from veritydb.log.files import Files
from veritydb.log.lock import FolderLock
from veritydb.log.record import FRAME_SIZE, HEADER_SIZE, MAGIC, PREFIX_SIZE, Malformed, unpack_header, unpack_prefix
from veritydb.log.segment import Head, Place, segment_name, unreadable
from veritydb.log.store import SEGMENT_SIZE, Log, open_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from veritydb.log.segment import StoredRecord

FRAME_MAX = 1 << 20
"""The largest last record that is remembered, in bytes. Above, reading it again each time would not be cheap."""
SEEN_MAX = 64
_ZERO8 = bytes(8)


class Seen(NamedTuple):
    """A log's end, and the AppliedIndex that belongs to it."""

    stream: bytes
    head: Head
    applied: bytes
    """The AppliedIndex as stored; it names the last record."""
    place: Place
    """Where that record begins."""
    length: int
    digest: bytes
    """Of its bytes: BLAKE3, which nobody has to certify and which costs less than the chain's SHA-256."""
    device: int
    inode: int
    """Which file they stand in."""


# By the log's folder.
_seen: dict[str, Seen] = {}


def remember(folder: Path, stream: bytes, head: Head, applied: bytes, place: Place) -> None:
    """Remember that a file whose AppliedIndex is ``applied`` is at the ``head`` of the log in ``folder``.

    ``place`` is where the record begins that the AppliedIndex names. If that is not the last one, or cannot be read
    back, nothing is remembered.
    """
    name = str(folder)
    length = head.position - place.position
    if place.segment != head.segment or not FRAME_SIZE < length <= FRAME_MAX:
        return
    found = _read(name, place, length)
    if found is None or not _is_record(found[0], head.hash):
        return
    frame, status = found
    if name not in _seen and len(_seen) >= SEEN_MAX:
        _seen.clear()
    _seen[name] = Seen(stream, head, applied, place, length, blake3(frame).digest(), status.st_dev, status.st_ino)


def resumed(folder: Path, applied: bytes, *, read_only: bool = False) -> ResumedLog | None:
    """Return the log in ``folder``, if it and a file whose AppliedIndex is ``applied`` are as they were seen last."""
    seen = _seen.get(str(folder))
    if seen is None or seen.applied != applied:
        return None
    found = _read(str(folder), seen.place, seen.length + len(_ZERO8))
    if found is None:
        return None
    frame, status = found
    if status.st_ino != seen.inode or status.st_dev != seen.device or frame[seen.length :] != _ZERO8:
        return None
    if blake3(frame[: seen.length]).digest() != seen.digest:
        return None
    return ResumedLog(folder, seen, read_only=read_only)


def _read(folder: str, place: Place, length: int) -> tuple[bytes, os.stat_result] | None:
    try:
        descriptor = os.open(f"{folder}/{segment_name(place.segment)}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, length, place.position), os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _is_record(frame: bytes, digest: bytes) -> bool:
    """Whether ``frame`` is one record that has the hash ``digest``, without parts (which are hashed another way)."""
    if len(frame) <= FRAME_SIZE:
        return False
    magic, header_length, body_length, stored = unpack_prefix(frame[:PREFIX_SIZE])
    end = FRAME_SIZE + body_length
    if magic != MAGIC or header_length != HEADER_SIZE or stored != digest or end + (-body_length & 7) != len(frame):
        return False
    try:
        header = unpack_header(frame[PREFIX_SIZE:FRAME_SIZE])
    except Malformed:
        return False
    return not header.part_count and sha256(header.prev_hash + frame[PREFIX_SIZE:end]).digest() == digest


class ResumedLog(Log):
    """A log whose end is known and whose files are opened by the first :meth:`acquire`; it then is a :class:`Log`."""

    def __init__(self, folder: Path, seen: Seen, *, read_only: bool = False) -> None:
        self._seen = seen
        self._process = os.getpid()
        self._rest(folder, read_only=read_only)

    def _rest(self, folder: Path, *, read_only: bool) -> None:
        floor = self._seen.head.next_offset
        super().__init__(folder, _NoLock(), Files(), read_only=read_only, floor=floor, segment_size=SEGMENT_SIZE)
        self.stream, self.head = self._seen.stream, self._seen.head

    def acquire(self, timeout: float | None = None) -> None:
        """Open the log, take its lock and read on to its true end."""
        self._open_files()
        self.acquire(timeout)

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Open the log and yield the records from ``start_offset`` on."""
        self._open_files()
        return self.records(start_offset, place=place)

    def _open_files(self) -> None:
        if self._failed is not None or self._process != os.getpid():
            raise LogUnavailable("the log was opened before a fork, or closed; connect again")
        folder, read_only, seen = self.folder, self._read_only, self._seen
        try:
            lock = open_lock(folder, self._files, read_only=read_only)
            super().__init__(
                folder, lock, self._files, read_only=read_only, floor=self.floor, segment_size=self._segment_size
            )
            try:
                self.begin(seen.place)
            except BaseException:
                self.close()
                self._rest(folder, read_only=read_only)
                raise
        except OSError as error:
            raise unreadable(error) from error
        # It has no methods of its own any more. A program that is interrupted by a signal may be so at each call, and
        # between an append and what is noted of it there must not be one more than in a log that was opened as always.
        self.__class__ = Log  # type: ignore[assignment]  # it becomes what it stands for


class _NoLock(FolderLock):
    """The lock of a log that is not open: nobody holds it."""

    def __init__(self) -> None:
        self.fd = self.marker = -1
        self.held = False
        self.mode = 0o600


__all__ = ["ResumedLog", "Seen", "remember", "resumed"]
