"""What happens inside a transaction, as values.

The hooks make events, the codec writes and reads them, replay applies them. Pure data; nothing here knows SQLite's
interface or the log's bytes (:mod:`veritydb.codec` does).
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType, TypeAlias, cast, overload


class Op(IntEnum):
    """The kind of a row change."""

    INSERT = 1
    UPDATE = 2
    DELETE = 3


class RawText(bytes):
    """A value of storage class TEXT whose bytes are not valid UTF-8 (``CAST(? AS TEXT)`` stores it again)."""

    __slots__ = ()


Value: TypeAlias = "int | float | str | bytes | RawText | None"
"""A value of one of SQLite's storage classes. ``bytes`` is a BLOB unless it is :class:`RawText`."""

Image: TypeAlias = "tuple[Value, ...]"
"""The values of all stored columns of a row, in table order (STORED generated ones too, VIRTUAL ones not)."""

Offset = NewType("Offset", int)


class Images(abc.Sequence["Image"]):
    """The images of a run, as the hooks record it: all values in one list, row by row.

    Equal to a list of tuples that holds the same. In such a list each row is an object that the garbage collector looks
    through, and columns are made of it value by value; here a column is a slice.
    """

    __slots__ = ("values", "width")

    def __init__(self, values: list[Value], width: int) -> None:
        if width < 1 or len(values) % width:
            raise ValueError(f"{len(values)} values are no rows of {width}")
        self.values = values
        self.width = width

    def __len__(self) -> int:
        return len(self.values) // self.width

    @overload
    def __getitem__(self, number: int) -> Image: ...
    @overload
    def __getitem__(self, number: slice) -> list[Image]: ...
    def __getitem__(self, number: int | slice) -> Image | list[Image]:
        if isinstance(number, slice):
            return list(self)[number]
        start = range(len(self))[number] * self.width
        return tuple(self.values[start : start + self.width])

    def __iter__(self) -> abc.Iterator[Image]:
        return zip(*[iter(self.values)] * self.width, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Images | list):
            return NotImplemented
        return list(self) == list(cast("abc.Iterable[object]", other))

    __hash__ = None  # type: ignore[assignment]  # It holds a list.

    def __repr__(self) -> str:
        return repr(list(self))

    def columns(self) -> list[list[Value]]:
        """Return the values by column."""
        return [self.values[column :: self.width] for column in range(self.width)]


@dataclass(frozen=True, slots=True)
class Rows:
    """A run of row changes of one kind to one table, in the order in which they happened.

    Every list that is not None has one entry a row.
    """

    table: str
    op: Op
    rowids: list[int] | None
    """insert: the new rowid; update, delete: the old one. None for a WITHOUT ROWID table."""
    rowids_after: list[int] | None
    """update only, and only if at least one rowid changed."""
    before: abc.Sequence[Image] | None
    """update and delete."""
    after: abc.Sequence[Image] | None
    """insert and update."""
    net: bool = False
    """The net effect of several changes: apply the run as a set, all old rows out, then all new ones in."""

    def __len__(self) -> int:
        images = self.after if self.after is not None else self.before
        return len(images) if images is not None else 0


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema statement, as executed."""

    sql: str
    legacy_alter_table: bool
    dqs_ddl: bool
    digest: bytes
    """BLAKE3-128 of the schema after it; empty if not known."""


@dataclass(frozen=True, slots=True)
class BlobWrite:
    """Bytes written into a value through an incremental blob handle."""

    table: str
    rowid: int
    column: str
    offset: int
    data: bytes
    before: bytes


@dataclass(frozen=True, slots=True)
class Setting:
    """A header field set by PRAGMA: ``user_version``, ``application_id``, ``auto_vacuum``."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """The row of ``sqlite_sequence`` for a table, as it ends up; ``gone`` if it was deleted."""

    table: str
    value: Value
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Clear:
    """The whole content of a table goes; Rows that follow are its new content."""

    table: str


@dataclass(frozen=True, slots=True)
class Genesis:
    """The first event of a stream: the header fields a new file needs."""

    encoding: str
    page_size: int
    auto_vacuum: int
    software: str


@dataclass(frozen=True, slots=True)
class Cut:
    """What a recovery removed from the end of the log; nothing of it had been acknowledged."""

    segment: str
    position: int
    length: int
    why: str


Event: TypeAlias = Rows | Schema | BlobWrite | Setting | Sequence | Clear | Genesis | Cut
