"""Every system call of the log, in one place, so that tests can make any of them fail.

The functions are the operating system's own: reached through the class they cost nothing, and a subclass overrides
those that it wants to fail, to count, or to delay.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any


class Files:
    """What the log asks of the operating system."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    fdatasync = staticmethod(os.fdatasync)
    ftruncate = staticmethod(os.ftruncate)
    rename = staticmethod(os.rename)
    unlink = staticmethod(os.unlink)
    mkdir = staticmethod(os.mkdir)
    listdir = staticmethod(os.listdir)
    flock = staticmethod(fcntl.flock)
    stat = staticmethod(os.stat)
    """For the lock only. A stat of a segment makes the next fdatasync slower: since Linux 6.13 a timestamp that was
    looked at must change at the next write, and the changed inode has to be journaled."""

    def size(self, fd: int) -> int:
        """Return the length of a file, without a stat."""
        return os.lseek(fd, 0, os.SEEK_END)

    def fsync_dir(self, path: str) -> None:
        """Make the names in a folder durable."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            self.close(fd)

    def write(self, fd: int, data: Any, position: int) -> None:
        """Write all of it, or raise: less than asked for is a failure like any other."""
        written = self.pwrite(fd, data, position)
        if written != len(data):
            # What the kernel would say to the next write.
            raise OSError(errno.ENOSPC, f"No space left on device: {written} of {len(data)} bytes were written")


class UnsyncedFiles(Files):
    """System calls that do not wait for the disk: for logs that somebody makes durable as a whole, afterwards."""

    @staticmethod
    def open(path: Any, flags: int, mode: int = 0o777) -> int:  # type: ignore[override]  # a bound function stands for it
        """Open, and never wait in a write."""
        return os.open(path, flags & ~os.O_DSYNC, mode)

    @staticmethod
    def fdatasync(fd: int) -> None:  # type: ignore[override]  # a bound function stands for it
        """Do not wait."""
