"""Who connects and does not say what they want is cut off; who has said it stays."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from veritydb.impatience import Impatient


class ImpatientH11(Impatient, H11Protocol):
    request_seconds = 0.2


class ImpatientHttpTools(Impatient, HttpToolsProtocol):
    request_seconds = 0.2


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("kind", [ImpatientH11, ImpatientHttpTools])
def test_a_connection_without_a_request_ends_and_one_with_stays(kind: Any) -> None:
    async def main() -> None:
        config = uvicorn.Config(application, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: kind(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            asked, answer = await asyncio.open_connection("127.0.0.1", port)
            answer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asked.readuntil(b"ok")
            silent, nothing = await asyncio.open_connection("127.0.0.1", port)
            slow, trickle = await asyncio.open_connection("127.0.0.1", port)
            trickle.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-More: ")
            for reader in (silent, slow):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            # Long after the others had to go, the one that has asked may ask again.
            answer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asked.readuntil(b"ok")
            assert len(state.connections) == 1
            for writer in (answer, trickle, nothing):
                writer.close()
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(main(), 20))
