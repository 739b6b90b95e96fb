"""``python -m benchmarks.failover``: kill the primary while programs commit, again and again; how soon do they go on?

Three nodes on this machine; each program is a process with a stream, a database and a connection of its own, which
inserts a row at a time, each a transaction with the time-out that ``connect`` has. A kill is SIGKILL, and the clock
starts when the process is gone. With ``--silent`` the primary is stopped instead (SIGSTOP): it says nothing and refuses
nobody, like a machine that has lost its power. Writes have resumed when a transaction that was *begun* after that is
acknowledged: what was on its way at the kill does not count. Told are the first program to get on and the last one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import anyio

from benchmarks.measuring import free_port, workplace
from veritydb.cluster.asking import Answered, StatusLine, ask_all
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import Address, read_client_config
from veritydb.cluster.founding import found
from veritydb.cluster.session import Session

FLOORS = {50: 0.5, 99: 1.05}
"""Seconds until writes resume, by percentile: the nearest system's published figure."""
AWAY = 1.0
"""Seconds until a killed node is started again, after everybody has got on."""
LAG = 16
"""Ops that a node may be behind before the next kill: two of three have to be there for what is measured."""
STALL = 10.0
"""Seconds after which one has not got on."""


class Commit(NamedTuple):
    """One transaction of a program; its times are of a clock that all processes share."""

    began: float
    ended: float
    failure: str


class Nodes:
    """Three nodes as processes."""

    def __init__(self, folder: Path) -> None:
        self.client = folder / "client"
        addresses = {member: Address("127.0.0.1", free_port()) for member in (1, 2, 3)}
        self._configs = dict(zip(addresses, found(folder, addresses, slots=1024), strict=True))
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._out = open(folder / "nodes.out", "ab")  # noqa: SIM115  closed with the nodes

    def start(self, member: int) -> None:
        command = [sys.executable, "-m", "veritydb", "node", "run", "--config", str(self._configs[member])]
        self._running[member] = subprocess.Popen(command, stdout=self._out, stderr=self._out)

    def kill(self, member: int) -> float:
        """End a node at once; return when it was gone."""
        node = self._running.pop(member)
        node.send_signal(signal.SIGKILL)
        node.wait()
        return time.monotonic()

    def silence(self, member: int) -> float:
        """Have a node say nothing any more; return since when."""
        self._running[member].send_signal(signal.SIGSTOP)
        return time.monotonic()

    def wake(self, member: int) -> None:
        """Have it go on, or start it."""
        if member in self._running:
            self._running[member].send_signal(signal.SIGCONT)
        else:
            self.start(member)

    def primary(self) -> int:
        """Return who answers as primary."""
        session = Session(group_of(read_client_config(self.client)))
        with contextlib.closing(session):
            session.read_head(bytes(16), timeout=30)
            return session.primary

    def wait_until_whole(self) -> None:
        """Wait until all three say that they are ready, and lag behind by no more than LAG."""
        deadline = time.monotonic() + 60
        while not anyio.run(self._is_whole):
            for member, node in self._running.items():
                assert node.poll() is None, f"node {member} has ended by itself; nodes.out says why"
            assert time.monotonic() < deadline, "a node does not come back"
            time.sleep(0.2)

    async def _is_whole(self) -> bool:
        group = group_of(read_client_config(self.client))
        lines = {member: StatusLine(group, member) for member in (1, 2, 3)}
        answers = await ask_all(lines, 2.0)
        for line in lines.values():
            await line.close()
        return all(
            isinstance(answer, Answered) and answer.document["ready"] and answer.document["lag"] <= LAG
            for answer in answers.values()
        )

    def close(self) -> None:
        for node in self._running.values():
            node.kill()
            node.wait()
        self._out.close()


def work(folder: Path, number: int) -> None:
    """Commit until the standard input ends, and write down how it was."""
    import select

    import veritydb

    place = folder / f"app-{number}"
    place.mkdir()
    connected = veritydb.connect(
        place / "clinic.db", cluster=folder / "cluster/client", stream=f"clinic-{number}", isolation_level=None
    )
    with contextlib.closing(connected) as db, open(place / "commits", "w", buffering=1) as out:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        while not select.select([sys.stdin], [], [], 0)[0]:
            began, failure = time.monotonic(), ""
            try:
                db.execute("INSERT INTO t (text) VALUES ('a note of a few words')")
            except veritydb.Error as error:
                failure = f"{type(error).__name__}: {error}"
            out.write(f"{began!r}\t{time.monotonic()!r}\t{failure}\n")


