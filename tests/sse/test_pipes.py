"""What a hub writes to a connection itself is, byte for byte, what the server would have written."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tests.support.cli import KEY
from tests.support.served import ALL_KEY, CONFIG
from veritydb.sse import create_app, read_settings
from veritydb.sse.pieces import chunk
from veritydb.sse.pipes import pipe_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.sse.conftest import Clinic
    from veritydb.sse.hub import Hub

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        pass


async def answered(kind: type[asyncio.Protocol], application: Any, version: str = "1.1") -> Wire:
    """Let one of uvicorn's protocols hear a request, and return what it has written."""
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    protocol: Any = kind(config=config, server_state=state, app_state={})  # type: ignore[call-arg]  # the two differ
    wire = Wire()
    protocol.connection_made(wire)
    protocol.data_received(b"GET / HTTP/%b\r\nHost: x\r\n\r\n" % version.encode())
    await asyncio.gather(*state.tasks)
    protocol.connection_lost(None)
    return wire


async def by_itself(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    for text in (b"data: 1\n\n", b":\n\n", b"data: 2\n\n"):
        await send({"type": "http.response.body", "body": text, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def by_pipe(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    pipe = pipe_of(send)
    assert pipe is not None
    assert pipe.open
    pipe.write(chunk(b":\n\n"))
    pipe.write(chunk(b"data: 2\n\n"))
    await send({"type": "http.response.body", "body": b""})
    assert not pipe.open


def test_a_pipe_writes_what_the_server_would_have_written() -> None:
    async def main() -> None:
        whole = await answered(HttpToolsProtocol, by_itself)
        assert whole.written.endswith(b"0\r\n\r\n")
        assert (await answered(HttpToolsProtocol, by_pipe)).written == whole.written

    asyncio.run(main())


def test_a_connection_that_takes_no_more_or_is_gone_says_so() -> None:
    seen: list[bool] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        pipe = pipe_of(send)
        assert pipe is not None
        protocol = send.__self__.on_response.__self__
        protocol.pause_writing()
        seen.append(pipe.open)
        protocol.resume_writing()
        seen.append(pipe.open)
        protocol.connection_lost(None)
        seen.append(pipe.open)

    asyncio.run(answered(HttpToolsProtocol, application))
    assert seen == [False, True, False]


def test_whoever_stands_between_sees_each_message_so_there_is_no_pipe() -> None:
    seen: list[object] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def between(message: Any) -> None:
            await send(message)

        await between(START)
        seen.append(pipe_of(between))
        await send({"type": "http.response.body", "body": b""})

    async def of_another_server(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        seen.append(pipe_of(send))
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        await answered(HttpToolsProtocol, application)
        await answered(H11Protocol, of_another_server)

    asyncio.run(main())
    assert seen == [None, None]


@contextlib.asynccontextmanager
async def listening(clinic: Clinic, tmp_path: Path, more: str = "") -> AsyncGenerator[tuple[Hub, asyncio.StreamReader]]:
    """Serve as ``veritydb serve`` does, in this loop, and listen until the stream is idle."""
    config = tmp_path / "server.toml"
    config.write_text(CONFIG + more, encoding="utf-8")
    app = create_app(clinic.path, key=KEY, settings=read_settings(config))
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /events?images=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALL_KEY}\r\n\r\n".encode())
    await reader.readuntil(b"event: ready")
    hub = app.state.service.hub
    while not hub._idle:
        await asyncio.sleep(0.01)
    try:
        yield hub, reader
    finally:
        streaming = hub.count > 0
        hub.end("the test is over")
        if streaming:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await reader.readuntil(b"event: problem")
        writer.close()
        server.should_exit = True
        await running
        app.state.service.close()


def test_streams_of_our_own_server_have_pipes(clinic: Clinic, tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), listening(clinic, tmp_path) as (hub, reader):
            waiting = dict(hub._idle)
            clinic.db.execute("INSERT INTO patients (name) VALUES ('Jane')")
            await reader.readuntil(b'"table":"patients"')
            assert hub._idle == waiting, "its task has slept all the while"

    asyncio.run(main())


def test_what_goes_wrong_with_one_stream_ends_that_one(clinic: Clinic, tmp_path: Path) -> None:
    class Broken:
        open = True

        def write(self, framed: bytes) -> None:
            raise RuntimeError("the transport is closed")

    async def main() -> None:
        async with asyncio.timeout(20), listening(clinic, tmp_path) as (hub, reader):
            (stream,) = hub._idle
            stream.pipe = Broken()
            clinic.db.execute("INSERT INTO patients (name) VALUES ('Jane')")
            await reader.readuntil(b"event: problem")
            assert b"veritydb:internal" in await reader.readuntil(b"\n\n")
            while hub.count:
                await asyncio.sleep(0.01)
            assert hub._round is None

    asyncio.run(main())


def test_a_client_that_takes_nothing_is_given_up_without_the_kernels_help(clinic: Clinic, tmp_path: Path) -> None:
    """``veritydb serve`` has TCP_USER_TIMEOUT as well; under another server there is only the hub."""

    async def main() -> None:
        patience = "\n[streams]\nstall_seconds = 0.5\nheartbeat_seconds = 0.2\n"
        async with asyncio.timeout(20), listening(clinic, tmp_path, patience) as (hub, reader):
            reader._transport.pause_reading()  # type: ignore[attr-defined]  # a reader has it, and does not show it
            while hub.count:
                clinic.db.execute("INSERT INTO secrets (body) VALUES (?)", ("x" * 60_000,))
                await asyncio.sleep(0.005)

    asyncio.run(main())


def test_what_comes_while_a_round_is_under_way_is_sent_by_the_next(clinic: Clinic, tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), listening(clinic, tmp_path) as (hub, reader):
            feed = hub._feed
            assert feed is not None
            feed.remove_gate(hub)  # So that nothing but what this test does wakes it.
            hub._pulse()  # The stream is sent what there is, which is nothing; the round goes on.
            clinic.db.execute("INSERT INTO patients (name) VALUES ('Jane')")
            feed.catch_up()
            hub._pulse()
            async with asyncio.timeout(8):  # Sooner than a heartbeat is due, which would make a round, too.
                await reader.readuntil(b'"table":"patients"')

    asyncio.run(main())
