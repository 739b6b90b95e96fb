"""Appending and reading: what every log promises, and what the one on disk adds."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.logs import (
    SMALL,
    STREAM,
    append,
    commit,
    header,
    read_back,
    segment_path,
    tails,
)
from veritydb.errors import LogMismatch, LogMissing, LogUnavailable, TransactionTooLarge
from veritydb.log import Kind, Log, MemoryLog, Place, Spill
from veritydb.log import store as store_module

if TYPE_CHECKING:
    from veritydb.log import Replicator


@pytest.fixture(params=["disk", "memory"])
def log(request: pytest.FixtureRequest) -> Log | MemoryLog:
    return request.getfixturevalue("disk") if request.param == "disk" else MemoryLog(STREAM)


class TestEveryLog:
    """The contract of a Replicator."""

    def test_a_new_log_is_empty(self, log: Log | MemoryLog) -> None:
        assert log.stream == STREAM
        assert log.head[:4] == (0, bytes(32), 0, 0)
        assert log.torn is None
        assert tails(log) == []

    def test_what_is_appended_is_read_in_order(self, log: Log | MemoryLog) -> None:
        wanted = [bytes([n]) * n for n in range(60)]
        commit(log, *wanted)
        assert tails(log) == wanted
        assert log.head.next_offset == 60
        assert [record.header.first_offset for record in log.records()] == list(range(60))

    def test_each_record_builds_on_the_one_before(self, log: Log | MemoryLog) -> None:
        commit(log, *[b"x" * 100] * 30)
        last = bytes(32)
        for record in log.records():
            assert record.header.prev_hash == last
            last = record.hash
        assert log.head.hash == last

    def test_a_record_begins_where_place_said(self, log: Log | MemoryLog) -> None:
        places = []
        for n in range(40):
            log.acquire()
            places.append(log.place())
            append(log, b"y" * 300)
            log.release()
            assert log.head.next_offset == n + 1
        assert [record.place for record in log.records()] == places

    def test_parts_are_streamed_back(self, log: Log | MemoryLog) -> None:
        parts = [b"one" * 1000, b"", b"three"]
        commit(log, b"tail", parts=parts)
        commit(log, b"after")
        large, after = log.records()
        assert [sealed for _, sealed in large.parts()] == parts
        assert [nonce for nonce, _ in large.parts()] == [part[:12].ljust(12, b"n") for part in parts]
        assert large.tail == b"tail"
        assert large.header.part_count == 3
        assert list(after.parts()) == []

    def test_reading_begins_at_the_record_that_holds_an_offset(self, log: Log | MemoryLog) -> None:
        commit(log, *[b"%d" % n * 40 for n in range(20)], transactions=3)
        for start in range(62):
            assert [record.header.first_offset for record in log.records(start)] == [
                first for first in range(0, 60, 3) if first + 3 > start
            ]

    def test_reading_may_begin_at_a_known_place(self, log: Log | MemoryLog) -> None:
        commit(log, *[b"z" * 200 for _ in range(40)])
        for record in log.records():
            offset = record.header.first_offset
            found = [r.header.first_offset for r in log.records(offset, place=record.place)]
            assert found == list(range(offset, 40))
            later = [r.header.first_offset for r in log.records(offset + 2, place=record.place)]
            assert later == list(range(offset + 2, 40))

    def test_a_record_without_transactions_takes_no_offset(self, log: Log | MemoryLog) -> None:
        commit(log, b"genesis", transactions=0, kind=Kind.GENERATION)
        commit(log, b"a")
        commit(log, b"cut", transactions=0, kind=Kind.GENERATION, generation=1)
        commit(log, b"b")
        assert tails(log) == [b"genesis", b"a", b"cut", b"b"]
        assert tails(log, 1) == [b"cut", b"b"]
        assert (log.head.next_offset, log.head.generation) == (2, 1)

    @pytest.mark.parametrize(
        "changed",
        [
            {"first_offset": 2},
            {"prev_hash": b"x" * 32},
            {"stream": b"x" * 16},
            {"timestamp": 0},
            {"tail_length": 3},
            {"transaction_count": 2},
            {"part_count": 1, "parts_length": 16},
            {"part_count": 1},
            {"parts_length": 16},
        ],
        ids=str,
    )
    def test_a_header_that_does_not_build_on_the_head_is_refused(
        self, log: Log | MemoryLog, changed: dict[str, object]
    ) -> None:
        commit(log, b"first")
        before = log.head
        log.acquire()
        with pytest.raises(Exception) as caught:
            log.append(header(log, b"tail", **changed), b"tail", None, 1, log.head.timestamp + 1)
        assert type(caught.value).__name__ in ("LogMismatch", "Malformed")
        assert log.head is before
        append(log, b"second")
        log.release()
        assert tails(log) == [b"first", b"second"]

    def test_a_generation_never_falls(self, log: Log | MemoryLog) -> None:
        commit(log, b"x", generation=3)
        log.acquire()
        with pytest.raises(LogMismatch):
            append(log, generation=2)
        log.release()

    def test_parts_other_than_those_the_header_names_are_refused(self, log: Log | MemoryLog) -> None:
        with contextlib.closing(Spill(None)) as spill:
            spill.add(b"n" * 12, b"part")
            data = header(log, b"tail", spill)
            spill.add(b"n" * 12, b"more")
            log.acquire()
            with pytest.raises(LogMismatch):
                log.append(data, b"tail", spill, 1, log.head.timestamp + 1)
            log.release()

    def test_an_empty_spill_makes_a_record_without_parts(self, log: Log | MemoryLog) -> None:
        commit(log, b"tail", parts=[])
        assert tails(log) == [b"tail"]

    def test_nothing_is_appended_without_the_lock(self, log: Log | MemoryLog) -> None:
        with pytest.raises(LogUnavailable, match="lock is not held"):
            append(log)
        assert tails(log) == []

    def test_the_lock_may_be_taken_and_released_twice(self, log: Log | MemoryLog) -> None:
        log.acquire()
        log.acquire()
        assert log.held
        log.release()
        log.release()
        assert not log.held
        commit(log, b"x")

    def test_there_is_nothing_to_cut(self, log: Log | MemoryLog) -> None:
        from veritydb.log import Torn

        log.acquire()
        with pytest.raises(LogMismatch):
            log.cut(Torn(0, 128, 8, "why"))
        log.release()

    def test_refresh_changes_nothing_when_nothing_happened(self, log: Log | MemoryLog) -> None:
        commit(log, b"x")
        head = log.head
        log.acquire()
        log.refresh()
        assert log.head is head
        log.release()

    def test_both_are_replicators(self, log: Log | MemoryLog) -> None:
        replicator: Replicator = log
        assert isinstance(replicator.folder, Path)


def test_a_memory_log_survives_the_closing_of_one_of_its_connections() -> None:
    log = MemoryLog(STREAM)
    commit(log, b"x")
    log.close()
    assert tails(log) == [b"x"]


def test_a_log_comes_back_as_it_was_closed(disk: Log, folder: Path) -> None:
    commit(disk, *[b"x" * 500 for _ in range(30)])
    disk.close()
    with contextlib.closing(Log.open(folder)) as again:
        assert again.head == disk.head
        assert again.stream == STREAM
        assert len(tails(again)) == 30


def test_a_log_rolls_when_a_segment_is_full_and_not_before(disk: Log, folder: Path) -> None:
    commit(disk, *[b"x" * 500 for _ in range(30)])
    ends: dict[int, int] = {}
    for record in disk.records():
        assert record.place.position < SMALL
        ends[record.place.segment] = record.end
    last = max(ends)
    assert last >= 4
    assert all(end >= SMALL for number, end in ends.items() if number < last)
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{n:08d}.seg" for n in range(last + 1)),
        "lock",
        "marker",
    ]


def test_a_segment_smaller_than_a_record_holds_one(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM, segment_size=1)) as log:
        commit(log, b"a", b"b" * 9000, b"c")
        assert [record.place for record in log.records()] == [(0, 128), (1, 128), (2, 128)]
    assert read_back(folder) == [b"a", b"b" * 9000, b"c"]


def test_a_log_opens_at_a_place_without_reading_from_the_start(disk: Log, folder: Path) -> None:
    commit(disk, *[b"x" * 500 for _ in range(30)])
    for record in list(disk.records()):
        with contextlib.closing(Log.open(folder, start=record.place)) as log:
            assert log.head == disk.head


@pytest.mark.parametrize("place", [Place(0, 0), Place(0, 130), Place(0, 136), Place(0, 1 << 20), Place(9, 128)])
def test_a_place_where_no_record_begins_is_passed_over(disk: Log, folder: Path, place: Place) -> None:
    commit(disk, *[b"x" * 500 for _ in range(5)])
    with contextlib.closing(Log.open(folder, start=place)) as log:
        assert log.head == disk.head
        assert len(list(log.records(0, place=place))) == 5


def test_a_place_behind_the_offset_asked_for_is_passed_over(disk: Log) -> None:
    commit(disk, *[b"x" * 500 for _ in range(30)])
    last = list(disk.records())[-1]
    assert [record.header.first_offset for record in disk.records(28, place=last.place)] == [28, 29]


def test_a_segment_without_records_still_knows_the_last_time(disk: Log, folder: Path) -> None:
    while disk.head.position < SMALL:
        commit(disk, b"x" * 500)
    commit_time = disk.head.timestamp
    disk.acquire()
    assert disk.place() == (1, 128)
    disk.release()
    with contextlib.closing(Log.open(folder)) as log:
        assert log.head == disk.head
        assert log.head.timestamp == commit_time


def test_a_log_whose_oldest_segments_were_archived_opens_and_says_what_is_missing(disk: Log, folder: Path) -> None:
    while disk.head.position < SMALL:
        commit(disk, b"x" * 500)
    disk.acquire()
    disk.place()
    disk.release()
    segment_path(folder, 0).unlink()
    with contextlib.closing(Log.open(folder)) as log:
        assert log.head.next_offset == disk.head.next_offset
        for place in (None, Place(0, 128)):
            with pytest.raises(LogMissing, match=r"00000000\.seg is missing"):
                list(log.records(0, place=place))


def test_a_missing_segment_in_the_middle_is_named(disk: Log, folder: Path) -> None:
    commit(disk, *[b"x" * 500 for _ in range(30)])
    segment_path(folder, 2).unlink()
    with pytest.raises(LogMissing, match=r"00000002\.seg, which begins at offset"):
        list(disk.records(0))


def test_there_is_no_log_where_there_is_no_folder(tmp_path: Path) -> None:
    for read_only in (False, True):
        with pytest.raises(LogMissing, match="no log"):
            Log.open(tmp_path / "none", read_only=read_only)
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(LogMissing, match="no segment"):
            Log.open(tmp_path / "empty", read_only=read_only)


def test_a_log_is_created_once(disk: Log, folder: Path) -> None:
    with pytest.raises(LogMismatch, match="already; nothing was changed"):
        Log.create(folder, STREAM)


def test_a_log_cannot_be_created_where_nothing_can(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable, match="cannot be begun"):
        Log.create(tmp_path / "none" / "a-log", STREAM)


def test_permissions_are_those_it_was_created_with(folder: Path) -> None:
    before = os.umask(0)
    try:
        with contextlib.closing(Log.create(folder, STREAM, segment_size=SMALL, mode=0o640)) as log:
            commit(log, *[b"x" * 500 for _ in range(20)])
            list(log.records(8))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}
    assert any(path.suffix == ".idx" for path in folder.iterdir())


def test_space_ahead_is_zeros_already_written(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        assert segment_path(folder).stat().st_size == store_module.SPACE_FIRST
        commit(log, b"x" * 200_000)
        assert segment_path(folder).stat().st_size == store_module.SPACE_FIRST
        commit(log, b"x" * 200_000)
        assert segment_path(folder).stat().st_size == store_module.SPACE_FIRST + store_module.SPACE_STEP
        end = log.head.position
    assert not segment_path(folder).read_bytes()[end:].strip(b"\0")


def test_a_record_larger_than_the_space_ahead_is_appended(folder: Path) -> None:
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        commit(log, os.urandom(3_000_000), b"small")
        head = log.head
    with contextlib.closing(Log.open(folder)) as again:
        assert again.head == head
        assert [len(tail) for tail in tails(again)] == [3_000_000, 5]


def test_a_large_record_of_several_windows_is_read_back(folder: Path) -> None:
    parts = [os.urandom(700_000) for _ in range(4)]
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        commit(log, b"t" * 3, parts=parts)
        commit(log, b"after")
        head = log.head
    with contextlib.closing(Log.open(folder)) as again:
        assert again.head == head
        assert tails(again) == [b"".join(parts) + b"ttt", b"after"]


def test_a_transaction_beyond_the_format_is_refused_before_anything_is_written(
    disk: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PART_MAX", 10)
    disk.acquire()
    with pytest.raises(TransactionTooLarge):
        append(disk, b"eleven bytes")
    append(disk, b"ten bytes")
    disk.release()
    assert tails(disk) == [b"ten bytes"]
