"""The part of a transaction of few rows, filled and read by position.

Most transactions change a few rows, and building a Cap'n Proto message costs more than all the rest of their encoding.
But that message, Part {transactions: [Transaction {events: [Event {row: Row}, …]}]}, has one possible shape for a
number of rows, so :mod:`veritydb.codec` has it packed here by one ``struct`` call a row, with what depends on actor,
reason and tables remembered, and read back the same way. A test compares with Cap'n Proto in both directions. What has
another shape, or any pointer that is not in order, is left to Cap'n Proto.

In words of eight bytes, for *n* rows::

     0        segment table: one segment, and how many words it has
     1        pointer to Part
     2        Part: pointer to the list of transactions
     3        tag of that list: one struct of three data words and three pointers
     4-9      Transaction: id (two words), continues; pointers to actor, reason, events
    10        tag of the list of events: n structs of one data word and one pointer
    11-       n times Event: which of the union (1, row); pointer to Row
    11+2n-    n times Row: op and hasRowid, rowid, rowidAfter; pointers to table, before, after
    11+8n-    n times table, then actor, reason, then n times before, after; each filled up to a word

Cap'n Proto's builder lays it out so if the structs are made first and the texts are set in that order.
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from veritydb.errors import TransactionTooLarge
from veritydb.sqlite_record import encode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from veritydb.events import Value

FEW: Final = 10
"""Rows that a part has in this form at most. About here columns begin to cost less, in bytes and in time."""
WORDS_MAX: Final = (1 << 29) // 8 - 1
"""Words that a message may have here: no list in it can then have more bytes than Cap'n Proto allows."""

RowChange: TypeAlias = "tuple[int, str, int | None, int | None, Sequence[Value] | None, Sequence[Value] | None]"
"""Op, table, rowid (None for a WITHOUT ROWID table), rowid after (None: it stays), images before and after.

``before`` is None for an insert, ``after`` for a delete; only an update has a rowid after."""

_ACTOR_AT, _REASON_AT, _EVENTS_AT = 7, 8, 11
_EVENT_WORDS, _ROW_WORDS = 2, 6
_EACH = _EVENT_WORDS + _ROW_WORDS
# The pointers of a Row.
_TABLE, _BEFORE, _AFTER = 3, 4, 5

# Struct pointer: distance << 2, then data words, pointer words. List pointer: distance << 2 | 1, then bytes << 3 | 2,
# or for structs words << 3 | 7. Tag of a list of structs: count << 2, then data words, pointer words.
_BYTES = 2
_TO_TRANSACTION = Struct("<I H H  I I  I H H").pack(0, 0, 1, 1, 6 << 3 | 7, 1 << 2, 3, 3)  # words 1 to 3
_NOT_CONTINUED = bytes(8)  # word 6

_pack_head = Struct("<4x I 24s 16s").pack  # words 0 to 5
_pack_row = Struct("<B ? 6x q q 8s I I I I").pack
_pack_pointer = Struct("<I I").pack
_unpack_head = Struct("<I I 24s 16s 8s I I I I").unpack_from  # words 0 to 8
_unpack_list = Struct("<I").unpack_from
_unpack_row = Struct("<B B 6x q q I I I I I I").unpack_from
_LIST_SIZE_AT = 9 * 8 + 4
_PADDING = [bytes(-length % 8) for length in range(8)]

# Words 6 to 10 and the events, for each row the pointer to its table's name, the texts, and the word after them.
_Shape: TypeAlias = "tuple[bytes, list[bytes], bytes, int]"
# By actor, reason and tables, which rarely change. Emptied when full.
_shapes: dict[tuple[str, str, tuple[str, ...]], _Shape] = {}
_SHAPES_MAX = 256
_SHAPE_BYTES_MAX = 4096


PackedRow: TypeAlias = "tuple[int, str, int | None, int, bytes, bytes]"
"""One row of such a part: op, table, rowid, rowid after, and before and after as :mod:`veritydb.sqlite_record` makes
them, empty where there is no image."""


