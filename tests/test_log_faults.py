"""Every system call of the log fails once, one after the other; what was acknowledged stays, what was not says so."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.logs import (
    SMALL,
    STREAM,
    FaultyFiles,
    append,
    commit,
    poke,
    read_back,
    segment_path,
    tails,
    unsynced,
)
from veritydb.errors import LogDamaged, LogMismatch, LogMissing, LogUnavailable, OutcomeUnknown
from veritydb.log import Files, Log, Spill

if TYPE_CHECKING:
    from collections.abc import Callable


def recovered(folder: Path, floor: int = 0) -> list[bytes]:
    """Open the log as the next process would, cut what is torn, append, and return what was there before that."""
    with contextlib.closing(Log.open(folder, floor=floor, segment_size=SMALL)) as log:
        log.acquire(1)
        if log.torn is not None:
            log.cut(log.torn)
        found = tails(log)
        append(log, b"after")
        log.release()
        assert tails(log) == [*found, b"after"]
    return found


def workload(folder: Path, files: Files) -> dict[str, list[bytes]]:
    """Create a log, append small and large records over several segments, connecting anew after each failure.

    Return the contents that were tried, done, refused, and left unknown.
    """
    log: Log | None = None
    contents: dict[str, list[bytes]] = {"tried": [], "done": [], "refused": [], "unknown": []}
    with contextlib.suppress(LogUnavailable):
        log = Log.create(folder, STREAM, files=files, segment_size=SMALL)
    for n in range(12):
        content = b"%02d" % n * 450
        parts = [content[:100], content[100:500]] if n % 5 == 3 else None
        tail = content[500:] if parts else content
        try:
            if log is None:
                log = Log.open(folder, files=files, segment_size=SMALL)
            log.acquire(1)
            if log.torn is not None:
                log.cut(log.torn)
            log.place()
            contents["tried"].append(content)
            append(log, tail, parts)
            contents["done"].append(content)
            log.release()
        except LogMissing:
            with contextlib.suppress(LogUnavailable, LogMismatch):
                log = Log.create(folder, STREAM, files=files, segment_size=SMALL)
        except OutcomeUnknown:
            contents["unknown"].append(content)
            assert log is not None
            log.close()
            log = None
        except LogUnavailable:
            contents["refused"].append(content)
            if log is not None:
                log.close()
                log = None
    if log is not None:
        log.close()
    return contents


@pytest.mark.parametrize(
    ("error", "half"),
    [(errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, True)],
    ids=["EIO", "EIO after half", "ENOSPC after half"],
)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "twice and on every third call"])
def test_any_call_may_fail(tmp_path: Path, error: int, half: bool, lasting: bool) -> None:
    """Acknowledged ⊆ recovered ⊆ attempted, and what was refused is not there; for every call that can fail."""
    nth = 0
    while True:
        nth += 1

        def fails(name: str, call: int, nth: int = nth) -> bool:
            return call == nth or (lasting and (call == nth + 1 or (call > nth and (call - nth) % 37 == 0)))

        folder = tmp_path / f"{nth}-log"
        files = FaultyFiles(fails, error, half=half)
        contents = workload(folder, files)
        done, tried = contents["done"], contents["tried"]
        found = recovered(folder, floor=0) if (folder / "00000000.seg").exists() else []
        assert [content for content in found if content not in contents["unknown"]] == done
        assert set(found) <= set(tried)
        assert found == [content for content in tried if content in found]
        if not files.failed:
            assert len(done) == 12
            break
        if not lasting:
            assert len(done) >= 8
    assert nth > 100


def failing(name: str, nth: int = 1, error: int = errno.EIO, times: int = 1, **options: Any) -> tuple[Any, FaultyFiles]:
    """Return (switch, files): calls of that name fail from the nth after the switch was thrown."""
    state = {"on": False, "seen": 0}

    def fails(call: str, _: int) -> bool:
        if not state["on"] or call != name:
            return False
        state["seen"] += 1
        return nth <= state["seen"] < nth + times

    def switch() -> None:
        state["on"] = True

    return switch, FaultyFiles(fails, error, **options)


@pytest.mark.parametrize("half", [False, True])
def test_a_failed_append_is_taken_away_and_ends_the_handle(folder: Path, half: bool) -> None:
    switch, files = failing("pwrite", half=half)
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        head = log.head
        switch()
        log.acquire()
        with pytest.raises(LogUnavailable, match="rolled back") as caught:
            append(log, b"two")
        assert isinstance(caught.value.__cause__, OSError)
        log.refresh()
        assert log.head is head
        with pytest.raises(LogUnavailable, match="failed before"):
            append(log, b"three")
        log.release()
        with pytest.raises(LogUnavailable, match="failed before"):
            log.acquire()
        assert not log.held
    assert segment_path(folder).stat().st_size == head.position
    assert recovered(folder, floor=1) == [b"one"]


def test_an_append_that_cannot_be_taken_away_is_unknown_until_the_next_open(folder: Path) -> None:
    """The bytes reached the page cache; that they reach the disk, the next acquirer ensures by writing them again."""
    for name in ("open", "ftruncate", "fdatasync"):
        written = {"on": False}

        def fails(call: str, _: int, name: str = name, written: dict[str, bool] = written) -> bool:
            return written["on"] and call == name

        files = FaultyFiles(fails)
        real = files.pwrite

        def pwrite(fd: int, data: bytes, position: int, real: Any = real, written: Any = written) -> int:
            length = real(fd, data, position)
            if written["on"] and len(data) > 16:
                raise OSError(errno.EIO, "I/O error")
            return length

        files.pwrite = pwrite
        target = folder.with_name(f"{name}-log")
        with contextlib.closing(Log.create(target, STREAM, files=files)) as log:
            commit(log, b"one")
            written["on"] = True
            log.acquire()
            with pytest.raises(OutcomeUnknown, match="will be known when"):
                append(log, b"two")
            with pytest.raises(LogUnavailable):
                log.refresh()
            log.release()
        assert (target / "marker").read_bytes() == bytes(16)
        rewritten = Counting()
        with contextlib.closing(Log.open(target, files=rewritten)) as log:
            found = tails(log)
            assert settled(log)
        # After ftruncate succeeded and only its sync failed, the record is gone.
        assert found == ([b"one"] if name == "fdatasync" else [b"one", b"two"])
        # The last record there is, zeros behind it, the marker.
        assert rewritten.lengths == [264, 64, 16]


def test_a_record_written_in_part_is_taken_away(folder: Path) -> None:
    files = unsynced()
    real = files.pwrite
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        log._pwrite = lambda fd, data, position: real(fd, data[:100], position)
        log.acquire()
        with pytest.raises(LogUnavailable, match="not written whole"):
            append(log, b"two")
        log.release()
    assert recovered(folder, floor=1) == [b"one"]


def test_a_marker_that_stays_after_a_failure_only_costs_a_look(folder: Path) -> None:
    broken = {"on": False}
    files = FaultyFiles(lambda name, _: broken["on"] and name == "pwrite")
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        log.acquire()
        broken["on"] = True
        with pytest.raises(LogUnavailable, match="rolled back"):
            append(log, b"two")
        log.release()
    poke(folder / "marker", 0, b"\1")
    assert recovered(folder, floor=1) == [b"one"]


def test_an_interrupted_append_that_cannot_be_settled_says_so(folder: Path) -> None:
    switch, files = failing("pread")
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        log.acquire()
        log._stale = True
        switch()
        with pytest.raises(LogUnavailable, match="cannot be read"):
            log.refresh()
        log.refresh()
        append(log, b"two")
        log.release()
    assert read_back(folder) == [b"one", b"two"]


def settled(log: Log) -> bool:
    """Whether the marker says that all of the log is on the disk."""
    return log._lock.settled(log.head.segment, log.head.position)


class Counting(Files):
    """Remembers the lengths of what is written."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        real = Files.pwrite

        def pwrite(fd: int, data: bytes, position: int) -> int:
            self.lengths.append(len(data))
            return real(fd, data, position)

        self.pwrite = pwrite


