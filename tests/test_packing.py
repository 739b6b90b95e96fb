"""Messages that are packed by position are Cap'n Proto, have one encoding each, and any other bytes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veritydb import schemas
from veritydb.chain import Malformed
from veritydb.packing import Object, Shape, Structs, pack, unpack

WORDS = {"streams": 16, "ids": 10, "sessions": 7}
SHAPES = (Shape(16), Shape(10), Shape(7, blobs=True))


def structs(words: int) -> st.SearchStrategy[Structs]:
    return st.integers(0, 4).flatmap(
        lambda count: st.binary(min_size=8 * words * count, max_size=8 * words * count).map(
            lambda fields: Structs(words, fields)
        )
    )


@st.composite
def with_blobs(draw: st.DrawFn) -> Structs:
    blobs = draw(st.lists(st.binary(max_size=20), max_size=4))
    return Structs(7, draw(st.binary(min_size=56 * len(blobs), max_size=56 * len(blobs))), blobs)


@given(st.binary(min_size=32, max_size=32), structs(16), structs(10), with_blobs())
def test_capnp_reads_what_is_packed(data: bytes, streams: Structs, ids: Structs, sessions: Structs) -> None:
    message = pack(data, streams, ids, sessions)
    with schemas.kernel.State.from_bytes(message) as state:
        assert [state.version, state.op, state.timestamp, state.oldest] == [
            int.from_bytes(data[at : at + 8], "little") for at in range(0, 32, 8)
        ]
        assert len(state.streams) == streams.number
        assert len(state.ids) == ids.number
        assert [session.reply for session in state.sessions] == list(sessions.blobs or ())
        for index, fate in enumerate(state.ids):
            assert fate.hash3 == int.from_bytes(ids.fields[80 * index + 72 : 80 * index + 80], "little")
        for index, session in enumerate(state.sessions):
            assert session.clientHigh == int.from_bytes(sessions.fields[56 * index : 56 * index + 8], "little")


@given(st.binary(min_size=32, max_size=32), structs(16), structs(10), with_blobs())
def test_a_message_comes_back_as_it_went(data: bytes, streams: Structs, ids: Structs, sessions: Structs) -> None:
    got, objects = unpack(pack(data, streams, ids, sessions), 4, *SHAPES)
    assert got == data
    assert objects[0] == streams
    assert objects[1] == ids
    assert objects[2].fields == sessions.fields
    assert list(objects[2].blobs or ()) == list(sessions.blobs or ())


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_capnp_makes_the_same_bytes(first: bytes, second: bytes) -> None:
    command = schemas.kernel.Command.new_message(version=1)
    group = command.init("append")
    if first:
        group.ids = first
    if second:
        group.record = second
    data = (1 | 2 << 16).to_bytes(8, "little") + bytes(48)
    assert pack(data, first, second) == command.to_bytes()


GOOD = pack(bytes(range(32)), Structs(16, bytes(256)), Structs(10, b""), Structs(7, bytes(112), [b"abc", b""]))


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_no_byte_of_a_pointer_or_padding_can_change_unseen(at: int) -> None:
    for bit in range(8):
        changed = bytearray(GOOD)
        changed[at] ^= 1 << bit
        try:
            data, objects = unpack(bytes(changed), 4, *SHAPES)
        except Malformed:
            continue
        assert pack(data, *objects) == changed


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(message: bytes) -> None:
    try:
        data, objects = unpack(message, 4, *SHAPES)
    except Malformed:
        return
    assert pack(data, *objects) == message


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_bytes_changed_anywhere_are_a_message_or_malformed(at: int, new: bytes) -> None:
    message = GOOD[:at] + new + GOOD[at + len(new) :]
    try:
        data, objects = unpack(message, 4, *SHAPES)
    except Malformed:
        return
    assert pack(data, *objects) == message


def test_more_than_there_may_be_is_refused_before_it_is_read() -> None:
    objects: list[Object] = [b"x" * 10, Structs(1, bytes(24))]
    message = pack(bytes(8), *objects)
    assert unpack(message, 1, 10, Shape(1, count_max=3)) == (bytes(8), objects)
    with pytest.raises(Malformed, match="10 bytes where there may be 9"):
        unpack(message, 1, 9, Shape(1, count_max=3))
    with pytest.raises(Malformed, match="there may be 2"):
        unpack(message, 1, 10, Shape(1, count_max=2))


def test_a_message_that_ends_early_is_refused() -> None:
    for end in range(len(GOOD)):
        with pytest.raises(Malformed):
            unpack(GOOD[:end], 4, *SHAPES)
    with pytest.raises(Malformed):
        unpack(GOOD + bytes(8), 4, *SHAPES)
