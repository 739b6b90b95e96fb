"""What SQLite knows of a table, as the :class:`~veritydb.replay.statements.Shape` that the statements are made from.

All rows of each query are fetched, and no cursor has a name here: one that is left half-way keeps the database locked,
and the traceback of an interruption keeps what has a name.
"""

from __future__ import annotations

from typing import Any

import apsw

from veritydb.errors import ReplayMismatch
from veritydb.replay.statements import Column, Shape

_VIRTUAL, _STORED = 2, 3
"""Values of ``hidden`` in table_xinfo, https://www.sqlite.org/pragma.html#pragma_table_xinfo."""

_TABLE = "SELECT type, wr FROM pragma_table_list(?) WHERE schema = 'main'"
_COLUMNS = "SELECT name, pk, hidden FROM pragma_table_xinfo(?, 'main') ORDER BY cid"
_KEY_INDEX = "SELECT name FROM pragma_index_list(?, 'main') WHERE origin = 'pk'"
_COLLATIONS = "SELECT cid, coll FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno"


def shape_of(db: apsw.Connection, table: str) -> Shape:
    """Describe ``table`` of the main schema. Raises ReplayMismatch if there is no such table."""
    found: list[Any] = db.execute(_TABLE, (table,)).fetchall()
    if not found or found[0][0] not in ("table", "shadow"):
        raise ReplayMismatch(f"the log changes rows of {table}, and there is no such table at this point")
    kind, without_rowid = found[0]
    described: list[Any] = db.execute(_COLUMNS, (table,)).fetchall()
    # An image leaves out the VIRTUAL columns, so positions in it are not column ids.
    position_of: dict[int, int] = {}
    for cid, (_, _, hidden) in enumerate(described):
        if hidden != _VIRTUAL:
            position_of[cid] = len(position_of)
    key_index: list[Any] = db.execute(_KEY_INDEX, (table,)).fetchall()
    keyed = [position_of[cid] for cid, (_, pk, _) in enumerate(described) if pk]
    key: tuple[tuple[int, str], ...] = ()
    if without_rowid:
        of_index: list[Any] = db.execute(_COLLATIONS, key_index[0]).fetchall()
        key = tuple((position_of[cid], collation) for cid, collation in of_index)
    columns = tuple(
        Column(name=name, generated=hidden == _STORED)
        for cid, (name, _, hidden) in enumerate(described)
        if cid in position_of
    )
    return Shape(
        table=table,
        columns=columns,
        hiding=frozenset(name.lower() for name, _, _ in described),
        key=key,
        # A primary key of one column that needs no index is the rowid itself.
        alias=keyed[0] if len(keyed) == 1 and not key_index and not without_rowid else None,
        shadow=kind == "shadow",
    )


def counts_in_sequence(db: apsw.Connection, shape: Shape) -> bool:
    """Whether the table is AUTOINCREMENT."""
    if shape.alias is None:
        return False
    return db.column_metadata("main", shape.table, shape.columns[shape.alias].name)[4]
