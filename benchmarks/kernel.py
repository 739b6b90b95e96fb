"""``python -m benchmarks.kernel``: CPU time of one append of 250 bytes through the kernel, decoded and applied."""

from __future__ import annotations

import time
import timeit

from veritydb.chain import ZERO_HASH, pack_header
from veritydb.kernel import (
    EMPTY,
    BatchRequest,
    CreateStream,
    DataClass,
    Placement,
    Register,
    State,
    apply_batch,
    encode_append,
    encode_batch,
    encode_command,
    head,
)

STREAM = b"s" * 16
LIMIT_US = 8.0


def _record(state: State, id_: bytes) -> bytes:
    at = head(state, STREAM)
    assert at is not None
    return pack_header(
        STREAM, at.next_offset, 1, at.hash, id_, 0, bytes(32), bytes(12), ZERO_HASH, 0, 42, 0, 0, 1, 1
    ) + bytes(42)  # fmt: skip


def main() -> None:
    """Print microseconds per append, one and 32 to an op (each client on a stream of its own would cost the same)."""
    state = EMPTY
    clients = [bytes([number]) * 16 for number in range(1, 33)]
    state, _ = apply_batch(
        state, 1, 1, encode_batch([BatchRequest(client, 0, 0, encode_command(Register())) for client in clients])
    )
    create = encode_command(CreateStream(STREAM, Placement(DataClass.NON_PHI, "")))
    state, _ = apply_batch(state, 2, 1, encode_batch([BatchRequest(clients[0], 1, 1, create)]))
    for count in (1, 32):
        requests: list[BatchRequest] = []
        ahead = state
        for number, client in enumerate(clients[:count]):
            command = encode_append((), _record(ahead, bytes([number + 1]) * 16))
            request = BatchRequest(client, 1, 2 if number == 0 else 1, command)
            ahead, _ = apply_batch(ahead, ahead.op + 1, 1, encode_batch([request]))
            requests.append(request)
        body = encode_batch(requests)
        times = timeit.repeat(
            lambda body=body: apply_batch(state, 3, 1, body), number=200, repeat=25, timer=time.process_time
        )
        each = min(times) / 200 / count * 1e6
        print(f"{count:3} to an op: {each:5.2f} us of CPU for one append (asked for: {LIMIT_US:g} at most)")


if __name__ == "__main__":
    main()
