"""What a commit through three nodes costs: CPU time and wake-ups of each process and thread, from ``/proc``.

``python -m benchmarks.cluster_cost [--clients N] [--seconds S] [--folder DIR]``. Latency depends on who else uses the
machine; CPU time hardly does, and where nodes and clients share two cores it is what limits them. Linux only.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import running
from benchmarks.cluster_clients import PROCESSES, Crowd

THREADS = ("event loop", "disk", "records")
"""What a node's threads are, in the order in which they begin; the rest resolve names and the like."""


class Used(NamedTuple):
    """What a thread has used since it began."""

    seconds: float
    """On a processor, by the scheduler's own count."""
    waits: int
    """How often it gave the processor up because it had to wait."""
    preempted: int


def used(pid: int) -> list[Used]:
    """Return what the threads of a process have used, in the order in which they began."""
    found: list[Used] = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        found.append(
            Used(nanoseconds / 1e9, int(lines["voluntary_ctxt_switches"]), int(lines["nonvoluntary_ctxt_switches"]))
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--hold", action="store_true", help="print the nodes' process ids first")
    told = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=told.folder) as folder,
        running(Path(folder)) as (where, pids),
        Crowd(where, told.clients, processes=told.processes, seconds=told.seconds, before=20) as crowd,
    ):
        if told.hold:
            print("nodes:", *pids, "clients:", *crowd.pids, flush=True)
        before = {pid: used(pid) for pid in pids}
        began = time.perf_counter()
        found = crowd.go()
        took = time.perf_counter() - began
        after = {pid: used(pid) for pid in pids}
    times = sorted(each for worked in found for times in worked.times for each in times)
    count = len(times)
    print(
        f"{told.clients} clients: {count / took:,.0f} commits/s, p50 {times[count // 2] * 1000:.2f} ms, "
        f"p99 {times[int(count * 0.99)] * 1000:.2f} ms; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':24}{'CPU us/commit':>14}{'waits':>8}{'preempted':>11}")
    total = 0.0
    for number, pid in enumerate(pids, start=1):
        for at, (old, new) in enumerate(zip(before[pid], after[pid], strict=False)):
            seconds = new.seconds - old.seconds
            total += seconds
            if seconds > 1e-3:
                name = f"node {number}, {THREADS[at] if at < len(THREADS) else 'other'}"
                waits, preempted = new.waits - old.waits, new.preempted - old.preempted
                print(f"{name:24}{seconds / count * 1e6:14.0f}{waits / count:8.2f}{preempted / count:11.2f}")
    clients = sum(worked.cpu_seconds for worked in found)
    total += clients
    print(f"{'clients':24}{clients / count * 1e6:14.0f}")
    print(f"{'all':24}{total / count * 1e6:14.0f}")


if __name__ == "__main__":
    main()
