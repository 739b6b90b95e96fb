"""A table's rows as they are stored, value for value, through one connection.

A query is not enough: APSW raises for TEXT that is not valid in the database's encoding, and SQLite translates UTF-16.
Where that can happen each value is read with its storage class, and text as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeAlias

import apsw

from veritydb.errors import CaptureError
from veritydb.events import Image
from veritydb.hooks.catalog import VIRTUAL_GENERATED
from veritydb.hooks.images import Table, exact_text

KEYED_ROWS_MAX = 100_000
"""Rows without rowids that are compared in memory."""
_EXACT_COLUMNS_MAX = 900
"""Columns that one query can ask for with their storage class: two results each, SQLite allows 2,000."""

Key: TypeAlias = "int | Image"
"""A rowid; without one, the image itself."""
Change: TypeAlias = "tuple[Key, Image | None, Image | None]"
"""Key, image before, image after."""


class TooManyRows(Exception):
    """A table without rowids is too large to be compared in memory."""


class StoredTable:
    """One table of the schema ``main``, as one connection sees it. Close it, for it holds cursors."""

    __slots__ = ("_by_rowid", "_cursor", "_encoding", "_exact_by_rowid", "_scan", "_scanning", "has_rowid")

    def __init__(self, db: apsw.Connection, table: Table, encoding: str) -> None:
        self._encoding = encoding
        self._cursor = db.cursor()
        self._scanning = db.cursor()
        try:
            self._prepare(table)
        except BaseException:
            self.close()
            raise

    def _prepare(self, table: Table) -> None:
        columns: list[Any] = self._cursor.execute(
            "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, 'main')", (table.name,)
        ).fetchall()
        if not columns:
            raise apsw.SQLError(f"no such table: {table.name}")
        rowid = None if table.without_rowid else _rowid_name(columns)
        names = [_quoted(name) for name, _, _, hidden in columns if hidden != VIRTUAL_GENERATED]
        source = f"FROM main.{_quoted(table.name)}"
        found = f"{source} WHERE {rowid} = ?"
        self._by_rowid = f"SELECT {', '.join(names)} {found}"
        pieces = [names[at : at + _EXACT_COLUMNS_MAX] for at in range(0, len(names), _EXACT_COLUMNS_MAX)]
        self._exact_by_rowid = [f"SELECT {_exact(piece)} {found}" for piece in pieces]
        self.has_rowid = rowid is not None
        """Whether rows can be asked for by rowid."""
        if self.has_rowid:
            self._scan = f"SELECT {rowid} {source} ORDER BY {rowid}"
        elif len(pieces) == 1:
            # In the order of the hidden numbers, if there are any: not by way of an index, and not backwards.
            self._scan = f"SELECT {_exact(names)} {source}{'' if table.without_rowid else ' NOT INDEXED'}"
        else:
            raise CaptureError(f"{table.name} has too many columns for a table whose rows cannot be told by rowid")

    def close(self) -> None:
        """Let the cursors go."""
        self._scanning.close(True)
        self._cursor.close(True)

    def row(self, rowid: int) -> Image | None:
        """Return one row, None if there is none."""
        rows: list[Any]
        if self._encoding == "utf-8":
            try:
                rows = self._cursor.execute(self._by_rowid, (rowid,)).fetchall()
            except UnicodeDecodeError:
                pass
            else:
                return rows[0] if rows else None
        values: list[Any] = []
        for sql in self._exact_by_rowid:
            rows = self._cursor.execute(sql, (rowid,)).fetchall()
            if not rows:
                return None
            values.extend(self._values(rows[0]))
        return tuple(values)

    def scan(self) -> Iterator[tuple[Key, Image]]:
        """Yield all rows, in the order of their rowids if they have any."""
        found: Any
        if self.has_rowid:
            for found in self._scanning.execute(self._scan):
                rowid: int = found[0]
                image = self.row(rowid)
                assert image is not None
                yield rowid, image
        else:
            for found in self._scanning.execute(self._scan):
                image = tuple(self._values(found))
                yield image, image

    def _values(self, row: tuple[Any, ...]) -> Iterator[Any]:
        """Yield the values of a row of storage classes and values in turn."""
        for place in range(0, len(row), 2):
            value = row[place + 1]
            yield exact_text(value, self._encoding) if row[place] == "text" else value


def differences(now: StoredTable, then: StoredTable, rowids: set[int] | None) -> Iterator[Change]:
    """Yield what differs: of the rows with ``rowids``, or of all if that is None.

    Without rowids the order is: what is gone, then what is new; a changed row is both. Raises TooManyRows there.
    """
    if not now.has_rowid:
        return _by_image(now, then)
    return _by_scan(now, then) if rowids is None else _by_rowid(now, then, sorted(rowids))


def _by_rowid(now: StoredTable, then: StoredTable, rowids: list[int]) -> Iterator[Change]:
    for rowid in rowids:
        before = then.row(rowid)
        after = now.row(rowid)
        if not _same(before, after):
            yield rowid, before, after


def _by_scan(now: StoredTable, then: StoredTable) -> Iterator[Change]:
    olds: Iterator[Any] = then.scan()
    news: Iterator[Any] = now.scan()
    old = next(olds, None)
    new = next(news, None)
    while old is not None or new is not None:
        if old is not None and (new is None or old[0] < new[0]):
            yield old[0], old[1], None
            old = next(olds, None)
        elif new is not None and (old is None or new[0] < old[0]):
            yield new[0], None, new[1]
            new = next(news, None)
        else:
            assert old is not None
            assert new is not None
            if not _same(old[1], new[1]):
                yield old[0], old[1], new[1]
            old = next(olds, None)
            new = next(news, None)


def _by_image(now: StoredTable, then: StoredTable) -> Iterator[Change]:
    # Rows may be equal to each other in a table that hides its rowids, so they are counted.
    olds: dict[Any, list[Image]] = {}
    for number, (_, image) in enumerate(then.scan()):
        if number == KEYED_ROWS_MAX:
            raise TooManyRows
        olds.setdefault(_identity(image), []).append(image)
    news: list[Image] = []
    for _, image in islice(now.scan(), KEYED_ROWS_MAX + 1):
        if equal := olds.get(_identity(image)):
            equal.pop()
        else:
            news.append(image)
        if len(news) > KEYED_ROWS_MAX:
            raise TooManyRows
    for gone in olds.values():
        for image in gone:
            yield image, image, None
    for image in news:
        yield image, None, image


def _identity(image: Image) -> tuple[object, ...]:
    """Return what is equal only for values of one class and the same bytes; Python says 1 == 1.0 and 0.0 == -0.0."""
    return tuple((type(value), value.hex() if isinstance(value, float) else value) for value in image)


def _same(before: Image | None, after: Image | None) -> bool:
    if before is None or after is None:
        return before is after
    return before == after and _identity(before) == _identity(after)


def _rowid_name(columns: list[Any]) -> str | None:
    """Return a name under which the rowid can be asked for, None if columns hide it under all of them."""
    taken = {name.lower() for name, _, _, _ in columns}
    for alias in ("rowid", "_rowid_", "oid"):
        if alias not in taken:
            return alias
    keys = [(name, declared) for name, declared, pk, _ in columns if pk]
    if len(keys) == 1 and keys[0][1].upper() == "INTEGER":
        return _quoted(keys[0][0])
    return None


def _exact(names: list[str]) -> str:
    return ", ".join(f"typeof({n}), CASE typeof({n}) WHEN 'text' THEN CAST({n} AS BLOB) ELSE {n} END" for n in names)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
