"""How soon a commit is told, and what being told of costs those who commit.

The peer of a latency is the bare hand-over under the same load, in turns with it: a commit, then a token through a
queue to a thread, or through a pipe to a process, that does nothing else. What that takes is the machine's and
Python's.

Latencies are from ``commit()`` having returned to the update being in the subscriber's hands, on the same clock
(CLOCK_MONOTONIC is one for all processes of a machine), with commits 2 ms apart, as a person or a service makes them.
Throughput is of commits as fast as they go, in turns with and without subscribers. On a machine with busy neighbours
run it in the kernel's real-time class, as root: ``chrt -r 10 python -m benchmarks subscriptions``; the readers of the
throughput leave that class.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import veritydb
from benchmarks import etcd, postgresql
from benchmarks.measuring import KEY, Measured, program
from veritydb.subscriptions import open_feed

COUNT = 250
TURNS = 3
PAUSE = 0.002
BURST = 1_000


def measure(folder: Path, rounds: int) -> Iterator[Measured]:
    """Yield the lines of the table."""
    path = folder / "clinic.db"
    with closing(veritydb.connect(path, key=KEY)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        yield _latency("commit -> iterator, same process, p99", lambda: _in_process(db), lambda: _queue(db), 1.0)
        yield _latency(
            "commit -> iterator, other process, p99", lambda: _other_process(db, path), lambda: _pipe(db), 5.0
        )
        yield from _throughput(db, path, rounds)
        if why := postgresql.missing():
            print(f"PostgreSQL is not measured: {why}")
        else:
            with postgresql.server(folder) as server:
                for begun in (False, True):
                    since = "from call" if begun else "after the commit"
                    for peer, measure_it in (("LISTEN/NOTIFY", _notified), ("logical decoding", _decoded)):
                        yield _against(
                            f"p50 {since} to another process, PostgreSQL {peer}",
                            db,
                            path,
                            partial(measure_it, server, begun=begun),
                            begun=begun,
                        )

        if why := etcd.missing():
            print(f"etcd is not measured: {why}")
        else:
            with etcd.server(folder) as port:
                # Its watcher has the word before the writer has the answer, so both are timed from the writer's call.
                yield _against(
                    "p50 from call to another process, etcd watch", db, path, lambda: _watched(port), begun=True
                )


def _latency(name: str, ours: Callable[[], list[float]], peer: Callable[[], list[float]], ceiling: float) -> Measured:
    told, handed = [], []
    for _ in range(TURNS):
        told += ours()
        handed += peer()
    p99 = _quantile(told, 0.99)
    return Measured(
        name=name,
        ours=f"p50 {_quantile(told, 0.5):.2f}, p90 {_quantile(told, 0.9):.2f} ms",
        peer=f"p50 {_quantile(handed, 0.5):.2f}, p99 {_quantile(handed, 0.99):.2f} ms",
        value=p99,
        floor=ceiling,
        at_most=True,
        unit=" ms",
    )


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


def _commit(db: Any) -> None:
    db.execute("INSERT INTO t(body) VALUES ('a note of some length, as notes are')")
    db.commit()


def _paced(db: Any, count: int, *, begun: bool = False) -> list[float]:
    """Commit at a pace; return when each had returned, or was begun."""
    moments: list[float] = []
    for _ in range(count):
        before = time.monotonic()
        _commit(db)
        moments.append(before if begun else time.monotonic())
        time.sleep(PAUSE)
    return moments


def _in_process(db: Any) -> list[float]:
    seen: list[float] = []
    with db.subscribe() as updates:

        def read() -> None:
            for _ in range(COUNT):
                updates.get()
                seen.append(time.monotonic())

        thread = threading.Thread(target=read)
        thread.start()
        done = _paced(db, COUNT)
        thread.join()
    return [max(0.0, told - committed) * 1000 for told, committed in zip(seen, done, strict=True)]


_FOLLOWER = """
import os, sys, time
from veritydb.subscriptions import open_feed
path, count, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if count < 0:
    # One that reads without pause, in the real-time class of the benchmark, would keep the kernel from a core.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
