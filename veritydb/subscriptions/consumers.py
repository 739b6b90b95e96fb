"""Durable consumers: named cursors whose work takes effect exactly once.

A consumer is a row in ``_veritydb_consumers``: up to where updates have been handed out. What is handed out and not yet
done is a row in ``_veritydb_deliveries``: to whom, for how long, the how manieth time. Three transactions move it::

    fetch   new updates get a row each, and the cursor moves behind them; rows whose time is over get a new owner
    ack     the row goes, in the same transaction as the work
    nack    the row's time is over now; after ``tries_max`` tries it is a dead letter, and stays for people to look at

An update gets its row once, because the cursor moves in the same transaction; the row goes once, because whoever
deletes it must be the owner it names, and checks that it was there. So the work that commits with an ack is done
exactly once, whoever dies when. The rows are ordinary rows: in the log, rolled back with the rest, rebuilt with the
file.

Several workers, in any process, may share a consumer: the write lock makes their fetches one after the other, and a
row's time (its *lease*) makes sure that the work of one who died is given to another.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from veritydb.errors import (
    ConfigurationError,
    ConflictError,
    ConsumerOutOfLog,
    CursorAhead,
    LeaseLost,
    ProgrammingError,
    UnknownTable,
)
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.own import OwnTables
from veritydb.subscriptions.receiver import Receiver
from veritydb.subscriptions.registry import feed_of
from veritydb.subscriptions.updates import Cursor, Resync, Selection, TableCleared, TableUpdate

if TYPE_CHECKING:
    from typing import Self

    from veritydb.session import Session

CONSUMERS, DELIVERIES = "_veritydb_consumers", "_veritydb_deliveries"
_MAKE_CONSUMERS = (
    f"CREATE TABLE {CONSUMERS} (name TEXT PRIMARY KEY, position TEXT NOT NULL, tables TEXT, actions TEXT, "
    "in_flight_max INT NOT NULL, tries_max INT NOT NULL, paused INT NOT NULL) "
    "STRICT, WITHOUT ROWID"
)
_MAKE_DELIVERIES = (
    f"CREATE TABLE {DELIVERIES} (consumer TEXT NOT NULL, offset INT NOT NULL, number INT NOT NULL, "
    "worker TEXT NOT NULL, tries INT NOT NULL, due_us INT, error TEXT, "
    "PRIMARY KEY (consumer, offset, number)) STRICT, WITHOUT ROWID"
)
_ROW = f"SELECT position, tables, actions, in_flight_max, tries_max, paused FROM {CONSUMERS} WHERE name = ?"
_EXPIRED = (
    f"SELECT offset, number, tries FROM {DELIVERIES} WHERE consumer = ? AND due_us <= ? ORDER BY offset, number LIMIT ?"
)
_SKIP_MAX = 10_000
"""Transactions without anything for the consumer after which its cursor is moved on, so that a restart is quick."""

Work = TableUpdate | TableCleared
"""What a worker gets. Schema statements are not work: a subscription tells of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a consumer is behind."""

    waiting: int
    """Updates that were not handed out yet."""
    in_flight: int
    """Handed out, and neither done nor dead."""
    dead: int
    oldest: int | None
    """Time of the oldest update that is not done, in microseconds since 1970; dead ones do not count."""
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An update that was tried too often."""

    update: Work
    tries: int
    error: str
    """What the last :meth:`Message.nack` said; empty if the workers only vanished."""


class Message:
    """One update, handed to one worker for a time."""

    __slots__ = ("_consumer", "tries", "update")

    def __init__(self, consumer: Consumer, update: Work, tries: int) -> None:
        self._consumer = consumer
        self.update = update
        self.tries = tries
        """Which try this is, from 1."""

    def ack(self) -> None:
        """Done: never again. In the transaction that is open on the connection, or in one of its own if none is.

        Raises LeaseLost if the time was over and another worker has it, or the consumer was reset: the caller's
        transaction must then be rolled back, which ``with db:`` does.
        """
        self._consumer._done(self)  # pyright: ignore[reportPrivateUsage]  its consumer's other half

    def nack(self, error: object = "") -> None:
        """Not done: it is handed out again at once, or is a dead letter if it was tried often enough."""
        self._consumer._failed(self, str(error))  # pyright: ignore[reportPrivateUsage]  its consumer's other half

    def __repr__(self) -> str:
        return f"<Message {self.update.cursor} of {self._consumer.name!r}, try {self.tries}>"


