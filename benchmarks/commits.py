"""Durable single-row commits: encrypted, captured, chained, against plain sqlite3 in WAL mode with synchronous=FULL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import veritydb
from benchmarks.measuring import KEY, Measured, turns

DDL = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, born TEXT, dose REAL)"
INSERT = "INSERT INTO t(name, born, dose) VALUES(?, ?, ?)"
ROW = ("Jane Smith", "1985-03-22", 1.5)
COMMITS = 300


def measure(folder: Path, rounds: int) -> list[Measured]:
    ours = veritydb.connect(str(folder / "ours.db"), key=KEY, actor="dr.lee")
    peer = sqlite3.connect(folder / "peer.db")
    peer.execute("PRAGMA journal_mode=WAL")
    peer.execute("PRAGMA synchronous=FULL")
    try:
        for connection in (ours, peer):
            connection.execute(DDL)
            connection.commit()

        def run(connection: veritydb.Connection | sqlite3.Connection) -> None:
            for _ in range(COMMITS):
                connection.execute(INSERT, ROW)
                connection.commit()

        run(ours), run(peer)
        mine, theirs, ratio = turns(rounds * 3, lambda: run(ours), lambda: run(peer))
        log = _log_bytes(folder / "ours.db", ours.last_offset or 1)
        wal = _wal_bytes_a_commit(folder)
    finally:
        ours.close()
        peer.close()
    return [
        Measured(
            name="single-row commits",
            ours=f"{COMMITS / mine:,.0f}/s",
            peer=f"sqlite3 {COMMITS / theirs:,.0f}/s",
            value=ratio,
            floor=0.9,
        ),
        Measured(
            name="log bytes a commit", ours=f"{log:,.0f} B", peer=f"SQLite's WAL {wal:,.0f} B", value=log / wal,
            floor=1.0, at_most=True,
        ),
    ]  # fmt: skip


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
