"""Clients of systems of several machines: threads of a few processes, the same for everybody, that commit rows.

:mod:`benchmarks.cluster` compares systems with them, :mod:`benchmarks.cluster_cost` looks at what ours uses meanwhile.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks import rqlite

PROCESSES = 4


class Worked(NamedTuple):
    """What one process has done."""

    seconds: float
    """By the clock."""
    cpu_seconds: float
    times: list[list[float]]
    """Of each of its clients, how long each commit took."""


class Crowd:
    """So many clients in a few processes, ready to commit: a number of times each, or for some seconds."""

    def __init__(
        self,
        where: tuple[str, str],
        clients: int,
        *,
        processes: int = PROCESSES,
        commits: int | None = None,
        seconds: float = 0.0,
        before: int = 1,
    ) -> None:
        """``before`` is how many commits each makes first, which are not counted."""
        context = multiprocessing.get_context("spawn")
        processes = min(processes, clients)
        ready, self._go, self._results = context.Semaphore(0), context.Event(), context.Queue()
        self._workers = [
            context.Process(
                target=_work,
                args=(
                    where,
                    range(first, clients, processes),
                    commits,
                    seconds,
                    before,
                    ready,
                    self._go,
                    self._results,
                ),
            )
            for first in range(processes)
        ]
        for worker in self._workers:
            worker.start()
        for _ in self._workers:
            ready.acquire()

    @property
    def pids(self) -> list[int | None]:
        """The processes."""
        return [worker.pid for worker in self._workers]

    def go(self) -> list[Worked]:
        """Have them commit, all at the same time; return what each process has done."""
        self._go.set()
        return [self._results.get() for _ in self._workers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.join()


def _work(
    where: tuple[str, str],
    numbers: range,
    commits: int | None,
    duration: float,
    before: int,
    ready: Any,
    go: Any,
    results: Any,
) -> None:
    makers = [committer(*where, number) for number in numbers]
    for commit, _ in makers:
        for _ in range(before):
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
    started, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(Worked(time.perf_counter() - started, time.process_time() - cpu, times))
    for _, close in makers:
        close()


def committer(kind: str, told: str, number: int) -> tuple[Callable[[int], object], Callable[[], object]]:
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
