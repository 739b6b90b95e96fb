"""A subscription for threads: iterate over it, or ask it with :meth:`Subscription.get`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from warnings import warn

from veritydb.errors import SubscriptionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from veritydb.subscriptions.asynchronous import AsyncSubscription
    from veritydb.subscriptions.receiver import Receiver
    from veritydb.subscriptions.updates import Cursor, Update


class Subscription:
    """The updates of one subscriber, in order, each once. For one thread at a time; ``with`` closes it.

    Iterating waits for what is to come and ends when the subscription is closed. ``async for`` works too: see
    :class:`veritydb.subscriptions.AsyncSubscription`.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @property
    def cursor(self) -> Cursor:
        """Where to go on: ``subscribe(since=subscription.cursor)`` gets what this one would have got next."""
        return self._receiver.cursor

    def get(self, timeout: float | None = None) -> Update | None:
        """Return the next update, or None if there is none for ``timeout`` seconds (None: wait for ever).

        Raises SubscriptionClosed when it is closed meanwhile, and LogDamaged, LogUnavailable, KeyProblem if the log
        cannot be read on.
        """
        receiver = self._receiver
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            update = receiver.take()
            if update is not None:
                return update
            if receiver.behind:
                receiver.read()
                continue
            if not receiver.feed.led and receiver.feed.pump():
                continue
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._wait(left)

    def drain(self, limit: int = 1_000) -> list[Update]:
        """Return up to ``limit`` updates that are committed already, without waiting for more."""
        receiver = self._receiver
        receiver.feed.catch_up()
        taken = receiver.take_all(limit)
        while len(taken) < limit and receiver.behind:
            receiver.read()
            taken += receiver.take_all(limit - len(taken))
        return taken

    def close(self) -> None:
        """End it; harmless if called again, and allowed from another thread: whoever waits stops waiting."""
        self._receiver.close()
        self._receiver.feed.stir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Update:
        try:
            update = self.get()
        except SubscriptionClosed:
            raise StopIteration from None
        assert update is not None, "without a time-out it waits"
        return update

    def __aiter__(self) -> AsyncIterator[Update]:
        from veritydb.subscriptions.asynchronous import AsyncSubscription

        return AsyncSubscription(self._receiver, self)

    def detach(self) -> AsyncSubscription:
        """Return this as a subscription for a task, whose closing it is from now on."""
        from veritydb.subscriptions.asynchronous import AsyncSubscription

        receiver = self._receiver
        del self._receiver
        return AsyncSubscription(receiver)

    def __del__(self) -> None:
        receiver = getattr(self, "_receiver", None)
        if receiver is not None and not receiver.closed:
            warn(f"unclosed subscription {self!r}", ResourceWarning, stacklevel=1, source=self)
            receiver.close()

    def _wait(self, timeout: float | None) -> None:
        receiver = self._receiver
        if receiver.number is not None:
            receiver.feed.wait(receiver.number, timeout, lambda: receiver.closed)
