"""Events of every kind for Hypothesis, and equality that knows -0.0 from 0.0, 1 from 1.0 and RawText from bytes."""

from __future__ import annotations

import struct
from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import strategies as st

from veritydb.codec import Piece
from veritydb.events import (
    BlobWrite,
    Clear,
    Cut,
    Event,
    Genesis,
    Image,
    Op,
    RawText,
    Rows,
    Schema,
    Sequence,
    Setting,
    Value,
)

INTEGER_MIN = -(1 << 63)
INTEGER_MAX = (1 << 63) - 1


def exact(value: object) -> object:
    """Return something that is equal for two values only if they are the same to the last bit and class."""
    if isinstance(value, float):
        return "float", struct.pack(">d", value)
    if is_dataclass(value):
        return type(value), tuple(exact(getattr(value, each.name)) for each in fields(value))
    if isinstance(value, list | tuple):
        return type(value), tuple(exact(each) for each in value)
    return type(value), value


def _invalid(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


edges = [
    0,
    1,
    -1,
    *(sign * (1 << bits) + off for bits in (7, 8, 15, 23, 31, 47, 62) for sign in (1, -1) for off in (-1, 0)),
]
integers = st.sampled_from([*edges, INTEGER_MIN, INTEGER_MAX]) | st.integers(INTEGER_MIN, INTEGER_MAX)
reals = st.sampled_from([0.0, -0.0, 1.0, float("inf"), float("-inf"), 5e-324]) | st.floats(allow_nan=False)
texts = st.sampled_from(["", "\0", "a\0b", "é", "😀", "x" * 57, "x" * 58, "😀" * 40]) | st.text(max_size=20)
blobs = st.binary(max_size=20) | st.sampled_from([b"\0" * 57, b"\0" * 58, b"\xff" * 300])
raw_texts = st.sampled_from([b"\xff", b"a\x80", b"\xed\xa0\x80"]).map(RawText) | st.binary(min_size=1).filter(
    _invalid
).map(RawText)

plain_kinds: list[st.SearchStrategy[Value]] = [st.none(), integers, reals, texts, blobs]
plain_values: st.SearchStrategy[Value] = st.one_of(plain_kinds)
values: st.SearchStrategy[Value] = st.one_of([*plain_kinds, raw_texts])
plain_images: st.SearchStrategy[Image] = st.lists(plain_values, min_size=1, max_size=8).map(tuple)
names = st.sampled_from(["patients", "", "таблица", "a\0b", "😀"]) | st.text(max_size=8)
identities = st.binary(min_size=16, max_size=16)


@st.composite
def image_lists(draw: st.DrawFn, count: int) -> list[Image]:
    """Return ``count`` images of one width, whose columns mostly hold one kind of value each."""
    width = draw(st.integers(1, 5))
    kinds = draw(st.lists(st.sampled_from([*plain_kinds, raw_texts, values]), min_size=width, max_size=width))
    return [tuple(draw(kind) for kind in kinds) for _ in range(count)]


@st.composite
def runs(draw: st.DrawFn) -> Rows:
    """Return a run of row changes."""
    op = draw(st.sampled_from(Op))
    count = draw(st.sampled_from([0, 1, 1, 2, 3, 6]))
    rowids = draw(st.none() | st.lists(integers, min_size=count, max_size=count))
    rowids_after = None
    if op is Op.UPDATE and rowids is not None:
        rowids_after = draw(st.none() | st.lists(integers, min_size=count, max_size=count) | st.just(list(rowids)))
    return Rows(
        draw(names),
        op,
        rowids,
        rowids_after,
        None if op is Op.INSERT else draw(image_lists(count)),
        None if op is Op.DELETE else draw(image_lists(count)),
        draw(st.booleans()),
    )


_U32 = st.integers(0, (1 << 32) - 1)
_U64 = st.integers(0, (1 << 64) - 1)
events: st.SearchStrategy[Event] = st.one_of(
    runs(),
    st.builds(Schema, texts, st.booleans(), st.booleans(), st.binary(max_size=16)),
    st.builds(BlobWrite, names, integers, names, _U32, blobs, blobs),
    st.builds(Setting, names, integers),
    st.builds(Sequence, names, values, st.booleans()),
    st.builds(Clear, names),
    st.builds(Genesis, names, _U32, _U32, names),
    st.builds(Cut, names, _U64, _U64, texts),
)


@st.composite
def parts(draw: st.DrawFn) -> list[Piece]:
    """Return what one part holds; only its last piece may go on in the next."""
    pieces: list[Any] = draw(
        st.lists(st.builds(Piece, identities, names, texts, st.lists(events, max_size=4), st.just(False)), max_size=3)
    )
    if pieces and draw(st.booleans()):
        pieces[-1] = pieces[-1]._replace(continues=True)
    return pieces
