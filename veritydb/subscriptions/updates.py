"""What a subscriber receives, and the words in which it says what it wants.

Frozen values and pure functions: :mod:`veritydb.subscriptions.decoding` makes them of the log's events,
:mod:`veritydb.subscriptions.receiver` hands them out. A row change is a :class:`TableUpdate`; everything else that a
subscriber has to know of (a schema that changed, a gap, the edges of a snapshot) is a value of its own, never a row
change in disguise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from veritydb.errors import CursorMalformed
from veritydb.events import Value

INSERT, UPDATE, DELETE = "insert", "update", "delete"
ACTIONS = (INSERT, UPDATE, DELETE)

RowId: TypeAlias = "int | tuple[Value, ...]"
"""A rowid; the values of the primary key, in its order, for a WITHOUT ROWID table."""
Row: TypeAlias = "Mapping[str, Value]"

_LAST = (1 << 63) - 1
_CURSOR = re.compile(r"(-1|\d{1,19})(?:\.(\d{1,19}))?(?:@([0-9a-f]{16}))?\Z", re.ASCII)


class Cursor(NamedTuple):
    """How far somebody has read: everything up to and with this change.

    As text ``offset``, ``offset.number`` or ``offset.number@stream``; the text is safe in an HTTP header and in SQL.
    """

    offset: int
    """Of the transaction; -1 is before the first."""
    number: int = _LAST
    """Of the change in its transaction; without it, the whole transaction."""
    stream: str = ""
    """First 16 hex digits of the stream's id, so that a cursor of another database is recognised."""

    def __str__(self) -> str:
        place = str(self.offset) if self.number == _LAST else f"{self.offset}.{self.number}"
        return f"{place}@{self.stream}" if self.stream else place

    @property
    def position(self) -> tuple[int, int]:
        """What cursors of one stream are compared by."""
        return self.offset, self.number

    @classmethod
    def parse(cls, text: object) -> Cursor:
        """Read a cursor, an offset, or the text of either. Raises CursorMalformed."""
        if isinstance(text, Cursor):
            return text
        found = _CURSOR.match(str(text)) if isinstance(text, (int, str)) and not isinstance(text, bool) else None
        if found is None:
            raise CursorMalformed(f"{str(text)[:100]!r} is no offset and no cursor; nothing was read")
        offset, number, stream = found.groups()
        if int(offset) > _LAST or (number is not None and int(number) > _LAST):
            raise CursorMalformed(f"{str(text)[:100]!r} is beyond any offset; nothing was read")
        return cls(int(offset), _LAST if number is None else int(number), stream or "")


START = Cursor(-1)
"""Before the first transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """What all that a subscriber receives has: a place to go on behind."""

    cursor: Cursor
    """To go on behind this."""

    @property
    def offset(self) -> int:
        """Of the transaction; of a snapshot and a :class:`Resync`, of the last one before what follows (-1: none)."""
        return self.cursor.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logged(_Placed):
    """What comes from a transaction of the log."""

    timestamp: int
    """Of the transaction: microseconds since 1970-01-01 UTC."""
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUpdate(_Logged):
    """One row that a committed transaction inserted, updated, or deleted."""

    table: str
    action: str
    """"insert", "update" or "delete"."""
    row_id: RowId
    """After the change; for a delete, before it."""
    row_id_before: RowId
    """Differs from ``row_id`` only if an update changed it."""
    columns: tuple[str, ...]
    """Names of the table's stored columns, as they were then."""
    changed: tuple[str, ...]
    """Names of the columns whose values an update changed; of all of them for an insert or a delete."""
    before: Row | None = None
    """The row before an update or delete, by column; only with ``images=True``."""
    after: Row | None = None
    """The row after an insert or update, by column; only with ``images=True``."""

    @property
    def number(self) -> int:
        """Of the change in its transaction."""
        return self.cursor.number


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange(_Logged):
    """A schema statement. A table that was renamed is one that was dropped and one that was created."""

    sql: str
    created: frozenset[str]
    """Names of tables, as are the next two."""
    dropped: frozenset[str]
    altered: frozenset[str]

    @property
    def tables(self) -> frozenset[str]:
        """All tables it touched."""
        return self.created | self.dropped | self.altered


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCleared(_Logged):
    """All rows of a table went at once; inserts that follow, in the same transaction, are its whole new content.

    So are changes logged that could only be told by their outcome, such as those of a table with VIRTUAL generated
    columns in a database in memory.
    """

    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resync(_Placed):
    """What was to follow is gone: forget what was derived from earlier updates. What follows comes after ``offset``."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotBegin(_Placed):
    """The rows of ``tables`` follow, all as they were after the transaction ``offset``."""

    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRow(_Placed):
    """One row of a snapshot."""

    table: str
    row_id: RowId
    columns: tuple[str, ...]
    row: Row | None
    """Only with ``images=True``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEnd(_Placed):
    """The snapshot is complete; the updates that follow are those after ``offset``."""


Logged: TypeAlias = TableUpdate | SchemaChange | TableCleared
"""What comes from the log."""
Update: TypeAlias = Logged | Resync | SnapshotBegin | SnapshotRow | SnapshotEnd


@dataclass(frozen=True, slots=True)
class Selection:
    """What a subscriber wants. Equal selections without a predicate share their work."""

    tables: frozenset[str] | None = None
    """In lower case, because SQLite's names know no case; None: all."""
    actions: frozenset[str] | None = None
    images: bool = False
    where: Callable[[TableUpdate], Any] | None = None
    """Sees the images, whether the subscriber does or not."""
    not_of: str | None = None
    """Name of a projection whose own transactions are left out."""

    @classmethod
    def of(
        cls,
        tables: str | Collection[str] | None,
        actions: str | Collection[str] | None,
        images: bool,
        where: Callable[[TableUpdate], Any] | None,
    ) -> Selection:
        """Check what a caller asks for. Raises ValueError for an action that is none, TypeError for what is no name."""
        chosen = _names("tables", tables)
        acts = _names("actions", actions)
        if acts is not None and not acts <= set(ACTIONS):
            raise ValueError(f"actions are {', '.join(ACTIONS)}, not {', '.join(sorted(acts - set(ACTIONS)))}")
        if where is not None and not callable(where):
            raise TypeError("where must be callable")
        return cls(chosen, acts, bool(images), where)

    def wants_table(self, name: str) -> bool:
        """Whether updates of the table are wanted."""
        return self.tables is None or name.lower() in self.tables

    def wants_schema(self, change: SchemaChange) -> bool:
        """Whether a schema statement touches what is wanted."""
        tables = self.tables
        return tables is None or any(name.lower() in tables for name in change.tables)


def _names(what: str, given: str | Collection[str] | None) -> frozenset[str] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(name, str) for name in names):  # pyright: ignore[reportUnnecessaryIsInstance]  the caller's word is not proof
        raise TypeError(f"{what} must be names")
    return frozenset(name.lower() for name in names)
