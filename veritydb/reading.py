"""The content of an existing database, as the events that would make it again.

:mod:`veritydb.adopt` drives it: what :func:`content` yields becomes the first transaction of a log, and the new file is
made by replaying that log. So the order is the one in which a new file can be filled: tables, their rows, what SQLite
keeps of sequences, views, virtual tables with their shadow tables, indexes (after the rows, which is faster and cannot
fail half-way), triggers, statistics. Rows come in runs of bounded size, so memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import apsw

from veritydb import applied
from veritydb.errors import MissingFunction, StatementRefused
from veritydb.events import Clear, Event, Genesis, Image, Op, RawText, Rows, Schema, Setting, Value
from veritydb.replay.digest import schema_digest
from veritydb.replay.shapes import shape_of
from veritydb.replay.statements import Shape, quoted, rowid_name
from veritydb.version import SOFTWARE

Sized: TypeAlias = "tuple[Event, int]"

RUN_BYTES_MAX = 512 * 1024
"""A run is closed when its values take about this much; a single larger row makes a larger run."""
RUN_ROWS_MAX = 4_096

_OBJECTS = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema ORDER BY rowid"
_SHADOWS = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'"
_RESULT_COLUMNS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A row of ``sqlite_schema``."""

    type: str
    name: str
    table: str
    sql: str | None

    @property
    def virtual(self) -> bool:
        """Whether it is a virtual table (SQLite writes the text of its statement up to the name itself)."""
        return self.sql is not None and self.sql.startswith("CREATE VIRTUAL TABLE")


def genesis(db: apsw.Connection, *, page_size: int | None = None) -> Genesis:
    """Return the header fields that a new file with this content must be given before its first table."""
    return Genesis(
        encoding=str(db.pragma("encoding")),
        page_size=int(db.pragma("page_size")) if page_size is None else page_size,
        auto_vacuum=int(db.pragma("auto_vacuum")),
        software=SOFTWARE,
    )


def content(db: apsw.Connection) -> Iterator[Sized]:
    """Yield the events that make the content of ``db`` again, each with its size in bytes, roughly.

    The caller keeps a read transaction open meanwhile. Raises MissingFunction if a module, function or collation of the
    schema is not registered, StatementRefused for content that cannot be put into a log exactly.
    """
    return _Content(db).events()


class _Content:
    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._cursor = db.cursor()
        rows: list[Any] = self._cursor.execute(_OBJECTS).fetchall()
        self._objects = [SchemaObject(*row) for row in rows if row[2] != applied.TABLE]
        try:
            self._shadows = {str(name) for (name,) in self._cursor.execute(_SHADOWS)}
        except apsw.SQLError as error:
            raise MissingFunction(f"the schema cannot be read: {error}; register what it needs (register=…)") from error

    def events(self) -> Iterator[Sized]:
        for name in ("user_version", "application_id"):
            value = self._db.pragma(name)
            if value:
                yield Setting(name, int(value)), 16

        ordinary = [
            item
            for item in self._objects
            if item.sql is not None and not item.name.lower().startswith("sqlite_") and item.name not in self._shadows
        ]
        tables = [item for item in ordinary if item.type == "table" and not item.virtual]
        before_rows = [*map(_schema, tables), *self._sequence_table(tables)]
        views = [_schema(item) for item in ordinary if item.type == "view"]
        virtual = [_schema(item) for item in ordinary if item.virtual]
        after_rows = [_schema(item) for kind in ("index", "trigger") for item in ordinary if item.type == kind]
        # With the last of them the schema is complete, so that one carries its digest.
        for group in (after_rows, virtual, views, before_rows):
            if group:
                group[-1] = replace(group[-1], digest=schema_digest(self._db))
                break

        yield from map(_sized, before_rows)
        for item in tables:
            yield from self.rows(item.name)
        if self._has("sqlite_sequence"):
            yield from self._whole("sqlite_sequence")
        yield from map(_sized, [*views, *virtual])
        for item in self._objects:
            if item.name in self._shadows:
                yield from self._whole(item.name)
        yield from map(_sized, after_rows)
        for name in ("sqlite_stat1", "sqlite_stat4"):
            if self._has(name):
                yield from self._whole(name)

    def _sequence_table(self, tables: list[SchemaObject]) -> Iterator[Schema]:
        """``sqlite_sequence`` comes with the first AUTOINCREMENT table and stays when the last one has gone."""
        if not self._has("sqlite_sequence") or any(self._counts(item.name) for item in tables):
            return
        taken = {item.name.lower() for item in self._objects}
        maker = next(name for number in range(len(taken) + 1) if (name := f"sequence_{number}") not in taken)
        yield Schema(f"CREATE TABLE {maker}(id INTEGER PRIMARY KEY AUTOINCREMENT)", False, True, b"")
        yield Schema(f"DROP TABLE {maker}", False, True, b"")

    def _counts(self, table: str) -> bool:
        shape = shape_of(self._db, table)
        if shape.alias is None:
            return False
        return bool(self._db.column_metadata("main", table, shape.columns[shape.alias].name)[4])

    def _has(self, name: str) -> bool:
        return any(item.name == name for item in self._objects)

    def _whole(self, table: str) -> Iterator[Sized]:
        """A table that SQLite has filled by itself: what it holds goes first."""
        yield Clear(table), len(table)
        yield from self.rows(table)

    def rows(self, table: str) -> Iterator[Sized]:
        """Yield the rows of ``table``, in the order of its b-tree, as runs."""
        shape = shape_of(self._db, table)
        images: list[Image] = []
        rowids: list[int] = []
        size = 0
        for rowid, image in RowReader(self._db, shape):
            images.append(image)
            rowids.append(rowid)
            size += 8 * len(image)
            for value in image:
                if isinstance(value, (str, bytes)):
                    size += len(value)
            if size >= RUN_BYTES_MAX or len(images) >= RUN_ROWS_MAX:
                yield Rows(table, Op.INSERT, None if shape.key else rowids, None, None, images), size
                images, rowids, size = [], [], 0
        if images:
            yield Rows(table, Op.INSERT, None if shape.key else rowids, None, None, images), size


