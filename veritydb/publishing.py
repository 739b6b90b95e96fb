"""Where a commit says that it happened, to those of this process who asked.

A connection has the :class:`Topic` of its log and, once a transaction is in the log and in the file, calls what is
there; when nobody has subscribed that is one look at an attribute. Subscriptions (:mod:`veritydb.subscriptions`) put
themselves there; they read the log for what it was, so a commit hands over nothing but the word.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from weakref import WeakValueDictionary


class Topic:
    """One log, as seen by this process."""

    __slots__ = ("__weakref__", "committed", "notify")

    def __init__(self) -> None:
        self.notify: Callable[[], object] | None = None
        """Called after a commit, in the thread that commits. Must not wait, and must not raise."""
        self.committed = 0
        """Transactions that are known to be in the file, while somebody has subscribed."""

    def publish(self, committed: int) -> None:
        """Tell that the first ``committed`` transactions are in the log and in the file."""
        if committed > self.committed:
            self.committed = committed
        notify = self.notify
        if notify is not None:
            notify()


_topics: WeakValueDictionary[tuple[str, bytes], Topic] = WeakValueDictionary()
_lock = Lock()


def topic_of(folder: str, stream: bytes) -> Topic:
    """Return the topic of a log; the same for all of the process, as long as somebody keeps it."""
    with _lock:
        topic = _topics.get((folder, stream))
        if topic is None:
            topic = _topics[folder, stream] = Topic()
        return topic


__all__ = ["Topic", "topic_of"]
