"""The log of one database on disk: appended to, read on to its true end, cut after a crash.

A session drives it. Under SQLite's write lock it calls, in this order::

    acquire()       the folder's lock; the head is now the true end, whoever wrote it
    place()         where the next record will begin (a new segment is begun here if one is due)
    append(...)     one record, durable when the call returns
    release()

``release`` is idempotent and ``acquire`` leaves nothing behind when it raises, so the pair belongs in one ``try``.

What a failure leaves. A record is written with one ``pwrite`` on a descriptor opened with ``O_DSYNC``; it counts when
that returns. If it raises, the handle is finished (an fsync that failed says nothing when it is repeated), and the
record is taken away through a fresh descriptor: if that is durable, ``LogUnavailable`` says that nothing was committed,
otherwise ``OutcomeUnknown``. If the process dies instead, or a signal's exception leaves ``append`` half-way, the next
acquirer, here or elsewhere, finds another end than the *marker* names (:mod:`veritydb.log.lock`) or its own ``_stale``
flag, and settles what became of the record before anybody builds on it.
"""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from veritydb.errors import LogMismatch, LogMissing, LogUnavailable, OutcomeUnknown, TransactionTooLarge
from veritydb.log.files import Files
from veritydb.log.following import END_BYTES, RESERVE, ZEROS, Following
from veritydb.log.lock import FolderLock, LogBusy, pack_marker
from veritydb.log.reading import Reader
from veritydb.log.record import (
    FRAME_SIZE,
    HEADER_SIZE,
    MAGIC,
    MAGIC_BEGUN,
    PART_MAX,
    ZERO_HASH,
    SegmentHeader,
    misfit,
    pack_prefix,
    pack_segment_header,
    unpack_claims,
)
from veritydb.log.segment import FIRST, Head, Place, StoredRecord, Torn, segment_name, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veritydb.log.spill import Spill

SEGMENT_SIZE = 64 << 20
SPACE_FIRST = 256 << 10
SPACE_STEP = 1 << 20
PATIENCE = 0.2
"""Seconds for which opening for reading waits while somebody else appends."""

