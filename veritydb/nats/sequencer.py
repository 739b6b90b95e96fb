"""One stream of JetStream as what a shared log asks: compare-and-append, "did it commit?", and reading.

A record is a message of the stream ``VERITYDB_name``, on the subject ``veritydb.name``. The order of the messages is
the order of the records, and the server's own compare-and-append is ours::

    Nats-Expected-Last-Subject-Sequence   the message that holds the record on which this one builds
    Nats-Msg-Id                           the record's id: publishing it twice stores it once, for as long as the
                                          server's window of duplicates is open; after that the first header refuses it
    Nats-Expected-Stream                  VERITYDB_name

Where the record stands on which one builds is found by its hash: the sequence is remembered from the last answer, or
looked for by halving the stream, whose records say their offsets. Nothing of it is kept on disk.

**Did it commit?** What was published and not acknowledged may still arrive. But whatever is published expects a certain
last sequence, so it can only be stored while that is the last one. So it is settled by what stands behind the record
it builds on: the very record, and it is committed; another one, and it never will be; nothing, and then a *tombstone*
is stored there, a message without a record that names the id, and it never will be, either. Readers pass over
tombstones.

Reading asks for messages by their sequence. A server that was leader and does not know that it is no longer may answer
that something is not there yet, never with what is not so; hence ``linearizable`` is False: there is no question whose
answer is sure to be the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from nats.aio.client import Client
from nats.js.api import StreamInfo

from veritydb import kernel
from veritydb.chain import HEADER_SIZE, ZERO_HASH, RecordHeader, chain_hash, unpack_header
from veritydb.errors import ConfigurationError, GroupUnavailable, LogMismatch, LogUnavailable, TransactionTooLarge
from veritydb.nats import promises
from veritydb.nats.config import NatsConfig
from veritydb.nats.link import Refused
from veritydb.nats.messages import GIVEN_UP, MSG_ID, WRONG_LAST, Messages, Stored, Tombstone

_log = logging.getLogger("veritydb.nats")

RECORD_MAX = 64 << 20
"""Bytes that a server lets through at most, however it is configured."""
HEADERS_MAX = 512
"""Bytes that the headers of an append take at most: they count as payload, too."""
FETCH_BYTES = 4 << 20
WIDTH_MAX = 64
"""Messages that are asked for at once."""
POLL = 1.0
"""Seconds after which is looked for news of which nobody has told."""
BEHIND_SECONDS = 15.0
"""Seconds for which a server may take itself for the leader and not have what the others have."""
_PAUSES = (0.001, 0.002, 0.004, 0.01, 0.02, 0.05)
"""Seconds from the news that a record is published until it is stored: how often is looked."""
_PAUSE = 0.02
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_T = TypeVar("_T")


class Fetched(NamedTuple):
    """What came of reading."""

    next_offset: int
    """Behind the last of them."""
    records: tuple[bytes, ...]


class NatsSequencer:
    """One stream. For any number of threads."""

    linearizable = False
    record_max = RECORD_MAX

    def __init__(self, config: NatsConfig, name: str, cluster: bytes, stream: bytes) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"a stream in NATS has a name of up to 64 of A-Z a-z 0-9 _ -, not {name!r}")
        self.name = name
        self.cluster = cluster
        self.stream = stream
        self._config = config
        self._messages = Messages(config, name)
        self._at: tuple[bytes, int] = (ZERO_HASH, 0)
        """The hash of the last record that was seen, and its sequence."""
        self._judged: tuple[Client, StreamInfo] | None = None
        """What was seen to keep the promise, and through which connection."""

    # What a shared log asks

    def append(self, record: bytes, *, timeout: float) -> kernel.Reply:
        """Have a record appended, once. Returns what became of it, and raises GroupUnavailable if that is not known.

        Raises ConfigurationError, NotPermitted, LogMismatch, LogUnavailable and TransactionTooLarge if it was not
        appended and never will be.
        """
        return self._wait(lambda deadline: self._append(record, deadline), timeout)

    def resolve(self, stream: bytes, identity: bytes, since: int, *, timeout: float) -> kernel.Reply:
        """Ask whether a transaction is committed; if not, it never will be. Raises GroupUnavailable."""
        assert stream == self.stream
        return self._wait(lambda deadline: self._resolve(identity, since, deadline), timeout)

    def create(self, stream: bytes, name: str, *, timeout: float) -> None:
        """Make the stream unless it is there. Raises ConfigurationError if it does not keep the promise."""
        assert stream == self.stream
        self._wait(self._create, timeout)

    def end(self, stream: bytes, *, timeout: float) -> tuple[int, bytes] | None:
        """Return where the stream ends, as far as who answers knows; None: there is none."""
        assert stream == self.stream
        return self._wait(self._end, timeout)

    def fetch(
        self, stream: bytes, first_offset: int, last_hash: bytes = ZERO_HASH, *, timeout: float, wait: float = 0.0
    ) -> Fetched:
        """Return the records behind the one with ``last_hash``; wait so long for one if there are none."""
        assert stream == self.stream
        return self._wait(lambda deadline: self._fetch(first_offset, last_hash, deadline, wait), timeout)

    def another(self) -> NatsSequencer:
        """Return one with a connection of its own."""
        return NatsSequencer(self._config, self.name, self.cluster, self.stream)

    def interrupt(self) -> None:
        """Let what is being asked fail, and ask nothing any more."""
        self._messages.link.interrupt()

    def close(self) -> None:
        """Hang up."""
        self._messages.link.close()

    def _wait(self, ask: Callable[[float], Awaitable[_T]], timeout: float) -> _T:
        deadline = time.monotonic() + timeout
        return self._messages.link.wait(lambda: ask(deadline), timeout)

    # Appending

    async def _append(self, record: bytes, deadline: float) -> kernel.Reply:
        claims = unpack_header(record[:HEADER_SIZE])
        try:
            self._check_size(len(record), *await self._ready(deadline))
            last = await self._place_to_build_on(claims, deadline)
        except GroupUnavailable as error:
            error.asked = False
            raise
        appended = kernel.Appended(
            claims.first_offset, claims.first_offset + claims.transaction_count, chain_hash(claims.prev_hash, record)
        )
        uncertain = False
        while True:
            try:
                sequence = await self._messages.publish(record, last, (MSG_ID, claims.id.hex()), deadline)
            except Refused as refused:
                uncertain |= refused.uncertain
                if refused.code not in WRONG_LAST:
                    if uncertain:
                        raise GroupUnavailable(f"NATS refused, after it had not answered before: {refused}") from None
                    raise LogUnavailable(f"NATS refused the transaction ({refused}); it was rolled back") from None
            else:
                self._at = appended.hash, sequence
                return appended
            found = await self._messages.at(last + 1, deadline)
            if isinstance(found, Tombstone):
                if found.id == claims.id.hex():
                    return kernel.Forbidden(claims.id)
                last = found.sequence  # Of somebody else: the record on which we build is still the last record.
            elif found is None:
                await self._pause(deadline)  # Whoever answered does not know of it yet.
                if not uncertain:
                    self._at = ZERO_HASH, 0  # Or what is remembered has been lost there.
                    last = await self._place_to_build_on(claims, deadline)
            elif found.header.id == claims.id:
                self._at = found.hash, found.sequence
                return appended
            else:
                end = await self._end(deadline)
                return kernel.Conflict(*(end or (found.next_offset, found.hash)))

    async def _place_to_build_on(self, claims: RecordHeader, deadline: float) -> int:
        """Return the sequence behind which a record is to stand. Raises LogMismatch if what it builds on is not there.

        Who answers may be behind for a moment; a stream that stays behind has lost what it had acknowledged.
        """
        until = min(deadline - 2 * _PAUSE, time.monotonic() + BEHIND_SECONDS)
        while True:
            place = await self._place(claims.first_offset, claims.prev_hash, deadline)
            if place is not None:
                return place
            if time.monotonic() >= until:
                raise LogMismatch(
                    f"stream {self.name!r} in NATS does not have the record with which the copy here ends "
                    f"(transaction {claims.first_offset - 1}), and has acknowledged it: NATS has lost it, or this is "
                    "another NATS. Nothing was written; keep the copy, it has what is missing"
                )
            await self._pause(deadline)

    def _check_size(self, size: int, client: Client, info: StreamInfo) -> None:
        limits = [client.max_payload, info.config.max_msg_size or -1]
        limit = min(each for each in limits if each > 0) - HEADERS_MAX
        if size > limit:
            raise TransactionTooLarge(
                f"the transaction has {size:,} bytes, and {limit:,} go through NATS at once (max_payload of the "
                "server, max_msg_size of the stream); it was rolled back, do it in parts",
                size=size,
                limit=limit,
            )

    # Did it commit?

    async def _resolve(self, identity: bytes, since: int, deadline: float) -> kernel.Reply:
        while True:
            last = 0
            found = await self._first_ending_at(since, deadline)
            while found is not None:
                last = found.sequence
                if isinstance(found, Tombstone):
                    if found.id == identity.hex():
                        return kernel.Forbidden(identity)
                elif found.header.id == identity:
                    self._at = found.hash, found.sequence
                    return kernel.Known(identity, since, found.hash)
                elif found.header.first_offset >= since and found.header.transaction_count:
                    return kernel.Forbidden(identity)
                found = await self._messages.at(last + 1, deadline)
            try:
                await self._messages.publish(b"", last, (GIVEN_UP, identity.hex()), deadline)
            except Refused as refused:
                if refused.code not in WRONG_LAST:
                    raise GroupUnavailable(f"NATS refused to take that it is given up: {refused}") from None
                await self._pause(deadline)
            else:
                return kernel.Forbidden(identity)

    # Reading

    async def _fetch(self, first_offset: int, last_hash: bytes, deadline: float, wait: float) -> Fetched:
        until = min(time.monotonic() + wait, deadline)
        place: int | None = None
        pauses = iter(_PAUSES)
        while True:
            news = await self._messages.listen(deadline) if wait else None
            if place is None:
                place = await self._place(first_offset, last_hash, deadline)
            if place is not None:
                read, place = await self._read(place, deadline)
                if read:
                    self._at = read[-1].hash, read[-1].sequence
                    return Fetched(read[-1].next_offset, tuple(each.record for each in read))
            left = until - time.monotonic()
            if left <= 0 or news is None:
                return Fetched(first_offset, ())
            pause = next(pauses, None)
            if pause is not None and pause < left and news.is_set():
                await asyncio.sleep(pause)
                continue
            news.clear()
            pauses = iter(_PAUSES)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(POLL, left)):
                    await news.wait()

    async def _read(self, place: int, deadline: float) -> tuple[list[Stored], int]:
        """Return records behind a sequence, more and more of them at once, and the sequence of the last one seen."""
        read: list[Stored] = []
        size, largest, width = 0, 1, 1
        while size < FETCH_BYTES:
            asked = range(place + 1, place + 1 + width)
            for found in await asyncio.gather(*(self._messages.at(sequence, deadline) for sequence in asked)):
                if found is None:
                    return read, place
                place = found.sequence
                if isinstance(found, Stored):
                    read.append(found)
                    size += len(found.record)
                    largest = max(largest, len(found.record))
            width = max(1, min(2 * width, WIDTH_MAX, FETCH_BYTES // largest))
        return read, place

    async def _place(self, next_offset: int, last_hash: bytes, deadline: float) -> int | None:
        """Return the sequence of the record with which a copy ends, 0 for an empty one; None: it is not there yet.

        ZERO_HASH with an offset: any record that ends there. Raises LogMismatch if the stream has another one there.
        """
        if last_hash == ZERO_HASH and not next_offset:
            return 0
        hash_, sequence = self._at
        if last_hash == hash_ != ZERO_HASH:
            return sequence
        found = await self._first_ending_at(next_offset, deadline)
        while found is not None:
            if isinstance(found, Stored):
                if found.next_offset != next_offset:
                    raise LogMismatch(
                        f"the copy of stream {self.name!r} here is no copy of what NATS has: the record that ends at "
                        f"transaction {next_offset - 1} is another one there. Move the database and its log away; "
                        "connecting makes them anew"
                    )
                if last_hash in (ZERO_HASH, found.hash):
                    return found.sequence
            found = await self._messages.at(found.sequence + 1, deadline)
        return None

    async def _first_ending_at(self, offset: int, deadline: float) -> Stored | Tombstone | None:
        """Return the first record that ends at ``offset`` or behind it, or for 0 the first message; None: not yet."""
        info = await self._messages.info(deadline)
        if info is None or not info.state.last_seq:
            return None
        low, high = info.state.first_seq, info.state.last_seq
        if low > 1:
            raise LogMismatch(
                f"stream {self.name!r} in NATS begins at its message {low}: what came before was removed. Nothing was "
                "written"
            )
        if not offset:
            return await self._messages.at(low, deadline)
        while low <= high:
            middle = (low + high) // 2
            found = await self._messages.record_from(middle, deadline)
            if found is None or found.next_offset >= offset:
                high = middle - 1
            else:
                low = found.sequence + 1
        return await self._messages.record_from(low, deadline)

    async def _end(self, deadline: float) -> tuple[int, bytes] | None:
        info = await self._messages.info(deadline)
        if info is None:
            return None
        for sequence in range(info.state.last_seq, 0, -1):
            found = await self._messages.at(sequence, deadline)
            if isinstance(found, Stored):
                return found.next_offset, found.hash
        return 0, ZERO_HASH

    # Promises

    async def _create(self, deadline: float) -> None:
        await self._check_servers(await self._messages.client(deadline))
        await self._messages.create(deadline)
        await self._ready(deadline)

    async def _ready(self, deadline: float) -> tuple[Client, StreamInfo]:
        """See, once for each connection, that the stream and the servers keep what a commit promises."""
        client = await self._messages.client(deadline)
        if self._judged is not None and self._judged[0] is client:
            return self._judged
        await self._check_servers(client)
        stream = self._messages.stream
        info = await self._messages.info(deadline)
        if info is None:
            raise LogMismatch(f"there is no stream {stream} at {self._config} any more; nothing was written")
        problem = promises.stream_problem(info.config, subject=self._messages.subject, replicas=self._config.replicas)
        if problem is not None:
            raise ConfigurationError(f"stream {stream} in NATS cannot be a log: {problem}; nothing was written")
        self._judged = client, info
        return self._judged

    async def _check_servers(self, client: Client) -> None:
        if self._config.sync != "always":
            return
        problem = promises.version_problem(str(client.connected_server_version))
        if problem is not None:
            raise ConfigurationError(
                f"sync='always' is asked for, and {problem}. sync='interval' says that a commit need not be on disk "
                "when it is acknowledged; nothing was written"
            )
        if self._config.monitors:
            await asyncio.to_thread(promises.look_up, self._config.monitors)
        elif self._judged is None:
            _log.warning("how the NATS servers at %s sync cannot be seen; monitors= says where to look", self._config)

    async def _pause(self, deadline: float) -> None:
        if time.monotonic() >= deadline:
            raise GroupUnavailable("NATS has not answered in time")
        await asyncio.sleep(_PAUSE)
