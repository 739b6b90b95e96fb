"""A note, outside of file and log, that VACUUM may have changed the file's mode of ``auto_vacuum``.

VACUUM commits by itself, and no hook hears of it, so the mode that it leaves is logged right after it. A process that
is killed in between can no longer do that. So before a VACUUM a file is made in the log's folder, which goes when the
mode is logged. Whoever opens the database next and finds it logs what the file has. Driven by
:mod:`veritydb.vacuuming` before, and :mod:`veritydb.boundaries` after.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from veritydb.errors import LogUnavailable
from veritydb.log.lock import LogBusy
from veritydb.syncing import sync

REMINDER_FILE = "vacuum"
_BEGUN = b"1"
_PAUSE = 0.005


class Reminder:
    """The one of the log in ``folder``; locked while somebody is at work, so that what a dead process left is known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = str(folder / REMINDER_FILE)
        self._fd = -1

    def make(self, timeout: float) -> bool:
        """See that there is one, durably, and ours. Returns whether it was there: a VACUUM was not followed up.

        Raises LogBusy where somebody else is at one for longer than ``timeout``, LogUnavailable if the disk fails.
        """
        deadline = time.monotonic() + timeout
        try:
            while not self._hold(create=True):
                if time.monotonic() >= deadline:
                    raise LogBusy("database is locked: another connection is at VACUUM; nothing was changed")
                time.sleep(_PAUSE)
            if self._begun():
                return True
            os.pwrite(self._fd, _BEGUN, 0)
            os.fsync(self._fd)
            sync(self._folder)
            return False
        except OSError as error:
            raise LogUnavailable(f"VACUUM cannot be noted in {self._path}: {error}; nothing was changed") from error

    def left(self) -> bool:
        """Whether there is one that is ours, or that nobody is at work with: that is ours from now on."""
        try:
            if self._fd < 0 and not self._hold(create=False):
                return False
            begun = self._begun()
        except OSError:
            return False  # This process cannot follow it up; another may.
        if not begun:
            self.remove()  # Its maker died before there was anything to follow up.
        return begun

    def remove(self) -> None:
        """Take it away, if it is ours: what it reminded of is done."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self.release()

    def release(self) -> None:
        """Let others follow it up."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _hold(self, *, create: bool) -> bool:
        """Open and lock it; False if somebody else has it, or has just taken it away, or there is none."""
        self.release()
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            self.release()
            if create and not self._folder.is_dir():
                raise
            return False
        if os.fstat(self._fd).st_nlink == 0:
            self.release()
            return False
        return True

    def _begun(self) -> bool:
        return os.fstat(self._fd).st_size > 0


__all__ = ["REMINDER_FILE", "Reminder"]
