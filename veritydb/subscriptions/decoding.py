"""The log's events as updates, in batches of bounded size.

Driven by :mod:`veritydb.subscriptions.feed` for what is new and by :mod:`veritydb.subscriptions.history` for what is
old; both cut a transaction into the same batches. Pure. What it needs to know of the schema it is told: row images
carry no names, so each batch is decoded with the :class:`Catalog` that was in force at that place of the log.

Every change has a number in its transaction, counted over all that the log holds of it, also what no subscriber ever
sees (shadow tables, statistics, our own tables), so that a cursor means the same to everybody and for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from veritydb.events import BlobWrite, Clear, Event, Image, Op, Rows, Schema
from veritydb.subscriptions.updates import (
    DELETE,
    INSERT,
    UPDATE,
    Cursor,
    Logged,
    RowId,
    SchemaChange,
    Selection,
    TableCleared,
    TableUpdate,
)

BATCH_ROWS = 256
"""Changes in one batch at most."""
BATCH_BYTES = 1 << 20
"""A batch is closed when its values take about this much."""

_ACTIONS = {Op.INSERT: INSERT, Op.UPDATE: UPDATE, Op.DELETE: DELETE}


@dataclass(frozen=True, slots=True)
class Table:
    """What has to be known of a table to speak of its rows."""

    name: str
    columns: tuple[str, ...]
    """In the order of the images."""
    key: tuple[int, ...] = ()
    """WITHOUT ROWID: places of the primary key's columns in an image, in the order of the key."""
    hidden: bool = False
    """Not for subscribers: SQLite's own, a virtual table's shadow, or VerityDB's."""


class Catalog:
    """The tables at one place of the log, by name."""

    __slots__ = ("tables",)

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = dict(tables)
        """By name in lower case."""

    def find(self, name: str) -> Table | None:
        """Return a table."""
        return self.tables.get(name.lower())

    def changes(self, before: Catalog) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Return the names of tables that were created, dropped, and altered since ``before``; hidden ones not."""
        mine = {key: table for key, table in self.tables.items() if not table.hidden}
        theirs = {key: table for key, table in before.tables.items() if not table.hidden}
        created = frozenset(table.name for key, table in mine.items() if key not in theirs)
        dropped = frozenset(table.name for key, table in theirs.items() if key not in mine)
        altered = frozenset(table.name for key, table in mine.items() if key in theirs and theirs[key] != table)
        return created, dropped, altered


class Said(NamedTuple):
    """What a transaction says of itself."""

    offset: int
    timestamp: int
    actor: str
    reason: str


class Change(NamedTuple):
    """One row change, not yet put into words."""

    number: int
    table: Table
    action: str
    row_id: RowId
    row_id_before: RowId
    before: Image | None
    after: Image | None
    column: str | None
    """The one that was written into through a blob handle; then there are no images."""


Item: TypeAlias = "Change | SchemaChange | TableCleared"


@dataclass(slots=True)
class Batch:
    """A run of changes of one transaction; immutable but for what it keeps for those who ask the same."""

    said: Said
    stream: str
    end: tuple[int, int]
    """Position of the last change in it, or behind it: a cursor's ``position``."""
    items: tuple[Item, ...]
    projections: frozenset[str] = frozenset()
    """Whose checkpoints the transaction has moved so far: what it changes is their own work."""
    final: bool = True
    """Whether the transaction ends with it."""
    size: int = 0
    """Bytes that its values take, roughly."""
    _light: list[Any] | None = field(default=None, repr=False)
    _full: list[Any] | None = field(default=None, repr=False)
    _chosen: dict[Selection, tuple[Logged, ...]] = field(
        default_factory=dict[Selection, tuple[Logged, ...]], repr=False
    )
    extra: dict[Any, Any] = field(default_factory=dict[Any, Any], repr=False)
    """For whoever serves many from one batch to keep what they share, such as encoded text, by a key of their own."""

    def select(self, selection: Selection) -> tuple[Logged, ...]:
        """Return what a subscriber with this selection gets of the batch."""
        if selection.where is not None:
            return self._select(selection)
        chosen = self._chosen.get(selection)
        if chosen is None:
            chosen = self._select(selection)
            if len(self._chosen) < 64:
                self._chosen[selection] = chosen
        return chosen

    def _select(self, selection: Selection) -> tuple[Logged, ...]:
        tables, actions, where = selection.tables, selection.actions, selection.where
        if selection.not_of in self.projections:
            return ()
        chosen: list[Logged] = []
        updates = self.updates(images=selection.images)
        pictured = updates if selection.images or where is None else self.updates(images=True)
        for update, full in zip(updates, pictured, strict=True):
            if isinstance(update, SchemaChange):
                if selection.wants_schema(update):
                    chosen.append(update)
            elif isinstance(update, TableCleared):
                if selection.wants_table(update.table) and (actions is None or DELETE in actions):
                    chosen.append(update)
            elif (
                (tables is None or update.table.lower() in tables)
                and (actions is None or update.action in actions)
                and (where is None or where(full))
            ):
                chosen.append(update)
        return tuple(chosen)

    def updates(self, *, images: bool) -> list[Any]:
        """Return all of the batch in words, with or without row images."""
        made = self._full if images else self._light
        if made is None:
            made = [self._worded(item, images) if isinstance(item, Change) else item for item in self.items]
            if images:
                self._full = made
            else:
                self._light = made
        return made

    def _worded(self, change: Change, images: bool) -> TableUpdate:
        table, before, after = change.table, change.before, change.after
        columns = table.columns
        if change.column is not None:
            changed: tuple[str, ...] = (change.column,)
        elif before is not None and after is not None:
            pairs = zip(columns, before, after, strict=False)
            changed = tuple(name for name, old, new in pairs if old != new or type(old) is not type(new))
        else:
            changed = columns
        return TableUpdate(
            table=table.name,
            action=change.action,
            row_id=change.row_id,
            row_id_before=change.row_id_before,
            cursor=Cursor(self.said.offset, change.number, self.stream),
            timestamp=self.said.timestamp,
            actor=self.said.actor,
            reason=self.said.reason,
            columns=columns,
            changed=changed,
            before=dict(zip(columns, before, strict=False)) if images and before is not None else None,
            after=dict(zip(columns, after, strict=False)) if images and after is not None else None,
        )


