"""One connection to NATS: a question is asked until it is answered, or the time is over.

The client library speaks the protocol; what it would do by itself when a connection breaks is done here, because the
answer differs. The library keeps what is published meanwhile and sends it later, when the caller has long given up; and
it goes on in clear text, with the password, where a server does not ask for TLS. So it is told not to reconnect, and
a question that is not answered is asked again of the next server. Every question may be repeated: an append has an id.

The library's errors end here: what comes out is ours, or :class:`Refused`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from veritydb.errors import ConfigurationError, GroupUnavailable, NotPermitted
from veritydb.nats import loop
from veritydb.nats.config import NatsConfig

PATIENCE = (1.0, 4.0)
"""Seconds that one question is given to be answered before it is asked again: at first, and at most."""
CONNECT_SECONDS = 1
PAUSE = 0.02
GRACE = 1.0
"""Seconds after which a question is given up that should have been answered or have failed by itself."""
_NOT_ENABLED = (10039, 10076)
_STORE_FAILED = 10077

_T = TypeVar("_T")


class Refused(Exception):
    """JetStream has answered, and the answer is no."""

    def __init__(self, error: APIError, *, uncertain: bool) -> None:
        super().__init__(error.description or f"error {error.err_code}")
        self.code = error.err_code or 0
        self.uncertain = uncertain
        """Whether the same question, asked before, may have been answered with yes."""


class _Broken(Exception):
    """The connection is gone, or never was."""


class _Client(Client):
    tls_demanded = False
    broken: asyncio.Future[None]
    """Done when the client is no longer of use, or has been told that it may not do something.

    It is the client's own: the library says late of one that was given up that it is closed.
    """

    def renew(self) -> None:
        """Begin to wait for the next bad news."""
        self.broken = asyncio.get_running_loop().create_future()
        self.broken.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def lose(self) -> None:
        """Take note that it is closed."""
        if not self.broken.done():
            self.broken.set_exception(_Broken("the connection was lost"))

    async def hear(self, error: Exception) -> None:
        """Take note of what the server complains of; only a permission is a question's business."""
        if "permissions violation" in str(error).lower():
            broken = self.broken
            if broken.done():
                return
            self.renew()
            broken.set_exception(NotPermitted(f"{str(error).removeprefix('nats: ')}; nothing was written"))

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # The first that a server says, and before anything is said to it.
        if initial_connection and self.tls_demanded and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        await super()._process_info(info, initial_connection=initial_connection)


