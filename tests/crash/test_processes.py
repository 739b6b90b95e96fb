"""Several processes that write one database: one order, whoever dies among them and whatever happens to the file."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.support import files
from tests.support.life import RAW
from tests.support.processes import Child
from veritydb import opening
from veritydb.replay.rebuilding import rebuild

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Count

SCRIPT = Path(__file__).parent / "scripts" / "contend.py"
WORKERS = 8


class Crowd:
    """The processes."""

    def __init__(self, path: Path, children: list[Child]) -> None:
        self.path = path
        self.children = children
        self.ledger = Ledger()
        self.offsets: dict[int, int] = {}
        """Offset by number of transaction, as the processes were told."""

    def commit(self, count: int) -> set[int]:
        """Let each process commit so many transactions, all at once; return the numbers."""
        before = set(self.ledger.acknowledged)
        for child in self.children:
            child.tell(str(count))
        for child in self.children:
            while (line := child.line()) != "done":
                assert line, child.errors()
                self._hear(line)
        return self.ledger.acknowledged - before

    def end(self) -> int:
        """Let the processes end; return how many were killed."""
        killed = 0
        for child in self.children:
            ended = child.end()
            assert ended.killed or ended.status == 0, ended.errors
            killed += ended.killed
            self.ledger.add(ended.attempted, ended.acknowledged)
            for line in ended.said.splitlines():
                self._hear(line)
        return killed

    def _hear(self, line: str) -> None:
        words = line.split()
        if words[0] == "attempted":
            self.ledger.attempted.add(int(words[1]))
        elif words[0] == "acknowledged" and len(words) == 3:
            self.ledger.acknowledged.add(int(words[1]))
            self.offsets[int(words[1])] = int(words[2])


@contextlib.contextmanager
def crowd(
    path: Path, *, on_missing: str = "rebuild", deaths: dict[int, str] | None = None, hard: bool = False
) -> Iterator[Crowd]:
    """Start the processes; ``deaths`` says which of them die, and where."""
    more = ["hard"] if hard else []
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(Child(SCRIPT, path, worker, on_missing, *more, crash_at=(deaths or {}).get(worker)))
            for worker in range(1, WORKERS + 1)
        ]
        yield Crowd(path, children)


def unlink(path: Path) -> None:
    """Take the database file away under those who have it open, and what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_processes_that_write_at_once_make_one_chain(folder: Path, campaign: bool, count_of: Count) -> None:
    path, count = folder / "shared.db", 500 if campaign else 40
    ledger.create(path, RAW)
    with crowd(path) as processes:
        processes.commit(count)
        assert processes.end() == 0
    assert len(processes.ledger.acknowledged) == WORKERS * count
    count_of("commits of 8 processes at once", WORKERS * count)
    # Offset 0 made the tables. Every offset was given to exactly one transaction, and none is missing.
    assert sorted(processes.offsets.values()) == list(range(1, WORKERS * count + 1))
    in_log = {transaction.offset: transaction.actor for transaction in files.transactions(path, RAW)}
    for number, offset in processes.offsets.items():
        assert in_log[offset] == f"worker {number // 1_000_000}"
    assert ledger.examine(path, processes.ledger, key=RAW) == processes.ledger.acknowledged


def test_processes_that_die_among_others_take_nothing_with_them(folder: Path, campaign: bool) -> None:
    path, count = folder / "shared.db", 500 if campaign else 20
    ledger.create(path, RAW)
    deaths = {1: "torn append:5", 2: "after append:7", 4: "hook:9", 5: "wal:11", 7: "committed:3", 8: "written:13"}
    with crowd(path, deaths=deaths) as processes:
        for child in processes.children:
            child.tell(str(count))
        assert processes.end() == len(deaths)
    assert len(processes.ledger.attempted) >= 2 * count + len(deaths)
    ledger.examine(path, processes.ledger, key=RAW)