class FewRows(NamedTuple):
    """What such a part holds."""

    identity: bytes
    actor: str
    reason: str
    rows: list[PackedRow]


def pack_rows(identity: bytes, actor: str, reason: str, rows: Sequence[RowChange]) -> bytes:
    """Return the part that holds ``rows``, at least one. Raises TransactionTooLarge, NotRepresentable."""
    tables = tuple([row[1] for row in rows])
    shape = _shapes.get((actor, reason, tables))
    if shape is None:
        shape = _make_shape(actor, reason, tables)
    middle, to_tables, texts, end = shape
    structs: list[bytes] = []
    images: list[bytes] = []
    put = images.append
    # Where the pointer to the image before ends: from there it counts. That to the image after ends a word later.
    at = _EVENTS_AT + len(tables) * _EVENT_WORDS + _BEFORE + 1
    for (op, _, rowid, rowid_after, before, after), to_table in zip(rows, to_tables):  # noqa: B905  made for each other
        before_pointer = before_size = after_pointer = after_size = 0
        if before is not None:
            data = encode_record(before)
            size = len(data)
            before_pointer = (end - at) << 2 | 1
            before_size = size << 3 | _BYTES
            end += size + 7 >> 3
            put(data)
            put(_PADDING[size & 7])
        if after is not None:
            data = encode_record(after)
            size = len(data)
            after_pointer = (end - at - 1) << 2 | 1
            after_size = size << 3 | _BYTES
            end += size + 7 >> 3
            put(data)
            put(_PADDING[size & 7])
        if end > WORDS_MAX:
            raise TransactionTooLarge(f"a change of {end * 8:,} bytes exceeds what a part may hold; rolled back")
        structs.append(
            _pack_row(
                op,
                rowid is not None,
                rowid or 0,
                rowid_after if rowid_after is not None and rowid is not None else rowid or 0,
                to_table,
                before_pointer,
                before_size,
                after_pointer,
                after_size,
            )
        )
        at += _ROW_WORDS
    return b"".join([_pack_head(end - 1, _TO_TRANSACTION, identity), middle, *structs, texts, *images])


