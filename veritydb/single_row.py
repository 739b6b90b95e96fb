"""The part of a transaction of one row, filled and read by position.

Most transactions change one row, and building a Cap'n Proto message costs more than all the rest of their encoding.
But that message, Part {transactions: [Transaction {events: [Event {row: Row}]}]}, has one possible shape, so
:mod:`veritydb.codec` has it packed here by one ``struct`` call, with what depends on actor, reason and table
remembered, and read back the same way. A test compares with Cap'n Proto in both directions. What has another shape, or
any pointer that is not in order, is left to Cap'n Proto.

In words of eight bytes::

     0      segment table: one segment, and how many words it has
     1      pointer to Part
     2      Part: pointer to the list of transactions
     3      tag of that list: one struct of three data words and three pointers
     4-9    Transaction: id (two words), continues; pointers to actor, reason, events
    10      tag of the list of events: one struct of one data word and one pointer
    11-12   Event: which of the union (1, row); pointer to Row
    13-18   Row: op and hasRowid, rowid, rowidAfter; pointers to table, before, after
    19-     table, actor, reason, before, after, each filled up to a word

Cap'n Proto's builder lays it out so if the structs are made first and the texts are set in that order.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from veritydb.errors import TransactionTooLarge

WORDS_MAX: Final = (1 << 29) // 8 - 1
"""Words that a message may have here: no list in it can then have more bytes than Cap'n Proto allows."""

_ACTOR_AT, _REASON_AT, _TABLE_AT, _BEFORE_AT, _AFTER_AT, _TEXTS_AT = 7, 8, 16, 17, 18, 19

# Struct pointer: distance << 2, then data words, pointer words. List pointer: distance << 2 | 1, then bytes << 3 | 2,
# or for structs words << 3 | 7. Tag of a list of structs: count << 2, then data words, pointer words.
_BYTES = 2
_TO_TRANSACTION = Struct("<I H H  I I  I H H").pack(0, 0, 1, 1, 6 << 3 | 7, 1 << 2, 3, 3)  # words 1 to 3
_TO_ROW = Struct("<I I  I H H  H 6x  I H H").pack(1, 2 << 3 | 7, 1 << 2, 1, 1, 1, 0, 3, 3)  # words 9 to 12
_NOT_CONTINUED = bytes(8)  # word 6

_pack = Struct("<4x I 24s 16s 56s B ? 6x q q 8s I I I I").pack
_pack_pointer = Struct("<I I").pack
_unpack = Struct("<I I 24s 16s 8s I I I I 32s B B 6x q q I I I I I I").unpack_from
_FIXED_BYTES = _TEXTS_AT * 8
_PADDING = [bytes(-length % 8) for length in range(8)]

# Words 6 to 12, the pointer to the table's name, the texts, and the word after them.
_Shape: TypeAlias = tuple[bytes, bytes, bytes, int]
# By actor, reason and table, which rarely change. Emptied when full.
_shapes: dict[tuple[str, str, str], _Shape] = {}
_SHAPES_MAX = 256
_SHAPE_BYTES_MAX = 4096


class SingleRow(NamedTuple):
    """What such a part holds."""

    identity: bytes
    actor: str
    reason: str
    op: int
    table: str
    rowid: int | None
    rowid_after: int
    before: bytes
    """A record, as :mod:`veritydb.sqlite_record` makes it; empty for an insert."""
    after: bytes
    """The same; empty for a delete."""


def pack_single(
    identity: bytes,
    actor: str,
    reason: str,
    op: int,
    table: str,
    rowid: int | None,
    rowid_after: int | None,
    before: bytes,
    after: bytes,
) -> bytes:
    """Return the part that holds this; see :class:`SingleRow`. Raises TransactionTooLarge."""
    shape = _shapes.get((actor, reason, table))
    if shape is None:
        shape = _make_shape(actor, reason, table)
    middle, to_table, texts, at = shape
    before_pointer = before_size = after_pointer = after_size = 0
    before_length = len(before)
    after_length = len(after)
    end = at
    if before_length:
        before_pointer = (end - _BEFORE_AT - 1) << 2 | 1
        before_size = before_length << 3 | _BYTES
        end += before_length + 7 >> 3
    if after_length:
        after_pointer = (end - _AFTER_AT - 1) << 2 | 1
        after_size = after_length << 3 | _BYTES
        end += after_length + 7 >> 3
    if end > WORDS_MAX:
        raise TransactionTooLarge(f"one row of {end * 8:,} bytes exceeds what a part may hold; rolled back")
    fixed = _pack(
        end - 1,
        _TO_TRANSACTION,
        identity,
        middle,
        op,
        rowid is not None,
        rowid or 0,
        rowid_after or 0,
        to_table,
        before_pointer,
        before_size,
        after_pointer,
        after_size,
    )
    return b"".join((fixed, texts, before, _PADDING[before_length & 7], after, _PADDING[after_length & 7]))


