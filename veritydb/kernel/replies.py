"""What the kernel answers, as values and as bytes (``Reply`` in ``schemas/kernel.capnp``).

=================  =================================================================================================
Registered         the session has begun
Created            there is a stream with this id and the placement that was asked for
Appended           the record is committed; this is the new head
Conflict           it does not build on the head, which is this: catch up, and try again
Known              a transaction with this id is committed, here
Forbidden          none is, and none ever will be: only this permits "rolled back"
Forgotten          the table of ids does not reach so far back; the records themselves tell
Streams            a page of them
Dropped            the stream takes no appends any more
Refused            nothing was done, and the same command would be refused again (or later accepted: BUSY)
=================  =================================================================================================

All nodes give the same bytes, because a reply is kept in the state until the session's next request.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple, TypeAlias

from veritydb.chain import Malformed
from veritydb.kernel.commands import PAGE_MAX, Placement, unpack_name, unpack_placement
from veritydb.packing import Shape, Structs, pack, unpack

VERSION = 1


class Refusal(IntEnum):
    """Why nothing was done."""

    BAD_COMMAND = 1
    """The bytes are no command, or one that has no place in a session."""
    BAD_RECORD = 2
    """The record's header is malformed, or says what its body, its ids, or the stream's last record contradict."""
    BAD_PLACEMENT = 3
    STREAM_UNKNOWN = 4
    STREAM_EXISTS = 5
    """With another placement."""
    STREAMS_FULL = 6
    BUSY = 7
    """More ids at once than the table takes; later there is room."""
    SESSION_UNKNOWN = 8
    """It was never registered, or made room for others: what became of earlier requests, Resolve tells."""
    REQUEST_OLD = 9
    """The session has had later requests."""
    REQUEST_AHEAD = 10
    """The session has not had the request before."""
    REQUEST_CHANGED = 11
    """A request with this number was executed, with another command."""
    STREAM_DROPPED = 12
    """It was dropped, and its id is never a stream's again."""


_REFUSALS = {int(known): known for known in Refusal}


class Registered(NamedTuple):
    """The session has begun."""

    session: int


class Created(NamedTuple):
    """The stream is there."""

    stream: bytes
    existed: bool


class Appended(NamedTuple):
    """The record is committed."""

    first_offset: int
    next_offset: int
    hash: bytes


class Conflict(NamedTuple):
    """The record does not build on the head, which is this."""

    next_offset: int
    hash: bytes


class Known(NamedTuple):
    """A transaction with this id is committed."""

    id: bytes
    offset: int
    hash: bytes
    """Of its record: whoever sent an append twice learns from it that it was this very record."""


class Forbidden(NamedTuple):
    """No transaction with this id is committed, and every append that has one will be refused."""

    id: bytes


class Forgotten(NamedTuple):
    """Ids of transactions below this offset have been dropped, and it might be one of those."""

    offset: int


class StreamInfo(NamedTuple):
    """A stream."""

    stream: bytes
    placement: Placement
    created: int
    """Cluster time, microseconds since 1970-01-01 UTC."""
    next_offset: int
    hash: bytes
    name: str = ""
    """As it was created; whether its id is that name's, whoever lists it has to look."""
    dropped: int = 0
    """Cluster time; 0: it was not."""


class Streams(NamedTuple):
    """A page of streams."""

    streams: tuple[StreamInfo, ...]


class Dropped(NamedTuple):
    """The stream takes no appends any more."""

    stream: bytes
    next_offset: int
    """Where it ended."""


class Refused(NamedTuple):
    """Nothing was done."""

    reason: Refusal


Reply: TypeAlias = (
    Registered | Created | Appended | Conflict | Known | Forbidden | Forgotten | Streams | Refused | Dropped
)


class BadReply(Malformed):
    """Bytes that are no reply."""


_WORDS = 8
_FIELDS = Struct("<HH4xQ32s16s")
_TABLE = Struct("<IIQ")
_INFO = Struct("<16s32sQQ32sQQ")
_REGISTERED, _CREATED, _APPENDED, _CONFLICT, _KNOWN, _FORBIDDEN, _FORGOTTEN, _STREAMS, _REFUSED, _DROPPED = range(10)
_NO_HASH = bytes(32)
_NO_ID = bytes(16)
_PREFACE = _TABLE.pack(0, 1 + _WORDS + 1, 1 << 48 | _WORDS << 32)
_OFFSET = Struct("<Q8x")
_SIZE = len(_PREFACE) + _FIELDS.size + 8
_NULL = bytes(8)
_INFO_WORDS = _INFO.size // 8
_SHAPE = Shape(_INFO_WORDS, blobs=True, count_max=PAGE_MAX)


