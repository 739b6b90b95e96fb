"""The log of a stream that a group keeps: every append is agreed by a quorum before it stands in the copy here.

:class:`GroupLog` is the other :class:`~veritydb.log.Replicator`. Beside the database there is a whole copy of the
stream, in the same format and under the same lock as any log; what is different is who decides. ``append`` asks the
group (compare-and-append), and only what it has accepted is written here. So between two machines nothing can fork: who
builds on a head that is no longer the last one is refused (:class:`~veritydb.ConflictError`).

What happens when an append is not answered is the point of it. Not finding a record proves nothing: it may still
arrive. So the log remembers what it has asked, and whoever takes the lock next, or looks what became of it
(``refresh``), asks the group to *resolve* it: the group says that it is committed, and then it is written here like any
other; or it forbids it for ever, and only then may anybody say "rolled back". If the group cannot be asked,
OutcomeUnknown says so, and the next transaction asks again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from veritydb import kernel
from veritydb.chain import HEADER_SIZE, ZERO_HASH, Malformed, misfit, unpack_header
from veritydb.cluster.records import split_record
from veritydb.consistency import current
from veritydb.errors import (
    ConfigurationError,
    ConflictError,
    GroupUnavailable,
    LogDamaged,
    LogMismatch,
    LogUnavailable,
    NotPermitted,
    OutcomeUnknown,
    TransactionTooLarge,
)
from veritydb.log.store import Log

if TYPE_CHECKING:
    from veritydb.log.spill import Spill

NOT_APPENDED = (ConfigurationError, LogMismatch, LogUnavailable, NotPermitted, TransactionTooLarge)
RESOLVE_SECONDS = 5.0
"""For how long it is asked what became of an append, at least."""
_PAUSE = 0.005
_WAIT = 1.0
"""Seconds for which one node is asked for what others have written."""


class Fetched(Protocol):
    """What came of asking for records."""

    @property
    def next_offset(self) -> int:
        """Where the stream ends, as far as who was asked knows."""
        ...

    @property
    def records(self) -> tuple[bytes, ...]:
        """In order, from behind the one that was named."""
        ...


class Sequencer(Protocol):
    """Who gives the records of a stream their one order, and is asked by its copies: a group of nodes, or NATS."""

    @property
    def cluster(self) -> bytes:
        """16 bytes that tell whose stream it is."""
        ...

    @property
    def record_max(self) -> int:
        """Bytes of a record that can be appended at all; :meth:`append` may know of a lower limit."""
        ...

    @property
    def linearizable(self) -> bool:
        """Whether :meth:`end` counts all that was committed anywhere before it was called."""
        ...

    def create(self, stream: bytes, name: str, *, timeout: float) -> None:
        """Make a stream; it may be there. Raises GroupUnavailable, NotPermitted, ConfigurationError."""
        ...

    def end(self, stream: bytes, *, timeout: float) -> tuple[int, bytes] | None:
        """Return where a stream ends; None: there is none. Raises GroupUnavailable."""
        ...

    def append(self, record: bytes, *, timeout: float) -> kernel.Reply:
        """Have a record appended, once. Returns what became of it, and raises GroupUnavailable if that is not known.

        Its ``asked`` is False if nobody can have been asked.
        One of :data:`NOT_APPENDED` says that it was not appended and never will be.
        """
        ...

    def resolve(self, stream: bytes, identity: bytes, since: int, *, timeout: float) -> kernel.Reply:
        """Tell whether a transaction is committed; if not, it never will be. Raises GroupUnavailable."""
        ...

    def fetch(
        self, stream: bytes, first_offset: int, last_hash: bytes = ZERO_HASH, *, timeout: float, wait: float = 0.0
    ) -> Fetched:
        """Return what stands behind the record with ``last_hash``; if that is the last, wait so long for another."""
        ...

    def another(self) -> Sequencer:
        """Return one with connections of its own."""
        ...

    def interrupt(self) -> None:
        """From another thread: let what is being asked fail, and ask nothing any more."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class _Asked(NamedTuple):
    """An append of which it is not known whether it is committed."""

    record: bytes
    id: bytes
    base: int
    """The offset on which it builds."""


