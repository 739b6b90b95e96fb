"""Several handles on one log: turns, opening beside one another, a log that is replaced, other processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs import (
    SMALL,
    STREAM,
    append,
    commit,
    copied,
    poke,
    read_back,
    segment_path,
    tails,
)
from veritydb.errors import LogDamaged, LogMismatch, LogUnavailable
from veritydb.log import Log, LogBusy


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