class Consumer:
    """One worker of a consumer; for the thread of its connection. ``with`` closes it, and its cursor stays."""

    def __init__(
        self,
        session: Session,
        name: str,
        *,
        tables: str | Collection[str] | None,
        actions: str | Collection[str] | None,
        since: object,
        images: bool,
        timeout: float,
        in_flight_max: int,
        tries_max: int,
    ) -> None:
        if not name or len(name) > 200:
            raise ConfigurationError("a consumer's name has 1 to 200 characters")
        if timeout <= 0 or in_flight_max < 1 or tries_max < 1:
            raise ConfigurationError("timeout, in_flight_max and tries_max are greater than zero")
        self.name = name
        self.worker = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._timeout_us = int(timeout * 1_000_000)
        self._selection = Selection.of(tables, actions, images, None)
        self._session = session
        self._own = OwnTables(session)
        session.first_use()
        self._feed: Feed = feed_of(session.stream, session.register)
        self._receiver: Receiver | None = None
        self._peeked: list[Work] = []
        self.closed = False
        try:
            for table in sorted(self._selection.tables or ()):
                if not self._feed.knows(table):
                    raise UnknownTable(table)
            self._register(since, in_flight_max, tries_max)
        except BaseException:
            self.close()
            raise

    # Working ----------------------------------------------------------------------------------------------------------

    def fetch(self, limit: int = 1, *, timeout: float | None = 0) -> list[Message]:
        """Take up to ``limit`` updates, waiting ``timeout`` seconds for the first (None: for ever).

        They are this worker's until they are acked, nacked, or their time is over. Returns an empty list if there is
        nothing, as many as allowed are in flight, or the consumer is paused. Raises ProgrammingError inside a
        transaction, ConsumerOutOfLog if the log no longer has what follows.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check()
            ends = self._ends()
            with self._own.outside("fetch"):
                messages = self._fetch_now(limit)
            if messages:
                return messages
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return []
            self._wait(ends, left)

    def run(self, handler: Callable[[Work], object], *, batch: int = 16, idle: float | None = None) -> int:
        """Call ``handler(update)`` for each update, each in a transaction that also acks it; return how many.

        An exception of the handler rolls its transaction back and nacks the update. Ends after ``idle`` seconds without
        anything to do (None: never).
        """
        count = 0
        while messages := self.fetch(batch, timeout=idle):
            for message in messages:
                count += self._work(message, handler)
        return count

    def _work(self, message: Message, handler: Callable[[Work], object]) -> bool:
        """Work on a message and ack it; return whether that was done."""
        while True:
            try:
                with self._own.transaction("a consumer's work"):
                    message.ack()
                    handler(message.update)
            except LeaseLost:
                return False  # Somebody else has it.
            except ConflictError:
                continue  # Another machine was first with something: nothing was done, and nobody is to blame.
            except Exception as error:
                with suppress(LeaseLost):
                    message.nack(f"{type(error).__name__}: {error}")
                return False
            return True

    def __iter__(self) -> Iterator[Message]:
        """Yield messages one at a time, for ever; each should be acked or nacked before the next is asked for."""
        while not self.closed:
            yield from self.fetch(1, timeout=None)

    # Managing ---------------------------------------------------------------------------------------------------------

    @property
    def position(self) -> Cursor:
        """Up to where updates have been handed out."""
        return Cursor.parse(self._row()[0])

    def lag(self) -> Lag:
        """Return how far the consumer is behind. Reads what is waiting, so it takes as long as that is much."""
        self._check()
        return lag_of(self._feed, self._own, self.name)

    def pause(self) -> None:
        """Hand nothing out any more, to no worker."""
        self._own.write(f"UPDATE {CONSUMERS} SET paused = 1 WHERE name = ?", (self.name,))

    def resume(self) -> None:
        """Go on."""
        self._own.write(f"UPDATE {CONSUMERS} SET paused = 0 WHERE name = ?", (self.name,))

    def reset(self, to: object) -> None:
        """Go on behind a cursor or offset (-1: from the beginning). What is in flight is lost to its workers."""
        self._check()
        reset(self._own, self._feed, self.name, to)
        self._forget()

    def dead_letters(self) -> list[DeadLetter]:
        """Return what was tried too often, oldest first."""
        found = self._own.read(
            f"SELECT offset, number, tries, error FROM {DELIVERIES} WHERE consumer = ? AND due_us IS NULL "
            "ORDER BY offset, number",
            (self.name,),
        )
        return [
            DeadLetter(update=self._read(offset, number), tries=tries, error=error or "")
            for offset, number, tries, error in found
        ]

    def revive(self, cursor: Cursor | None = None) -> int:
        """Try dead letters again from the start, one or all of them; return how many."""
        return self._of_the_dead("UPDATE {} SET tries = 0, due_us = 0, worker = ''", cursor)

    def discard(self, cursor: Cursor | None = None) -> int:
        """Forget dead letters, one or all of them; return how many."""
        return self._of_the_dead("DELETE FROM {}", cursor)

    def close(self) -> None:
        """Let go of the feed. What this worker has not acked is handed out again when its time is over."""
        if self.closed:
            return
        self.closed = True
        self._forget()
        self._feed.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self.close()
        return False

    # Inside -----------------------------------------------------------------------------------------------------------

    def _register(self, since: object, in_flight_max: int, tries_max: int) -> None:
        chosen = self._selection
        tables, actions = _stored(chosen.tables), _stored(chosen.actions)
        found = self._own.read(_ROW, (self.name,))
        if found and found[0][1:5] == (tables, actions, in_flight_max, tries_max):
            return
        with self._own.transaction("a consumer"):
            self._own.make(CONSUMERS, _MAKE_CONSUMERS)
            self._own.make(DELIVERIES, _MAKE_DELIVERIES)
            found = self._own.read(_ROW, (self.name,))
            settings = (in_flight_max, tries_max)
            if not found:
                last = Cursor(self._session.stream.log.head.next_offset - 1, stream=self._feed.stream)
                start = last if since is None else _place(since, self._feed, last)
                self._own.write(
                    f"INSERT INTO {CONSUMERS} VALUES (?, ?, ?, ?, ?, ?, 0)",
                    (self.name, str(start), tables, actions, *settings),
                )
            elif found[0][1:3] != (tables, actions):
                raise ConfigurationError(
                    f"consumer {self.name!r} takes {_said(found[0][1:3])}, and {_said((tables, actions))} was asked "
                    "for; use another name, or `veritydb consumers reset --forget` first"
                )
            else:
                self._own.write(
                    f"UPDATE {CONSUMERS} SET in_flight_max = ?, tries_max = ? WHERE name = ?",
                    (*settings, self.name),
                )

    def _row(self) -> Any:
        found = self._own.read(_ROW, (self.name,))
        if not found:
            raise ProgrammingError(f"consumer {self.name!r} was forgotten; nothing was changed")
        return found[0]

    def _fetch_now(self, limit: int) -> list[Message]:
        while True:
            self._feed.catch_up()
            position, _, _, _, _, paused = self._row()
            if paused:
                return []
            fresh = self._peek(Cursor.parse(position), limit)
            if not fresh and not self._own.read(_EXPIRED, (self.name, _now(), 1)) and not self._far(position):
                return []
            try:
                with self._own.transaction("fetch"):
                    return self._take(limit)
            except BaseException as error:
                # What was taken was not handed out to anybody, so it is still to come.
                self._forget()
                if not isinstance(error, ConflictError):  # Else another machine was first, perhaps with the same.
                    raise

    def _take(self, limit: int) -> list[Message]:
        own, name = self._own, self.name
        position, _, _, in_flight_max, tries_max, paused = self._row()
        if paused:
            return []
        now = _now()
        taken: list[Message] = []
        given: list[tuple[int, int, int]] = []
        for offset, number, tries in own.read(_EXPIRED, (name, now, limit)):
            if tries >= tries_max:
                self._at(offset, number, "UPDATE {} SET due_us = NULL")
                continue
            given.append((offset, number, tries + 1))
            self._at(
                offset,
                number,
                "UPDATE {} SET worker = ?, tries = tries + 1, due_us = ?",
                self.worker,
                now + self._timeout_us,
            )
        in_flight = own.read(f"SELECT count(*) FROM {DELIVERIES} WHERE consumer = ? AND due_us IS NOT NULL", (name,))[
            0
        ][0]
        room = min(limit - len(given), in_flight_max - in_flight)
        fresh = self._peek(Cursor.parse(position), max(room, 0))[: max(room, 0)]
        for update in fresh:
            offset, number, _ = update.cursor
            own.write(
                f"INSERT INTO {DELIVERIES} VALUES (?, ?, ?, ?, 1, ?, NULL)",
                (name, offset, number, self.worker, now + self._timeout_us),
            )
        if fresh or (room > 0 and self._far(position)):
            behind = fresh[-1].cursor if len(fresh) < len(self._peeked) or room <= 0 else self._receiver_cursor(fresh)
            own.write(f"UPDATE {CONSUMERS} SET position = ? WHERE name = ?", (str(behind), name))
        # What is older comes first.
        taken += [Message(self, self._read(offset, number), tries) for offset, number, tries in given]
        taken += [Message(self, update, 1) for update in fresh]
        del self._peeked[: len(fresh)]
        return taken

    def _receiver_cursor(self, fresh: list[Work]) -> Cursor:
        """Everything up to here was looked at."""
        assert self._receiver is not None
        return self._receiver.cursor if not self._receiver.behind else fresh[-1].cursor

    def _far(self, position: str) -> bool:
        """Whether so much was skipped that the cursor should say so."""
        receiver = self._receiver
        if receiver is None or receiver.behind or self._peeked:
            return False
        return receiver.cursor.offset - Cursor.parse(position).offset > _SKIP_MAX

    def _peek(self, position: Cursor, limit: int) -> list[Work]:
        """Return up to ``limit`` updates behind the consumer's cursor, kept for when they are handed out."""
        if self._receiver is None:
            self._receiver = self._feed.receiver(self._selection, position)
            self._peeked = []
        receiver = self._receiver
        # Other workers may have moved the cursor on, and a reset may have moved it back.
        while self._peeked and self._peeked[0].cursor.position <= position.position:
            del self._peeked[0]
        first = self._peeked[0].cursor if self._peeked else receiver.cursor
        if self._seen is not None and position.position < self._seen and position.position < first.position:
            self._forget()
            return self._peek(position, limit)
        self._seen = position.position
        while len(self._peeked) < limit and (update := receiver.take_committed()) is not None:
            if isinstance(update, Resync):
                raise ConsumerOutOfLog(consumer=self.name, offset=update.offset)
            if isinstance(update, Work) and update.cursor.position > position.position:
                self._peeked.append(update)
        return self._peeked[:limit]

    _seen: tuple[int, int] | None = None
    """Where the consumer's cursor was when we last looked."""

    def _read(self, offset: int, number: int) -> Work:
        return read_one(self._feed, self._selection, offset, number)

    def _done(self, message: Message) -> None:
        self._mine(message, "DELETE FROM {}")

    def _failed(self, message: Message, error: str) -> None:
        dead = message.tries >= int(self._row()[4])
        self._mine(message, "UPDATE {} SET due_us = ?, error = ?", None if dead else 0, error[:10_000])

    def _mine(self, message: Message, statement: str, *bindings: Any) -> None:
        """Change the row of a message, if it is still that of this worker and this try."""
        offset, number, _ = message.update.cursor
        count = self._own.write(
            f"{statement.format(DELIVERIES)} WHERE consumer = ? AND offset = ? AND number = ? AND worker = ? "
            "AND tries = ? AND due_us > 0",
            (*bindings, self.name, offset, number, self.worker, message.tries),
        )
        if count != 1:
            raise LeaseLost(consumer=self.name, offset=offset, number=number)

    def _at(self, offset: int, number: int, statement: str, *bindings: Any) -> int:
        return self._own.write(
            f"{statement.format(DELIVERIES)} WHERE consumer = ? AND offset = ? AND number = ?",
            (*bindings, self.name, offset, number),
        )

    def _of_the_dead(self, statement: str, cursor: Cursor | None) -> int:
        where = f"{statement.format(DELIVERIES)} WHERE consumer = ? AND due_us IS NULL"
        if cursor is None:
            return self._own.write(where, (self.name,))
        return self._own.write(f"{where} AND offset = ? AND number = ?", (self.name, cursor.offset, cursor.number))

    def _ends(self) -> int:
        with self._feed.condition:
            return self._feed.ends()

    def _wait(self, ends: int, left: float | None) -> None:
        """Wait until the log has grown behind slot ``ends``, or a lease of somebody is over."""
        feed = self._feed
        due = self._own.read(
            f"SELECT min(due_us) FROM {DELIVERIES} WHERE consumer = ? AND due_us IS NOT NULL", (self.name,)
        )
        if due and due[0][0] is not None:
            until = max((due[0][0] - _now()) / 1e6, 0.01)
            left = until if left is None else min(left, until)
        feed.wait(ends, left)

    def _forget(self) -> None:
        """Drop what was looked at ahead."""
        receiver, self._receiver = self._receiver, None
        self._peeked = []
        self._seen = None
        if receiver is not None:
            receiver.close()

    def _check(self) -> None:
        if self.closed:
            raise ProgrammingError(f"consumer {self.name!r} is closed")
        self._feed.check()


