"""Messages as bytes: authenticated, bounded, and of one encoding each (``schemas/vsr.capnp``).

A node encodes what its replica sends and decodes what arrives; :class:`Dropped` names why something that arrived never
reaches the replica. Nothing that anybody sends can do more: lengths are bounded before they are believed, and what is
not exactly a message is none.

Authenticity is one secret of the cluster, from which two keys come: one for what members say to each other, one for
what they say to clients, so that a client cannot speak as a member. The key does not tell one member from another:
members are trusted not to lie (crashes, not treason), networks are not. Old messages may come again; the protocol
bears that.

Headers and entries travel as the bytes that were hashed, and are checked against their checksums here.

What a kind of message is made of, :mod:`veritydb.vsr.kinds` says.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from veritydb.packing import PADDING, blob_pointer
from veritydb.vsr.entry import BODY_MAX, HEADER_SIZE, OP_MAX, BadEntry, Entry
from veritydb.vsr.kinds import BY_CLASS, HEAD, KINDS, Kind, Side

if TYPE_CHECKING:
    from veritydb.vsr.messages import Message

VERSION = 1
SECRET_SIZE = 32

_FRAME = Struct("<4sI16s32s")
_SIGNED = Struct("<4sI16s")
FRAME_SIZE = _FRAME.size
"""Bytes before a message: whoever reads from a stream reads these first, and asks :func:`message_size`."""
_PEER = b"VSRP"
_CLIENT = b"VSRC"

_TABLE_SIZE = 16
_POINTER = Struct("<Q")
MESSAGE_MAX = _TABLE_SIZE + 24 * 8 + HEADER_SIZE + BODY_MAX


class DropReason(Enum):
    """Why something that arrived is not heard."""

    NOT_A_FRAME = "it does not begin as a frame does"
    OVERSIZED = "it is longer than any message"
    CUT = "it is not as long as it says"
    FOREIGN = "it is of another cluster"
    FORGED = "its authenticity code is not that of its bytes"
    VERSION = "it is of a version that this program does not know"
    UNKNOWN_KIND = "there is no such kind of message"
    MISPLACED = "its kind is not for whom it was sent to"
    MALFORMED = "its bytes are not laid out as its kind's are"
    OUT_OF_RANGE = "a field has a value that nobody sends"
    BAD_ENTRY = "an entry or header in it does not have its checksum"
    FROM_OURSELVES = "it says that we sent it"


class Dropped(Exception):
    """Bytes that are no message for us; nothing became of them."""

    def __init__(self, reason: DropReason, detail: str = "") -> None:
        super().__init__(f"a message was dropped: {reason.value}{f' ({detail})' if detail else ''}")
        self.reason = reason


class Keys(NamedTuple):
    """What authenticates messages."""

    client: bytes
    """Known to members and clients."""
    peer: bytes | None
    """Known to members only."""


def derive_keys(secret: bytes) -> Keys:
    """Return the keys that come from a cluster's secret, 32 random bytes. A client is given ``client`` alone."""
    if len(secret) != SECRET_SIZE:
        raise ValueError(f"a cluster's secret has {SECRET_SIZE} bytes, not {len(secret)}")
    return Keys(
        client=blake3(secret, derive_key_context="VerityDB 2026 messages between members and clients").digest(),
        peer=blake3(secret, derive_key_context="VerityDB 2026 messages between members").digest(),
    )


def encode(message: Message, *, cluster: bytes, keys: Keys) -> bytes:
    """Return the bytes of a message, frame and all."""
    kind = BY_CLASS[type(message)]
    words, blob = kind.take(message)
    src, epoch, view = kind.common(message)
    end = kind.end + 8 if kind.blob_max else kind.end
    size = (end + len(blob) + 7 >> 3) - 1
    data = HEAD.pack(0, size, kind.root, VERSION, kind.tag, src, epoch, view) + kind.pack(*words)
    if kind.blob_max:
        assert len(blob) <= kind.blob_max, f"{len(blob)} bytes in a {kind.message.__name__}"
        data = b"".join((data, _POINTER.pack(blob_pointer(0, len(blob))), blob, PADDING[-len(blob) & 7]))
    key = keys.peer if kind.is_privileged else keys.client
    assert key is not None, "a client does not speak as a member"
    signed = _SIGNED.pack(_PEER if kind.is_privileged else _CLIENT, len(data), cluster)
    return b"".join((signed, blake3(signed + data, key=key).digest(), data))


def message_size(frame: bytes) -> int:
    """Return how many bytes follow a frame. Raises Dropped if it is not one: then the rest of its stream is lost."""
    magic, size, _, _ = _FRAME.unpack(frame)
    if magic not in (_PEER, _CLIENT):
        raise Dropped(DropReason.NOT_A_FRAME)
    if size > MESSAGE_MAX:
        raise Dropped(DropReason.OVERSIZED, f"{size} bytes")
    return int(size)


