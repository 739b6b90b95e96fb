"""Commits through three nodes on this machine, against rqlite and PostgreSQL with a synchronous standby, with fsync.

One client, then 32 at the same time (for us: on 32 streams), then a batch of 10,000 rows. Clients are threads of four
processes, the same for everybody. Where a peer is not installed, that is said and it is left out.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import postgresql, rqlite
from benchmarks.cluster_clients import Crowd, committer
from benchmarks.measuring import Measured, free_port

CLIENTS = 32
SECONDS = 4.0
"""Of each turn with many clients."""
ALONE = 300
"""Commits of a turn with one."""
BATCH = 10_000


class Turn(NamedTuple):
    """What some clients did."""

    rate: float
    """Commits a second, all together."""
    p50: float
    p99: float
    """Milliseconds."""
    fairness: float
    """What the slowest client did, over the mean."""


def measure(folder: Path, rounds: int) -> Iterator[Measured]:
    """Yield the lines of the table."""
    turns: dict[str, dict[str, list[Turn]]] = {}
    batches: dict[str, list[float]] = {}
    rounds = min(rounds, 3)
    with ours(folder) as us, _peers(folder) as peers:
        systems = {"VerityDB": us, **peers}
        for _ in range(rounds):
            for name, where in systems.items():
                kinds = turns.setdefault(name, {"alone": [], "many": []})
                kinds["alone"].append(_run(where, 1, commits=ALONE))
                kinds["many"].append(_run(where, CLIENTS, seconds=SECONDS))
                batches.setdefault(name, []).append(_batch(where))
    mine = {kind: _median(found) for kind, found in turns["VerityDB"].items()}
    my_batch = statistics.median(batches["VerityDB"])
    for name, kinds in turns.items():
        if name == "VerityDB":
            continue
        theirs = {kind: _median(found) for kind, found in kinds.items()}
        floors = (1.5, 2.0) if name == "rqlite" else (None, 1.0)
        yield _compared(f"1 client, {name}", mine["alone"], theirs["alone"], floors[0])
        yield _compared(f"{CLIENTS} clients, {name}", mine["many"], theirs["many"], floors[1])
        batch = statistics.median(batches[name])
        yield Measured(
            name=f"a batch of {BATCH:,}, {name}",
            ours=f"{my_batch * 1000:,.0f} ms",
            peer=f"{batch * 1000:,.0f} ms",
            value=batch / my_batch,
            floor=1.0 if name == "rqlite" else None,
        )
    yield Measured(
        name="1 client, p99",
        ours=_said(mine["alone"]),
        peer="",
        value=mine["alone"].p99,
        floor=23,
        at_most=True,
        unit=" ms",
    )
    yield Measured(
        name=f"{CLIENTS} clients, slowest / mean",
        ours=_said(mine["many"]),
        peer="",
        value=mine["many"].fairness,
        floor=0.5,
    )


def _compared(name: str, mine: Turn, theirs: Turn, floor: float | None) -> Measured:
    return Measured(name=name, ours=_said(mine), peer=_said(theirs), value=mine.rate / theirs.rate, floor=floor)


def _said(turn: Turn) -> str:
    return f"{turn.rate:,.0f}/s, p50 {turn.p50:.1f} p99 {turn.p99:.1f} ms"


def _median(turns: list[Turn]) -> Turn:
    return Turn(*(statistics.median(column) for column in zip(*turns, strict=True)))


# The systems ---------------------------------------------------------------------------------------------------------


@contextmanager
def ours(folder: Path) -> Iterator[tuple[str, str]]:
    """Run three nodes; yield how to reach them."""
    with running(folder) as (where, _):
        yield where


@contextmanager
def running(folder: Path) -> Iterator[tuple[tuple[str, str], list[int]]]:
    """Run three nodes; yield how to reach them, and their processes."""
    from veritydb.cluster.config import Address
    from veritydb.cluster.founding import found

    home = folder / "veritydb"
    addresses = {member: Address("127.0.0.1", free_port()) for member in (1, 2, 3)}
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "veritydb", "node", "run", "--config", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for path in found(home, addresses)
    ]
    try:
        yield ("veritydb", str(home)), [node.pid for node in nodes]
    finally:
        for node in nodes:
            node.kill()
            node.wait()


@contextmanager
def _peers(folder: Path) -> Iterator[dict[str, tuple[str, str]]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        found: dict[str, tuple[str, str]] = {}
        if why := rqlite.missing():
            print(f"rqlite is not measured: {why}")
        else:
            port = stack.enter_context(rqlite.cluster(folder))
            writer = rqlite.Writer(port)
            writer.execute(["CREATE TABLE t (id INTEGER PRIMARY KEY, client INTEGER, text TEXT)"])
            writer.close()
            found["rqlite"] = ("rqlite", str(port))
        if why := postgresql.missing():
            print(f"PostgreSQL is not measured: {why}")
        else:
            import psycopg

            told = stack.enter_context(postgresql.replicated(folder))
            with psycopg.connect(told, autocommit=True) as db:
                db.execute("CREATE TABLE t (id BIGSERIAL PRIMARY KEY, client INTEGER, text TEXT)")
            found["PostgreSQL, ANY 1 of 2"] = ("postgresql", told)
        yield found


# The clients ---------------------------------------------------------------------------------------------------------


def _run(where: tuple[str, str], clients: int, *, commits: int | None = None, seconds: float = 0.0) -> Turn:
    with Crowd(where, clients, commits=commits, seconds=seconds) as crowd:
        found = crowd.go()
    counts = [len(times) for worked in found for times in worked.times]
    latencies = sorted(time_ for worked in found for times in worked.times for time_ in times)
    return Turn(
        sum(counts) / max(worked.seconds for worked in found),
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
        min(counts) / statistics.mean(counts),
    )


def _batch(where: tuple[str, str]) -> float:
    commit, close = committer(*where, 0)
    commit(1)
    began = time.perf_counter()
    commit(BATCH)
    took = time.perf_counter() - began
    close()
    return took
