"""Input and output that fails when it is told to: SQLite's, through a VFS of its own, and the log's.

:class:`Faults` counts calls and says which one fails, and how. The count comes first: a run in which nothing fails
tells how many calls there are, and then every one of them fails once. Everything happens inside one process, without
time and without chance, so call N is the same call in every run.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.log import spill, store
from veritydb.log.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

VFS = "faulty"
CIPHER_VFS = f"multipleciphers-{VFS}"
"""The name to open an encrypted database with.

SQLite3 Multiple Ciphers puts its own VFS, which encrypts, before ours.
"""


@dataclass(slots=True)
class Faults:
    """Which call fails, and with what."""

    at: int = 0
    """Number of the call that fails, from 1; 0: none."""
    number: int = errno.EIO
    lasting: bool = False
    """Whether all calls after it fail too, as on a disk that is gone or full."""
    count: int = 0
    calls: list[str] = field(default_factory=list)

    def hit(self, name: str) -> bool:
        """Count a call; whether it has to fail."""
        self.count += 1
        self.calls.append(name)
        return self.at != 0 and (self.count == self.at or (self.lasting and self.count > self.at))

    def check(self, name: str) -> None:
        """Count a call of the operating system; raise if it has to fail."""
        if self.hit(name):
            raise self.error()

    def error(self) -> OSError:
        """Return the failure."""
        return OSError(self.number, os.strerror(self.number))

    def mend(self) -> None:
        """Let nothing fail any more."""
        self.at = 0


# SQLite's files ------------------------------------------------------------------------------------------------------

# The shared memory of a WAL (xShmMap, xShmLock, …) cannot be reached from a VFS in Python: APSW hands those methods
# through to the VFS below. tests/crash/system_calls.py lets the system calls under them fail instead.


class FaultyFile(apsw.VFSFile):
    """A file of the operating system whose calls are counted."""

    def __init__(self, faults: Faults, name: Any, flags: list[int]) -> None:
        self._faults = faults
        super().__init__("unix", name, flags)

    def _check(self, call: str, code: int) -> None:
        if self._faults.hit(call):
            full = self._faults.number == errno.ENOSPC and code == apsw.SQLITE_IOERR_WRITE
            raise apsw.exception_for(apsw.SQLITE_FULL if full else code)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._check("xRead", apsw.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        # What fails may have been done in part; SQLite must not rely on the place being as it was.
        if self._faults.hit("xWrite"):
            super().xWrite(data[: len(data) // 2], offset)
            full = self._faults.number == errno.ENOSPC
            raise apsw.exception_for(apsw.SQLITE_FULL if full else apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._check("xTruncate", apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._check("xSync", apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)

    def xFileSize(self) -> int:
        self._check("xFileSize", apsw.SQLITE_IOERR_FSTAT)
        return super().xFileSize()

    def xLock(self, level: int) -> None:
        self._check("xLock", apsw.SQLITE_IOERR_LOCK)
        super().xLock(level)

    def xCheckReservedLock(self) -> bool:
        self._check("xCheckReservedLock", apsw.SQLITE_IOERR_CHECKRESERVEDLOCK)
        return super().xCheckReservedLock()


class FaultyVFS(apsw.VFS):
    """The operating system's VFS, with faults. It has to live as long as SQLite may use it, so there is one."""

    def __init__(self) -> None:
        super().__init__(VFS, "unix")
        self.faults = Faults()

    def _check(self, call: str, code: int) -> None:
        if self.faults.hit(call):
            raise apsw.exception_for(code)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        self._check("xOpen", apsw.SQLITE_CANTOPEN)
        return FaultyFile(self.faults, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._check("xDelete", apsw.SQLITE_IOERR_DELETE)
        super().xDelete(filename, syncdir)

    def xAccess(self, pathname: str, flags: int) -> bool:
        self._check("xAccess", apsw.SQLITE_IOERR_ACCESS)
        return super().xAccess(pathname, flags)

    def xFullPathname(self, name: str) -> str:
        self._check("xFullPathname", apsw.SQLITE_CANTOPEN_FULLPATH)
        return super().xFullPathname(name)


# The log's files -----------------------------------------------------------------------------------------------------


class FaultyFiles(Files):
    """The log's system calls, counted. What takes things back (close, unlock) does not fail in any system we know."""

    def __init__(self, faults: Faults) -> None:
        def counted(name: str) -> Callable[..., Any]:
            inner = getattr(Files, name)

            def call(*arguments: Any) -> Any:
                faults.check(name)
                return inner(*arguments)

            return call

        for name in ("open", "pread", "ftruncate", "rename", "unlink", "mkdir", "listdir", "stat"):
            setattr(self, name, counted(name))

        def pwrite(descriptor: int, data: Any, position: int) -> int:
            if not faults.hit("pwrite"):
                return Files.pwrite(descriptor, data, position)
            if faults.number == errno.ENOSPC:
                # A disk that fills up takes what fits, and says so; only the next call fails.
                return Files.pwrite(descriptor, memoryview(data)[: len(data) // 2], position)
            # The worst that EIO can mean: all of it is in the page cache, and whether on the disk nobody knows.
            Files.pwrite(descriptor, data, position)
            raise faults.error()

        def fdatasync(descriptor: int) -> None:
            faults.check("fdatasync")
            Files.fdatasync(descriptor)

        def flock(descriptor: int, operation: int) -> None:
            if operation != fcntl.LOCK_UN:
                faults.check("flock")
            Files.flock(descriptor, operation)

        setattr(self, "pwrite", pwrite)  # noqa: B010  the class has functions of other types there
        setattr(self, "fdatasync", fdatasync)  # noqa: B010  a type checker would refuse the assignment
        setattr(self, "flock", flock)  # noqa: B010  a type checker would refuse the assignment
        self._faults = faults

    def size(self, fd: int) -> int:
        """Count the call, then do it."""
        self._faults.check("size")
        return super().size(fd)

    def fsync_dir(self, path: str) -> None:
        """Count the call, then do it."""
        self._faults.check("fsync_dir")
        super().fsync_dir(path)


def fail_log(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    """Let everything that the log asks of the operating system go through ``faults``."""
    for module in (store, spill):
        monkeypatch.setattr(module, "Files", lambda: FaultyFiles(faults))
    # What makes a log's folder and its keys does not go through Files. Other threads (of the test runner) are left
    # alone.
    owner = threading.get_ident()

    def counted(name: str) -> Callable[..., Any]:
        inner = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == owner:
                faults.check(f"os.{name}")
            return inner(*arguments, **options)

        return call

    for name in ("open", "fsync", "rename", "mkdir"):
        monkeypatch.setattr(os, name, counted(name))
