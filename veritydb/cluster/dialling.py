"""A node's connections to its peers: each is dialled, kept, and dialled anew when it is lost.

What is said to a peer while there is no connection to it is lost: it would be old when there is one. The node asks for
a connection whenever it has something to say (:meth:`Dialler.connection`), and hears nothing on it but its end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING

import anyio

from veritydb.cluster.frames import Frames
from veritydb.cluster.logs import fields

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    import anyio.abc

    from veritydb.cluster.config import Address

log = logging.getLogger("veritydb.node")

HANDSHAKE_SECONDS = 10
"""For certificates to be shown, by whoever dials and whoever is dialled."""
DIAL_SECONDS = 1.0
"""For a peer's machine to take a connection: one packet each way."""
UNHEARD_SECONDS = 2.0
"""After which a connection on which nothing of what was sent has arrived is given up and dialled anew."""
RETRY_SECONDS = (0.05, 1.0)
"""How soon a peer that cannot be reached is dialled again: at first, and at most."""


class Dialler:
    """The connections to all members but one's own. For the event loop's thread.

    ``filled`` is called when something waits to be sent on a connection; ``gone`` with a member at whose address nobody
    listens.
    """

    def __init__(
        self,
        own: int,
        addresses: Mapping[int, Address],
        tls: ssl.SSLContext,
        *,
        filled: Callable[[Frames], object],
        gone: Callable[[int], object],
    ) -> None:
        self.addresses = addresses
        """Where the members are."""
        self._own = own
        self._tls = tls
        self._filled = filled
        self._gone = gone
        self._links = {member: _Link() for member in addresses if member != own}
        self._tasks: anyio.abc.TaskGroup | None = None

    def start(self, tasks: anyio.abc.TaskGroup) -> None:
        """Dial everybody, from tasks of this group."""
        self._tasks = tasks
        for member, link in self._links.items():
            tasks.start_soon(self._speak_to, member, link)

    def find(self, addresses: Mapping[int, Address]) -> None:
        """Members are elsewhere now; who is new is spoken to from now on, before it is a member."""
        self.addresses = addresses
        for member in sorted(addresses.keys() - self._links.keys() - {self._own}):
            link = self._links[member] = _Link()
            if self._tasks is not None:
                self._tasks.start_soon(self._speak_to, member, link)
        for member in self._links.keys() - addresses.keys():
            del self._links[member]

    def connection(self, member: int) -> Frames | None:
        """Return the connection to a member, if there is one."""
        link = self._links.get(member)
        return None if link is None else link.connection

    def heard(self, member: int) -> None:
        """Who has just begun to speak here listens, too: it is dialled now, not after the pause since the last failure.

        A member that was restarted and hears nothing wants to leave the view, and then any other one that has not heard
        the primary for a moment is enough for a view change.
        """
        link = self._links.get(member)
        if link is not None:
            link.heard.set()

    async def _speak_to(self, member: int, link: _Link) -> None:
        """Keep a connection to a peer, for what there is to tell it, for as long as it is one."""
        pause = RETRY_SECONDS[0]
        while self._links.get(member) is link:
            address = self.addresses[member]
            connection = Frames(self._filled, _nothing, _nothing)
            began = time.monotonic()
            try:
                await hand_over(await dial(address), connection, self._tls, address.host)
                link.connection = connection
                await connection.lost.wait()
            except (OSError, TimeoutError) as error:
                if isinstance(error, ConnectionRefusedError):
                    self._gone(member)
                log.debug("peer cannot be reached", extra=fields(address=address, why=error))
            finally:
                link.connection = None
                connection.hang_up()
            if time.monotonic() - began > RETRY_SECONDS[1]:
                pause = RETRY_SECONDS[0]
                continue  # At once: whether it is gone or only the connection, dialling tells.
            waited, pause = pause, min(2 * pause, RETRY_SECONDS[1])
            with anyio.move_on_after(waited):
                await link.heard.wait()
                pause = RETRY_SECONDS[0]
            link.heard.clear()


async def dial(address: Address) -> socket.socket:
    """Return a connection to a peer that gives up soon. Raises OSError, TimeoutError.

    Left to itself TCP repeats what is lost ever more rarely: two nodes that did not hear each other for a minute
    would not for another one after the network is mended. Dialling again finds out at once.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    last: Exception | None = None
    for family, kind, protocol, _, where in found:
        dialled = socket.socket(family, kind, protocol)
        try:
            dialled.setblocking(False)
            dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it.
                dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNHEARD_SECONDS * 1000))
            with anyio.fail_after(DIAL_SECONDS):
                await loop.sock_connect(dialled, where)
            return dialled
        except (OSError, TimeoutError) as error:
            dialled.close()
            last = error
        except BaseException:
            dialled.close()
            raise
    raise last or OSError(f"{address.host} has no address")


async def hand_over(dialled: socket.socket, speaker: asyncio.Protocol, tls: ssl.SSLContext, host: str) -> None:
    """Have the event loop make TLS of a connection, and ``speaker`` speak on it. Raises OSError, TimeoutError.

    The connection is the event loop's from now on, however this ends; ``dialled`` is of no more use.
    """
    loop = asyncio.get_running_loop()
    try:
        with anyio.fail_after(HANDSHAKE_SECONDS):
            await loop.create_connection(lambda: speaker, sock=dialled, ssl=tls, server_hostname=host)
    finally:
        # uvloop takes the descriptor out of the socket's hands when it closes it, unless the connection ends while it
        # is being made (MagicStack/uvloop#738; 0.23 still does so when the peer resets it at once). Such a socket
        # closes the number once more when it is forgotten, and by then the number may be another connection's, or
        # the journal's. asyncio keeps the socket and closes it itself.
        if not isinstance(loop, asyncio.BaseEventLoop):
            dialled.detach()


def _nothing(*_: object) -> None: ...


class _Link:
    """The place of a peer's connection. It is not another's, though it may be a member of the same number."""

    def __init__(self) -> None:
        self.connection: Frames | None = None
        self.heard = asyncio.Event()
        """Whether the peer has begun to speak since it was dialled last."""
