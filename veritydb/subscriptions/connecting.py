"""A connection's own ways to subscribe: what :meth:`veritydb.Connection.subscribe` and its neighbours do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from veritydb.errors import ProgrammingError
from veritydb.subscriptions.feed import feed_of
from veritydb.subscriptions.snapshots import snapshot as snapshot_of
from veritydb.subscriptions.subscription import Subscription
from veritydb.subscriptions.updates import Cursor, Selection, TableUpdate, Update

if TYPE_CHECKING:
    from veritydb.session import Session


def subscribe(
    session: Session,
    tables: str | Collection[str] | None,
    actions: str | Collection[str] | None,
    since: object,
    images: bool,
    where: Callable[[TableUpdate], Any] | None,
    snapshot: bool,
    buffer: int,
) -> Subscription:
    """Subscribe to the database of a session, through the feed that all its connections in this process share."""
    session.first_use()  # So that there is a log with something to follow, and a file to read.
    feed = feed_of(session.stream, session.register)
    try:
        take = None if session.stream.path else _InMemory(session)
        receiver = feed.receiver(tables, actions, since, images, where, snapshot, buffer, take)
    finally:
        feed.leave()  # The receiver counts by itself.
    return Subscription(receiver)


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
