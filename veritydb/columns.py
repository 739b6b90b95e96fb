"""Runs of rows, turned into columns and back.

A column of one kind is stored as one typed list, so that a run costs a handful of calls a column and not some a value;
``schemas/record.capnp`` ``Column`` says where each kind goes. What is read is checked: every length and count must come
out even, and no few bytes may stand for many values (see :data:`FREE_NULLS`).
"""

from __future__ import annotations

from itertools import accumulate, compress, pairwise, repeat
from typing import TYPE_CHECKING, Any, cast

from veritydb.errors import LogDamaged
from veritydb.events import Images, RawText
from veritydb.numbers import set_floats, set_ints, set_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from veritydb.events import Image, Value

NULL, INTEGER, REAL, TEXT, BLOB, RAW_TEXT = range(6)
_KINDS: dict[type[object], int] = {
    type(None): NULL,
    int: INTEGER,
    float: REAL,
    str: TEXT,
    bytes: BLOB,
    RawText: RAW_TEXT,
}

FREE_NULLS = 1 << 20
"""How many NULLs of a part may be stored as no bytes at all, in columns that hold nothing else.

Further ones take a byte each, so that a forged part of few bytes cannot ask for much memory.
"""

_NO_COLUMN = "a run of rows has no columns"


def write_columns(rows: Any, field: str, images: Sequence[Image], free: int) -> int:
    """Store ``images`` as ``field`` of the builder ``rows``; return what is left of ``free`` NULLs.

    Raises ValueError if the images differ in width or have none, and KeyError for a value of no SQLite class.
    """
    if not images:
        return free
    columns: Sequence[Sequence[Value]]
    columns = images.columns() if isinstance(images, Images) else list(zip(*images, strict=True))
    if not columns:
        raise ValueError(_NO_COLUMN)
    builders = rows.init(field, len(columns))
    for builder, values in zip(builders, columns, strict=True):
        free = write_column(builder, values, free)
    return free


def read_columns(columns: Any, count: int, free: int) -> tuple[list[Image], int]:
    """Return the ``count`` images that the list ``columns`` holds, and what is left of ``free`` NULLs.

    Raises LogDamaged if the columns do not hold ``count`` values each.
    """
    if count == 0:
        if len(columns):
            raise LogDamaged("a run without rows has columns")
        return [], free
    if not len(columns):
        raise LogDamaged(_NO_COLUMN)
    decoded: list[Iterable[Value]] = []
    for column in columns:
        values, free = read_column(column, count, free)
        decoded.append(values)
    return list(zip(*decoded, strict=True)), free


def write_column(column: Any, values: Sequence[Value], free: int) -> int:
    """Store ``values`` in the builder ``column``; return what is left of ``free`` NULLs."""
    classes: set[type[object]] = set(map(type, values))
    if len(classes) > 1:
        _write_mixed(column, values)
        return free
    kind = _KINDS[classes.pop()]
    if kind == NULL:
        if len(values) <= free:
            return free - len(values)
        column.kinds = bytes(len(values))
        return free
    column.kind = kind
    if kind == INTEGER:
        set_ints(column, "ints", values)
    elif kind == REAL:
        set_floats(column, "floats", values)
    else:
        set_lengths(column, "lengths", list(map(len, cast("Sequence[str | bytes]", values))))
        if kind == TEXT:
            column.text = "".join(cast("Sequence[str]", values)).encode()
        else:
            column.blob = b"".join(cast("Sequence[bytes]", values))
    return free


def _write_mixed(column: Any, values: Sequence[Value]) -> None:
    """Store values of more than one kind. Texts and blobs share one list of lengths, in row order."""
    kinds = bytes([_KINDS[type(value)] for value in values])
    column.kinds = kinds
    if INTEGER in kinds:
        set_ints(column, "ints", [value for value in values if type(value) is int])
    if REAL in kinds:
        set_floats(column, "floats", [value for value in values if type(value) is float])
    lengths = [len(value) for value in values if isinstance(value, str | bytes)]
    if lengths:
        set_lengths(column, "lengths", lengths)
        column.text = "".join([value for value in values if isinstance(value, str)]).encode()
        column.blob = b"".join([value for value in values if isinstance(value, bytes)])


def read_column(column: Any, count: int, free: int) -> tuple[Iterable[Value], int]:
    """Return the ``count`` values of ``column``, and what is left of ``free`` NULLs; it does not go below zero."""
    kinds: bytes = column.kinds
    if kinds:
        if len(kinds) != count:
            raise LogDamaged(f"a column tells the kinds of {len(kinds)} of {count} values")
        return _read_mixed(column, kinds), free
    kind: int = column.kind
    if kind == NULL:
        if count > free:
            raise LogDamaged(f"a column claims {count} NULLs without any byte to show for them")
        return repeat(None, count), free - count
    values: list[Value]
    if kind == INTEGER:
        values = list(column.ints)
    elif kind == REAL:
        values = list(column.floats)
    elif kind == TEXT:
        values = _cut(_text(column), list(column.lengths))
    elif kind == BLOB:
        values = _cut(column.blob, list(column.lengths))
    elif kind == RAW_TEXT:
        values = [RawText(value) for value in _cut(column.blob, list(column.lengths))]
    else:
        raise LogDamaged(f"a column has the unknown kind {kind}")
    if len(values) != count:
        raise LogDamaged(f"a column has {len(values)} of {count} values")
    return values, free


def _read_mixed(column: Any, kinds: bytes) -> list[Value]:
    """Return one value for each of ``kinds``, and see that each list is used up."""
    ints: list[int] = list(column.ints)
    floats: list[float] = list(column.floats)
    lengths: list[int] = list(column.lengths)
    in_text = [kind == TEXT for kind in kinds if kind >= TEXT]
    if kinds.count(INTEGER) != len(ints) or kinds.count(REAL) != len(floats) or len(in_text) != len(lengths):
        raise LogDamaged("a column has more or fewer values than it tells the kinds of")
    # Each kind's values in row order; a row takes the next one of its kind.
    blobs = iter(_cut(column.blob, [length for length, text in zip(lengths, in_text, strict=True) if not text]))
    sources: tuple[Iterator[Value], ...] = (
        repeat(None),
        iter(ints),
        iter(floats),
        iter(_cut(_text(column), list(compress(lengths, in_text)))),
        blobs,
        map(RawText, cast("Iterator[bytes]", blobs)),
    )
    if max(kinds) >= len(sources):
        raise LogDamaged(f"a column has a value of the unknown kind {max(kinds)}")
    return [next(sources[kind]) for kind in kinds]


def _text(column: Any) -> str:
    data: bytes = column.text
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LogDamaged("the texts of a column are not UTF-8") from error


def _cut(joined: Any, lengths: list[int]) -> list[Any]:
    """Cut ``joined`` into pieces of ``lengths``, which must come out even."""
    ends = list(accumulate(lengths, initial=0))
    if ends[-1] != len(joined):
        raise LogDamaged(f"the values of a column have lengths of {ends[-1]} in sum, and {len(joined)} are there")
    return [joined[start:end] for start, end in pairwise(ends)]
