"""A follower without a lock: it is handed exactly what is durable, whatever it sees in the page cache."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.logs import SMALL, STREAM, append, commit, poke, segment_path, unsynced
from veritydb.errors import LogDamaged, LogMissing, LogUnavailable
from veritydb.log import Files, Log, Place
from veritydb.log.lock import MARKER_FILE
from veritydb.log.record import FRAME_SIZE, PREFIX_SIZE
from veritydb.log.tailing import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Watched(Files):
    """System calls of a writer, with somebody who looks while a record is written and not yet acknowledged."""

    def __init__(self) -> None:
        self.while_written: Callable[[], None] | None = None
        self.fail = False
        inner = Files.pwrite

        def pwrite(fd: int, data: Any, position: int) -> int:
            written = inner(fd, data, position)
            if len(data) > FRAME_SIZE and self.while_written is not None:
                look, self.while_written = self.while_written, None
                look()
                if self.fail:
                    raise OSError(errno.EIO, "the disk says no")
            return written

        self.pwrite = pwrite


@pytest.fixture
def files() -> Watched:
    return Watched()


@pytest.fixture
def log(tmp_path: Path, files: Watched) -> Iterator[Log]:
    with contextlib.closing(Log.create(tmp_path / "log", STREAM, files=files, segment_size=SMALL)) as made:
        yield made


@pytest.fixture
def tail(log: Log) -> Iterator[Tail]:
    with contextlib.closing(Tail(log.folder)) as made:
        yield made


def told(tail: Tail, limit: int = 100) -> list[bytes]:
    return [record.tail for record in tail.advance(limit)]


def test_records_come_in_order_each_once_over_all_segments(log: Log, tail: Tail) -> None:
    written = [b"%02d" % number * 300 for number in range(30)]
    seen: list[bytes] = []
    for number, content in enumerate(written):
        commit(log, content)
        if number % 4 == 0:
            seen += told(tail)
    while more := told(tail, 3):
        seen += more
    assert seen == written
    assert tail.head == log.head
    assert log.head.segment > 2


def test_a_record_that_is_visible_and_not_yet_durable_is_not_told(log: Log, tail: Tail, files: Watched) -> None:
    commit(log, b"one")
    looked: list[list[bytes]] = []

    def look() -> None:
        looked.append(told(tail))
        assert tail.unsettled

    files.while_written = look
    commit(log, b"two")
    assert looked == [[b"one"]], "the one before is durable, or this one would not have been begun"
    assert told(tail) == [b"two"]
    assert not tail.unsettled


def test_a_record_whose_write_failed_is_never_told(log: Log, tail: Tail, files: Watched) -> None:
    commit(log, b"one")
    looked: list[list[bytes]] = []
    files.while_written, files.fail = (lambda: looked.append(told(tail))), True
    with pytest.raises(LogUnavailable):
        commit(log, b"refused")
    assert looked == [[b"one"]]
    assert told(tail) == []
    with contextlib.closing(Log.open(log.folder, segment_size=SMALL)) as again:
        commit(again, b"two")
    assert told(tail) == [b"two"]


def test_a_record_that_is_taken_away_between_the_two_looks_is_not_told(log: Log, files: Watched) -> None:
    """The follower reads the record, the writer takes it away and settles the marker, the follower reads that."""
    looks: list[Callable[[], object]] = []

    class Late(Files):
        def __init__(self) -> None:
            def pread(fd: int, length: int, position: int) -> bytes:
                if looks and os.readlink(f"/proc/self/fd/{fd}").endswith(MARKER_FILE):
                    looks.pop()()
                return os.pread(fd, length, position)

            self.pread = pread

    commit(log, b"one")
    with contextlib.closing(Tail(log.folder, files=Late())) as tail:
        assert told(tail) == [b"one"]
        # The writer stops inside its write; the follower looks; and when it comes to the marker, the writer goes on.
        state: dict[str, Any] = {}

        def look() -> None:
            def fail() -> None:
                files.while_written = None
                position = log.head.position
                with contextlib.closing(Log.open(log.folder, read_only=True, segment_size=SMALL)) as reader:
                    state["whole"] = reader.head.next_offset
                os.truncate(segment_path(log.folder, 0), position)
                settle(log)

            looks.append(fail)
            state["told"] = told(tail)

        files.while_written, files.fail = look, True
        with pytest.raises(LogUnavailable):
            commit(log, b"refused")
        assert state == {"whole": 2, "told": []}


def settle(log: Log) -> None:
    """Let the marker say what it says after a record was taken away."""
    marker = log.folder / MARKER_FILE
    before = marker.read_bytes()
    with contextlib.closing(Log.open(log.folder, segment_size=SMALL, files=unsynced(), patience=0)):
        pass
    if marker.read_bytes() == before:
        poke(marker, 0, bytes(len(before)))


def test_a_large_record_is_told_when_its_prefix_makes_it_one(log: Log, tail: Tail) -> None:
    log.acquire(1)
    append(log, b"tail", [b"part one", b"part two" * 1000])
    log.release()
    assert told(tail) == [b"tail"]


def test_what_a_dead_writer_left_is_told_once_it_is_settled(log: Log, tail: Tail, tmp_path: Path) -> None:
    commit(log, b"one")
    pid = os.fork()
    if not pid:
        files = Watched()
        files.while_written = lambda: os._exit(0)
        child = Log.open(log.folder, files=files, segment_size=SMALL)
        commit(child, b"left behind")
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert told(tail) == [b"one"]
    assert tail.unsettled
    with contextlib.closing(Log.open(log.folder, segment_size=SMALL)):
        pass
    assert told(tail) == [b"left behind"]


def test_bytes_at_the_end_that_are_no_record_are_no_reason_to_complain(log: Log, tail: Tail) -> None:
    commit(log, b"one")
    poke(segment_path(log.folder, 0), log.head.position, b"VRec" + b"garbage" * 9)
    assert told(tail) == [b"one"]
    assert told(tail) == []


def test_a_whole_record_that_does_not_belong_is_damage(log: Log, tail: Tail) -> None:
    commit(log, b"one", b"two")
    path = segment_path(log.folder, 0)
    data = path.read_bytes()
    told(tail)
    first = data[128 : 128 + FRAME_SIZE + 8]
    poke(path, log.head.position, first)
    with pytest.raises(LogDamaged):
        tail.advance(10)


def test_it_begins_behind_a_record_that_is_known_or_in_the_newest_segment(log: Log) -> None:
    places: list[Place] = []
    for number in range(20):
        log.acquire(1)
        places.append(log.place())
        append(log, b"%02d" % number * 300)
        log.release()
    with contextlib.closing(Tail(log.folder, start=places[7])) as tail:
        assert tail.head.next_offset == 8
        assert told(tail, 1) == [b"08" * 300]
    with contextlib.closing(Tail(log.folder, start=Place(99, 128))) as tail:
        assert tail.head.segment == log.head.segment
        assert told(tail)[-1] == b"19" * 300
    with pytest.raises(LogMissing):
        Tail(log.folder.with_name("nowhere"))


def test_it_tells_from_where_the_log_is_still_there_and_that_it_was_replaced(
    log: Log, tail: Tail, tmp_path: Path
) -> None:
    for number in range(30):
        commit(log, b"%02d" % number * 300)
    while tail.advance(100):
        pass
    assert tail.first_offset() == 0
    segment_path(log.folder, 1).unlink()
    with contextlib.closing(Log.open(log.folder, read_only=True)):
        pass
    assert tail.first_offset() > 0
    assert next(iter(tail.records(tail.first_offset()))).header.first_offset == tail.first_offset()
    assert not tail.replaced()
    log.folder.rename(tmp_path / "aside")
    assert tail.replaced()


# What cannot be read, or is not there


def filled(log: Log) -> None:
    """Fill four segments or so."""
    commit(log, *(b"%02d" % number * 300 for number in range(30)))


class Unreadable(Files):
    """System calls that fail from a moment on."""

    def __init__(self) -> None:
        self.broken = False

        def open_(path: Any, flags: int, mode: int = 0o777) -> int:
            self._look()
            return os.open(path, flags, mode)

        def pread(fd: int, length: int, position: int) -> bytes:
            self._look()
            return os.pread(fd, length, position)

        self.open, self.pread = open_, pread  # type: ignore[method-assign]

    def _look(self) -> None:
        if self.broken:
            raise OSError(errno.EIO, "the disk says no")


def test_a_disk_that_cannot_be_read_is_no_damage(log: Log) -> None:
    filled(log)
    files = Unreadable()
    with contextlib.closing(Tail(log.folder, start=Place(0, 128), files=files)) as tail:
        before = tail.head
        files.broken = True
        for look in (lambda: tail.advance(10), tail.first_offset):
            with pytest.raises(LogUnavailable, match="the disk says no"):
                look()
        with pytest.raises(LogUnavailable, match="the disk says no"):
            Tail(log.folder, files=files)
        files.broken = False
        assert tail.head == before
        assert told(tail, 1) == [b"01" * 300]
        assert tail.segment_path == str(segment_path(log.folder, 0))


def test_a_folder_that_is_moved_away_is_said_to_be_gone(log: Log, tail: Tail, tmp_path: Path) -> None:
    filled(log)
    log.folder.rename(tmp_path / "aside")
    assert told(tail)[0] == b"00" * 300, "what is open can be read on"
    assert told(tail) == [], "and what comes next is another log's"
    with pytest.raises(LogUnavailable):
        tail.first_offset()
    log.folder.mkdir()
    with pytest.raises(LogMissing, match="no segment"):
        Tail(log.folder)


def test_a_segment_that_is_missing_is_named(log: Log, tail: Tail) -> None:
    filled(log)
    segment_path(log.folder, 1).unlink()
    with pytest.raises(LogMissing, match=r"00000001.seg, which begins at offset \d+, is missing"):
        tail.advance(10)


def test_a_segment_whose_header_is_damaged_is_damage(log: Log, tail: Tail) -> None:
    filled(log)
    newest = log.head.segment
    for number in (0, 1, newest):
        poke(segment_path(log.folder, number), 0, b"not a segment")
    with pytest.raises(LogDamaged):
        Tail(log.folder)
    with pytest.raises(LogDamaged):
        tail.first_offset()
    with pytest.raises(LogDamaged, match=r"00000001.seg"):
        tail.advance(10)


def test_a_segment_of_another_log_is_not_entered(log: Log, tail: Tail, tmp_path: Path) -> None:
    filled(log)
    log.folder.rename(tmp_path / "aside")
    with contextlib.closing(Log.create(log.folder, bytes(16), segment_size=SMALL)) as other:
        filled(other)
    assert told(tail)[0] == b"00" * 300
    assert told(tail) == []


def test_a_mark_at_the_end_of_a_segment_that_leads_elsewhere_is_not_followed(log: Log, tail: Tail) -> None:
    """It may be half written."""
    filled(log)
    first = [record for record in log.records() if record.place.segment == 0]
    end = first[-1].end
    mark = segment_path(log.folder, 0).read_bytes()[end : end + PREFIX_SIZE]
    poke(segment_path(log.folder, 0), end, mark[:-8] + bytes(8))
    assert told(tail) == [record.tail for record in first]
    assert told(tail) == []
    poke(segment_path(log.folder, 0), end, mark)
    assert told(tail, 1) == [b"%02d" % len(first) * 300]


def test_it_begins_before_a_newest_segment_that_has_no_record_yet(log: Log) -> None:
    """Its writer has died between the two. And where it is said to begin, there may be nothing any more."""
    filled(log)
    os.truncate(segment_path(log.folder, log.head.segment), 128)
    with contextlib.closing(Tail(log.folder)) as tail:
        assert tail.head.segment == log.head.segment - 1
    with contextlib.closing(Tail(log.folder, start=Place(log.head.segment, 128))) as tail:
        assert tail.head.segment == log.head.segment - 1


def test_what_stands_before_a_record_that_does_not_belong_is_looked_at_again(log: Log, tail: Tail) -> None:
    commit(log, b"one", b"two")
    path = segment_path(log.folder, 0)
    poke(path, log.head.position, path.read_bytes()[128 : 128 + FRAME_SIZE + 8])
    assert told(tail) == [b"one"], "two may have been taken away, and be another one now"


def test_records_are_read_from_a_place_that_is_known(log: Log, tail: Tail) -> None:
    commit(log, b"one", b"two")
    told(tail)
    place = next(iter(tail.records(1))).place
    assert [record.tail for record in tail.records(1, place=place)] == [b"two"]
