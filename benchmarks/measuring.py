"""Turns, medians, and the table they are printed as."""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY = bytes(range(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One line of the table."""

    name: str
    ours: str
    peer: str
    value: float
    floor: float | None
    """None for what only explains the line above it."""
    at_most: bool = False
    """The floor is a ceiling."""
    unit: str = "x"

    @property
    def holds(self) -> bool:
        """Whether the floor holds."""
        if self.floor is None:
            return True
        return self.value <= self.floor if self.at_most else self.value >= self.floor


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def program(text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process of its own; yield when it has said that it is ready, and end it afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


_clock: Callable[[], float] = time.perf_counter


def count_cpu() -> None:
    """Count CPU time from now on: what neighbours take does not count then, nor does any waiting."""
    global _clock
    _clock = _cpu_seconds


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the children it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` took."""
    started = _clock()
    work()
    return _clock() - started


def turns(
    rounds: int,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float, float]:
    """Let both take turns, each after ``before``, which does not count.

    Returns the medians of our seconds, of the peer's, and of peer/ours.
    """
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        pair = [(ours, mine), (peer, theirs)]
        for work, times in pair if number % 2 else reversed(pair):
            before()
            times.append(seconds(work))
    ratios = [their / my for my, their in zip(mine, theirs, strict=True)]
    return statistics.median(mine), statistics.median(theirs), statistics.median(ratios)


class SyncProbe:
    """Writes 700 bytes into zero-filled space and makes them durable, which is what a commit waits for."""

    _ROOM = 1400
    _STEP = 704

    def __init__(self, folder: Path) -> None:
        self._path = folder / "probe"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT)
        os.pwrite(self._descriptor, bytes(self._ROOM * self._STEP), 0)
        os.fsync(self._descriptor)
        self._number = 0

    def seconds(self, count: int) -> float:
        """Return the mean time of one, of ``count``."""
        started = time.perf_counter()
        for _ in range(count):
            os.pwrite(self._descriptor, b"x" * 700, self._number % self._ROOM * self._STEP)
            os.fdatasync(self._descriptor)
            self._number += 1
        return (time.perf_counter() - started) / count

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)
        self._path.unlink()


def fsync_probe(folder: Path, count: int = 200) -> float:
    """Return the median milliseconds of a :class:`SyncProbe`."""
    probe = SyncProbe(folder)
    try:
        return statistics.median(probe.seconds(1) for _ in range(count)) * 1000
    finally:
        probe.close()


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder on the disk that ``TMPDIR`` names (a disk in memory would make fsync free)."""
    with tempfile.TemporaryDirectory(prefix="veritydb-bench-") as folder:
        yield Path(folder)