def decode(data: bytes, *, cluster: bytes, keys: Keys, member: int | None = None) -> Message:
    """Return the message in ``data``, frame and all. Raises Dropped.

    ``member`` is who listens: a member's id, or None for a client.
    """
    if len(data) < FRAME_SIZE:
        raise Dropped(DropReason.CUT, f"{len(data)} bytes")
    size = message_size(data[:FRAME_SIZE])
    if size != len(data) - FRAME_SIZE:
        raise Dropped(DropReason.CUT, f"{len(data) - FRAME_SIZE} of {size} bytes")
    magic, _, of, code = _FRAME.unpack_from(data)
    if of != cluster:
        raise Dropped(DropReason.FOREIGN)
    key = keys.peer if magic == _PEER else keys.client
    if key is None:
        raise Dropped(DropReason.MISPLACED)
    message = data[FRAME_SIZE:]
    # Compared as one compares two public things: whoever could time this could as well make the replica answer.
    if blake3(data[: _SIGNED.size] + message, key=key).digest() != code:
        raise Dropped(DropReason.FORGED)
    kind, decoded = _decode(message)
    if kind.is_privileged != (magic == _PEER) or (member is None) != (kind.side is Side.CLIENT):
        raise Dropped(DropReason.MISPLACED, kind.message.__name__)
    if kind.side is Side.MEMBER and decoded.src == member:
        raise Dropped(DropReason.FROM_OURSELVES, kind.message.__name__)
    entry: Entry | None = getattr(decoded, "entry", None)
    if entry is not None and entry.header.cluster != cluster:
        raise Dropped(DropReason.FOREIGN, "its entry is")
    result: Message = decoded
    return result


def _decode(message: bytes) -> tuple[Kind, Any]:
    size = len(message)
    if size < HEAD.size:
        raise Dropped(DropReason.MALFORMED, f"{size} bytes")
    zero, words, root, version, tag, src, epoch, view = HEAD.unpack_from(message)
    if version != VERSION:
        raise Dropped(DropReason.VERSION, f"{version}; this program reads {VERSION}")
    if tag >= len(KINDS):
        raise Dropped(DropReason.UNKNOWN_KIND, str(tag))
    kind = KINDS[int(tag)]
    at = kind.end
    if zero or (words + 1) * 8 != size or root != kind.root or size < at:
        raise Dropped(DropReason.MALFORMED, kind.message.__name__)
    blob = b""
    if kind.blob_max:
        blob = _read_blob(message, at, kind)
    elif size != at:
        raise Dropped(DropReason.MALFORMED, f"{size - at} bytes behind a {kind.message.__name__}")
    fields = message[HEAD.size : at]
    if epoch > OP_MAX or view > OP_MAX or int.from_bytes(fields, "little") & kind.high_bits:
        raise Dropped(DropReason.OUT_OF_RANGE, kind.message.__name__)
    if kind.side is not Side.MEMBER and (src or epoch or (view and not kind.has_view)):
        raise Dropped(DropReason.OUT_OF_RANGE, kind.message.__name__)
    try:
        return kind, kind.make(src, epoch, view, kind.unpack(fields), blob)
    except BadEntry as error:
        raise Dropped(DropReason.BAD_ENTRY, str(error)) from error
    except ValueError as error:
        raise Dropped(DropReason.OUT_OF_RANGE, str(error)) from error


def _read_blob(message: bytes, at: int, kind: Kind) -> bytes:
    begin = at + 8
    if len(message) < begin:
        raise Dropped(DropReason.MALFORMED, kind.message.__name__)
    (pointer,) = _POINTER.unpack_from(message, at)
    length = pointer >> 35
    end = begin + length
    if (
        pointer != blob_pointer(0, length)
        or len(message) != end + (-length & 7)
        or message[end:] != PADDING[-length & 7]
    ):
        raise Dropped(DropReason.MALFORMED, kind.message.__name__)
    if length > kind.blob_max:
        raise Dropped(DropReason.OUT_OF_RANGE, f"{length} bytes in a {kind.message.__name__}")
    return message[begin:end]


class Wire:
    """One member's, or one client's, way of speaking, with a count of what it did not hear."""

    def __init__(self, *, cluster: bytes, keys: Keys, member: int | None = None) -> None:
        self._cluster = cluster
        self._keys = keys
        self._member = member
        self.dropped: Counter[DropReason] = Counter()

    def encode(self, message: Message) -> bytes:
        """Return the bytes of a message."""
        return encode(message, cluster=self._cluster, keys=self._keys)

    def hear(self, data: bytes) -> Message:
        """Return the message in ``data``. Raises Dropped, and counts it, if there is none for us."""
        try:
            return decode(data, cluster=self._cluster, keys=self._keys, member=self._member)
        except Dropped as dropped:
            self.dropped[dropped.reason] += 1
            raise

    def decode(self, data: bytes) -> Message | None:
        """The same, with None for what is not for us."""
        try:
            return self.hear(data)
        except Dropped:
            return None
