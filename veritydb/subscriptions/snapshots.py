"""The rows there are now, as the beginning of a subscription.

One read transaction tells the rows and the AppliedIndex, which says what transaction the rows are as of; the updates
behind that one follow. So there is no gap and no overlap, and no lock is held.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import apsw

from veritydb import applied
from veritydb.errors import LogMismatch, OperationalError
from veritydb.reading import RowReader
from veritydb.replay.shapes import shape_of
from veritydb.subscriptions.catalogs import read_catalog
from veritydb.subscriptions.updates import (
    INSERT,
    Cursor,
    RowId,
    Selection,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    TableUpdate,
    Update,
)

if TYPE_CHECKING:
    from veritydb.events import Image
    from veritydb.subscriptions.decoding import Table


def snapshot(db: apsw.Connection, selection: Selection, *, close: bool) -> tuple[Cursor, Iterator[Update]]:
    """Begin a read transaction on ``db``; return the cursor it is as of, and the updates, which end it.

    ``close`` says that the connection is for this alone. Raises OperationalError.
    """
    place = begin(db, close=close)
    return place, _updates(db, selection, place, close=close)


def begin(db: apsw.Connection, *, close: bool) -> Cursor:
    """Begin a read transaction on ``db``, if it is for this alone (``close``); return the cursor it is as of.

    Raises OperationalError, and has closed the connection then if it is for this alone.
    """
    try:
        cursor = db.cursor()
        if close:
            cursor.execute("BEGIN")
        index = applied.read(cursor)
    except (apsw.Error, LogMismatch) as error:
        if close:
            db.close(True)
        raise OperationalError(f"no snapshot can be taken: {error}") from error
    return Cursor(-1) if index is None else Cursor(index.next_offset - 1, stream=index.stream.hex()[:16])


def tables_of(db: apsw.Connection, wanted: Callable[[Table], bool]) -> list[Table]:
    """Return the tables that are wanted, by name; hidden ones never are."""
    found = read_catalog(db.cursor()).tables.values()
    return sorted(
        (table for table in found if not table.hidden and wanted(table)),
        key=lambda table: table.name,
    )


def rows_of(db: apsw.Connection, table: Table) -> Iterator[tuple[RowId, Image]]:
    """Yield the rows of a table, each with what names it."""
    for rowid, image in RowReader(db, shape_of(db, table.name)):
        yield tuple(image[column] for column in table.key) if table.key else rowid, image


def _updates(db: apsw.Connection, selection: Selection, place: Cursor, *, close: bool) -> Iterator[Update]:
    with contextlib.closing(db) if close else contextlib.nullcontext():
        tables = tables_of(db, lambda table: selection.wants_table(table.name))
        yield SnapshotBegin(tables=tuple(table.name for table in tables), cursor=place)
        for table in tables:
            yield from _rows(db, table, selection, place)
        yield SnapshotEnd(cursor=place)


def _rows(db: apsw.Connection, table: Table, selection: Selection, place: Cursor) -> Iterator[SnapshotRow]:
    where = selection.where
    for row_id, image in rows_of(db, table):
        row = dict(zip(table.columns, image, strict=True)) if selection.images or where is not None else None
        if where is not None:
            seen = TableUpdate(
                table=table.name,
                action=INSERT,
                row_id=row_id,
                row_id_before=row_id,
                cursor=place,
                timestamp=0,
                actor="",
                reason="",
                columns=table.columns,
                changed=table.columns,
                after=row,
            )
            if not where(seen):
                continue
        yield SnapshotRow(
            table=table.name,
            row_id=row_id,
            columns=table.columns,
            row=row if selection.images else None,
            cursor=place,
        )
