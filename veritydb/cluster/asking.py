"""Asking nodes how they are, over the connection that everything else takes.

:class:`StatusLine` asks one member, again and again, on one connection. Nodes ask each other so (their clocks, their
versions), ``veritydb cluster status`` and the commands that wait for a node ask so: the wire is encrypted, knows who
may ask, and is open wherever a client is, while the port for HTTP is one more that somebody would have to open.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from veritydb.cluster.session import Group
from veritydb.vsr.messages import AskStatus, TellStatus
from veritydb.vsr.wire import FRAME_SIZE, Dropped, Wire, message_size

UNREACHABLE = (
    OSError,
    TimeoutError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.DelimiterNotFound,
)


class Unanswered(Exception):
    """A member did not say how it is."""


class Answered(NamedTuple):
    """What a member said of itself."""

    document: Mapping[str, Any]
    """:meth:`veritydb.cluster.status.Status.document`; of a newer or older program perhaps with other fields."""
    seconds: float
    """How long it took."""
    clock_seconds: float
    """By how much its clock is before ours, if the answer took as long to come as the question."""


class StatusLine:
    """A connection to one member, for one question."""

    def __init__(self, group: Group, member: int) -> None:
        self.member = member
        self._group = group
        self._wire = Wire(cluster=group.cluster, keys=group.keys)
        self._client = secrets.token_bytes(16)
        self._number = 0
        self._stream: anyio.abc.ByteStream | None = None
        self._buffered: BufferedByteReceiveStream | None = None

    async def ask(self, timeout: float) -> Answered:
        """Return what the member says. Raises Unanswered."""
        try:
            with anyio.fail_after(timeout):
                return await self._ask()
        except Dropped as error:
            await self.close()
            raise Unanswered(str(error)) from error
        except UNREACHABLE as error:
            await self.close()
            raise Unanswered(_why(error)) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Hang up."""
        stream, self._stream, self._buffered = self._stream, None, None
        if stream is not None:
            await anyio.aclose_forcefully(stream)

    async def _ask(self) -> Answered:
        if self._stream is None or self._buffered is None:
            address = self._group.members[self.member]
            self._stream = await anyio.connect_tcp(
                address.host, address.port, tls=True, ssl_context=self._group.tls, tls_standard_compatible=False
            )
            self._buffered = BufferedByteReceiveStream(self._stream)
        self._number += 1
        sent, clock = time.monotonic(), time.time()
        await self._stream.send(self._wire.encode(AskStatus(self._client, self._number)))
        while True:
            frame = await self._buffered.receive_exactly(FRAME_SIZE)
            answer = self._wire.hear(frame + await self._buffered.receive_exactly(message_size(frame)))
            if isinstance(answer, TellStatus) and answer.number == self._number:
                break
        seconds = time.monotonic() - sent
        document = _document(answer.document)
        return Answered(document, seconds, float(document["time"]) - clock - seconds / 2)


def _why(error: BaseException) -> str:
    """Say why somebody cannot be reached: what went wrong lies behind anyio's words."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]
    told = cause if isinstance(cause, OSError) else error
    if isinstance(told, OSError) and told.errno and told.errno > 0:
        return os.strerror(told.errno).lower()
    return str(told) or "it does not answer"


def _document(data: bytes) -> Mapping[str, Any]:
    """Read what the others rely on; everything else may be missing."""
    try:
        document: Any = json.loads(data)
    except ValueError as error:
        raise Unanswered(f"its answer is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise Unanswered("its answer is no JSON object")
    told = cast("dict[str, Any]", document)
    if not isinstance(told.get("time"), (int, float)) or not isinstance(told.get("version"), str):
        raise Unanswered("its answer lacks time or version")
    return told


async def ask_all(lines: Mapping[int, StatusLine], timeout: float) -> dict[int, Answered | Unanswered]:
    """Ask all at once."""
    answers: dict[int, Answered | Unanswered] = {}

    async def one(member: int, line: StatusLine) -> None:
        try:
            answers[member] = await line.ask(timeout)
        except Unanswered as silence:
            answers[member] = silence

    async with anyio.create_task_group() as tasks:
        for member, line in lines.items():
            tasks.start_soon(one, member, line)
    return dict(sorted(answers.items()))
