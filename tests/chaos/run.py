"""Chaos: real nodes and clients, cables that are cut, processes that are killed and stopped, and what came of it.

``make chaos`` (``python -m tests.chaos.run --runs 100 --seconds 60``). A run prints its seed, and ends with what was
wrong: an acknowledged transaction that is not there, one that was "rolled back" and is, a read that no order explains,
a client that got nowhere after everything was mended, a file that is not what its log says.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import veritydb
from tests.chaos.clients import ACCOUNTS, BALANCE, SCHEMA
from tests.chaos.history import Done, problems
from tests.chaos.namespaces import permitted
from tests.chaos.spoiled import SpoiledCluster
from tests.cluster.groups import Cluster
from veritydb import follower, verify
from veritydb.cluster.naming import stream_id

MACHINES = 3
CLIENTS = 5


class Report(NamedTuple):
    """What a run came to."""

    seed: int
    outcomes: Counter[str]
    faults: Counter[str]
    reached: Counter[str]
    """What the nodes said of it."""
    slowest: float
    """Seconds of the slowest transaction that was acknowledged."""
    problems: list[str]


def chaos(seed: int, seconds: float, folder: Path, *, namespaces: bool = False) -> Report:
    """Run once."""
    chance = random.Random(seed)
    cluster = SpoiledCluster(folder / "cluster", namespaces=namespaces)
    cluster.mount_small(chance.choice(sorted(cluster.configs)))
    faults: Counter[str] = Counter()
    stream = "chaos"
    clients: list[subprocess.Popen[bytes]] = []
    try:
        cluster.start_all()
        first = _connect(cluster, folder, 0, stream, timeout=60)
        first.executescript(SCHEMA)
        with first:
            first.executemany("INSERT INTO accounts VALUES (?, ?)", [(each, BALANCE) for each in range(ACCOUNTS)])
        first.close()
        follower.stop_all()
        clients = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.clients", *map(str, (
                    _file(folder, number % MACHINES), cluster.folder / "client", stream, number, seed,
                    seconds, folder / f"history-{number}",
                ))],
                cwd=Path(__file__).parents[2],
            )
            for number in range(1, CLIENTS + 1)
        ]  # fmt: skip
        end = time.time() + seconds
        while time.time() < end:
            faults[_break(chance, cluster)] += 1
            time.sleep(chance.uniform(0.2, 2.5))
            if chance.random() < 0.7:
                _mend(cluster)
                time.sleep(chance.uniform(0.2, 1.5))
        _mend(cluster)
        mended = time.time()
        while any(client.poll() is None for client in clients):
            assert time.time() < mended + 180, "a client does not come to its end"
            time.sleep(0.5)
            cluster.start_ended()  # Whose clock was wrong when it was started, or whose disk was full when it wrote.
        codes = [client.returncode for client in clients]
        return _judge(seed, folder, cluster, stream, faults, mended, codes)
    finally:
        for client in clients:
            client.kill()
            client.wait()
        for node in cluster.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                node.send_signal(signal.SIGCONT)
        cluster.close()
        follower.stop_all()


FAULTS = ("kill", "kill", "stop", "cut", "lose", "one way", "slow", "slow disk", "full disk", "clock")


REACHED = ("halted", "clock_off", "clocks_disagree", "disk", "cannot run", "behind those of", "ahead of those of")


def _break(chance: random.Random, cluster: SpoiledCluster) -> str:
    """Break one thing; return what. A majority may be gone for a while."""
    members = sorted(cluster.configs)
    one = chance.choice(members)
    others = [member for member in members if member != one]
    both_ways = [(one, other) for other in others] + [(other, one) for other in others]
    what = chance.choice(FAULTS)
    if what == "kill" and one in cluster.nodes:
        cluster.kill(one)
    elif what == "stop" and one in cluster.nodes:
        cluster.nodes[one].send_signal(signal.SIGSTOP)
    elif what == "cut":
        cluster.network.cut(both_ways)
    elif what == "lose":
        cluster.network.stop(both_ways)
    elif what == "one way":
        ways = [(one, other) for other in others] if chance.random() < 0.5 else [(other, one) for other in others]
        cluster.network.stop(ways)
    elif what == "slow disk":
        cluster.spoil(one, slow=chance.choice((0.01, 0.1, 1.0)))
    elif what == "full disk" and cluster.fill():
        pass
    elif what == "clock":
        cluster.spoil(one, clock=chance.choice((-86_400.0, -3.0, 3.0, 86_400.0)))
    else:
        cluster.network.slow(both_ways, chance.uniform(0.005, 0.1))
        what = "slow"
    return what


def _mend(cluster: SpoiledCluster) -> None:
    for node in cluster.nodes.values():
        if node.poll() is None:
            node.send_signal(signal.SIGCONT)
    cluster.mend()


def _judge(seed, folder, cluster, stream, faults, mended, codes) -> Report:
    wrong = [f"client {number} ended with {code}" for number, code in enumerate(codes, 1) if code]
    history = []
    for number in range(1, CLIENTS + 1):
        path = folder / f"history-{number}"
        for line in path.read_text().splitlines() if path.exists() else ():
            client, began, ended, outcome, read, appended, offset = json.loads(line)
            history.append(
                Done(
                    client,
                    began,
                    ended,
                    outcome,
                    {key: tuple(seen) for key, seen in read},
                    tuple(map(tuple, appended)),
                    offset,
                )
            )
        if not any(done.client == number and done.outcome == "committed" and done.began > mended for done in history):
            wrong.append(f"client {number} committed nothing after everything was mended")
    heads = set()
    for machine in range(MACHINES):
        db = _connect(cluster, folder, machine, stream, timeout=60)
        with db.read("synchronized"):
            (total,) = db.execute("SELECT sum(balance) FROM accounts").fetchone()
            if total != ACCOUNTS * BALANCE:
                wrong.append(f"machine {machine} has {total} in all accounts")
        db.close()
        follower.stop_all()
        report = verify.verify(_file(folder, machine), key="chaos")
        wrong += [f"machine {machine}: {problem}" for problem in report.problems]
        heads.add((report.chain.transactions, report.chain.head))
    if len(heads) != 1:
        wrong.append(f"machines differ: {heads}")
    wrong += _nodes_that_differ(cluster, stream, heads)
    wrong += problems(history, _log(folder, heads))
    slowest = max([done.ended - done.began for done in history if done.outcome == "committed"], default=0.0)
    said = "".join(cluster.output(member) for member in cluster.configs)
    reached = Counter({name: said.count(name) for name in REACHED if name in said})
    return Report(seed, Counter(done.outcome for done in history), faults, reached, slowest, wrong)


def _nodes_that_differ(cluster: Cluster, stream: str, heads) -> list[str]:
    """Return a line for each node whose records of the stream do not come to end where the machines' copies do."""
    name = stream_id(cluster.config().cluster, stream)
    deadline = time.time() + 60
    while True:
        ends = {}
        for member in cluster.configs:
            with contextlib.suppress(veritydb.Error), contextlib.closing(cluster.log(member, name)) as log:
                ends[member] = (log.head.next_offset, log.head.hash)
        if len(ends) == len(cluster.configs) and set(ends.values()) == heads:
            return []
        if time.time() > deadline:
            return [f"nodes end at {ends}, machines at {heads}"]
        time.sleep(0.2)


