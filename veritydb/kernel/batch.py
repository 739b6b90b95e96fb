"""The body of an op: requests of many clients, ``Batch`` in ``schemas/kernel.capnp``.

Packed by position and read the same way: every append of every client passes here, on every node.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, Protocol

from veritydb.chain import Malformed
from veritydb.packing import PADDING
from veritydb.tuples import make

REQUESTS_MAX = 1024
"""Requests of one op."""


class BadBatch(Malformed):
    """The body of an op is not a batch: it was made by something else than :func:`encode_batch`."""


class BatchRequest(NamedTuple):
    """One command of a client's session."""

    client: bytes
    """16 bytes."""
    session: int
    number: int
    command: bytes


class RequestLike(Protocol):
    """What :func:`encode_batch` needs of a request; ``veritydb.vsr.messages.Request`` has it."""

    @property
    def client(self) -> bytes:
        """16 bytes."""
        ...

    @property
    def session(self) -> int:
        """The op that registered it."""
        ...

    @property
    def number(self) -> int:
        """Of the request."""
        ...

    @property
    def command(self) -> bytes:
        """For the kernel."""
        ...


BODY_MAX = 8 << 20
"""Bytes of one batch; ``veritydb.vsr.entry.BODY_MAX`` is the same."""

# Segment table, root (one pointer), pointer to the list right behind it, tag of the list: 4 words of data, 1 pointer.
_HEAD = Struct("<IIQQQ")
_REQUEST = Struct("<16sQQQ")
_ROOT = 1 << 48
_TAG = 1 << 48 | 4 << 32
_STEP = 5

BATCH_OVERHEAD = _HEAD.size
REQUEST_OVERHEAD = _REQUEST.size
COMMAND_MAX = BODY_MAX - BATCH_OVERHEAD - REQUEST_OVERHEAD
"""Bytes of one command: alone, it fits into a batch."""

_BLOB = 2 << 32 | 1  # The low words of the pointers to a byte string and to a list of structs.
_COMPOSITE = 7 << 32 | 1


def batch_size(commands: Sequence[bytes]) -> int:
    """Return the bytes of a batch of such commands."""
    padded = sum(len(command) + 7 & ~7 for command in commands)
    return BATCH_OVERHEAD + REQUEST_OVERHEAD * len(commands) + padded


def encode_batch(requests: Sequence[RequestLike]) -> bytes:
    """Return the body of an op that executes ``requests`` in their order.

    There are 1 to ``REQUESTS_MAX`` of them, each with a command, and ``batch_size`` is at most ``BODY_MAX``.
    """
    count = len(requests)
    assert 0 < count <= REQUESTS_MAX
    pack = _REQUEST.pack
    out = [b""]
    blobs: list[bytes] = []
    at = _STEP * count - _STEP  # Words between a request's pointer and where its command begins.
    for request in requests:
        command = request.command
        length = len(command)
        assert length
        out.append(pack(request.client, request.session, request.number, length << 35 | at << 2 | _BLOB))
        blobs += (command, PADDING[-length & 7])
        at += (length + 7 >> 3) - _STEP
    # ``at`` counts from behind the last pointer's successor: what lies behind the list is at + _STEP words.
    words = 3 + _STEP * count + at + _STEP
    out[0] = _HEAD.pack(0, words, _ROOT, _STEP * count << 35 | _COMPOSITE, _TAG | count << 2)
    return b"".join(out + blobs)


def decode_batch(body: bytes) -> tuple[BatchRequest, ...]:
    """Return the requests in ``body``. Raises BadBatch if it is not what :func:`encode_batch` makes."""
    size = len(body)
    if not BATCH_OVERHEAD < size <= BODY_MAX:
        raise BadBatch(f"a batch of {size} bytes")
    zero, words, root, pointer, tag = _HEAD.unpack_from(body)
    count = (pointer >> 35) // _STEP
    if (
        zero
        or (words + 1) * 8 != size
        or root != _ROOT
        or pointer != (_STEP * count << 35 | _COMPOSITE)
        or tag != (_TAG | count << 2)
        or not 0 < count <= REQUESTS_MAX
    ):
        raise BadBatch("the bytes do not begin as a batch does")
    begin = BATCH_OVERHEAD + REQUEST_OVERHEAD * count
    if begin > size:
        raise BadBatch(f"{count} requests in {size} bytes")
    requests: list[BatchRequest] = []
    at = _STEP * count - _STEP
    for client, session, number, pointer in _REQUEST.iter_unpack(body[BATCH_OVERHEAD:begin]):
        length = pointer >> 35
        end = begin + length
        padding = -length & 7
        if (
            pointer != (length << 35 | at << 2 | _BLOB)
            or not length
            or end + padding > size
            or body[end : end + padding] != PADDING[padding]
        ):
            raise BadBatch(f"the command of request {len(requests)} is not where it should be")
        requests.append(make(BatchRequest, (client, session, number, body[begin:end])))
        begin = end + padding
        at += (length + 7 >> 3) - _STEP
    if begin != size:
        raise BadBatch(f"{size - begin} bytes behind the last request")
    return tuple(requests)
