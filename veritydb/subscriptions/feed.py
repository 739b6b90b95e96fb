"""One reader of a log for all who subscribed in this process.

What is committed is read once, decoded once, and appended to a :class:`~veritydb.subscriptions.ring.Ring`: the last few
thousand changes, the same objects for everybody. A subscriber is a place in that ring
(:mod:`veritydb.subscriptions.receiver`). It costs the feed nothing while it does not read, so a thousand of them, and
those that stall, make no commit slower; one that falls out of the ring reads on from the log by itself.

Of the threads that wait for what is to come the first one *leads*: it waits for the log itself, reads, and so has its
update without another thread's help; the others wait for it. Event loops cannot wait like that: while one listens
(:meth:`Feed.add_gate`), a thread of the feed leads. When nobody waits nobody reads, and a commit of this process then
looks at one flag.

Where feeds come from, :mod:`veritydb.subscriptions.registry` knows.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.errors import LogMissing, OperationalError, ProgrammingError, SubscriptionClosed, WrongKey
from veritydb.events import Rows, Schema
from veritydb.records import Reader, Transaction
from veritydb.subscriptions.catalogs import History
from veritydb.subscriptions.decoding import Batch, Said, batches
from veritydb.subscriptions.notification import Waiter
from veritydb.subscriptions.receiver import BUFFER, Receiver
from veritydb.subscriptions.ring import ROWS, Ring, Slot
from veritydb.subscriptions.subscription import Subscription
from veritydb.subscriptions.updates import Cursor, Resync, Selection

if TYPE_CHECKING:
    from typing import Self

    from veritydb.log import StoredRecord
    from veritydb.subscriptions.asynchronous import AsyncSubscription
    from veritydb.subscriptions.catalogs import Position
    from veritydb.subscriptions.origin import Origin
    from veritydb.subscriptions.receiver import Snapshot
    from veritydb.subscriptions.source import Source
    from veritydb.subscriptions.updates import TableUpdate, Update

RECORDS = 64
"""Records read in one go."""
PROJECTIONS_TABLE = "_veritydb_projections"


class Feed:
    """The committed changes of one database, for any number of subscribers. Thread-safe; :meth:`close` it."""

    def __init__(
        self,
        origin: Origin,
        *,
        register: Callable[[Any], object] | None = None,
        notify: str | None = None,
        ring_rows: int = ROWS,
    ) -> None:
        self.origin = origin
        self._register = register
        self._pump_lock = threading.Lock()
        # Reentrant, for a subscription that nobody refers to any more is closed wherever its collection happens.
        self.condition = threading.Condition(threading.RLock())
        """Held for moments: to look at the ring and at what follows. Notified when the ring has grown."""
        self._gates: dict[object, Callable[[], None]] = {}
        self.failed: BaseException | None = None
        """Why nothing follows any more."""
        self.closed = False
        self.used = 0
        """Subscribers, and others who keep it open."""
        self.when_unused: Callable[[Feed], object] | None = None
        """Called when the last of them has left."""
        self._pid = os.getpid()
        self.source = origin.source()
        self._torn = False
        """Whether reading was interrupted between the source and the ring."""
        self.epoch = 0
        """Counts the logs that the database has had while it was followed."""
        self.history = self._new_history(self.source)
        self._ring = Ring(Cursor(self.source.next_offset - 1).position, ring_rows)
        self._leader: int | None = None
        """The thread that reads on for all who wait."""
        self._waiter = Waiter(origin.folder, how=notify)
        self._thread: threading.Thread | None = None
        """Leads while event loops listen."""
        self._notify = self._waiter.wake
        self._topic = origin.topic(self.source.stream)
        self._topic.notify = self._notify

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
        return Subscription(self.receiver(Selection.of(tables, actions, images, where), since, snapshot, buffer))

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

        return AsyncSubscription(self.receiver(Selection.of(tables, actions, images, where), since, snapshot, buffer))

    def receiver(
        self,
        selection: Selection,
        since: object = None,
        snapshot: bool = False,
        buffer: int = BUFFER,
        take_snapshot: Snapshot | None = None,
    ) -> Receiver:
        """Return a subscriber's place in this feed, for a shell of its own."""
        if snapshot and since is not None:
            raise ProgrammingError("a snapshot is of now: it cannot begin in the past (since=…)")
        taken = (take_snapshot or self.take_snapshot) if snapshot else None
        return Receiver(self, selection, since=since, buffer=buffer, snapshot=taken)

    def take_snapshot(self, selection: Selection) -> tuple[Cursor, Iterator[Update]]:
        """Return the place of the file as it is now, and its rows."""
        from veritydb.subscriptions.snapshots import snapshot

        return snapshot(self.open_file(), selection, close=True)

    def open_file(self) -> apsw.Connection:
        """Return a new connection to the database file that only reads; the caller closes it.

        Raises OperationalError, and ProgrammingError for a database in memory.
        """
        projection = self.origin.projection
        if projection is None:
            raise ProgrammingError("a database in memory shows its rows to its own connections only")
        try:
            return projection.open()
        except apsw.Error as error:
            raise OperationalError(f"no snapshot can be taken: {error}") from error

    # What subscribers ask ---------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether more can subscribe: not to one that is closed, has failed, or is a parent process's."""
        return not self.closed and self.failed is None and self._pid == os.getpid()

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
            return Cursor(*self._ring.end, self.stream)

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
            return Cursor(*self._ring.end, self.stream)

    def pump(self) -> bool:
        """Read and decode what is new, at most a few records; return whether there may be more."""
        with self._pump_lock:
            if self.closed or self.failed is not None:
                return False
            try:
                if self._torn:
                    self._mend()
                # Whoever reads may be interrupted, by Ctrl-C for one, between what the source has handed out and what
                # is in the ring: the next one who reads begins behind the ring again.
                self._torn = True
                records = self.source.advance(RECORDS)
                for record in records:
                    self._take(record)
                self._torn = False
                if not records and self.source.replaced():
                    return self._replace()
            except WrongKey as error:
                return self._renew(error)
            except Exception as error:
                self._fail(error)
                return False
            return bool(records)

    @property
    def led(self) -> bool:
        """Whether some thread reads on; otherwise nobody does, unless asked to (:meth:`pump`)."""
        return self._leader is not None

    def wait(self, number: int, timeout: float | None, given_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until the ring has a slot of that number, nothing follows any more, or the time is over.

        ``given_up`` is asked under :attr:`condition`: whoever makes it true calls :meth:`stir` then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        def over() -> bool:
            return (
                given_up()
                or self.closed
                or self.failed is not None
                or self._ring.next_number > number
                or (deadline is not None and time.monotonic() >= deadline)
            )

        try:
            if not self._lead(over, deadline):
                return
            while True:
                with self.condition:
                    if over():
                        return
                if self.pump() or self._watch():
                    continue
                pause = None if self.failed is not None else self.source.soon
                if deadline is not None:
                    left = max(0.0, deadline - time.monotonic())
                    pause = left if pause is None else min(pause, left)
                self._waiter.wait(pause)
        finally:
            self._follow()

    def stir(self) -> None:
        """Let all who wait look whether they still have to."""
        with self.condition:
            self.condition.notify_all()
        self._waiter.wake()

    def ends(self) -> int:
        """Return the number that the ring's next slot will have; the caller holds :attr:`condition`."""
        return self._ring.next_number

    def slots(self, number: int, limit: int) -> list[Slot] | None:
        """Return slots from a number on; None if the first is no longer there. The caller holds :attr:`condition`."""
        return self._ring.slots(number, limit)

    def find(self, position: Position, epoch: int) -> int | None:
        """Return the number of the first slot behind a position; None if what follows it is not in the ring.

        The caller holds :attr:`condition`.
        """
        return self._ring.find(position) if epoch == self.epoch else None

    def old(self, after: Position, source: Source, history: History) -> Iterator[Batch]:
        """Yield the batches behind a position from the log, up to what the feed has seen."""
        offset, _ = after
        start = offset + 1 if after >= Cursor(offset).position else offset
        history.reach_back(start - 1, lambda first, last: self._schemas(source, first, last))
        for transaction in Reader(source, self.origin.opener).transactions(start):
            for batch in self._decoded(transaction, history, source):
                if batch.end > after:
                    yield batch

    def use(self) -> None:
        """Count one more user."""
        with self.condition:
            self.used += 1

    def leave(self) -> None:
        """Count one user less; a shared feed ends with its last."""
        with self.condition:
            self.used -= 1
            last = self.used <= 0
        if last and self.when_unused is not None:
            self.when_unused(self)

    def add_gate(self, key: object, wake: Callable[[], None]) -> None:
        """Call ``wake``, from whatever thread reads, whenever the ring has grown."""
        with self.condition:
            self._gates[key] = wake
            if self._thread is None and not self.closed:
                arguments = (weakref.ref(self), self._waiter)
                self._thread = threading.Thread(
                    target=Feed._serve_gates, args=arguments, name="veritydb.feed", daemon=True
                )
                self._thread.start()

    def remove_gate(self, key: object) -> None:
        """Call it no more."""
        with self.condition:
            self._gates.pop(key, None)
            last = not self._gates
        if last:
            self.stir()

    def check(self) -> None:
        """Raise if nothing follows any more: what went wrong, or that it was closed."""
        self._check()

    def abandon(self) -> None:
        """Be of no use any more, in the child of a fork."""
        self._pump_lock = threading.Lock()
        self.condition = threading.Condition(threading.RLock())
        self._leader = None
        self.failed = ProgrammingError("the subscription was made before a fork; subscribe again in this process")
        self._unpublish()

    def close(self) -> None:
        """End all subscriptions; harmless if called again."""
        with self.condition:
            if self.closed:
                return
            self.closed = True
            gates = list(self._gates.values())
        for wake in gates:
            wake()
        self._unpublish()
        if self._pid != os.getpid():
            return  # What is open here is the parent's.
        self.stir()
        me = threading.get_ident()
        with self.condition:
            thread = self._thread
            while self._leader not in (None, me):
                self.condition.wait()
        if thread is not None and thread.ident != me:
            thread.join()
        with self._pump_lock:
            self.source.close()
            self.history.close()
        self._waiter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inside -----------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what is new, if nobody does."""
        while self._leader is None and self.pump():
            pass

    def _unpublish(self) -> None:
        if self._topic.notify == self._notify:
            self._topic.notify = None

    def _lead(self, over: Callable[[], bool], deadline: float | None = None) -> bool:
        """Become the one who reads, as soon as nobody else does; False if it is over before."""
        me = threading.get_ident()
        with self.condition:
            while not over():
                if self._leader in (None, me):
                    self._leader = me
                    return True
                self.condition.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            return False

    def _follow(self) -> None:
        """If this thread leads, leave it to somebody else who waits."""
        with self.condition:
            if self._leader == threading.get_ident():
                self._leader = None
                self.condition.notify_all()

    def _watch(self) -> bool:
        """See that this thread is told of what is written; return whether it may have missed something."""
        with self._pump_lock:
            if self.closed or self.failed is not None:
                return False
            watched = self.source.watched()
        return watched is not None and self._waiter.follow(watched)

    def _nobody_listens(self) -> bool:
        return not self._gates or self.closed or self.failed is not None

    @staticmethod
    def _serve_gates(feed: weakref.ref[Feed], waiter: Waiter) -> None:
        """Lead for event loops, in a thread of its own, until there is none."""
        this = feed()
        while this is not None:
            if this._lead(this._nobody_listens):
                while this.pump() or this._watch():
                    pass
            with this.condition:
                if this._nobody_listens():
                    this._thread = None  # A gate that comes now makes another.
                    this._follow()
                    return
            pause = this.source.soon if this.failed is None else None
            # While it waits it knows the feed weakly, so that one that nobody refers to any more ends with its thread.
            this = None
            waiter.wait(pause)
            this = feed()

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
        for transaction in Reader(self.source, self.origin.opener).of_record(record):
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
        for transaction in Reader(source, self.origin.opener).transactions(max(first, 0)):
            if transaction.offset > last:
                return
            index = 0
            for event in transaction.events:
                if isinstance(event, Schema):
                    yield (transaction.offset, index), event
                index += len(event) if isinstance(event, Rows) else 1

    def _append(self, entry: Batch | Resync, end: Position) -> None:
        with self.condition:
            self._ring.append(entry, end)
            self.condition.notify_all()
            gates = list(self._gates.values()) if self._gates else ()
        for wake in gates:
            wake()

    def _mend(self) -> None:
        """Read again what was handed out by the source and has not reached the ring."""
        source = self.origin.source()
        with self.condition:
            old, self.source = self.source, source
            end = self._ring.end
        old.close()
        for batch in self.old(end, source, self.history):
            self._append(batch, batch.end)

    def _renew(self, error: WrongKey) -> bool:
        """A record was sealed with a key that is not known here: go on if there are newer ones."""
        try:
            if self.origin.renew():
                return True  # What was handed out and not decoded is read again.
        except Exception as why:
            error.__cause__ = why
        self._fail(error)
        return False

    def _replace(self) -> bool:
        """The database has another log: follow that, and tell."""
        try:
            source = self.origin.source()
        except LogMissing:
            return False  # Moved away, and nothing in its place yet.
        history = self._new_history(source)
        old, before = self.source, self.history
        with self.condition:
            self.source, self.history = source, history
            self.epoch += 1
            self._ring.end = (-1, 0)
        start = Cursor(source.first_offset() - 1, stream=self.stream)
        self._append(Resync(cursor=start, why="the database has another log now"), start.position)
        old.close()
        before.close()
        self._unpublish()
        self._topic = self.origin.topic(source.stream)
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


def _projections(rows: Rows) -> frozenset[str]:
    if rows.table != PROJECTIONS_TABLE:
        return frozenset()
    return frozenset(str(image[0]) for image in rows.after or rows.before or () if image)


__all__ = ["PROJECTIONS_TABLE", "RECORDS", "Feed"]
