"""Small hands for tests of the kernel: records, requests, and a state that is driven op by op."""

from __future__ import annotations

from veritydb.chain import HEADER_SIZE, ZERO_HASH, pack_header
from veritydb.kernel import (
    EMPTY,
    BatchRequest,
    Command,
    CreateStream,
    DataClass,
    Output,
    Placement,
    Register,
    Reply,
    State,
    apply_batch,
    decode_reply,
    encode_batch,
    encode_command,
)

ANYWHERE = Placement(DataClass.NON_PHI, "")


def name(number: int) -> bytes:
    """Return 16 bytes: a client, a stream, an id."""
    return number.to_bytes(16, "big")


STREAM = name(0x57)


def record(
    offset: int = 0,
    prev_hash: bytes = ZERO_HASH,
    *,
    stream: bytes = STREAM,
    id_: bytes = name(1),
    count: int = 1,
    body: bytes = b"sealed",
    timestamp: int = 5,
    generation: int = 0,
) -> bytes:
    """Return a record as a writer makes it."""
    header = pack_header(
        stream, offset, timestamp, prev_hash, id_, 0, bytes(32), bytes(12), ZERO_HASH, 0, len(body), 0, generation,
        count, 1,
    )  # fmt: skip
    assert len(header) == HEADER_SIZE
    return header + body


class Node:
    """A state, and clients that have one request after another."""

    def __init__(self, *streams: bytes) -> None:
        self.state: State = EMPTY
        self.numbers: dict[bytes, int] = {}
        self.outputs: tuple[Output, ...] = ()
        for stream in streams:
            self.ask(CreateStream(stream, ANYWHERE))

    def batch(self, *requests: BatchRequest) -> list[Reply]:
        """Execute requests in one op."""
        op = self.state.op + 1
        self.state, self.outputs = apply_batch(self.state, op, 1000 * op, encode_batch(requests))
        return [decode_reply(output.reply) for output in self.outputs]

    def register(self, client: bytes = name(0xC)) -> Reply:
        """Begin a client's session."""
        (reply,) = self.batch(BatchRequest(client, 0, 0, encode_command(Register())))
        self.numbers[client] = 0
        return reply

    def request(self, command: Command | bytes, client: bytes = name(0xC)) -> BatchRequest:
        """Return the client's next request."""
        if client not in self.numbers:
            self.register(client)
        self.numbers[client] += 1
        data = command if isinstance(command, bytes) else encode_command(command)
        return BatchRequest(client, self.state.sessions[client].session, self.numbers[client], data)

    def ask(self, command: Command | bytes, client: bytes = name(0xC)) -> Reply:
        """Execute the client's next request in an op of its own."""
        (reply,) = self.batch(self.request(command, client))
        return reply
