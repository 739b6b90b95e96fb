"""The bytes of a record and of a segment's header; no file is touched here.

:mod:`veritydb.log.store` writes and reads them on disk, :mod:`veritydb.log.memory` keeps them in memory, and
``docs/internals/log-format.md`` describes them byte by byte.

Both headers are Cap'n Proto messages of fixed-size fields, so their bytes have one possible layout. They are filled by
position, with one ``struct.pack`` each: a commit waits for it, and a message builder costs ten times as much. A test
reads and writes them through the definitions in ``schemas/`` and finds the same bytes.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

VERSION = 1

PREFIX_SIZE = 48
HEADER_SIZE = 208
FRAME_SIZE = PREFIX_SIZE + HEADER_SIZE
"""What a record takes besides its body."""
SEGMENT_HEADER_SIZE = 128
PART_HEAD_SIZE = 16

PART_MAX = 1 << 30
"""Bytes of one sealed part. A row is never divided, so a part is as large as the largest row demands."""
PARTS_MAX = 1 << 44
"""Bytes of all spilled parts of one record."""
COUNT_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 63) - 1

MAGIC = b"VRec"
MAGIC_BEGUN = b"VBeg"
"""Stands where the magic of a record with spilled parts will stand, until its body is durable."""
MAGIC_END = b"VEnd"
MAGIC_SEGMENT = b"VERITYLG"

ZERO_HASH = bytes(32)
_ZERO_NONCE = bytes(12)


class Kind(IntEnum):
    """What a record is for."""

    DATA = 1
    GENERATION = 2
    CHECKPOINT = 3


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


class SegmentHeader(NamedTuple):
    """The header of a segment file, ``SegmentHeader`` in ``schemas/files.capnp``."""

    stream: bytes
    first_offset: int
    prev_hash: bytes
    number: int


# A message of one segment: the segment table (count - 1, words), then the root's struct pointer (data words << 32).
_HEADER_PREFACE = Struct("<IIQ").pack(0, 25, 24 << 32)
_SEGMENT_PREFACE = Struct("<IIQ").pack(0, 9, 8 << 32)

_PREFIX = Struct("<4sIQ32s")
_HEADER = Struct("<16s16sQQ32s16sQ32s8s32sQI4sIIIHH")
_SEGMENT_HEADER = Struct("<8s16s16sQ32sII")
_PART_HEAD = Struct("<I12s")

_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack
pack_prefix = _PREFIX.pack
"""(magic, header length, body length, chain hash) -> 48 bytes."""
unpack_prefix = _PREFIX.unpack
pack_part_head = _PART_HEAD.pack
"""(length, nonce) -> 16 bytes."""
unpack_part_head = _PART_HEAD.unpack

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

    return RecordHeader(
        stream, first_offset, timestamp, prev_hash, id_, key_id, salt, nonce_high + nonce_low, parts_digest,
        parts_length, tail_length, part_count, generation, transaction_count, known, version,
    )  # fmt: skip


def pack_end(next_segment: int, last_hash: bytes) -> bytes:
    """Return the mark behind the last record of a segment: where to go on, and what the next record builds on."""
    return pack_prefix(MAGIC_END, next_segment, 0, last_hash)


def pack_segment_header(header: SegmentHeader) -> bytes:
    """Return the first 128 bytes of a segment file: magic, message, SHA-256 of both, zeros."""
    data = _SEGMENT_HEADER.pack(
        MAGIC_SEGMENT, _SEGMENT_PREFACE, header.stream, header.first_offset, header.prev_hash, header.number, VERSION
    )
    return (data + sha256(data).digest()).ljust(SEGMENT_HEADER_SIZE, b"\0")


def unpack_segment_header(data: bytes) -> SegmentHeader:
    """Read the first 128 bytes of a segment file; raise :class:`Malformed` if they are not a header.

    The digest is there because a rotten header would make the good record behind it look like a torn one.
    """
    if len(data) != SEGMENT_HEADER_SIZE:
        raise Malformed("the file is shorter than a segment's header")
    size = _SEGMENT_HEADER.size
    magic, preface, stream, first_offset, prev_hash, number, version = _SEGMENT_HEADER.unpack_from(data)
    if magic != MAGIC_SEGMENT:
        raise Malformed("the file does not begin as a segment does")
    if data[size:] != sha256(data[:size]).digest().ljust(SEGMENT_HEADER_SIZE - size, b"\0"):
        raise Malformed("the segment's header is damaged")
    if preface != _SEGMENT_PREFACE or version != VERSION:
        raise Malformed(f"the segment is of version {version}, this software reads {VERSION}")
    return SegmentHeader(stream, first_offset, prev_hash, number)
