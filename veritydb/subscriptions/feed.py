"""One reader of a log for all who subscribed in this process.

:class:`Feed` owns a thread that waits until the log has grown, reads what is committed, decodes it once, and appends it
to a *ring*: the last few thousand changes, the same objects for everybody. A subscriber is a place in that ring
(:mod:`veritydb.subscriptions.receiver`). It costs the feed nothing while it does not read, so a thousand of them, and
those that stall, make no commit slower; one that falls out of the ring reads on from the log by itself.

``db.subscribe()`` shares one feed per database and process (:func:`feed_of`); a server that has no connection opens one
with :func:`open_feed`.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from veritydb import keys, streams
from veritydb.errors import LogMissing, OperationalError, ProgrammingError, SubscriptionClosed
from veritydb.events import Rows, Schema
from veritydb.log.memory import MemoryLog
from veritydb.publishing import Topic, topic_of
from veritydb.records import Reader, Transaction
from veritydb.sealing import Opener
from veritydb.subscriptions.catalogs import History
from veritydb.subscriptions.decoding import Batch, Said, batches
from veritydb.subscriptions.notification import Waiter
from veritydb.subscriptions.receiver import BUFFER, Receiver
from veritydb.subscriptions.source import FileSource, MemorySource, Projection, Source
from veritydb.subscriptions.subscription import Subscription
from veritydb.subscriptions.updates import Cursor, Resync, Selection

if TYPE_CHECKING:
    from typing import Self

    from veritydb.log import StoredRecord
    from veritydb.subscriptions.asynchronous import AsyncSubscription
    from veritydb.subscriptions.catalogs import Position
    from veritydb.subscriptions.receiver import Snapshot
    from veritydb.subscriptions.updates import TableUpdate, Update

RING_ROWS = 16_384
"""Changes of up to 1 KiB kept in memory for all subscribers together, unless one transaction's batch alone has more."""
RECORDS = 64
"""Records read in one go."""
LINGER = 0.1
"""Seconds for which the thread goes on reading after the last one that waited: he will be back."""
PROJECTIONS_TABLE = "_veritydb_projections"


class Slot(NamedTuple):
    """One entry of the ring."""

    before: Position
    """Where the entry before it ended."""
    end: Position
    entry: Batch | Resync