# Also for the command line --------------------------------------------------------------------------------------------


def names(own: OwnTables) -> list[tuple[str, str, bool]]:
    """Return name, position and whether it is paused, of each consumer."""
    found = own.read(f"SELECT name, position, paused FROM {CONSUMERS} ORDER BY name")
    return [(name, position, bool(paused)) for name, position, paused in found]


def lag_of(feed: Feed, own: OwnTables, name: str) -> Lag:
    """Return how far a consumer is behind; what is waiting is read for it. Raises ProgrammingError if there is none."""
    found = own.read(_ROW, (name,))
    if not found:
        raise ProgrammingError(f"there is no consumer {name!r}")
    position, tables, actions, *_, paused = found[0]
    rows = own.read(f"SELECT offset, number, due_us FROM {DELIVERIES} WHERE consumer = ?", (name,))
    flying = [(offset, number) for offset, number, due in rows if due is not None]
    selection = Selection(_loaded(tables), _loaded(actions))
    oldest: int | None = None
    if flying:
        oldest = read_one(feed, selection, *min(flying)).timestamp
    waiting = 0
    receiver = feed.receiver(Selection(None, selection.actions), position)
    try:
        while (update := receiver.take_committed()) is not None:
            if isinstance(update, Work) and selection.wants_table(update.table):
                waiting += 1
                oldest = update.timestamp if oldest is None else oldest
    finally:
        receiver.close()
    return Lag(waiting=waiting, in_flight=len(flying), dead=len(rows) - len(flying), oldest=oldest, paused=bool(paused))