@contextlib.contextmanager
def programs(folder: Path, count: int) -> Generator[None]:
    """Have programs commit."""
    command = [sys.executable, "-m", "benchmarks.failover", "--worker", str(folder)]
    running = [subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE) for number in range(count)]
    try:
        yield
        for program in running:
            program.communicate(b"end\n", timeout=60)
    finally:
        for program in running:
            program.kill()
            program.wait()


def commits(folder: Path, number: int) -> list[Commit]:
    """Return what a program has done so far."""
    path = folder / f"app-{number}/commits"
    found: list[Commit] = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            began, ended, failure = line.rstrip("\n").split("\t")
            found.append(Commit(float(began), float(ended), failure))
    return found


def resumed(done: list[Commit], killed: float) -> float | None:
    """Return how many seconds after the kill the first transaction was acknowledged that was begun after it."""
    for commit in done:
        if commit.began > killed and not commit.failure:
            return commit.ended - killed
    return None


def measure(folder: Path, kills: int, count: int, *, silent: bool) -> int:
    """Kill, and print. Returns 1 if a floor does not hold, or if anybody stalled or failed."""
    nodes = Nodes(folder / "cluster")
    times: list[float] = []
    chance = random.Random(5)
    try:
        for member in (1, 2, 3):
            nodes.start(member)
        nodes.primary()
        with programs(folder, count):
            while not all(len(commits(folder, number)) > 20 for number in range(count)):
                time.sleep(0.1)
            for number in range(kills):
                member = nodes.primary()
                time.sleep(chance.uniform(0, 0.2))
                times.append(nodes.silence(member) if silent else nodes.kill(member))
                _until_all_got_on(folder, count, times[-1])
                took = [resumed(commits(folder, each), times[-1]) or STALL for each in range(count)]
                print(f"kill {number + 1} of {kills}: {min(took):.3f} to {max(took):.3f} s", flush=True)
                time.sleep(AWAY)
                nodes.wake(member)
                nodes.wait_until_whole()
        done = [commits(folder, number) for number in range(count)]
    finally:
        nodes.close()
    return _told(done, times)


def _until_all_got_on(folder: Path, count: int, killed: float) -> None:
    while time.monotonic() < killed + STALL:
        if all(resumed(commits(folder, number), killed) is not None for number in range(count)):
            return
        time.sleep(0.2)


def _told(done: list[list[Commit]], times: list[float]) -> int:
    each = [[resumed(program, killed) or STALL for program in done] for killed in times]
    total = sum(len(program) for program in done)
    failures = [commit.failure for program in done for commit in program if commit.failure]
    print(f"{len(times)} kills under {len(done)} programs, {total:,} commits, {len(failures)} failed")
    for failure in failures[:20]:
        print(f"failed: {failure}")
    missed = bool(failures)
    for name, pick in (("the first program", min), ("the last program", max)):
        took = sorted(pick(every) for every in each)
        shown = ", ".join(f"{percent} % {_at(took, percent):.3f}" for percent in (50, 90, 99, 100))
        stalled = sum(second >= STALL for second in took)
        print(f"seconds until {name} had got on: {shown}; {stalled} stalled")
        missed |= bool(stalled)
        if pick is min:
            missed |= any(_at(took, percent) > floor for percent, floor in FLOORS.items())
    return int(missed)


def _at(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of the primary (50)")
    parser.add_argument("--clients", type=int, default=4, help="programs that commit (4)")
    parser.add_argument("--silent", action="store_true", help="stop it instead of killing it")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "NUMBER"), help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.worker:
        work(Path(told.worker[0]), int(told.worker[1]))
        return 0
    with workplace() as folder:
        return measure(Path(folder), told.kills, told.clients, silent=told.silent)


if __name__ == "__main__":
    sys.exit(main())
