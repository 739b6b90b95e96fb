"""What goes into a replica and what comes out: the whole of its interface to the world.

The driver's contract, which :mod:`veritydb.simulation` and :mod:`veritydb.cluster.node` both keep:

1. Open the storage, hand its image to :class:`~veritydb.vsr.replica.Replica`, carry out what :meth:`start` returns.
2. Call ``step(now, event)`` for one event at a time, and carry out the effects in order. Never two at once.
3. ``Send`` may be lost, repeated, delayed, reordered; what arrives is what was sent (checksum, authenticity, cluster
   are checked before), from whom it says.
4. ``Write``: when all of it is durable, ``WriteDone(token, ok=True)``; if any call failed, ``ok=False``, and the
   replica halts: a sync that failed is final. Writes may finish in any order. Until ``WriteDone`` nothing is promised
   of the bytes.
5. ``Read``: ``ReadDone(token, data)`` with the bytes as they are on disk now, or None if they cannot be had.
6. ``Tick`` at a steady pace (``TICK_MS``); time is counted in ticks and used for liveness only. ``now`` becomes the
   timestamp of ops, and nothing else.
7. ``Committed``: keep what its outputs say, in order; ``Retained(op)`` when all of it up to ``op`` is durable. A
   checkpoint waits for that, and soon everybody for the checkpoint: :attr:`Replica.retention_due` says when to hurry.
   After a restart ops come again: keeping twice must be harmless.
8. ``Halt``: nothing of this process's replica may speak again. Restarting it from disk is allowed, and is decided by
   people for the reasons named in ``docs/internals/vsr.md``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from veritydb.kernel import Output
from veritydb.vsr.entry import Header
from veritydb.vsr.messages import ClientMessage, PeerMessage, ToClient

TICK_MS = 10


class Zone(IntEnum):
    """Where on disk."""

    SUPERBLOCK = 1
    """Key 0. One value, kept in four copies by the storage (:mod:`veritydb.vsr.superblock`)."""
    ENTRY = 2
    """Key: slot. Header and body of the op there."""
    HEADER = 3
    """Key: slot. The header again, in a sector of its own, written when the entry is durable."""
    SNAPSHOT = 4
    """Key: root, 16 bytes. Whole or not at all."""


Key: TypeAlias = "int | bytes"


class Tick(NamedTuple):
    """Some time has passed."""


class Arrived(NamedTuple):
    """A message."""

    message: PeerMessage | ClientMessage


class WriteDone(NamedTuple):
    """A write has ended."""

    token: int
    ok: bool


class ReadDone(NamedTuple):
    """A read has ended."""

    token: int
    data: bytes | None


class Retained(NamedTuple):
    """Outputs of ops up to this one are durable outside of the journal."""

    op: int


class StepDown(NamedTuple):
    """The process is about to end: if this is the primary, let another one take its place now, not after a silence."""


class Gone(NamedTuple):
    """A member's process has ended, as far as can be seen from here: nobody listens at its address any more.

    A hint, which may be wrong: it brings forward what silence would bring about.
    """

    member: int


Event: TypeAlias = Tick | Arrived | WriteDone | ReadDone | Retained | StepDown | Gone


class Send(NamedTuple):
    """To a member."""

    dst: int
    message: PeerMessage


class Answer(NamedTuple):
    """To a client, by whatever way its request came."""

    client: bytes
    message: ToClient


class Write(NamedTuple):
    """Make durable."""

    zone: Zone
    key: Key
    data: bytes
    token: int


class Read(NamedTuple):
    """Look up."""

    zone: Zone
    key: Key
    token: int


class Remove(NamedTuple):
    """A snapshot that no superblock names any more."""

    zone: Zone
    key: Key


class Committed(NamedTuple):
    """An op is committed and applied to the kernel."""

    header: Header
    outputs: tuple[Output, ...]


class Halt(NamedTuple):
    """Stop: going on would be guessing."""

    reason: str


Effect: TypeAlias = Send | Answer | Write | Read | Remove | Committed | Halt


class Image(NamedTuple):
    """What a member's storage held when it was opened; bytes as they were read, None where they could not be."""

    superblock: tuple[bytes | None, ...]
    """The four copies."""
    entries: tuple[bytes | None, ...]
    """Slot by slot."""
    headers: tuple[bytes | None, ...]
    snapshots: dict[bytes, bytes]
    """By root, those whose bytes could be read."""