def test_a_file_that_is_unlinked_under_its_writers_is_rebuilt_with_all_that_was_acknowledged(
    folder: Path, campaign: bool
) -> None:
    path = folder / "shared.db"
    with crowd(path) as processes:
        for _ in range(20 if campaign else 3):
            processes.commit(5)
            unlink(path)
        processes.commit(5)
        assert processes.end() == 0
    assert ledger.examine(path, processes.ledger, key=RAW) == processes.ledger.acknowledged


def test_with_on_missing_new_each_file_has_its_own_log_and_old_ones_stay(folder: Path, campaign: bool) -> None:
    path = folder / "shared.db"
    rounds: list[set[int]] = []
    with crowd(path, on_missing="new") as processes:
        for _ in range(20 if campaign else 3):
            rounds.append(processes.commit(5))
            unlink(path)
        last = processes.commit(5)
        assert processes.end() == 0
    aside = sorted(folder.glob("shared.db-log.*"))
    found = [numbers_in(log, folder / f"{log.name}.rebuilt") for log in aside]
    assert sorted(map(sorted, found)) == sorted(map(sorted, rounds))
    processes.ledger.attempted = processes.ledger.acknowledged = last
    assert ledger.examine(path, processes.ledger, key=RAW) == last


def numbers_in(log: Path, target: Path) -> set[int]:
    """Return the transactions of a log that was set aside."""
    rebuild(log, target, key=RAW)
    with contextlib.closing(ledger.opened(target, log, RAW)) as db:
        return {number for (number,) in db.execute("SELECT number FROM entries")}


@pytest.mark.slow
def test_a_file_that_is_unlinked_at_any_moment_costs_nothing_that_is_in_the_log(folder: Path, campaign: bool) -> None:
    if not campaign:
        pytest.skip("part of the campaign: SQLite promises nothing about a file that is taken from it while it works")
    for seed in range(20):
        path, chance = folder / f"shared-{seed}.db", random.Random(seed)
        with crowd(path, hard=True) as processes:
            processes.commit(1)
            for child in processes.children:
                child.tell("100")
            for _ in range(6):
                time.sleep(chance.uniform(0, 0.15))
                unlink(path)
            assert processes.end() == 0
        unlink(path)
        ledger.examine(path, processes.ledger, key=RAW)


@pytest.mark.slow
def test_all_at_once_costs_nothing_that_is_in_the_log(folder: Path, campaign: bool, count_of: Count) -> None:
    """Eight processes, most of which die at some mark, and a file that is taken away under them again and again."""
    if not campaign:
        pytest.skip("part of the campaign: as above, and it takes a minute")
    path, count = folder / "shared.db", 500
    ledger.create(path, RAW)
    deaths = {
        1: "torn append:150",
        2: "after append:90",
        3: "hook:200",
        4: "written:310",
        5: "log call:2000",
        6: "sync:400",
    }
    chance = random.Random("all at once")
    with crowd(path, deaths=deaths, hard=True) as processes:
        for child in processes.children:
            child.tell(str(count))
        for _ in range(40):
            time.sleep(chance.uniform(0, 0.2))
            unlink(path)
        assert processes.end() == len(deaths)
    assert len(processes.ledger.acknowledged) >= 2 * count
    count_of("commits of 8 processes, 6 killed, their file taken away 40 times", len(processes.ledger.acknowledged))
    offsets = [transaction.offset for transaction in files.transactions(path, RAW)]
    assert offsets == list(range(len(offsets)))
    in_log = {transaction.offset: transaction.actor for transaction in files.transactions(path, RAW)}
    for number, offset in processes.offsets.items():
        assert in_log[offset] == f"worker {number // 1_000_000}"
    unlink(path)
    ledger.examine(path, processes.ledger, key=RAW)


def test_a_file_that_was_begun_and_not_made_is_rebuilt(folder: Path) -> None:
    path = folder / "begun.db"
    ledger.create(path, RAW)
    file_key = files.keyring(path, RAW).current.file_key()
    path.unlink()
    with contextlib.closing(opening.open_file(str(path), file_key)) as begun:
        begun.pragma("journal_mode", "WAL")
    assert path.stat().st_size
    ledger.examine(path, Ledger(), key=RAW)