def unpack_single(data: bytes) -> SingleRow | None:
    """Return what ``data`` holds if it is laid out as :func:`pack_single` does; None if it is anything else."""
    size = len(data)
    if size < _FIXED_BYTES:
        return None
    (
        segments,
        words,
        to_transaction,
        identity,
        continued,
        actor_pointer,
        actor_size,
        reason_pointer,
        reason_size,
        to_row,
        op,
        has_rowid,
        rowid,
        rowid_after,
        table_pointer,
        table_size,
        before_pointer,
        before_size,
        after_pointer,
        after_size,
    ) = _unpack(data)
    # Each text and record must begin where the one before ended, so all of them together lie inside the message.
    actor_at = _TEXTS_AT + ((table_size >> 3) + 7 >> 3)
    reason_at = actor_at + ((actor_size >> 3) + 7 >> 3)
    before_at = reason_at + ((reason_size >> 3) + 7 >> 3)
    after_at = before_at + ((before_size >> 3) + 7 >> 3)
    end = after_at + ((after_size >> 3) + 7 >> 3)
    if (
        segments != 0
        or to_transaction != _TO_TRANSACTION
        or continued != _NOT_CONTINUED
        or to_row != _TO_ROW
        or table_pointer != (_TEXTS_AT - _TABLE_AT - 1) << 2 | 1
        or actor_pointer != (actor_at - _ACTOR_AT - 1) << 2 | 1
        or reason_pointer != (reason_at - _REASON_AT - 1) << 2 | 1
        or not table_size & 7 == actor_size & 7 == reason_size & 7 == _BYTES
        or before_pointer != ((before_at - _BEFORE_AT - 1) << 2 | 1 if before_size else 0)
        or after_pointer != ((after_at - _AFTER_AT - 1) << 2 | 1 if after_size else 0)
        or (before_size and before_size & 7 != _BYTES)
        or (after_size and after_size & 7 != _BYTES)
        or has_rowid > 1
        or end != words + 1
        or end * 8 != size
    ):
        return None
    texts = data[_FIXED_BYTES : before_at * 8]
    # A Text's length counts the NUL at its end.
    table_end = (table_size >> 3) - 1
    actor_start = (actor_at - _TEXTS_AT) * 8
    actor_end = actor_start + (actor_size >> 3) - 1
    reason_start = (reason_at - _TEXTS_AT) * 8
    reason_end = reason_start + (reason_size >> 3) - 1
    if table_end < 0 or actor_end < actor_start or reason_end < reason_start:
        return None
    if texts[table_end] or texts[actor_end] or texts[reason_end]:
        return None
    return SingleRow(
        identity,
        texts[actor_start:actor_end].decode(),
        texts[reason_start:reason_end].decode(),
        op,
        texts[:table_end].decode(),
        rowid if has_rowid else None,
        rowid_after,
        data[before_at * 8 : before_at * 8 + (before_size >> 3)],
        data[after_at * 8 : after_at * 8 + (after_size >> 3)],
    )


def _make_shape(actor: str, reason: str, table: str) -> _Shape:
    """Put together what stays the same while actor, reason and table do, and remember it."""
    texts = b""
    pointers: list[bytes] = []
    for pointer_at, text in ((_TABLE_AT, table), (_ACTOR_AT, actor), (_REASON_AT, reason)):
        data = text.encode() + b"\0"
        if len(data) > WORDS_MAX * 8:
            raise TransactionTooLarge(f"a text of {len(data):,} bytes exceeds what a part may hold; rolled back")
        distance = _TEXTS_AT + len(texts) // 8 - pointer_at - 1
        pointers.append(_pack_pointer(distance << 2 | 1, len(data) << 3 | _BYTES))
        texts += data + _PADDING[len(data) & 7]
    to_table, to_actor, to_reason = pointers
    shape = (_NOT_CONTINUED + to_actor + to_reason + _TO_ROW, to_table, texts, _TEXTS_AT + len(texts) // 8)
    if len(texts) <= _SHAPE_BYTES_MAX:
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()
        _shapes[actor, reason, table] = shape
    return shape
