"""Appending and reading: what every log promises, and what the one on disk adds."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs import (
    SMALL,
    STREAM,
    append,
    commit,
    copied,
    header,
    poke,
    read_back,
    segment_path,
    tails,
)
from veritydb.errors import LogDamaged, LogMismatch, LogMissing, LogUnavailable, TransactionTooLarge
from veritydb.log import Kind, Log, LogBusy, MemoryLog, Place, Spill
from veritydb.log import store as store_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veritydb.log import Replicator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a.db-log"


@pytest.fixture
def disk(folder: Path) -> Iterator[Log]:
    log = Log.create(folder, STREAM, segment_size=SMALL)
    yield log
    log.close()


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


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["commit", "commit", "commit", "reopen", "look"]),
            st.integers(0, 2),
            st.integers(0, 1500),
            st.booleans(),
        ),
        max_size=25,
    ),
    st.sampled_from([1, 700, SMALL]),
)
def test_handles_that_take_turns_agree(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, bool]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("turns") / "a-log"
    handles = [Log.create(folder, STREAM, segment_size=size)]
    handles += [Log.open(folder, segment_size=size) for _ in range(2)]
    wanted: list[bytes] = []
    try:
        for step, who, length, large in steps:
            log = handles[who]
            if step == "commit":
                tail = bytes([len(wanted) + 1]) * length
                log.acquire(10)
                assert log.head.next_offset == len(wanted)
                assert log.torn is None
                place = log.place()
                append(log, tail, [b"part", tail] if large else None)
                assert next(iter(log.records(len(wanted)))).place == place
                log.release()
                wanted.append(b"part" + tail + tail if large else tail)
            elif step == "reopen":
                log.close()
                start = [record.place for record in handles[(who + 1) % 3].records()]
                handles[who] = Log.open(folder, start=start[-1] if start and large else None, segment_size=size)
                assert handles[who].head.next_offset == len(wanted)
            else:
                log.acquire(10)
                log.release()
                assert tails(log) == wanted
        assert read_back(folder) == wanted
    finally:
        for log in handles:
            log.close()


class TestOpeningWhileSomebodyAppends:
    """The lock is held by another handle."""

    def test_a_writer_gets_a_lower_bound_and_the_true_end_when_it_acquires(self, disk: Log, folder: Path) -> None:
        commit(disk, b"a", b"b")
        first = next(iter(disk.records())).place
        disk.acquire()
        with contextlib.closing(Log.open(folder)) as other:
            assert other.head.next_offset == 0
            with contextlib.closing(Log.open(folder, start=first)) as third:
                assert third.head.next_offset == 1
            with pytest.raises(LogBusy, match="database is locked"):
                other.acquire(0)
            started = time.monotonic()
            with pytest.raises(LogBusy):
                other.acquire(0.05)
            assert 0.05 <= time.monotonic() - started < 5
            assert not other.held
            append(disk, b"c")
            disk.release()
            other.acquire(0)
            assert other.head == disk.head
            other.release()

    def test_a_reader_waits_and_then_reads_up_to_the_last_whole_record(self, disk: Log, folder: Path) -> None:
        commit(disk, *[b"x" * 900 for _ in range(12)])
        disk.acquire()
        for half in (b"", b"half a record"):
            poke(segment_path(folder, disk.head.segment), disk.head.position, half)
            with contextlib.closing(Log.open(folder, read_only=True, patience=0.01)) as reader:
                assert reader.head == disk.head
                assert reader.torn is None
                assert len(tails(reader)) == 12
        disk.release()
        with contextlib.closing(Log.open(folder, read_only=True)) as reader:
            assert reader.torn is not None

    @pytest.mark.parametrize("timeout", [None, 10.0])
    def test_the_lock_is_taken_as_soon_as_it_is_free(self, disk: Log, folder: Path, timeout: float | None) -> None:
        disk.acquire()
        with contextlib.closing(Log.open(folder)) as other:
            timer = threading.Timer(0.05, disk.release)
            timer.start()
            other.acquire(timeout)
            assert other.held
            other.release()
            timer.join()


class TestReadOnly:
    """A folder that is only read."""

    def test_nothing_can_be_written(self, disk: Log, folder: Path) -> None:
        commit(disk, b"x")
        with contextlib.closing(Log.open(folder, read_only=True)) as reader:
            reader.acquire()
            with pytest.raises(LogUnavailable, match="for reading only"):
                append(reader)
            with pytest.raises(LogUnavailable, match="for reading only"):
                reader.place()
            reader.release()

    def test_it_follows_what_others_append(self, disk: Log, folder: Path) -> None:
        with contextlib.closing(Log.open(folder, read_only=True)) as reader:
            commit(disk, *[b"x" * 900 for _ in range(12)])
            assert tails(reader) == []
            reader.acquire(1)
            reader.release()
            assert reader.head == disk.head
            assert len(tails(reader)) == 12

    def test_two_readers_do_not_wait_for_each_other(self, disk: Log, folder: Path) -> None:
        with (
            contextlib.closing(Log.open(folder, read_only=True)) as one,
            contextlib.closing(Log.open(folder, read_only=True)) as two,
        ):
            one.acquire()
            two.acquire(0)
            two.release()
            one.release()

    def test_a_copy_without_a_lock_file_can_be_read(self, disk: Log, folder: Path, tmp_path: Path) -> None:
        commit(disk, *[b"x" * 900 for _ in range(12)])
        copy = copied(folder, tmp_path / "copy")
        (copy / "lock").unlink()
        assert len(read_back(copy)) == 12
        assert not (copy / "lock").exists()

    def test_nothing_is_written_into_its_folder(self, disk: Log, folder: Path, tmp_path: Path) -> None:
        commit(disk, *[b"x" * 900 for _ in range(12)])
        copy = copied(folder, tmp_path / "copy")
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        with contextlib.closing(Log.open(copy, read_only=True)) as reader:
            assert len(list(reader.records(7))) == 5
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


class TestReplaced:
    """The path no longer leads to what was opened."""

    def test_a_folder_moved_away_is_noticed_before_the_next_append(self, disk: Log, folder: Path) -> None:
        commit(disk, b"one")
        disk.acquire()
        folder.rename(folder.with_name("elsewhere"))
        before = segment_path(folder.with_name("elsewhere")).read_bytes()
        with pytest.raises(LogMismatch, match="moved or replaced"):
            append(disk, b"two")
        assert segment_path(folder.with_name("elsewhere")).read_bytes() == before
        folder.with_name("elsewhere").rename(folder)
        append(disk, b"two")  # Nothing had been begun.
        disk.release()
        assert tails(disk) == [b"one", b"two"]

    def test_a_folder_replaced_by_another_is_noticed(self, disk: Log, folder: Path) -> None:
        folder.rename(folder.with_name("elsewhere"))
        Log.create(folder, STREAM).close()
        disk.acquire()
        with pytest.raises(LogMismatch, match="moved or replaced"):
            append(disk, b"one")
        with pytest.raises(LogMismatch, match="moved or replaced"):
            append(disk, b"one", [b"part"])
        disk.release()
        assert tails(disk) == read_back(folder) == []

    def test_a_segment_is_not_begun_in_the_folder_that_took_the_place(self, disk: Log, folder: Path) -> None:
        commit(disk, b"x" * SMALL)
        disk.acquire()
        folder.rename(folder.with_name("elsewhere"))
        Log.create(folder, STREAM).close()
        with pytest.raises(LogMismatch, match="moved or replaced"):
            disk.place()
        disk.release()
        assert sorted(os.listdir(folder)) == ["00000000.seg", "lock", "marker"]

    def test_a_log_that_has_grown_elsewhere_is_not_read_on(self, disk: Log, folder: Path) -> None:
        with contextlib.closing(Log.open(folder)) as other:
            commit(other, b"one")
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(LogMismatch, match="moved or replaced"):
            disk.acquire()
        assert not disk.held


class TestOverwritten:
    """A segment is given other content while it is open: the inode, and so the lock and the descriptor, stay."""

    def test_by_an_older_copy_the_next_look_finds_it(self, disk: Log, folder: Path) -> None:
        commit(disk, b"one")
        older = segment_path(folder).read_bytes()
        commit(disk, b"two")
        segment_path(folder).write_bytes(older)
        for _ in range(2):
            with pytest.raises(LogDamaged, match="overwritten"):
                disk.acquire()
            assert not disk.held

    def test_by_one_byte_of_the_last_record_the_next_look_finds_it(self, disk: Log, folder: Path) -> None:
        commit(disk, b"one")
        poke(segment_path(folder), disk.head.position - 8, b"!")
        with pytest.raises(LogDamaged, match="overwritten"):
            disk.acquire()

    def test_a_handle_that_others_have_left_behind_finds_it_too(self, disk: Log, folder: Path) -> None:
        commit(disk, b"one")
        with contextlib.closing(Log.open(folder)) as other:
            commit(other, b"two")
        segment_path(folder).write_bytes(segment_path(folder).read_bytes().replace(b"one", b"ONE"))
        with pytest.raises(LogDamaged, match="overwritten"):
            disk.acquire()

    def test_what_is_put_back_is_gone_on_with(self, disk: Log, folder: Path) -> None:
        commit(disk, b"one", b"two")
        data = segment_path(folder).read_bytes()
        segment_path(folder).write_bytes(bytes(len(data)))
        with pytest.raises(LogDamaged):
            disk.acquire()
        segment_path(folder).write_bytes(data)
        commit(disk, b"three")
        assert tails(disk) == [b"one", b"two", b"three"]

    def test_a_record_of_another_stream_is_damage(self, tmp_path: Path) -> None:
        for name, stream in (("a", STREAM), ("b", b"b" * 16)):
            with contextlib.closing(Log.create(tmp_path / name, stream)) as log:
                commit(log, b"x")
        data = segment_path(tmp_path / "b").read_bytes()[128:600]
        poke(segment_path(tmp_path / "a"), 128, data)
        with pytest.raises(LogDamaged, match="another stream"):
            Log.open(tmp_path / "a")


def test_a_closed_log_refuses_everything(disk: Log) -> None:
    disk.close()
    disk.close()
    with pytest.raises(LogUnavailable, match="closed"):
        disk.acquire()
    with pytest.raises(LogUnavailable):
        append(disk)
    with pytest.raises(LogUnavailable):
        disk.refresh()


def test_a_child_does_not_share_its_parents_lock(disk: Log, folder: Path) -> None:
    disk.acquire()
    child = os.fork()
    if not child:
        code = 1
        try:
            disk.acquire(0)
        except LogUnavailable:
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    append(disk, b"x")
    disk.release()
    assert read_back(folder) == [b"x"]


_APPENDER = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.support.logs import append, SMALL
from veritydb.log import Log
log = Log.open(sys.argv[1], segment_size=SMALL)
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    log.acquire(60)
    append(log, b"x" * 300, [b"part" * 50] if log.head.next_offset % 7 == 0 else None)
    offset = log.head.next_offset - 1
    log.release()
    print(offset, flush=True)
"""


def test_two_processes_share_a_log(disk: Log, folder: Path) -> None:
    root = Path(__file__).parents[1]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _APPENDER, str(folder), str(root), "40"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    offsets: list[int] = []
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        offsets += map(int, out.split()[1:])
    assert sorted(offsets) == list(range(80))
    commit(disk, b"last")
    assert len(tails(disk)) == 81


def test_what_a_killed_process_reported_is_there(disk: Log, folder: Path) -> None:
    root = Path(__file__).parents[1]
    for wait in (0.0, 0.002, 0.005, 0.011):
        child = subprocess.Popen(
            [sys.executable, "-c", _APPENDER, str(folder), str(root), "1000000"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        said = child.communicate()[0].split("\n")[:-1]
        disk.acquire(10)
        if disk.torn is not None:
            disk.cut(disk.torn)
        if said:
            assert disk.head.next_offset >= int(said[-1]) + 1
        append(disk, b"mine")
        disk.release()
        assert tails(disk)[-1] == b"mine"
