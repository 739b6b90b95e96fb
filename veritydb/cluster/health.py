"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP, on the node's own event loop.

uvicorn speaks HTTP; what it serves is small enough for a bare ASGI application. An answer is reckoned in half a
millisecond and takes no lock, so the loop that drives the replica can do it between two messages; few connections are
taken at once, and who does not say what they want is cut off.

Nothing here is secret and nothing can be changed, so there is neither TLS nor a password: listen on the loopback
interface, or on a network that only monitors reach.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from veritydb.cluster.config import Address
from veritydb.cluster.listening import listen, take
from veritydb.cluster.metrics import Metrics
from veritydb.cluster.status import State, Status
from veritydb.impatience import Impatient

CONNECTIONS_MAX = 64
REQUEST_SECONDS = 5.0
"""For a connection's first request to arrive."""

_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HealthServer:
    """Serves a node's health from when it is made until it is cancelled."""

    def __init__(self, address: Address, status: Callable[[], Status], metrics: Metrics) -> None:
        """Listen. Raises ConfigurationError."""
        self._status = status
        self._metrics = metrics
        self._listener = take(address)
        listen(self._listener, address, CONNECTIONS_MAX)
        self._server = _Server(
            uvicorn.Config(
                self._app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=75,  # Longer than a monitor pauses.
            )
        )

    async def serve(self) -> None:
        """Answer, until cancelled."""
        await self._server.serve([self._listener])

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    async def _app(self, scope: MutableMapping[str, Any], receive: object, send: _Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, {"error": "only GET and HEAD"}, [(b"allow", b"GET, HEAD")])
        elif scope["path"] == "/metrics":
            await _answer(send, 200, self._metrics.render(), [], self._metrics.content_type)
        elif scope["path"] == "/healthz":
            halted = [found.why for found in self._status().degraded if found.state is State.HALTED]
            await _answer(send, 503 if halted else 200, {"alive": not halted, "why": "; ".join(halted)})
        elif scope["path"] == "/readyz":
            status = self._status()
            await _answer(send, 200 if status.is_ready else 503, status.document())
        else:
            await _answer(send, 404, {"error": "there are /healthz, /readyz and /metrics"})


async def _answer(
    send: _Send,
    code: int,
    body: bytes | dict[str, Any],
    headers: list[tuple[bytes, bytes]] | None = None,
    content_type: str = "application/json",
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
    told = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
        *(headers or []),
    ]
    await send({"type": "http.response.start", "status": code, "headers": told})
    await send({"type": "http.response.body", "body": data})


class _Server(uvicorn.Server):
    """Leaves signals to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Protocol(Impatient, H11Protocol):
    request_seconds = REQUEST_SECONDS
