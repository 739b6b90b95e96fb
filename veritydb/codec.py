"""Events as bytes: the plaintext of one sealed part, a Cap'n Proto message of type ``Part``.

:mod:`veritydb.records` drives it: :func:`encode_part` and :func:`decode_part` are inverse to each other, and
``schemas/record.capnp`` says what the bytes mean. :func:`encode_rows` is the same for a transaction of few rows, the
commonest by far, and both directions take a shorter way for that (:mod:`veritydb.few_rows`).

Bytes that are read may be forged or rotten (the log may not be encrypted). Whatever they are, decoding returns a value
or raises LogDamaged, in memory proportional to their number.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from veritydb import schemas
from veritydb.columns import FREE_NULLS, read_column, read_columns, write_column, write_columns
from veritydb.errors import LogDamaged, TransactionTooLarge
from veritydb.events import BlobWrite, Clear, Cut, Event, Genesis, Image, Op, Rows, Schema, Sequence, Setting
from veritydb.few_rows import RowChange, pack_rows, unpack_rows
from veritydb.messages import kj_exception, read_message
from veritydb.numbers import set_ints
from veritydb.sqlite_record import NotRepresentable, decode_record, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

_ID = Struct("<QQ")
_OPS = (Op.INSERT, Op.INSERT, Op.UPDATE, Op.DELETE)  # by number; no change has the number 0
# The least that Cap'n Proto needs for one of each.
_TRANSACTION_BYTES = 48
_EVENT_BYTES = 16


class Piece(NamedTuple):
    """A transaction, or as much of it as one part holds."""

    id: bytes
    """16 bytes."""
    actor: str
    reason: str
    events: Many[Event]
    continues: bool
    """The next part goes on with it. Only the last piece of a part may."""


# --- Writing ---------------------------------------------------------------------------------------------------------


def encode_part(pieces: Many[Piece]) -> bytes:
    """Return the bytes of a part. Raises TransactionTooLarge if Cap'n Proto cannot hold it."""
    message: Any = schemas.record.Part.new_message()
    free = FREE_NULLS
    try:
        for transaction, piece in zip(message.init("transactions", len(pieces)), pieces, strict=True):
            transaction.idHigh, transaction.idLow = _ID.unpack(piece.id)
            transaction.actor = piece.actor
            transaction.reason = piece.reason
            transaction.continues = piece.continues
            for builder, event in zip(transaction.init("events", len(piece.events)), piece.events, strict=True):
                free = _WRITERS[type(event)](builder, event, free)
        return bytes(message.to_bytes())
    except kj_exception() as error:
        if "too big" not in str(error):
            raise
        # A list beyond what the format has bits for: 2^29 bytes.
        raise TransactionTooLarge("a change is too large for one part of a record; rolled back") from error


def _write_rows(event: Any, rows: Rows, free: int) -> int:
    _check_rows(rows)
    if len(rows) == 1 and not rows.net and _write_row(event, rows):
        return free
    builder = event.init("rows")
    builder.table = rows.table
    builder.op = int(rows.op)
    builder.count = len(rows)
    builder.net = rows.net
    if rows.rowids is not None:
        set_ints(builder, "rowids", rows.rowids)
    if rows.rowids_after is not None:
        set_ints(builder, "rowidsAfter", rows.rowids_after)
    if rows.before is not None:
        free = write_columns(builder, "before", rows.before, free)
    if rows.after is not None:
        free = write_columns(builder, "after", rows.after, free)
    return free


def _check_rows(rows: Rows) -> None:
    """Refuse a run that could not be read back: it must not get into the log."""
    op, count = rows.op, len(rows)
    if (rows.before is None) is not (op is Op.INSERT) or (rows.after is None) is not (op is Op.DELETE):
        raise ValueError(f"images before and after do not fit {op!r} of {rows.table}")
    if rows.rowids_after is not None and (op is not Op.UPDATE or rows.rowids is None):
        raise ValueError(f"rowids after do not fit {op!r} of {rows.table}")
    for many in (rows.before, rows.after, rows.rowids, rows.rowids_after):
        if many is not None and len(many) != count:
            raise ValueError(f"lists of {len(many)} and {count} entries in one run of {rows.table}")


def _write_row(event: Any, rows: Rows) -> bool:
    """Store a run of one row in the form for that, or return False if it cannot be."""
    rowids, rowids_after = rows.rowids, rows.rowids_after
    if rowids_after is not None and (rowids is None or rowids_after == rowids):
        return False
    try:
        before = encode_record(rows.before[0]) if rows.before is not None else None
        after = encode_record(rows.after[0]) if rows.after is not None else None
    except NotRepresentable:
        return False
    row = event.init("row")
    row.table = rows.table
    row.op = int(rows.op)
    if rowids is not None:
        row.hasRowid = True
        row.rowid = rowids[0]
        row.rowidAfter = rowids[0] if rowids_after is None else rowids_after[0]
    if before is not None:
        row.before = before
    if after is not None:
        row.after = after
    return True