def reset(own: OwnTables, feed: Feed, name: str, to: object) -> None:
    """Set a consumer's cursor. Raises ProgrammingError if there is no such consumer, CursorAhead, CursorMalformed."""
    place = _place(to, feed, feed.catch_up())
    with own.transaction("a reset"):
        if not own.write(f"UPDATE {CONSUMERS} SET position = ? WHERE name = ?", (str(place), name)):
            raise ProgrammingError(f"there is no consumer {name!r}")
        own.write(f"DELETE FROM {DELIVERIES} WHERE consumer = ?", (name,))


def forget(own: OwnTables, name: str) -> None:
    """Remove a consumer and all that is known of it."""
    with own.transaction("forgetting a consumer"):
        if not own.write(f"DELETE FROM {CONSUMERS} WHERE name = ?", (name,)):
            raise ProgrammingError(f"there is no consumer {name!r}")
        own.write(f"DELETE FROM {DELIVERIES} WHERE consumer = ?", (name,))


def read_one(feed: Feed, selection: Selection, offset: int, number: int) -> Work:
    """Return one update that was handed out before. Raises ConsumerOutOfLog if the log no longer has it."""
    for batch in feed.old((offset, number - 1), feed.source, feed.history):
        for update in batch.updates(images=selection.images):
            if update.cursor.position == (offset, number):
                return update  # type: ignore[no-any-return]  # a queue of Any
        if batch.end >= (offset, number):
            break
    raise ConsumerOutOfLog(consumer="", offset=offset)


def _place(since: object, feed: Feed, last: Cursor) -> Cursor:
    cursor = Cursor.parse(since)
    if (cursor.stream and cursor.stream != feed.stream) or cursor.offset > last.offset:
        raise CursorAhead(offset=cursor.offset, last=last.offset)
    return cursor._replace(stream=feed.stream)


def _stored(names: frozenset[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(names))


def _loaded(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(json.loads(text))


def _said(stored: tuple[str | None, str | None]) -> str:
    tables, actions = stored
    return f"tables {tables or 'all'} and actions {actions or 'all'}"


def _now() -> int:
    return time.time_ns() // 1000


__all__ = ["Consumer", "DeadLetter", "Lag", "Message"]
