"""A disk that is quick is waited for; one that is not holds nobody up."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.storages import BODY_MAX, SLOTS, first_image
from tests.test_storage_contract import entry
from veritydb.cluster import disk_turns
from veritydb.cluster.disk import Disk, format_disk
from veritydb.cluster.disk_thread import DiskThread
from veritydb.cluster.disk_turns import REST, DiskTurns, Pace
from veritydb.log import Files
from veritydb.vsr.effects import Read, ReadDone, Write, WriteDone, Zone
from veritydb.vsr.entry import read_entry


class Stalling(Files):
    """Waits in a write for as long as it is told to; counts the syncs."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.syncs = 0

        def pwrite(fd: int, data: Any, position: int) -> int:
            assert self.goes_on.wait(60)
            return Files.pwrite(fd, data, position)

        def fdatasync(fd: int) -> None:
            self.syncs += 1
            Files.fdatasync(fd)

        setattr(self, "pwrite", pwrite)  # noqa: B010  mypy knows that these are of the class
        setattr(self, "fdatasync", fdatasync)  # noqa: B010


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "member"
    format_disk(made, first_image(), body_max=BODY_MAX)
    return made


def of_entry(op: int) -> Write:
    return Write(Zone.ENTRY, op % SLOTS, entry(op).raw, op)


class Loop:
    """Calls what it is asked to call soon when the test says so."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self.done: list[WriteDone | ReadDone] = []

    def soon(self, call: Any, argument: Any) -> None:
        self.calls.put((call, argument))

    def turn(self) -> None:
        call, argument = self.calls.get(timeout=60)
        call(argument)


def test_a_quick_disk_is_waited_for_and_syncs_once_for_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_turns, "PATIENCE", 60)
    loop, files = Loop(), Stalling()
    disk = Disk(folder, files=files)
    turns = DiskTurns(disk, loop.done.append, loop.soon)
    for op in (1, 2, 3):
        turns.put(of_entry(op))
    assert turns.due
    assert not loop.done
    turns.flush()
    assert not turns.due
    assert loop.done == [WriteDone(1, True), WriteDone(2, True), WriteDone(3, True)]
    assert files.syncs == 1
    assert loop.calls.empty()
    turns.close()
    read = disk.read(Zone.ENTRY, 2)
    assert read is not None
    assert read_entry(read) == entry(2)
    disk.close()


def test_a_disk_that_stalls_holds_nobody_up_and_is_left_alone_for_a_while(folder: Path) -> None:
    loop, files = Loop(), Stalling()
    disk = Disk(folder, files=files)
    turns = DiskTurns(disk, loop.done.append, loop.soon)
    files.goes_on.clear()
    turns.put(of_entry(1))
    turns.flush()  # It would never return.
    assert not loop.done, "nothing is durable before it has been synced"
    turns.put(of_entry(2))
    assert not turns.due, "the thread has it"
    files.goes_on.set()
    loop.turn()
    loop.turn()
    assert loop.done == [WriteDone(1, True), WriteDone(2, True)]
    turns.close()
    disk.close()


def test_a_failure_is_told_whether_it_was_waited_for_or_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Files):
        @staticmethod
        def pwrite(fd: int, data: Any, position: int) -> int:  # type: ignore[override]  # a bound function stands for it
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk_turns, "PATIENCE", 60)
    loop = Loop()
    disk = Disk(folder, files=Broken())
    turns = DiskTurns(disk, loop.done.append, loop.soon)
    turns.put(of_entry(1))
    turns.flush()
    assert loop.done == [WriteDone(1, False)]
    turns.put(Write(Zone.SNAPSHOT, b"r" * 16, b"snapshot", 2))
    loop.turn()
    assert loop.done[1:] == [WriteDone(2, False)]
    turns.close()
    disk.close()


def test_what_was_gathered_goes_before_what_is_not_waited_for(folder: Path) -> None:
    loop = Loop()
    disk = Disk(folder)
    turns = DiskTurns(disk, loop.done.append, loop.soon)
    turns.put(of_entry(1))
    turns.put(Read(Zone.ENTRY, 1, 2))
    assert not turns.due
    loop.turn()
    loop.turn()
    assert loop.done[0] == WriteDone(1, True)
    read = loop.done[1]
    assert isinstance(read, ReadDone)
    assert read_entry(read.data or b"") == entry(1)
    turns.put(of_entry(2))
    turns.close()
    loop.turn()
    assert loop.done[2:] == [WriteDone(2, True)], "what is gathered is written before the end"
    disk.close()


@pytest.mark.parametrize("in_time", [False, True])
def test_each_write_is_told_once_when_patience_ends_as_the_disk_does(folder: Path, in_time: bool) -> None:
    """Who waits and the thread decide together who tells."""
    disk = Disk(folder)
    told: list[WriteDone | ReadDone] = []
    thread = DiskThread(disk, told.append)
    returned: list[WriteDone] = []
    for op in range(1, 200):
        returned += thread.carry_out([of_entry(op)], 60 if in_time else 0.00005)
    thread.close()
    assert sorted(event.token for event in [*told, *returned]) == list(range(1, 200))
    assert not (in_time and told)
    disk.close()


def test_what_is_still_being_written_is_not_overwritten_by_what_comes_next(folder: Path) -> None:
    """Who has waited long enough makes the next write ready while the disk still reads the first one's memory."""
    files = Stalling()
    disk = Disk(folder, files=files)
    thread = DiskThread(disk, lambda _: None)
    files.goes_on.clear()
    assert not thread.carry_out([of_entry(1)], 0)
    assert not thread.carry_out([of_entry(2)], 0)
    files.goes_on.set()
    thread.close()
    assert [read_entry(disk.read(Zone.ENTRY, op) or b"") for op in (1, 2)] == [entry(1), entry(2)]
    disk.close()


def test_a_slow_disk_is_tried_ever_more_rarely_and_a_quick_one_is_trusted_again() -> None:
    pace = Pace()

    def rests() -> int:
        count = 0
        while not pace.may_wait():
            count += 1
        return count

    assert rests() == 0
    for expected in (64, 128, 256, 512, 1024, 2048, 4096, 4096):
        pace.was(quick=False)
        assert rests() == expected
    for _ in range(REST[1]):
        pace.was(quick=True)
    pace.was(quick=False)
    assert rests() == REST[0]