class RowReader:
    """Iterates over the rows of one table as (rowid, image); the rowid is 0 in a WITHOUT ROWID table."""

    def __init__(self, db: apsw.Connection, shape: Shape) -> None:
        self._db = db
        self._shape = shape
        self._columns = [f"{quoted(column.name)}" for column in shape.columns]
        self._rowid = rowid_name(shape)
        if self._rowid is None and not shape.key:
            raise StatementRefused(
                f"table {shape.table} has columns named rowid, oid and _rowid_, so the row ids of its rows cannot be "
                "read. Rename one of the columns first; nothing was changed"
            )
        self._encoding = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}[db.pragma("encoding")]

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        count = 0
        try:
            # Text of a UTF-16 database that is not valid would be repaired on the way, without a word.
            for row in self._fast() if self._encoding == "utf-8" else self._careful(0):
                yield row
                count += 1
        except UnicodeDecodeError:
            pass  # Some text is not valid: from here on, look at each.
        else:
            return
        yield from self._careful(count)

    def _fast(self) -> Iterator[tuple[int, Image]]:
        shape = self._shape
        # Each query is begun only where it is read to its end: one that is left open keeps the database locked.
        if shape.key:
            for image in self._select(self._columns):
                yield 0, image
        elif shape.alias is not None:
            alias = shape.alias
            for image in self._select(self._columns):
                yield image[alias], image
        elif len(self._columns) < _RESULT_COLUMNS_MAX:
            for row in self._select([str(self._rowid), *self._columns]):
                yield row[0], row[1:]
        else:  # As many columns as a table and a result can have; the rowid needs a walk of its own.
            for (rowid,), image in zip(self._select([str(self._rowid)]), self._select(self._columns), strict=True):
                yield rowid, image

    def _careful(self, skip: int) -> Iterator[tuple[int, Image]]:
        """Read text as bytes, so that it arrives whatever it holds."""
        shape = self._shape
        kinds = self._select([f"typeof({column})" for column in self._columns], skip)
        as_bytes = "CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) ELSE {0} END"
        values = self._select([as_bytes.format(column) for column in self._columns], skip)
        rowids: Iterator[tuple[int]] | None = None if shape.key else self._select([str(self._rowid)], skip)
        for row_kinds, row_values in zip(kinds, values, strict=True):
            image = tuple(map(self._value, row_kinds, row_values))
            yield (next(rowids)[0] if rowids is not None else 0), image

    def _value(self, kind: str, value: Value) -> Value:
        if kind != "text":
            return value
        assert isinstance(value, bytes)
        try:
            return value.decode(self._encoding)
        except UnicodeDecodeError:
            return RawText(value)

    def _select(self, expressions: list[str], skip: int = 0) -> Iterator[tuple[Any, ...]]:
        # NOT INDEXED: an index that covers the columns would give another order to one of several walks.
        order = "" if self._shape.key else f" ORDER BY {self._rowid}"
        sql = f"SELECT {', '.join(expressions)} FROM main.{quoted(self._shape.table)} NOT INDEXED{order}"
        if skip:
            sql += f" LIMIT -1 OFFSET {skip}"
        return iter(self._db.cursor().execute(sql))


def _schema(item: SchemaObject) -> Schema:
    assert item.sql is not None
    return Schema(item.sql, False, True, b"")


def _sized(event: Schema) -> Sized:
    return event, len(event.sql)
