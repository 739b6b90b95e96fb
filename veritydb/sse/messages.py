"""Updates as text: what goes over the wire, made once for all who see the same.

A :class:`View` is what one stream shows: the caller's rights, and what of it was asked for. Equal views are one object
(:class:`Views` sees to that), so what a batch of the log looks like through a view is kept in the batch itself, and a
thousand streams send the same bytes. Pure: no clock, no socket.

Every message is an object of :file:`event.schema.json` and carries the cursor behind it. A row filter acts as in
PostgreSQL's logical replication: an update that brings a row into view is an insert, one that takes it out of view is a
delete, and one that changed nothing that may be seen is not sent.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from veritydb.events import Image
from veritydb.sse.problems import Problem
from veritydb.sse.rights import Lens, Rights
from veritydb.sse.values import json_value
from veritydb.subscriptions.decoding import Batch, Change, Said, Table
from veritydb.subscriptions.updates import (
    DELETE,
    INSERT,
    UPDATE,
    Cursor,
    Resync,
    RowId,
    SchemaChange,
    TableCleared,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LENSES_MAX = 1_000
_ROWS_BYTES = 32 << 10
"""Of rows that are sent as one message, roughly."""
KEPT_BYTES_MAX = 32 << 20
"""Of text that is kept for others who see the same."""


class Message(NamedTuple):
    """One event of a stream, or several in a row."""

    cursor: Cursor
    """To go on behind it."""
    sse: bytes
    """As an event stream has it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for."""

    tables: frozenset[str] | None = None
    """In lower case; None: all that the caller may see."""
    actions: frozenset[str] | None = None
    images: bool = False


class View:
    """What one kind of stream shows. Compared by identity: see :class:`Views`."""

    def __init__(self, rights: Rights, asked: Asked, value_bytes_max: int) -> None:
        self.rights = rights
        self.asked = asked
        self._length_max = value_bytes_max
        self._lenses: dict[int, tuple[Table, Lens | None]] = {}

    def messages(self, batch: Batch) -> list[Message]:
        """Return what is shown of a batch, one message a change."""
        made: list[Message] = []
        for item in batch.items:
            if isinstance(item, SchemaChange):
                message = self._schema(item)
            elif isinstance(item, TableCleared):
                message = self._cleared(item)
            else:
                message = self._change(item, batch.said, batch.stream)
            if message is not None:
                made.append(message)
        return made

    def rows(self, table: Table, rows: Iterable[tuple[RowId, Image]], place: Cursor) -> Iterator[Message]:
        """Yield what is shown of the rows of a table, several in one message. No cursor is in the text."""
        lens = self._lens(table)
        assert lens is not None, "whoever asks has asked whether it is shown"
        made: list[bytes] = []
        size = 0
        for row_id, image in rows:
            if not lens.admits(image):
                continue
            body: dict[str, Any] = {"table": table.name, "row_id": self._row_id(table, lens, row_id)}
            if self.asked.images:
                body["row"] = self._row(lens, lens.project(image))
            made.append(b"event: row\ndata: " + _encoded(body) + b"\n\n")
            size += len(made[-1])
            if size >= _ROWS_BYTES:
                yield Message(place, b"".join(made))
                made, size = [], 0
        if made:
            yield Message(place, b"".join(made))

    def shows_rows(self, table: Table) -> bool:
        """Whether a table is asked for, and some column of it may be seen."""
        return self._lens(table) is not None

    def shows(self, table: str) -> bool:
        """Whether a table is asked for and may be seen."""
        asked = self.asked.tables
        return (asked is None or table.lower() in asked) and self.rights.of(table) is not None

    def _lens(self, table: Table) -> Lens | None:
        # By identity, the table being kept with it: a table's value has a name for each column, to be hashed each time.
        known = self._lenses.get(id(table))
        if known is not None:
            return known[1]
        if len(self._lenses) >= _LENSES_MAX:
            self._lenses.clear()
        grant = self.rights.of(table.name)
        lens = Lens(grant, table.columns) if grant is not None and self.shows(table.name) else None
        if lens is not None and not lens.columns:
            lens = None
        self._lenses[id(table)] = table, lens
        return lens

    def _change(self, change: Change, said: Said, stream: str) -> Message | None:
        table = change.table
        lens = self._lens(table)
        if lens is None:
            return None
        action, before, after = change.action, change.before, change.after
        changed: tuple[str, ...] = lens.columns
        if change.column is not None:
            # Written into through a blob handle. There are no images, so whether a filter admits the row is not known.
            if lens.filtered or not lens.shows(change.column):
                return None
            changed = (change.column,)
        else:
            before = before if before is not None and lens.admits(before) else None
            after = after if after is not None and lens.admits(after) else None
            if before is None and after is None:
                return None
            if before is None or after is None:
                action = INSERT if before is None else DELETE
            else:
                before, after = lens.project(before), lens.project(after)
                changed = _changed(lens.columns, before, after)
                if not changed and not lens.whole:
                    return None
                return self._put(change, said, stream, lens, UPDATE, changed, before, after)
            before = None if before is None else lens.project(before)
            after = None if after is None else lens.project(after)
        return self._put(change, said, stream, lens, action, changed, before, after)

    def _put(
        self,
        change: Change,
        said: Said,
        stream: str,
        lens: Lens,
        action: str,
        changed: tuple[str, ...],
        before: Image | None,
        after: Image | None,
    ) -> Message | None:
        asked = self.asked
        if asked.actions is not None and action not in asked.actions:
            return None
        row_id = change.row_id if action != DELETE else change.row_id_before
        body: dict[str, Any] = {
            "table": change.table.name,
            "action": action,
            "row_id": self._row_id(change.table, lens, row_id),
        }
        if action == UPDATE and change.row_id_before != change.row_id:
            body["row_id_before"] = self._row_id(change.table, lens, change.row_id_before)
        body |= self._transaction(said.offset, said.timestamp, said.actor, said.reason)
        body["index"] = change.number
        body["changed"] = changed
        if asked.images:
            body["before"] = self._row(lens, before)
            body["after"] = self._row(lens, after)
        return _message(Cursor(said.offset, change.number, stream), "change", body)

    def _row_id(self, table: Table, lens: Lens, row_id: RowId) -> object:
        if not isinstance(row_id, tuple):
            return json_value(row_id, self._length_max)
        # A key of which a part may not be seen is not told in part.
        if not all(lens.shows(table.columns[place]) for place in table.key):
            return None
        return [json_value(part, self._length_max) for part in row_id]

    def _row(self, lens: Lens, image: Image | None) -> dict[str, object] | None:
        if image is None:
            return None
        length_max = self._length_max
        return {name: json_value(value, length_max) for name, value in zip(lens.columns, image, strict=False)}

    def _transaction(self, offset: int, timestamp: int, actor: str, reason: str) -> dict[str, Any]:
        body: dict[str, Any] = {"offset": offset, "time": time_text(timestamp)}
        if self.rights.actors:
            body["actor"] = actor
            body["reason"] = reason
        return body

    def _schema(self, change: SchemaChange) -> Message | None:
        seen = {
            name: sorted(filter(self.shows, tables))
            for name, tables in (("created", change.created), ("dropped", change.dropped), ("altered", change.altered))
        }
        if not any(seen.values()):
            return None
        body = seen | self._transaction(change.cursor.offset, change.timestamp, change.actor, change.reason)
        return _message(change.cursor, "schema", body)

    def _cleared(self, cleared: TableCleared) -> Message | None:
        if not self.shows(cleared.table):
            return None
        said = self._transaction(cleared.cursor.offset, cleared.timestamp, cleared.actor, cleared.reason)
        return _message(cleared.cursor, "cleared", {"table": cleared.table} | said)


class Views:
    """Gives equal views one object, and bounds the text that is kept in batches."""

    def __init__(self, value_bytes_max: int, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._value_bytes_max = value_bytes_max
        self._kept_bytes_max = kept_bytes_max
        self._views: dict[tuple[Rights, Asked], list[Any]] = {}
        self._kept: deque[tuple[Batch, View, int]] = deque()
        self._kept_bytes = 0

    def enter(self, rights: Rights, asked: Asked) -> View:
        """Return the view; :meth:`leave` it."""
        entry = self._views.setdefault((rights, asked), [View(rights, asked, self._value_bytes_max), 0])
        entry[1] += 1
        return entry[0]  # type: ignore[no-any-return]  # a cache of values of many kinds

    def leave(self, view: View) -> None:
        """Give it back."""
        entry = self._views.get((view.rights, view.asked))
        if entry is not None and entry[0] is view:
            entry[1] -= 1
            if entry[1] <= 0:
                del self._views[view.rights, view.asked]

    def messages(self, view: View, batch: Batch) -> list[Message]:
        """Return what a view shows of a batch of the ring, made by whoever asks first."""
        found: list[Message] | None = batch.extra.get(view)
        if found is None:
            found = batch.extra[view] = joined(view.messages(batch))
            size = 200 + sum(len(message.sse) for message in found)
            self._kept.append((batch, view, size))
            self._kept_bytes += size
            while self._kept_bytes > self._kept_bytes_max and len(self._kept) > 1:
                old, whose, size = self._kept.popleft()
                old.extra.pop(whose, None)
                self._kept_bytes -= size
        return found


def joined(messages: list[Message]) -> list[Message]:
    """Return messages as one that is sent at once."""
    if len(messages) < 2:
        return messages
    return [Message(messages[-1].cursor, b"".join(message.sse for message in messages))]


def resync_message(resync: Resync, *, resumable: bool = True) -> Message:
    """Return the message that what was to follow is gone; resumable, unless a snapshot has to follow it."""
    message = _message(resync.cursor, "resync", {"offset": resync.offset, "why": resync.why})
    return message if resumable else _without_id(message)


def snapshot_message(cursor: Cursor, tables: Iterable[str]) -> Message:
    """Return the message that the rows of these tables follow, as they were at one moment."""
    return _without_id(_message(cursor, "snapshot", {"offset": cursor.offset, "tables": list(tables)}))


def ready_message(cursor: Cursor) -> Message:
    """Return the message that says where the stream begins: nothing before it is missing."""
    return _message(cursor, "ready", {"offset": cursor.offset})


def problem_text(problem: Problem) -> bytes:
    """Return the last words of a stream: no cursor, for nothing was delivered."""
    return b"event: problem\ndata: " + _encoded(problem.body) + b"\n\n"


def _message(cursor: Cursor, event: str, body: dict[str, Any]) -> Message:
    return Message(cursor, f"id: {cursor}\nevent: {event}\ndata: ".encode() + _encoded(body) + b"\n\n")


def _without_id(message: Message) -> Message:
    # Whoever has lost the connection in a snapshot has to begin with another one, so nothing that can be resumed behind
    # may stand in it.
    return message._replace(sse=message.sse[message.sse.index(b"\n") + 1 :])


def _encoded(body: dict[str, Any]) -> bytes:
    # No line end can be in it: JSON spells those out.
    return _encode(body).encode("utf-8", "replace")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _changed(columns: tuple[str, ...], before: Image, after: Image) -> tuple[str, ...]:
    pairs = zip(columns, before, after, strict=False)
    return tuple(name for name, old, new in pairs if old != new or type(old) is not type(new))


def time_text(microseconds: int) -> str:
    """Return a timestamp of the log as ISO 8601, in UTC."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")
