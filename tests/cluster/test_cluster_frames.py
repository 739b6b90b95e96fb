"""A connection of a node: frames are found wherever the pieces end, and what waits is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veritydb.cluster import frames
from veritydb.cluster.frames import Frames
from veritydb.vsr.messages import Denied, Redirect
from veritydb.vsr.wire import FRAME_SIZE, DropReason, Wire, derive_keys

WIRE = Wire(cluster=bytes(16), keys=derive_keys(bytes(32)), member=1)


class Ends:
    """A connection, what it was told, and the socket at its other end."""

    def __init__(self):
        self.heard = []
        self.unheard = []
        self.filled = []
        self.connection = Frames(
            self.filled.append,
            lambda _, data: self.heard.append(data),
            self.unheard.append,
        )

    @contextlib.asynccontextmanager
    async def open(self):
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        ours.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.connection, ours)
        try:
            yield self
        finally:
            self.connection.hang_up()
            await self.connection.lost.wait()
            self.theirs.close()


class Heard:
    """A transport that is only asked whether it is closing."""

    def __init__(self):
        self.aborted = False

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True


def message(number, size=0):
    return WIRE.encode(Denied(b"c" * 16, number, "w" * size))


SENT = [message(1), message(2, 4000), message(3), WIRE.encode(Redirect(b"c" * 16, 4, 2, 1)), message(5, 300)]


@given(cuts=st.lists(st.integers(0, sum(map(len, SENT))), max_size=12), rest=st.binary(max_size=FRAME_SIZE - 1))
@settings(max_examples=200)
def test_frames_are_heard_whole_wherever_the_pieces_end(cuts, rest):
    ends = Ends()
    ends.connection.connection_made(Heard())
    data = b"".join(SENT) + rest
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        if cut > at:
            ends.connection.data_received(data[at:cut])
            at = cut
    assert ends.heard == SENT
    assert not ends.unheard


def test_what_is_no_frame_ends_the_connection():
    async def run():
        ends = Ends()
        async with ends.open():
            ends.theirs.send(SENT[0] + b"GET / HTTP/1.1\r\nHost: clinic.example\r\n" + bytes(FRAME_SIZE) + SENT[2])
            async with asyncio.timeout(30):
                await ends.connection.lost.wait()
        return ends

    ends = asyncio.run(run())
    assert ends.heard == SENT[:1]
    assert [dropped.reason for dropped in ends.unheard] == [DropReason.NOT_A_FRAME]
    assert not ends.connection.put(SENT[0]), "nothing is gathered for whom there is no connection"


def test_nothing_is_heard_after_hanging_up():
    ends = Ends()
    transport = Heard()
    ends.connection.connection_made(transport)
    ends.connection._heard = lambda connection, data: (ends.heard.append(data), connection.hang_up())
    ends.connection.data_received(b"".join(SENT))
    assert ends.heard == SENT[:1]


def test_what_was_put_goes_out_with_one_flush():
    async def run():
        ends = Ends()
        async with ends.open():
            for each in SENT:
                assert ends.connection.put(each)
            assert ends.filled == [ends.connection], "told once, when the first came"
            ends.connection.flush()
            ends.connection.flush()
            ends.connection.put(SENT[0])
            assert len(ends.filled) == 2
            await asyncio.sleep(0)
            return ends.theirs.recv(1 << 20)

    assert asyncio.run(run()) == b"".join(SENT)


def test_what_waits_for_who_does_not_read_is_bounded_and_arrives_when_it_reads(monkeypatch):
    large = message(1, 4000)
    monkeypatch.setattr(frames, "QUEUE_MAX", 10 * len(large))

    async def run():
        ends = Ends()
        async with ends.open():
            put = 0
            while ends.connection.put(large):
                put += 1
                ends.connection.flush()
                assert put < 10_000
            got = 0
            async with asyncio.timeout(30):
                while got < put * len(large):
                    try:
                        got += len(ends.theirs.recv(1 << 20))
                    except BlockingIOError:
                        await asyncio.sleep(0.001)
            assert got == put * len(large)
            assert ends.connection.put(large), "there is room again"
            return put

    assert asyncio.run(run()) >= 10


@pytest.mark.parametrize("size", [1, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1])
def test_a_message_that_is_cut_off_is_not_heard(size):
    async def run():
        ends = Ends()
        async with ends.open():
            ends.theirs.send(SENT[0] + SENT[1][:size])
            ends.theirs.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(30):
                await ends.connection.lost.wait()
        return ends

    ends = asyncio.run(run())
    assert ends.heard == SENT[:1]
    assert not ends.unheard