def _log(folder: Path, heads) -> list[tuple[tuple[str, int], ...]]:
    """Return what each transaction of the stream wrote to lists, registers and the set, from the log of a machine."""
    from veritydb.subscriptions import TableUpdate, open_feed

    count = max(transactions for transactions, _ in heads)
    found: list[list[tuple[str, int]]] = [[] for _ in range(count)]
    tables = ("lists", "registers", "members")
    with open_feed(_file(folder, 0), key="chaos") as feed, feed.subscribe(tables, since=-1, images=True) as updates:
        while True:
            update = updates.get(timeout=2.0)
            if update is None:
                return [tuple(each) for each in found]
            if isinstance(update, TableUpdate):
                key = {"lists": "list {key}", "registers": "register {key}", "members": "set"}[update.table]
                found[update.offset].append((key.format(**update.after), update.after["value"]))


def _file(folder: Path, machine: int) -> Path:
    home = folder / f"machine-{machine}"
    home.mkdir(exist_ok=True)
    return home / "chaos.db"


def _connect(cluster: Cluster, folder: Path, machine: int, stream: str, timeout: float) -> veritydb.Connection:
    return veritydb.connect(
        _file(folder, machine), key="chaos", cluster=cluster.folder / "client", stream=stream, timeout=timeout
    )


def main() -> int:
    told = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    told.add_argument("--runs", type=int, default=1)
    told.add_argument("--seconds", type=float, default=60.0)
    told.add_argument("--seed", type=int, default=None)
    told.add_argument("--network", choices=("relays", "namespaces"), help="default: in turn, as far as permitted")
    told.add_argument("--keep", action="store_true", help="leave the files of a run that went wrong")
    options = told.parse_args()
    kinds = [options.network] if options.network else ["relays", "namespaces"] if permitted() else ["relays"]
    if "namespaces" in kinds and "CHAOS_INSIDE" not in os.environ:
        # In a network of its own, which ends with it.
        command = ["unshare", "--net", sys.executable, "-m", "tests.chaos.run", *sys.argv[1:]]
        os.execvpe("unshare", command, {**os.environ, "CHAOS_INSIDE": "1"})
    if "CHAOS_INSIDE" in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    broken = 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    for number in range(options.runs):
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        kind = kinds[number % len(kinds)]
        try:
            report = chaos(seed + number, options.seconds, folder, namespaces=kind == "namespaces")
        except Exception as error:  # One run that comes to no verdict is wrong; the others go on.
            nothing: Counter[str] = Counter()
            report = Report(seed + number, nothing, nothing, nothing, 0.0, [f"no verdict: {error!r}"])
        broken += bool(report.problems)
        print(
            f"seed {report.seed}, {kind}: {dict(report.outcomes)}; {dict(report.faults)}; {dict(report.reached)}; "
            f"slowest {report.slowest:.2f} s",
            flush=True,
        )
        for problem in report.problems[:20]:
            print(f"  {problem[:500]}", flush=True)
        if not (report.problems and options.keep):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"  its files are in {folder}", flush=True)
    print(f"{options.runs} runs, {broken} of them wrong")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
