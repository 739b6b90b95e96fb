"""What keeps a file current with what other machines commit: one thread for each shared database of a process.

It asks a node for what comes next in the stream and waits there for it, holding nothing; and when something came, it
does under the usual locks what any connection does that finds the log ahead of its file. Readers wait for nobody (WAL).
Of several processes with the same file one follows, which a lock in the log's folder decides; the others wait to take
its place. A connection that opens a shared database calls :func:`follow`; the thread ends when none has been open for a
while, or with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import threading
import time
import weakref
from collections.abc import Generator
from typing import Any

import apsw

from veritydb import errors
from veritydb.cluster.group_log import GroupLog
from veritydb.cluster.shared import SharedStream
from veritydb.log.lock import LogBusy
from veritydb.log.tailing import Tail
from veritydb.session import Session
from veritydb.transaction import busy

log = logging.getLogger("veritydb.follower")

LOCK_FILE = "follower"
WAIT = 2.0
"""Seconds for which a node is asked to wait for a record; then it is asked whether there was none."""
GRACE = 0.002
"""Seconds that a writer of this machine gets to write here what it has just committed."""
WRITING = 0.05
"""Seconds without a record of this machine after which a node is asked again what others have written."""
IDLE = 30.0
"""Seconds without an open connection after which the thread ends."""
PAUSE = (0.05, 2.0)
"""Seconds until a cluster that does not answer is asked again: at first, and at most."""


class Follower:
    """Follows one stream into one file."""

    def __init__(self, path: str, folder: str, shared: SharedStream, key: Any, register: Any) -> None:
        self._path = path
        self._folder = folder
        self._shared = shared
        self._key = key
        self._register = register
        self._users: weakref.WeakSet[Session] = weakref.WeakSet()
        self._stopping = threading.Event()
        self.following = False
        """Whether this process is the one of the machine that follows."""
        self.problem: str | None = None
        """Why the file is not kept current just now."""
        self._asking = shared.client.another()
        self.thread = threading.Thread(target=self._run, name=f"veritydb-follower {path}", daemon=True)

    def use(self, session: Session) -> None:
        """Go on at least as long as this session is open."""
        self._users.add(session)

    def stop(self, timeout: float = 5.0) -> None:
        """End, and wait for the end."""
        self._stopping.set()
        self._asking.interrupt()
        if self.thread is not threading.current_thread():
            self.thread.join(timeout)

    # Inside

    def _run(self) -> None:
        try:
            with self._alone() as alone:
                if alone:
                    self._follow()
        except Exception:
            log.exception("%s is not kept current any more", self._path)
            self.problem = "the follower has failed; the log of this program says why"
        finally:
            self.following = False
            self._asking.close()
            _forget(self)

    @contextlib.contextmanager
    def _alone(self) -> Generator[bool]:
        """Wait until no other process follows."""
        fd = os.open(f"{self._folder}/{LOCK_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not self._over():
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._stopping.wait(0.25)
                    continue
                self.following = True
                yield True
                return
            yield False
        finally:
            os.close(fd)

    def _follow(self) -> None:
        session = Session.open(
            self._path, key=self._key, register=self._register, shared=self._shared, isolation_level=None, timeout=1.0
        )
        tail = Tail(self._folder)
        pause = PAUSE[0]
        try:
            session.keep_registering(self._register)
            while not self._over():
                try:
                    self._step(session, tail)
                except (errors.OperationalError, apsw.Error) as error:
                    if not busy(error) and not self._stopping.is_set():
                        if self.problem is None:
                            log.warning("%s is not kept current: %s", self._path, error)
                        self.problem = str(error)
                        self._stopping.wait(pause)
                        pause = min(2 * pause, PAUSE[1])
                else:
                    if self.problem is not None:
                        log.info("%s is kept current again", self._path)
                    self.problem, pause = None, PAUSE[0]
        finally:
            tail.close()
            session.close()

    def _step(self, session: Session, tail: Tail) -> None:
        while tail.advance(1000):
            pass
        head = tail.head
        fetched = self._asking.fetch(self._shared.stream, head.next_offset, head.hash, timeout=WAIT + 1.0, wait=WAIT)
        if self._stopping.is_set():
            return
        # A node that is cut off, or far behind, has nothing to say, either. This asks the primary, and whoever has the
        # answer is who is asked for records from now on.
        if not fetched.records and self._asking.end(self._shared.stream, timeout=WAIT) is None:
            raise errors.OperationalError(f"the cluster has no such stream {self._shared.name!r} any more")
        if fetched.records:
            group_log = session.stream.log
            assert isinstance(group_log, GroupLog)
            if self._came(tail, group_log, fetched.next_offset):
                self._rest(tail)
                return
            group_log.offer(fetched.records)
            self._catch_up(session)
        elif session.applied() < tail.head.next_offset:
            self._catch_up(session)  # A process died between the log and the file.

    def _came(self, tail: Tail, group_log: GroupLog, next_offset: int) -> bool:
        """Whether it is here by now: the commits of this machine come back to it like everybody's.

        Whoever holds the log's lock is about to commit. Asking for SQLite's lock beside him would make the next writer
        meet it taken, and wait for longer than this takes.
        """
        deadline = time.monotonic() + GRACE
        while not self._stopping.is_set():
            while tail.advance(1000):
                pass
            if tail.head.next_offset >= next_offset:
                return True
            if time.monotonic() >= deadline and _is_free(group_log):
                while tail.advance(1000):
                    pass
                return tail.head.next_offset >= next_offset
            time.sleep(GRACE / 4)
        return True

    def _rest(self, tail: Tail) -> None:
        """Wait for as long as this machine is writing the stream itself, and ask nobody meanwhile.

        The group takes a record only at the stream's end: each that is written here says that nobody else has written
        before it. Asking would cost a node and this machine a question and an answer for every commit.
        """
        while not self._over():
            self._stopping.wait(WRITING)
            if not tail.advance(1000):
                return

    def _catch_up(self, session: Session) -> None:
        while True:
            try:
                session.catch_up()
                return
            except (errors.OperationalError, apsw.Error) as error:
                # A long transaction of this machine; what it has read is older than what came, as it will learn.
                if not busy(error) or self._stopping.is_set():
                    raise

    def _over(self) -> bool:
        if self._stopping.is_set():
            return True
        if len(self._users):
            self._idle_since = None
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since > IDLE

    _idle_since: float | None = None


def _is_free(group_log: GroupLog) -> bool:
    try:
        group_log.acquire(0)
    except LogBusy:
        return False
    group_log.release()
    return True


_followers: dict[tuple[str, int], Follower] = {}
_lock = threading.Lock()


def follow(session: Session, shared: SharedStream, *, key: Any, register: Any) -> Follower | None:
    """See that the file of ``session`` is kept current while it is open. None: it only reads a file as it is."""
    stream = session.stream
    if stream.folder is None or stream.read_only:
        return None
    with _lock:
        where = (str(stream.folder), os.stat(stream.folder).st_ino)
        follower = _followers.get(where)
        if follower is None:
            follower = _followers[where] = Follower(stream.path, str(stream.folder), shared, key, register)
            follower.use(session)
            follower.thread.start()
        else:
            follower.use(session)
        return follower


def stop_all() -> None:
    """End all followers of this process, as its end does."""
    for follower in list(_followers.values()):
        follower.stop()


def _forget(follower: Follower) -> None:
    with _lock:
        for where, known in list(_followers.items()):
            if known is follower:
                del _followers[where]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _followers.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(stop_all)
