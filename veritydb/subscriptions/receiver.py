"""One subscriber's place in a feed: what it has seen, and where the next updates come from.

:class:`Receiver` never waits. Its shells do: :mod:`veritydb.subscriptions.subscription` for threads,
:mod:`veritydb.subscriptions.asynchronous` for event loops. It is in one of two states:

``live``     it has a number in the feed's ring, and takes what stands there;
``behind``   what it needs is no longer in the ring, or was never: it reads the log itself, a batch at a time, until it
             has reached the ring again.

Nothing is ever lost in between, because both are made from the same log and carry the same cursors. If the log itself
no longer has what is needed, the subscriber is told once (:class:`Resync`) and goes on from what there is.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from veritydb.errors import CursorAhead, LogMissing, LogUnavailable, SubscriptionClosed, UnknownTable
from veritydb.subscriptions.decoding import Batch
from veritydb.subscriptions.updates import Cursor, Resync, Selection, Update

if TYPE_CHECKING:
    from veritydb.subscriptions.catalogs import Position
    from veritydb.subscriptions.feed import Feed

BUFFER = 1_000
"""Updates that a subscriber holds for itself at most, by default."""
_SLOTS = 16

Snapshot = Callable[[Selection], "tuple[Cursor, Iterator[Update]]"]
"""Returns the cursor of a snapshot, and what a subscriber gets of it."""


class Receiver:
    """What one subscriber has seen and will see. For one thread or task at a time."""

    def __init__(
        self,
        feed: Feed,
        selection: Selection,
        *,
        since: object = None,
        buffer: int = BUFFER,
        snapshot: Snapshot | None = None,
    ) -> None:
        if buffer < 1:
            raise ValueError("a subscription's buffer holds at least one update")
        self.feed = feed
        self.selection = selection
        self._buffer = buffer
        self._snapshot = snapshot
        self._ready: deque[Update] = deque()
        self._pending: Iterator[Update] | None = None
        """The rest of a snapshot."""
        self._old: Iterator[Batch] | None = None
        """The log, while behind."""
        self._number: int | None = None
        """The next slot of the ring, while live."""
        self.closed = False
        last = feed.catch_up()
        self.check_tables(feed)
        self._epoch = feed.epoch
        self._cursor = self._cursor_out = last
        """How far batches were taken in, and how far updates were handed out."""
        if snapshot is not None and since is None:
            self._begin_snapshot()
        elif since is not None:
            self._begin_since(Cursor.parse(since), last)
        else:
            with feed.condition:
                self._number = feed.find(last.position, self._epoch)
        feed.use()

    @property
    def cursor(self) -> Cursor:
        """Everything up to here was seen, or was not wanted."""
        if self._ready or self._pending is not None:
            return self._cursor_out
        return self._cursor

    @property
    def behind(self) -> bool:
        """Whether the next updates have to be read from the log."""
        return not self._ready and (self._number is None or self._pending is not None)

    @property
    def number(self) -> int | None:
        """The number of the ring's slot that is needed next; None while behind."""
        return self._number

    @property
    def drained(self) -> bool:
        """Whether all that was taken in has been handed out."""
        return not self._ready and self._pending is None

    def advance(self, number: int, cursor: Cursor) -> None:
        """Go on with the ring's slot ``number``: a receiver at the same place has taken what lies before it."""
        self._number = number
        self._cursor = self._cursor_out = cursor

    def take(self) -> Update | None:
        """Return the next update if it is in memory, without reading anything; None if it is not."""
        if not self._ready and not self._fill():
            return None
        update = self._ready.popleft()
        self._cursor_out = update.cursor
        return update

    def take_committed(self) -> Update | None:
        """Return the next update, read from the log if it must be; None if no more was committed when the feed looked.

        Raises what :meth:`read` raises.
        """
        while True:
            if self.behind:
                self.read()
            update = self.take()
            if update is not None or not self.behind:
                return update

    def take_all(self, limit: int) -> list[Update]:
        """Return up to ``limit`` updates that are in memory."""
        taken: list[Update] = []
        while len(taken) < limit and (self._ready or self._fill()):
            while self._ready and len(taken) < limit:
                taken.append(self._ready.popleft())
        if taken:
            self._cursor_out = taken[-1].cursor
        return taken

    def read(self) -> bool:
        """While :attr:`behind`, read on in the log (or the snapshot); return whether something is there to take.

        This touches the disk. Raises LogDamaged, LogUnavailable, KeyProblem.
        """
        while self.behind and not self.closed:
            if self._pending is not None:
                self._read_snapshot()
            else:
                self._read_log()
        return bool(self._ready)

    def close(self) -> None:
        """End it; harmless if called again."""
        if self.closed:
            return
        self.closed = True
        self._drop_old()
        pending, self._pending = self._pending, None
        if pending is not None:
            _close(pending)
        self.feed.leave()

    # Inside

    def check_tables(self, feed: Feed) -> None:
        """Raise UnknownTable if one that is wanted is not there."""
        for name in sorted(self.selection.tables or ()):
            if not feed.knows(name):
                raise UnknownTable(name)

    def _begin_since(self, since: Cursor, last: Cursor) -> None:
        if since.stream and since.stream != last.stream:
            self._resync("the cursor is of another log")
        elif since.offset > last.offset:
            raise CursorAhead(offset=since.offset, last=last.offset)
        else:
            self._cursor = since._replace(stream=last.stream)
        self._cursor_out = self._cursor

    def _begin_snapshot(self) -> None:
        assert self._snapshot is not None
        self._cursor, self._pending = self._snapshot(self.selection)
        self._cursor_out = self._cursor
        self._number = None

    def _fill(self) -> bool:
        """Take from the ring, if that is where the next updates are."""
        if self.closed:
            raise SubscriptionClosed("the subscription is closed")
        if self._pending is not None or self._number is None:
            return False
        feed = self.feed
        ready = self._ready
        while not ready:
            with feed.condition:
                slots = feed.slots(self._number, _SLOTS)
                epoch = feed.epoch
            if slots is None:
                self._number = None
                return False
            if not slots:
                feed.check()
                return False
            for slot in slots:
                entry = slot.entry
                if isinstance(entry, Resync):
                    self._number += 1
                    self._epoch = epoch
                    self._after_resync(entry)
                    if self._pending is not None:
                        return True
                    continue
                self._put(entry)  # Which a predicate may make raise: then it is still to come.
                self._number += 1
        return True

    def _put(self, batch: Batch) -> None:
        """Make ready what is wanted of a batch, and was not seen."""
        seen = self._cursor.position
        if batch.end <= seen:
            return
        self._ready.extend(self.choose(batch, seen))
        self._cursor = Cursor(*batch.end, batch.stream)

    def choose(self, batch: Batch, seen: Position) -> Sequence[Any]:
        """Return what is wanted of a batch and lies behind ``seen``: objects with a ``cursor``.

        :mod:`veritydb.sse.pieces` has a receiver whose objects are ready-made text.
        """
        chosen = batch.select(self.selection)
        if chosen and seen >= chosen[0].cursor.position:
            return [update for update in chosen if update.cursor.position > seen]
        return chosen

    def _after_resync(self, resync: Resync) -> None:
        self._ready.append(resync)
        self._cursor = resync.cursor
        if self._snapshot is not None:
            self._begin_snapshot()

    def _resync(self, why: str) -> None:
        """Go on with the first that the log has, and say so."""
        self._drop_old()
        feed = self.feed
        with feed.condition:
            self._epoch = feed.epoch
        first = Cursor(feed.source.first_offset() - 1, stream=feed.stream)
        self._number = None
        self._after_resync(Resync(cursor=first, why=why))

    def _read_log(self) -> None:
        feed = self.feed
        feed.check()
        with feed.condition:
            if feed.epoch == self._epoch:
                number = feed.find(self._cursor.position, self._epoch)
                replaced = False
            else:
                number, replaced = None, True
            source, history = feed.source, feed.history
        if number is not None:
            self._drop_old()
            self._number = number
            return
        if replaced:
            self._resync("the database has another log now")
            return
        try:
            if self._old is None:
                self._old = feed.old(self._cursor.position, source, history)
            # Not all at once: what does not fit stays in the log.
            while len(self._ready) < self._buffer:
                batch = next(self._old, None)
                if batch is None:
                    self._old = None  # What has been committed since will be in the ring.
                    break
                self._put(batch)
                if self._ready and len(self._ready) + len(batch.items) > self._buffer:
                    break
        except (LogMissing, LogUnavailable) as error:
            self._drop_old()
            if source.replaced() or isinstance(error, LogMissing):
                self._resync(str(error))
            else:
                raise

    def _read_snapshot(self) -> None:
        assert self._pending is not None
        for update in self._pending:
            self._ready.append(update)
            if len(self._ready) >= self._buffer:
                return
        self._pending = None

    def _drop_old(self) -> None:
        old, self._old = self._old, None
        if old is not None:
            _close(old)


def _close(iterator: Iterator[Any]) -> None:
    with contextlib.suppress(Exception):
        iterator.close()  # type: ignore[attr-defined]  # it is a generator
