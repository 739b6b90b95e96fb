"""A cluster of real processes, and appends to its streams."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from veritydb import kernel
from veritydb.chain import Kind, chain_hash, pack_header
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import Address, NodeConfig, read_client_config, read_config
from veritydb.cluster.founding import found
from veritydb.cluster.session import Group, Session
from veritydb.log import Log

SLOTS = 256
PATIENCE = 60.0
PLACEMENT = kernel.Placement(kernel.DataClass.NON_PHI, "")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """Members 1 to N, each a process."""

    def __init__(self, folder: Path, members: int = 3, *, addresses: dict[int, Address] | None = None) -> None:
        self.folder = folder
        if addresses is None:
            addresses = {number: Address("127.0.0.1", free_port()) for number in range(1, members + 1)}
        self.configs = dict(zip(addresses, found(folder, addresses, slots=SLOTS), strict=True))
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, member: int, *flags: str) -> None:
        with open(self.folder / f"node-{member}.out", "ab") as out:
            command = [*self.program(member), "run", "--config", str(self.configs[member]), *flags]
            self.nodes[member] = subprocess.Popen(command, stdout=out, stderr=out)

    def program(self, member: int) -> list[str]:
        """Return what runs a node."""
        return [sys.executable, "-m", "veritydb", "node"]

    def start_all(self) -> None:
        for member in self.configs:
            self.start(member)

    def wait_until_it_answers(self) -> None:
        """Wait for a primary. Starting three processes may take longer than a connection is patient."""
        session = Session(self.group())
        session.read_head(bytes(16), timeout=PATIENCE)
        session.close()

    def kill(self, member: int) -> None:
        self.nodes[member].send_signal(signal.SIGKILL)
        self.nodes.pop(member).wait()

    def stop(self, member: int) -> int:
        """End a node as a service manager does, once it is there; return its exit code."""
        address = self.config(member).address
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), 1.0):
                break
            assert time.monotonic() < deadline, self.output(member)
            time.sleep(0.05)
        self.nodes[member].terminate()
        return self.nodes.pop(member).wait(timeout=PATIENCE)

    def output(self, member: int) -> str:
        return (self.folder / f"node-{member}.out").read_text()

    def config(self, member: int = 1) -> NodeConfig:
        return read_config(self.configs[member])

    def group(self) -> Group:
        return group(self.folder)

    def log(self, member: int, stream: bytes) -> Log:
        return Log.open(self.config(member).data / "streams" / stream.hex(), read_only=True)

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        for node in self.nodes.values():
            node.wait()


def group(folder):
    """The group as the client knows it whose folder a cluster's has."""
    return group_of(read_client_config(folder / "client"))


@contextlib.contextmanager
def cluster(folder: Path, members: int = 3) -> Generator[Cluster]:
    made = Cluster(folder, members)
    try:
        yield made
    finally:
        made.close()


class Stream:
    """A stream that one client appends to, with what was acknowledged."""

    def __init__(self, group: Group, name: bytes | None = None) -> None:
        self.session = Session(group)
        self.name = name or secrets.token_bytes(16)
        self.next_offset = 0
        self.hash = bytes(32)
        self.acknowledged: list[bytes] = []

    def create(self) -> Stream:
        created = self.session.command(kernel.CreateStream(self.name, PLACEMENT), timeout=PATIENCE)
        assert isinstance(created, kernel.Created)
        return self

    def record(self, size: int = 100) -> bytes:
        header = pack_header(
            self.name,
            self.next_offset,
            1,
            self.hash,
            secrets.token_bytes(16),
            0,
            bytes(32),
            bytes(12),
            bytes(32),
            0,
            size,
            0,
            0,
            1,
            Kind.DATA,
        )
        return header + os.urandom(size)

    def append(self, size: int = 100, timeout: float = PATIENCE) -> None:
        record = self.record(size)
        reply = self.session.send(kernel.encode_append((), record), timeout=timeout)
        assert isinstance(reply, kernel.Appended), reply
        self.hash = chain_hash(self.hash, record)
        assert reply.hash == self.hash
        self.next_offset = reply.next_offset
        self.acknowledged.append(self.hash)

    def close(self) -> None:
        self.session.close()