class Feed:
    """The committed changes of one database, for any number of subscribers. Thread-safe; :meth:`close` it."""

    def __init__(
        self,
        make_source: Callable[[], Source],
        opener: Opener,
        *,
        topic: Callable[[bytes], Topic],
        folder: str | None,
        projection: Projection | None,
        register: Callable[[Any], object] | None = None,
        notify: str | None = None,
        ring_rows: int = RING_ROWS,
    ) -> None:
        self._make_source = make_source
        self.opener = opener
        self.projection = projection
        """The database file; None for a database in memory."""
        self._topic_of = topic
        self._register = register
        self._ring_rows = ring_rows
        self._pump_lock = threading.Lock()
        self.condition = threading.Condition(threading.Lock())
        """Held for moments: to look at the ring and at what follows. Notified when the ring has grown."""
        self._ring: deque[Slot] = deque()
        self._rows = 0
        self._first = 0
        """Number of the ring's first slot."""
        self._gates: dict[object, Callable[[], None]] = {}
        self.failed: BaseException | None = None
        """Why nothing follows any more."""
        self.closed = False
        self._users = 0
        self._pid = os.getpid()
        self.source = make_source()
        self.epoch = 0
        """Counts the logs that the database has had while it was followed."""
        self.history = self._new_history(self.source)
        self._end: Position = Cursor(self.source.next_offset - 1).position
        self._topic = topic(self.source.stream)
        self._waiting = 0
        self._needed_until = 0.0
        self._asleep = True
        """Whether the thread reads nothing, because nobody waits."""
        self._waiter = Waiter(folder, how=notify)
        self._notify = self._published
        self._topic.notify = self._notify
        self._thread = threading.Thread(target=_run, args=(weakref.ref(self), self._waiter), name="veritydb.feed")
        self._thread.daemon = True
        self._thread.start()
        _feeds.add(self)

    # Subscribing ------------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        tables: str | Collection[str] | None = None,
        actions: str | Collection[str] | None = None,
        since: object = None,
        images: bool = False,
        where: Callable[[TableUpdate], Any] | None = None,
        snapshot: bool = False,
        buffer: int = BUFFER,
    ) -> Subscription:
        """Return the updates that follow, for a thread; arguments as of :meth:`veritydb.Connection.subscribe`.

        Raises UnknownTable, CursorMalformed, CursorAhead, SubscriptionClosed, and what reading the log raises.
        """
        return Subscription(self.receiver(tables, actions, since, images, where, snapshot, buffer))

    def subscribe_async(
        self,
        tables: str | Collection[str] | None = None,
        actions: str | Collection[str] | None = None,
        since: object = None,
        images: bool = False,
        where: Callable[[TableUpdate], Any] | None = None,
        snapshot: bool = False,
        buffer: int = BUFFER,
    ) -> AsyncSubscription:
        """Return the updates that follow, for a task; otherwise as :meth:`subscribe`."""
        from veritydb.subscriptions.asynchronous import AsyncSubscription

        return AsyncSubscription(self.receiver(tables, actions, since, images, where, snapshot, buffer))

    def receiver(
        self,
        tables: str | Collection[str] | None = None,
        actions: str | Collection[str] | None = None,
        since: object = None,
        images: bool = False,
        where: Callable[[TableUpdate], Any] | None = None,
        snapshot: bool = False,
        buffer: int = BUFFER,
        take_snapshot: Snapshot | None = None,
    ) -> Receiver:
        """Return a subscriber's place in this feed, for a shell of its own."""
        if snapshot and since is not None:
            raise ProgrammingError("a snapshot is of now: it cannot begin in the past (since=…)")
        selection = Selection.of(tables, actions, images, where)
        taken = (take_snapshot or self.take_snapshot) if snapshot else None
        return Receiver(self, selection, since=since, buffer=buffer, snapshot=taken)

    def receiver_of(self, selection: Selection, since: Cursor) -> Receiver:
        """Return a place for a selection that is made already."""
        return Receiver(self, selection, since=since)

    def take_snapshot(self, selection: Selection) -> tuple[Cursor, Iterator[Update]]:
        """Return the place of the file as it is now, and its rows."""
        from veritydb.subscriptions.snapshots import snapshot

        if self.projection is None:
            raise ProgrammingError("a database in memory shows its rows to its own connections only")
        try:
            db = self.projection.open()
        except apsw.Error as error:
            raise OperationalError(f"no snapshot can be taken: {error}") from error
        return snapshot(db, selection, close=True)

    # What subscribers ask ---------------------------------------------------------------------------------------------

    @property
    def stream(self) -> str:
        """What cursors of this database carry: the first 16 hex digits of its stream's id."""
        return self.source.stream.hex()[:16]

    @property
    def notification(self) -> str:
        """How the feed learns of other processes' commits: "inotify", "poll", or "process" (there are no others)."""
        return self._waiter.how

    @property
    def last(self) -> Cursor:
        """The last transaction that was seen; ``Cursor(-1)`` if there is none."""
        self._look()
        with self.condition:
            return Cursor(*self._end, self.stream)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that one can subscribe to now."""
        self._look()
        return tuple(sorted(table.name for table in self.history.current.tables.values() if not table.hidden))

    def knows(self, table: str) -> bool:
        """Whether there is a table of that name, or was one since the feed was opened."""
        self._look()
        return self.history.knows(table)

    def catch_up(self) -> Cursor:
        """Read all that is committed by now, and return the last of it."""
        self._check()
        while self.pump():
            pass
        self._check()
        with self.condition:
            return Cursor(*self._end, self.stream)

    def pump(self) -> bool:
        """Read and decode what is new, at most a few records; return whether there may be more."""
        with self._pump_lock:
            if self.closed or self.failed is not None:
                return False
            try:
                records = self.source.advance(RECORDS)
                for record in records:
                    self._take(record)
                if not records and self.source.replaced():
                    return self._replace()
            except Exception as error:
                self._fail(error)
                return False
            return bool(records)

    def wait(self, number: int, timeout: float | None, given_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until the ring has a slot of that number, nothing follows any more, or the time is over.

        ``given_up`` is asked first, under :attr:`condition`: whoever makes it true notifies that.
        """
        with self.condition:
            if given_up() or self.closed or self.failed is not None or self.ends() > number:
                return
            self._waiting += 1
            self._rouse()
            try:
                self.condition.wait(timeout)
            finally:
                self._waiting -= 1
                if not self._waiting:
                    self._needed_until = time.monotonic() + LINGER

    @property
    def asleep(self) -> bool:
        """Whether nobody reads on unless asked to (:meth:`pump`)."""
        return self._asleep

    def ends(self) -> int:
        """Return the number that the ring's next slot will have; the caller holds :attr:`condition`."""
        return self._first + len(self._ring)

    def slots(self, number: int, limit: int) -> list[Slot] | None:
        """Return slots from a number on; None if the first is no longer there. The caller holds :attr:`condition`."""
        start = number - self._first
        if start < 0:
            return None
        ring = self._ring
        return [ring[place] for place in range(start, min(start + limit, len(ring)))]

    def find(self, position: Position, epoch: int) -> int | None:
        """Return the number of the first slot behind a position; None if what follows it is not in the ring.

        The caller holds :attr:`condition`.
        """
        if epoch != self.epoch:
            return None
        ring = self._ring
        if position >= self._end:
            return self.ends()
        for place in range(len(ring) - 1, -1, -1):
            slot = ring[place]
            if isinstance(slot.entry, Resync):
                return None
            if slot.before <= position:
                return self._first + place if slot.end > position else self._first + place + 1
        return None

    def old(self, after: Position, source: Source, history: History) -> Iterator[Batch]:
        """Yield the batches behind a position from the log, up to what the feed has seen."""
        offset, _ = after
        start = offset + 1 if after >= Cursor(offset).position else offset
        history.reach_back(start - 1, lambda first, last: self._schemas(source, first, last))
        for transaction in Reader(source, self.opener).transactions(start):
            for batch in self._decoded(transaction, history, source):
                if batch.end > after:
                    yield batch

    def use(self) -> None:
        """Count one more user."""
        with self.condition:
            self._users += 1

    def leave(self) -> None:
        """Count one user less; a shared feed ends with its last."""
        with self.condition:
            self._users -= 1
            last = self._users <= 0 and self in _shared.values()
        if last:
            with _registry_lock:
                if self._users > 0:
                    return
                for key in [key for key, feed in _shared.items() if feed is self]:
                    del _shared[key]
            self.close()

    def add_gate(self, key: object, wake: Callable[[], None]) -> None:
        """Call ``wake`` from the feed's thread whenever the ring has grown."""
        with self.condition:
            self._gates[key] = wake
            self._rouse()

    def remove_gate(self, key: object) -> None:
        """Call it no more."""
        with self.condition:
            self._gates.pop(key, None)

    def check(self) -> None:
        """Raise if nothing follows any more: what went wrong, or that it was closed."""
        self._check()

    def abandon(self) -> None:
        """Be of no use any more, in the child of a fork."""
        self._pump_lock = threading.Lock()
        self.condition = threading.Condition(threading.Lock())
        self.failed = ProgrammingError("the subscription was made before a fork; subscribe again in this process")
        self._unpublish()

    def close(self) -> None:
        """End the thread and all subscriptions; harmless if called again."""
        with self.condition:
            if self.closed:
                return
            self.closed = True
            self.condition.notify_all()
            gates = list(self._gates.values())
        for wake in gates:
            wake()
        self._unpublish()
        if self._pid != os.getpid():
            return  # What is open here is the parent's.
        self._waiter.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with self._pump_lock:
            self.source.close()
            self.history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inside -----------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what is new, if the thread does not."""
        while self._asleep and self.pump():
            pass

    def _published(self) -> None:
        """Hear of a commit of this process, in the thread that committed."""
        if not self._asleep:
            self._waiter.wake()

    def _unpublish(self) -> None:
        if self._topic.notify is self._notify:
            self._topic.notify = None

    def _rouse(self) -> None:
        """Somebody waits, so the thread has to read. The caller holds :attr:`condition`."""
        if self._asleep:
            self._asleep = False
            self._waiter.wake()

    def _watch(self) -> bool:
        """See that the thread is told of what is written; return whether it may have missed something."""
        with self._pump_lock:
            if self.closed or self.failed is not None:
                return False
            watched = self.source.watched()
        return watched is not None and self._waiter.follow(watched)

    def _pause(self) -> float | None:
        """Return after how many seconds to look whether anybody still waits; None if somebody does."""
        with self.condition:
            return None if self._waiting or self._gates else LINGER

    def _may_sleep(self) -> bool:
        """Whether nobody has waited for a while; then nobody's commits are to pay for reading them at once."""
        with self.condition:
            if self._waiting or self._gates or self.closed or time.monotonic() < self._needed_until:
                return False
            self._asleep = True
            return True

    def _check(self) -> None:
        if self.closed:
            raise SubscriptionClosed("the feed is closed")
        if self.failed is not None:
            raise self.failed

    def _new_history(self, source: Source) -> History:
        history = History(self._register)
        statements = source.schema()
        if statements is not None:
            history.begin(source.next_offset - 1, statements)
        else:
            history.begin(-1, ())
            for position, event in self._schemas(source, 0, source.next_offset):
                history.advance(position, event)
        return history

    def _take(self, record: StoredRecord) -> None:
        if not record.header.transaction_count:
            return
        for transaction in Reader(self.source, self.opener).of_record(record):
            for batch in self._decoded(transaction, self.history, self.source):
                self._append(batch, batch.end)

    def _decoded(self, transaction: Transaction, history: History, source: Source) -> Iterator[Batch]:
        offset = transaction.offset
        said = Said(offset, transaction.timestamp, transaction.actor, transaction.reason)
        return batches(
            said,
            source.stream.hex()[:16],
            transaction.events,
            history.at((offset, -1)),
            lambda index, event: history.advance((offset, index), event),
            _projections,
        )

    def _schemas(self, source: Source, first: int, last: int) -> Iterator[tuple[Position, Schema]]:
        """Yield the schema statements of the transactions from ``first`` to ``last``."""
        if first > last:
            return
        for transaction in Reader(source, self.opener).transactions(max(first, 0)):
            if transaction.offset > last:
                return
            index = 0
            for event in transaction.events:
                if isinstance(event, Schema):
                    yield (transaction.offset, index), event
                index += len(event) if isinstance(event, Rows) else 1

    def _append(self, entry: Batch | Resync, end: Position) -> None:
        with self.condition:
            self._ring.append(Slot(self._end, end, entry))
            self._rows += _weight(entry)
            while self._rows > self._ring_rows and len(self._ring) > 1:
                self._rows -= _weight(self._ring.popleft().entry)
                self._first += 1
            self._end = end
            self.condition.notify_all()
            gates = list(self._gates.values()) if self._gates else ()
        for wake in gates:
            wake()

    def _replace(self) -> bool:
        """The database has another log: follow that, and tell."""
        try:
            source = self._make_source()
        except LogMissing:
            return False  # Moved away, and nothing in its place yet.
        history = self._new_history(source)
        old, before = self.source, self.history
        with self.condition:
            self.source, self.history = source, history
            self.epoch += 1
            self._end = (-1, 0)
        start = Cursor(source.first_offset() - 1, stream=self.stream)
        self._append(Resync(cursor=start, why="the database has another log now"), start.position)
        old.close()
        before.close()
        self._unpublish()
        self._topic = self._topic_of(source.stream)
        self._topic.notify = self._notify
        # What the new log holds already comes from the log.
        for batch in self.old(start.position, source, history):
            self._append(batch, batch.end)
        return True

    def _fail(self, error: BaseException) -> None:
        with self.condition:
            self.failed = error
            self.condition.notify_all()
            gates = list(self._gates.values())
        for wake in gates:
            wake()


