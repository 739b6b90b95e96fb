"""The messages of one JetStream stream: a record each, or a tombstone, by their sequence.

The questions of the client library, each asked through a :class:`~veritydb.nats.link.Link` until it is answered, and
their answers as values. What they mean for a log is decided in :mod:`veritydb.nats.sequencer`. For the loop's thread.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StorageType, StreamConfig, StreamInfo

from veritydb.chain import HEADER_SIZE, Malformed, RecordHeader, chain_hash, unpack_header
from veritydb.errors import ConfigurationError, GroupUnavailable, LogDamaged
from veritydb.nats.config import NatsConfig
from veritydb.nats.link import Link, Refused

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
MSG_ID = "Nats-Msg-Id"
GIVEN_UP = "Verity-Given-Up"
WRONG_LAST = (10071, 10164)
"""Errors: another message is the last one."""
_NO_MESSAGE, _NO_STREAM, _NAME_TAKEN = 10037, 10059, 10058


class Stored(NamedTuple):
    """A message that holds a record."""

    sequence: int
    record: bytes
    header: RecordHeader

    @property
    def next_offset(self) -> int:
        """The offset behind it."""
        return self.header.first_offset + self.header.transaction_count

    @property
    def hash(self) -> bytes:
        """The record's."""
        return chain_hash(self.header.prev_hash, self.record)


class Tombstone(NamedTuple):
    """A message that holds none, and says which transaction was given up."""

    sequence: int
    id: str
    """Of that transaction, in hex."""


class Messages:
    """``VERITYDB_name``, which holds the subject ``veritydb.name`` and nothing else."""

    def __init__(self, config: NatsConfig, name: str) -> None:
        self.config = config
        self.name = name
        self.subject = f"veritydb.{name}"
        self.stream = f"VERITYDB_{name}"
        self.link = Link(config)
        self._told_by: Client | None = None
        self._news: asyncio.Event | None = None

    async def client(self, deadline: float) -> Client:
        """Return the client that is connected now."""

        async def itself(client: Client, _: float) -> Client:
            return client

        return await self.link.ask(itself, subject="", deadline=deadline)

    async def publish(self, payload: bytes, last: int, more: tuple[str, str], deadline: float) -> int:
        """Have a message stored behind the one with sequence ``last``; return its own. Raises Refused."""

        async def ask(client: Client, patience: float) -> int:
            headers = dict((more, (EXPECTED, str(last))))
            context = self._context(client, patience)
            ack = await context.publish(self.subject, payload, timeout=patience, stream=self.stream, headers=headers)
            return int(ack.seq)

        return await self.link.ask(ask, subject=self.subject, deadline=deadline)

    async def at(self, sequence: int, deadline: float) -> Stored | Tombstone | None:
        """Return a message; None if it is not there yet, as far as who answers knows. Raises LogDamaged."""

        async def ask(client: Client, patience: float) -> Any:  # RawStreamMsg, whose headers have no type
            return await self._context(client, patience).get_msg(self.stream, seq=sequence)

        try:
            message = await self.link.ask(ask, subject=self._api("STREAM.MSG.GET"), deadline=deadline)
        except Refused as refused:
            if refused.code in (_NO_MESSAGE, _NO_STREAM):
                return None
            raise GroupUnavailable(f"NATS refused to be read: {refused}") from None
        record: bytes = message.data or b""
        if not record:
            headers: dict[str, str] = message.headers or {}
            return Tombstone(sequence, headers.get(GIVEN_UP, ""))
        try:
            return Stored(sequence, record, unpack_header(record[:HEADER_SIZE]))
        except Malformed as bad:
            raise LogDamaged(
                f"message {sequence} of {self.stream} in NATS is no record: {bad.why}; it was not taken"
            ) from None

    async def record_from(self, sequence: int, deadline: float) -> Stored | None:
        """Return the first message from there on that holds a record; None if there is none yet."""
        while True:
            found = await self.at(sequence, deadline)
            if not isinstance(found, Tombstone):
                return found
            sequence += 1

    async def info(self, deadline: float) -> StreamInfo | None:
        """Return how the stream is configured and where it ends; None if there is none."""

        async def ask(client: Client, patience: float) -> StreamInfo:
            info: StreamInfo = await self._context(client, patience).stream_info(self.stream)
            return info

        try:
            return await self.link.ask(ask, subject=self._api("STREAM.INFO"), deadline=deadline)
        except Refused as refused:
            if refused.code == _NO_STREAM:
                return None
            raise GroupUnavailable(f"NATS refused to tell of stream {self.name!r}: {refused}") from None

    async def create(self, deadline: float) -> None:
        """Make the stream, unless there is one of that name. Raises ConfigurationError."""
        config = StreamConfig(
            name=self.stream,
            description=f"Log of the VerityDB database {self.name}",
            subjects=[self.subject],
            storage=StorageType.FILE,
            num_replicas=self.config.replicas,
            deny_delete=True,
            deny_purge=True,
        )

        async def ask(client: Client, patience: float) -> None:
            await self._context(client, patience).add_stream(config)

        try:
            await self.link.ask(ask, subject=self._api("STREAM.CREATE"), deadline=deadline)
        except Refused as refused:
            if refused.code != _NAME_TAKEN:
                raise ConfigurationError(
                    f"NATS at {self.config} does not make a stream that {self.config.replicas} servers keep: "
                    f"{refused}. replicas= says how many; nothing was written"
                ) from None

    async def listen(self, deadline: float) -> asyncio.Event:
        """Return what is set when somebody else publishes. It is a hint: one can miss it, and it comes too early."""
        if self._news is None:
            self._news = asyncio.Event()
        news = self._news

        async def told(_: Msg) -> None:
            news.set()

        async def ask(client: Any, _: float) -> None:
            if self._told_by is not client:
                await client.subscribe(self.subject, cb=told)
                self._told_by = client

        await self.link.ask(ask, subject=self.subject, deadline=deadline)
        return news

    def _context(self, client: Any, patience: float) -> Any:
        return client.jetstream(domain=self.config.domain or None, timeout=patience)

    def _api(self, what: str) -> str:
        prefix = f"$JS.{self.config.domain}.API" if self.config.domain else "$JS.API"
        return f"{prefix}.{what}.{self.stream}"
