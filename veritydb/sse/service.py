"""What the endpoints share: one database, who may read it, its queries, its streams.

Everything that blocks goes to threads from here, and only so many at once: a server that is asked too much says so
instead of growing.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from veritydb.errors import ConfigurationError
from veritydb.keys import Key
from veritydb.replay.registering import Register, load
from veritydb.sse.callers import Gate
from veritydb.sse.clustered import clustered
from veritydb.sse.health import QuorumOf
from veritydb.sse.hub import Hub
from veritydb.sse.problems import Problem
from veritydb.sse.queries import Queries
from veritydb.sse.settings import Settings
from veritydb.streams import log_folder
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.registry import open_feed
from veritydb.workshop import asked_once

T = TypeVar("T")

_WAITING_MAX = 64
"""Questions that wait for a thread; more are turned away."""


class Service:
    """One database, served."""

    def __init__(
        self,
        database: str | os.PathLike[str],
        *,
        key: Key | None = None,
        settings: Settings,
        register: Register = None,
        quorum: QuorumOf | None = None,
    ) -> None:
        self.path = Path(os.path.realpath(database))
        if not log_folder(self.path).is_dir():
            raise ConfigurationError(f"{self.path} has no log; `veritydb adopt` makes it a VerityDB database")
        self.settings = settings
        self.gate = Gate(settings)
        self._key = asked_once(key, str(self.path))
        self._register = load(register)
        self._clustered = clustered(self.path, log_folder(self.path), self._key) if quorum is None else None
        self.queries = Queries(self.path, self._key, settings, self._register, quorum or self._clustered)
        # A hub belongs to a loop, and a program may have one after another (tests do).
        self._hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()
        self._rooms: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )
        self._waiting = 0

    @property
    def hub(self) -> Hub:
        """The streams of the running loop."""
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None:
            hub = self._hubs[loop] = Hub(self._open_feed, self.settings.streams)
        return hub

    async def ask(self, question: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Run what blocks in a thread, when there is one to be had. Raises Problem."""
        loop = asyncio.get_running_loop()
        room = self._rooms.get(loop)
        if room is None:
            room = self._rooms[loop] = asyncio.Semaphore(self.settings.queries_max)
        if self._waiting >= _WAITING_MAX:
            raise Problem("too-many", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with room:
                return await asyncio.to_thread(question, *arguments, **options)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Give back what is kept; streams end by themselves with their connections."""
        self.queries.close()
        if self._clustered is not None:
            self._clustered.close()

    def _open_feed(self) -> Feed:
        return open_feed(self.path, key=self._key, register=self._register)