_PAD = tuple(bytes(count) for count in range(8))
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Log(Following):
    """One handle on the log of one database; for one connection, in one process. Use :meth:`create` or :meth:`open`."""

    def __init__(
        self, folder: Path, lock: FolderLock, files: Files, *, read_only: bool, floor: int, segment_size: int
    ) -> None:
        super().__init__(folder, lock, files, read_only=read_only, floor=floor)
        self._pwrite = files.pwrite
        self._segment_size = segment_size
        # Whether the append that ended this handle left nothing behind, for certain.
        self._taken_away = False

    @classmethod
    def create(
        cls,
        folder: Path | str,
        stream: bytes,
        *,
        files: Files | None = None,
        segment_size: int = SEGMENT_SIZE,
        mode: int = 0o600,
    ) -> Log:
        """Begin a log in a folder, which is made if it is not there; the permissions of its files are ``mode``.

        Raises ``LogMismatch`` if there is a log already, ``LogUnavailable`` if it cannot be written.
        """
        files = files or Files()
        folder = Path(folder)
        try:
            try:
                files.mkdir(folder, mode | (mode & 0o444) >> 2)
            except FileExistsError:
                pass
            lock = FolderLock(f"{folder}/lock", files, create=True, mode=mode)
            try:
                lock.acquire()
                lock.check()
                if any(name.endswith(".seg") for name in files.listdir(folder)):
                    raise LogMismatch(f"there is a log in {folder} already; nothing was changed")
                header = SegmentHeader(stream, 0, ZERO_HASH, 0)
                _write_segment(files, str(folder), header, _first_space(segment_size), lock.mode)
                files.fsync_dir(str(folder.parent))
                lock.settle(0, FIRST)
            finally:
                lock.close()
        except OSError as error:
            raise LogUnavailable(f"the log cannot be begun: {error}; nothing was changed") from error
        return cls.open(folder, files=files, segment_size=segment_size)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        read_only: bool = False,
        start: Place | None = None,
        floor: int = 0,
        files: Files | None = None,
        segment_size: int = SEGMENT_SIZE,
        patience: float = PATIENCE,
    ) -> Log:
        """Open the log of a folder.

        ``start`` is where a record known to be committed begins; reading goes on from there. Without it, or if no
        record is found there, reading begins at the newest segment that has records. ``floor`` is the number of
        transactions known to be committed.

        If somebody else holds the lock, :attr:`head` is only a lower bound until the first :meth:`acquire`; opening
        for reading, which has no such second chance, waits ``patience`` seconds for it and then reads without it, up to
        the last whole record. Raises ``LogMissing``, ``LogDamaged``, ``LogMismatch``, ``LogUnavailable``.
        """
        files = files or Files()
        folder = Path(folder)
        try:
            log = cls(
                folder,
                open_lock(folder, files, read_only=read_only),
                files,
                read_only=read_only,
                floor=floor,
                segment_size=segment_size,
            )
            try:
                log.begin(start)
                try:
                    log.acquire(patience if read_only else 0)
                except LogBusy:
                    if read_only:
                        log.catch_up(judging=False)
                else:
                    log.release()
            except BaseException:
                log.close()
                raise
        except OSError as error:
            raise unreadable(error) from error
        return log

    shared = False

    def follow(self, timeout: float) -> None:
        """Do nothing: who appends to this log has its lock."""

    # The lock

    def acquire(self, timeout: float | None = None) -> None:
        """Take the lock, waiting at most ``timeout`` seconds (None: for ever), and read on to the true end.

        Raises ``LogBusy`` when the time is over, ``LogMismatch`` if the log has grown and its folder was replaced,
        ``LogDamaged``, ``LogUnavailable``. If the log ends in a record that never was finished, :attr:`torn` says so.
        """
        lock = self._lock
        lock.acquire(timeout)
        try:
            # The usual case: our last record, and zeros where the next one will be, so nobody else has written.
            end = self._end
            if self._stale or self._pread(self._fd, len(end), self._end_at) != end:
                lock.check()
                self.catch_up()
        except OSError as error:
            lock.release()
            raise unreadable(error) from error
        except BaseException:
            lock.release()
            raise

    def release(self) -> None:
        """Let others append. Does nothing if the lock is not held."""
        self._lock.release()

    @property
    def held(self) -> bool:
        """Whether this handle holds the lock."""
        return self._lock.held

    def refresh(self) -> None:
        """Under the lock, settle what became of an append that was interrupted; then :attr:`head` is exact again.

        Raises what :meth:`acquire` raises if that cannot be told.
        """
        self._demand_lock()
        if self._stale and not self._taken_away:
            try:
                self.catch_up()
            except OSError as error:
                raise unreadable(error) from error

    # Writing, under the lock

    def place(self) -> Place:
        """Return where the next record will begin; a new segment is begun first if one is due."""
        if self._stale or not self._lock.held:
            self._refuse()
        head = self.head
        if head.position >= self._segment_size and head.position > FIRST:
            self._roll()
            head = self.head
        return Place(head.segment, head.position)

    def append(self, header: bytes, tail: bytes, parts: Spill | None, transaction_count: int, timestamp: int) -> None:
        """Append one record and make it durable; :attr:`head` then names it.

        The header must build on the head. Raises ``LogMismatch`` if it does not, or if the folder is no longer at its
        path; ``LogUnavailable`` if the record is not in the log and never will be, ``OutcomeUnknown`` if that cannot be
        told.
        """
        if self._stale or not self._lock.held:
            self._refuse()
        head = self.head
        if head.position >= self._segment_size and head.position > FIRST:
            self._roll()
            head = self.head

        # What is wrong here would be refused by every reader: it must not get in.
        body = len(tail)
        stream, offset, stamp, prev, parts_length, tail_length, part_count, generation, count = unpack_claims(header)
        next_offset, hash_, stamp_min, generation_min, _, _ = head
        if (
            misfit(next_offset, hash_, stamp_min, generation_min, offset, prev, stamp, generation)
            or stamp != timestamp
            or count != transaction_count
            or tail_length != body
            or stream != self.stream
        ):
            raise LogMismatch("the record does not build on the head of the log; nothing was written")
        if body > PART_MAX:
            raise TransactionTooLarge("the transaction is larger than a record can be; it was rolled back")
        self._lock.check()
        if parts is not None or part_count or parts_length:
            if parts is None or parts.length != parts_length or parts.count != part_count:
                raise LogMismatch("the record's parts are not those its header names; nothing was written")
            if part_count:
                digest, end, last = self._write_large(header, tail, parts)
                self._advance(Head(offset + count, digest, stamp, generation, head.segment, end), last)
                return

        digest = sha256(b"".join((prev, header, tail))).digest()
        frame = b"".join((pack_prefix(MAGIC, HEADER_SIZE, body, digest), header, tail, _PAD[-body & 7]))
        position = head.position
        end = position + len(frame)
        if end > self._space:
            self._extend(end)
        self._stale = True
        self._end = b""
        try:
            if self._pwrite(self._fd, frame, position) != len(frame):
                raise OSError(errno.ENOSPC, "No space left on device: the record was not written whole")
        except OSError as error:
            self._give_up(error, position)
        self._advance(Head(offset + count, digest, stamp, generation, head.segment, end), frame[-END_BYTES:])

    def cut(self, torn: Torn) -> None:
        """Take away, durably, what :attr:`torn` names. The caller appends the record that tells of it."""
        self._demand_lock()
        if torn != self.torn or self._read_only:
            raise LogMismatch("what was to be cut is not the end of this log; nothing was changed")
        try:
            self._lock.check()
            self._erase(torn.position)
            self._lock.settle(torn.segment, torn.position)
            self.remember_end()
        except OSError as error:
            self._failed = error
            raise LogUnavailable(f"the log's torn end cannot be cut: {error}; nothing was lost") from error
        self.torn = None
        self._space = 0
        self._stale = False

    # Reading

    def records(self, start_offset: int = 0, *, place: Place | None = None) -> Iterator[StoredRecord]:
        """Yield the records from the one that holds ``start_offset`` on, up to :attr:`head`, without the lock.

        ``place`` is where a record at or before that offset begins, if it is known. A record whose bytes, hash, order
        or time is wrong raises ``LogDamaged``, a segment that is gone ``LogMissing``.
        """
        reader = Reader(self._files, self._path, self.stream, read_only=self._read_only, mode=self._lock.mode)
        return reader.records(start_offset, self.head, place)

    def close(self) -> None:
        """Release the lock and close the files."""
        self._stale = True
        self._failed = self._failed or ValueError("it was closed")
        if self._segment is not None:
            self._segment.close()
        self._lock.close()

    # Appending

    def _advance(self, head: Head, last: bytes) -> None:
        """Take note of a record that is durable, and of its last bytes."""
        self.head = head
        self._end_at = head.position - len(last)
        self._end = last + ZEROS
        try:
            self._pwrite(self._lock.marker, pack_marker(head.segment, head.position), 0)
        except OSError:
            return  # It is committed all the same; the next acquire settles it.
        self._stale = False

    def _write_large(self, header: bytes, tail: bytes, parts: Spill) -> tuple[bytes, int, bytes]:
        """Write a record with spilled parts; return its hash, the position behind it, and its last bytes.

        Its body comes first and is made durable, then the prefix that makes it a record. Until then a prefix that says
        "begun" stands there, so that nobody takes the place for free.
        """
        files = self._files
        position = self.head.position
        body = parts.length + len(tail)
        hashing = sha256(self.head.hash + header)
        at = position + FRAME_SIZE
        self._stale = True
        self._end = b""
        try:
            fd = files.open(self._current().path, os.O_WRONLY | os.O_CLOEXEC)
            try:

                def write(data: bytes) -> None:
                    nonlocal at
                    files.write(fd, data, at)
                    hashing.update(data)
                    at += len(data)

                files.write(fd, pack_prefix(MAGIC_BEGUN, HEADER_SIZE, body, ZERO_HASH) + header, position)
                parts.copy(write)
                write(tail)
                end = at + (-body & 7)
                files.write(fd, bytes(end - at + RESERVE), at)
                files.fdatasync(fd)
            finally:
                files.close(fd)
        except (OSError, LogUnavailable) as error:  # The second one comes from the spill file.
            self._give_up(error, position)
        except BaseException:
            # An interruption: there is no record yet, so it can be taken away and the log be used again.
            try:
                self._erase(position)
            except OSError as error:
                self._failed = error
            raise

        digest = hashing.digest()
        try:
            files.write(self._fd, pack_prefix(MAGIC, HEADER_SIZE, body, digest), position)
        except OSError as error:
            self._give_up(error, position)
        self._space = max(self._space, end)
        return digest, end, (tail + _PAD[-body & 7])[-END_BYTES:]

    def _give_up(self, error: OSError | LogUnavailable, position: int) -> NoReturn:
        """Take away what an append that failed may have written, and raise what became of it."""
        self._failed = error
        try:
            self._erase(position)
        except OSError as second:
            raise OutcomeUnknown(
                f"the log could not be made durable ({error}), nor the record be taken away again ({second}); whether "
                f"the transaction is committed will be known when the database is opened again"
            ) from error
        self._taken_away = True
        try:
            self._lock.settle(self.head.segment, position)
        except OSError:
            pass  # The next acquirer looks with care and finds nothing.
        raise LogUnavailable(f"the log could not be written: {error}; the transaction was rolled back") from error

    def _erase(self, position: int) -> None:
        """Durably end the current segment at a position, through a descriptor that has not failed yet."""
        files = self._files
        try:
            # If this fails half-way, what was there may come back after a loss of power.
            self._lock.unsettle()
        except OSError:
            pass
        fd = files.open(self._current().path, os.O_RDWR | os.O_CLOEXEC)
        try:
            files.ftruncate(fd, position)
            files.fdatasync(fd)
        finally:
            files.close(fd)

    def _extend(self, end: int) -> None:
        """Write zeros ahead, so that records overwrite: a file that grows costs half as much again per sync."""
        files = self._files
        needed = end + RESERVE
        try:
            size = files.size(self._fd)
            if needed > size:
                step = min(SPACE_STEP, max(4096, self._segment_size))
                try:
                    files.write(self._fd, bytes(max(step, needed - size)), size)
                except OSError as error:
                    # A disk with less room than that may have enough for this record.
                    if error.errno not in _FULL or files.size(self._fd) < needed:
                        raise
                size = files.size(self._fd)
            self._space = size - RESERVE
        except OSError as error:
            self._no_room(error)

    def _roll(self) -> None:
        """Begin the next segment, and go there."""
        head = self.head
        number = head.segment + 1
        self._lock.check()  # What follows goes by the path.
        self._extend(head.position)
        self._stale = True
        try:
            if segment_name(number) not in self._files.listdir(self._path):
                header = SegmentHeader(self.stream, head.next_offset, head.hash, number)
                _write_segment(self._files, self._path, header, _first_space(self._segment_size), self._lock.mode)
            # Catching up finds a segment to which no mark leads, writes the mark, and goes there. So it does if
            # somebody else began the segment and died.
            self.catch_up()
        except OSError as error:
            self._no_room(error)
        if self._stale:
            self._refuse()

    def _no_room(self, error: OSError) -> NoReturn:
        """Refuse before a byte of the record was written: a full disk may have room again later."""
        if error.errno not in _FULL:
            self._failed = error
            self._taken_away = True
        self._stale = True
        raise LogUnavailable(f"the log cannot be written: {error}; the transaction was rolled back") from error

    # Refusing

    def _demand_lock(self) -> None:
        if not self._lock.held:
            raise LogUnavailable("the log's lock is not held; nothing was changed")

    def _refuse(self) -> NoReturn:
        """Say why nothing can be appended."""
        if self._failed is not None:
            why = f"this connection's log has failed before ({self._failed}); connect again"
        elif not self._lock.held:
            why = "the log's lock is not held"
        elif self._read_only:
            why = "the log is open for reading only"
        elif self.torn is not None:
            why = f"the log ends in an unfinished record ({self.torn.why}), which must be cut first"
        else:
            why = "an earlier append was interrupted, and what became of it must be settled first"
        raise LogUnavailable(f"nothing was written: {why}")


def open_lock(folder: Path, files: Files, *, read_only: bool) -> FolderLock:
    """Open the lock of a log's folder. Raises ``LogMissing``."""
    try:
        return FolderLock(f"{folder}/lock", files, read_only=read_only, create=not read_only)
    except FileNotFoundError:
        pass
    if read_only:
        try:
            # A copy without a lock file, so nobody appends to it: any file that can be locked will do.
            return FolderLock(str(folder), files, read_only=True)
        except FileNotFoundError:
            pass
    raise LogMissing(f"there is no log at {folder}; restore its folder")


def _first_space(segment_size: int) -> int:
    return min(SPACE_FIRST, max(4096, segment_size))


def _write_segment(files: Files, folder: str, header: SegmentHeader, space: int, mode: int) -> None:
    """Make a segment file with zeros ahead; it appears under its name whole and durable, or not at all."""
    path = f"{folder}/{segment_name(header.number)}"
    temporary = f"{path}.tmp"
    fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            files.write(fd, pack_segment_header(header).ljust(space, b"\0"), 0)
            files.fdatasync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, path)
    except OSError:
        files.unlink(temporary)
        raise
    files.fsync_dir(folder)
