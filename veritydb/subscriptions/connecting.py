"""A connection's own ways to subscribe: what :meth:`veritydb.Connection.subscribe` and its neighbours do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, finalize, ref

from veritydb.errors import ProgrammingError
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.registry import feed_of
from veritydb.subscriptions.snapshots import snapshot as snapshot_of
from veritydb.subscriptions.subscription import Subscription
from veritydb.subscriptions.updates import Cursor, Logged, Selection, Update

if TYPE_CHECKING:
    from veritydb.session import Session

_logger = logging.getLogger("veritydb.subscriptions")


def subscribe(session: Session, selection: Selection, since: object, snapshot: bool, buffer: int) -> Subscription:
    """Subscribe to the database of a session, through the feed that all its connections in this process share."""
    session.first_use()  # So that there is a log with something to follow, and a file to read.
    feed = feed_of(session.stream, session.register)
    try:
        take = None if session.stream.path else _InMemory(session)
        receiver = feed.receiver(selection, since, snapshot, buffer, take)
    finally:
        feed.leave()  # The receiver counts by itself.
    return Subscription(receiver)


class Committed:
    """A transaction that a connection has committed."""

    __slots__ = ("_feed", "offset")

    def __init__(self, feed: Callable[[], Feed], offset: int) -> None:
        self._feed = feed
        self.offset = offset

    def updates(self, *, images: bool = False) -> list[Logged]:
        """Return what it changed, read back from the log."""
        feed = self._feed()
        feed.catch_up()
        selection = Selection(images=images)
        found: list[Logged] = []
        for batch in feed.old(Cursor(self.offset - 1).position, feed.source, feed.history):
            if batch.said.offset > self.offset:
                break
            found += batch.select(selection)
        return found


def on_commit(session: Session, callback: Callable[[Committed], object]) -> Callable[[], None]:
    """Call ``callback`` after each commit of a session; return what ends that."""
    callbacks = _callbacks.get(session)
    if callbacks is None:
        callbacks = _callbacks[session] = []
        session.transactions.after_commit = _Caller(session, callbacks)
    callbacks.append(callback)

    def cancel() -> None:
        if callback in callbacks:
            callbacks.remove(callback)

    return cancel


_callbacks: WeakKeyDictionary[Session, list[Callable[[Committed], object]]] = WeakKeyDictionary()


class _Caller:
    """Calls the callbacks of one session, each commit after the one before, however they nest."""

    def __init__(self, session: Session, callbacks: list[Callable[[Committed], object]]) -> None:
        self._session = ref(session)
        self._callbacks = callbacks
        self._due: list[int] = []
        self._feed: Feed | None = None

    def feed(self) -> Feed:
        """Return the feed that changes are read from; kept until the session is gone."""
        if self._feed is None or self._feed.closed:
            session = self._session()
            assert session is not None, "it has just committed"
            self._feed = feed_of(session.stream, session.register)
            finalize(session, self._feed.leave)
        return self._feed

    def __call__(self, offset: int) -> None:
        self._due.append(offset)
        session = self._session()
        if len(self._due) > 1 or session is None:
            return  # A callback has committed: its turn comes when those of the commit before are through.
        with session.counters.kept():
            while self._due:
                for callback in list(self._callbacks):
                    try:
                        callback(Committed(self.feed, self._due[0]))
                    except Exception:
                        _logger.exception("a callback of on_commit failed; the transaction stands")
                del self._due[0]


class _InMemory:
    """Takes snapshots of a database that nobody else can read. They are read at once, and kept in memory."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self, selection: Selection) -> tuple[Cursor, Iterator[Update]]:
        session = self._session
        if session.in_transaction:
            raise ProgrammingError("a snapshot in memory would show what is not committed: commit first")
        session.planner.internal += 1
        try:
            place, updates = snapshot_of(session.db, selection, close=False)
            return place, iter(list(updates))
        finally:
            session.planner.internal -= 1
