"""The folder's lock: exclusive, interruptible, and never left held by accident."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from veritydb.errors import LogMismatch, LogUnavailable, OperationalError
from veritydb.log import Files, LogBusy
from veritydb.log import lock as lock_module
from veritydb.log.lock import FolderLock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def lock(path: str) -> Iterator[FolderLock]:
    lock = FolderLock(path, Files(), create=True)
    yield lock
    lock.close()


@pytest.fixture
def other(lock: FolderLock, path: str) -> Iterator[FolderLock]:
    other = FolderLock(path, Files())
    yield other
    other.close()


def test_one_holds_it_at_a_time(lock: FolderLock, other: FolderLock) -> None:
    lock.acquire(0)
    with pytest.raises(LogBusy):
        other.acquire(0)
    assert (lock.held, other.held) == (True, False)
    lock.release()
    other.acquire(0)
    assert other.held


def test_being_busy_is_an_operational_error_that_says_database_is_locked(lock: FolderLock, other: FolderLock) -> None:
    """The words that callers of sqlite3 look for."""
    lock.acquire()
    with pytest.raises(OperationalError, match="database is locked"):
        other.acquire(0)


def test_closing_gives_it_up(lock: FolderLock, other: FolderLock) -> None:
    lock.acquire()
    lock.close()
    lock.close()
    lock.release()
    other.acquire(0)
    with pytest.raises(LogUnavailable, match="closed"):
        lock.acquire(0)


def test_a_wait_is_cut_short_by_a_signals_exception(lock: FolderLock, other: FolderLock) -> None:
    class Alarm(BaseException):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        lock.acquire()
        for timeout in (None, 30.0):
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            with pytest.raises(Alarm):
                other.acquire(timeout)
            assert not other.held
        lock.release()
        lock.acquire(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_whose_handler_returns_does_not_end_the_wait(lock: FolderLock, other: FolderLock) -> None:
    rung = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: rung.set())
    try:
        lock.acquire()
        threading.Timer(0.08, lock.release).start()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        other.acquire(None)
        assert rung.is_set()
        assert other.held
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_deadline_is_kept(lock: FolderLock, other: FolderLock) -> None:
    lock.acquire()
    started = time.monotonic()
    with pytest.raises(LogBusy):
        other.acquire(0.1)
    assert 0.1 <= time.monotonic() - started < 2


def test_a_child_gives_up_the_descriptors_it_inherited(lock: FolderLock, other: FolderLock) -> None:
    lock.acquire()
    lock_module._after_fork()
    for each in (lock, other):
        with pytest.raises(LogUnavailable, match="before a fork"):
            each.acquire(0)


def test_a_holder_that_dies_lets_go(lock: FolderLock, path: str) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            FolderLock(path, Files()).acquire()
            os.write(told, b"x")
            time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    with pytest.raises(LogBusy):
        lock.acquire(0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    lock.acquire(5)
    os.close(ready)
    os.close(told)


def test_a_file_put_in_its_place_is_noticed(lock: FolderLock, path: str) -> None:
    lock.acquire()
    lock.check()
    os.unlink(path)
    for _ in range(2):
        with pytest.raises(LogMismatch, match="moved or replaced"):
            lock.check()
        Path(path).touch()


def test_the_marker_is_in_a_file_of_its_own(lock: FolderLock, other: FolderLock, path: str) -> None:
    marker = Path(path).with_name("marker")
    assert not lock.settled(0, 0)  # Nothing is known, not even of nothing.
    lock.settle(3, 4711)
    assert other.settled(3, 4711)
    assert not other.settled(3, 4712)
    assert marker.read_bytes() == (3).to_bytes(8, "little") + (4711).to_bytes(8, "little")
    other.unsettle()
    assert not lock.settled(3, 4711)
    assert Path(path).read_bytes() == b""


def test_a_lock_whose_marker_cannot_be_opened_is_not_opened(path: str) -> None:
    Path(path).with_name("marker").mkdir()
    with pytest.raises(IsADirectoryError):
        FolderLock(path, Files(), create=True)


def test_a_release_that_fails_gives_the_lock_up_all_the_same(path: str, other_files: Files) -> None:
    lock = FolderLock(path, other_files, create=True)
    with contextlib.closing(lock), contextlib.closing(FolderLock(path, Files())) as other:
        lock.acquire(0)
        lock.release()
        assert not lock.held
        other.acquire(0)
        with pytest.raises(LogUnavailable, match="connect again"):
            lock.acquire(0)


@pytest.fixture
def other_files() -> Files:
    import fcntl

    files = Files()

    def flock(fd: int, how: int) -> None:
        if how == fcntl.LOCK_UN:
            raise OSError(37, "No locks available")
        fcntl.flock(fd, how)

    files.flock = flock
    return files
