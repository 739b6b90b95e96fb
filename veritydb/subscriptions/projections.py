"""Projections by the user: tables made of the log's updates by a handler, with a checkpoint in the same transaction.

::

    @db.projection("patient_timeline", tables=["visits"], writes=["timeline"])
    def patient_timeline(update, db):
        db.execute("INSERT INTO timeline VALUES (?, ?)", (update.after["patient"], update.timestamp))

    patient_timeline.run_until_idle()

A projection reads in order, by itself, and never skips: an update whose handler raises stops it. Its checkpoint is a
row of ``_veritydb_projections``, and moves in the transaction of what the handler wrote, so each update takes effect
once, whoever dies when, and two processes that run the same projection do not disturb each other. The row is written
first, so the log itself tells which transactions are a projection's own work; those it does not get to see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from veritydb.errors import ConfigurationError, ConflictError, ConsumerOutOfLog, ProgrammingError
from veritydb.events import Value
from veritydb.refusals import reserved
from veritydb.replay.statements import quoted
from veritydb.subscriptions.consumers import Work
from veritydb.subscriptions.feed import PROJECTIONS_TABLE, Feed
from veritydb.subscriptions.own import OwnTables
from veritydb.subscriptions.receiver import BUFFER, Receiver
from veritydb.subscriptions.registry import feed_of
from veritydb.subscriptions.updates import START, Cursor, Resync, RowId, Selection, TableUpdate

if TYPE_CHECKING:
    import threading
    from typing import Self

    from veritydb.session import Session

_MAKE = (
    f"CREATE TABLE {PROJECTIONS_TABLE} (name TEXT PRIMARY KEY, checkpoint TEXT NOT NULL, target INT) "
    "STRICT, WITHOUT ROWID"
)
_ROW = f"SELECT checkpoint, target FROM {PROJECTIONS_TABLE} WHERE name = ?"

Handler = Callable[[Work, Any], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a projection is."""

    offset: int
    """The last transaction that was taken in, or had nothing for it."""
    target: int
    """The last transaction there is."""
    rebuilding: bool
    """Whether it has not yet reached what was there when its rebuild began."""

    @property
    def lag(self) -> int:
        """Transactions between the two, its own and unrelated ones included."""
        return max(0, self.target - self.offset)


