"""Dialling a peer: whose descriptor it is, and when, on either event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import threading

import anyio
import pytest
import uvloop

from tests.cluster.groups import free_port
from veritydb.cluster import dialling
from veritydb.cluster.certificates import context
from veritydb.cluster.config import Address, read_config
from veritydb.cluster.dialling import Dialler, dial, hand_over
from veritydb.cluster.founding import found


@pytest.fixture
def tls(tmp_path):
    (node, *_) = found(tmp_path / "cluster", {1: Address("127.0.0.1", free_port())})
    config = read_config(node)
    return context(config.authority, config.certificate, config.key, server=False)


@pytest.fixture
def resetting():
    """A machine that takes connections and throws them away at once, as one does whose process is just being killed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def throw_away():
        while True:
            try:
                taken, _ = listener.accept()
            except OSError:
                return
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            taken.close()

    thread = threading.Thread(target=throw_away)
    thread.start()
    yield Address(*listener.getsockname())
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


async def dialled_again_and_again(address, tls, times):
    """Return the sockets, which nobody else has any more."""
    sockets = []
    for _ in range(times):
        try:
            sockets.append(await dial(address))
            await hand_over(sockets[-1], asyncio.Protocol(), tls, address.host)
        except OSError:
            continue
    await asyncio.sleep(0.1)
    return sockets


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_that_ends_while_it_is_made_is_closed_once(run, resetting, tls):
    """Closed twice, the number was another connection's the second time: the node that had it ended, some day."""

    async def main():
        before = len(os.listdir("/proc/self/fd"))
        sockets = await dialled_again_and_again(resetting, tls, 300)
        assert sockets
        assert [each.fileno() for each in sockets] == [-1] * len(sockets)
        del sockets
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 3, "a loop opens one or two for itself"

    run(main())


def test_nobody_listens_there(tls):
    async def main():
        with pytest.raises(ConnectionRefusedError):
            await dial(Address("127.0.0.1", free_port()))

    uvloop.run(main())


def test_a_peer_that_speaks_again_is_dialled_at_once(tls, monkeypatch):
    """It was waited for up to a second; a member that was restarted heard nothing meanwhile and wanted another view."""
    monkeypatch.setattr(dialling, "RETRY_SECONDS", (3600.0, 3600.0))
    address = Address("127.0.0.1", free_port())
    refused = []

    async def main():
        dialler = Dialler(1, {1: address, 2: address}, tls, filled=refused.append, gone=refused.append)
        async with anyio.create_task_group() as tasks:
            dialler.start(tasks)
            with anyio.fail_after(30):
                while not refused:
                    await anyio.sleep(0.01)
                with socket.create_server(address) as listener:
                    listener.setblocking(False)
                    dialler.heard(3)  # Nobody whom one dials.
                    dialler.heard(2)
                    accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
                    accepted.close()
            tasks.cancel_scope.cancel()

    asyncio.run(main())
    assert refused == [2]