def test_a_record_that_cannot_be_settled_is_not_yet_in_the_log(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        commit(log, b"one", b"two")
    first = segment_path(folder).read_bytes()
    poke(folder / "marker", 0, b"\1")
    switch, files = failing("pwrite")
    switch()
    with pytest.raises(LogUnavailable, match="cannot be read"):
        Log.open(folder, files=files)
    switch, files = failing("flock", 1, errno.EWOULDBLOCK)
    switch()
    with contextlib.closing(Log.open(folder, files=files)) as log:
        assert log.head.next_offset == 0
        switch, faulty = failing("pwrite")
        switch()
        log._files = faulty
        with pytest.raises(LogUnavailable, match="cannot be read"):
            log.acquire()
        assert log.head.next_offset == 1
        assert tails(log) == [b"one"]
        log.acquire()
        log.release()
        assert tails(log) == [b"one", b"two"]
    assert segment_path(folder).read_bytes() == first


def test_a_marker_left_behind_without_a_record_is_set_right(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        commit(log, b"one")
        first = next(iter(log.records())).place
    poke(folder / "marker", 0, b"\1")
    with contextlib.closing(Log.open(folder, start=first)) as log:
        assert settled(log)


def test_a_marker_seen_by_a_live_handle_makes_it_look_with_care(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log, contextlib.closing(Log.open(folder)) as other:
        commit(other, b"one")
        poke(folder / "marker", 0, b"\1")
        log.acquire()
        assert settled(log)
        append(log, b"two")
        log.release()
        assert settled(log)
        assert tails(log) == [b"one", b"two"]


def test_a_marker_that_cannot_be_written_does_not_undo_the_record(folder: Path) -> None:
    switch, files = failing("pwrite", 2)
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        switch()
        log.acquire()
        append(log, b"two")
        with pytest.raises(LogUnavailable, match="must be settled"):
            append(log, b"three")
        log.refresh()
        append(log, b"three")
        log.release()
        assert tails(log) == [b"one", b"two", b"three"]


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(folder: Path) -> None:
    full = {"on": False}
    files = FaultyFiles(lambda name, _: full["on"] and name == "pwrite", errno.ENOSPC)
    with contextlib.closing(Log.create(folder, STREAM, files=files, segment_size=SMALL)) as log:
        commit(log, b"one")
        log.acquire()
        full["on"] = True
        with pytest.raises(LogUnavailable, match="No space left"):
            append(log, b"x" * SMALL)
        full["on"] = False
        log.refresh()
        append(log, b"x" * SMALL)
        full["on"] = True
        with pytest.raises(LogUnavailable, match="No space left"):
            log.place()
        log.release()
        full["on"] = False
        assert sorted(os.listdir(folder)) == ["00000000.seg", "lock", "marker"]
        commit(log, b"two")
        assert log.head.segment == 1
    assert read_back(folder) == [b"one", b"x" * SMALL, b"two"]


def test_a_disk_with_little_room_takes_what_fits(folder: Path) -> None:
    files = FaultyFiles(lambda name, _: False)
    real = files.pwrite
    limit = 16_384

    def pwrite(fd: int, data: bytes, position: int) -> int:
        room = max(0, limit - position)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:room], position)

    files.pwrite = pwrite
    with contextlib.closing(Log.create(folder, STREAM, files=files, segment_size=16_000)) as log:
        commit(log, b"x" * 12_000, b"y" * 3_500)
        assert segment_path(folder).stat().st_size == limit
        with pytest.raises(LogUnavailable, match="No space left"):
            commit(log, b"z" * 20_000)
        log.release()
    assert read_back(folder) == [b"x" * 12_000, b"y" * 3_500]


def test_a_cut_that_fails_ends_the_handle(folder: Path) -> None:
    switch, files = failing("ftruncate")
    switch()
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        poke(segment_path(folder), log.head.position, b"rubbish")
        log.acquire()
        assert log.torn is not None
        with pytest.raises(LogUnavailable, match="cannot be cut"):
            log.cut(log.torn)
        with pytest.raises(LogUnavailable):
            log.refresh()
        log.release()
    assert recovered(folder, floor=1) == [b"one"]


def test_a_lock_that_cannot_be_taken_says_so(folder: Path) -> None:
    switch, files = failing("flock", error=errno.ENOLCK)
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        switch()
        with pytest.raises(LogUnavailable, match="lock cannot be taken"):
            log.acquire()
        assert not log.held
        commit(log, b"one")


def test_a_place_that_cannot_be_looked_at_refuses_the_record(folder: Path) -> None:
    switch, files = failing("stat")
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        log.acquire()
        switch()
        with pytest.raises(LogUnavailable, match="cannot be looked at"):
            append(log, b"one")
        append(log, b"two")
        log.release()
        assert tails(log) == [b"two"]


def test_a_head_that_cannot_be_read_releases_the_lock(folder: Path) -> None:
    switch, files = failing("pread")
    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        switch()
        with pytest.raises(LogUnavailable, match="cannot be read"):
            log.acquire()
        assert not log.held
        commit(log, b"one")


def test_a_folder_that_may_not_be_written_is_not_opened_for_writing(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        commit(log, b"one")
    files = Files()

    def guarded(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return os.open(path, flags, mode)

    files.open = guarded
    with pytest.raises(LogUnavailable, match="Permission denied"):
        Log.open(folder, files=files)
    assert read_back(folder, files=files) == [b"one"]


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupting(name: str, nth: int, *, after: bool) -> tuple[Callable[..., None], FaultyFiles]:
    """Return (switch, files): a signal arrives right before or after the nth call of that name."""
    files = FaultyFiles(lambda *_: False)
    real = getattr(files, name)
    state = {"left": -1}

    def wrapper(*arguments: Any) -> Any:
        if state["left"] > 0:
            state["left"] -= 1
            if state["left"] == 0:
                if after:
                    real(*arguments)
                raise Interrupt
        return real(*arguments)

    setattr(files, name, wrapper)

    def switch(on: bool = True) -> None:
        state["left"] = nth if on else -1

    return switch, files


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("parts", [None, [b"part", b"another"]], ids=["small", "large"])
@pytest.mark.parametrize(
    ("name", "nth"),
    [
        *(("pwrite", n) for n in range(1, 9)),
        ("flock", 1), ("flock", 2), ("stat", 1), ("pread", 1), ("open", 1), ("fdatasync", 1), ("listdir", 1),
    ],
)  # fmt: skip
def test_an_interruption_anywhere_leaves_a_log_that_goes_on(
    folder: Path, name: str, nth: int, after: bool, parts: list[bytes] | None
) -> None:
    switch, files = interrupting(name, nth, after=after)
    with contextlib.closing(Log.create(folder, STREAM, files=files, segment_size=SMALL)) as log:
        commit(log, b"x" * 3000, b"y" * 600)
        switch()
        interrupted = False
        head = log.head
        try:
            try:
                log.acquire()
                append(log, b"tail", parts)
            except Interrupt:
                interrupted = True
            if log.held:
                log.refresh()
                if log.torn is not None:
                    log.cut(log.torn)
                assert log.head.next_offset in (2, 3)
                committed = log.head.next_offset == 3
            else:
                committed = False
                assert log.head is head
        finally:
            # A signal may arrive here as well; releasing again is allowed.
            with contextlib.suppress(Interrupt):
                log.release()
            log.release()
        switch(False)
        assert interrupted or committed
        assert len(tails(log)) == 2 + committed
        with contextlib.closing(Log.open(folder, segment_size=SMALL)) as other:
            assert other.torn is None
            assert other.head.next_offset == 2 + committed
            commit(other, b"theirs")
        commit(log, b"ours")
        assert tails(log)[2 + committed :] == [b"theirs", b"ours"]


def test_an_interrupted_large_append_that_cannot_be_taken_away_ends_the_handle(folder: Path) -> None:
    switch, files = interrupting("fdatasync", 1, after=False)

    def broken(fd: int, length: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with contextlib.closing(Log.create(folder, STREAM, files=files)) as log:
        commit(log, b"one")
        switch()
        files.ftruncate = broken
        log.acquire()
        with pytest.raises(Interrupt):
            append(log, b"two", [b"part"])
        with pytest.raises(LogUnavailable):
            log.refresh()
        log.release()
    assert recovered(folder, floor=1) == [b"one"]


def test_a_spill_that_fails_while_it_is_copied_refuses_the_record(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log, contextlib.closing(Spill(folder)) as spill:
        from tests.support.logs import header

        commit(log, b"one")
        spill.add(b"n" * 12, b"part" * 100)
        data = header(log, b"tail", spill)
        os.ftruncate(spill._fd, 10)
        log.acquire()
        with pytest.raises(LogUnavailable, match="rolled back"):
            log.append(data, b"tail", spill, 1, log.head.timestamp + 1)
        log.release()
    assert recovered(folder, floor=1) == [b"one"]


def test_opening_a_damaged_log_closes_what_it_opened(folder: Path) -> None:
    Log.create(folder, STREAM).close()
    poke(segment_path(folder), 0, b"x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(LogDamaged):
            Log.open(folder)
    assert len(os.listdir("/proc/self/fd")) == before
