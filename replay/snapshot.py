"""A whole database boiled down to what replay has to get right, small enough to keep and compare.

Rows are hashed as they stream by: rowids, values, storage classes and bytes count, pages and free space do not. Virtual
tables are their shadow tables. :mod:`veritydb.replay.compare` says in words where two databases differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import apsw
from blake3 import blake3

from veritydb import applied
from veritydb.errors import MissingFunction
from veritydb.replay.shapes import shape_of
from veritydb.replay.statements import quoted, rowid_name

Row: TypeAlias = "tuple[Any, ...]"

_SETTINGS = ("user_version", "application_id", "encoding", "auto_vacuum")
_SCHEMA = (
    "SELECT type, name, tbl_name, sql FROM main.sqlite_schema "
    # That an empty statistics table exists says nothing: ANALYZE makes it, and is not logged as a statement.
    f"WHERE tbl_name NOT GLOB 'sqlite_stat[0-9]' AND name <> '{applied.TABLE}' ORDER BY type, name, tbl_name, sql"
)
_TABLES = (
    "SELECT s.name FROM main.sqlite_schema s JOIN pragma_table_list l ON l.schema = 'main' AND l.name = s.name "
    f"WHERE s.type = 'table' AND l.type IN ('table', 'shadow') AND s.name <> '{applied.TABLE}' ORDER BY s.name"
)
_SEQUENCES = "sqlite_sequence"
_CHUNK = 1000
_COLUMNS_MAX = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The rows of one table."""

    count: int
    digest: bytes
    """BLAKE3-256 over the rows in the order of their keys."""
    exact: bool
    """Text was read as bytes, because some of it is not valid, or the database is in UTF-16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A database, without its rows but with their digests."""

    settings: dict[str, int | str]
    """The header fields that are logged."""
    schema: tuple[tuple[str, str, str, str | None], ...]
    """type, name, tbl_name and sql of everything in sqlite_schema."""
    tables: dict[str, Content]
    """By name; an empty statistics table is left out."""


def describe(db: apsw.Connection) -> Snapshot:
    """Describe the main database of ``db``, all of which is read. Changes of others between two tables show."""
    cursor = db.cursor()
    settings: dict[str, int | str] = {name: db.pragma(name, schema="main") for name in _SETTINGS}
    utf16 = settings["encoding"] != "UTF-8"
    tables: dict[str, Content] = {}
    names: list[Any] = cursor.execute(_TABLES).fetchall()
    for (table,) in names:
        content = _content(db, table, utf16)
        if content.count or not table.startswith("sqlite_stat"):
            tables[table] = content
    schema: tuple[Any, ...] = tuple(cursor.execute(_SCHEMA).fetchall())
    return Snapshot(settings=settings, schema=schema, tables=tables)


def rows_of(db: apsw.Connection, table: str, *, exact: bool) -> Iterator[Row]:
    """Yield the rows of ``table`` by key: the rowid, if it has one that can be named, and every stored column.

    ``exact`` turns text into the hexadecimal digits of its bytes as stored. Without it, text that is not valid UTF-8
    raises UnicodeDecodeError, and text of a UTF-16 database is silently repaired.
    """
    cursor = db.cursor()
    name = f"main.{quoted(table)}"
    if table == _SEQUENCES:
        # The order and the rowids of its rows tell when tables got their first rows, which is nobody's business.
        yield from cursor.execute(f"SELECT name, seq FROM {name} ORDER BY name, seq")
        return
    shape = shape_of(db, table)
    columns = [quoted(column.name) for column in shape.columns]
    if exact:
        columns = [f"CASE typeof({c}) WHEN 'text' THEN hex(CAST({c} AS BLOB)) ELSE {c} END" for c in columns]
    rowid = rowid_name(shape)
    # NOT INDEXED reads in the order of the b-tree.
    order = f"ORDER BY {rowid}" if rowid else "NOT INDEXED"
    if rowid and shape.alias is None and len(columns) == _COLUMNS_MAX:
        rowids = db.cursor().execute(f"SELECT {rowid} FROM {name} {order}")
        images = cursor.execute(f"SELECT {','.join(columns)} FROM {name} {order}")
        for (number,), image in zip(rowids, images, strict=True):
            yield (number, *image)
        return
    if rowid and shape.alias is None:
        columns.insert(0, rowid)
    try:
        yield from cursor.execute(f"SELECT {','.join(columns)} FROM {name} {order}")
    except apsw.SQLError as error:
        if "no query solution" not in str(error):
            raise
        # What SQLite says of a WITHOUT ROWID table whose key has a collation that it does not know.
        raise MissingFunction(f"{table} cannot be read: a collation of its key is not registered") from error


def _content(db: apsw.Connection, table: str, exact: bool) -> Content:
    digest, count = blake3(), 0
    rows = rows_of(db, table, exact=exact)
    try:
        while chunk := list(islice(rows, _CHUNK)):
            # ascii() tells 1 from 1.0 and from '1', writes floats to the last bit, and is alike in every Python.
            digest.update("\n".join(map(ascii, chunk)).encode("ascii") + b"\n")
            count += len(chunk)
    except UnicodeDecodeError:
        return _content(db, table, True)
    return Content(count=count, digest=digest.digest(), exact=exact)