def _pack(which: int, offset: int, hash_: bytes, more: bytes) -> bytes:
    return _PREFACE + _FIELDS.pack(VERSION, which, offset, hash_, more) + _NULL


def encode_appended(first_offset: int, next_offset: int, hash_: bytes) -> bytes:
    """Return the commonest reply."""
    return _pack(_APPENDED, next_offset, hash_, _OFFSET.pack(first_offset))


def encode_reply(reply: Reply) -> bytes:
    """Return a reply as a client gets it."""
    match reply:
        case Appended(first_offset, next_offset, hash_):
            return encode_appended(first_offset, next_offset, hash_)
        case Registered(session):
            return _pack(_REGISTERED, session, _NO_HASH, _NO_ID)
        case Created(stream, existed):
            return _pack(_CREATED, existed, stream, _NO_ID)
        case Conflict(next_offset, hash_):
            return _pack(_CONFLICT, next_offset, hash_, _NO_ID)
        case Known(id_, offset, hash_):
            return _pack(_KNOWN, offset, hash_, id_)
        case Forbidden(id_):
            return _pack(_FORBIDDEN, int.from_bytes(id_[:8], "little"), id_[8:], _NO_ID)
        case Forgotten(offset):
            return _pack(_FORGOTTEN, offset, _NO_HASH, _NO_ID)
        case Streams(streams):
            fields = _FIELDS.pack(VERSION, _STREAMS, 0, _NO_HASH, _NO_ID)
            names = [info.name.encode() for info in streams]
            return pack(fields, Structs(_INFO_WORDS, b"".join(map(_pack_info, streams)), names))
        case Dropped(stream, next_offset):
            return _pack(_DROPPED, next_offset, stream, _NO_ID)
        case Refused(reason):  # pragma: no branch  (the last there is)
            return _pack(_REFUSED, reason, _NO_HASH, _NO_ID)


def _pack_info(info: StreamInfo) -> bytes:
    placement = info.placement
    return _INFO.pack(
        info.stream, placement.region.encode(), info.created, info.next_offset, info.hash, placement.data_class,
        info.dropped,
    )  # fmt: skip


def decode_reply(data: bytes) -> Reply:
    """Return the reply in ``data``. Raises BadReply if it is not what :func:`encode_reply` makes."""
    if len(data) == _SIZE:
        version, which, offset, hash_, more = _FIELDS.unpack_from(data, _TABLE.size)
        (first_offset,) = _OFFSET.unpack(more)
        if which == _APPENDED and encode_appended(first_offset, offset, hash_) == data:
            return Appended(first_offset, offset, hash_)
    try:
        fields, (listed,) = unpack(data, _WORDS, _SHAPE)
    except Malformed as error:
        raise BadReply(error.why) from error
    version, which, offset, hash_, more = _FIELDS.unpack(fields)
    if version != VERSION:
        raise BadReply(f"a reply of version {version}; this program reads {VERSION}")
    assert isinstance(listed, Structs)
    reply = _decode(which, offset, hash_, more, fields[8:24], listed)
    # What was not looked at, unused fields and a list that has no place, is right if the same comes out again.
    if reply is None or encode_reply(reply) != data:
        raise BadReply("the reply has fields that its kind has not")
    return reply


def _decode(which: int, offset: int, hash_: bytes, more: bytes, id_: bytes, listed: Structs) -> Reply | None:
    if which == _REGISTERED:
        return Registered(offset)
    if which == _CREATED:
        return Created(hash_[:16], bool(offset))
    if which == _APPENDED:
        (first_offset,) = _OFFSET.unpack(more)
        return Appended(first_offset, offset, hash_)
    if which == _CONFLICT:
        return Conflict(offset, hash_)
    if which == _KNOWN:
        return Known(more, offset, hash_)
    if which == _FORBIDDEN:
        return Forbidden(id_)
    if which == _FORGOTTEN:
        return Forgotten(offset)
    if which == _STREAMS:
        names = listed.blobs or ()
        return Streams(tuple(map(_info, _INFO.iter_unpack(listed.fields), names)))
    if which == _DROPPED:
        return Dropped(hash_[:16], offset)
    if which == _REFUSED and offset in _REFUSALS:
        return Refused(_REFUSALS[offset])
    return None


def _info(fields: tuple[bytes, bytes, int, int, bytes, int, int], name: bytes) -> StreamInfo:
    stream, region, created, next_offset, hash_, data_class, dropped = fields
    placement = unpack_placement(data_class, region)
    called = unpack_name(name)
    if placement is None or called is None:
        raise BadReply("a stream's placement or name is none")
    return StreamInfo(stream, placement, created, next_offset, hash_, called, dropped)
