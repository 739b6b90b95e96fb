"""Writers and followers that are killed: what followers were told is the log, no more, no less, in order.

A follower that dies goes on behind the last cursor that it said. So the concatenation of what the followers of a
database said has to be exactly what its log holds in the end: nothing that was cut, nothing twice, nothing missing.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

import veritydb
from tests.crash import ledger
from tests.crash.small import make_small
from tests.support.child import POINTS
from tests.support.life import RAW
from tests.support.processes import Child
from veritydb.subscriptions import Cursor, TableUpdate, open_feed

if TYPE_CHECKING:
    pass

from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
WAIT = 60.0


class Follower:
    """One cursor, carried on by processes that die."""

    def __init__(self, path: Path, notify: str = "any") -> None:
        self.path = path
        self.notify = notify
        self.cursor = "-1"
        self.told: list[str] = []
        self._child: Child | None = None

    def start(self) -> None:
        self._child = Child(SCRIPTS / "follows.py", self.path, self.cursor, self.notify)
        self._child.until("following")

    def hear(self, line: str) -> None:
        if line.startswith("told "):
            self.told.append(line)
            self.cursor = line.split(" ")[1]

    def until(self, last: Cursor) -> None:
        """Listen until it has been told of a change."""
        assert self._child is not None
        while Cursor.parse(self.cursor).position != last.position:
            line = self._child.line()
            assert line, self._child.errors()
            self.hear(line)

    def die(self) -> None:
        """Kill it; what it has said counts, and nothing else."""
        child, self._child = self._child, None
        assert child is not None
        with child:
            before = len(child._said)
            child.signal()
            said = child.end().said.splitlines(keepends=True)
            for line in said[before:]:
                if line.endswith("\n"):
                    self.hear(line.strip())


def in_the_log(path: Path) -> list[str]:
    """What a follower that never died would have said."""
    veritydb.connect(path, key=RAW, timeout=60).close()  # The file follows its log, and a feed the file.
    with open_feed(path, key=RAW) as feed, feed.subscribe(since=-1, images=True) as updates:
        found: list[str] = []
        while batch := updates.drain():
            for update in batch:
                if isinstance(update, TableUpdate):
                    image = update.after or update.before
                    assert image is not None
                    items = sorted(image.items())
                    found.append(f"told {update.cursor} {update.table} {update.action} {items!r}")
        return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.fixture
def path(folder: Path) -> Path:
    made = folder / "mortal.db"
    ledger.create(made, RAW)
    return made


def last_change(path: Path) -> Cursor:
    return Cursor.parse(in_the_log(path)[-1].split(" ")[1])


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_that_dies_anywhere_makes_no_follower_see_more_or_less_than_the_log(
    path: Path, point: str, campaign: bool
) -> None:
    chance = random.Random(point)
    follower = Follower(path)
    follower.start()
    first = 1
    for _ in range(10 if campaign else 2):
        count = chance.randrange(1, 6) * (25 if point == "log call" else 1)
        with Child(SCRIPTS / "commits.py", path, first, 12, crash_at=f"{point}:{count}") as writer:
            ended = writer.end()
        assert ended.killed or ended.status == 0, ended.errors
        first = max([first, *(number + 1 for number in ended.attempted)])
    # What the last one left is settled by whoever comes next.
    db = veritydb.connect(path, key=RAW, timeout=60)
    with db:
        ledger.single(db, first)
    db.close()
    follower.until(last_change(path))
    follower.die()
    assert follower.told == in_the_log(path)


def test_what_a_dead_writer_left_whole_is_told_although_nobody_writes_any_more(path: Path) -> None:
    follower = Follower(path)
    follower.start()
    with Child(SCRIPTS / "commits.py", path, 1, 3, crash_at="written:1") as writer:
        ended = writer.end()
    assert ended.killed
    follower.until(Cursor(1, 3))
    follower.die()
    assert follower.told == in_the_log(path)


@pytest.mark.parametrize("notify", ["any", "poll"])
def test_a_follower_that_dies_goes_on_behind_its_cursor(path: Path, notify: str, campaign: bool) -> None:
    chance = random.Random(notify)
    follower = Follower(path, notify)
    first = 1
    for _ in range(30 if campaign else 3):
        follower.start()
        with Child(SCRIPTS / "commits.py", path, first, 9) as writer:
            time.sleep(chance.random() * 0.05)
            follower.die()
            ended = writer.end()
        assert ended.status == 0, ended.errors
        first += 9
    follower.start()
    follower.until(last_change(path))
    follower.die()
    assert follower.told == in_the_log(path)