def unpack_rows(data: bytes) -> FewRows | None:
    """Return what ``data`` holds if it is laid out as :func:`pack_rows` does; None if it is anything else."""
    size = len(data)
    if size < (_EVENTS_AT + _EACH) * 8:
        return None
    count = _unpack_list(data, _LIST_SIZE_AT)[0] >> 4  # Its unit is a word, and an event has two.
    if not 0 < count <= FEW:
        return None
    at = rows_at = _EVENTS_AT + count * _EVENT_WORDS
    texts_at = rows_at + count * _ROW_WORDS
    if size < texts_at * 8 or data[9 * 8 : rows_at * 8] != _events(count):
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
    ) = _unpack_head(data)
    if segments or to_transaction != _TO_TRANSACTION or continued != _NOT_CONTINUED:
        return None
    # Each text and record must begin where the one before ended, so all of them together lie inside the message.
    end = texts_at
    structs: list[tuple[int, int, tuple[Any, ...]]] = []
    for number in range(count):
        at = rows_at + number * _ROW_WORDS
        row = _unpack_row(data, at * 8)
        table_pointer, table_size = row[4:6]
        if row[1] > 1 or table_pointer != (end - at - _TABLE - 1) << 2 | 1 or table_size & 7 != _BYTES:
            return None
        structs.append((at, end, row))
        end += (table_size >> 3) + 7 >> 3
    if not actor_size & 7 == reason_size & 7 == _BYTES:
        return None
    actor_at = end
    reason_at = end = actor_at + ((actor_size >> 3) + 7 >> 3)
    end += (reason_size >> 3) + 7 >> 3
    if actor_pointer != (actor_at - _ACTOR_AT - 1) << 2 | 1 or reason_pointer != (reason_at - _REASON_AT - 1) << 2 | 1:
        return None
    images_at = end
    for at, _, row in structs:
        before_pointer, before_size, after_pointer, after_size = row[6:]
        if before_pointer != ((end - at - _BEFORE - 1) << 2 | 1 if before_size else 0):
            return None
        end += (before_size >> 3) + 7 >> 3
        if after_pointer != ((end - at - _AFTER - 1) << 2 | 1 if after_size else 0):
            return None
        end += (after_size >> 3) + 7 >> 3
        if (before_size and before_size & 7 != _BYTES) or (after_size and after_size & 7 != _BYTES):
            return None
    if end != words + 1 or end * 8 != size:
        return None

    # The length of a text counts the NUL at its end.
    actor_end, reason_end = actor_at * 8 + (actor_size >> 3) - 1, reason_at * 8 + (reason_size >> 3) - 1
    if actor_size < 8 or reason_size < 8 or data[actor_end] or data[reason_end]:
        return None
    rows: list[PackedRow] = []
    at = images_at * 8
    for _, table_at, (op, has_rowid, rowid, rowid_after, _, table_size, _, before_size, _, after_size) in structs:
        table_end = table_at * 8 + (table_size >> 3) - 1
        if table_size < 8 or data[table_end]:
            return None
        after_at = at + ((before_size >> 3) + 7 & ~7)
        before, after = data[at : at + (before_size >> 3)], data[after_at : after_at + (after_size >> 3)]
        at = after_at + ((after_size >> 3) + 7 & ~7)
        table = data[table_at * 8 : table_end].decode()
        rows.append((op, table, rowid if has_rowid else None, rowid_after, before, after))
    actor, reason = data[actor_at * 8 : actor_end].decode(), data[reason_at * 8 : reason_end].decode()
    return FewRows(identity, actor, reason, rows)


@cache
def _events(count: int) -> bytes:
    """Return the pointer to the list of events, and the list: word 9 and up to the rows."""
    words = count * _EVENT_WORDS
    events = [Struct("<I I  I H H").pack(1, words << 3 | 7, count << 2, 1, 1)]
    for number in range(count):
        distance = words - number * _EVENT_WORDS - _EVENT_WORDS + number * _ROW_WORDS
        events.append(Struct("<H 6x  I H H").pack(1, distance << 2, 3, 3))
    return b"".join(events)


def _make_shape(actor: str, reason: str, tables: tuple[str, ...]) -> _Shape:
    """Put together what stays the same while actor, reason and tables do, and remember it."""
    texts = b""
    pointers: list[bytes] = []
    rows_at = _EVENTS_AT + len(tables) * _EVENT_WORDS
    texts_at = rows_at + len(tables) * _ROW_WORDS
    each = [(rows_at + number * _ROW_WORDS + _TABLE, table) for number, table in enumerate(tables)]
    for pointer_at, text in (*each, (_ACTOR_AT, actor), (_REASON_AT, reason)):
        data = text.encode() + b"\0"
        if len(data) > WORDS_MAX * 8:
            raise TransactionTooLarge(f"a text of {len(data):,} bytes exceeds what a part may hold; rolled back")
        distance = texts_at + len(texts) // 8 - pointer_at - 1
        pointers.append(_pack_pointer(distance << 2 | 1, len(data) << 3 | _BYTES))
        texts += data + _PADDING[len(data) & 7]
    *to_tables, to_actor, to_reason = pointers
    middle = _NOT_CONTINUED + to_actor + to_reason + _events(len(tables))
    shape = (middle, to_tables, texts, texts_at + len(texts) // 8)
    if len(texts) <= _SHAPE_BYTES_MAX:
        if len(_shapes) >= _SHAPES_MAX:
            _shapes.clear()
        _shapes[actor, reason, tables] = shape
    return shape