class Link:
    """For any number of threads, through :meth:`wait`; all else runs in the loop's thread."""

    def __init__(self, config: NatsConfig) -> None:
        self.config = config
        self._start()

    def _start(self) -> None:
        self._client: _Client | None = None
        self._servers = list(self.config.servers)
        self._dialling: asyncio.Lock | None = None
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._stopped = False
        self._pid = os.getpid()

    # For other threads

    def wait(self, ask: Callable[[], Awaitable[_T]], seconds: float) -> _T:
        """Run what ``ask`` returns in the loop's thread, and return what came of it in about so many seconds."""
        if os.getpid() != self._pid:
            self._start()  # A forked child has its parent's connection and may not use it.
        if self._stopped:
            raise GroupUnavailable("the connection to NATS is closed")

        async def asked() -> _T:
            return await ask()

        future = loop.begin(asked())
        self._waiting.add(future)
        if self._stopped:
            future.cancel()  # By another thread, which did not see this question.
        try:
            return loop.wait(future, seconds + GRACE)
        except TimeoutError:
            raise GroupUnavailable("NATS has not answered in time (silence)") from None
        except concurrent.futures.CancelledError:
            raise GroupUnavailable("the question to NATS was interrupted") from None
        finally:
            self._waiting.discard(future)

    def interrupt(self) -> None:
        """Let what is being asked fail, now and from now on."""
        self._stopped = True
        for future in list(self._waiting):
            future.cancel()

    def close(self) -> None:
        """Hang up; the next question dials again."""
        if self._client is None or os.getpid() != self._pid:
            return
        with contextlib.suppress(Exception):
            loop.begin(self._hang_up()).result(CONNECT_SECONDS)

    # In the loop's thread

    async def ask(self, question: Callable[[Client, float], Awaitable[_T]], *, subject: str, deadline: float) -> _T:
        """Return the answer to a question; it gets the client, and how many seconds it may take.

        Raises GroupUnavailable, NotPermitted, ConfigurationError, and :class:`Refused`.
        """
        last: object = "silence"
        patience = PATIENCE[0]
        uncertain = False
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GroupUnavailable(f"NATS has not answered in time ({last})")
            sent = False
            try:
                client = await self.connected(deadline)
                sent = True
                return await self._attempt(client, question(client, min(left, patience)), subject)
            except NotPermitted as error:
                if uncertain:
                    raise GroupUnavailable(f"NATS refused, but may have done before what was asked: {error}") from None
                raise
            except (NoStreamResponseError, nats.errors.NoRespondersError) as error:
                last = error  # Nobody is there who could have done it.
            except APIError as error:
                if error.err_code in _NOT_ENABLED:
                    raise ConfigurationError(
                        f"JetStream is not enabled at {self.config}; nothing was written"
                    ) from None
                if error.err_code == _STORE_FAILED or not isinstance(error, ServiceUnavailableError):
                    raise Refused(error, uncertain=uncertain) from error
                last = error
            except (nats.errors.Error, OSError, TimeoutError, _Broken) as error:
                uncertain |= sent
                if not isinstance(error, TimeoutError):
                    last = str(error) or type(error).__name__
                elif sent:
                    patience = min(2 * patience, PATIENCE[1])
            await asyncio.sleep(PAUSE)

    async def connected(self, deadline: float) -> _Client:
        """Return a client that is connected. Raises TimeoutError, NotPermitted, and what says why it is not."""
        if self._dialling is None:
            self._dialling = asyncio.Lock()
        async with self._dialling:
            if self._client is None or self._client.is_closed or self._client.broken.done():
                self._client = await self._dial(deadline)
            return self._client

    async def _attempt(self, client: _Client, answer: Awaitable[_T], subject: str) -> _T:
        """Wait for an answer, or for the news that there will be none."""
        asked = asyncio.ensure_future(answer)
        try:
            while True:
                broken = client.broken
                both: set[asyncio.Future[Any]] = {asked, broken}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    return asked.result()
                error = broken.exception()
                if not isinstance(error, NotPermitted):
                    raise error or _Broken("the connection was lost")
                if f'"{subject}"' in str(error):
                    raise error
                await asyncio.sleep(0)  # It was about another question.
        finally:
            asked.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asked

    async def _dial(self, deadline: float) -> _Client:
        """Connect to the first server that lets us. They are tried in turn, each time beginning with the next one."""
        config = self.config
        last: Exception = _Broken("no server")
        for _ in range(len(self._servers)):
            server = self._servers.pop(0)
            self._servers.append(server)
            client = _Client()
            client.tls_demanded = config.tls or config.authority is not None or config.certificate is not None
            client.renew()
            options = self._identity()
            if client.tls_demanded:
                options["tls"] = self._context()
            try:
                async with asyncio.timeout(min(2.0 * CONNECT_SECONDS, max(0.0, deadline - time.monotonic()))):
                    await client.connect(
                        [f"nats://{server}"],
                        name="veritydb",
                        allow_reconnect=False,
                        connect_timeout=CONNECT_SECONDS,
                        no_echo=True,
                        error_cb=client.hear,
                        closed_cb=client.lose,
                        **options,
                    )
            except BaseException as error:
                await _close(client)
                if not isinstance(error, (nats.errors.Error, OSError, TimeoutError)):
                    raise
                last = error
                if "authorization" in str(error).lower() or "authentication" in str(error).lower():
                    raise NotPermitted(f"NATS at {server} does not let this client in; nothing was written") from None
                continue
            for found in client.discovered_servers:
                address = found.netloc.rpartition("@")[2]
                if address not in self._servers:
                    self._servers.append(address)
            return client
        raise last

    def _identity(self) -> dict[str, Any]:
        config = self.config
        told: dict[str, Any] = {"user": config.user or None, "password": config.password or None}
        told["token"] = config.token or None
        for name, path in (("user_credentials", config.credentials), ("nkeys_seed", config.nkey)):
            if path is not None:
                if not path.is_file():
                    raise ConfigurationError(f"the credentials {path} cannot be read; nothing was written")
                told[name] = str(path)
        return told

    def _context(self) -> ssl.SSLContext:
        config = self.config
        try:
            context = ssl.create_default_context(cafile=config.authority)
            if config.certificate is not None:
                context.load_cert_chain(config.certificate, config.key)
        except OSError as error:
            raise ConfigurationError(
                f"the certificates for NATS cannot be used: {error}; nothing was written"
            ) from None
        return context

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _close(client)


async def _close(client: Client) -> None:
    """Hang up. After a handshake that has failed, the library would wait for the other side's farewell, for ever."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(PAUSE):
            await client.close()
