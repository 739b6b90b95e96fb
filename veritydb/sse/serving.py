"""``veritydb serve``: uvicorn, with what a server of streams needs beside it.

* Streams do not end by themselves, so before uvicorn waits for its connections they are told to: each sends its client
  the word to come back, and closes.
* A client that takes nothing is cut off by the kernel (``TCP_USER_TIMEOUT``), which also frees what was queued for it;
  one that never finishes its first request is cut off by us.
* What leaves this machine is encrypted, or somebody has said that a proxy does it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from veritydb.errors import ConfigurationError
from veritydb.impatience import Impatient
from veritydb.sse.service import Service

REQUEST_SECONDS = 10.0
"""For the head of a connection's first request."""
END_SECONDS = 5.0
"""For requests to be answered when the server ends."""
_BACKLOG = 2_048
_MORE_CONNECTIONS = 256
"""Beside the streams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens, and how what it sends is protected."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: any that is free."""
    certificate: Path | None = None
    certificate_key: Path | None = None
    behind_proxy: bool = False
    """A proxy on the way does TLS; its X-Forwarded headers are believed if it is on this machine."""

    def check(self) -> None:
        """Raise ConfigurationError for what would send data in clear over a network."""
        if (self.certificate is None) != (self.certificate_key is None):
            raise ConfigurationError("--tls-certificate and --tls-key go together; nothing was started")
        if self.certificate is None and not self.behind_proxy and not _is_loopback(self.host):
            raise ConfigurationError(
                f"{self.host} can be reached from other machines, and what it serves would travel in clear. Give "
                "--tls-certificate and --tls-key, or --behind-proxy if a proxy does TLS; nothing was started"
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(app: Starlette, address: Address, *, started: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT. ``started`` is called with the URL. Raises ConfigurationError."""
    address.check()
    service: Service = app.state.service
    # The command line lets a closed pipe end it, as other programs do. A client that goes must not end a server.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    listener = _listen(address, service.settings.streams.stall_seconds)
    try:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=address.behind_proxy,
            forwarded_allow_ips="127.0.0.1,::1",
            timeout_graceful_shutdown=int(END_SECONDS),
            limit_concurrency=service.settings.streams.streams_max + _MORE_CONNECTIONS,
            ws_max_size=64 << 10,
            ssl_certfile=None if address.certificate is None else str(address.certificate),
            ssl_keyfile=None if address.certificate_key is None else str(address.certificate_key),
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the certificate cannot be used: {error}; nothing was started") from error
        scheme = "http" if address.certificate is None else "https"
        host = f"[{address.host}]" if ":" in address.host else address.host
        url = f"{scheme}://{host}:{listener.getsockname()[1]}"
        server = _Server(config, service, lambda: started(url))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(server.serve([listener]))
    finally:
        listener.close()


def _listen(address: Address, stall_seconds: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without it a connection whose client does not read stays for as long as its machine
        # answers, with what was queued for it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_seconds * 1000))
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{address.host}:{address.port} cannot be listened on: {error.strerror}") from error
    return listener


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], object]) -> None:
        super().__init__(config)
        self._service = service
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.hub.end("the server is ending; come back")
        await super().shutdown(sockets)


class _Protocol(Impatient, HttpToolsProtocol):
    request_seconds = REQUEST_SECONDS


# uvicorn calls it an error if a stream ends because its client has gone, or a WebSocket is refused with a problem: any
# stranger could fill a log with that.
logging.getLogger("uvicorn.error").addFilter(lambda record: "returned without completing" not in record.getMessage())