class _End(NamedTuple):
    next_offset: int
    hash: bytes


class GroupLog(Log):
    """One handle on the copy of a stream; for one connection, in one process. :meth:`join` it after opening."""

    shared = True
    client: Sequencer
    _asked: _Asked | None = None
    _target: _End | None = None
    """Where the stream is known to have ended, if that is not here yet."""
    _offered: tuple[bytes, ...] = ()
    _timeout = RESOLVE_SECONDS

    def join(self, client: Sequencer) -> None:
        """Say who asks the group."""
        self.client = client

    # The lock

    def acquire(self, timeout: float | None = None) -> None:
        """Take the lock and read on to the copy's true end, as every log; then settle what the group was asked before.

        Raises OutcomeUnknown if that cannot be settled; the lock is not held then.
        """
        self._timeout = RESOLVE_SECONDS if timeout is None else timeout
        super().acquire(timeout)
        if self._asked is not None:
            try:
                self._resolve()
            except BaseException:
                self.release()
                raise

    def refresh(self) -> None:
        """Under the lock, settle what became of an append; then the head is exact again. Raises OutcomeUnknown."""
        super().refresh()
        if self._asked is not None:
            self._resolve()

    # Writing, under the lock

    def append(self, header: bytes, tail: bytes, parts: Spill | None, transaction_count: int, timestamp: int) -> None:
        """Have one record agreed by the group, and write it here; :attr:`head` then names it.

        Raises ConflictError if the stream has gone on, GroupUnavailable if no answer came (``refresh`` tells then what
        became of it), and what a log on one machine raises.
        """
        if self._stale or not self._lock.held:
            self._refuse()
        size = len(header) + (parts.length if parts is not None else 0) + len(tail)
        limit = self.client.record_max
        if size > limit:
            raise TransactionTooLarge(
                f"the transaction has {size:,} bytes, and {limit:,} go through a cluster at once; it was rolled back, "
                "do it in parts",
                size=size,
                limit=limit,
            )
        pieces = [header, tail]
        if parts is not None:
            pieces[1:1] = [parts.stored(number) for number in range(parts.count)]
        record = b"".join(pieces)
        claims = unpack_header(header)
        head = self.head
        # Not all who are asked look at the record itself, and what is wrong in it would be refused by every reader.
        said = (claims.timestamp, claims.transaction_count, claims.tail_length, claims.part_count, claims.parts_length)
        given = (timestamp, transaction_count, len(tail), *((0, 0) if parts is None else (parts.count, parts.length)))
        wrong = misfit(
            head.next_offset, head.hash, head.timestamp, head.generation,
            claims.first_offset, claims.prev_hash, claims.timestamp, claims.generation,
        )  # fmt: skip
        if wrong or said != given or claims.stream != self.stream:
            raise LogMismatch("the record does not build on the head of the log; nothing was written")
        self._asked = _Asked(record, claims.id, claims.first_offset)
        try:
            reply = self.client.append(record, timeout=self._timeout)
        except NOT_APPENDED:
            self._asked = None
            raise
        except GroupUnavailable as error:
            if error.asked:
                raise
            self._asked = None
            raise GroupUnavailable(
                f"the cluster could not be reached, the transaction was rolled back: {error}"
            ) from error
        self._decided(reply)

    def follow(self, timeout: float) -> None:
        """Under the lock, write here what others have appended.

        That is what was offered, and what leads to where a refusal has shown the stream to end. Raises
        GroupUnavailable, LogMismatch if this is no copy of the stream.
        """
        offered, self._offered = self._offered, ()
        self._take(offered)
        deadline = time.monotonic() + timeout
        while self._is_behind():
            left = deadline - time.monotonic()
            if left <= 0:
                raise GroupUnavailable("the cluster has not sent in time what others have written")
            wait = min(left, _WAIT)
            fetched = self.client.fetch(self.stream, self.head.next_offset, self.head.hash, timeout=left, wait=wait)
            if not self._take(fetched.records):
                # A node that has not heard of it yet, or is cut off. This asks the primary, and so does the next fetch.
                time.sleep(_PAUSE)
                self.client.end(self.stream, timeout=left)

    def offer(self, records: tuple[bytes, ...]) -> None:
        """Give what the group has sent, for the next :meth:`follow`."""
        self._offered = records

    def aim(self, next_offset: int, last_hash: bytes) -> None:
        """Let the next :meth:`follow` go as far as this."""
        self._target = _End(next_offset, last_hash)

    # Inside

    def _is_behind(self) -> bool:
        target = self._target
        if target is None:
            return False
        head = self.head
        if head.next_offset > target.next_offset or head.hash == target.hash:
            self._target = None
            return False
        return True

    def _take(self, records: tuple[bytes, ...]) -> int:
        """Write the records that continue the copy; return how many."""
        taken = 0
        after = 0
        for record in records:
            try:
                header = unpack_header(record[:HEADER_SIZE])
            except Malformed as bad:
                raise LogDamaged(f"a node has sent what is no record: {bad.why}; it was not taken") from None
            after = header.first_offset + header.transaction_count
            # What is here already comes first, where a record without transactions stands at the end.
            if header.prev_hash == self.head.hash:
                Log.append(self, *split_record(record))
                taken += 1
        if after > self.head.next_offset:
            raise LogMismatch(
                f"{self.folder} is no copy of its stream: what follows in the stream does not build on transaction "
                f"{self.head.next_offset - 1} here. Move the database and its log away; connecting makes them anew"
            )
        return taken

    def _decided(self, reply: kernel.Reply) -> None:
        """Act on what the group says of what it was asked."""
        asked = self._asked
        assert asked is not None
        if isinstance(reply, (kernel.Appended, kernel.Known)):
            if self.head.next_offset == asked.base:
                try:
                    Log.append(self, *split_record(asked.record))
                except (LogUnavailable, OutcomeUnknown) as error:
                    raise OutcomeUnknown(
                        f"the transaction is committed, but the copy of its stream could not be written ({error}); "
                        "the file follows when it is opened again"
                    ) from error
            self._asked = None
            opened = current()
            if opened is not None:
                opened.note_written(self.stream.hex()[:16], asked.base)
        elif isinstance(reply, kernel.Conflict):
            self._asked = None
            self._target = _End(reply.next_offset, reply.hash)
            raise ConflictError(reply.next_offset)
        elif isinstance(reply, kernel.Forbidden):
            self._asked = None
            raise LogUnavailable("the transaction was given up before the cluster had it; it was rolled back")
        elif isinstance(reply, kernel.Refused):
            self._asked = None
            raise LogUnavailable(f"the cluster refused the transaction ({_why(reply.reason)}); it was rolled back")
        else:
            raise GroupUnavailable(f"the cluster gave an answer to another question ({type(reply).__name__})")

    def _resolve(self) -> None:
        """Ask what became of the append that is not decided."""
        asked = self._asked
        assert asked is not None
        try:
            reply = self.client.resolve(self.stream, asked.id, asked.base, timeout=max(RESOLVE_SECONDS, self._timeout))
            if isinstance(reply, kernel.Forgotten):
                reply = self._look(asked)
        except GroupUnavailable as error:
            raise OutcomeUnknown(
                "whether the transaction is committed cannot be told now: the cluster could not be asked "
                f"({error}). The next transaction asks again"
            ) from error
        if isinstance(reply, kernel.Forbidden):
            self._asked = None
            return
        self._decided(reply)

    def _look(self, asked: _Asked) -> kernel.Reply:
        """The group no longer knows the id; the record that stands where it would says whose it is."""
        fetched = self.client.fetch(self.stream, asked.base, timeout=max(RESOLVE_SECONDS, self._timeout))
        for record in fetched.records:
            header = unpack_header(record[:HEADER_SIZE])
            if header.transaction_count:
                if header.id == asked.id:
                    return kernel.Known(asked.id, asked.base, self.head.hash)
                return kernel.Forbidden(asked.id)
        raise GroupUnavailable("the node that was asked is behind")


def _why(reason: kernel.Refusal) -> str:
    return reason.name.lower().replace("_", " ")
