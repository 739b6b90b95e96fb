"""The cables between nodes: a relay for each direction, which can be cut, stopped, or slowed down.

Each member is told that another one listens at the relay that leads there, so what it says passes through here. A cut
cable refuses and hangs up; a stopped one takes in and hands nothing on, as a network does that drops packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable

from veritydb.cluster.config import Address

_CHUNK = 1 << 16


class Link:
    """One direction between two members, as a relay of this process."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address: Address | None = None
        self.cut = False
        self.stopped = False
        self.delay = 0.0
        self.heard: Callable[[bytes], object] | None = None
        """Called with all that passes."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            for each in (writer, back):
                self._writers.discard(each)
                each.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await source.read(_CHUNK):
                if self.heard is not None:
                    self.heard(data)
                if self.stopped:
                    continue  # The rest of a TLS stream is of no use after that; whoever waits will hang up.
                if self.delay:
                    await asyncio.sleep(self.delay)
                target.write(data)
                await target.drain()
        target.transport.abort()


class Links:
    """All directions between some members, run by a thread of their own."""

    def __init__(self, members: dict[int, Address], *, sources: Iterable[int] | None = None) -> None:
        """``sources``: who dials; by default the members."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.links = {
            (src, dst): Link(address)
            for src in (members if sources is None else sources)
            for dst, address in members.items()
            if src != dst
        }
        self._call(self._listen())

    async def _listen(self) -> None:
        for link in self.links.values():
            await link.listen()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def cut(self, pairs) -> None:
        """Cut the cables of these directions."""
        self._set(pairs, cut=True)

    def stop(self, pairs) -> None:
        """Let what goes in these directions get lost."""
        self._set(pairs, stopped=True)

    def slow(self, pairs, seconds: float) -> None:
        """Hold up what goes in these directions."""
        self._set(pairs, delay=seconds)

    def heal(self) -> None:
        """Mend everything. What was broken off has to be dialled again."""

        async def mend() -> None:
            for link in self.links.values():
                if link.cut or link.stopped:
                    link.hang_up()
                link.cut, link.stopped, link.delay = False, False, 0.0

        self._call(mend())

    def _set(self, pairs, **what) -> None:
        async def change() -> None:
            for pair in pairs:
                link = self.links[pair]
                for name, value in what.items():
                    setattr(link, name, value)
                if link.cut:
                    link.hang_up()

        self._call(change())

    def close(self) -> None:
        async def end() -> None:
            for link in self.links.values():
                link.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.1)  # Transports close in a later turn.

        with contextlib.suppress(Exception):
            self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
