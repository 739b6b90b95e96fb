"""The power fails at every system call; what was acknowledged is there when it is back."""

from __future__ import annotations

import contextlib
import fcntl
import os
from random import Random
from typing import TYPE_CHECKING, Any

from tests.support.logs import SMALL, STREAM, append, commit, poke, read_back, segment_path, tails, unsynced
from tests.support.power import Disk, PowerFailure
from veritydb.log import Log
from veritydb.log.files import UnsyncedFiles

if TYPE_CHECKING:
    from pathlib import Path


def workload(folder: Path, disk: Disk, done: list[bytes], tried: list[bytes]) -> None:
    """Append small, large and spilled records over several segments, by two handles that take turns."""
    handles = [Log.create(folder, STREAM, files=disk, segment_size=SMALL)]
    try:
        handles.append(Log.open(folder, files=disk, segment_size=SMALL))
        for n in range(14):
            log = handles[n // 2 % 2]
            content = b"%02d" % n * (450 if n % 3 else 900)
            log.acquire(1)
            log.place()
            tried.append(content)
            if n % 5 == 3:
                append(log, content[600:], [content[:100], content[100:600]])
            else:
                append(log, content)
            done.append(content)
            log.release()
    finally:
        for log in handles:
            log.close()


def recovered(folder: Path, floor: int) -> list[bytes]:
    """Start again: open, cut, append; return what was there before that."""
    with contextlib.closing(Log.open(folder, floor=floor, segment_size=SMALL, files=unsynced())) as log:
        log.acquire(1)
        if log.torn is not None:
            log.cut(log.torn)
        found = tails(log)
        append(log, b"after")
        log.release()
        head = log.head
    with contextlib.closing(Log.open(folder, floor=head.next_offset, files=unsynced())) as log:
        assert log.torn is None
        assert log.head == head
        assert tails(log) == [*found, b"after"]
    return found


def test_what_was_acknowledged_survives_a_power_failure_at_any_call(tmp_path: Path, campaign: bool) -> None:
    until = 0
    while True:
        until += 1
        for seed in range(40 if campaign else 3):
            folder = tmp_path / f"{until}-{seed}-log"
            disk = Disk(until)
            done: list[bytes] = []
            tried: list[bytes] = []
            failed = False
            try:
                workload(folder, disk, done, tried)
            except PowerFailure:
                failed = True
            after = disk.after(folder, tmp_path / f"{until}-{seed}-after", Random(f"{until} {seed}"))
            if not segment_path(after).exists():
                assert not done
                continue
            found = recovered(after, floor=len(done))
            assert found[: len(done)] == done
            assert found == tried[: len(found)]
        if not failed:
            assert done == tried
            break
    assert until > 60


def test_what_was_torn_and_cut_stays_away(tmp_path: Path) -> None:
    """A second failure right after the cut brings nothing back that was cut."""
    for until in range(1, 60):
        folder = tmp_path / f"{until}-log"
        disk = Disk(10_000)
        done: list[bytes] = []
        with contextlib.closing(Log.create(folder, STREAM, files=disk, segment_size=SMALL)) as log:
            log.acquire()
            append(log, b"one")
            log.release()
            fd = disk.open(str(segment_path(folder)), os.O_RDWR | os.O_DSYNC)
            disk.pwrite(fd, b"rubbish" * 100, log.head.position)
            os.close(fd)
        disk._until = disk.calls + until
        cut = False
        with (
            contextlib.suppress(PowerFailure),
            contextlib.closing(Log.open(folder, files=disk, segment_size=SMALL)) as log,
        ):
            log.acquire()
            assert log.torn is not None
            log.cut(log.torn)
            cut = True
            append(log, b"two", generation=1)
            done.append(b"two")
            log.release()
        after = disk.after(folder, tmp_path / f"{until}-after", Random(until))
        with contextlib.closing(Log.open(after, floor=1 + len(done))) as log:
            assert tails(log)[: 1 + len(done)] == [b"one", *done]
            assert not (cut and done and log.torn)
        if done:
            return
    raise AssertionError("the workload never ended")


def test_a_record_of_a_killed_process_counts_only_once_it_is_durable(tmp_path: Path) -> None:
    """It was in the page cache, its writer died, another handle found it, then the power failed."""
    folder = tmp_path / "a-log"
    disk = Disk(10_000)
    with contextlib.closing(Log.create(folder, STREAM, files=disk, segment_size=SMALL)) as log:
        log.acquire()
        append(log, b"one" * 100)
        log.release()
        other = Log.open(folder, files=disk, segment_size=SMALL)
        # The last thing the writer does is to hand its bytes to the kernel.
        disk._synced_at_once.clear()
        log.acquire()
        append(log, b"two" * 100)
    poke(folder / "marker", 0, b"\1")
    disk._synced_at_once.add(other._fd)
    with contextlib.closing(other):
        other.acquire()
        assert tails(other) == [b"one" * 100, b"two" * 100]
        other.release()
    for seed in range(20):
        after = disk.after(folder, tmp_path / f"after-{seed}", Random(seed))
        assert recovered(after, floor=2) == [b"one" * 100, b"two" * 100]


def test_a_log_that_is_made_durable_afterwards_waits_for_no_disk(tmp_path: Path) -> None:
    """Its calls are the same otherwise: a large record, whose parts go first, is there."""
    opened: list[int] = []

    class Noted(UnsyncedFiles):
        @staticmethod
        def open(path: Any, flags: int, mode: int = 0o777) -> int:
            fd = UnsyncedFiles.open(path, flags, mode)
            opened.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DSYNC)
            return fd

    with contextlib.closing(Log.create(tmp_path / "unsynced", STREAM, files=Noted())) as log:
        commit(log, b"tail", parts=[b"part one", b"part two" * 1000])
    assert opened
    assert not any(opened)
    assert read_back(tmp_path / "unsynced") == [b"part one" + b"part two" * 1000 + b"tail"]
