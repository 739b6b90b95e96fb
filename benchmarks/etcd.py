"""An etcd of one's own for a benchmark, where Debian's package is there, spoken to as its JSON gateway wants it."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.measuring import free_port

SECONDS = 30.0
"""For it to start."""


def missing() -> str | None:
    """Return what is missing; None if it can be measured."""
    return None if shutil.which("etcd") else "etcd is not installed (apt-get install etcd-server)"


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Run one member with its data below ``folder``; yield the port of its clients."""
    place = folder / "etcd"
    clients, peers = free_port(), free_port()
    command = [
        "etcd",
        *("--data-dir", str(place)),
        *(
            "--listen-client-urls",
            f"http://127.0.0.1:{clients}",
            "--advertise-client-urls",
            f"http://127.0.0.1:{clients}",
        ),
        *(
            "--listen-peer-urls",
            f"http://127.0.0.1:{peers}",
            "--initial-advertise-peer-urls",
            f"http://127.0.0.1:{peers}",
        ),
        *("--initial-cluster", f"default=http://127.0.0.1:{peers}"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(clients)
            yield clients
        finally:
            process.terminate()


class Writer:
    """Puts keys, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def put(self, key: str, value: str) -> None:
        """Put a key; it is on disk when this returns."""
        body = json.dumps({"key": _text(key), "value": _text(value)})
        self._connection.request("POST", "/v3/kv/put", body)
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200, response.status

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


WATCHER = """
import base64, json, socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
key = lambda text: base64.b64encode(text).decode()
body = json.dumps({"create_request": {"key": key(b"t/"), "range_end": key(b"t0")}})
connection.sendall(f"POST /v3/watch HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
lines = connection.makefile("rb")
while b'"created":true' not in lines.readline():
    pass
print("ready", flush=True)
seen = []
while len(seen) < int(sys.argv[2]):
    line = lines.readline()
    now = time.monotonic()
    seen += [now] * line.count(b'"mod_revision"')
print(repr(seen), flush=True)
"""
"""A program that notes when it was told of each put below ``t/``: arguments port, count."""


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _wait(port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with closing(Writer(port)) as writer:
                writer.put("ready", "")
                return
        except (OSError, AssertionError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
