"""What a client asks of the kernel, as values and as bytes (``Command`` in ``schemas/kernel.capnp``).

=================  =================================================================================================
Register           begin a session (as request 0 of session 0)
CreateStream       make a stream, under an id of one's own or one that the kernel chooses
Append             add one record to the stream that its header names, if it builds on the head
Resolve            was this transaction committed? If not: it never will be
ListStreams        which streams are there?
DropStream         nothing is appended to this stream any more, and its records are set aside
=================  =================================================================================================

A record says itself what it builds on: stream, offset and previous hash stand in its header. A second copy in the
command could only disagree.
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum, auto
from struct import Struct
from typing import NamedTuple, TypeAlias

from veritydb.chain import HEADER_SIZE, STREAM_AT, Malformed
from veritydb.packing import PADDING
from veritydb.tuples import make

VERSION = 1
ID_SIZE = 16
AUTOMATIC = bytes(ID_SIZE)
"""Instead of a stream's id: let the kernel choose one."""
TRANSACTIONS_MAX = 4096
"""Transactions of one record that go through a group of nodes."""
PAGE_MAX = 32
"""Streams in one answer to ListStreams."""
NAME_MAX = 64
"""Bytes of a stream's name."""


class DataClass(IntEnum):
    """What kind of data a stream holds."""

    PHI = 1
    """Protected health information: about people who can be recognised."""
    NON_PHI = 2
    """Not about people's health."""
    DEIDENTIFIED = 3
    """About people who can no longer be recognised."""


_DATA_CLASSES = {int(known): known for known in DataClass}
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


class Placement(NamedTuple):
    """Where a stream may be kept."""

    data_class: DataClass
    region: str
    """Its data must not leave this region; empty: it may be anywhere."""

    @property
    def problem(self) -> str | None:
        """Why there can be no such placement; None if there can."""
        if self.region and not _REGION.fullmatch(self.region):
            return f"{self.region!r} does not name a region: up to 32 of a-z 0-9 -, with no - at an end"
        if self.data_class is DataClass.PHI and not self.region:
            return "protected health information must name the region in which it stays"
        return None


def unpack_placement(data_class: int, region: bytes) -> Placement | None:
    """Return what two fields say; None if it is no placement at all."""
    known = _DATA_CLASSES.get(data_class)
    if known is None or not region.isascii():
        return None
    return Placement(known, region.rstrip(b"\0").decode())


def unpack_name(data: bytes) -> str | None:
    """Return a stream's name; None if the bytes are none."""
    try:
        return data.decode() if len(data) <= NAME_MAX else None
    except UnicodeDecodeError:
        return None


class Register(NamedTuple):
    """Begin a session."""


class CreateStream(NamedTuple):
    """Make a stream. Repeating it with the same placement changes nothing."""

    stream: bytes
    """16 bytes; ``AUTOMATIC``: derived from the op, the client and the request's number."""
    placement: Placement
    name: str = ""
    """What people call it, for lists: at most ``NAME_MAX`` bytes. The kernel knows streams by their ids alone."""


class Append(NamedTuple):
    """Add a record to the stream that its header names, if it builds on the head."""

    ids: tuple[bytes, ...]
    """Of the record's transactions but the last, whose id stands in the header. So usually: none."""
    record: bytes
    """Header and body as stored."""


class Resolve(NamedTuple):
    """What became of a transaction? One that is not committed is forbidden from now on."""

    stream: bytes
    id: bytes
    since: int
    """The offset on which it was tried to build; 0 if that is not known."""


class ListStreams(NamedTuple):
    """Which streams are there, in the order in which they were created?"""

    after: int
    """So many are passed over."""
    limit: int
    """So many at most, and never more than ``PAGE_MAX``."""


class DropStream(NamedTuple):
    """Append nothing to it any more, and set its records aside. Its id is never a stream's again."""

    stream: bytes


Command: TypeAlias = Register | CreateStream | Append | Resolve | ListStreams | DropStream


class BadCommand(Malformed):
    """Bytes that are no command."""


# A message of one segment: its table, the root's pointer (7 words of data, 2 pointers), version, which command, a
# small number. Behind that, what the command is about; then the two pointers: Append has both, CreateStream the first
# if the stream has a name.
_ROOT = 2 << 48 | 7 << 32
_HEAD = Struct("<IIQHHHH")
_CREATE = Struct("<16s32s")
_RESOLVE = Struct("<16s16sQ")
_LIST = Struct("<Q")
_DROP = Struct("<16s")
_APPEND = Struct("<II64sQQ")
_SIZE = _APPEND.size
_FIELDS = slice(_HEAD.size, _HEAD.size + 48)
_POINTERS_AT = _SIZE - 16
_WORDS = _SIZE // 8 - 1
_REGISTER, _CREATE_STREAM, _APPEND_KIND, _RESOLVE_KIND, _LIST_STREAMS, _DROP_STREAM = range(6)
_IS_APPEND = Struct("<QHHHH48x").pack(_ROOT, VERSION, _APPEND_KIND, 0, 0)
_BLOB = 2 << 32 | 1


