"""Durable single-row commits: encrypted, captured, chained, against plain sqlite3 in WAL mode with synchronous=FULL.

Both wait for the disk once a commit, so the ratio says as much about the disk as about the programs. What a program
adds to the wait is CPU time: that of a commit less that of a bare sync. It is told, and with it the ratio that other
disks would give (``docs/internals/commit-cost.md``). The disk may be much slower a minute later; CPU time is not.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import veritydb
from benchmarks.measuring import KEY, Measured, SyncProbe

DDL = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, born TEXT, dose REAL)"
INSERT = "INSERT INTO t(name, born, dose) VALUES(?, ?, ?)"
ROW = ("Jane Smith", "1985-03-22", 1.5)
COMMITS = 300
SYNCS = 60
SYNCS_MS = (0.1, 0.3, 1.0, 5.0)
"""Disks to tell the ratio for: a local device with a cache, an SSD, a network volume, a disk that turns."""


def measure(folder: Path, rounds: int) -> list[Measured]:
    probe = SyncProbe(folder)
    ours = veritydb.connect(str(folder / "ours.db"), key=KEY, actor="dr.lee")
    peer = sqlite3.connect(folder / "peer.db")
    peer.execute("PRAGMA journal_mode=WAL")
    peer.execute("PRAGMA synchronous=FULL")
    try:
        for connection in (ours, peer):
            connection.execute(DDL)
            connection.commit()

        def run(connection: veritydb.Connection | sqlite3.Connection) -> Spent:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(COMMITS):
                connection.execute(INSERT, ROW)
                connection.commit()
            return (time.perf_counter() - wall) / COMMITS, (time.process_time() - cpu) / COMMITS

        # Both WALs have their length before it counts: overwriting is cheaper than growing.
        for _ in range(1 + 1000 // COMMITS):
            run(ours), run(peer)
        turns = [Turn(number, probe, run, ours, peer) for number in range(rounds * 3)]
        log = _log_bytes(folder / "ours.db", ours.last_offset or 1)
        wal = _wal_bytes_a_commit(folder)
    finally:
        probe.close()
        ours.close()
        peer.close()
    return [
        *_told(turns),
        Measured(
            name="log bytes a commit", ours=f"{log:,.0f} B", peer=f"SQLite's WAL {wal:,.0f} B", value=log / wal,
            floor=1.0, at_most=True,
        ),
    ]  # fmt: skip


Spent = tuple[float, float]
"""Seconds a commit: by the clock, and of CPU."""


class Turn:
    """A sync, our commits and the peer's, right after each other: the disk is not the same a minute later."""

    def __init__(self, number: int, probe: SyncProbe, run: Callable[[Any], Spent], ours: Any, peer: Any) -> None:
        cpu = time.process_time()
        probe.seconds(SYNCS)
        self.sync_cpu = (time.process_time() - cpu) / SYNCS
        if number % 2:
            self.peer = run(peer)
        self.ours = run(ours)
        if not number % 2:
            self.peer = run(peer)

    @property
    def ratio(self) -> float:
        """How fast we are, the peer being 1."""
        return self.peer[0] / self.ours[0]


def _told(turns: list[Turn]) -> list[Measured]:
    """Return the measured ratio, where the time goes, and what that means for other disks."""

    def median(of: Callable[[Turn], float]) -> float:
        return statistics.median(map(of, turns))

    mine, theirs = median(lambda turn: turn.ours[0]), median(lambda turn: turn.peer[0])
    cpu = median(lambda turn: turn.ours[1]), median(lambda turn: turn.peer[1])
    own = median(lambda turn: turn.sync_cpu)
    told = [
        Measured(
            name="single-row commits", ours=f"{1 / mine:,.0f}/s", peer=f"sqlite3 {1 / theirs:,.0f}/s",
            value=median(lambda turn: turn.ratio), floor=0.9,
        ),
        _explained(f"  CPU (a sync {own * 1e6:.0f})", cpu[0], cpu[1]),
    ]  # fmt: skip
    for sync_ms in SYNCS_MS:
        sync = sync_ms / 1e3
        told.append(_explained(f"  syncs of {sync_ms:g} ms", cpu[0] - own + sync, cpu[1] - own + sync))
    return told


def _explained(name: str, ours: float, peer: float) -> Measured:
    return Measured(
        name=name, ours=f"{ours * 1e6:,.0f} us", peer=f"{peer * 1e6:,.0f} us", value=peer / ours, floor=None
    )  # fmt: skip


def _log_bytes(database: Path, commits: int) -> float:
    used = 0
    for segment in Path(f"{database}-log").glob("*.seg"):
        used += len(segment.read_bytes().rstrip(b"\0"))
    return used / commits


def _wal_bytes_a_commit(folder: Path) -> float:
    # On its own file with checkpoints off, so that the size of the WAL is what was written to it.
    connection = sqlite3.connect(folder / "wal.db")
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(DDL)
        connection.commit()
        before = (folder / "wal.db-wal").stat().st_size
        for _ in range(COMMITS):
            connection.execute(INSERT, ROW)
            connection.commit()
        return ((folder / "wal.db-wal").stat().st_size - before) / COMMITS
    finally:
        connection.close()
