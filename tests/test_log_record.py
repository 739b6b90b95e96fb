"""The bytes of headers: filled by position, and equal to what Cap'n Proto makes of the same values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veritydb import schemas
from veritydb.log.record import (
    COUNT_MAX,
    HEADER_SIZE,
    OFFSET_MAX,
    PART_MAX,
    PARTS_MAX,
    SEGMENT_HEADER_SIZE,
    ZERO_HASH,
    Kind,
    Malformed,
    SegmentHeader,
    pack_header,
    pack_segment_header,
    unpack_claims,
    unpack_header,
    unpack_segment_header,
)

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, COUNT_MAX)
H16 = st.binary(min_size=16, max_size=16)
H32 = st.binary(min_size=32, max_size=32)

PLAIN = {
    "stream": b"s" * 16,
    "first_offset": 5,
    "timestamp": 6,
    "prev_hash": b"p" * 32,
    "id": b"i" * 16,
    "key_id": 1,
    "salt": b"t" * 32,
    "nonce": b"n" * 12,
    "parts_digest": ZERO_HASH,
    "parts_length": 0,
    "tail_length": 10,
    "part_count": 0,
    "generation": 2,
    "transaction_count": 3,
    "kind": 1,
}


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


@st.composite
def fields(draw: Any) -> dict[str, Any]:
    parts = draw(st.booleans())
    count = draw(st.integers(1, 1000)) if parts else 0
    return {
        "stream": draw(H16),
        "first_offset": draw(st.integers(0, OFFSET_MAX - COUNT_MAX)),
        "timestamp": draw(U64),
        "prev_hash": draw(H32),
        "id": draw(H16),
        "key_id": draw(U64),
        "salt": draw(H32),
        "nonce": draw(st.binary(min_size=12, max_size=12)),
        "parts_digest": draw(H32) if parts else ZERO_HASH,
        "parts_length": draw(st.integers(16 * count, PARTS_MAX)) if parts else 0,
        "tail_length": draw(st.integers(0, PART_MAX)),
        "part_count": count,
        "generation": draw(U32),
        "transaction_count": draw(U32),
        "kind": draw(st.sampled_from(list(Kind))),
    }


def capnp_fields(values: dict[str, Any]) -> dict[str, int]:
    stream, prev, identity = words(values["stream"]), words(values["prev_hash"]), words(values["id"])
    salt, digest = words(values["salt"]), words(values["parts_digest"])
    nonce = words(values["nonce"])
    return {
        "streamHigh": stream[0],
        "streamLow": stream[1],
        "firstOffset": values["first_offset"],
        "timestamp": values["timestamp"],
        **{f"prevHash{n}": prev[n] for n in range(4)},
        "idHigh": identity[0],
        "idLow": identity[1],
        "keyId": values["key_id"],
        **{f"salt{n}": salt[n] for n in range(4)},
        "nonceHigh": nonce[0],
        "nonceLow": nonce[1],
        **{f"partsDigest{n}": digest[n] for n in range(4)},
        "partsLength": values["parts_length"],
        "tailLength": values["tail_length"],
        "partCount": values["part_count"],
        "generation": values["generation"],
        "transactionCount": values["transaction_count"],
        "kind": int(values["kind"]),
        "version": 1,
    }


@given(fields())
def test_a_packed_header_is_the_message_capnp_makes(values: dict[str, Any]) -> None:
    data = pack_header(**values)
    assert len(data) == HEADER_SIZE
    assert data == schemas.record.Header.new_message(**capnp_fields(values)).to_bytes()


@given(fields())
def test_capnp_reads_a_packed_header(values: dict[str, Any]) -> None:
    with schemas.record.Header.from_bytes(pack_header(**values)) as message:
        assert {name: getattr(message, name) for name in capnp_fields(values)} == capnp_fields(values)


@given(fields())
def test_a_header_comes_back_as_it_went(values: dict[str, Any]) -> None:
    header = unpack_header(pack_header(**values))
    assert header._asdict() == {**values, "version": 1}
    assert isinstance(header.kind, Kind)


@given(fields())
def test_the_claims_an_append_checks_are_those_of_the_header(values: dict[str, Any]) -> None:
    assert unpack_claims(pack_header(**values)) == tuple(
        values[name]
        for name in (
            "stream", "first_offset", "timestamp", "prev_hash", "parts_length", "tail_length", "part_count",
            "generation", "transaction_count",
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": max(Kind) + 1}, "unknown kind"),
        ({"kind": 0}, "unknown kind"),
        ({"tail_length": PART_MAX + 1}, "more than any writer makes"),
        ({"parts_length": PARTS_MAX + 1, "part_count": 1}, "more than any writer makes"),
        ({"part_count": 1}, "1 parts in 0 bytes"),
        ({"parts_length": 15, "part_count": 1}, "1 parts in 15 bytes"),
        ({"parts_length": 16}, "0 parts in 16 bytes"),
        ({"parts_digest": b"d" * 32}, "no parts"),
        ({"first_offset": OFFSET_MAX}, "beyond what a stream can have"),
    ],
)
def test_a_header_no_writer_makes_is_refused(changes: dict[str, Any], why: str) -> None:
    unpack_header(pack_header(**PLAIN))
    with pytest.raises(Malformed, match=why):
        unpack_header(pack_header(**{**PLAIN, **changes}))


def test_a_header_of_another_length_version_or_shape_is_refused() -> None:
    data = pack_header(**PLAIN)
    with pytest.raises(Malformed, match="207 bytes"):
        unpack_header(data[:-1])
    with pytest.raises(Malformed, match="version 2"):
        unpack_header(data[:-2] + b"\2\0")
    with pytest.raises(Malformed, match="not the message"):
        unpack_header(b"\1" + data[1:])


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_any_bytes_are_a_header_or_malformed(data: bytes) -> None:
    try:
        header = unpack_header(data)
    except Malformed:
        return
    assert pack_header(*header[:-1]) == data


@given(H16, st.integers(0, 2**64 - 1), H32, U32)
def test_a_segment_header_is_the_message_capnp_makes(stream: bytes, offset: int, prev: bytes, number: int) -> None:
    header = SegmentHeader(stream, offset, prev, number)
    data = pack_segment_header(header)
    assert len(data) == SEGMENT_HEADER_SIZE
    assert unpack_segment_header(data) == header
    message = schemas.files.SegmentHeader.new_message(
        streamHigh=words(stream)[0],
        streamLow=words(stream)[1],
        firstOffset=offset,
        **{f"prevHash{n}": words(prev)[n] for n in range(4)},
        number=number,
        version=1,
    )
    assert data[8:88] == message.to_bytes()


def test_no_bit_of_a_segment_header_can_change_unseen() -> None:
    data = pack_segment_header(SegmentHeader(b"s" * 16, 9, b"p" * 32, 4))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            unpack_segment_header(bytes(changed))
    with pytest.raises(Malformed, match="shorter"):
        unpack_segment_header(data[:-1])


def test_a_segment_header_of_another_version_is_refused_even_if_it_is_whole() -> None:
    from hashlib import sha256

    data = bytearray(pack_segment_header(SegmentHeader(b"s" * 16, 9, b"p" * 32, 4))[:88])
    data[84] = 2
    whole = (bytes(data) + sha256(data).digest()).ljust(SEGMENT_HEADER_SIZE, b"\0")
    with pytest.raises(Malformed, match="version 2"):
        unpack_segment_header(whole)


def test_the_document_places_each_field_where_it_is() -> None:
    import re
    from pathlib import Path

    text = (Path(__file__).parents[1] / "docs" / "internals" / "log-format.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| `([a-z]\w+)` \|", text, re.MULTILINE)
    assert sum(int(size) for _, size, _ in rows) == HEADER_SIZE - 16
    numbers = {name: at + 1 for at, (_, _, name) in enumerate(rows)}
    message: dict[str, int] = {}
    for name, number in numbers.items():
        size = next(int(size) for _, size, other in rows if other == name)
        if name in ("prevHash", "salt", "partsDigest"):
            message |= {f"{name}{n}": number for n in range(4)}
        elif size == 16:
            message |= {f"{name}High": number, f"{name}Low": number}
        else:
            message[name] = number
    data = schemas.record.Header.new_message(**message).to_bytes()
    assert len(data) == HEADER_SIZE
    for at, size, name in rows:
        width = min(8, int(size))
        field = data[int(at) : int(at) + int(size)]
        assert field == numbers[name].to_bytes(width, "little") * (int(size) // width), name
