"""Forged and rotten bytes: what reads the log refuses them or makes a value of them that could have been written.

Nothing else may come of them: no other exception, no memory out of proportion, no end of the process (Cap'n Proto is
native code). Two kinds of input: noise, and good bytes with a few changes, which get further in.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import exact, parts, plain_images
from veritydb.codec import Piece, decode_part, encode_part, encode_rows
from veritydb.errors import LogDamaged, WrongKey
from veritydb.events import BlobWrite, Clear, Cut, Genesis, Image, Op, RawText, Rows, Schema, Sequence, Setting
from veritydb.keys import DatabaseKey, Keyring, normalise, pack_keys, unpack_keys
from veritydb.log.record import Kind, Malformed, RecordHeader, pack_header, unpack_header
from veritydb.sqlite_record import decode_record, encode_record

ID = bytes(range(16))
MEMORY_MAX = 64 * 1024 * 1024
# Values that lengths, counts and pointers are sensitive to.
WORDS = [0, 1, 2, 3, 4, 5, 7, 8, 0xFF, 0xFFFF, 1 << 29, (1 << 30) - 1, (1 << 31) - 1, (1 << 32) - 1, 0xFFFFFFFC]


@pytest.fixture
def rounds(campaign: bool) -> int:
    return 50_000 if campaign else 1_500


def changes(good: bytes, rounds: int, seed: int) -> Iterator[bytes]:
    """Yield ``good`` with bits, bytes and words changed, pieces moved, doubled or cut out."""
    chance = random.Random(seed)
    for _ in range(rounds):
        data = bytearray(good)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            at = chance.randrange(len(data) or 1)
            word = at & ~3
            match chance.randrange(9):
                case 0 | 1:
                    data[at : at + 1] = bytes(each ^ (1 << chance.randrange(8)) for each in data[at : at + 1])
                case 2:
                    data[at : at + 1] = bytes((chance.randrange(256),))
                case 3 | 4:
                    data[word : word + 4] = struct.pack("<I", chance.choice(WORDS))
                case 5:
                    (old,) = struct.unpack("<I", bytes(data[word : word + 4]).ljust(4, b"\0"))
                    data[word : word + 4] = struct.pack("<I", old + chance.choice((-8, -4, -1, 1, 4, 8)) & 0xFFFFFFFF)
                case 6:
                    other = chance.randrange(len(data) or 1) & ~7
                    data[at & ~7 : (at & ~7) + 8] = data[other : other + 8]
                case 7:
                    del data[at & ~7 : (at & ~7) + 8 * chance.randrange(4)]
                case _:
                    del data[at:]
        yield bytes(data)


def noise(rounds: int, seed: int) -> Iterator[bytes]:
    """Yield bytes that mean nothing, some of them with the beginning of a message of their length."""
    chance = random.Random(seed)
    for number in range(rounds):
        body = chance.randbytes(8 * chance.randrange(40))
        if number % 3 == 0:
            yield body[: chance.randrange(len(body) + 1)]
        elif number % 3 == 1:
            yield struct.pack("<II", 0, len(body) // 8) + body
        else:
            # Few different words, so that pointers often lead somewhere.
            words = b"".join(struct.pack("<II", chance.choice(WORDS[:8]), chance.choice(WORDS)) for _ in range(40))
            yield struct.pack("<II", 0, 40) + words


def decoded(data: bytes) -> list[Piece] | None:
    """Return what a part says, having checked that this could be written; None if it was refused."""
    try:
        pieces = decode_part(data)
    except LogDamaged:
        return None
    assert exact(decode_part(encode_part(pieces))) == exact(pieces)
    return pieces


GOOD_PARTS = {
    "one row": encode_rows(ID, "ada", "why", [(Op.UPDATE, "patients", 1, 2, (1, "x", None), (2.5, b"y", None))]),
    "few rows": encode_rows(
        ID,
        "ada",
        "why",
        [
            (Op.INSERT, "notes", 1, None, None, (1, "x", None)),
            (Op.INSERT, "notes", 2, None, None, (2, "yz", 0.5)),
            (Op.UPDATE, "patients", 1, 2, (1, "x", None), (2.5, b"y", None)),
            (Op.DELETE, "w", None, None, ("k",), None),
        ],
    ),
    "one row, general": encode_part(
        [Piece(ID, "ada", "why", [Rows("t", Op.UPDATE, [1], [2], [(1, "x")], [(2.5, b"y")])], False)]
    ),
    "rows": encode_part(
        [
            Piece(
                ID,
                "ada",
                "why",
                [
                    Rows("t", Op.INSERT, [1, 2, 3], None, None, [(1, "a", None), (2, "b", None), (3, "cé", None)]),
                    Rows("t", Op.UPDATE, [1, 2], [3, 4], [(1, 1.5), (2, 2.5)], [(b"x", RawText(b"\xff")), ("z", None)]),
                    Rows("w", Op.DELETE, None, None, [("k",), ("l",)], None, net=True),
                ],
                False,
            )
        ]
    ),
    "others": encode_part(
        [
            Piece(
                ID, "", "", [Genesis("UTF-8", 4096, 0, "0.1.0"), Schema("CREATE TABLE t(a)", True, False, ID)], False
            ),
            Piece(ID, "", "", [BlobWrite("t", 9, "b", 3, b"new", b"old"), Setting("user_version", 1)], False),
            Piece(ID, "", "", [Sequence("t", 9), Clear("s"), Cut("00000003.seg", 128, 77, "torn")], True),
        ]
    ),
}


@pytest.mark.parametrize("which", GOOD_PARTS)
def test_a_changed_part_is_refused_or_is_a_part(which: str, rounds: int) -> None:
    outcomes = [decoded(data) is None for data in changes(GOOD_PARTS[which], rounds, seed=1)]
    # Else the changes would not get to where it matters.
    assert 0.02 < outcomes.count(False) / rounds < 0.9


@given(parts(), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4))
def test_any_part_with_changed_bytes_is_refused_or_is_a_part(
    pieces: list[Piece], replaced: list[tuple[int, int]]
) -> None:
    data = bytearray(encode_part(pieces))
    for at, byte in replaced:
        data[at % len(data)] = byte
    decoded(bytes(data))


def test_noise_is_refused_or_is_a_part(rounds: int) -> None:
    outcomes = [decoded(data) is None for data in noise(rounds, seed=2)]
    assert outcomes.count(True) > rounds // 4


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_are_a_part(data: bytes) -> None:
    decoded(data)


@pytest.mark.parametrize("source", [*GOOD_PARTS, "noise"])
def test_few_bytes_never_take_much_memory(source: str, rounds: int) -> None:
    rounds //= 5
    inputs = noise(rounds, seed=3) if source == "noise" else changes(GOOD_PARTS[source], rounds, seed=4)
    tracemalloc.start()
    try:
        for data in inputs:
            tracemalloc.reset_peak()
            try:
                decode_part(data)
            except LogDamaged:
                pass
            assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX, data.hex()
    finally:
        tracemalloc.stop()


def records_of(data: bytes) -> Image | None:
    try:
        image = decode_record(data)
    except LogDamaged:
        return None
    assert exact(decode_record(encode_record(image))) == exact(image)
    return image


@given(plain_images, st.integers(0, 1 << 32))
def test_a_changed_record_is_refused_or_is_a_record(image: Image, seed: int) -> None:
    for data in changes(encode_record(image), 20, seed):
        records_of(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_are_a_record(data: bytes) -> None:
    records_of(data)


SECRET = normalise(bytes(range(32)))
KEYRING = Keyring(ID, {1: DatabaseKey(1, b"k" * 32)})


def key_file_of(content: bytes) -> None:
    try:
        keyring = unpack_keys(content, SECRET)
    except (LogDamaged, WrongKey):
        return
    # A changed entry does not open, so what opens is what was kept.
    assert keyring == KEYRING


def with_digest(content: bytes) -> bytes:
    return content + blake3(content).digest()


def test_a_changed_key_file_is_refused(rounds: int) -> None:
    content = pack_keys(KEYRING, SECRET)
    for data in changes(content, rounds // 3, seed=5):
        if data != content:
            with pytest.raises(LogDamaged):
                unpack_keys(data, SECRET)


def test_a_forged_key_file_is_refused(rounds: int) -> None:
    """With its digest made right, so that the entries are read; and pure noise."""
    body = pack_keys(KEYRING, SECRET)[8:-32]
    for data in changes(body, rounds, seed=6):
        key_file_of(with_digest(b"VERITYKY" + data))
    for data in noise(rounds // 3, seed=7):
        key_file_of(with_digest(b"VERITYKY" + data))
        key_file_of(data)


def header(unpack: Callable[[bytes], object], data: bytes) -> bool:
    """Say whether ``data`` is a header; what is one has no other bytes than these."""
    try:
        values = unpack(data)
    except Malformed:
        return False
    assert isinstance(values, RecordHeader)
    assert pack_header(*values[:-1]) == data  # The version is not the writer's to choose.
    return True


def test_a_changed_header_is_refused_or_is_a_header(rounds: int) -> None:
    good = pack_header(ID, 7, 8, b"p" * 32, ID, 1, b"s" * 32, b"n" * 12, b"d" * 32, 1000, 500, 3, 1, 1, Kind.DATA)
    assert header(unpack_header, good)
    outcomes = [header(unpack_header, data) for data in changes(good, rounds, seed=8)]
    assert True in outcomes
    assert False in outcomes
    for data in noise(rounds // 3, seed=9):
        header(unpack_header, data[:208].ljust(208, b"\0"))
        header(unpack_header, data)
