"""The header of a record, the hash that chains it, and the one rule by which a log grows.

A record names what it builds on: the offset of its first transaction and the hash of the record before. It is
accepted if these are the head, and refused otherwise (*compare-and-append*), by a log on one machine
(:mod:`veritydb.log`) and by a group of nodes (:mod:`veritydb.kernel`) alike.

The header is a Cap'n Proto message of fixed-size fields, so its bytes have one possible layout. It is filled by
position, with one ``struct.pack``: a commit waits for it, and a message builder costs ten times as much. A test reads
and writes it through the definition in ``schemas/record.capnp`` and finds the same bytes.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

from veritydb.tuples import make

VERSION = 1

HEADER_SIZE = 208
STREAM_AT = 16
"""Where the stream stands in a header."""
PART_HEAD_SIZE = 16

PART_MAX = 1 << 30
"""Bytes of one sealed part. A row is never divided, so a part is as large as the largest row demands."""
PARTS_MAX = 1 << 44
"""Bytes of all spilled parts of one record."""
COUNT_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 63) - 1

ZERO_HASH = bytes(32)


class Kind(IntEnum):
    """What a record is for."""

    DATA = 1
    GENERATION = 2
    CHECKPOINT = 3
    KEYS = 4
    """Its body is a key file, in clear, for those who have an empty directory: the keys in it are wrapped."""


_KINDS = {int(kind): kind for kind in Kind}


class Malformed(Exception):
    """Bytes that are not what their place in the format demands.

    ``whole`` says that the record's hash fits its bytes all the same: then they are what somebody wrote on purpose,
    and not a write that was torn.
    """

    def __init__(self, why: str, *, whole: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.whole = whole


class RecordHeader(NamedTuple):
    """The plaintext header of a record, ``Header`` in ``schemas/record.capnp``."""

    stream: bytes
    first_offset: int
    timestamp: int
    """Microseconds since 1970-01-01 UTC."""
    prev_hash: bytes
    id: bytes
    key_id: int
    salt: bytes
    nonce: bytes
    parts_digest: bytes
    parts_length: int
    tail_length: int
    part_count: int
    generation: int
    transaction_count: int
    kind: Kind
    version: int


# A message of one segment: the segment table (count - 1, words), then the root's struct pointer (data words << 32).
_HEADER_PREFACE = Struct("<IIQ").pack(0, 25, 24 << 32)

_HEADER = Struct("<16s16sQQ32s16sQ32s8s32sQI4sIIIHH")
_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack

# What an append checks of the header it is given, and what the next head is made of:
# stream, first offset, timestamp, prev hash, parts length, tail length, part count, generation, transactions.
unpack_claims = Struct("<16x16sQQ32s96xQI4xIII4x").unpack


def pack_header(
    stream: bytes,
    first_offset: int,
    timestamp: int,
    prev_hash: bytes,
    id: bytes,  # noqa: A002  the word of the schema
    key_id: int,
    salt: bytes,
    nonce: bytes,
    parts_digest: bytes,
    parts_length: int,
    tail_length: int,
    part_count: int,
    generation: int,
    transaction_count: int,
    kind: int,
) -> bytes:
    """Return the header as stored: 208 bytes, a Cap'n Proto message."""
    return _pack_header(
        _HEADER_PREFACE,
        stream,
        first_offset,
        timestamp,
        prev_hash,
        id,
        key_id,
        salt,
        nonce[:8],
        parts_digest,
        parts_length,
        tail_length,
        nonce[8:],
        part_count,
        generation,
        transaction_count,
        kind,
        VERSION,
    )


def unpack_header(data: bytes) -> RecordHeader:
    """Read a stored header; raise :class:`Malformed` if it says what no writer of this version says."""
    if len(data) != HEADER_SIZE:
        raise Malformed(f"a header of {len(data)} bytes, not {HEADER_SIZE}")

    (
        preface, stream, first_offset, timestamp, prev_hash, id_, key_id, salt, nonce_high, parts_digest,
        parts_length, tail_length, nonce_low, part_count, generation, transaction_count, kind, version,
    ) = _unpack_header(data)  # fmt: skip
    known = _KINDS.get(kind)
    if preface != _HEADER_PREFACE:
        raise Malformed("the header is not the message it should be")
    if version != VERSION:
        raise Malformed(f"the header is of version {version}, this software reads {VERSION}")
    if known is None:
        raise Malformed(f"unknown kind of record: {kind}")
    if tail_length > PART_MAX or parts_length > PARTS_MAX:
        raise Malformed(f"a record of {parts_length} + {tail_length} bytes, more than any writer makes")
    if part_count * PART_HEAD_SIZE > parts_length or (part_count == 0) != (parts_length == 0):
        raise Malformed(f"{part_count} parts in {parts_length} bytes")
    if part_count == 0 and parts_digest != ZERO_HASH:
        raise Malformed("a digest of parts, and no parts")
    if first_offset + transaction_count > OFFSET_MAX:
        raise Malformed("offsets beyond what a stream can have")

    return make(
        RecordHeader,
        (
            stream, first_offset, timestamp, prev_hash, id_, key_id, salt, nonce_high + nonce_low, parts_digest,
            parts_length, tail_length, part_count, generation, transaction_count, known, version,
        ),
    )  # fmt: skip


class Misfit(Enum):
    """Why a record does not follow a head."""

    HASH = "it does not build on the record before it"
    OFFSET = "its first offset is not the next one"
    TIME = "its time or generation is lower than that of the record before it"


def misfit(
    next_offset: int,
    hash_: bytes,
    head_timestamp: int,
    head_generation: int,
    first_offset: int,
    prev_hash: bytes,
    timestamp: int,
    generation: int,
) -> Misfit | None:
    """Return why a record that claims the last four does not follow a head that is the first four; None if it does.

    The rule by which every log grows: the kernel of a group asks it for each append, a log on disk and one in memory
    before they take a record, and a reader for each record that it finds.
    """
    if prev_hash != hash_:
        return Misfit.HASH
    if first_offset != next_offset:
        return Misfit.OFFSET
    if timestamp < head_timestamp or generation < head_generation:
        return Misfit.TIME
    return None


def chain_hash(prev_hash: bytes, record: bytes) -> bytes:
    """Return the hash of a record, header and body as stored, that builds on ``prev_hash``."""
    return sha256(prev_hash + record).digest()