def encode_command(command: Command) -> bytes:
    """Return a command as a request carries it."""
    match command:
        case Append(ids, record):
            return encode_append(ids, record)
        case Register():
            return _pack(_REGISTER, 0, b"")
        case CreateStream(stream, placement, name):
            fields = _CREATE.pack(stream, placement.region.encode())
            return _pack(_CREATE_STREAM, placement.data_class, fields, name.encode())
        case Resolve(stream, id_, since):
            return _pack(_RESOLVE_KIND, 0, _RESOLVE.pack(stream, id_, since))
        case ListStreams(after, limit):
            return _pack(_LIST_STREAMS, limit, _LIST.pack(after))
        case DropStream(stream):  # pragma: no branch  (the last there is)
            return _pack(_DROP_STREAM, 0, _DROP.pack(stream))


def encode_append(ids: tuple[bytes, ...], record: bytes) -> bytes:
    """Return the command that appends a record."""
    joined = b"".join(ids)
    size, length = len(joined), len(record)
    words = _WORDS + (size >> 3) + (length + 7 >> 3)
    ids_at = size << 35 | 1 << 2 | _BLOB if size else 0
    head = _APPEND.pack(0, words, _IS_APPEND, ids_at, length << 35 | size >> 1 | _BLOB)
    return b"".join((head, joined, record, PADDING[-length & 7]))


def _pack(kind: int, small: int, fields: bytes, name: bytes = b"") -> bytes:
    size = len(name)
    head = _HEAD.pack(0, _WORDS + (size + 7 >> 3), _ROOT, VERSION, kind, small, 0)
    if not size:
        return (head + fields).ljust(_SIZE, b"\0")
    name_at = (size << 35 | 1 << 2 | _BLOB).to_bytes(8, "little")
    return b"".join(((head + fields).ljust(_POINTERS_AT, b"\0"), name_at, bytes(8), name, PADDING[-size & 7]))


def decode_command(data: bytes) -> Command:
    """Return the command in ``data``. Raises BadCommand if it is not what :func:`encode_command` makes."""
    size = len(data)
    if size < _SIZE:
        raise BadCommand(f"a command of {size} bytes")
    zero, words, fixed, ids_at, record_at = _APPEND.unpack_from(data)
    if fixed != _IS_APPEND:
        return _decode_other(data)

    ids_size = ids_at >> 35
    length = record_at >> 35
    begin = _SIZE + ids_size
    end = begin + length
    if (
        zero
        or (words + 1) * 8 != size
        or ids_at != (ids_size << 35 | 1 << 2 | _BLOB if ids_size else 0)
        or record_at != (length << 35 | ids_size >> 1 | _BLOB)
        or ids_size % ID_SIZE
        or end + (-length & 7) != size
        or data[end:] != PADDING[-length & 7]
    ):
        raise BadCommand("the record is not where it should be")
    if length < HEADER_SIZE or ids_size >= TRANSACTIONS_MAX * ID_SIZE:
        raise BadCommand(f"a record of {length} bytes with {ids_size // ID_SIZE} more transactions")
    ids = tuple([data[at : at + ID_SIZE] for at in range(_SIZE, begin, ID_SIZE)]) if ids_size else ()
    return make(Append, (ids, data[begin:end]))


class Subject(Enum):
    """What a command does, for who has to allow it."""

    REGISTER = auto()
    CREATE = auto()
    APPEND = auto()
    RESOLVE = auto()
    LIST = auto()
    DROP = auto()


def subject(data: bytes) -> tuple[Subject, bytes | None]:
    """Return what a command does and with which stream, None for none or every one; without reading the rest of it.

    Raises BadCommand. It looks where :func:`decode_command` does, so it cannot see another stream than the kernel.
    """
    if len(data) < _SIZE:
        raise BadCommand(f"a command of {len(data)} bytes")
    _, _, fixed, ids_at, _ = _APPEND.unpack_from(data)
    if fixed == _IS_APPEND:
        at = _SIZE + (ids_at >> 35) + STREAM_AT
        return Subject.APPEND, data[at : at + ID_SIZE]
    command = _decode_other(data)
    match command:
        case CreateStream(stream, _, _):
            return Subject.CREATE, None if stream == AUTOMATIC else stream
        case Resolve(stream, _, _):
            return Subject.RESOLVE, stream
        case ListStreams():
            return Subject.LIST, None
        case DropStream(stream):
            return Subject.DROP, stream
        case _:
            return Subject.REGISTER, None


def _decode_other(data: bytes) -> Command:
    version, kind, small = _HEAD.unpack_from(data)[3:6]
    if version != VERSION:
        raise BadCommand(f"a command of version {version}; this program reads {VERSION}")
    command = _decode_small(kind, small, data[_FIELDS], data)
    # What was not looked at, unused fields, pointers, length, is right if the same comes out again.
    if command is None or encode_command(command) != data:
        raise BadCommand("the bytes are not laid out as those of any command")
    return command


def _decode_small(kind: int, small: int, fields: bytes, data: bytes) -> Command | None:
    if kind == _REGISTER:
        return Register()
    if kind == _CREATE_STREAM:
        stream, region = _CREATE.unpack(fields)
        placement = unpack_placement(small, region)
        name = unpack_name(data[_SIZE:][: int.from_bytes(data[_POINTERS_AT : _POINTERS_AT + 8], "little") >> 35])
        return None if placement is None or name is None else CreateStream(stream, placement, name)
    if kind == _RESOLVE_KIND:
        return Resolve(*_RESOLVE.unpack_from(fields))
    if kind == _LIST_STREAMS:
        (after,) = _LIST.unpack_from(fields)
        return ListStreams(after, small)
    if kind == _DROP_STREAM:
        return DropStream(*_DROP.unpack_from(fields))
    return None
