"""All that a node has decided: streams and their heads, what became of transactions, clients' sessions.

A value: :mod:`veritydb.kernel.machine` makes a new one of it and a command, and the two share what did not change
(:class:`immutables.Map`, a hash array mapped trie). So ten thousand versions cost little more than one. Nothing
iterates over a map in the map's own order, which differs between processes.

Bounds. ``STREAMS_MAX`` streams, ``SESSIONS_MAX`` sessions of one reply each, and ids: those of the last ``IDS_OPS``
ops, fewer if there are more than ``IDS_MAX``, of whole ops at a time, the oldest first. A *tombstone* is an id that was
resolved before a transaction had it. It outlives both bounds for as long as the append it forbids could still be
accepted, that is while the stream ends where it ended when the tombstone was placed; of tombstones there are at most
``TOMBSTONES_MAX``.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from blake3 import blake3
from immutables import Map

from veritydb.chain import ZERO_HASH
from veritydb.kernel.commands import Placement

STREAMS_MAX = 1 << 16
SESSIONS_MAX = 1024
IDS_MAX = 1 << 16
IDS_OPS = 1 << 20
IDS_PER_OP_MAX = 1 << 16
"""Ids that one op adds: a batch that would add more has some of its appends refused."""
TOMBSTONES_MAX = 4096


class Head(NamedTuple):
    """The end of a stream: what the next record builds on."""

    next_offset: int
    hash: bytes
    """32 bytes; zero if there is no record."""


class About(NamedTuple):
    """What is said of a stream and hardly ever changes."""

    number: int
    """In the order in which streams were created, from 0."""
    placement: Placement
    created: int
    """Cluster time, microseconds since 1970-01-01 UTC."""
    name: str
    """For people; may be empty."""
    dropped: int
    """Cluster time; 0: it was not."""


class Stream(NamedTuple):
    """One stream. Its records are kept elsewhere."""

    about: About
    next_offset: int
    hash: bytes
    timestamp: int
    """Of the last record, as its writer gave it."""
    generation: int


class Fate(NamedTuple):
    """What became of a transaction."""

    op: int
    """That decided it, or last kept it from being dropped."""
    offset: int
    """Its own; of a tombstone, where the stream ended."""
    hash: bytes
    """Of its record; zero: a tombstone."""

    @property
    def is_tombstone(self) -> bool:
        """Whether it is not committed, and never will be."""
        return self.hash == ZERO_HASH


class Session(NamedTuple):
    """A client's session: the last request and the reply to it."""

    session: int
    number: int
    checksum: bytes
    """Of the request's command."""
    reply: bytes
    op: int
    """That executed it."""


class State(NamedTuple):
    """Between two ops."""

    op: int
    """The last one applied."""
    timestamp: int
    """Its."""
    streams: Map[bytes, Stream]
    numbers: Map[int, bytes]
    """Streams by number."""
    sessions: Map[bytes, Session]
    """By client."""
    ids: Map[bytes, Fate]
    """By stream and id, 32 bytes."""
    recent: Map[int, bytes]
    """By op: the ids that it decided, packed as a snapshot has them (``veritydb.kernel.snapshot``)."""
    oldest: int
    """The first op whose ids have not been dropped."""
    forgotten: Map[bytes, int]
    """By stream: ids of transactions below this offset may have been dropped. No entry: none."""
    tombstones: int


EMPTY = State(0, 0, Map(), Map(), Map(), Map(), Map(), 1, Map(), 0)


class Verdict(Enum):
    """What a request is to a session, if nothing is to be sent again."""

    NEW = auto()
    """Execute it."""
    CHANGED = auto()
    """A request with its number was executed, and had another command."""
    OLD = auto()
    """The session has had later ones."""
    AHEAD = auto()
    """The session has not had the one before."""
    UNKNOWN = auto()
    """There is no such session."""


class Duplicate(NamedTuple):
    """It was executed: the reply."""

    reply: bytes


Standing: TypeAlias = Verdict | Duplicate


def command_checksum(command: bytes) -> bytes:
    """Return the 16 bytes that tell one command from another."""
    return blake3(command).digest(length=16)


def standing(known: Session | None, session: int, number: int, checksum: bytes) -> Standing:
    """Return what a request is to the session that its client has, if any."""
    if known is None:
        return Verdict.NEW if session == 0 and number == 0 else Verdict.UNKNOWN
    if session != known.session and (session or number):
        return Verdict.UNKNOWN
    if number == known.number:
        return Duplicate(known.reply) if checksum == known.checksum else Verdict.CHANGED
    if number < known.number:
        return Verdict.OLD
    return Verdict.NEW if number == known.number + 1 else Verdict.AHEAD


def lookup(state: State, client: bytes, session: int, number: int, command: bytes) -> Standing:
    """Return what applying a request now would find, so that a primary need not log what is no news."""
    return standing(state.sessions.get(client), session, number, command_checksum(command))


def head(state: State, stream: bytes) -> Head | None:
    """Return the end of a stream; None if there is no such stream, or not any more."""
    known = state.streams.get(stream)
    return None if known is None or known.about.dropped else Head(known.next_offset, known.hash)


def session(state: State, client: bytes) -> Session | None:
    """Return a client's session."""
    return state.sessions.get(client)
