"""Which columns a table had at a place of the log.

Row images carry no names, and a table's columns change. The log has every schema statement, so the names at any place
can be had by carrying out all of them up to there, on an empty database in memory (:class:`_Mirror`). That takes a
walk from the log's beginning, so :class:`History` avoids it where it can: it begins with the schema of the database
file, which is that of the file's own place in the log, follows it forwards, and goes back only if somebody asks for
what is older and a schema statement lies in between.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import apsw

from veritydb.events import Schema
from veritydb.refusals import reserved
from veritydb.replay.registering import Registrar
from veritydb.replay.shapes import shape_of
from veritydb.subscriptions.decoding import Catalog, Table

Position = tuple[int, int]
"""Offset of a transaction and index of a change in it."""

_TABLES = "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
_OBJECTS = "SELECT type, name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid"
_NO_CATALOG = Catalog({})


def read_catalog(cursor: apsw.Cursor) -> Catalog:
    """Return the tables of the main schema of a connection."""
    found: list[Any] = cursor.execute(_TABLES).fetchall()
    tables: dict[str, Table] = {}
    for name, kind in found:
        hidden = kind == "shadow" or name.lower().startswith("sqlite_") or reserved(name)
        if name in ("sqlite_schema", "sqlite_master"):
            continue
        shape = shape_of(cursor.connection, name)
        columns = tuple(column.name for column in shape.columns)
        key = tuple(place for place, _ in shape.key)
        tables[name.lower()] = Table(name, columns, key, hidden)
    return Catalog(tables)


def statements_of(cursor: apsw.Cursor) -> list[str]:
    """Return statements that make the main schema of a connection again, as far as tables are concerned."""
    shadows = {name for name, kind in cursor.execute(_TABLES).fetchall() if kind == "shadow"}
    found: list[Any] = cursor.execute(_OBJECTS).fetchall()
    return [sql for _, name, sql in found if name not in shadows and not name.lower().startswith("sqlite_")]


class _Mirror:
    """The schema at one place of the log, as an empty database."""

    def __init__(self, register: Callable[[Any], object] | None) -> None:
        self._db = apsw.Connection(":memory:")
        self._cursor = self._db.cursor()
        if register is not None:
            register(Registrar(self._db))

    def load(self, statements: Iterable[str]) -> None:
        """Begin with a schema that is known."""
        for sql in statements:
            self._execute(sql)

    def apply(self, event: Schema) -> None:
        """Carry out one schema statement."""
        self._db.config(apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, event.legacy_alter_table)
        self._db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, event.dqs_ddl)
        self._execute(event.sql)

    def catalog(self) -> Catalog:
        """Return the tables."""
        return read_catalog(self._cursor)

    def close(self) -> None:
        """Give the memory back."""
        self._db.close(True)

    def _execute(self, sql: str) -> None:
        # What cannot be carried out here (a function or module that is not registered, an index on it) leaves its table
        # unknown: its rows are reported all the same, by place instead of by name.
        with contextlib.suppress(apsw.Error):
            self._cursor.execute(sql).fetchall()


class History:
    """The catalogs of a stretch of the log, each with the place behind which it is in force."""

    def __init__(self, register: Callable[[Any], object] | None = None) -> None:
        self._register = register
        self._mirror = _Mirror(register)
        self._lock = Lock()
        self._since: list[Position] = []
        self._catalogs: list[Catalog] = []
        self.end: Position = (-1, 0)
        """Up to where schema statements are known."""

    @property
    def begins(self) -> int:
        """Transactions behind this offset can be decoded."""
        return self._since[0][0] if self._since else 1 << 63

    def begin(self, offset: int, statements: Iterable[str]) -> None:
        """Start with the schema that is in force behind the transaction ``offset`` (-1: an empty one, at the start)."""
        self._mirror.load(statements)
        self._since = [(offset, 1 << 63)]
        self._catalogs = [self._mirror.catalog()]
        self.end = self._since[0]

    def at(self, position: Position) -> Catalog:
        """Return the catalog that is in force at a place, which must not lie before :attr:`begins`."""
        with self._lock:
            number = bisect_right(self._since, position) - 1
            return self._catalogs[max(number, 0)] if self._catalogs else _NO_CATALOG

    def advance(self, position: Position, event: Schema) -> Catalog:
        """Return the catalog behind a schema statement, which is carried out if it was not known."""
        with self._lock:
            if position > self.end:
                self._mirror.apply(event)
                self._since.append(position)
                self._catalogs.append(self._mirror.catalog())
                self.end = position
            number = bisect_right(self._since, position) - 1
            return self._catalogs[number]

    def knows(self, name: str) -> bool:
        """Whether there is, or was in the stretch that is known, a table that one can subscribe to."""
        with self._lock:
            found = [catalog.find(name) for catalog in self._catalogs]
        return any(table is not None and not table.hidden for table in found)

    @property
    def current(self) -> Catalog:
        """The catalog at the end."""
        with self._lock:
            return self._catalogs[-1] if self._catalogs else _NO_CATALOG

    def reach_back(self, offset: int, schemas: Callable[[int, int], Iterable[tuple[Position, Schema]]]) -> None:
        """See that what follows the transaction ``offset`` can be decoded.

        ``schemas(first, last)`` yields the schema statements of the transactions from ``first`` to ``last``.
        """
        begins = self.begins
        if offset >= begins:
            return
        if not any(True for _ in schemas(offset + 1, begins)):
            with self._lock:
                # Nothing changed in between, so the first catalog known was in force there already.
                if self._since[0][0] == begins:
                    self._since[0] = (offset, 1 << 63)
            return
        mirror = _Mirror(self._register)
        try:
            since: list[Position] = [(-1, 1 << 63)]
            catalogs = [_NO_CATALOG]
            for position, event in schemas(0, begins):
                mirror.apply(event)
                since.append(position)
                catalogs.append(mirror.catalog())
        finally:
            mirror.close()
        with self._lock:
            if self._since[0][0] == begins:
                self._since[:1] = since
                self._catalogs[:1] = catalogs

    def close(self) -> None:
        """Give the memory back."""
        self._mirror.close()
