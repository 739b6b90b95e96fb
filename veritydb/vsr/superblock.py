"""What a member durably knows of itself: who it is, which view it is in, whose log it has, and its checkpoint.

It is kept in four copies, written one after the other by the storage. Choosing among them (:func:`open_copies`) is a
vote, not "the newest that can be read": a single copy of a write that was never finished would take a member to a state
that it has never promised anybody to be in, and a single rotten one must not take it back.

Bytes of a copy: magic, the copy's number, length, checksum, and a message ``Superblock``
(``schemas/superblock.capnp``). The number stands outside of the checksum, so that copies of one superblock have one
checksum.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple

from veritydb import schemas
from veritydb.errors import LogDamaged
from veritydb.messages import read_message
from veritydb.vsr.entry import CHECKSUM_SIZE, NO_CHECKSUM, BadEntry, Header, checksum, read_header
from veritydb.vsr.messages import Checkpoint
from veritydb.vsr.quorums import MEMBERS_MAX

COPIES = 4
COPY_SIZE = 16 << 10
"""Bytes that a copy may have."""
OPEN_QUORUM = 2
"""Copies that must agree for a superblock to count."""
WRITE_QUORUM = 3
"""Copies that must be read back alike before a write counts."""

_MAGIC = b"VSRSUPER"
_PREFIX = Struct("<8sII16s")
_HEADERS_MAX = 64


class SuperblockDamaged(Exception):
    """The copies do not tell what this member is; it must not take part. Says what was found."""


class Superblock(NamedTuple):
    """One state of a member."""

    cluster: bytes
    member: int
    sequence: int
    """Rises by one with each write."""
    parent: bytes
    """Checksum of the superblock before."""
    epoch: int
    members: tuple[int, ...]
    """Voting members, in the order in which they take turns as primary."""
    view: int
    log_view: int
    """The view whose log this member has."""
    commit_max: int
    """At least so much is committed."""
    checkpoint: Checkpoint
    headers: tuple[Header | None, ...]
    """The end of the log, newest first, as it was when ``log_view`` started or, if ``view`` is higher, was left."""
    head: int
    """The op of ``headers[0]``."""


def encode(block: Superblock) -> bytes:
    """Return the bytes of copy 0; :func:`as_copy` makes the others of it."""
    message: Any = schemas.superblock.Superblock.new_message()
    message.cluster = block.cluster
    message.member = block.member
    message.sequence = block.sequence
    message.parent = block.parent
    message.epoch = block.epoch
    message.members = list(block.members)
    message.view = block.view
    message.logView = block.log_view
    message.commitMax = block.commit_max
    point = message.checkpoint
    point.op, point.checksum, point.root, point.size = block.checkpoint
    message.headers = [header.raw if header is not None else b"" for header in block.headers]
    message.head = block.head
    body: bytes = message.to_bytes()
    data = _PREFIX.pack(_MAGIC, 0, len(body), checksum(body)) + body
    if len(data) > COPY_SIZE:
        raise ValueError(f"a superblock of {len(data)} bytes does not fit into {COPY_SIZE}")
    return data


def as_copy(data: bytes, number: int) -> bytes:
    """Return ``data``, which :func:`encode` made, as copy ``number``."""
    return data[:8] + number.to_bytes(4, "little") + data[12:]


def superblock_checksum(data: bytes) -> bytes:
    """Return the checksum in ``data``, which :func:`encode` made."""
    return data[16:32]


class Copy(NamedTuple):
    """A copy whose checksum fits."""

    number: int
    checksum: bytes
    body: bytes


def read_copy(data: bytes | None) -> Copy | None:
    """Return the copy in ``data``, or None if what is there is not one."""
    if data is None or len(data) < _PREFIX.size:
        return None
    magic, number, length, own = _PREFIX.unpack_from(data)
    body = data[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or number >= COPIES or length > COPY_SIZE or len(body) != length or checksum(body) != own:
        return None
    return Copy(number, own, body)


def open_copies(copies: Sequence[bytes | None]) -> tuple[Superblock, bool]:
    """Return the superblock that the copies agree on, and whether all of them do.

    Raises SuperblockDamaged: fewer than two agree, two different ones have one sequence number, or a later one
    contradicts an earlier one.
    """
    numbers: dict[bytes, set[int]] = {}
    bodies: dict[bytes, bytes] = {}
    for data in copies:
        copy = read_copy(data)
        if copy is not None:
            # By the number that the copy says: one that was misdirected into another's place counts once.
            numbers.setdefault(copy.checksum, set()).add(copy.number)
            bodies[copy.checksum] = copy.body
    blocks = {own: _decode(body) for own, body in bodies.items()}
    if len({block.sequence for block in blocks.values()}) != len(blocks):
        raise SuperblockDamaged("two different superblocks have one sequence number")
    if len({(block.cluster, block.member) for block in blocks.values()}) > 1:
        raise SuperblockDamaged("the copies are of different clusters or members")
    agreed = [own for own, held in numbers.items() if len(held) >= OPEN_QUORUM]
    if not agreed:
        raise SuperblockDamaged(f"no two of {len(copies)} copies agree ({len(blocks)} can be read)")
    own = max(agreed, key=lambda checksum: blocks[checksum].sequence)
    block = blocks[own]
    for other_checksum, other in blocks.items():
        if other.sequence == block.sequence - 1 and block.parent != other_checksum:
            raise SuperblockDamaged("the newest superblock does not follow the one before")
        if other.sequence < block.sequence and (
            other.view > block.view
            or (other.epoch, other.log_view) > (block.epoch, block.log_view)
            or other.checkpoint.op > block.checkpoint.op
            or other.epoch > block.epoch
        ):
            raise SuperblockDamaged("the newest superblock knows less than an older one")
    return block, len(numbers[own]) == COPIES


def _decode(body: bytes) -> Superblock:
    try:
        return read_message(schemas.superblock.Superblock, body, "superblock", _read)
    except (LogDamaged, BadEntry, ValueError) as error:
        raise SuperblockDamaged(f"a superblock's bytes are whole and make no sense: {error}") from error


def _read(message: Any) -> Superblock:
    point = message.checkpoint
    raw_headers = [bytes(raw) for raw in message.headers]
    block = Superblock(
        cluster=bytes(message.cluster),
        member=message.member,
        sequence=message.sequence,
        parent=bytes(message.parent),
        epoch=message.epoch,
        members=tuple(message.members),
        view=message.view,
        log_view=message.logView,
        commit_max=message.commitMax,
        checkpoint=Checkpoint(point.op, bytes(point.checksum), bytes(point.root), point.size),
        headers=tuple(read_header(raw) if raw else None for raw in raw_headers),
        head=message.head,
    )
    if (
        len(block.cluster) != 16
        or len(block.parent) != CHECKSUM_SIZE
        or not 1 <= len(block.members) <= MEMBERS_MAX
        or len(set(block.members)) != len(block.members)
        or block.log_view > block.view
        or not 1 <= len(block.headers) <= _HEADERS_MAX
        or block.headers[0] is None
        or any(header is not None and header.op != block.head - i for i, header in enumerate(block.headers))
    ):
        raise ValueError("a field is out of range")
    return block


def first_superblock(
    *,
    cluster: bytes,
    member: int,
    members: tuple[int, ...],
    root: Header,
    snapshot: bytes,
    epoch: int = 0,
    view: int = 0,
) -> Superblock:
    """Return the superblock of a new member, whose checkpoint is op 0 with the empty state ``snapshot``.

    ``view`` above 0 is for a member whose disk was lost: it takes no part in any view in which its predecessor may
    have promised something (``docs/internals/vsr.md``, "A disk is lost"). ``epoch`` and ``members`` are those of the
    time: with older ones it could form a quorum of an epoch that is over, together with others who have missed its end.
    """
    return Superblock(
        cluster=cluster,
        member=member,
        sequence=1,
        parent=NO_CHECKSUM,
        epoch=epoch,
        members=members,
        view=view,
        log_view=0,
        commit_max=0,
        checkpoint=Checkpoint(0, root.checksum, checksum(snapshot), len(snapshot)),
        headers=(root,),
        head=0,
    )
