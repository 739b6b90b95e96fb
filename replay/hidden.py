"""Tables whose columns take all three names of the rowid: ``CREATE TABLE t(rowid, oid, _rowid_)``.

No SQL reaches the rowid of such a table, yet its rows have one, and an incremental blob handle shows it. To put rows
back under their rowids, a second entry in the schema names the same b-tree with other columns for the time being (the
imposter table of https://www.sqlite.org/imposter.html); what is written through it misses the indexes, so they are
built anew. Slow, and right; nobody makes such tables on purpose.
"""

from __future__ import annotations

import apsw

from veritydb.replay.statements import Column, Shape, quoted

_NAME = "_veritydb_unhidden"
_ENTER = (
    "INSERT INTO main.sqlite_schema(type, name, tbl_name, rootpage, sql) "
    "SELECT 'table', ?1, ?1, rootpage, ?2 FROM main.sqlite_schema WHERE type = 'table' AND name = ?3"
)
_LEAVE = "DELETE FROM main.sqlite_schema WHERE name = ?"


class Unhidden:
    """Another table over the b-tree of one whose rowid cannot be named, until :meth:`hide`."""

    def __init__(self, db: apsw.Connection, shape: Shape, number: int) -> None:
        self._db = db
        self._table = shape.table
        self._name = f"{_NAME}_{number}"
        # No types, no constraints, nothing generated: values are stored as the image has them.
        columns = tuple(Column(name=f"c{position}") for position in range(len(shape.columns)))
        definition = f"CREATE TABLE {self._name}({','.join(column.name for column in columns)})"
        self._change_schema(_ENTER, (self._name, definition, shape.table))
        self.shape = Shape(table=self._name, columns=columns)
        """Through which the rows are reached."""

    def hide(self) -> None:
        """Take the other table away, and bring the indexes up to date."""
        self._change_schema(_LEAVE, (self._name,))
        self._db.cursor().execute(f"REINDEX main.{quoted(self._table)}")

    def _change_schema(self, sql: str, bindings: tuple[str, ...]) -> None:
        self._db.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)
        try:
            self._db.cursor().execute(sql, bindings)
        finally:
            forget_schema(self._db)


def forget_schema(db: apsw.Connection) -> None:
    """Make ``db`` read its schema anew before the next statement."""
    db.pragma("writable_schema", "reset")
