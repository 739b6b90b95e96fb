"""Opening a database with a raw key, and importing the package."""

from __future__ import annotations

import os
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
    _imported("veritydb")  # Once, so that there is bytecode: pip makes it for what it installs.
    mine, theirs, ratio = turns(rounds * 3, lambda: _imported("veritydb"), lambda: _imported("sqlalchemy"))
    mine, nothing, _ = turns(rounds * 3, lambda: _imported("veritydb"), lambda: _imported("sys"))
    added = (mine - nothing) * 1000
    return [
        Measured(
            name="open with a raw key", ours=f"{one:.2f} ms", peer="", value=one, floor=3, at_most=True, unit=" ms",
        ),
        Measured(
            name="import veritydb", ours=f"{mine * 1000:.0f} ms a process", peer=f"nothing {nothing * 1000:.0f} ms",
            value=added, floor=100, at_most=True, unit=" ms more",
        ),
        Measured(
            name="import veritydb", ours=f"{mine * 1000:.0f} ms a process", peer=f"sqlalchemy {theirs * 1000:.0f} ms",
            value=1 / ratio, floor=1.5, at_most=True,
        ),
    ]  # fmt: skip


def _imported(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)