class Projection:
    """One projection, run through one connection; for the thread of that."""

    def __init__(
        self,
        session: Session,
        connection: Any,
        name: str,
        handler: Handler,
        *,
        tables: str | Collection[str] | None,
        actions: str | Collection[str] | None,
        writes: str | Collection[str],
        batch: int,
    ) -> None:
        if not name or len(name) > 200:
            raise ConfigurationError("a projection's name has 1 to 200 characters")
        if batch < 1:
            raise ConfigurationError("a batch has at least one update")
        self.name = name
        self.handler = handler
        self.writes = (writes,) if isinstance(writes, str) else tuple(writes)
        """The tables that are its own: emptied by :meth:`rebuild`."""
        if any(reserved(table) for table in self.writes):
            raise ConfigurationError("a projection writes tables of yours")
        chosen = Selection.of(tables, actions, True, None)
        self._selection = Selection(chosen.tables, chosen.actions, True, None, name)
        self._batch = batch
        self._session = session
        self._connection = connection
        self._own = OwnTables(session)
        session.first_use()
        self._feed: Feed = feed_of(session.stream, session.register)
        self._receiver: Receiver | None = None
        self._position = START
        self.closed = False

    def run_once(self) -> int:
        """Take in up to a batch of updates, in one transaction; return how many.

        What the handler raises rolls the batch back and is raised, with the update's cursor in a note. Raises
        ProgrammingError inside a transaction, ConsumerOutOfLog if the log no longer has what follows.
        """
        self._check()
        while True:
            try:
                with self._own.outside("a projection"):
                    return self._run_once()
            except BaseException as error:
                # What was read was not taken in, so it is still to come.
                self._drop()
                if not isinstance(error, ConflictError):  # Else another machine was first.
                    raise

    def _run_once(self) -> int:
        checkpoint, _ = self._stored()
        receiver = self._at(checkpoint)
        updates = self._more(receiver)
        if not updates and receiver.cursor.offset - checkpoint.offset <= BUFFER:
            return 0
        with self._own.transaction("a projection"):
            self._own.make(PROJECTIONS_TABLE, _MAKE)
            now, target = self._stored()
            if now != checkpoint:
                self._drop()  # Another process has run it meanwhile.
                return 0
            behind = updates[-1].cursor if updates else receiver.cursor
            if target is not None and behind.offset >= target:
                target = None
            self._write(behind, target)
            for update in updates:
                try:
                    self.handler(update, self._connection)
                except BaseException as error:
                    error.add_note(f"projection {self.name!r}, at {update.cursor}; its batch was rolled back")
                    raise
        self._position = behind
        return len(updates)

    def run_until_idle(self, progress: Callable[[Progress], object] | None = None) -> int:
        """Take in all there is; return how many updates. ``progress`` is called after each batch."""
        count = 0
        while True:
            taken = self.run_once()
            count += taken
            if progress is not None:
                progress(self.progress())
            if not taken:
                return count

    def run(self, stop: threading.Event | None = None, *, pause: float = 1.0) -> None:
        """Take in what there is and what comes, until ``stop`` is set; that is looked at every ``pause`` seconds."""
        while stop is None or not stop.is_set():
            with self._feed.condition:
                ends = self._feed.ends()
            if self.run_until_idle():
                continue
            self._feed.wait(ends, pause)

    def rebuild(self, progress: Callable[[Progress], object] | None = None) -> int:
        """Empty its tables and take in everything from the first transaction; return how many updates.

        The emptying is one transaction, what follows are many: meanwhile readers see the tables fill, and
        :attr:`Progress.rebuilding` says so. Interrupted, it goes on where it was.
        """
        self._check()
        if not self.writes:
            raise ProgrammingError(f"projection {self.name!r} does not say what it writes (writes=…)")
        self._drop()
        target = self._feed.catch_up().offset
        with self._own.transaction("a rebuild"):
            self._own.make(PROJECTIONS_TABLE, _MAKE)
            self._write(START._replace(stream=self._feed.stream), target)
            for table in self.writes:
                self._connection.execute(f"DELETE FROM main.{quoted(table)}")
        return self.run_until_idle(progress)

    def progress(self) -> Progress:
        """Return how far it is."""
        self._check()
        checkpoint, target = self._stored()
        last = self._feed.catch_up().offset
        receiver = self._receiver
        seen = checkpoint.offset
        if receiver is not None and self._position == checkpoint and not receiver.behind:
            seen = max(seen, receiver.cursor.offset)
        return Progress(offset=seen, target=last, rebuilding=target is not None and seen < target)

    def close(self) -> None:
        """Let go of the feed."""
        if not self.closed:
            self.closed = True
            self._drop()
            self._feed.leave()

    def __call__(self, update: Work, db: Any) -> object:
        """Call the handler, as if it had not been decorated."""
        return self.handler(update, db)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self.close()
        return False

    # Inside

    def _stored(self) -> tuple[Cursor, int | None]:
        found = self._own.read(_ROW, (self.name,))
        if not found:
            return START._replace(stream=self._feed.stream), None
        return Cursor.parse(found[0][0]), found[0][1]

    def _write(self, checkpoint: Cursor, target: int | None) -> None:
        # Gone and there again, not updated: the first change of the transaction has to name the projection.
        self._own.write(f"DELETE FROM {PROJECTIONS_TABLE} WHERE name = ?", (self.name,))
        self._own.write(f"INSERT INTO {PROJECTIONS_TABLE} VALUES (?, ?, ?)", (self.name, str(checkpoint), target))

    def _at(self, checkpoint: Cursor) -> Receiver:
        """Return a receiver that goes on behind the checkpoint."""
        receiver = self._receiver
        if receiver is None or self._position != checkpoint:
            self._drop()
            receiver = self._receiver = self._feed.receiver(self._selection, checkpoint)
            self._position = checkpoint
        return receiver

    def _more(self, receiver: Receiver) -> list[Work]:
        """Return the next updates, at most a batch, that are committed already."""
        self._feed.catch_up()
        updates: list[Work] = []
        while len(updates) < self._batch and (update := receiver.take_committed()) is not None:
            if isinstance(update, Resync):
                raise ConsumerOutOfLog(consumer=self.name, offset=update.offset)
            if isinstance(update, Work):
                updates.append(update)
        return updates

    def _drop(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    def _check(self) -> None:
        if self.closed:
            raise ProgrammingError(f"projection {self.name!r} is closed")
        self._feed.check()


# Two that are ready ---------------------------------------------------------------------------------------------------


def latest_by_id(target: str, source: str) -> tuple[Handler, dict[str, Any]]:
    """Return a handler that keeps in ``target`` the latest row of each row of ``source``, deleted ones too.

    ``target`` has columns ``id`` (the primary key), ``row`` (JSON), ``deleted``, ``offset``, ``at``; it is yours to
    create: see docs/guides/subscriptions.md. Returned with the arguments that :meth:`veritydb.Connection.projection`
    needs.
    """
    put = (
        f"INSERT INTO main.{quoted(target)} (id, row, deleted, offset, at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) "
        "DO UPDATE SET row = excluded.row, deleted = excluded.deleted, offset = excluded.offset, at = excluded.at"
    )

    def handler(update: Work, db: Any) -> None:
        if isinstance(update, TableUpdate):
            row = update.after if update.after is not None else update.before
            if update.row_id_before != update.row_id:
                db.execute(put, (_text(update.row_id_before), None, 1, update.offset, update.timestamp))
            db.execute(
                put,
                (
                    _text(update.row_id),
                    json.dumps(row, default=_json),
                    int(update.action == "delete"),
                    update.offset,
                    update.timestamp,
                ),
            )

    return handler, {"tables": [source], "writes": [target]}


def timeline(target: str, sources: Collection[str]) -> tuple[Handler, dict[str, Any]]:
    """Return a handler that appends to ``target`` one row for each change of ``sources``.

    ``target`` has columns ``offset``, ``number``, ``at``, ``actor``, ``reason``, ``source``, ``id``, ``action``,
    ``changes`` (JSON: the columns that changed, each with its values before and after).
    """
    put = (
        f"INSERT INTO main.{quoted(target)} (offset, number, at, actor, reason, source, id, action, changes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )

    def handler(update: Work, db: Any) -> None:
        if not isinstance(update, TableUpdate):
            return
        before, after = update.before or {}, update.after or {}
        changes = {name: [before.get(name), after.get(name)] for name in update.changed}
        db.execute(
            put,
            (
                update.offset,
                update.number,
                update.timestamp,
                update.actor,
                update.reason,
                update.table,
                _text(update.row_id),
                update.action,
                json.dumps(changes, default=_json),
            ),
        )

    return handler, {"tables": list(sources), "writes": [target]}


def _text(row_id: RowId) -> Value:
    return json.dumps(list(row_id), default=_json) if isinstance(row_id, tuple) else row_id


def _json(value: object) -> object:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    raise TypeError(f"{type(value).__name__} is no value of SQLite's")


__all__ = ["Progress", "Projection", "latest_by_id", "timeline"]
