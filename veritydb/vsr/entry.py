"""One op of the replicated log as bytes: a header of fixed size, and a body.

A header names its predecessor by checksum, so headers form a chain, and a chain that connects to a header one trusts
is one's log. What is compared, hashed and kept is always the bytes as they were stored or received. Its fields are
``EntryHeader`` in ``schemas/vsr.capnp``, a Cap'n Proto message of fixed-size fields whose bytes have one possible
layout, so it is packed by position; a test reads it back through the schema.

``view`` is the view in which the op was first prepared, and stays that when a later primary proposes it again: two
entries with one (view, op) would be a fork.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from blake3 import blake3

VERSION = 1
HEADER_SIZE = 128
BODY_MAX = 8 << 20
"""Bytes of one body. A record that does not fit has its parts made durable before the append that names them."""
CHECKSUM_SIZE = 16
NO_CHECKSUM = bytes(CHECKSUM_SIZE)

# A message of one segment: the segment table (count - 1, words), then the root's struct pointer (data words << 32).
_PREFACE = Struct("<IIQ").pack(0, 15, 14 << 32)
_FIELDS = Struct("<16s16s16sQQQQQIHH")
_HEADER = Struct(f"<16s16s{_FIELDS.size}s")
assert _HEADER.size == HEADER_SIZE == len(_PREFACE) + 14 * 8

OP_MAX = (1 << 63) - 1


class Kind(IntEnum):
    """What an op is for."""

    ROOT = 1
    """Op 0 of a cluster, made of its id; every log begins with it."""
    NOOP = 2
    """Commits what a new view inherited."""
    COMMANDS = 3
    """A batch of clients' requests, for the kernel."""
    RECONFIGURE = 4
    """The next members; the last op of its epoch."""


_KINDS = {int(kind): kind for kind in Kind}


class BadEntry(ValueError):
    """Bytes that are not an entry, or not the one their place demands."""


class Header(NamedTuple):
    """What the log knows of an op besides its body."""

    checksum: bytes
    """16 bytes, BLAKE3 over the fields below as stored. Names the op, its body, and all ops before it."""
    body_checksum: bytes
    parent: bytes
    """Checksum of the header of the op before."""
    cluster: bytes
    epoch: int
    view: int
    op: int
    commit: int
    """What the primary knew to be committed when it prepared this."""
    timestamp: int
    """Cluster time, microseconds since 1970-01-01 UTC; never lower than the op's before."""
    size: int
    """Bytes of the body."""
    kind: Kind
    raw: bytes
    """The 128 bytes as stored."""

    def __repr__(self) -> str:  # Short, for traces.
        return f"<op {self.op} view {self.view} {self.kind.name} {self.checksum.hex()[:6]}>"


class Entry(NamedTuple):
    """An op."""

    header: Header
    body: bytes

    @property
    def raw(self) -> bytes:
        """As stored: header, body."""
        return self.header.raw + self.body


def checksum(data: bytes) -> bytes:
    """Return the 16 bytes that stand for ``data``."""
    return blake3(data).digest(length=CHECKSUM_SIZE)


def make_entry(
    *,
    kind: Kind,
    cluster: bytes,
    epoch: int,
    view: int,
    op: int,
    parent: bytes,
    commit: int,
    timestamp: int,
    body: bytes,
) -> Entry:
    """Return a new entry with its checksums."""
    body_checksum = checksum(body)
    fields = _FIELDS.pack(body_checksum, parent, cluster, epoch, view, op, commit, timestamp, len(body), kind, VERSION)
    own = checksum(fields)
    raw = _HEADER.pack(_PREFACE, own, fields)
    header = Header(own, body_checksum, parent, cluster, epoch, view, op, commit, timestamp, len(body), kind, raw)
    return Entry(header, body)


def root_entry(cluster: bytes) -> Entry:
    """Return op 0 of a cluster: the same on every member, so that logs of different clusters never connect."""
    return make_entry(
        kind=Kind.ROOT, cluster=cluster, epoch=0, view=0, op=0, parent=NO_CHECKSUM, commit=0, timestamp=0, body=b""
    )


def read_header(raw: bytes) -> Header:
    """Return the header in ``raw``. Raises BadEntry if a byte of it is not what was written."""
    if len(raw) != HEADER_SIZE:
        raise BadEntry(f"a header has {HEADER_SIZE} bytes, not {len(raw)}")
    preface, own, fields = _HEADER.unpack(raw)
    if preface != _PREFACE:
        raise BadEntry("the bytes do not begin as a header does")
    if checksum(fields) != own:
        raise BadEntry("the header does not have the checksum that stands with it")
    body_checksum, parent, cluster, epoch, view, op, commit, timestamp, size, kind, version = _FIELDS.unpack(fields)
    if version != VERSION:
        raise BadEntry(f"entry format {version}; this program reads {VERSION}")
    if kind not in _KINDS or op > OP_MAX or view > OP_MAX or commit > op or size > BODY_MAX:
        raise BadEntry("a field of the header is out of range")
    return Header(own, body_checksum, parent, cluster, epoch, view, op, commit, timestamp, size, _KINDS[kind], raw)


def read_entry(raw: bytes) -> Entry:
    """Return the entry in ``raw``, which may be longer. Raises BadEntry if a byte of it is not what was written."""
    header = read_header(raw[:HEADER_SIZE])
    body = raw[HEADER_SIZE : HEADER_SIZE + header.size]
    if len(body) != header.size or checksum(body) != header.body_checksum:
        raise BadEntry("the body does not have the checksum that its header gives")
    return Entry(header, body)
