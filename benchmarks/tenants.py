"""``python -m benchmarks.tenants``: what many streams on one group share. Counts, which no neighbour can disturb.

Three nodes on this machine; so many clients append to streams of their own at the same time. An op is one prepare to
each backup and one entry in each journal; a flush is one sync of a journal. One append of one client takes one op and
a flush or two on each node; of many clients, the more share them, the more there are.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from tests.cluster.groups import PATIENCE, Cluster, Stream, free_port
from veritydb.cluster.session import Session

TENANTS = 64
APPENDS = 512
CLIENTS = (1, 8, 32, 64)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        made = Cluster(Path(folder) / "cluster")
        ports = {member: free_port() for member in made.configs}
        for member, path in made.configs.items():
            text = path.read_text()
            path.write_text(f'metrics = "127.0.0.1:{ports[member]}"\n{text}')
        made.start_all()
        try:
            streams = [Stream(made.group()).create() for _ in range(TENANTS)]
            for count in CLIENTS:
                _measure(made, ports, streams, count)
        finally:
            made.close()


def _measure(made: Cluster, ports: dict[int, int], streams: list[Stream], count: int) -> None:
    share = [streams[at::count] for at in range(count)]
    for tenants in share:
        session = Session(made.group())  # One for each thread.
        for stream in tenants:
            stream.session.close()
            stream.session = session
        tenants[0].append()
    ops, flushes = _ops(made), {member: _flushes(port) for member, port in ports.items()}

    def work(tenants: list[Stream]) -> None:
        for number in range(APPENDS // count):
            tenants[number % len(tenants)].append(250)

    threads = [threading.Thread(target=work, args=(tenants,)) for tenants in share]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    appends = APPENDS // count * count
    ops = _ops(made) - ops
    shared = ", ".join(f"{appends / (_flushes(port) - flushes[member]):.2f}" for member, port in ports.items())
    print(
        f"{count:3} clients, {len(streams)} streams: {appends} appends in {ops} ops, {appends / ops:.2f} an op; "
        f"appends a flush on each node: {shared}",
        flush=True,
    )


def _ops(made: Cluster) -> int:
    ended = subprocess.run(
        [sys.executable, "-m", "veritydb", "cluster", "status", made.folder, "--json"],
        check=False, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    return int(json.loads(ended.stdout)["commit"])


def _flushes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        found = re.search(rb"^veritydb_node_flush_seconds_count(?:{[^}]*})? ([0-9.e+]+)$", answer.read(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


if __name__ == "__main__":
    main()
