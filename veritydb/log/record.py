"""The frame of a record and the header of a segment; no file is touched here.

:mod:`veritydb.log.store` writes and reads them on disk, :mod:`veritydb.log.memory` keeps them in memory, and
``docs/internals/log-format.md`` describes them byte by byte. The record's own header is :mod:`veritydb.chain`'s.

A segment's header is a Cap'n Proto message of fixed-size fields, so its bytes have one possible layout, and it is
filled by position. A test reads and writes it through the definition in ``schemas/`` and finds the same bytes.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import NamedTuple

from veritydb.chain import (
    COUNT_MAX,
    HEADER_SIZE,
    OFFSET_MAX,
    PART_HEAD_SIZE,
    PART_MAX,
    PARTS_MAX,
    VERSION,
    ZERO_HASH,
    Kind,
    Malformed,
    Misfit,
    RecordHeader,
    misfit,
    pack_header,
    unpack_claims,
    unpack_header,
)

PREFIX_SIZE = 48
FRAME_SIZE = PREFIX_SIZE + HEADER_SIZE
"""What a record takes besides its body."""
SEGMENT_HEADER_SIZE = 128

MAGIC = b"VRec"
MAGIC_BEGUN = b"VBeg"
"""Stands where the magic of a record with spilled parts will stand, until its body is durable."""
MAGIC_END = b"VEnd"
MAGIC_SEGMENT = b"VERITYLG"


class SegmentHeader(NamedTuple):
    """The header of a segment file, ``SegmentHeader`` in ``schemas/files.capnp``."""

    stream: bytes
    first_offset: int
    prev_hash: bytes
    number: int


# A message of one segment: the segment table (count - 1, words), then the root's struct pointer (data words << 32).
_SEGMENT_PREFACE = Struct("<IIQ").pack(0, 9, 8 << 32)

_PREFIX = Struct("<4sIQ32s")
_SEGMENT_HEADER = Struct("<8s16s16sQ32sII")
_PART_HEAD = Struct("<I12s")

pack_prefix = _PREFIX.pack
"""(magic, header length, body length, chain hash) -> 48 bytes."""
unpack_prefix = _PREFIX.unpack
pack_part_head = _PART_HEAD.pack
"""(length, nonce) -> 16 bytes."""
unpack_part_head = _PART_HEAD.unpack


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


__all__ = [
    "COUNT_MAX",
    "FRAME_SIZE",
    "HEADER_SIZE",
    "MAGIC",
    "MAGIC_BEGUN",
    "MAGIC_END",
    "MAGIC_SEGMENT",
    "OFFSET_MAX",
    "PARTS_MAX",
    "PART_HEAD_SIZE",
    "PART_MAX",
    "PREFIX_SIZE",
    "SEGMENT_HEADER_SIZE",
    "VERSION",
    "ZERO_HASH",
    "Kind",
    "Malformed",
    "Misfit",
    "RecordHeader",
    "SegmentHeader",
    "misfit",
    "pack_end",
    "pack_header",
    "pack_part_head",
    "pack_prefix",
    "pack_segment_header",
    "unpack_claims",
    "unpack_header",
    "unpack_part_head",
    "unpack_prefix",
    "unpack_segment_header",
]
