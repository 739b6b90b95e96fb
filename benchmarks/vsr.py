"""The replica alone: three of them in one process, messages handed over as values, writes done at once.

CPU time, so that no disk and no neighbour counts. What a node adds, bytes, sockets and a disk, is measured with the
cluster.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from hashlib import sha256
from pathlib import Path

from benchmarks.measuring import Measured
from tests.support.members import CLUSTER, ROOT, SNAPSHOT, Disk
from veritydb import kernel
from veritydb.log.record import Kind, pack_header
from veritydb.vsr.effects import Answer, Arrived, Committed, Effect, Event, Halt, Retained, Send, Tick, Write, WriteDone
from veritydb.vsr.messages import Reply, Request
from veritydb.vsr.options import Options
from veritydb.vsr.replica import Replica, Status
from veritydb.vsr.superblock import first_superblock

MEMBERS = 3
CLIENTS = 64
BODY = 250
"""Bytes of a record besides its header."""


class Group:
    """Three replicas and the streams of some clients."""

    def __init__(self) -> None:
        options = Options()
        self.replicas: list[Replica] = []
        self.events: deque[tuple[int, Event]] = deque()
        self.replies: list[Reply] = []
        self.steps = 0
        for member in range(MEMBERS):
            block = first_superblock(
                cluster=CLUSTER, member=member, members=tuple(range(MEMBERS)), root=ROOT.header, snapshot=SNAPSHOT
            )
            image = Disk(block, options).image()
            self.replicas.append(Replica(cluster=CLUSTER, member=member, image=image, seed=member + 1, options=options))
            self._carry_out(member, self.replicas[-1].start(0))
        while not any(replica.is_primary and replica.view_committed for replica in self.replicas):
            self.run()
            for member, replica in enumerate(self.replicas):
                self._carry_out(member, replica.step(0, Tick()))
        self.run()
        self.primary = next(
            member
            for member, replica in enumerate(self.replicas)
            if replica.is_primary and replica.status is Status.NORMAL
        )
        self.clients = [os.urandom(16) for _ in range(CLIENTS)]
        self.sessions: dict[bytes, int] = {}
        self.heads = {client: (0, bytes(32)) for client in self.clients}
        self.numbers = dict.fromkeys(self.clients, 0)
        for reply in self.ask(
            [self.request(client, kernel.encode_command(kernel.Register())) for client in self.clients]
        ):
            self.sessions[reply.client] = reply.op
        placement = kernel.Placement(kernel.DataClass.NON_PHI, "")
        self.ask(
            [
                self.request(client, kernel.encode_command(kernel.CreateStream(client, placement)))
                for client in self.clients
            ]
        )

    def request(self, client: bytes, command: bytes) -> Request:
        """Return the client's next request."""
        number = self.numbers[client]
        self.numbers[client] = number + 1
        return Request(client, self.sessions.get(client, 0), number, command, 0)

    def append(self, client: bytes) -> Request:
        """Return a request that appends a record to the client's stream."""
        offset, before = self.heads[client]
        header = pack_header(
            client, offset, 1, before, os.urandom(16), 0, bytes(32), bytes(12), bytes(32), 0, BODY, 0, 0, 1, Kind.DATA
        )
        record = header + bytes(BODY)
        self.heads[client] = (offset + 1, sha256(before + record).digest())
        return self.request(client, kernel.encode_append((), record))

    def ask(self, requests: list[Request]) -> list[Reply]:
        """Let the primary have them, and return what it answers."""
        self.replies = []
        for request in requests:
            self.events.append((self.primary, Arrived(request)))
        self.run()
        assert len(self.replies) == len(requests)
        return self.replies

    def run(self) -> None:
        """Carry out what is on its way, until nothing is."""
        while self.events:
            member, event = self.events.popleft()
            self.steps += 1
            self._carry_out(member, self.replicas[member].step(0, event))

    def _carry_out(self, member: int, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.events.append((effect.dst, Arrived(effect.message)))
            elif isinstance(effect, Write):
                self.events.append((member, WriteDone(effect.token, True)))
            elif isinstance(effect, Committed):
                self.events.append((member, Retained(effect.header.op)))
            elif isinstance(effect, Answer):
                assert isinstance(effect.message, Reply)
                self.replies.append(effect.message)
            elif isinstance(effect, Halt):
                raise SystemExit(effect.reason)


def measure(folder: Path, rounds: int) -> list[Measured]:
    group = Group()
    single: list[float] = []
    batched: list[float] = []
    paces: list[float] = []
    for _ in range(rounds):
        turns = [[group.append(group.clients[number % CLIENTS])] for number in range(1000)]
        before = group.steps
        taken = _cpu(group, turns)
        paces.append((group.steps - before) / taken)
        single.append(taken / len(turns) / MEMBERS * 1e6)
        turns = [[group.append(client) for client in group.clients[:32]] for _ in range(50)]
        batched.append(_cpu(group, turns) / len(turns) / 32 / MEMBERS * 1e6)
    (last,) = group.ask([group.append(group.clients[0])])
    assert isinstance(kernel.decode_reply(last.result), kernel.Appended)
    pace, one, share = (statistics.median(figures) for figures in (paces, single, batched))
    return [
        Measured(name="replica, steps", ours=f"{pace:,.0f}/s", peer="", value=pace, floor=40_000, unit="/s"),
        Measured(
            name="commit of one append, a node", ours=f"{one:.0f} us CPU", peer="", value=one, floor=150, at_most=True,
            unit=" us",
        ),
        Measured(
            name="append of 32 clients, a node", ours=f"{share:.1f} us CPU", peer="", value=share, floor=20,
            at_most=True, unit=" us",
        ),
    ]  # fmt: skip


def _cpu(group: Group, turns: list[list[Request]]) -> float:
    started = time.process_time()
    for requests in turns:
        group.ask(requests)
    return time.process_time() - started
