"""Committed changes, pushed: to threads, to event loops, to other processes' followers.

=================  ===================================================================================================
``updates``        what a subscriber receives and asks for (pure)
``decoding``       the log's events as updates, in batches (pure)
``catalogs``       which columns a table had at a place of the log
``source``         committed records: of a file's log, of a log in memory
``notification``   waiting until a log may have grown
``origin``         a database's log, with the keys that open it
``ring``           the last changes, for all who read them (no clock, no file)
``feed``           :class:`Feed`: one reader for all subscribers of a process
``registry``       the feed that a process shares, and those of one's own
``receiver``       one subscriber's place in a feed; falls back to the log, and returns from it
``subscription``   the shell for threads
``asynchronous``   the shell for asyncio and trio
``snapshots``      the rows there are, before the tail
``own``            our tables in the user's database
``consumers``      durable cursors whose work takes effect exactly once
``projections``    tables made of updates by a handler
``administration`` consumers and projections, looked at from outside
``connecting``     what a connection's methods do
=================  ===================================================================================================

``docs/guides/subscriptions.md`` shows how they are used, ``docs/internals/subscriptions.md`` why nothing is lost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veritydb.subscriptions.administration import Administration
    from veritydb.subscriptions.asynchronous import AsyncSubscription
    from veritydb.subscriptions.connecting import Committed
    from veritydb.subscriptions.consumers import Consumer, DeadLetter, Lag, Message
    from veritydb.subscriptions.feed import Feed
    from veritydb.subscriptions.projections import Progress, Projection, latest_by_id, timeline
    from veritydb.subscriptions.registry import open_feed
    from veritydb.subscriptions.subscription import Subscription
    from veritydb.subscriptions.updates import (
        Cursor,
        Resync,
        SchemaChange,
        SnapshotBegin,
        SnapshotEnd,
        SnapshotRow,
        TableCleared,
        TableUpdate,
        Update,
    )

_HOMES = {
    "Administration": "administration",
    "timeline": "projections",
    "latest_by_id": "projections",
    "Projection": "projections",
    "Progress": "projections",
    "Message": "consumers",
    "Lag": "consumers",
    "DeadLetter": "consumers",
    "Consumer": "consumers",
    "Committed": "connecting",
    "AsyncSubscription": "asynchronous",
    "Cursor": "updates",
    "Feed": "feed",
    "Resync": "updates",
    "SchemaChange": "updates",
    "SnapshotBegin": "updates",
    "SnapshotEnd": "updates",
    "SnapshotRow": "updates",
    "Subscription": "subscription",
    "TableCleared": "updates",
    "TableUpdate": "updates",
    "Update": "updates",
    "open_feed": "registry",
}


def __getattr__(name: str) -> Any:
    # A program that does not subscribe imports none of these.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "Administration",
    "AsyncSubscription",
    "Committed",
    "Consumer",
    "Cursor",
    "DeadLetter",
    "Feed",
    "Lag",
    "Message",
    "Progress",
    "Projection",
    "Resync",
    "SchemaChange",
    "SnapshotBegin",
    "SnapshotEnd",
    "SnapshotRow",
    "Subscription",
    "TableCleared",
    "TableUpdate",
    "Update",
    "latest_by_id",
    "open_feed",
    "timeline",
]
