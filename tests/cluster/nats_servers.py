"""Real NATS servers with JetStream, each a process with a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cluster.groups import PATIENCE, free_port

BINARY = os.environ.get("NATS_SERVER") or shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
"""Debian's, or another one that is named."""
needed = pytest.mark.skipif(BINARY is None, reason="nats-server is not installed (apt-get install nats-server)")


class Servers:
    """Servers 1 to N, a cluster if there are several."""

    def __init__(self, folder: Path, count: int = 1, *, more: str = "", scheme: str = "nats") -> None:
        folder.mkdir()
        self.folder = folder
        self._more = more
        self._scheme = scheme
        numbers = range(1, count + 1)
        self.ports = {number: free_port() for number in numbers}
        self.monitors = {number: free_port() for number in numbers}
        self._routes = {number: free_port() for number in numbers} if count > 1 else {}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._settings = f"replicas={3 if count > 1 else 1}&sync=interval"

    @property
    def address(self) -> str:
        """What connect() is told."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        return f"{self._scheme}://{hosts}?{self._settings}"

    def with_user(self, userinfo: str) -> str:
        return self.address.replace("://", f"://{userinfo}@", 1)

    def start(self, number: int = 1) -> None:
        config = self.folder / f"{number}.conf"
        lines = [
            f"server_name: n{number}",
            f'listen: "127.0.0.1:{self.ports[number]}"',
            f'http: "127.0.0.1:{self.monitors[number]}"',
            f'jetstream {{ store_dir: "{self.folder / str(number)}" }}',
            self._more,
        ]
        if self._routes:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes.values())
            lines.append(f'cluster {{ name: c, listen: "127.0.0.1:{self._routes[number]}", routes: [{routes}] }}')
        config.write_text("\n".join(lines))
        with open(self.folder / f"{number}.out", "ab") as out:
            assert BINARY is not None
            self.processes[number] = subprocess.Popen([BINARY, "-c", str(config)], stdout=out, stderr=out)

    def start_all(self) -> None:
        for number in self.ports:
            self.start(number)
        self.wait_until_they_answer()

    def wait_until_they_answer(self) -> None:
        deadline = time.monotonic() + PATIENCE
        for number in self.processes:
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(self.monitor(number) + "/healthz") as answer:
                    if answer.status == 200:
                        break
                said = (self.folder / f"{number}.out").read_text()
                assert self.processes[number].poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.02)

    def monitor(self, number: int = 1) -> str:
        return f"http://127.0.0.1:{self.monitors[number]}"

    def version(self) -> str:
        with urllib.request.urlopen(f"{self.monitor()}/varz") as answer:
            return str(json.load(answer)["version"])

    def leader(self, stream: str) -> int:
        """Return which server leads a stream."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.monitor(min(self.processes))}/jsz?streams=1") as answer:
                found = json.load(answer)
            for account in found.get("account_details", ()):
                for each in account.get("stream_detail", ()):
                    if each["name"] == stream and each.get("cluster", {}).get("leader"):
                        return int(each["cluster"]["leader"].removeprefix("n"))
            time.sleep(0.02)
        raise AssertionError(found)

    def kill(self, number: int = 1) -> None:
        process = self.processes.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def pause(self, number: int = 1) -> None:
        process = self.processes[number]
        process.send_signal(signal.SIGSTOP)
        while not all(_stands_still(stat) for stat in Path(f"/proc/{process.pid}/task").glob("*/stat")):
            time.sleep(0.001)

    def resume(self, number: int = 1) -> None:
        self.processes[number].send_signal(signal.SIGCONT)

    def close(self) -> None:
        for number in list(self.processes):
            self.kill(number)


@contextlib.contextmanager
def servers(folder: Path, count: int = 1, **more: str) -> Generator[Servers]:
    made = Servers(folder, count, **more)
    try:
        made.start_all()
        yield made
    finally:
        made.close()


def _stands_still(stat: Path) -> bool:
    """Whether a thread has stopped: a signal is taken some time after it was sent."""
    return stat.read_text().rpartition(")")[2].split()[0] == "T"
