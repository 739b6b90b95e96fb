"""The history of a row, from the log: who changed what, when and why, also when it is gone.

Nothing was prepared for this in the models: no history tables, no signals. Whatever changed the row, the log has it.
The log is read from its beginning, which is fine for a clinic; a hospital would keep an index.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import connections, router

from veritydb.events import Op, Rows
from veritydb.records import Reader
from veritydb.sealing import Opener
from veritydb.streams import log_folder, open_log


@dataclass(frozen=True)
class Change:
    """One change of one row."""

    offset: int
    at: datetime
    actor: str
    reason: str
    what: str
    """insert, update or delete."""
    values: dict[str, tuple[object, object]]
    """Column → (before, after), of the columns that changed."""


def history(model, pk):
    """Return the changes of the row ``pk`` of ``model``, oldest first."""
    connection = connections[router.db_for_read(model)]
    params = connection.get_connection_params()
    table = model._meta.db_table
    names = _columns(connection, table)
    log, keyring = open_log(log_folder(params["database"]), params.get("key"))
    with closing(log):
        return [
            Change(
                offset=transaction.offset,
                at=datetime.fromtimestamp(transaction.timestamp / 1_000_000, UTC),
                actor=transaction.actor,
                reason=transaction.reason,
                what=Op(event.op).name.lower(),
                values=_changed(names, before, after),
            )
            for transaction in Reader(log, Opener(keyring)).transactions()
            for event in transaction.events
            if isinstance(event, Rows) and event.table == table
            for rowid, before, after in _rows(event)
            if rowid == pk
        ]


def _columns(connection, table):
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA table_xinfo({connection.ops.quote_name(table)})")
        return [name for _, name, *_, hidden in cursor.fetchall() if hidden in (0, 3)]  # What is stored.


def _rows(event):
    nothing = [None] * len(event)
    return zip(event.rowids or nothing, event.before or nothing, event.after or nothing, strict=True)


def _changed(names, before, after):
    count = len(before or after)
    if count != len(names):  # The row is older than a migration of its table.
        names = [f"column {number}" for number in range(1, count + 1)]
    before, after = before or (None,) * count, after or (None,) * count
    return {name: (old, new) for name, old, new in zip(names, before, after, strict=True) if old != new}
