"""Reads: fetchall of many rows and SELECT by primary key, encrypted, against plain sqlite3."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import veritydb
from benchmarks.bulk import DDL, INSERT, rows
from benchmarks.measuring import KEY, Measured, turns

ROWS = 100_000
POINTS = 20_000


def measure(folder: Path, rounds: int) -> list[Measured]:
    ours = veritydb.connect(str(folder / "reads.db"), key=KEY)
    peer = sqlite3.connect(folder / "reads-peer.db")
    try:
        for connection in (ours, peer):
            connection.execute(DDL)
            connection.executemany(INSERT, rows(ROWS))
            connection.commit()

        def everything(connection: veritydb.Connection | sqlite3.Connection) -> None:
            assert len(connection.execute("SELECT * FROM t").fetchall()) == ROWS

        def points(connection: veritydb.Connection | sqlite3.Connection) -> None:
            cursor = connection.cursor()
            for number in range(1, POINTS):
                cursor.execute("SELECT name FROM t WHERE id = ?", (number,)).fetchone()

        mine, theirs, ratio = turns(rounds * 3, lambda: everything(ours), lambda: everything(peer))
        point, their_point, point_ratio = turns(rounds * 3, lambda: points(ours), lambda: points(peer))
    finally:
        ours.close()
        peer.close()
    return [
        Measured(
            name="fetchall of 100,000", ours=f"{mine * 1000:.0f} ms", peer=f"sqlite3 {theirs * 1000:.0f} ms",
            value=ratio, floor=1.0,
        ),
        Measured(
            name="SELECT by primary key", ours=f"{point / POINTS * 1e6:.2f} us",
            peer=f"sqlite3 {their_point / POINTS * 1e6:.2f} us", value=point_ratio, floor=0.6,
        ),
    ]  # fmt: skip