def _run(feed: weakref.ref[Feed], waiter: Waiter) -> None:
    # Knows the feed weakly, so that one that nobody refers to any more ends with its thread.
    while True:
        this = feed()
        if this is None or this.closed:
            break
        if this._may_sleep():  # pyright: ignore[reportPrivateUsage]  one class, seen from its thread
            del this
            waiter.sleep()
            continue
        while this.pump() or this._watch():  # pyright: ignore[reportPrivateUsage]  one class, seen from its thread
            pass
        pause = this.source.soon if this.failed is None else None
        if pause is None:
            pause = this._pause()  # pyright: ignore[reportPrivateUsage]  one class, seen from its thread
        del this
        waiter.wait(pause)
    waiter.close()


def _weight(entry: Batch | Resync) -> int:
    # A change counts as one, and a large one for each KiB: a ring of large values takes no more memory than one of
    # small ones.
    return max(1, len(entry.items), entry.size >> 10) if isinstance(entry, Batch) else 1


def _projections(rows: Rows) -> frozenset[str]:
    if rows.table != PROJECTIONS_TABLE:
        return frozenset()
    return frozenset(str(image[0]) for image in rows.after or rows.before or () if image)


# One feed per database and process ------------------------------------------------------------------------------------

_shared: dict[object, Feed] = {}
_feeds: weakref.WeakSet[Feed] = weakref.WeakSet()
_registry_lock = threading.Lock()