def batches(
    said: Said,
    stream: str,
    events: Iterator[Event],
    catalog: Catalog,
    next_catalog: Callable[[int, Schema], Catalog],
    projections_of: Callable[[Rows], frozenset[str]],
) -> Iterator[Batch]:
    """Yield the batches of one transaction; the last one is ``final``, and may be empty.

    ``catalog`` is in force where the transaction begins; ``next_catalog(index, event)`` is asked for the one after each
    schema statement.
    """
    items: list[Item] = []
    size = 0
    index = 0
    own: frozenset[str] = frozenset()
    for event in events:
        if isinstance(event, Rows):
            table = catalog.find(event.table) or _unknown(event.table)
            if table.hidden:
                own |= projections_of(event)
                index += len(event)
                continue
            for change in _row_changes(event, table, index):
                items.append(change)
                size += _size(change)
                if len(items) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield Batch(said, stream, (said.offset, change.number), tuple(items), own, final=False, size=size)
                    items, size = [], 0
            index += len(event)
            continue
        if isinstance(event, Schema):
            before, catalog = catalog, next_catalog(index, event)
            created, dropped, altered = catalog.changes(before)
            cursor = Cursor(said.offset, index, stream)
            items.append(
                SchemaChange(
                    sql=event.sql,
                    created=created,
                    dropped=dropped,
                    altered=altered,
                    cursor=cursor,
                    timestamp=said.timestamp,
                    actor=said.actor,
                    reason=said.reason,
                )
            )
        elif isinstance(event, BlobWrite):
            table = catalog.find(event.table) or _unknown(event.table)
            if not table.hidden:
                items.append(Change(index, table, UPDATE, event.rowid, event.rowid, None, None, event.column))
        elif isinstance(event, Clear):
            table = catalog.find(event.table) or _unknown(event.table)
            if not table.hidden:
                cursor = Cursor(said.offset, index, stream)
                _, timestamp, actor, reason = said
                items.append(
                    TableCleared(table=table.name, cursor=cursor, timestamp=timestamp, actor=actor, reason=reason)
                )
        index += 1
    yield Batch(said, stream, Cursor(said.offset).position, tuple(items), own, size=size)


def _unknown(name: str) -> Table:
    """A table whose making no statement of the log tells: SQLite's own, or one that could not be understood."""
    return Table(name, (), hidden=name.lower().startswith(("sqlite_", "_veritydb_")))


def _row_changes(rows: Rows, table: Table, index: int) -> Iterator[Change]:
    action = _ACTIONS[rows.op]
    befores, afters, rowids, rowids_after = rows.before, rows.after, rows.rowids, rows.rowids_after
    key = table.key
    for number in range(len(rows)):
        before = befores[number] if befores is not None else None
        after = afters[number] if afters is not None else None
        old: RowId
        new: RowId
        if rowids is not None:
            old = rowids[number]
            new = rowids_after[number] if rowids_after is not None else old
        else:
            old = _key(before if before is not None else after, key)
            new = _key(after if after is not None else before, key)
        yield Change(index + number, table, action, new, old, before, after, None)


def _key(image: Image | None, key: tuple[int, ...]) -> RowId:
    return tuple(image[place] for place in key if place < len(image)) if image is not None else ()


def _size(change: Change) -> int:
    size = 64
    for image in (change.before, change.after):
        if image is not None:
            for value in image:
                size += 16 + (len(value) if isinstance(value, (str, bytes)) else 0)
    return size
