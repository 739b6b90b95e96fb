"""What capture knows of the schema, read when it changes and never inside a callback.

The hook may not run SQL, so what it has to know of a table is looked up before: at the join, if the schema's cookie is
another one than last time, and after each schema statement.
"""

from __future__ import annotations

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

# Hidden kinds of PRAGMA table_xinfo: https://www.sqlite.org/pragma.html#pragma_table_xinfo
VIRTUAL_GENERATED = 2


class Catalog:
    """The tables of the schema ``main`` by name, and the few facts on the database that capture needs."""

    __slots__ = ("_cookie", "has_sequence", "present_statistics", "tables", "text_encoding", "virtual")

    def __init__(self) -> None:
        self._cookie: int | None = None
        self.tables: dict[str, Table] = {}
        """The same dictionary for ever: the hook holds it."""
        self.virtual: frozenset[str] = frozenset()
        """Names of the virtual tables."""
        self.has_sequence = False
        """Whether there is a table ``sqlite_sequence``."""
        self.present_statistics: frozenset[str] = frozenset()
        """The statistics tables that there are."""
        self.text_encoding = "utf-8"
        """Python's name of the encoding in which the file keeps TEXT."""

    def check(self, cursor: apsw.Cursor) -> None:
        """Read the schema again if it is not the one that was read last."""
        cookie = cursor.execute("PRAGMA main.schema_version").get
        if cookie != self._cookie:
            self.read(cursor)
            self._cookie = cookie

    def invalidate(self) -> None:
        """Distrust the cookie: schema changes that are rolled back give their cookies back for others to use."""
        self._cookie = None

    def read(self, cursor: apsw.Cursor) -> None:
        """Read the schema. Tables met before they were known are completed in place."""
        found: dict[str, Table] = {}
        virtual: list[str] = []
        shadows: list[Table] = []
        schemas: dict[str, str] = {
            name: sql.upper()
            for name, sql in cursor.execute(
                "SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND sql IS NOT NULL"
            )
        }
        self.has_sequence = "sqlite_sequence" in schemas
        self.present_statistics = frozenset(STATISTICS).intersection(schemas)
        for name, kind, without_rowid in cursor.execute(
            "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'"
        ).fetchall():
            if kind == "virtual":
                virtual.append(name)
                continue
            table = self.tables.get(name)
            if table is None or table.resolved:
                table = Table(name)
            found[name] = table
            table.resolved = True
            table.without_rowid = bool(without_rowid)
            if kind == "shadow":
                shadows.append(table)
            sql = schemas.get(name, "")
            table.autoincrement = "AUTOINCREMENT" in sql
            # Asking for the columns costs more than the rest; without these words there is nothing to learn.
            if "DEFAULT" in sql or "AS" in sql:
                _read_columns(cursor, table)
        self.virtual = frozenset(virtual)
        for table in shadows:
            table.owner = max((v for v in virtual if table.name.lower().startswith(f"{v.lower()}_")), key=len, default="")
        for name, special in _SPECIAL:
            found[name] = Table(name, special)
        for name, table in self.tables.items():
            # What was made and is gone again within one statement has no rows to speak of.
            if not table.resolved and name not in found:
                table.kind = Kind.IGNORED
                table.resolved = True
        self.tables.clear()
        self.tables.update(found)
        encoding: str = cursor.execute("PRAGMA main.encoding").get
        self.text_encoding = encoding.lower()

    def meet(self, name: str) -> Table:
        """Return a table of which nothing is known yet, for one that the running statement has made."""
        table = self.tables[name] = Table(name, resolved=False)
        return table


def _read_columns(cursor: apsw.Cursor, table: Table) -> None:
    """Learn from the columns which images cannot be had, and which must be mended."""
    real: list[int] = []
    place = 0
    for declared, default, hidden in cursor.execute(
        'SELECT type, dflt_value, hidden FROM pragma_table_xinfo(?, "main")', (table.name,)
    ).fetchall():
        if hidden == VIRTUAL_GENERATED:
            table.kind = Kind.LATE
            continue
        if default is not None and has_real_affinity(declared):
            real.append(place)
        place += 1
    table.real_columns = tuple(real)
