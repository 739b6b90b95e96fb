"""``python -m benchmarks.rolling_restart``: restart all nodes, one after the other, while programs commit.

Three nodes on this machine; each program is a process with a stream, a database and a connection of its own, which
inserts a row at a time, each a transaction with the time-out that is given. What counts is that none fails; how long
the longest took says what a program notices.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import free_port, workplace

SLOTS = 1024


def work(folder: Path, number: int, timeout: float) -> None:
    """Commit until the standard input ends; then tell how it was."""
    import select

    import veritydb

    place = folder / f"app-{number}"
    place.mkdir()
    seconds: list[float] = []
    failures: list[str] = []
    with contextlib.closing(
        veritydb.connect(
            str(place / "clinic.db"),
            cluster=str(folder / "cluster/client"),
            stream=f"clinic-{number}",
            timeout=timeout,
            isolation_level=None,
        )
    ) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            began = time.perf_counter()
            try:
                db.execute("INSERT INTO t (text) VALUES ('a note of a few words')")
            except veritydb.Error as error:
                failures.append(f"{type(error).__name__}: {error}")
            seconds.append(time.perf_counter() - began)
        (rows,) = db.execute("SELECT count(*) FROM t").fetchone()
    print(json.dumps({"seconds": seconds, "failures": failures, "rows": rows}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rolling_restart", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rolling restarts (5)")
    parser.add_argument("--clients", type=int, default=4, help="programs that commit (4)")
    parser.add_argument("--timeout", type=float, default=10.0, help="of each transaction, in seconds (10)")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "NUMBER"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.worker:
        work(Path(told.worker[0]), int(told.worker[1]), told.timeout)
        return 0
    with workplace() as folder:
        return measure(Path(folder), told.rounds, told.clients, told.timeout)


def measure(folder: Path, rounds: int, clients: int, timeout: float) -> int:
    cluster = str(folder / "cluster")
    ports = [free_port() for _ in range(3)]
    _veritydb("init", cluster, "--slots", str(SLOTS), *[f"--address=127.0.0.1:{port}" for port in ports])
    _veritydb("start", cluster)
    try:
        programs = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.rolling_restart", "--timeout", str(timeout)),
                    *("--worker", str(folder), str(number)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(clients)
        ]
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
        began = time.monotonic()
        for number in range(rounds):
            print(f"restart {number + 1} of {rounds}: {_veritydb('rolling-restart', cluster)}", flush=True)
        lasted = time.monotonic() - began
        told = [json.loads(program.communicate("end\n")[0]) for program in programs]
    finally:
        _veritydb("stop", cluster)
    seconds = sorted(one for program in told for one in program["seconds"])
    failures = [one for program in told for one in program["failures"]]
    rows = sum(program["rows"] for program in told)
    shown = ", ".join(
        f"{name} {1000 * seconds[min(len(seconds) - 1, int(len(seconds) * part))]:.1f} ms"
        for name, part in (("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("longest", 1.0))
    )
    print(f"{rounds * 3} restarts in {lasted:.0f} s, {clients} programs with a time-out of {timeout:g} s:")
    print(f"{len(seconds):,} commits, {len(failures)} failed; {shown}")
    for failure in failures:
        print(f"failed: {failure}")
    if rows != len(seconds) - len(failures):
        print(f"{rows} rows after {len(seconds) - len(failures)} commits")
        return 1
    return int(bool(failures))


def _veritydb(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "veritydb", "cluster", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return "; ".join(done.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
