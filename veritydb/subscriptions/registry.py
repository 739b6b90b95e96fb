"""Where feeds come from: one that all connections of a process to a database share, or one of somebody's own.

``db.subscribe()`` and its neighbours take the shared one (:func:`feed_of`), which ends with its last subscriber; a
server that has no connection opens one with :func:`open_feed`. No feed outlives a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from veritydb import keys, streams
from veritydb.errors import LogMissing
from veritydb.log.memory import MemoryLog
from veritydb.subscriptions import ring
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.origin import FileOrigin, MemoryOrigin

_shared: dict[object, Feed] = {}
_feeds: weakref.WeakSet[Feed] = weakref.WeakSet()
# Reentrant, for a subscription that nobody refers to any more is closed wherever its collection happens.
_lock = threading.RLock()


def feed_of(stream: streams.Stream, register: Callable[[Any], object] | None = None) -> Feed:
    """Return the feed that all connections of this process to one database share; the caller counts as a user."""
    log = stream.log
    key: object = id(log) if isinstance(log, MemoryLog) else str(stream.folder)
    with _lock:
        feed = _shared.get(key)
        if feed is not None and feed.usable:
            if isinstance(feed.origin, FileOrigin):
                feed.origin.offer(stream.keyring)
            feed.use()
            return feed
        origin: FileOrigin | MemoryOrigin
        if isinstance(log, MemoryLog):
            origin = MemoryOrigin(log, stream.keyring)
        else:
            assert stream.folder is not None
            origin = FileOrigin(stream.folder, stream.path, stream.keyring)
        feed = Feed(origin, register=register)
        _feeds.add(feed)
        _shared[key] = feed
        feed.when_unused = _end_shared
        feed.use()
        return feed


def open_feed(
    path: str | os.PathLike[str],
    *,
    key: Any = None,
    register: Callable[[Any], object] | None = None,
    notify: str | None = None,
    ring_rows: int = ring.ROWS,
) -> Feed:
    """Follow the database at ``path`` without a connection to it.

    ``key`` is asked for again, if it is a provider or a function, when a record was sealed with a newer key.
    ``register`` is called with an object that has a connection's ``create_function`` and so on, if the schema needs
    functions; ``notify="poll"`` looks every 50 ms instead of waiting for the file system's word. Raises LogMissing,
    KeyMissing, WrongKey, NotEncrypted, LogDamaged, LogUnavailable.
    """
    path = os.path.realpath(path)
    folder = streams.log_folder(path)
    if not folder.is_dir():
        raise LogMissing(str(streams.without_log(folder)))

    def ask() -> keys.Keyring | None:
        secret = keys.normalise(key, path) if key is not None else None
        return streams.keyring_of(folder, secret, path)

    feed = Feed(FileOrigin(folder, path, ask(), ask), register=register, notify=notify, ring_rows=ring_rows)
    with _lock:
        _feeds.add(feed)
    return feed


def _end_shared(feed: Feed) -> None:
    """End a shared feed that had its last user, unless it has got another meanwhile."""
    with _lock:
        if feed.used:
            return
        for key in [key for key, shared in _shared.items() if shared is feed]:
            del _shared[key]
    feed.close()


def _forget_all() -> None:
    # Threads do not survive a fork, locks may be held by one that did not, and a child must not use its parent's SQLite
    # connections, nor write into the pipe that wakes the parent's thread.
    global _lock
    _lock = threading.RLock()
    _shared.clear()
    for feed in list(_feeds):
        feed.abandon()


os.register_at_fork(after_in_child=_forget_all)

__all__ = ["feed_of", "open_feed"]
