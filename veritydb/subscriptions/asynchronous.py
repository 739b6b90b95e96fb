"""A subscription for event loops: asyncio and trio, through anyio.

Taking what is in memory costs the loop microseconds and happens in it; reading from the disk happens in a worker
thread. The feed's thread wakes each loop once for all of its subscribers (:class:`_Gate`), so a thousand of them cost
it one call.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

import anyio
import anyio.lowlevel
import anyio.to_thread

from veritydb.errors import SubscriptionClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from veritydb.subscriptions.feed import Feed
    from veritydb.subscriptions.receiver import Receiver
    from veritydb.subscriptions.updates import Cursor, Update


class AsyncSubscription:
    """The updates of one subscriber, in order, each once. For one task at a time; ``async with`` closes it."""

    def __init__(self, receiver: Receiver, owner: object = None) -> None:
        self._receiver = receiver
        self._owner = owner
        """Who closes the receiver, if it is not only we."""
        self._gate: _Gate | None = None

    @property
    def cursor(self) -> Cursor:
        """Where to go on: ``subscribe(since=subscription.cursor)`` gets what this one would have got next."""
        return self._receiver.cursor

    async def get(self) -> Update:
        """Return the next update, however long it takes (``anyio.move_on_after`` gives up).

        Raises what :meth:`veritydb.subscriptions.Subscription.get` raises. Cancelled, it loses nothing.
        """
        receiver = self._receiver
        while True:
            update = receiver.take()
            if update is not None:
                return update
            await self._more()

    async def get_all(self, limit: int = 1_000) -> list[Update]:
        """Return all updates that are in memory, at least one and at most ``limit``: waits as :meth:`get` does."""
        receiver = self._receiver
        while True:
            taken = receiver.take_all(limit)
            if taken:
                return taken
            await self._more()

    def close(self) -> None:
        """End it; harmless if called again."""
        self._receiver.close()
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.open()
            gate.leave()

    async def aclose(self) -> None:
        """End it."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        try:
            return await self.get()
        except SubscriptionClosed:
            raise StopAsyncIteration from None

    async def _more(self) -> None:
        """Wait until there may be something to take."""
        receiver = self._receiver
        if receiver.behind:
            # Shielded: a worker thread cannot be stopped half-way, and must not be left with the receiver.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(receiver.read)
            await anyio.lowlevel.checkpoint()
            return
        if self._gate is None:
            self._gate = _gate_of(receiver.feed)
            self._gate.enter()
        opened = self._gate.opened
        feed, number = receiver.feed, receiver.number
        with feed.condition:
            if number is None or receiver.closed or feed.closed or feed.failed is not None or feed.ends() > number:
                return
        await opened.wait()


class _Gate:
    """Where all subscribers of one feed in one event loop wait. Used in that loop, but for :meth:`call`."""

    def __init__(self, feed: Feed, token: Any) -> None:
        self.opened = anyio.Event()
        self._feed = ref(feed)
        self._called = False
        self._users = 0
        self._soon: Callable[[Callable[[], object]], object] = (
            token.call_soon_threadsafe if hasattr(token, "call_soon_threadsafe") else token.run_sync_soon
        )

    def enter(self) -> None:
        """Count one more who may wait here; the first one makes the feed call."""
        self._users += 1
        feed = self._feed()
        if self._users == 1 and feed is not None:
            feed.add_gate(self, self.call)

    def leave(self) -> None:
        """Count one less."""
        self._users -= 1
        feed = self._feed()
        if not self._users and feed is not None:
            feed.remove_gate(self)

    def call(self) -> None:
        """Open it, from any thread; calls that come before the loop gets to it count once."""
        if not self._called:
            self._called = True
            try:
                self._soon(self.open)
            except RuntimeError:
                pass  # The loop is closed, so nobody waits.

    def open(self) -> None:
        """Let all pass who wait now."""
        self._called = False
        opened, self.opened = self.opened, anyio.Event()
        opened.set()


_gates: WeakKeyDictionary[Feed, WeakKeyDictionary[Any, _Gate]] = WeakKeyDictionary()
_gates_lock = threading.Lock()


def _gate_of(feed: Feed) -> _Gate:
    """Return the gate of the running loop."""
    token = anyio.lowlevel.current_token().native_token
    with _gates_lock:
        of_feed = _gates.setdefault(feed, WeakKeyDictionary())
        gate = of_feed.get(token)
        if gate is None:
            gate = of_feed[token] = _Gate(feed, token)
    return gate
