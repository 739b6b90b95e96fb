"""``Connection.iterdump``: a database as the SQL that would make it again, statement by statement.

The text is the one that :mod:`sqlite3` gives (of Python 3.13, with ``filter``), so that tools which read or compare
dumps go on working. What VerityDB keeps for itself in the file is not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from veritydb.errors import OperationalError
from veritydb.refusals import RESERVED_PREFIX

if TYPE_CHECKING:
    from veritydb.connection import Connection

_OURS = f"AND \"name\" NOT LIKE '{RESERVED_PREFIX.replace('_', '!_')}%' ESCAPE '!'"


def iterdump(connection: Connection, matching: str | None) -> Iterator[str]:
    """Yield the statements; ``matching`` is a LIKE pattern for the names of what is dumped."""
    cursor = connection.cursor()
    cursor.row_factory = None
    if _keys_are_broken(cursor):
        yield "PRAGMA foreign_keys=OFF;"
    yield "BEGIN TRANSACTION;"
    writable = False
    sequences: list[str] = []
    where, bindings = ('AND "name" LIKE ?', [matching]) if matching else ("", [])
    tables = f"""
        SELECT "name", "type", "sql" FROM "sqlite_master"
        WHERE "sql" NOT NULL AND "type" == 'table' {where} {_OURS} ORDER BY "name"
        """
    for name, _, sql in cursor.execute(tables, bindings).fetchall():
        if name == "sqlite_sequence":
            sequences.append('DELETE FROM "sqlite_sequence";')
            rows = cursor.execute('SELECT * FROM "sqlite_sequence"').fetchall()
            sequences.extend(
                f'INSERT INTO "sqlite_sequence" VALUES({_literal(table)},{number});' for table, number in rows
            )
            continue
        if name == "sqlite_stat1":
            yield 'ANALYZE "sqlite_master";'
        elif name.startswith("sqlite_"):
            continue
        elif sql.startswith("CREATE VIRTUAL TABLE"):
            if not writable:
                writable = True
                yield "PRAGMA writable_schema=ON;"
            yield (
                "INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)"
                f"VALUES('table',{_literal(name)},{_literal(name)},0,{_literal(sql)});"
            )
        else:
            yield f"{sql};"
        yield from _rows(cursor, name)
    others = f"""
        SELECT "name", "type", "sql" FROM "sqlite_master"
        WHERE "sql" NOT NULL AND "type" IN ('index', 'trigger', 'view') {where} {_OURS}
        """
    for (sql,) in cursor.execute(f'SELECT "sql" FROM ({others})', bindings).fetchall():
        yield f"{sql};"
    if writable:
        yield "PRAGMA writable_schema=OFF;"
    # The sequences come last: until then the inserts have moved them.
    yield from sequences
    yield "COMMIT;"


def _keys_are_broken(cursor: Any) -> bool:
    try:
        return bool(cursor.execute("PRAGMA foreign_key_check").fetchall())
    except OperationalError:
        return False  # Two tables do not fit each other; SQLite says so only where keys are enforced.


def _rows(cursor: Any, table: str) -> Iterator[str]:
    name = _identifier(table)
    columns = [_identifier(column[1]) for column in cursor.execute(f"PRAGMA table_info({name})").fetchall()]
    values = "','".join(f"||quote({column})||" for column in columns)
    # A literal with a name in it doubles the quotes the name may hold.
    for (statement,) in cursor.execute(
        f"SELECT 'INSERT INTO {name.replace(chr(39), chr(39) * 2)} VALUES('{values}')' FROM {name}"
    ):
        yield f"{statement};"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
