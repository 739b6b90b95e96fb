"""What all parts of a replica share: its log in memory, its place among the members, its timers.

:class:`Core` knows which headers there are, and which entries are durable here. :mod:`~veritydb.vsr.storing` makes them
so and applies what is committed. The protocols above are :mod:`~veritydb.vsr.normal`, :mod:`~veritydb.vsr.repair`,
:mod:`~veritydb.vsr.view_change` and :mod:`~veritydb.vsr.reconfiguration`, each adding its handlers;
:mod:`~veritydb.vsr.replica` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from veritydb import kernel
from veritydb.vsr.effects import Answer, Effect, Halt, Image, Send
from veritydb.vsr.entry import Header, checksum
from veritydb.vsr.messages import PeerMessage, Suffix, ToClient
from veritydb.vsr.options import Options
from veritydb.vsr.quorums import QUORUMS, Quorums
from veritydb.vsr.recovery import op_cap, recover
from veritydb.vsr.superblock import open_copies


class Status(IntEnum):
    """What a replica is doing."""

    NORMAL = 1
    VIEW_CHANGE = 2
    """It has left a view, and the next one has not started here."""
    RECOVERING_HEAD = 3
    """It does not know where its own log ended, and takes no part until a primary tells."""


class ProtocolError(AssertionError):
    """The replica has broken an invariant of its own: a bug. Nothing it would do next can be trusted."""


class Halted(Exception):
    """The replica has halted, for the reason it says, and takes no further step."""


class CannotStart(Exception):
    """What is on disk does not allow this member to take part. Says why."""


class Core:
    """The log of one member, who the others are, chance and time."""

    def __init__(
        self, *, cluster: bytes, member: int, image: Image, seed: int, options: Options | None = None, release: int = 1
    ) -> None:
        self.options = options = options or Options()
        options.check()
        block, complete = open_copies(image.superblock)
        if block.cluster != cluster or block.member != member:
            raise CannotStart("the files are of another cluster or member")
        journal = recover(image, block, options)

        self.cluster = cluster
        self.member = member
        self.release = release
        self._random = seed & _MASK or 1
        self._out: list[Effect] = []
        self._now = 0
        self.halted: str | None = None
        self.begun = False

        self.members = block.members
        self.epoch = block.epoch
        self.gone: set[int] = set()
        """Members whose process has ended, as far as can be told: others are asked first."""
        self._guide: int | None = None
        """A node that has told of a later epoch, and may have what the members of this one have no more."""
        self.view = block.view
        self.log_view: int = block.log_view
        self.status = Status.VIEW_CHANGE
        self.checkpoint = block.checkpoint
        self.durable_block = block
        self._block_complete = complete

        self.head = journal.head
        self.headers = journal.headers
        """Known headers. From ``chain_min`` to ``head`` without a gap; below ``commit_min`` what is kept for others."""
        self.chain_min = min(journal.headers)
        self.bodies = journal.entries
        self.durable = journal.durable
        """Of each slot, the header of the entry that both places of it hold."""
        self.faulty = journal.faulty
        self.head_uncertain = journal.head_uncertain
        self.durable_to = block.checkpoint.op
        """Every op from the checkpoint to here is durable here, or was: an op above is not acknowledged.

        A slot that is faulty does not do for it. That may be because of an older op, and then the one whose turn it is
        has never been here; :mod:`~veritydb.vsr.recovery` takes that for a proof that nothing above was acknowledged.
        """
        self._unwritten: set[int] = set()
        self._reads: dict[int, tuple[int, int, bytes]] = {}

        self.commit_min = block.checkpoint.op
        self.commit_checksum = block.checkpoint.checksum
        self.commit_max = max(min(block.commit_max, self.head), block.checkpoint.op)
        newest = self.headers[self.head]
        self.commit_max = max(self.commit_max, min(newest.commit, self.head))
        self.state: kernel.State | None = None
        snapshot = image.snapshots.get(block.checkpoint.root)
        if snapshot is not None and checksum(snapshot) == block.checkpoint.root:
            try:
                self.state = kernel.restore(snapshot)
            except kernel.BadSnapshot as error:
                # Its checksum fits, so this is what was written: by another version of this program.
                raise CannotStart(f"the checkpoint's snapshot cannot be read: {error}") from error
        self.snapshot = snapshot if self.state is not None else None
        """Bytes of the checkpoint's snapshot, for those who ask."""
        self.snapshot_before: tuple[bytes, bytes] | None = None
        """Root and bytes of the one before: who has begun to fetch it shall not have to begin anew."""
        self.retained = block.checkpoint.op
        self._timers: dict[str, int] = {}
        for op in range(max(self.chain_min, self.checkpoint.op + 1), self.head + 1):
            if self._durable_checksum(op) != self.headers[op].checksum:
                self._unwritten.add(op)
        self._advance_durable()

    # ---- who is who

    @property
    def quorums(self) -> Quorums:
        """Sizes that count in this epoch."""
        return QUORUMS[len(self.members)]

    def primary_of(self, view: int) -> int:
        """Return the member whose turn it is in ``view``."""
        return self.members[view % len(self.members)]

    @property
    def is_primary(self) -> bool:
        """Whether it is this member's turn."""
        return self.primary_of(self.view) == self.member

    @property
    def is_voter(self) -> bool:
        """Whether this member counts; a learner follows and counts for nothing."""
        return self.member in self.members

    @property
    def _view_durable(self) -> bool:
        """Whether view and log view are on disk as they are in memory: only then may this member promise anything."""
        block = self.durable_block
        return block.view == self.view and block.log_view == self.log_view and block.epoch == self.epoch

    # ---- effects

    def _send(self, dst: int, message: PeerMessage) -> None:
        if dst != self.member:
            self._out.append(Send(dst, message))

    def _broadcast(self, message: PeerMessage) -> None:
        for member in self.members:
            if member != self.member:
                self._out.append(Send(member, message))

    def _answer(self, client: bytes, message: ToClient) -> None:
        self._out.append(Answer(client, message))

    def _halt(self, reason: str) -> None:
        if self.halted is None:
            self.halted = reason
            self._out.append(Halt(reason))

    def _check(self, truth: bool, what: str) -> None:
        if not truth:
            raise ProtocolError(what)

    # ---- chance and time

    def _draw(self, below: int) -> int:
        """Return a number from 0 to ``below`` - 1 (xorshift64*: the same everywhere, its state one integer)."""
        x = self._random
        x ^= x >> 12
        x = (x ^ (x << 25)) & _MASK
        x ^= x >> 27
        self._random = x
        return ((x * 0x2545F4914F6CDD1D & _MASK) >> 32) * below >> 32

    def _peer(self) -> int | None:
        """Return another member, by chance; where members have changed, perhaps one that is of the others."""
        others = [member for member in self.members if member != self.member]
        if self.gone:
            others = [member for member in others if member not in self.gone] or others
        if self._guide is not None and self._guide not in others:
            others.append(self._guide)
        return others[self._draw(len(others))] if others else None

    def _start_timer(self, name: str, ticks: int, *, spread: int = 0) -> None:
        self._timers[name] = ticks + (self._draw(spread + 1) if spread else 0)

    def _stop_timer(self, name: str) -> None:
        self._timers.pop(name, None)

    def _expired(self) -> list[str]:
        """Count one tick and return the timers that have run out, which are stopped."""
        expired: list[str] = []
        for name, left in self._timers.items():
            self._timers[name] = left - 1
            if left <= 1:
                expired.append(name)
        for name in expired:
            del self._timers[name]
        return expired

    # ---- the log

    @property
    def op_max(self) -> int:
        """The highest op that may be written with this checkpoint."""
        return op_cap(self.checkpoint.op, self.options)

    def _slot(self, op: int) -> int:
        return op % self.options.slots

    def _durable_checksum(self, op: int) -> bytes | None:
        held = self.durable[op % self.options.slots]
        return held.checksum if held is not None and held.op == op else None

    def _is_durable(self, op: int) -> bool:
        header = self.headers.get(op)
        return header is not None and self._durable_checksum(op) == header.checksum

    @property
    def _chain_complete(self) -> bool:
        """Whether every header from what is applied to the head is known."""
        return self.chain_min <= self.commit_min + 1

    def _suffix_headers(self) -> tuple[Header | None, ...]:
        low = min(self.head, self.commit_max)
        return tuple(self.headers.get(op) if op >= self.chain_min else None for op in range(self.head, low - 1, -1))

    def _suffix(self) -> Suffix:
        """Return the log's end, and what of it is here or may be denied."""
        headers = self._suffix_headers()
        present = nack = 0
        for index, header in enumerate(headers):
            op = self.head - index
            held = self._durable_checksum(op)
            if header is not None and (held == header.checksum or op in self.bodies):
                present |= 1 << index
            if op <= self.commit_max or self._slot(op) in self.faulty:
                continue  # What is committed is not denied, nor what may have been here.
            if held is None or (header is not None and held != header.checksum):
                nack |= 1 << index
        return Suffix(headers, present, nack)

    def _set_header(self, header: Header) -> None:
        op = header.op
        known = self.headers.get(op)
        if known is not None and known.checksum == header.checksum:
            return
        if op <= self.commit_min:
            if known is not None:
                self._halt(f"op {op} is committed here as {known}, and is said to be {header}")
            elif op == self.commit_min and header.checksum == self.commit_checksum:
                self.headers[op] = header  # A snapshot came without it, and it may be the head.
            elif op == self.commit_min:
                self._halt(f"op {op} is committed here, and another one is said to be in its place")
            return
        self.headers[op] = header
        body = self.bodies.get(op)
        if body is not None and body.header.checksum != header.checksum:
            del self.bodies[op]

    def _install_suffix(self, headers: tuple[Header, ...]) -> None:
        """Make ``headers``, newest first, the end of this log. What is above goes; what does not connect below, too."""
        head = headers[0].op
        for op in [op for op in self.headers if op > head]:
            del self.headers[op]
        for op in [op for op in self.bodies if op > head]:
            del self.bodies[op]
        self._unwritten = {op for op in self._unwritten if op <= head}
        for header in headers:
            self._set_header(header)
        self.head = self.chain_min = head
        self._extend_chain()
        for op in range(self.commit_min + 1, self.chain_min):
            self.headers.pop(op, None)
            self.bodies.pop(op, None)
            self._unwritten.discard(op)
        for op in range(max(self.chain_min, self.checkpoint.op + 1), head + 1):
            if self._is_durable(op):
                self._unwritten.discard(op)
            else:
                self._unwritten.add(op)
        self.durable_to = self.checkpoint.op
        self._advance_durable()

    def _is_known_below(self, op: int) -> bool:
        below = self.headers.get(op - 1)
        return below is not None and below.checksum == self.headers[op].parent

    def _extend_chain(self) -> None:
        """Follow known headers downwards from where the chain ends."""
        while self.chain_min > self.commit_min + 1:
            if not self._is_known_below(self.chain_min):
                # Its entry may be here all the same, from before what connects it was forgotten.
                held = self.durable[self._slot(self.chain_min - 1)]
                if held is None or held.checksum != self.headers[self.chain_min].parent:
                    return
                self._set_header(held)
            self.chain_min -= 1
            if not self._is_durable(self.chain_min):
                self._unwritten.add(self.chain_min)
        lowest = self.headers.get(self.chain_min)
        if lowest is not None and lowest.op == self.commit_min + 1 and lowest.parent != self.commit_checksum:
            self._halt(f"the log at op {self.chain_min} does not continue what is committed here")
        # Of what is applied here no header is taken from others, and after a snapshot not all are known: as far as they
        # are. What has rotted of it is repaired, too.
        while self._is_known_below(self.chain_min):
            self.chain_min -= 1

    def _advance_durable(self) -> None:
        op = self.durable_to
        while op < self.head and self._is_durable(op + 1):
            op += 1
        self.durable_to = min(op, self.head)

    def _missing(self) -> Iterator[Header]:
        """Yield headers of the log whose entry is neither here nor on its way."""
        for op in sorted(self._unwritten):
            if op not in self.bodies and op >= self.chain_min and op <= self.op_max:
                yield self.headers[op]


_MASK = (1 << 64) - 1

__all__ = ["CannotStart", "Core", "Halted", "ProtocolError", "Status"]
