"""A connection over which nobody says what they want is cut off: what uvicorn leaves to whoever runs it.

uvicorn has a time-out between requests, and none for the first one, so a client that connects and is silent, or sends a
header a minute, stays for ever and counts among the connections that are allowed. :class:`Impatient` goes before one of
uvicorn's HTTP protocols; ``veritydb serve`` (:mod:`veritydb.sse.serving`) and a node's health
(:mod:`veritydb.cluster.health`) each have theirs.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Impatient(asyncio.Protocol):
    """Aborts a connection whose first request has not come in time."""

    loop: asyncio.AbstractEventLoop
    cycle: Any
    """The request that is being answered; None before the first."""
    transport: Any

    request_seconds = 10.0
    """For the head of a connection's first request."""
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.request_seconds, self._lose_patience)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _lose_patience(self) -> None:
        # A connection that has become a WebSocket has another protocol by now.
        if self.cycle is None and self.transport.get_protocol() is self:
            self.transport.abort()


__all__ = ["Impatient"]
