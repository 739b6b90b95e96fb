"""What a process asks of a group: sessions, lent to whoever has something to ask.

A connection's commit waits for a quorum in its own thread, and so needs a :class:`~veritydb.cluster.session.Session` to
itself for as long; beginning one costs a handshake and a commit of the group. So a process keeps those that are free.
Used by the log of a shared stream (:mod:`veritydb.cluster.group_log`), by its follower, and by readers who want to see
everything that was committed before they asked.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from veritydb import kernel
from veritydb.chain import ZERO_HASH
from veritydb.cluster.session import Group, Session, SessionEnded
from veritydb.errors import ConfigurationError, GroupUnavailable
from veritydb.vsr.messages import FetchedRecords

IDLE_MAX = 16
"""Sessions that a process keeps."""
PAUSE = 0.02
FETCH_BYTES = 4 << 20
RECORD_MAX = kernel.COMMAND_MAX - 1024
"""Bytes of a record that can go through a group: it is one op."""
PLACEMENT = kernel.Placement(kernel.DataClass.NON_PHI, "")
"""Of a stream that a first connection makes; ``veritydb streams create`` says otherwise."""

_T = TypeVar("_T")


class Client:
    """One process's way to one group. For any number of threads."""

    linearizable = True
    record_max = RECORD_MAX

    def __init__(self, group: Group) -> None:
        self.group = group
        self._idle: list[Session] = []
        self._asking: set[Session] = set()
        self._stopped = False
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def append(self, record: bytes, *, timeout: float) -> kernel.Reply:
        """Have a record appended. Returns what became of it; raises GroupUnavailable if no node says.

        Sending a record twice appends it once: its transaction's id says that it is the same. NotPermitted says that
        nothing was done.
        """
        return self._command(kernel.encode_append((), record), timeout)

    def resolve(self, stream: bytes, identity: bytes, since: int, *, timeout: float) -> kernel.Reply:
        """Ask whether a transaction is committed; if not, it never will be. Raises GroupUnavailable."""
        return self._command(kernel.encode_command(kernel.Resolve(stream, identity, since)), timeout)

    def command(self, command: kernel.Command, *, timeout: float) -> kernel.Reply:
        """Have any other command carried out, of those that may be carried out twice. Raises GroupUnavailable."""
        return self._command(kernel.encode_command(command), timeout)

    def create(self, stream: bytes, name: str, *, timeout: float) -> None:
        """Make a stream, unless it is there. Raises GroupUnavailable, ConfigurationError if it was dropped."""
        known_by = "" if stream.hex() == name else name
        reply = self.command(kernel.CreateStream(stream, PLACEMENT, known_by), timeout=timeout)
        known = kernel.Refused(kernel.Refusal.STREAM_EXISTS)  # Somebody has just made it, with another placement.
        if reply == kernel.Refused(kernel.Refusal.STREAM_DROPPED):
            raise ConfigurationError(
                f"the stream {name!r} was dropped; its name is not used again. Nothing was written"
            )
        if not isinstance(reply, kernel.Created) and reply != known:
            raise GroupUnavailable(f"stream {name!r} could not be made: {reply}; nothing was written")

    def end(self, stream: bytes, *, timeout: float) -> tuple[int, bytes] | None:
        """Return where a stream ends, counting all that was committed before this call; None: there is none."""
        return self._with(lambda session: session.read_head(stream, timeout=timeout))

    def fetch(
        self, stream: bytes, first_offset: int, last_hash: bytes = ZERO_HASH, *, timeout: float, wait: float = 0.0
    ) -> FetchedRecords:
        """Return records from ``first_offset`` on that stand behind the one with ``last_hash``."""
        return self._with(
            lambda session: session.fetch(
                stream, first_offset, last_hash, bytes_max=FETCH_BYTES, timeout=timeout, wait=wait
            )
        )

    @property
    def cluster(self) -> bytes:
        """The group's id."""
        return self.group.cluster

    def another(self) -> Client:
        """Return one with sessions of its own."""
        return Client(self.group)

    def interrupt(self) -> None:
        """Hang up on what is being asked now, in other threads, and ask nothing any more."""
        self._stopped = True
        with self._lock:
            asking = list(self._asking)
        for session in asking:
            session.interrupt()

    def take(self) -> Session:
        """Return a session for the caller alone; :meth:`give` it back, or close it."""
        if os.getpid() != self._pid:
            # A forked child has its parent's list, and a lock that a thread of the parent may hold.
            self._pid, self._lock, self._idle, self._asking = os.getpid(), threading.Lock(), [], set()
        if self._stopped:
            raise GroupUnavailable("the client of the cluster is closed")
        with self._lock:
            session = self._idle.pop() if self._idle else Session(self.group)
            self._asking.add(session)
            return session

    def give(self, session: Session) -> None:
        """Give a session back."""
        with self._lock:
            self._asking.discard(session)
            if len(self._idle) < IDLE_MAX:
                self._idle.append(session)
                return
        session.close()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _with(self, ask: Callable[[Session], _T]) -> _T:
        session = self.take()
        try:
            answer = ask(session)
        except BaseException:
            with self._lock:
                self._asking.discard(session)
            session.close()  # What it is waiting for may still come, and must not answer something else.
            raise
        self.give(session)
        return answer

    def _command(self, command: bytes, timeout: float) -> kernel.Reply:
        deadline = time.monotonic() + timeout
        asked = False
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GroupUnavailable("the cluster is busy, and was so for as long as one was willing to wait")
            try:
                reply = self._with(lambda session: session.send(command, timeout=left))  # noqa: B023  called at once
            except SessionEnded:
                asked = True
                continue  # In a new one: the id of a transaction tells the group that it is the same.
            except GroupUnavailable as error:
                error.asked |= asked
                raise
            asked = True
            if reply != _BUSY:
                return reply
            time.sleep(min(PAUSE, left))


_BUSY = kernel.Refused(kernel.Refusal.BUSY)
