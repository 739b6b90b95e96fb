"""The SQL that puts row changes of one table back, from a description of the table.

Pure: :mod:`veritydb.replay.applier` reads the description from SQLite and runs what is made here. Every statement
addresses exactly one row, by rowid or, in a WITHOUT ROWID table, by primary key, and writes every stored column.

Parameters are numbered, so that one tuple serves several statements, and rows go through as they came from the log
wherever the table allows it (an INTEGER PRIMARY KEY is a column of the image, the rowid of another table is not).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from veritydb.events import Image, RawText, Value

Binding: TypeAlias = "tuple[Value, ...]"

_ROWID_NAMES = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table that the log's images hold: every one that is not VIRTUAL."""

    name: str
    generated: bool = False
    """STORED: it is in the images, and SQLite computes it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What has to be known of a table."""

    table: str
    columns: tuple[Column, ...]
    hiding: frozenset[str] = frozenset()
    """Names of all columns, VIRTUAL ones too, in lower case: they may hide the names of the rowid."""
    key: tuple[tuple[int, str], ...] = ()
    """WITHOUT ROWID: position in ``columns`` and collation of each column of the primary key."""
    alias: int | None = None
    """The position of the INTEGER PRIMARY KEY, which is the rowid."""
    shadow: bool = False
    """Belongs to a virtual table, whose creation puts rows into it by itself."""


def quoted(name: str) -> str:
    """Return ``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def rowid_name(shape: Shape) -> str | None:
    """Return a name under which SQL can reach the rowid; None if there is no rowid or every name is hidden."""
    if shape.key:
        return None
    if shape.alias is not None:
        return quoted(shape.columns[shape.alias].name)
    return next((name for name in _ROWID_NAMES if name not in shape.hiding), None)


def columns_of(positions: Sequence[int], width: int) -> Callable[[Image], Binding] | None:
    """Return what picks ``positions`` out of an image of ``width`` columns; None if those are all of them."""
    if list(positions) == list(range(width)):
        return None
    if len(positions) == 1:
        only = positions[0]
        return lambda image: (image[only],)
    picked: Any = itemgetter(*positions)
    return picked  # type: ignore[no-any-return]  # itemgetter has no type


class Statements:
    """The statements for one table, and the bindings they take."""

    __slots__ = (
        "_inserts_rowid",
        "_pick",
        "_pick_key",
        "_stored",
        "delete",
        "has_rowid",
        "insert",
        "rowid",
        "shape",
        "update",
        "width",
    )

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.width = len(shape.columns)
        """Values in an image."""
        self.has_rowid = not shape.key
        self.rowid = rowid_name(shape)
        self._stored = [number for number, column in enumerate(shape.columns) if not column.generated]
        self._pick = columns_of(self._stored, self.width)
        self._pick_key = columns_of([position for position, _ in shape.key], self.width) if shape.key else None
        self._inserts_rowid = self.rowid is not None and shape.alias is None
        self.insert = self.insert_sql()
        self.update = self.update_sql()
        self.delete = self.delete_sql()

    def insert_sql(self, raw: Collection[int] = ()) -> str:
        """INSERT of one row. ``raw`` are the numbers of parameters that are text in a blob's clothes."""
        names = [quoted(self.shape.columns[number].name) for number in self._stored]
        if self._inserts_rowid:
            names.insert(0, str(self.rowid))
        # The OR clause outranks an ON CONFLICT clause in the schema. Creating a virtual table fills its shadow tables
        # by itself, so there the logged row takes the place of the made one.
        verb = "INSERT OR REPLACE" if self.shape.shadow else "INSERT OR ABORT"
        table = f"main.{quoted(self.shape.table)}"
        values = ",".join([_parameter(number, raw) for number in range(1, len(names) + 1)])
        return f"{verb} INTO {table}({','.join(names)}) VALUES({values})"

    def update_sql(self, raw: Collection[int] = ()) -> str:
        """UPDATE of all columns of one row."""
        first = 2 if self._inserts_rowid else 1
        changes = ",".join(
            f"{quoted(self.shape.columns[position].name)}={_parameter(number, raw)}"
            for number, position in enumerate(self._stored, first)
            # To set the rowid, even to itself, makes SQLite take the row out and put it in again.
            if position != self.shape.alias or len(self._stored) == 1
        )
        if self.has_rowid:
            number = 1 if self.shape.alias is None else self._stored.index(self.shape.alias) + 1
            where = f"{self.rowid}=?{number}"
        else:
            where = self._key_is(len(self._stored) + 1, raw)
        return f"UPDATE OR ABORT main.{quoted(self.shape.table)} SET {changes} WHERE {where}"

    def delete_sql(self, raw: Collection[int] = ()) -> str:
        """DELETE of one row."""
        where = f"{self.rowid}=?1" if self.has_rowid else self._key_is(1, raw)
        return f"DELETE FROM main.{quoted(self.shape.table)} WHERE {where}"

    def _key_is(self, number: int, raw: Collection[int]) -> str:
        # The key's own collation: under it the key is unique, and only with it the index is used.
        return " AND ".join(
            f"{quoted(self.shape.columns[position].name)} COLLATE {quoted(collation)}={_parameter(parameter, raw)}"
            for parameter, (position, collation) in enumerate(self.shape.key, number)
        )

    def insert_bindings(self, rowids: Sequence[int] | None, images: Sequence[Image]) -> Sequence[Binding]:
        """Return what :attr:`insert` takes for each row."""
        picked = images if self._pick is None else list(map(self._pick, images))
        if not self._inserts_rowid:
            return picked
        assert rowids is not None
        return [(rowid, *image) for rowid, image in zip(rowids, picked, strict=True)]

    def update_bindings(
        self, rowids: Sequence[int] | None, before: Sequence[Image], after: Sequence[Image]
    ) -> Sequence[Binding]:
        """Return what :attr:`update` takes for each row whose rowid stays."""
        if self.has_rowid:
            return self.insert_bindings(rowids, after)
        picked = after if self._pick is None else map(self._pick, after)
        return [(*image, *key) for image, key in zip(picked, self.keys(before), strict=True)]

    def delete_bindings(self, rowids: Sequence[int] | None, before: Sequence[Image]) -> Sequence[Binding]:
        """Return what :attr:`delete` takes for each row."""
        if self.has_rowid:
            assert rowids is not None
            return list(zip(rowids))
        return self.keys(before)

    def keys(self, images: Sequence[Image]) -> Sequence[Binding]:
        """Return the primary key of each row of a WITHOUT ROWID table."""
        return images if self._pick_key is None else list(map(self._pick_key, images))


def raw_parameters(binding: Binding) -> list[int]:
    """Return the numbers of the parameters that are :class:`RawText`."""
    return [number for number, value in enumerate(binding, 1) if type(value) is RawText]


def _parameter(number: int, raw: Collection[int]) -> str:
    return f"CAST(?{number} AS TEXT)" if number in raw else f"?{number}"
