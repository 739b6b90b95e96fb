"""The layout of each kind of message: which fields it has, in which words, how many bytes at most.

Each class of :mod:`veritydb.vsr.messages` is one line of :data:`_LINES`, and packed with one ``struct.pack``: a commit
of three members is a dozen messages, and a message builder costs ten times as much. A test reads every kind back
through ``schemas/vsr.capnp``. :mod:`veritydb.vsr.wire` puts the frame around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from struct import Struct
from typing import Any, NamedTuple

from veritydb import chain
from veritydb.chain import unpack_header
from veritydb.kernel import COMMAND_MAX
from veritydb.packing import struct_pointer
from veritydb.tuples import make
from veritydb.vsr.entry import BODY_MAX, HEADER_SIZE, BadEntry, Entry, Header, read_entry, read_header
from veritydb.vsr.messages import (
    AskStatus,
    Checkpoint,
    Commit,
    CommitAck,
    Denied,
    Evicted,
    ExitView,
    FetchedRecords,
    FetchRecords,
    GetHeaders,
    GetPrepare,
    GetSnapshot,
    GetView,
    Headers,
    JoinView,
    NewEpoch,
    Ping,
    Pong,
    Prepare,
    PrepareOk,
    ReadReply,
    ReadRequest,
    Reconfigure,
    Reconfigured,
    Redirect,
    Repair,
    Reply,
    Request,
    SnapshotChunk,
    StartView,
    Suffix,
    TellStatus,
)
from veritydb.vsr.quorums import MEMBERS_MAX

HEADERS_MAX = 64
"""Headers of one message."""
CHUNK_MAX = 1 << 20
"""Bytes of a snapshot in one message."""
RESULT_MAX = 64 << 10
"""Bytes of one reply to a client."""
WHY_MAX = 4096
"""Bytes of an explanation."""
STATUS_MAX = 64 << 10
"""Bytes of what a node says of itself."""

HEAD = Struct("<IIQHHIQQ")
"""Segment table, root; version, kind, src, epoch, view: what all messages begin with."""
_HEAD_WORDS = 3


class Side(Enum):
    """Who hears a kind of message."""

    MEMBER = "members, from members"
    NODE = "members, from clients"
    CLIENT = "clients"


# Fields that do not stand for themselves. Each kind of field has a way out, which appends its words and returns its
# bytes, and a way in, which gets its words and the bytes and raises ValueError for what nobody sends.


def _take_suffix(words: list[Any], suffix: Suffix) -> bytes:
    headers, present, nack = suffix
    known = sum([1 << at for at, header in enumerate(headers) if header is not None])
    words += (len(headers), known, present, nack)
    return b"".join([header.raw for header in headers if header is not None])


def _make_suffix(words: Sequence[int], blob: bytes) -> Suffix:
    count, known, present, nack = words
    if count > HEADERS_MAX or (known | present | nack) >> count:
        raise ValueError(f"{count} headers, and bits beyond them")
    found = _make_headers((), blob)
    if known.bit_count() != len(found):
        raise ValueError(f"{len(found)} headers where {known.bit_count()} are known")
    each = iter(found)
    return Suffix(tuple([next(each) if known >> at & 1 else None for at in range(count)]), present, nack)


def _take_headers(_: list[Any], headers: tuple[Header, ...]) -> bytes:
    return b"".join([header.raw for header in headers])


def _make_headers(_: Sequence[int], blob: bytes) -> tuple[Header, ...]:
    if len(blob) % HEADER_SIZE:
        raise ValueError("a part of a header")
    return tuple([read_header(blob[at : at + HEADER_SIZE]) for at in range(0, len(blob), HEADER_SIZE)])


def _take_members(words: list[Any], members: tuple[int, ...]) -> bytes:
    words += (len(members), *members, *(0,) * (MEMBERS_MAX - len(members)))
    return b""


def _make_members(words: Sequence[int], _: bytes) -> tuple[int, ...]:
    count, *members = words
    if not 0 < count <= MEMBERS_MAX or any(members[count:]) or len(set(members[:count])) != count:
        raise ValueError(f"{count} members {members}")
    return tuple(members[:count])


def _take_entry(_: list[Any], entry: Entry) -> bytes:
    return entry.raw


def _make_entry(_: Sequence[int], blob: bytes) -> Entry:
    entry = read_entry(blob)
    if len(blob) != HEADER_SIZE + entry.header.size:
        raise ValueError("bytes behind an entry")
    return entry


def _take_checkpoint(words: list[Any], checkpoint: Checkpoint) -> bytes:
    words += checkpoint
    return b""


def _make_checkpoint(words: Sequence[Any], _: bytes) -> Checkpoint:
    return make(Checkpoint, tuple(words))


def _take_bool(words: list[Any], value: bool) -> bytes:
    words.append(int(value))
    return b""


def _make_bool(words: Sequence[int], _: bytes) -> bool:
    if words[0] > 1:
        raise ValueError("neither true nor false")
    return bool(words[0])


def _take_bytes(_: list[Any], value: bytes) -> bytes:
    return value


def _make_bytes(_: Sequence[int], blob: bytes) -> bytes:
    return blob


def _take_text(_: list[Any], text: str) -> bytes:
    return text.encode()


def _make_text(_: Sequence[int], blob: bytes) -> str:
    return blob.decode()


def _take_records(_: list[Any], records: tuple[bytes, ...]) -> bytes:
    return b"".join(records)


def _make_records(_: Sequence[int], blob: bytes) -> tuple[bytes, ...]:
    records: list[bytes] = []
    at = 0
    while at < len(blob):
        try:
            header = unpack_header(blob[at : at + chain.HEADER_SIZE])
        except chain.Malformed as error:
            raise BadEntry(f"a record's header: {error.why}") from error
        end = at + chain.HEADER_SIZE + header.parts_length + header.tail_length
        if end > len(blob):
            raise BadEntry("a record that ends early")
        records.append(blob[at:end])
        at = end
    return tuple(records)


class _Field(NamedTuple):
    """One kind of field. ``take`` and ``make`` are None for a word or a few that stand for themselves."""

    format: str
    numbers: tuple[bool, ...]
    """Of each word, whether it is a number below 2^63."""
    values: int = 1
    """What ``format`` packs."""
    take: Callable[[list[Any], Any], bytes] | None = None
    make: Callable[[Sequence[Any], bytes], object] | None = None
    has_bytes: bool = False


_FIELDS = {
    "n": _Field("Q", (True,)),  # A number.
    "w": _Field("Q", (False,)),  # Any word.
    "h": _Field("16s", (False,) * 2),  # A checksum or an id.
    "H": _Field("32s", (False,) * 4),  # A chain hash.
    "?": _Field("Q", (True,), 1, _take_bool, _make_bool),
    "c": _Field("Q16s16sQ", (True, *(False,) * 4, True), 4, _take_checkpoint, _make_checkpoint),
    "m": _Field("7Q", (True,) * 7, 7, _take_members, _make_members),
    "s": _Field("QQQQ", (True, *(False,) * 3), 4, _take_suffix, _make_suffix, has_bytes=True),
    "l": _Field("", (), 0, _take_headers, _make_headers, has_bytes=True),
    "e": _Field("", (), 0, _take_entry, _make_entry, has_bytes=True),
    "b": _Field("", (), 0, _take_bytes, _make_bytes, has_bytes=True),
    "t": _Field("", (), 0, _take_text, _make_text, has_bytes=True),
    "r": _Field("", (), 0, _take_records, _make_records, has_bytes=True),
}

_HEADERS = HEADERS_MAX * HEADER_SIZE
_ENTRY = HEADER_SIZE + BODY_MAX
# In the order of the union in the schema: class, who hears it, its fields in order, bytes of its byte string at most.
# "." is what all messages have: epoch, view and src between members; with clients the view alone, if at all, and last.
_LINES: tuple[tuple[type[Any], Side, str, int], ...] = (
    (Request, Side.NODE, "hnnb.", COMMAND_MAX),
    (Reply, Side.CLIENT, "hnnnb.", RESULT_MAX),
    (Evicted, Side.CLIENT, "hn.", 0),
    (Redirect, Side.CLIENT, "hnn.", 0),
    (ReadRequest, Side.NODE, "hnh", 0),
    (ReadReply, Side.CLIENT, "hnn?nH.", 0),
    (Prepare, Side.MEMBER, ".en", _ENTRY),
    (PrepareOk, Side.MEMBER, ".nhnn", 0),
    (Commit, Side.MEMBER, ".nhnwc", 0),
    (CommitAck, Side.MEMBER, ".w", 0),
    (ExitView, Side.MEMBER, ".", 0),
    (JoinView, Side.MEMBER, ".nnnncs", _HEADERS),
    (StartView, Side.MEMBER, ".nnlcwm", _HEADERS),
    (GetView, Side.MEMBER, ".w", 0),
    (GetHeaders, Side.MEMBER, ".nn", 0),
    (Headers, Side.MEMBER, ".l", _HEADERS),
    (GetPrepare, Side.MEMBER, ".nh", 0),
    (Repair, Side.MEMBER, ".e", _ENTRY),
    (GetSnapshot, Side.MEMBER, ".hn", 0),
    (SnapshotChunk, Side.MEMBER, ".hnnb", CHUNK_MAX),
    (Ping, Side.MEMBER, ".nnncn", 0),
    (Pong, Side.MEMBER, ".nnncnn", 0),
    (NewEpoch, Side.MEMBER, ".lcm", _HEADERS),
    (Reconfigure, Side.NODE, "hnmn", 0),
    (Reconfigured, Side.CLIENT, "hnn?t", WHY_MAX),
    (FetchRecords, Side.NODE, "hnhnnHn", 0),
    (FetchedRecords, Side.CLIENT, "hnh?nr", BODY_MAX),
    (Denied, Side.CLIENT, "hnt", WHY_MAX),
    (AskStatus, Side.NODE, "hn", 0),
    (TellStatus, Side.CLIENT, "hnb", STATUS_MAX),
)
_PRIVILEGED = (Reconfigure, Reconfigured)
"""Said by people, with the members' key: what a client is given must not suffice to change the members."""


