"""One client's stream: what it is sent, in which order, and when it ends.

:meth:`Stream.pieces` is driven by whoever sends: an endpoint, a Django view. What comes to all streams at once the hub
sends itself while a stream is idle (:meth:`veritydb.sse.hub.Hub.idle`), if its connection can be written to (``pipe``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from veritydb.errors import Error
from veritydb.sse.callers import Caller
from veritydb.sse.messages import View, problem_text, ready_message, resync_message
from veritydb.sse.pieces import Texts
from veritydb.sse.pipes import Pipe
from veritydb.sse.problems import Problem
from veritydb.subscriptions.updates import Resync

if TYPE_CHECKING:
    from veritydb.sse.hub import Hub

log = logging.getLogger("veritydb.sse")

HEARTBEAT = b":\n\n"


class Stream:
    """One client's stream."""

    def __init__(self, hub: Hub, caller: Caller, view: View) -> None:
        self.hub = hub
        self.caller = caller
        self.view = view
        self.receiver: Texts | None = None
        self.pipe: Pipe | None = None
        """Its client's connection, if the hub may write to it."""
        self.touched = time.monotonic()
        """When something was last sent, or was begun to be sent."""
        self.sending = False
        self.cut = False
        """Whether something before its beginning is missing."""
        self.aligned = False
        """Whether it has seen all of each slot of the ring, or nothing."""
        self.error: Exception | None = None
        """What the hub met when it took something for this stream."""
        self.snapshot_since: float | None = None
        """When it began to read a snapshot, while it does."""
        self._task: asyncio.Task[Any] | None = None

    @property
    def expired(self) -> bool:
        """Whether the caller's key or token has expired."""
        expires = self.caller.expires
        return expires is not None and time.time() >= expires

    @property
    def silent(self) -> bool:
        """Whether nothing was sent for so long that a heartbeat is due."""
        return time.monotonic() - self.touched >= self.hub.settings.heartbeat_seconds

    @property
    def slow(self) -> bool:
        """Whether a snapshot takes too long, and its client keeps the file from being cut back."""
        since = self.snapshot_since
        return since is not None and time.monotonic() - since > self.hub.settings.snapshot_seconds

    def touch(self) -> None:
        """Note that something was sent."""
        self.touched = time.monotonic()

    def begin_sending(self) -> None:
        """Note that something is being sent, until :attr:`sending` is taken back."""
        self.touched = time.monotonic()
        self.sending = True

    def give_up(self) -> None:
        """End it from outside: its client takes nothing."""
        if self._task is not None:
            self._task.cancel()

    async def pieces(self) -> AsyncIterator[bytes | Problem]:
        """Yield text as it comes; nothing (``b""``) where a heartbeat is due; a Problem is the last."""
        receiver, hub = self.receiver, self.hub
        assert receiver is not None, "the hub made one"
        self._task = asyncio.current_task()
        if not receiver.in_snapshot:
            yield ready_message(receiver.cursor).sse
        if self.cut:
            why = "the stream goes on with what is committed from now on: this role may not ask what was"
            yield resync_message(Resync(cursor=receiver.cursor, why=why), resumable=not receiver.snapshot).sse
        while True:
            grown = hub.grown
            if hub.ending is not None:
                yield Problem("unavailable", hub.ending)
                return
            if self.expired:
                yield Problem("token-expired")
                return
            if receiver.in_snapshot and not hub.may_snapshot(self):
                if self.silent:
                    yield b""
                else:
                    await grown.wait()
                continue
            if self.slow:
                yield Problem("too-slow", "the snapshot was not taken in time; ask for less of it")
                return
            try:
                if self.error is not None:
                    raise self.error
                if receiver.behind:
                    await asyncio.to_thread(receiver.read)
                    if not receiver.in_snapshot:
                        hub.end_snapshot(self)
                piece = hub.take(self, receiver)
            except Error as error:
                log.warning("a stream ends: %s", error)
                yield Problem("unavailable")
                return
            except Exception:
                log.exception("a stream failed")
                yield Problem("internal")
                return
            if piece.sse:
                yield piece.sse
                if piece.complete and not receiver.behind:
                    await hub.idle(self, grown)  # What has come meanwhile comes with a pulse.
            elif receiver.behind:
                continue
            elif self.silent:
                yield b""
            else:
                await hub.idle(self, grown)


def retry_text(stream: Stream) -> bytes:
    """Return what an event stream begins with: how long a browser waits before it connects again."""
    return b"retry: %d\n\n" % stream.hub.settings.retry_ms


def text_of(piece: bytes | Problem) -> bytes:
    """Return what :meth:`Stream.pieces` has yielded as an event stream has it."""
    return problem_text(piece) if isinstance(piece, Problem) else piece or HEARTBEAT


__all__ = ["HEARTBEAT", "Stream", "retry_text", "text_of"]
