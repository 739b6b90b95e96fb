"""How soon a commit is told, and what being told of costs those who commit.

The peer of a latency is the bare hand-over under the same load, in turns with it: a commit, then a token through a
queue to a thread, or through a pipe to a process, that does nothing else. What that takes is the machine's and
Python's.

Latencies are from ``commit()`` having returned to the update being in the subscriber's hands, on the same clock
(CLOCK_MONOTONIC is one for all processes of a machine), with commits 2 ms apart, as a person or a service makes them.
Throughput is of commits as fast as they go, in turns with and without subscribers.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import veritydb
from benchmarks.measuring import KEY, Measured
from veritydb.subscriptions import open_feed

COUNT = 250
TURNS = 3
PAUSE = 0.002
BURST = 300


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


def _paced(db: Any, count: int) -> list[float]:
    done: list[float] = []
    for _ in range(count):
        _commit(db)
        done.append(time.monotonic())
        time.sleep(PAUSE)
    return done


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
import sys, time
from veritydb.subscriptions import open_feed
path, count, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
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


@contextmanager
def _follower(path: Path, count: int, many: int) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _FOLLOWER, str(path), str(count), str(many)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def _other_process(db: Any, path: Path) -> list[float]:
    with _follower(path, COUNT, 1) as follower:
        done = _paced(db, COUNT)
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


def _burst(db: Any) -> float:
    started = time.perf_counter()
    for _ in range(BURST):
        _commit(db)
    return BURST / (time.perf_counter() - started)


def _throughput(db: Any, path: Path, rounds: int) -> Iterator[Measured]:
    """Commits a second with 1,000 subscribers against none; medians of the ratios of neighbouring turns."""
    _burst(db)

    def here() -> float:
        feed = open_feed(path, key=KEY)
        subscriptions = [feed.subscribe() for _ in range(1_000)]
        try:
            return _burst(db)
        finally:
            for subscription in subscriptions:
                subscription.close()
            feed.close()

    def there() -> float:
        with _follower(path, -1, 1_000):
            return _burst(db)

    def one() -> float:
        with _follower(path, -1, 1):
            return _burst(db)

    for name, with_them in (
        ("commits/s, 1 subscriber in another process", one),
        ("commits/s, 1,000 in another process, one stalled", there),
        ("commits/s, 1,000 in the same process, all stalled", here),
    ):
        pairs: list[tuple[float, float]] = []
        for number in range(rounds):
            if number % 2:
                mine = with_them()
                pairs.append((mine, _burst(db)))
            else:
                without = _burst(db)
                pairs.append((with_them(), without))
        ratio = statistics.median(mine / without for mine, without in pairs)
        yield Measured(
            name=name,
            ours=f"{statistics.median(mine for mine, _ in pairs):,.0f}/s",
            peer=f"{statistics.median(without for _, without in pairs):,.0f}/s without",
            value=ratio,
            floor=0.95,
        )
