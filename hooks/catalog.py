"""What capture knows of the schema, read when it changes and never inside a callback.

The hook may not run SQL, so what it has to know of a table is looked up before: at the join, if the schema's cookie is
another one than last time, and after each schema statement.
"""

from __future__ import annotations

from typing import Any

import apsw

from veritydb.applied import TABLE as APPLIED_TABLE
from veritydb.hooks.images import Kind, Table, has_real_affinity

STATISTICS = ("sqlite_stat1", "sqlite_stat2", "sqlite_stat3", "sqlite_stat4")

_SPECIAL = (
    (APPLIED_TABLE, Kind.IGNORED),
    ("sqlite_sequence", Kind.SEQUENCE),
    *((name, Kind.STATISTICS) for name in STATISTICS),
    ("sqlite_master", Kind.FORBIDDEN),
    ("sqlite_schema", Kind.FORBIDDEN),
)

ROWID_NAMES = ("rowid", "_rowid_", "oid")

# Hidden kinds of PRAGMA table_xinfo: https://www.sqlite.org/pragma.html#pragma_table_xinfo
VIRTUAL_GENERATED = 2


class Catalog:
    """The tables of the schema ``main`` by name, and the few facts on the database that capture needs."""

    __slots__ = ("_cookie", "has_sequence", "tables", "tables_present", "text_encoding", "virtual")

    def __init__(self) -> None:
        self._cookie: int | None = None
        self.tables: dict[str, Table] = {}
        """The same dictionary for ever: the hook holds it."""
        self.virtual: frozenset[str] = frozenset()
        """Names of the virtual tables."""
        self.has_sequence = False
        """Whether there is a table ``sqlite_sequence``."""
        self.tables_present: frozenset[str] = frozenset()
        """Names of the tables that there are; ``tables`` has special ones that there may not be."""
        self.text_encoding = "utf-8"
        """Python's name of the encoding in which the file keeps TEXT."""

    def check(self, cursor: apsw.Cursor) -> bool:
        """Read the schema again if it is not the one that was read last. Returns whether it was read."""
        cookie = cursor.execute("PRAGMA main.schema_version").get
        if cookie == self._cookie:
            return False
        self.read(cursor)
        self._cookie = cookie
        return True

    @property
    def trusted(self) -> bool:
        """Whether what was read is what the schema's cookie of that time stands for."""
        return self._cookie is not None

    def read(self, cursor: apsw.Cursor) -> None:
        """Read the schema. Tables met before they were known are completed in place.

        Its cookie is not asked for: schema changes that are rolled back give theirs back for others to use.
        """
        self._cookie = None
        found: dict[str, Table] = {}
        virtual: list[str] = []
        shadows: list[Table] = []
        definitions: dict[str, str] = {}
        definitions.update(
            _all(cursor, "SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND sql IS NOT NULL")
        )
        self.tables_present = frozenset(definitions)
        self.has_sequence = "sqlite_sequence" in definitions
        listing = "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'"
        for name, kind, without_rowid in _all(cursor, listing):
            if kind == "virtual":
                virtual.append(name)
                continue
            table = self.tables.get(name)
            if table is None or table.resolved:
                table = Table(name)
            table.resolved = True
            table.without_rowid = bool(without_rowid)
            found[name] = table
            if kind == "shadow":
                shadows.append(table)
            definition = definitions.get(name, "").upper()  # Not SQL's upper(): a program may have put its own there.
            table.autoincrement = "AUTOINCREMENT" in definition
            # Asking for the columns costs more than the rest; without these words there is nothing to learn.
            if "DEFAULT" in definition or "AS" in definition or "_ROWID_" in definition:
                _read_columns(cursor, table)
        self.virtual = frozenset(virtual)
        for table in shadows:
            owners = [name for name in virtual if table.name.lower().startswith(f"{name.lower()}_")]
            table.owner = max(owners, key=len, default="")
        for name, special in _SPECIAL:
            found[name] = Table(name, special)
        for name, table in self.tables.items():
            # What was made and is gone again within one statement has no rows to speak of.
            if not table.resolved and name not in found:
                table.kind = Kind.IGNORED
                table.resolved = True
        self.tables.clear()
        self.tables.update(found)
        encoding: Any = cursor.execute("PRAGMA main.encoding").get
        self.text_encoding = encoding.lower()

    def find(self, name: str) -> Table:
        """Return the table called ``name``, in whatever case; raises KeyError if there is none."""
        table = self.tables.get(name)
        if table is None:
            lower = name.lower()
            table = next((table for table in self.tables.values() if table.name.lower() == lower), None)
            if table is None:
                raise KeyError(name)
        return table

    def meet(self, name: str) -> Table:
        """Return a table of which nothing is known yet, for one that the running statement has made."""
        table = self.tables[name] = Table(name, resolved=False)
        return table


def _read_columns(cursor: apsw.Cursor, table: Table) -> None:
    """Learn from the columns which images cannot be had, and which must be mended."""
    real: list[int] = []
    place = 0
    names: set[str] = set()
    keys: list[str] = []
    columns = "SELECT name, type, pk, dflt_value, hidden FROM pragma_table_xinfo(?, 'main')"
    for name, declared, key, default, hidden in _all(cursor, columns, table.name):
        names.add(name.lower())
        if key:
            keys.append(declared.upper())
        if hidden == VIRTUAL_GENERATED:
            table.kind = Kind.LATE
            continue
        if default is not None and has_real_affinity(declared):
            real.append(place)
        place += 1
    table.real_columns = tuple(real)
    table.hidden = not table.without_rowid and names.issuperset(ROWID_NAMES) and keys != ["INTEGER"]


def _all(cursor: apsw.Cursor, sql: str, *bindings: str) -> list[Any]:
    return cursor.execute(sql, bindings).fetchall()
