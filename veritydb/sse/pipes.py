"""A client's connection, written to without its task.

An ASGI server takes what is sent through a coroutine, a message and a task that wakes, for each client and each piece;
for a thousand clients of the same text that is more work than the sending itself. Below it lies a transport that takes
bytes. :func:`pipe_of` finds it where the server is uvicorn with httptools, as ``veritydb serve`` has it, and where
nothing stands between: no middleware of another application, which has the right to see each message. Everywhere else
streams are sent by their tasks.
"""

from __future__ import annotations

from typing import Any, Protocol

try:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
except ImportError:  # Another server's environment.
    RequestResponseCycle = None  # type: ignore[assignment,misc]


class Pipe(Protocol):
    """A connection over which an answer in chunks is under way."""

    @property
    def open(self) -> bool:
        """Whether it takes more now: it is there, and what it was given before has mostly gone."""
        ...

    def write(self, framed: bytes, /) -> None:
        """Hand it whole chunks; they are sent soon, and nobody waits."""
        ...


class _Connection:
    __slots__ = ("_cycle", "_flow", "write")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self.write = cycle.transport.write

    @property
    def open(self) -> bool:
        return not (self._flow.write_paused or self._cycle.disconnected or self._cycle.response_complete)


def pipe_of(send: object) -> Pipe | None:
    """Return the connection behind the ``send`` of an answer that has begun; None where only that can send."""
    cycle: Any = getattr(send, "__self__", None)
    if RequestResponseCycle is None or type(cycle) is not RequestResponseCycle or not cycle.chunked_encoding:
        return None
    return _Connection(cycle)


__all__ = ["Pipe", "pipe_of"]