def _write_schema(event: Any, schema: Schema, free: int) -> int:
    builder = event.init("ddl")
    builder.sql = schema.sql
    builder.legacyAlterTable = schema.legacy_alter_table
    builder.dqsDdl = schema.dqs_ddl
    builder.digest = schema.digest
    return free


def _write_blob(event: Any, blob: BlobWrite, free: int) -> int:
    builder = event.init("blob")
    builder.table = blob.table
    builder.rowid = blob.rowid
    builder.column = blob.column
    builder.offset = blob.offset
    builder.data = blob.data
    builder.before = blob.before
    return free


def _write_setting(event: Any, setting: Setting, free: int) -> int:
    builder = event.init("setting")
    builder.name = setting.name
    builder.value = setting.value
    return free


def _write_sequence(event: Any, sequence: Sequence, free: int) -> int:
    builder = event.init("sequence")
    builder.table = sequence.table
    builder.gone = sequence.gone
    return write_column(builder.init("value"), (sequence.value,), free)


def _write_clear(event: Any, clear: Clear, free: int) -> int:
    event.clear = clear.table
    return free


def _write_genesis(event: Any, genesis: Genesis, free: int) -> int:
    builder = event.init("genesis")
    builder.encoding = genesis.encoding
    builder.pageSize = genesis.page_size
    builder.autoVacuum = genesis.auto_vacuum
    builder.software = genesis.software
    return free


def _write_cut(event: Any, cut: Cut, free: int) -> int:
    builder = event.init("cut")
    builder.segment = cut.segment
    builder.position = cut.position
    builder.length = cut.length
    builder.why = cut.why
    return free


_WRITERS: dict[type[Event], Callable[[Any, Any, int], int]] = {
    Rows: _write_rows,
    Schema: _write_schema,
    BlobWrite: _write_blob,
    Setting: _write_setting,
    Sequence: _write_sequence,
    Clear: _write_clear,
    Genesis: _write_genesis,
    Cut: _write_cut,
}


def encode_rows(identity: bytes, actor: str, reason: str, rows: Many[RowChange]) -> bytes:
    """Return the part of a transaction of few rows: what ``encode_part`` would return, but for the layout.

    ``rows`` has one to :data:`~veritydb.few_rows.FEW` entries. Raises TransactionTooLarge.
    """
    try:
        return pack_rows(identity, actor, reason, rows)
    except NotRepresentable:
        return encode_part([Piece(identity, actor, reason, [_run_of_one(row) for row in rows], False)])


def _run_of_one(row: RowChange) -> Rows:
    op, table, rowid, rowid_after, before, after = row
    return Rows(
        table,
        Op(op),
        None if rowid is None else [rowid],
        None if rowid is None or rowid_after is None or rowid_after == rowid else [rowid_after],
        None if before is None else [tuple(before)],
        None if after is None else [tuple(after)],
    )


# --- Reading ---------------------------------------------------------------------------------------------------------


def decode_part(data: bytes) -> list[Piece]:
    """Return what :func:`encode_part` or :func:`encode_rows` was given. Raises LogDamaged for any other bytes."""
    try:
        few = unpack_rows(data)
    except UnicodeDecodeError as error:
        raise LogDamaged(f"a part of a record is not what was written: {error}") from error
    if few is None:
        return read_message(schemas.record.Part, data, "a part of a record", partial(_read_pieces, size=len(data)))
    # Runs as they were: as long as rows of one kind follow each other.
    changes = [_read_change(*row) for row in few.rows]
    runs: list[Event] = (
        [_make_run(list(group)) for _, group in groupby(changes, _kind)] if len(changes) > 1 else [_make_run(changes)]
    )
    return [Piece(few.identity, few.actor, few.reason, runs, False)]


def _read_pieces(part: Any, size: int) -> list[Piece]:
    pieces: list[Piece] = []
    free = FREE_NULLS
    transactions = part.transactions
    _check_count("transactions", len(transactions), _TRANSACTION_BYTES, size)
    for transaction in transactions:
        if pieces and pieces[-1].continues:
            raise LogDamaged("a transaction that goes on in the next part is not the last of its own")
        events: list[Event] = []
        builders = transaction.events
        _check_count("events", len(builders), _EVENT_BYTES, size)
        for builder in builders:
            event, free = _read_event(builder, free)
            events.append(event)
        identity = _ID.pack(transaction.idHigh, transaction.idLow)
        pieces.append(Piece(identity, transaction.actor, transaction.reason, events, transaction.continues))
    return pieces


