"""Waiting until a log may have grown: woken by this process's commits, and by the file system for those of others.

Whoever reads a feed's log waits here. On Linux the kernel tells of every write to the log's files (inotify(7), through
asyncinotify); the write of a record is told of when it is durable, because it is one synchronous write. Where there is
no such notification, or no more instances of it, the reader looks every :data:`POLL` seconds instead, and says so in
:attr:`Waiter.how`. What wakes is never believed: the log is.

Waking somebody costs who commits, so it is done once: until the reader has woken, a second commit of this process only
looks at a flag, and the kernel adds the writes of others to a word that is waiting already. And a reader that has just
been woken looks again after :data:`PACE` at the soonest: commits that come faster than that are read together, and only
one of them wakes it. Where this process commits, reading costs who commits Python's lock: if another commit has come
before the last ones were read, the reader rests first, in proportion to what it has read (:data:`REST_SHARE`). A commit
that comes alone is read at once.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncinotify import Watch

POLL = 0.05
"""Seconds between looks where nothing notifies."""
CHECK = 1.0
"""Seconds between looks where something does: for a folder that was moved, and for an append that a crash left."""
PACE = 0.001
"""Seconds between being woken and being woken again, at the least."""
REST_SHARE = 4
"""A reader that this process's commits have overtaken rests so many times as long as it has read,"""
REST_MAX = 0.005
"""and at most so many seconds."""
INOTIFY, POLLING, NOTHING = "inotify", "poll", "process"

_DRAIN = 1 << 16
_LINGER_MS = 1
_LINGER_COUNT = 64
_POLL_MIN = 0.001
"""poll(2) counts milliseconds, and a shorter time-out becomes a whole one."""


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
        self._due = False
        """Whether a byte is on its way: then one more would tell nothing."""
        self._gate = threading.Lock()
        """Against writing to a descriptor that has been closed, and may be another file's by then."""
        self._woken = 0, 0.0, 0.0
        """Who was woken last, when, and how much CPU time that thread had used."""
        self._closed = False
        self._linger = 0
        """More than zero if this process has committed lately."""
        self.how = NOTHING if folder is None else POLLING
        if folder is not None and how is None and sys.platform == "linux":
            self._begin(folder)

    def wake(self) -> None:
        """Let the wait end now, or the next one if nobody waits."""
        if self._due:
            return  # Whoever sees the flag fall looks at the log after that, and so finds what we speak of.
        with self._gate:
            if not self._due:
                self._due = True
                os.write(self._write, b"\0")

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
        most = {INOTIFY: CHECK, POLLING: POLL, NOTHING: 60.0}[self.how]
        if timeout is not None and timeout < _POLL_MIN:
            time.sleep(max(0.0, timeout))
            return
        me = threading.get_ident()
        who, woken_at, woken_cpu = self._woken
        rested = woken_at + PACE
        if who == me and self._due and self._linger:
            # Commits come faster than they are read. In CPU time: what its thread has slept through costs nobody.
            rest = min(REST_SHARE * (time.thread_time() - woken_cpu), REST_MAX)
            rested = max(rested, time.monotonic() + rest)
        ready = self._poll.poll(min(most, most if timeout is None else timeout) * 1000)
        own = any(fd == self._read for fd, _ in ready)
        if own:
            self._linger = _LINGER_COUNT
        elif ready and self._linger:
            # A record was written, and perhaps by this process, which then will say so as soon as its rows are in the
            # file. To look before that would be in vain, and in the way of the thread that commits.
            self._linger -= 1
            self._own.poll(_LINGER_MS)
        if ready:
            early = rested - time.monotonic()
            if early > 0:
                time.sleep(early)
            self._woken = me, time.monotonic(), time.thread_time()
            self._drain()

    def close(self) -> None:
        """Give the descriptors back. Nobody may be waiting."""
        with self._gate:
            if self._closed:
                return
            self._closed = self._due = True
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._read)
        os.close(self._write)

    def __del__(self) -> None:
        # Of a feed that nobody closed: its thread was the last to know this.
        if hasattr(self, "_closed"):
            self.close()

    def _drain(self) -> None:
        """Forget what woke us, all of it."""
        try:
            while len(os.read(self._read, _DRAIN)) == _DRAIN:
                pass
        except BlockingIOError:
            pass
        self._due = False
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


__all__ = ["CHECK", "INOTIFY", "NOTHING", "PACE", "POLL", "POLLING", "Waiter"]
