"""Row ids that no name reaches: ``CREATE TABLE t(rowid, oid, _rowid_)``.

A row that is read late (:mod:`veritydb.hooks.late`) is logged under its row id, and of such a table no query tells it.
The preupdate hook does: so every row is updated to what it is, under a savepoint that is rolled back at once, and the
hook writes down the numbers. In the order of the numbers the rows come from a query, too.

It needs a savepoint, so it cannot be done while SQLite prepares a commit; the session asks for it before. It reads the
whole table, and nobody makes such tables on purpose.
"""

from __future__ import annotations

import apsw

from veritydb.errors import CaptureError
from veritydb.hooks.images import Table

_SAVEPOINT = "_veritydb_numbers"
_OFF = (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, apsw.SQLITE_DBCONFIG_ENABLE_FKEY)
_TEMP_TRIGGERS = "SELECT count(*) FROM temp.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
_COLUMN = "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0 LIMIT 1"


def refusal(table: Table) -> CaptureError:
    """Return the error for a table whose row ids cannot be had."""
    return CaptureError(
        f"table {table.name} has columns named rowid, oid and _rowid_, so the row ids of its rows cannot be read, and "
        "the changed rows cannot be logged without them; rename one of the columns"
    )


def number_rows(db: apsw.Connection, table: Table) -> None:
    """Make the preupdate hook see every row of ``table`` once, and leave everything as it is.

    Raises CaptureError where a trigger of the temp schema would act: those cannot be switched off.
    """
    cursor = db.cursor()
    try:
        if cursor.execute(_TEMP_TRIGGERS, (table.name,)).get:
            raise refusal(table)
        column = _quoted(str(cursor.execute(_COLUMN, (table.name,)).get))
        before = [(option, db.config(option, -1)) for option in _OFF]
        cursor.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            for option, _ in before:
                db.config(option, 0)
            cursor.execute(f"UPDATE OR IGNORE main.{_quoted(table.name)} NOT INDEXED SET {column} = {column}")
        finally:
            cursor.execute(f"ROLLBACK TO {_SAVEPOINT}")
            cursor.execute(f"RELEASE {_SAVEPOINT}")
            for option, value in before:
                db.config(option, value)
    finally:
        cursor.close(True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
