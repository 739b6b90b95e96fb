"""Waiting until a log may have grown: woken by this process's commits, and by the file system for those of others.

The feed's thread waits here. On Linux the kernel tells of every write to the log's files (inotify(7), through
asyncinotify); the write of a record is told of when it is durable, because it is one synchronous write. Where there is
no such notification, or no more instances of it, the feed looks every :data:`POLL` seconds instead, and says so in
:attr:`Waiter.how`. What wakes is never believed: the log is.
"""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncinotify import Watch

POLL = 0.05
"""Seconds between looks where nothing notifies."""
CHECK = 1.0
"""Seconds between looks where something does: for a folder that was moved, and for an append that a crash left."""
INOTIFY, POLLING, NOTHING = "inotify", "poll", "process"

_DRAIN = 1 << 16
_LINGER_MS = 0.3
_LINGER_COUNT = 64


class Waiter:
    """Waits for one log. ``wake`` may be called from any thread; all else is for the one that waits."""

    def __init__(self, folder: str | None, *, how: str | None = None) -> None:
        """``folder`` is None for a log in memory, which only this process writes; ``how`` forces "poll"."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)
        self._own = select.poll()
        self._own.register(self._read, select.POLLIN)
        self._inotify: Any = None  # An Inotify; its methods take a PathLike of unknown type.
        self._folder_watch: Watch | None = None
        self._watch: Watch | None = None
        self._watched = ""
        self._closed = False
        self._linger = 0
        """More than zero if this process has committed lately."""
        self.how = NOTHING if folder is None else POLLING
        if folder is not None and how is None and sys.platform == "linux":
            self._begin(folder)

    def wake(self) -> None:
        """Let the wait end now."""
        try:
            os.write(self._write, b"\0")
        except (BlockingIOError, OSError):
            pass  # It is full, so the wait ends anyway; or closed, so nobody waits.

    def follow(self, path: str) -> bool:
        """Watch this file from now on: the segment in which the next record will stand.

        Returns whether it was not watched before: then something may have been written that nobody was told of.
        """
        if self._inotify is None or path == self._watched:
            return False
        from asyncinotify import Mask

        self._unwatch()
        try:
            self._watch = self._inotify.add_watch(path, Mask.MODIFY)
        except OSError:
            return False  # It is gone: the feed will find that, too, and looks again after CHECK.
        self._watched = path
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Return when something may have been written, at the latest after ``timeout`` seconds."""
        if timeout is None:
            timeout = {INOTIFY: CHECK, POLLING: POLL, NOTHING: 60.0}[self.how]
        ready = self._poll.poll(timeout * 1000)
        own = any(fd == self._read for fd, _ in ready)
        if own:
            self._linger = _LINGER_COUNT
        elif ready and self._linger:
            # A record was written, and perhaps by this process, which then will say so as soon as its rows are in the
            # file. To look before that would be in vain, and in the way of the thread that commits.
            self._linger -= 1
            self._own.poll(_LINGER_MS)
        self._drain()

    def sleep(self) -> None:
        """Return when :meth:`wake` is called; whatever is written meanwhile, which then costs who writes nothing."""
        self._unwatch()
        self._own.poll()
        self._drain()

    def close(self) -> None:
        """Give the descriptors back. Nobody may be waiting."""
        if self._closed:
            return
        self._closed = True
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._read)
        os.close(self._write)

    def _drain(self) -> None:
        """Forget what woke us, all of it."""
        try:
            while len(os.read(self._read, _DRAIN)) == _DRAIN:
                pass
        except BlockingIOError:
            pass
        if self._inotify is not None:
            while self._inotify.sync_get() is not None:
                pass

    def _begin(self, folder: str) -> None:
        try:
            from asyncinotify import InitFlags, Inotify, Mask

            self._inotify = Inotify(flags=InitFlags.CLOEXEC | InitFlags.NONBLOCK, sync_timeout=0)
        except (ImportError, OSError):
            return  # Not installed, or no instance left (fs.inotify.max_user_instances).
        try:
            mask = Mask.MOVED_TO | Mask.MOVE_SELF | Mask.DELETE_SELF
            self._folder_watch = self._inotify.add_watch(folder, mask)
        except OSError:
            self._inotify.close()
            self._inotify = None
            return
        self._poll.register(self._inotify.fd, select.POLLIN)
        self.how = INOTIFY

    def _unwatch(self) -> None:
        watch, self._watch, self._watched = self._watch, None, ""
        if watch is not None:
            try:
                self._inotify.rm_watch(watch)
            except (OSError, KeyError):
                pass  # The file is gone, and its watch with it.


__all__ = ["CHECK", "INOTIFY", "NOTHING", "POLL", "POLLING", "Waiter"]
