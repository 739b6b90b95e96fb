"""How soon a commit reaches a client over HTTP, alone and as one of a thousand, and what serving them costs.

``veritydb serve`` runs as it does for users, bound to one core, and all else to the others, where there are two; the
clients are one process with a socket each, which only note when an event's ``id`` has come. Latency is from
``commit()`` having returned in a third process to the event being in the client's hands. The peer of the single
client's is the bare hand-over: a commit, then a line through a pipe to a process that does nothing else.

With a thousand clients the server's own CPU time is told beside the latency: on a machine with busy neighbours the one
says whether a core is enough, and the other how long this one had to wait for it.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import veritydb
from benchmarks.measuring import KEY, Measured, program
from veritydb.sse.settings import hash_of

SINGLE = 250
CLIENTS = 1_000
RATE = 100
SECONDS = 8.0
_API_KEY = "vk_benchmark"

_CONFIG = f"""
[[api_keys]]
name = "benchmark"
sha256 = "{hash_of(_API_KEY)}"
role = "all"
[roles.all.tables]
"*" = {{}}
[streams]
streams_per_caller_max = 2000
"""

_CLIENTS = r"""
import asyncio, gc, pickle, re, sys, time
gc.disable()  # What is noted of 800,000 events would be walked again and again.
port, many, key, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
try:
    import uvloop
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
except ImportError:
    pass
find = re.compile(rb"id: (\d+)\.").findall
ready, seen = [], []
class Client(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"GET /events?images=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % key.encode())
        self.rest, self.ready = b"", False
    def data_received(self, data):
        now = time.monotonic()
        data = self.rest + data
        end = data.rfind(b"\n") + 1
        self.rest = data[end:]
        if not self.ready:
            if b"event: ready" in data:
                self.ready = True
                ready.append(1)
            return
        offsets = find(data, 0, end)
        if offsets:
            seen.append((now, offsets))
async def main():
    loop = asyncio.get_running_loop()
    for start in range(0, many, 50):
        await asyncio.gather(*(loop.create_connection(Client, "127.0.0.1", port) for _ in range(min(50, many - start))))
        while len(ready) < min(start + 50, many):
            await asyncio.sleep(0.01)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    with open(out, "wb") as file:
        pickle.dump(seen, file)
    print("done", flush=True)
asyncio.run(main())
"""

_PIPE = """
import sys, time
print("ready", flush=True)
print(repr([time.monotonic() for line in iter(sys.stdin.readline, "end\\n")]), flush=True)
"""


def measure(folder: Path, rounds: int) -> Iterator[Measured]:
    """Yield the lines of the table."""
    path = folder / "clinic.db"
    with closing(veritydb.connect(path, key=KEY, autocommit=True)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        with _served(path) as (port, pid):
            times, _ = _told(db, port, pid, 1, SINGLE, 0.002)
            bare = _bare(db)
            yield Measured(
                name="commit -> SSE client, p99",
                ours=f"p50 {_part(times, 0.5):.2f}, p90 {_part(times, 0.9):.2f} ms",
                peer=f"pipe: p50 {_part(bare, 0.5):.2f}, p99 {_part(bare, 0.99):.2f} ms",
                value=_part(times, 0.99),
                floor=10.0,
                at_most=True,
                unit=" ms",
            )
            times, cpu = _told(db, port, pid, CLIENTS, int(RATE * SECONDS), 1 / RATE)
            yield Measured(
                name=f"{CLIENTS:,} SSE clients x {RATE} commits/s, p99",
                ours=f"p50 {_part(times, 0.5):.1f}, p90 {_part(times, 0.9):.1f} ms",
                peer=f"{len(times):,} events, none lost",
                value=_part(times, 0.99),
                floor=100.0,
                at_most=True,
                unit=" ms",
            )
            yield Measured(
                name="  cores that takes of the server",
                ours=f"{cpu / len(times) * 1e6:.1f} us an event",
                peer="",
                value=cpu / SECONDS,
                floor=1.0,
                at_most=True,
                unit="",
            )


def _part(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]


def _told(db: Any, port: int, pid: int, many: int, count: int, pause: float) -> tuple[list[float], float]:
    """Commit at a pace; return each client's wait for each commit in milliseconds, and the server's CPU seconds."""
    out = Path(db.execute("PRAGMA database_list").fetchall()[0][2]).with_suffix(".seen")
    done: dict[int, float] = {}
    with program(_CLIENTS, port, many, _API_KEY, out) as clients:
        before = _cpu(pid)
        begun = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begun + number * pause - time.monotonic()))
            db.execute("INSERT INTO t (body) VALUES ('a note of some length, as notes are')")
            done[db.last_offset] = time.monotonic()
        time.sleep(1.0)
        cpu = _cpu(pid) - before
        _say(clients, "end\n")
        assert clients.stdout is not None
        assert clients.stdout.readline() == "done\n"
    seen: list[tuple[float, list[bytes]]] = pickle.loads(out.read_bytes())
    times = [(now - done[int(offset)]) * 1000 for now, offsets in seen for offset in offsets if int(offset) in done]
    assert len(times) == many * count, f"{many * count} events were to come, and {len(times)} came"
    return [max(0.0, each) for each in times], cpu


def _bare(db: Any) -> list[float]:
    done: list[float] = []
    with program(_PIPE) as reader:
        for _ in range(SINGLE):
            db.execute("INSERT INTO t (body) VALUES ('a note of some length, as notes are')")
            done.append(time.monotonic())
            _say(reader, "token\n")
            time.sleep(0.002)
        _say(reader, "end\n")
        assert reader.stdout is not None
        seen = json.loads(reader.stdout.readline())
    return [(told - committed) * 1000 for told, committed in zip(seen, done, strict=True)]


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _served(path: Path) -> Iterator[tuple[int, int]]:
    config = path.with_name("server.toml")
    config.write_text(_CONFIG, encoding="utf-8")
    cores = sorted(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, "-m", "veritydb.cli", "serve", str(path), "--config", str(config), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"VERITYDB_KEY": f"hex:{KEY.hex()}"},
    ) as server:
        try:
            os.sched_setaffinity(server.pid, cores[:1])
            os.sched_setaffinity(0, cores[1:] or cores)  # And what is started from now on.
            assert server.stdout is not None
            port = int(server.stdout.readline().rstrip().rpartition(":")[2])
            yield port, server.pid
        finally:
            os.sched_setaffinity(0, cores)
            server.terminate()
            server.wait(10)