def _check_count(what: str, count: int, each: int, size: int) -> None:
    """Refuse a list whose elements are smaller than ours: Cap'n Proto reads it, and fills up with what is not there."""
    if count * each > size:
        raise LogDamaged(f"{count} {what} do not fit in {size} bytes")


def _read_event(event: Any, free: int) -> tuple[Event, int]:
    which = event._which_str()
    if which == "row":
        return _read_row(event.row), free
    if which == "rows":
        return _read_rows(event.rows, free)
    if which == "sequence":
        builder = event.sequence
        values, free = read_column(builder.value, 1, free)
        return Sequence(builder.table, next(iter(values)), builder.gone), free
    return _READERS[which](event), free


def _read_row(row: Any) -> Rows:
    rowid = row.rowid if row.hasRowid else None
    return _make_run([_read_change(row.op, row.table, rowid, row.rowidAfter, row.before, row.after)])


# A change of one row: op, table, rowid, rowid after, images before and after.
_Change: TypeAlias = "tuple[Op, str, int | None, int, Image | None, Image | None]"


def _read_change(number: int, table: str, rowid: int | None, rowid_after: int, before: bytes, after: bytes) -> _Change:
    op = _read_op(number)
    if (op is Op.INSERT and before) or (op is Op.DELETE and after):
        raise LogDamaged("a row change has an image that its kind does not have")
    return (
        op,
        table,
        rowid,
        rowid_after,
        None if op is Op.INSERT else decode_record(before),
        None if op is Op.DELETE else decode_record(after),
    )


def _kind(change: _Change) -> tuple[object, ...]:
    """Return what is the same in all rows of a run."""
    op, table, rowid, _, before, after = change
    return op, table, rowid is None, before and len(before), after and len(after)


def _make_run(changes: list[_Change]) -> Rows:
    op, table, *_ = changes[0]
    rowids = [change[2] for change in changes if change[2] is not None] or None
    rowids_after = [change[3] for change in changes] if rowids is not None and op is Op.UPDATE else None
    before = [change[4] for change in changes if change[4] is not None] if op is not Op.INSERT else None
    after = [change[5] for change in changes if change[5] is not None] if op is not Op.DELETE else None
    return Rows(table, op, rowids, None if rowids_after == rowids else rowids_after, before, after)


def _read_rows(rows: Any, free: int) -> tuple[Rows, int]:
    op = _read_op(rows.op)
    count: int = rows.count
    before = after = None
    # Rowids come first: they are the bytes that a count has to show for itself.
    rowids = _read_rowids(rows, "rowids", count)
    rowids_after = _read_rowids(rows, "rowidsAfter", count)
    if rowids_after is not None and (op is not Op.UPDATE or rowids is None):
        raise LogDamaged("a run has rowids after a change that cannot change them")
    if op is not Op.INSERT:
        before, free = read_columns(rows.before, count, free)
    if op is not Op.DELETE:
        after, free = read_columns(rows.after, count, free)
    return Rows(rows.table, op, rowids, rowids_after, before, after, rows.net), free


def _read_rowids(rows: Any, field: str, count: int) -> list[int] | None:
    if not rows._has(field):
        return None
    rowids: list[int] = list(rows._get(field))
    if len(rowids) != count:
        raise LogDamaged(f"a run of {count} rows has {len(rowids)} rowids")
    return rowids


def _read_op(number: int) -> Op:
    if not 1 <= number <= 3:
        raise LogDamaged(f"a row change of the unknown kind {number}")
    return _OPS[number]


def _read_schema(event: Any) -> Event:
    schema = event.ddl
    return Schema(schema.sql, schema.legacyAlterTable, schema.dqsDdl, schema.digest)


def _read_blob(event: Any) -> Event:
    blob = event.blob
    return BlobWrite(blob.table, blob.rowid, blob.column, blob.offset, blob.data, blob.before)


def _read_setting(event: Any) -> Event:
    setting = event.setting
    return Setting(setting.name, setting.value)


def _read_clear(event: Any) -> Event:
    return Clear(event.clear)


def _read_genesis(event: Any) -> Event:
    genesis = event.genesis
    return Genesis(genesis.encoding, genesis.pageSize, genesis.autoVacuum, genesis.software)


def _read_cut(event: Any) -> Event:
    cut = event.cut
    return Cut(cut.segment, cut.position, cut.length, cut.why)


_READERS: dict[str, Callable[[Any], Event]] = {
    "ddl": _read_schema,
    "blob": _read_blob,
    "setting": _read_setting,
    "clear": _read_clear,
    "genesis": _read_genesis,
    "cut": _read_cut,
}
