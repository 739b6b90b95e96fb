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
from tests.chaos.links import Links
from tests.cluster.groups import Cluster
from veritydb import follower, verify

MACHINES = 3
CLIENTS = 5


class Report(NamedTuple):
    """What a run came to."""

    seed: int
    outcomes: Counter[str]
    faults: Counter[str]
    slowest: float
    """Seconds of the slowest transaction that was acknowledged."""
    problems: list[str]


def chaos(seed: int, seconds: float, folder: Path) -> Report:
    """Run once."""
    chance = random.Random(seed)
    cluster = Cluster(folder / "cluster")
    links = Links({member: cluster.config(member).address for member in cluster.configs})
    _rewire(cluster, links)
    faults: Counter[str] = Counter()
    stream = "chaos"
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
            faults[_break(chance, cluster, links)] += 1
            time.sleep(chance.uniform(0.2, 2.5))
            if chance.random() < 0.7:
                _mend(cluster, links)
                time.sleep(chance.uniform(0.2, 1.5))
        _mend(cluster, links)
        mended = time.time()
        codes = [client.wait(timeout=180) for client in clients]
        return _judge(seed, folder, cluster, stream, faults, mended, codes)
    finally:
        for node in cluster.nodes.values():
            with contextlib.suppress(ProcessLookupError):
                node.send_signal(signal.SIGCONT)
        cluster.close()
        links.close()
        follower.stop_all()


def _rewire(cluster: Cluster, links: Links) -> None:
    """Tell each member that the others are behind the cables."""
    for member, path in cluster.configs.items():
        text = path.read_text()
        for (src, dst), link in links.links.items():
            if src == member:
                text = text.replace(f'{dst} = "{link.target}"', f'{dst} = "{link.address}"')
        path.write_text(text)


def _break(chance: random.Random, cluster: Cluster, links: Links) -> str:
    """Break one thing; return what. A majority may be gone for a while."""
    members = sorted(cluster.configs)
    one = chance.choice(members)
    others = [member for member in members if member != one]
    both_ways = [(one, other) for other in others] + [(other, one) for other in others]
    what = chance.choice(["kill", "kill", "stop", "cut", "lose", "one way", "slow"])
    if what == "kill" and one in cluster.nodes:
        cluster.kill(one)
    elif what == "stop" and one in cluster.nodes:
        cluster.nodes[one].send_signal(signal.SIGSTOP)
    elif what == "cut":
        links.cut(both_ways)
    elif what == "lose":
        links.stop(both_ways)
    elif what == "one way":
        links.stop([(one, other) for other in others] if chance.random() < 0.5 else [(other, one) for other in others])
    else:
        links.slow(both_ways, chance.uniform(0.005, 0.1))
        what = "slow"
    return what


def _mend(cluster: Cluster, links: Links) -> None:
    links.heal()
    for member in cluster.configs:
        if member in cluster.nodes:
            cluster.nodes[member].send_signal(signal.SIGCONT)
        else:
            cluster.start(member)


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
    wrong += problems(history, _log(folder, heads))
    slowest = max([done.ended - done.began for done in history if done.outcome == "committed"], default=0.0)
    return Report(seed, Counter(done.outcome for done in history), faults, slowest, wrong)


def _log(folder: Path, heads) -> list[tuple[tuple[int, int], ...]]:
    """Return what each transaction of the stream appended to lists, from the log of a machine."""
    from veritydb.subscriptions import TableUpdate, open_feed

    count = max(transactions for transactions, _ in heads)
    found: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    with open_feed(_file(folder, 0), key="chaos") as feed, feed.subscribe("lists", since=-1, images=True) as updates:
        while True:
            update = updates.get(timeout=2.0)
            if update is None:
                return [tuple(each) for each in found]
            if isinstance(update, TableUpdate):
                found[update.offset].append((update.after["key"], update.after["value"]))


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
    told.add_argument("--keep", action="store_true", help="leave the files of a run that went wrong")
    options = told.parse_args()
    broken = 0
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    for number in range(options.runs):
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        report = chaos(seed + number, options.seconds, folder)
        broken += bool(report.problems)
        print(
            f"seed {report.seed}: {dict(report.outcomes)}; {dict(report.faults)}; slowest {report.slowest:.2f} s",
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
