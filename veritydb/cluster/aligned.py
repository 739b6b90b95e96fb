"""A file that is read and written past the page cache, where the file system allows it.

After a failed sync the cache may go on to give what is not on the disk, and a process that starts again and reads
through it has proved nothing. So a member's files are opened with ``O_DIRECT``: what is read comes from the disk. It
demands whole sectors at aligned addresses, which is what the buffer here is for. Where there is no such flag, or the
file system refuses it, the file is an ordinary one.

https://man7.org/linux/man-pages/man2/open.2.html#NOTES tells what ``O_DIRECT`` demands.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veritydb.log.files import Files

SECTOR = 4096
"""Bytes that are written at once. A disk may write less at once; it never tears two of these with one write."""
_DIRECT: int = getattr(os, "O_DIRECT", 0)  # Linux has it, macOS has not.


def sectors(size: int) -> int:
    """Return ``size`` rounded up to whole sectors."""
    return size + SECTOR - 1 & -SECTOR


class Buffer:
    """Memory at an aligned address, through which all files of one disk are read and written."""

    def __init__(self, size: int) -> None:
        self.view = memoryview(mmap.mmap(-1, sectors(size)))  # Pages that are never touched take no room.

    def grow(self, size: int) -> None:
        """Have room for so many bytes."""
        if size > len(self.view):
            self.view = memoryview(mmap.mmap(-1, sectors(size)))

    def fill(self, data: bytes) -> memoryview:
        """Return ``data``, with zeros up to the end of its last sector."""
        size = len(data)
        end = sectors(size)
        self.view[:size] = data
        self.view[size:end] = bytes(end - size)
        return self.view[:end]


class AlignedFile:
    """One file. Every call may raise OSError."""

    def __init__(self, path: str, files: Files, buffer: Buffer, *, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        self.path = path
        self._files = files
        self._buffer = buffer
        self.is_direct = bool(_DIRECT)
        try:
            self._fd = files.open(path, flags | _DIRECT, 0o600)
        except OSError as error:
            if error.errno != errno.EINVAL or not _DIRECT:
                raise
            self._fd = files.open(path, flags & ~os.O_EXCL, 0o600)  # The first attempt may have made it.
            self.is_direct = False
        direct = _DIRECT if self.is_direct else 0
        self._through = -1
        try:
            self._through = files.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DSYNC | direct)
        except BaseException:
            self.close()
            raise

    @property
    def through(self) -> int:
        """The descriptor on which a write is durable when it returns."""
        return self._through

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._files.size(self._fd)

    def write(self, position: int, data: bytes) -> None:
        """Write ``data`` and zeros up to the end of its last sector. Not durable before :meth:`sync`."""
        self._files.write(self._fd, self._buffer.fill(data), position)

    def write_through(self, position: int, data: bytes) -> None:
        """The same, durable when it returns: one call of the system and one wait, where a sync would be another."""
        self._files.write(self._through, self._buffer.fill(data), position)

    def read(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes, a number of whole sectors; fewer at the end of the file."""
        view = self._buffer.view[:size]
        got = os.preadv(self._fd, [view], position)
        return bytes(view[:got])

    def sync(self) -> None:
        """Make all that was written durable."""
        self._files.fdatasync(self._fd)

    def extend(self, size: int) -> None:
        """Make the file so long."""
        self._files.ftruncate(self._fd, size)

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self._fd, self._through):
            if fd >= 0:
                self._files.close(fd)
