"""Commits through three nodes on this machine, against rqlite and PostgreSQL with a synchronous standby, with fsync.

One client, then 32 at the same time (for us: on 32 streams), then a batch of 10,000 rows. Clients are threads of four
processes, the same for everybody. Where a peer is not installed, that is said and it is left out.
"""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import postgresql, rqlite
from benchmarks.etcd import _free_port as free_port
from benchmarks.measuring import Measured

CLIENTS = 32
PROCESSES = 4
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


def _committer(kind: str, told: str, number: int) -> tuple[Callable[[int], object], Callable[[], object]]:
    """Return what commits one row, or so many, and what ends it."""
    text = "x" * 60
    if kind == "veritydb":
        import veritydb

        home = Path(told) / f"client-{number}"
        home.mkdir(exist_ok=True)
        db = veritydb.connect(
            home / "t.db",
            key=bytes(32),
            cluster=Path(told) / "client",
            stream=f"stream {number}",
            timeout=60,
            check_same_thread=False,
        )
        db.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, client INTEGER, text TEXT)")
        db.commit()

        def commit(rows: int) -> None:
            if rows == 1:
                db.execute("INSERT INTO t (client, text) VALUES (?, ?)", (number, text))
            else:
                db.executemany("INSERT INTO t (client, text) VALUES (?, ?)", [(number, text)] * rows)
            db.commit()

        return commit, db.close
    if kind == "rqlite":
        writer = rqlite.Writer(int(told))
        insert = ["INSERT INTO t (client, text) VALUES (?, ?)", number, text]
        return lambda rows: writer.execute(*([insert] * rows)), writer.close
    import psycopg

    connection = psycopg.connect(told)

    def commit_there(rows: int) -> None:
        with connection.cursor() as cursor:
            if rows == 1:
                cursor.execute("INSERT INTO t (client, text) VALUES (%s, %s)", (number, text))
            else:
                cursor.executemany("INSERT INTO t (client, text) VALUES (%s, %s)", [(number, text)] * rows)
        connection.commit()

    return commit_there, connection.close


# The clients ---------------------------------------------------------------------------------------------------------


def _work(
    where: tuple[str, str], numbers: list[int], commits: int | None, duration: float, ready: Any, go: Any, results: Any
) -> None:
    makers = [_committer(*where, number) for number in numbers]
    for commit, _ in makers:
        commit(1)
    ready.release()
    go.wait()
    times: list[list[float]] = [[] for _ in makers]

    def work(at: int) -> None:
        commit = makers[at][0]
        end = time.perf_counter() + duration
        while (commits is None and time.perf_counter() < end) or (commits is not None and len(times[at]) < commits):
            began = time.perf_counter()
            commit(1)
            times[at].append(time.perf_counter() - began)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(makers))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((time.perf_counter() - started, times))
    for _, close in makers:
        close()


def _run(where: tuple[str, str], clients: int, *, commits: int | None = None, seconds: float = 0.0) -> Turn:
    context = multiprocessing.get_context("spawn")
    processes = min(PROCESSES, clients)
    ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
    numbers = [list(range(first, clients, processes)) for first in range(processes)]
    workers = [
        context.Process(target=_work, args=(where, mine, commits, seconds, ready, go, results)) for mine in numbers
    ]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    go.set()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    counts = [len(times) for _, each in found for times in each]
    latencies = sorted(time_ for _, each in found for times in each for time_ in times)
    return Turn(
        sum(counts) / max(elapsed for elapsed, _ in found),
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
        min(counts) / statistics.mean(counts),
    )


def _batch(where: tuple[str, str]) -> float:
    commit, close = _committer(*where, 0)
    commit(1)
    began = time.perf_counter()
    commit(BATCH)
    took = time.perf_counter() - began
    close()
    return took
