"""What runs inside a process that a test is going to kill: ``python -m tests.support.child SCRIPT ARGUMENT…``.

The script is ordinary application code that says what it does through :func:`attempted` and :func:`acknowledged`. The
product has no seams for crashes; this module puts a mark at each place of the commit path by wrapping the functions
that stand there, before the script is run. ``CRASH_AT="point:count"`` makes the mark act when it is met for the
count-th time, and ``CRASH_BY`` names the signal that it sends to its own process (KILL, if not set).

==================  ====================================================================================
``sync``            the coming commit is announced; the AppliedIndex is not written
``before append``   the transaction is encoded and sealed, the log untouched
``torn append``     half of the record's bytes are in the file
``written``         all of them are, and the call has not returned to the log
``after append``    the log has told nobody yet
``hook``            the commit hook has approved; SQLite has written nothing
``wal``             one page of the transaction, or more, is in the WAL file; the commit is not complete
``committed``       SQLite has committed; the application has not been told
``checkpoint``      a page of the database file is being written back
``log call``        the log is about to ask something of the operating system
==================  ====================================================================================
"""

from __future__ import annotations

import faulthandler
import os
import runpy
import signal
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.log.files import Files
from veritydb.log.record import PREFIX_SIZE
from veritydb.log.store import Log
from veritydb.transaction import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable

POINTS = (
    "sync",
    "before append",
    "torn append",
    "written",
    "after append",
    "hook",
    "wal",
    "committed",
    "checkpoint",
    "log call",
)
VFS = "crashing"
"""Name of the VFS that a script has to open its database with, to meet the points ``wal`` and ``checkpoint``."""
CIPHER_VFS = f"multipleciphers-{VFS}"
"""The name for encrypted databases: SQLite3 Multiple Ciphers puts its own VFS, which encrypts, before ours."""

TIMEOUT = 100.0
"""Seconds; less than what the parent is willing to wait, so that it gets to read where the child was."""

_installed = False
_left = 0
_point = ""
_appending = False


def attempted(number: int) -> None:
    """Say that transaction ``number`` is going to be tried."""
    os.write(1, b"attempted %d\n" % number)


def acknowledged(number: int) -> None:
    """Say that transaction ``number`` was reported as committed."""
    os.write(1, b"acknowledged %d\n" % number)


def say(line: str) -> None:
    """Write one line to standard output, at once."""
    os.write(1, f"{line}\n".encode())


def mark(point: str) -> bool:
    """Be at ``point``. Sends the signal if it is time; returns whether it was."""
    global _left
    if point != _point:
        return False
    _left -= 1
    if _left != 0:
        return False
    os.kill(os.getpid(), getattr(signal, f"SIG{os.environ.get('CRASH_BY', 'KILL')}"))
    return True


def met() -> bool:
    """Whether the mark that was armed has acted."""
    return _left <= 0


def _around(owner: Any, name: str, before: str | None, after: str | None) -> None:
    inner: Callable[..., Any] = getattr(owner, name)

    @wraps(inner)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        global _appending
        if before:
            mark(before)
        _appending = name == "append"
        try:
            result = inner(*args, **kwargs)
        finally:
            _appending = False
        if after:
            mark(after)
        return result

    setattr(owner, name, wrapped)


def _tear() -> None:
    inner: Callable[[int, Any, int], int] = Files.pwrite

    def pwrite(descriptor: int, data: Any, position: int) -> int:
        # The record itself: not the marker, and not the zeros that are written ahead of it, which leave nothing torn.
        if not _appending or len(data) < PREFIX_SIZE or not any(data):
            return inner(descriptor, data, position)
        if _point == "torn append" and _left == 1:
            inner(descriptor, data[: len(data) // 2], position)
        mark("torn append")
        written = inner(descriptor, data, position)
        mark("written")
        return written

    Files.pwrite = staticmethod(pwrite)


def _before_call(inner: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(inner)
    def wrapped(*args: Any) -> Any:
        mark("log call")
        return inner(*args)

    return wrapped


class CrashingFile(apsw.VFSFile):
    """A file that marks the writes to the WAL and to the database."""

    def __init__(self, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._point = {apsw.SQLITE_OPEN_WAL: "wal", apsw.SQLITE_OPEN_MAIN_DB: "checkpoint"}.get(
            flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_DB), ""
        )

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._point and len(data) > 64 and mark(self._point):
            # A signal that does not kill is seen once SQLite is back in Python; until then the write goes on.
            pass
        super().xWrite(data, offset)


class CrashingVFS(apsw.VFS):
    """The operating system's VFS, with files that can crash."""

    def __init__(self) -> None:
        super().__init__(VFS, "unix")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return CrashingFile("unix", name, flags)


def arm(at: str) -> None:
    """Let the mark of ``at`` act from now on, counted from here; put the marks in place if they are not."""
    global _left, _point, _installed
    _point, _, count = at.partition(":")
    assert _point in POINTS, _point
    _left = int(count or 1)
    if _installed:
        return
    _installed = True
    _tear()
    for name in ("open", "pread", "pwrite", "fdatasync", "ftruncate", "rename", "unlink", "mkdir", "listdir", "flock"):
        setattr(Files, name, staticmethod(_before_call(getattr(Files, name))))
    _around(Log, "append", "before append", "after append")
    _around(Transactions, "on_sync", "sync", None)
    _around(Transactions, "on_commit", None, "hook")
    _around(Transactions, "finish", None, "committed")


def main() -> None:
    """Run the script; one that hangs says where, and ends."""
    faulthandler.dump_traceback_later(TIMEOUT, exit=True)
    crash_at = os.environ.get("CRASH_AT")
    vfs = CrashingVFS()
    # The script imports this module by its name, and must meet the same counters.
    sys.modules["tests.support.child"] = sys.modules["__main__"]
    if crash_at:
        arm(crash_at)
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
    del vfs


if __name__ == "__main__":
    main()
