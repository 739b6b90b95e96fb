"""Opening a database with a raw key, and importing the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import veritydb
from benchmarks.measuring import KEY, Measured, seconds, turns

OPENS = 50


def measure(folder: Path, rounds: int) -> list[Measured]:
    path = str(folder / "opens.db")
    connection = veritydb.connect(path, key=KEY)
    connection.execute("CREATE TABLE t(a)")
    connection.executemany("INSERT INTO t VALUES(?)", [(n,) for n in range(1000)])
    connection.commit()
    connection.close()

    def opens() -> None:
        for _ in range(OPENS):
            connection = veritydb.connect(path, key=KEY)
            connection.execute("SELECT count(*) FROM t").fetchone()
            connection.close()

    times = sorted(seconds(opens) for _ in range(rounds * 3))
    one = times[len(times) // 2] / OPENS * 1000
    mine, theirs, _ = turns(rounds * 3, lambda: _imported("veritydb"), lambda: _imported("sqlite3"))
    added = (mine - theirs) * 1000
    return [
        Measured(
            name="open with a raw key", ours=f"{one:.2f} ms", peer="", value=one, floor=3, at_most=True, unit=" ms",
        ),
        Measured(
            name="import veritydb", ours=f"{mine * 1000:.0f} ms a process", peer=f"sqlite3 {theirs * 1000:.0f} ms",
            value=added, floor=100, at_most=True, unit=" ms more",
        ),
    ]  # fmt: skip


def _imported(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