def feed_of(stream: streams.Stream, register: Callable[[Any], object] | None = None) -> Feed:
    """Return the feed that all connections of this process to one database share; the caller counts as a user."""
    log = stream.log
    key: object = id(log) if isinstance(log, MemoryLog) else str(stream.folder)
    with _registry_lock:
        feed = _shared.get(key)
        if feed is not None and not feed.closed and feed._pid == os.getpid():  # pyright: ignore[reportPrivateUsage]  one class, seen from its thread
            feed.use()
            return feed
        opener = Opener(stream.keyring)
        if isinstance(log, MemoryLog):
            topic = topic_of(":memory:", log.stream)
            feed = Feed(
                lambda: MemorySource(log, topic),
                opener,
                topic=lambda _: topic,
                folder=None,
                projection=None,
                register=register,
            )
        else:
            assert stream.folder is not None
            file_key = stream.keyring.current.file_key() if stream.keyring is not None else None
            feed = _file_feed(stream.folder, stream.path, opener, file_key, register=register)
        _shared[key] = feed
        feed.use()
        return feed


def open_feed(
    path: str | os.PathLike[str],
    *,
    key: Any = None,
    register: Callable[[Any], object] | None = None,
    notify: str | None = None,
    ring_rows: int = RING_ROWS,
) -> Feed:
    """Follow the database at ``path`` without a connection to it.

    ``register`` is called with an object that has a connection's ``create_function`` and so on, if the schema needs
    functions; ``notify="poll"`` looks every 50 ms instead of waiting for the file system's word. Raises LogMissing,
    KeyMissing, WrongKey, NotEncrypted, LogDamaged, LogUnavailable.
    """
    path = os.path.realpath(path)
    folder = streams.log_folder(path)
    if not folder.is_dir():
        raise LogMissing(f"there is no log at {folder}")
    secret = keys.normalise(key, path) if key is not None else None
    keyring = streams.keyring_of(folder, secret, path)
    file_key = keyring.current.file_key() if keyring is not None else None
    return _file_feed(folder, path, Opener(keyring), file_key, register=register, notify=notify, ring_rows=ring_rows)


def _file_feed(folder: Path, path: str, opener: Opener, file_key: bytes | None, **options: Any) -> Feed:
    def topic(stream: bytes) -> Topic:
        return topic_of(str(folder), stream)

    projection = Projection(path, file_key)
    return Feed(
        lambda: FileSource(folder, Projection(path, file_key), topic),
        opener,
        topic=topic,
        folder=str(folder),
        projection=projection,
        **options,
    )


def _forget_all() -> None:
    # Threads do not survive a fork, locks may be held by one that did not, and a child must not use its parent's SQLite
    # connections, nor write into the pipe that wakes the parent's thread.
    global _registry_lock
    _registry_lock = threading.Lock()
    _shared.clear()
    for feed in list(_feeds):
        feed.abandon()


os.register_at_fork(after_in_child=_forget_all)

__all__ = ["Feed", "feed_of", "open_feed"]