feed = open_feed(path, key=bytes(range(32)))
subscriptions = [feed.subscribe() for _ in range(many)]
print("ready", flush=True)
seen = []
reading = subscriptions[1:] or subscriptions   # The first of many stalls.
while count < 0 or len(seen) < count:
    for subscription in reading:
        first = subscription is reading[0]
        update = subscription.get(0.2 if first else 0)
        while update is not None:
            if first:
                seen.append(time.monotonic())
            update = None if count >= 0 and len(seen) >= count else subscription.get(0)
    if count < 0 and seen and time.monotonic() - seen[-1] > 0.15:
        seen.clear()
print(repr(seen), flush=True)
for subscription in subscriptions:
    subscription.close()
feed.close()
"""


def _other_process(db: Any, path: Path, *, begun: bool = False) -> list[float]:
    with program(_FOLLOWER, path, COUNT, 1) as follower:
        done = _paced(db, COUNT, begun=begun)
        assert follower.stdout is not None
        seen = json.loads(follower.stdout.readline())
    return [max(0.0, told - committed) * 1000 for told, committed in zip(seen, done, strict=True)]


def _queue(db: Any) -> list[float]:
    tokens: SimpleQueue[float] = SimpleQueue()
    seen: list[float] = []

    def read() -> None:
        for _ in range(COUNT):
            committed = tokens.get()
            seen.append((time.monotonic() - committed) * 1000)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(COUNT):
        _commit(db)
        tokens.put(time.monotonic())
        time.sleep(PAUSE)
    thread.join()
    return seen


_READER = """
import sys, time
seen = []
while line := sys.stdin.readline():
    seen.append((time.monotonic() - float(line)) * 1000)
print(repr(seen), flush=True)
"""


def _pipe(db: Any) -> list[float]:
    with subprocess.Popen(
        [sys.executable, "-c", _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        time.sleep(0.3)
        for _ in range(COUNT):
            _commit(db)
            process.stdin.write(f"{time.monotonic()!r}\n")
            process.stdin.flush()
            time.sleep(PAUSE)
        process.stdin.close()
        seen: list[float] = json.loads(process.stdout.readline())
    return seen


def _against(name: str, db: Any, path: Path, peer: Callable[[], list[float]], *, begun: bool = False) -> Measured:
    """Both in turns: from the commit that has returned, or was begun, to the other process that has it in its hands."""
    ours, theirs = [], []
    for _ in range(TURNS):
        ours += _other_process(db, path, begun=begun)
        theirs += peer()
    mine, their = _quantile(ours, 0.5), _quantile(theirs, 0.5)
    return Measured(
        name=name,
        ours=f"p50 {mine:.2f}, p99 {_quantile(ours, 0.99):.2f} ms",
        peer=f"p50 {their:.2f}, p99 {_quantile(theirs, 0.99):.2f} ms",
        value=their / mine,
        floor=0.0,  # Stated, not promised.
    )


_LISTENER = """
import sys, time, psycopg
db = psycopg.connect(sys.argv[1], autocommit=True)
db.execute("LISTEN t")
print("ready", flush=True)
seen = []
for _ in db.notifies(stop_after=int(sys.argv[2])):
    seen.append(time.monotonic())
print(repr(seen[: int(sys.argv[2])]), flush=True)
"""


def _notified(server: str, *, begun: bool = False) -> list[float]:
    """A trigger notifies of each row, so that what is told is what was committed."""
    import psycopg

    with psycopg.connect(server) as db:
        db.execute("DROP TABLE IF EXISTS t")
        db.execute("CREATE TABLE t (id serial PRIMARY KEY, body text)")
        db.execute(
            "CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_notify('t', NEW.id::text); RETURN NEW; END $$"
        )
        db.execute("CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tell()")
        db.commit()
        with program(_LISTENER, server, COUNT) as listener:
            assert listener.stdout is not None
            done = _paced(db, COUNT, begun=begun)
            seen = json.loads(listener.stdout.readline())
    return [max(0.0, told - committed) * 1000 for told, committed in zip(seen, done, strict=True)]


def _watched(port: int) -> list[float]:
    """A watch of a prefix, and puts below it, both through the JSON gateway that etcd has."""
    with closing(etcd.Writer(port)) as writer, program(etcd.WATCHER, port, COUNT) as watcher:
        assert watcher.stdout is not None
        begun: list[float] = []
        for number in range(COUNT):
            begun.append(time.monotonic())
            writer.put(f"t/{number}", "a note of some length, as notes are")
            time.sleep(PAUSE)
        seen = json.loads(watcher.stdout.readline())
    return [(told - called) * 1000 for told, called in zip(seen, begun, strict=True)]


_DECODER = """
import subprocess, sys, time
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE)
print("ready", flush=True)
seen = []
while len(seen) < int(sys.argv[1]):
    if process.stdout.readline().startswith(b"table "):
        seen.append(time.monotonic())
