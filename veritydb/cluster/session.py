"""A client's side of a group: one request at a time, over a connection to whoever is primary.

For one thread. It blocks, because a commit hook does: the caller waits for a quorum anyway. The primary is found by
asking and followed through fail-over; a request is repeated under its number until it is answered or the time is over,
and the group carries it out once.

What it cannot tell, it says: after :class:`~veritydb.OutcomeUnknown` the same id may be resolved through any session.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from veritydb import kernel
from veritydb.chain import ZERO_HASH
from veritydb.cluster.config import Address, parse_address
from veritydb.errors import ConfigurationError, GroupUnavailable, NotPermitted
from veritydb.vsr.messages import (
    AskStatus,
    Denied,
    Evicted,
    FetchedRecords,
    FetchRecords,
    Message,
    ReadReply,
    ReadRequest,
    Reconfigure,
    Reconfigured,
    Redirect,
    Reply,
    Request,
    TellStatus,
)
from veritydb.vsr.wire import FRAME_SIZE, Dropped, Keys, Wire, message_size

PATIENCE = (0.3, 1.0)
"""Seconds that one node is given to answer before the next one is asked: at first, and at most."""
_PAUSE = 0.02
AVOIDED = 0.5
"""Seconds for which a node is not dialled because another one says that it is primary, after it could not be."""
_RECEIVE = 1 << 18


_ANSWERS: dict[type, tuple[type, ...]] = {
    Request: (Reply, Evicted, Redirect, Denied),
    ReadRequest: (ReadReply, Redirect, Denied),
    FetchRecords: (FetchedRecords, Denied),
    Reconfigure: (Reconfigured, Redirect, Denied),
    AskStatus: (TellStatus, Denied),
}


class SessionEnded(GroupUnavailable):
    """The group has forgotten the session, and with it what became of its last request."""


class Group(NamedTuple):
    """How a group is reached."""

    cluster: bytes
    members: Mapping[int, Address]
    keys: Keys
    tls: ssl.SSLContext


class Session:
    """A session with a group."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._client = secrets.token_bytes(16)
        self._session = 0
        self._number = 0
        self._view = 0
        self._asked = 0
        self._members = sorted(group.members)
        self._primary = self._members[0]
        self._socket: ssl.SSLSocket | None = None
        self._patience: float | None = None
        """The time-out that the socket has."""
        self._received = b""
        """What has arrived behind the frames that were read."""
        self._connected_to: int | None = None
        self._refused: dict[int, float] = {}
        """By member, when it could last not be reached."""
        self._wire = Wire(cluster=group.cluster, keys=group.keys)
        self._pid = os.getpid()
        self._stopped = False

    @property
    def primary(self) -> int:
        """The member that is primary, as far as this session knows."""
        return self._primary

    def command(self, command: kernel.Command, *, timeout: float) -> kernel.Reply:
        """Have a command carried out, and return the group's answer. Raises GroupUnavailable, NotPermitted."""
        return self.send(kernel.encode_command(command), timeout=timeout)

    def send(self, command: bytes, *, timeout: float) -> kernel.Reply:
        """The same, of a command that is encoded."""
        deadline = time.monotonic() + timeout
        self._own_process()
        while True:
            if not self._session:
                try:
                    self._register(deadline)
                except GroupUnavailable as error:
                    error.asked = False  # For a session, not for the command.
                    raise
            self._number += 1
            request = Request(self._client, self._session, self._number, command, self._view)
            answer = self._ask(request, deadline)
            if isinstance(answer, Reply):
                return kernel.decode_reply(answer.result)
            # The session is gone. What became of the request nobody remembers here: its id does.
            self._renew()
            raise SessionEnded("the session with the group has ended; what was asked last may have been done")

    def read_head(self, stream: bytes, *, timeout: float) -> tuple[int, bytes] | None:
        """Return where a stream ends, counting all that was committed before this call; None: there is none."""
        self._own_process()
        self._asked += 1
        answer = self._ask(ReadRequest(self._client, self._asked, stream), time.monotonic() + timeout)
        assert isinstance(answer, ReadReply)
        return (answer.next_offset, answer.hash) if answer.known else None

    def fetch(
        self,
        stream: bytes,
        first_offset: int,
        hash: bytes = ZERO_HASH,  # noqa: A002  the word of the design
        *,
        bytes_max: int,
        timeout: float,
        wait: float = 0.0,
    ) -> FetchedRecords:
        """Return records of a stream, from the one that holds ``first_offset`` on, as the node that is asked has them.

        ``hash`` is that of the last record one has. If the stream ends with it, the node waits ``wait`` seconds for
        another before it says so.
        """
        self._own_process()
        self._asked += 1
        message = FetchRecords(self._client, self._asked, stream, first_offset, bytes_max, hash, int(wait * 1000))
        answer = self._ask(message, time.monotonic() + timeout, patience=wait)
        assert isinstance(answer, FetchedRecords)
        return answer

    def reconfigure(self, members: tuple[int, ...], *, timeout: float, epoch: int | None = None) -> Reconfigured:
        """Ask for other members; repeat it until ``accepted`` says that they are in office.

        ``epoch`` is the one in which the present members are; None: whichever it is now.
        """
        self._own_process()
        deadline = time.monotonic() + timeout
        asked = 0 if epoch is None else epoch
        while True:
            self._asked += 1
            answer = self._ask(Reconfigure(self._client, self._asked, members, asked), deadline)
            assert isinstance(answer, Reconfigured)
            if epoch is not None or answer.accepted or answer.epoch == asked:
                return answer
            asked = answer.epoch

    def interrupt(self) -> None:
        """From another thread: let what is being asked fail, now and from now on."""
        self._stopped = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                # Not shutdown() of the TLS connection, which would wait for a word of the other side.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def ask_another(self) -> None:
        """Put the next question to the next node."""
        self._next()

    def close(self) -> None:
        """Hang up. The group forgets the session when it needs its place."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    # ---- inside

    def _own_process(self) -> None:
        if os.getpid() != self._pid:
            # A forked child has its parent's connection and session, and may use neither.
            self._pid = os.getpid()
            self._socket = None
            self._renew()

    def _renew(self) -> None:
        self._session = 0
        self._client = secrets.token_bytes(16)

    def _register(self, deadline: float) -> None:
        command = kernel.encode_command(kernel.Register())
        answer = self._ask(Request(self._client, 0, 0, command, self._view), deadline)
        reply = kernel.decode_reply(answer.result) if isinstance(answer, Reply) else None
        if not isinstance(reply, kernel.Registered):
            raise GroupUnavailable(f"the group did not begin a session: {reply}")
        self._session, self._number = reply.session, 0

    def _ask(self, message: Message, deadline: float, *, patience: float = 0.0) -> Message:
        """Send until it is answered, to the primary as far as one knows, then to the others in turn.

        ``patience`` is how much longer than usual a node may take.
        """
        frame = self._wire.encode(message)
        last: Exception | None = None
        waits, patience = patience, PATIENCE[0]
        asked = uncertain = False
        stays: float | None = None
        while True:
            sent = False
            left = deadline - time.monotonic()
            if left <= 0 or self._stopped:
                self._hang_up()
                error = GroupUnavailable(f"no node of the group has answered in time ({last or 'silence'})")
                error.asked = asked
                raise error
            try:
                connection = self._connect(min(left, max(patience, 0.5)))
                self._set_timeout(connection, min(left, waits + patience))
                sent = isinstance(message, Request)
                asked = True
                written = connection.send(frame)
                if written < len(frame):
                    connection.sendall(frame[written:])
                answer = self._receive(connection, message)
            except (OSError, Dropped) as error:
                last = error
                uncertain |= sent  # A node that has not answered may have carried it out all the same.
                if isinstance(error, TimeoutError):
                    patience = min(2 * patience, PATIENCE[1])  # Perhaps it is only slow: repeating helps nobody then.
                else:
                    self._refused[self._primary] = time.monotonic()
                self._hang_up()
                self._next()
                stays = None
                time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
                continue
            if isinstance(answer, Redirect):
                now = time.monotonic()
                stays = stays or now
                if self._follow(answer, connection):
                    stays = None
                elif now - stays > patience:
                    self._hang_up()
                    self._next()
                    stays = None
                else:
                    time.sleep(min(_PAUSE, max(0.0, deadline - now)))
                continue
            if isinstance(answer, Denied):
                self._renew()  # Its number was not used.
                if uncertain:
                    raise GroupUnavailable(
                        f"a node refused, but one that was asked before may have done it: {answer.why}"
                    )
                raise NotPermitted(answer.why)
            return answer

    def _follow(self, answer: Redirect, connection: ssl.SSLSocket) -> bool:
        """Turn to whom a node says is primary. False: that is this node, or one that is not there; ask it again."""
        self._view = max(self._view, answer.view)
        primary = answer.primary
        if primary not in self._group.members:
            self._find_members(connection)
        if (
            primary not in self._group.members
            or primary == self._connected_to
            or time.monotonic() - self._refused.get(primary, -AVOIDED) < AVOIDED
        ):
            return False
        self._primary = primary
        self._hang_up()
        return True

    def _find_members(self, connection: ssl.SSLSocket) -> None:
        """Ask a node where the members are: there are others than when this client was told."""
        self._asked += 1
        try:
            question = AskStatus(self._client, self._asked)
            connection.sendall(self._wire.encode(question))
            answer = self._receive(connection, question)
            addresses: Any = json.loads(answer.document)["addresses"] if isinstance(answer, TellStatus) else {}
            found = {int(member): parse_address(address) for member, address in addresses.items()}
        except (OSError, Dropped, ValueError, LookupError, AttributeError, ConfigurationError):
            return  # The next redirection has it asked again.
        self._group = self._group._replace(members={**self._group.members, **found})
        self._members = sorted(self._group.members)

    def _set_timeout(self, connection: ssl.SSLSocket, seconds: float) -> None:
        if seconds != self._patience:  # Setting it is a call of the system, and it is the same for most questions.
            connection.settimeout(seconds)
            self._patience = seconds

    def _receive(self, connection: ssl.SSLSocket, question: Message) -> Message:
        """Return what answers a question.

        What was asked twice may be answered twice, the second time on a later connection, and questions to the kernel
        are numbered by themselves: so the number alone does not tell whether this is the answer.
        """
        fits = _ANSWERS[type(question)]
        number = getattr(question, "number", -1)
        while True:
            answer = self._wire.decode(self._next_frame(connection))
            if answer is None or getattr(answer, "client", b"") != self._client:
                continue
            self._view = max(self._view, getattr(answer, "view", 0))
            if isinstance(answer, fits) and getattr(answer, "number", number) == number:
                return answer

    def _next_frame(self, connection: ssl.SSLSocket) -> bytes:
        """Return a frame and its message. The usual answer comes with one call."""
        data = self._received
        pieces: list[bytes] = []
        have, need = len(data), FRAME_SIZE
        while True:
            if have >= need:
                if pieces:
                    data = b"".join((data, *pieces))
                    pieces.clear()
                need = FRAME_SIZE + message_size(data[:FRAME_SIZE])
                if have >= need:
                    self._received = data[need:]
                    return data[:need]
            piece = connection.recv(_RECEIVE)
            if not piece:
                raise ConnectionError("the node has hung up; its log may say why")
            if have:
                pieces.append(piece)
            else:
                data = piece
            have += len(piece)

    def _connect(self, timeout: float) -> ssl.SSLSocket:
        if self._socket is not None and self._connected_to == self._primary:
            return self._socket
        self._hang_up()
        address = self._group.members[self._primary]
        plain = socket.create_connection((address.host, address.port), timeout=timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = self._group.tls.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise
        self._patience = None
        self._received = b""
        self._connected_to = self._primary
        if self._stopped:
            raise ConnectionError("interrupted")
        return self._socket

    def _hang_up(self) -> None:
        self.close()
        self._connected_to = None

    def _next(self) -> None:
        at = self._members.index(self._primary)
        self._primary = self._members[(at + 1) % len(self._members)]
