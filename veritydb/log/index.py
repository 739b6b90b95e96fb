"""The sidecar of a closed segment: where some of its records begin, so that a reader need not scan from its header.

A sidecar is a hint. It is made when a reader first seeks in the segment, made again if it is missing or damaged, kept
only in memory where the folder cannot be written; and the record it leads to is verified like any other.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from veritydb import schemas
from veritydb.log.record import Malformed

if TYPE_CHECKING:
    from veritydb.log.files import Files

SPACING = 1 << 16
"""Bytes of segment between two entries, at least."""
SIZE_MAX = 1 << 26

_MAGIC = b"VERITYIX"
_DIGEST_SIZE = 32
_PREFACE_SIZE = len(_MAGIC) + _DIGEST_SIZE


class Index(NamedTuple):
    """Entries in the order of the segment: first offset, position and timestamp of a record."""

    segment: int
    length: int
    offsets: tuple[int, ...]
    positions: tuple[int, ...]
    times: tuple[int, ...]

    def find(self, offset: int) -> int | None:
        """Return the position of the last indexed record that begins at an offset lower than this one.

        Lower, because records without transactions share their offset with the record that follows them.
        """
        at = bisect_left(self.offsets, offset) - 1
        return self.positions[at] if at >= 0 else None


def encode_index(index: Index) -> bytes:
    """Return the bytes of a sidecar: magic, BLAKE3 of the message, message."""
    message = schemas.files.Index.new_message(
        segment=index.segment,
        length=index.length,
        offsets=list(index.offsets),
        positions=list(index.positions),
        times=list(index.times),
    )
    data: bytes = message.to_bytes()
    return _MAGIC + blake3(data).digest() + data


def decode_index(data: bytes, segment: int) -> Index:
    """Read a sidecar; raise :class:`~veritydb.log.record.Malformed` if it is not one of that segment."""
    if data[: len(_MAGIC)] != _MAGIC or blake3(data[_PREFACE_SIZE:]).digest() != data[len(_MAGIC) : _PREFACE_SIZE]:
        raise Malformed("the index is damaged")
    try:
        with schemas.files.Index.from_bytes(data[_PREFACE_SIZE:], traversal_limit_in_words=SIZE_MAX) as message:
            index = Index(
                message.segment,
                message.length,
                tuple(message.offsets),
                tuple(message.positions),
                tuple(message.times),
            )
    except Exception as error:  # The class pycapnp raises is in no stub.
        raise Malformed(f"the index is not what it should be: {error}") from None
    if index.segment != segment or not len(index.offsets) == len(index.positions) == len(index.times):
        raise Malformed("the index does not fit its segment")
    if list(index.offsets) != sorted(index.offsets) or any(at % 8 or at >= index.length for at in index.positions):
        raise Malformed("the index is out of order")
    return index


def load_index(files: Files, path: str, segment: int) -> Index | None:
    """Return the sidecar at a path, or None if there is none that can be used."""
    try:
        fd = files.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = files.pread(fd, SIZE_MAX if files.size(fd) > SIZE_MAX else files.size(fd), 0)
        finally:
            files.close(fd)
        return decode_index(data, segment)
    except (OSError, Malformed):
        return None


def store_index(files: Files, path: str, index: Index, mode: int) -> None:
    """Put a sidecar in its place; a folder that cannot be written goes without."""
    data = encode_index(index)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            files.write(fd, data, 0)
        finally:
            files.close(fd)
        # Not synced: a sidecar that a crash damages fails its digest and is made again.
        files.rename(temporary, path)
    except OSError:
        try:
            files.unlink(temporary)
        except OSError:
            pass
