"""Cap'n Proto messages of one possible layout, filled by position.

A message here is one segment: the root, then what its pointers name, in their order, each byte string padded with
zeros to whole words. So a value has one encoding: nodes that decide about the same bytes decide alike, whatever
library version each runs, and a reader needs no limit on how often a pointer is followed. Any Cap'n Proto library
reads such a message; only this module (and what packs a hot structure by hand) writes it.

https://capnproto.org/encoding.html has the words used: a list of structs is *composite*, a *tag* stands before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from veritydb.chain import Malformed

WORD = 8
PADDING = tuple(bytes(count) for count in range(WORD))

# The segment table (count - 1, words), then the root's pointer.
_PREFACE = Struct("<IIQ")
PREFACE_SIZE = _PREFACE.size
_POINTER = Struct("<Q")

_BLOB = 2 << 32 | 1
_COMPOSITE = 7 << 32 | 1
COUNT_MAX = (1 << 29) - 1
"""Bytes of a byte string, or words of a list: what a pointer has room for."""


class Structs(NamedTuple):
    """A list of structs of fixed-size fields, each with one byte string if there are ``blobs``."""

    words: int
    """Of the data section of each."""
    fields: bytes
    """Their data sections, joined."""
    blobs: Sequence[bytes] | None = None

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.fields) // (self.words * WORD)


Object: TypeAlias = "bytes | Structs"


class Shape(NamedTuple):
    """What :func:`unpack` is to expect of a list of structs."""

    words: int
    """Of a data section."""
    blobs: bool = False
    count_max: int = COUNT_MAX


def struct_pointer(words: int, pointers: int) -> int:
    """Return the pointer to a root with so many words of data; as a tag, add ``count << 2``."""
    return pointers << 48 | words << 32


def blob_pointer(distance: int, length: int) -> int:
    """Return the pointer to a byte string that begins ``distance`` words behind the pointer; null if it is empty."""
    return length << 35 | distance << 2 | _BLOB if length else 0


def list_pointer(distance: int, words: int) -> int:
    """Return the pointer to a list of structs of so many words; its tag is ``distance`` words behind the pointer."""
    return words << 35 | distance << 2 | _COMPOSITE


def padded(blob: bytes) -> bytes:
    """Return whole words."""
    return blob + PADDING[-len(blob) % WORD]


def pack(data: bytes, *objects: Object) -> bytes:
    """Return the message whose root has the data section ``data`` and one pointer to each of ``objects``."""
    pointers: list[int] = []
    out: list[bytes] = []
    at = len(objects)  # Words between the first pointer and what comes next.
    for index, item in enumerate(objects):
        distance = at - index - 1
        if isinstance(item, bytes):
            pointers.append(blob_pointer(distance, len(item)))
            piece = padded(item)
        elif not item.number:
            pointers.append(0)
            piece = b""
        else:
            pointers.append(list_pointer(distance, (item.words + (item.blobs is not None)) * item.number))
            piece = _pack_structs(item)
        out.append(piece)
        at += len(piece) // WORD
    words = 1 + len(data) // WORD + at
    root = struct_pointer(len(data) // WORD, len(objects))
    return b"".join((_PREFACE.pack(0, words, root), data, *map(_POINTER.pack, pointers), *out))


def _pack_structs(item: Structs) -> bytes:
    words, fields, blobs = item
    count = item.number
    if blobs is None:
        return _POINTER.pack(struct_pointer(words, 0) | count << 2) + fields
    out = [_POINTER.pack(struct_pointer(words, 1) | count << 2)]
    at = (words + 1) * count  # Where the next byte string begins, in words from the first struct.
    size = words * WORD
    for index, blob in enumerate(blobs):
        pointer = blob_pointer(at - (words + 1) * (index + 1), len(blob))
        out += (fields[index * size : (index + 1) * size], _POINTER.pack(pointer))
        at += (len(blob) + WORD - 1) // WORD
    out += map(padded, blobs)
    return b"".join(out)


def unpack(message: bytes, words: int, *shapes: Shape | int) -> tuple[bytes, list[Object]]:
    """Return the data section of the root and its objects. Raises Malformed if ``message`` is not laid out as above.

    Each shape says what the pointer with its number names: a list, or a byte string of at most so many bytes.
    """
    data_end = PREFACE_SIZE + words * WORD
    at = data_end + len(shapes) * WORD
    if len(message) < at:
        raise Malformed(f"{len(message)} bytes where a message has at least {at}")
    objects: list[Object] = []
    for index, shape in enumerate(shapes):
        (pointer,) = _POINTER.unpack_from(message, data_end + index * WORD)
        length = pointer >> 35
        if isinstance(shape, int):
            if length > shape:
                raise Malformed(f"{length} bytes where there may be {shape}")
            blob = message[at : at + length]
            objects.append(blob)
            at += len(blob) + -len(blob) % WORD
        elif length == 0:
            objects.append(Structs(shape.words, b"", () if shape.blobs else None))
        else:
            item, at = _unpack_structs(message, at + WORD, length, shape)
            objects.append(item)
    data = message[PREFACE_SIZE:data_end]
    # All that was not looked at above, pointers, tags, padding, length, is right if the same comes out again.
    if pack(data, *objects) != message:
        raise Malformed("the message is not laid out as its kind is")
    return data, objects


def _unpack_structs(message: bytes, at: int, words: int, shape: Shape) -> tuple[Structs, int]:
    step = shape.words + shape.blobs
    count, rest = divmod(words, step)
    end = at + words * WORD
    if rest or count > shape.count_max or end > len(message):
        raise Malformed(f"a list of {words} words where a struct has {step} and there may be {shape.count_max}")
    if not shape.blobs:
        return Structs(shape.words, message[at:end]), end
    fields: list[bytes] = []
    blobs: list[bytes] = []
    for start in range(at, end, step * WORD):
        pointer_at = start + shape.words * WORD
        fields.append(message[start:pointer_at])
        (pointer,) = _POINTER.unpack_from(message, pointer_at)
        blob = message[end : end + (pointer >> 35)]
        blobs.append(blob)
        end += len(blob) + -len(blob) % WORD
    return Structs(shape.words, b"".join(fields), blobs), end
