"""Long lists of numbers, handed to Cap'n Proto as bytes.

pycapnp fills a list number by number, which is most of what the encoding of a run costs. But a list that another
message holds is copied in one go, and a message of nothing but one list is easily put together: a ``Column`` whose only
list is the one wanted (``schemas/record.capnp``), then the numbers as they lie in memory. In words of eight bytes::

     0      segment table: one segment, and how many words it has
     1      pointer to Column
     2      Column: its data word
     3-8    its pointers, of which one is not null
     9-     the numbers, filled up to a word

:mod:`veritydb.columns` and :mod:`veritydb.codec` set fields through :func:`set_ints`, :func:`set_floats` and
:func:`set_lengths`; a short list goes the plain way. A test compares both, byte by byte.
"""

from __future__ import annotations

import sys
from array import array
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from veritydb import schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT: Final = 128
"""Fewer are quicker one by one."""
LONG: Final = 1 << 17
"""More would be a message that Cap'n Proto is told not to read."""

_POINTERS = 6
_INTS_AT, _FLOATS_AT, _LENGTHS_AT = 1, 2, 3
"""Which of Column's pointers is which."""
_FOUR_BYTES, _EIGHT_BYTES = 4, 5
"""Cap'n Proto's numbers for the sizes of elements."""
_TO_COLUMN = Struct("<I H H").pack(0, 1, _POINTERS)
_pack_table = Struct("<I I").pack
_pack_pointer = Struct("<I I").pack
_NULL = bytes(8)


def set_ints(builder: Any, field: str, values: Sequence[Any]) -> None:
    """Set a field that is a List(Int64)."""
    if SHORT <= len(values) <= LONG:
        with schemas.record.Column.from_bytes(_column("q", _INTS_AT, _EIGHT_BYTES, values)) as column:
            setattr(builder, field, column.ints)
    else:
        setattr(builder, field, values)


def set_floats(builder: Any, field: str, values: Sequence[Any]) -> None:
    """Set a field that is a List(Float64)."""
    if SHORT <= len(values) <= LONG:
        with schemas.record.Column.from_bytes(_column("d", _FLOATS_AT, _EIGHT_BYTES, values)) as column:
            setattr(builder, field, column.floats)
    else:
        setattr(builder, field, values)


def set_lengths(builder: Any, field: str, values: Sequence[int]) -> None:
    """Set a field that is a List(UInt32)."""
    if SHORT <= len(values) <= LONG:
        with schemas.record.Column.from_bytes(_column("I", _LENGTHS_AT, _FOUR_BYTES, values)) as column:
            setattr(builder, field, column.lengths)
    else:
        setattr(builder, field, values)


def _column(code: str, at: int, size: int, values: Sequence[Any]) -> bytes:
    """Return a message that is a Column with one list."""
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()  # Cap'n Proto's order is the other one.
    data = numbers.tobytes()
    data += bytes(-len(data) & 7)
    # From the word behind the pointer to the first behind them all.
    pointer = _pack_pointer((_POINTERS - 1 - at) << 2 | 1, len(values) << 3 | size)
    head = _pack_table(0, 2 + _POINTERS + len(data) // 8) + _TO_COLUMN + _NULL
    return head + _NULL * at + pointer + _NULL * (_POINTERS - 1 - at) + data
