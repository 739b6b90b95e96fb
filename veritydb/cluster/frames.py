"""One TLS connection of a node: frames come in, frames go out.

The event loop calls in here, and what was given for it is called at once: no task, no queue and no coroutine stands
between bytes that arrive and the replica's step. A commit is a dozen messages, and each of those costs more than the
step does (``docs/internals/cluster-cost.md``).

What is to be sent is gathered, and goes out with :meth:`Frames.flush`, all in one TLS record if it fits: a node flushes
when all that has arrived has been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from veritydb.vsr.wire import FRAME_SIZE, Dropped, message_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

QUEUE_MAX = 16 << 20
"""Bytes that wait to be sent on one connection."""


class Frames(asyncio.Protocol):
    """One connection.

    ``filled`` is called when something waits that did not before; ``heard`` with each frame and its message, as bytes;
    ``unheard`` when what arrives is no frame. Then the connection ends: where the next one begins, nobody can tell.
    """

    def __init__(
        self,
        filled: Callable[[Frames], object],
        heard: Callable[[Frames, bytes], object],
        unheard: Callable[[Dropped], object],
    ) -> None:
        self._filled = filled
        self._heard = heard
        self._unheard = unheard
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_full = False
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = FRAME_SIZE
        self.lost = asyncio.Event()
        """Whether the connection has ended."""

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """What the other side has shown, as :meth:`ssl.SSLSocket.getpeercert` gives it."""
        return None if self._transport is None else self._transport.get_extra_info("peercert")

    def put(self, data: bytes) -> bool:
        """Add a frame to what is to be sent; False if there is no room for it, or nobody to send it to."""
        if self._transport is None:
            return False
        waiting = self._waiting
        if not waiting:
            self._filled(self)
        elif self._size + len(data) > QUEUE_MAX:
            return False
        waiting.append(data)
        self._size += len(data)
        return True

    def flush(self) -> None:
        """Send what waits, unless the other side is slow: then it goes when there is room."""
        waiting = self._waiting
        if self._is_full or not waiting or self._transport is None:
            return
        data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        waiting.clear()
        self._size = 0
        self._transport.write(data)

    def hang_up(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._transport = None
        self._waiting.clear()
        self._size = 0
        self._pieces.clear()
        self.lost.set()

    def pause_writing(self) -> None:
        """Keep here what is to be sent."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._is_full = False
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Find the frames in what has arrived."""
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return  # Of a large message, the pieces are put together once.
            data = b"".join(self._pieces)
            self._pieces.clear()
        at, end = 0, len(data)
        while True:
            need = FRAME_SIZE
            if end - at >= need:
                try:
                    need += message_size(data[at : at + FRAME_SIZE])
                except Dropped as dropped:
                    self._unheard(dropped)
                    self.hang_up()
                    return
                if end - at >= need:
                    self._heard(self, data[at : at + need])
                    if self._transport is None or self._transport.is_closing():
                        return
                    at += need
                    continue
            if at < end:
                self._pieces.append(data[at:] if at else data)
            self._have, self._need = end - at, need
            return
