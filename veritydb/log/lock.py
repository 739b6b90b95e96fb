"""The lock of a log's folder, which every append, cut, and look at the log's true end holds.

It is ``flock`` on a file of its own, because SQLite's write lock is not the log's: that one belongs to an inode (a
database that is unlinked and made again has two) and is not held by cuts and checkpoints.

A second file holds the *marker*: the place up to which everything is known to be on the disk, written behind each
append. Who reads on to another end than that knows that the last writer died or failed in between, so the last record
may be in the page cache only. It is a file of its own because the lock's is looked at with ``stat`` in every commit:
since Linux 6.13 a write to a file whose times were asked for stores finer times, which makes the next synchronous write
anywhere wait ~60 us longer.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from struct import Struct
from typing import TYPE_CHECKING

from veritydb.errors import LogMismatch, LogUnavailable

if TYPE_CHECKING:
    from veritydb.log.files import Files

MARKER_FILE = "marker"
_MARKER = Struct("<QQ")
MARKER_SIZE = _MARKER.size
pack_marker = _MARKER.pack
"""(number of a segment, position in it) -> the marker."""
_UNKNOWN = bytes(MARKER_SIZE)

_TRY = fcntl.LOCK_EX | fcntl.LOCK_NB
_PAUSE_MIN = 0.000_2
_PAUSE_MAX = 0.010


def unpack_marker(data: bytes) -> tuple[int, int]:
    """Return the place that a marker names, (0, 0) if none is known: no record ends there."""
    return _MARKER.unpack(data) if len(data) == MARKER_SIZE else (0, 0)


class LogBusy(LogUnavailable):
    """Another connection held the log's lock for as long as one was willing to wait; nothing was written."""


class FolderLock:
    """The lock file of one folder, opened by one handle.

    ``held`` is what this handle knows. Taking a lock that is held and releasing one that is not are both allowed, so
    that an interruption between the system call and the caller's next line can be answered by doing it again.
    """

    def __init__(self, path: str, files: Files, *, read_only: bool = False, create: bool = False, mode: int = 0o600):
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._path = path
        self._files = files
        self._how = fcntl.LOCK_SH | fcntl.LOCK_NB if read_only else _TRY
        self._flock = files.flock
        self._stat = files.stat
        self.held = False
        self.marker = -1
        """Descriptor of the file with the marker; -1 for a handle that only reads."""
        self.fd = files.open(path, flags, mode)
        try:
            status = os.fstat(self.fd)
            if not read_only:
                marker_path = os.path.join(os.path.dirname(path), MARKER_FILE)
                self.marker = files.open(marker_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, status.st_mode & 0o777)
        except BaseException:
            self.close()
            raise
        self._inode = status.st_ino
        self._device = status.st_dev
        self.mode = status.st_mode & 0o777
        """The permissions that new files of the folder get, too."""
        _opened.add(self)

    def acquire(self, timeout: float | None = None) -> None:
        """Wait for the lock, at most ``timeout`` seconds (None: as long as it takes).

        Raises :class:`LogBusy` when the time is over, and whatever a signal handler raises; the lock is not held then.
        """
        try:
            try:
                self._flock(self.fd, self._how)
            except BlockingIOError:
                self._wait(timeout)
            self.held = True
        except (OSError, ValueError) as error:
            self.release()
            if self.fd < 0:
                raise LogUnavailable("the log was opened before a fork, or closed; connect again") from error
            raise LogUnavailable(f"the log's lock cannot be taken: {error}; nothing was written") from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others in. Does nothing if the lock is not held, and never fails: what was done under it stands."""
        if self.fd >= 0:
            try:
                self._flock(self.fd, fcntl.LOCK_UN)
            except OSError:
                self.close()  # That gives the lock up for certain, and this handle with it.
        self.held = False

    def check(self) -> None:
        """Raise LogMismatch if the folder that was opened is no longer the one at its path.

        For right before something is written: a folder may be moved while its lock is held.
        """
        try:
            status = self._stat(self._path)
        except FileNotFoundError:
            raise self._moved() from None
        except OSError as error:
            raise LogUnavailable(f"the log's lock cannot be looked at: {error}; nothing was written") from error
        if status.st_ino != self._inode or status.st_dev != self._device:
            raise self._moved()

    def settled(self, segment: int, position: int) -> bool:
        """Return whether everything up to a place is known to be on the disk."""
        return self._files.pread(self.marker, MARKER_SIZE, 0) == pack_marker(segment, position)

    def settle(self, segment: int, position: int) -> None:
        """Note that everything up to a place is on the disk."""
        self._files.write(self.marker, pack_marker(segment, position), 0)

    def unsettle(self) -> None:
        """Note that nothing is known: whoever takes the lock next has to see to it."""
        self._files.write(self.marker, _UNKNOWN, 0)

    def close(self) -> None:
        """Release and close; the handle is of no use afterwards."""
        fds = self.fd, self.marker
        self.fd, self.marker, self.held = -1, -1, False
        for fd in fds:
            if fd >= 0:
                self._files.close(fd)

    def _wait(self, timeout: float | None) -> None:
        """Take the lock as soon as it is free."""
        if timeout is None:
            self._flock(self.fd, self._how & ~fcntl.LOCK_NB)
            return

        deadline = time.monotonic() + timeout
        pause = _PAUSE_MIN
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(2 * pause, _PAUSE_MAX)
            try:
                self._flock(self.fd, self._how)
            except BlockingIOError:
                continue
            return
        raise LogBusy("database is locked: another connection holds its log; nothing was written")

    def _moved(self) -> LogMismatch:
        return LogMismatch(f"the log was moved or replaced: {self._path} is not the file it was; connect again")


_opened: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _after_fork() -> None:
    """Give up, in a child, the descriptors it has inherited: a lock that the parent holds would outlive the parent."""
    for lock in list(_opened):
        lock.close()


os.register_at_fork(after_in_child=_after_fork)