class Kind:
    """How one class of message is packed."""

    def __init__(self, tag: int, message: type[Any], side: Side, codes: str, blob_max: int) -> None:
        self.tag = tag
        self.message = message
        self.side = side
        self.is_privileged = side is Side.MEMBER or message in _PRIVILEGED
        """It takes the members' key."""
        self.blob_max = blob_max
        """Bytes of its byte string; 0: it has none."""
        self._fields = tuple([_FIELDS[code] for code in codes if code != "."])
        self._are_words = all(field.take is None for field in self._fields)
        """Its fields are its words, in this order."""
        self.has_view = "." in codes
        self._common = 3 if side is Side.MEMBER else int(self.has_view)
        self._own = slice(3, None) if side is Side.MEMBER else slice(len(self._fields))
        assert len(message._fields) == len(self._fields) + self._common, message
        assert any(field.has_bytes for field in self._fields) == (blob_max > 0), message
        numbers = [is_number for field in self._fields for is_number in field.numbers]
        packed = Struct("<" + "".join([field.format for field in self._fields]))
        self.pack = packed.pack
        self.unpack = packed.unpack
        self.root = struct_pointer(_HEAD_WORDS + len(numbers), 1 if blob_max else 0)
        self.end = HEAD.size + packed.size
        """Where its words end: there is the pointer to its byte string, if it has one."""
        self.high_bits = sum([1 << 64 * at + 63 for at, is_number in enumerate(numbers) if is_number])
        """The highest bit of each number, over all words as one little-endian integer."""

    def take(self, message: Any) -> tuple[Sequence[Any], bytes]:
        """Return a message's words and bytes."""
        own = message[self._own]
        if self._are_words:
            return own, b""
        words: list[Any] = []
        blob = b""
        for field, value in zip(self._fields, own, strict=True):
            if field.take is None:
                words.append(value)
            else:
                blob = field.take(words, value) or blob
        return words, blob

    def common(self, message: Any) -> tuple[int, int, int]:
        """Return a message's src, epoch and view."""
        if self.side is Side.MEMBER:
            return message[2], message[0], message[1]
        return 0, 0, message[-1] if self._common else 0

    def make(self, src: int, epoch: int, view: int, words: Sequence[Any], blob: bytes) -> Any:
        """Return the message. Raises ValueError for a value that nobody sends."""
        if not self._are_words:
            own: list[Any] = []
            at = 0
            for field in self._fields:
                after = at + field.values
                own.append(words[at] if field.make is None else field.make(words[at:after], blob))
                at = after
            words = own
        if self.side is Side.MEMBER:
            return make(self.message, (epoch, view, src, *words))
        return make(self.message, (*words, view) if self._common else tuple(words))


KINDS: tuple[Kind, ...] = tuple([Kind(tag, *line) for tag, line in enumerate(_LINES)])
BY_CLASS = {kind.message: kind for kind in KINDS}