process.kill()
print(repr(seen), flush=True)
"""


def _decoded(server: str, *, begun: bool = False) -> list[float]:
    """PostgreSQL's own client of its log, with the plug-in that it comes with."""
    import psycopg

    with psycopg.connect(server) as db:
        db.execute("DROP TABLE IF EXISTS t")
        db.execute("CREATE TABLE t (id serial PRIMARY KEY, body text)")
        db.commit()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute("SELECT pg_create_logical_replication_slot('bench', 'test_decoding')")
            command = ["pg_recvlogical", "-d", server, "-S", "bench", "--start", "-f", "-", "-F", "0"]
            with subprocess.Popen(
                [sys.executable, "-c", _DECODER, str(COUNT), *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as decoder:
                assert decoder.stdout is not None
                assert decoder.stdout.readline() == "ready\n"
                time.sleep(0.5)
                done = _paced(db, COUNT, begun=begun)
                seen = json.loads(decoder.stdout.readline())
            for _ in range(100):
                try:
                    admin.execute("SELECT pg_drop_replication_slot('bench')")
                    break
                except psycopg.errors.ObjectInUse:
                    time.sleep(0.05)
    return [max(0.0, told - committed) * 1000 for told, committed in zip(seen, done, strict=True)]


class Burst(NamedTuple):
    """What commits as fast as they go came to."""

    rate: float
    """Commits a second."""
    cpu: float
    """Microseconds of CPU time of this process, for each."""


def _burst(db: Any) -> Burst:
    started, used = time.perf_counter(), time.process_time()
    for _ in range(BURST):
        _commit(db)
    return Burst(BURST / (time.perf_counter() - started), (time.process_time() - used) / BURST * 1e6)


def _throughput(db: Any, path: Path, rounds: int) -> Iterator[Measured]:
    """Commits a second with 1,000 subscribers against none; medians of the ratios of neighbouring turns."""
    _burst(db)

    def here() -> Burst:
        feed = open_feed(path, key=KEY)
        subscriptions = [feed.subscribe() for _ in range(1_000)]
        try:
            return _burst(db)
        finally:
            for subscription in subscriptions:
                subscription.close()
            feed.close()

    def beside() -> Burst:
        # What it computes, who commits does not: they share Python's lock. So no floor.
        with db.subscribe() as updates:
            thread = threading.Thread(target=lambda: [None for _ in updates])
            thread.start()
            burst = _burst(db)
            updates.close()
            thread.join()
        return burst

    def there() -> Burst:
        with program(_FOLLOWER, path, -1, 1_000):
            return _burst(db)

    def one() -> Burst:
        with program(_FOLLOWER, path, -1, 1):
            return _burst(db)

    for name, with_them in (
        ("commits/s, 1 subscriber in another process", one),
        ("commits/s, 1,000 in another process, one stalled", there),
        ("commits/s, 1,000 in the same process, all stalled", here),
        ("commits/s, 1 in the same process that reads all the time", beside),
    ):
        pairs: list[tuple[Burst, Burst]] = []
        for number in range(rounds):
            if number % 2:
                mine = with_them()
                pairs.append((mine, _burst(db)))
            else:
                without = _burst(db)
                pairs.append((with_them(), without))
        yield Measured(
            name=name,
            ours=_rate([mine for mine, _ in pairs]),
            peer=f"{_rate([without for _, without in pairs])} without",
            value=statistics.median(mine.rate / without.rate for mine, without in pairs),
            floor=None if with_them is beside else 0.95,
        )


def _rate(bursts: list[Burst]) -> str:
    rate, cpu = (statistics.median(values) for values in zip(*bursts, strict=True))
    return f"{rate:,.0f}/s, {cpu:,.0f} us CPU"
