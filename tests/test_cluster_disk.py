"""A member's folder: every call may fail, the power may go at any of them, and what was reported durable is there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support import power
from tests.support.storages import BODY_MAX, SLOTS, first_block, first_image
from tests.test_storage_contract import entry
from veritydb.cluster import aligned
from veritydb.cluster.aligned import SECTOR, AlignedFile, Buffer
from veritydb.cluster.disk import Disk, DiskFailed, format_disk
from veritydb.cluster.disk_thread import DiskThread
from veritydb.log import Files
from veritydb.vsr.effects import Read, ReadDone, Remove, Write, WriteDone, Zone
from veritydb.vsr.entry import read_entry
from veritydb.vsr.superblock import COPY_SIZE, as_copy, encode, open_copies, superblock_checksum


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "member"
    format_disk(made, first_image(), body_max=BODY_MAX)
    return made


def flush(disk: Disk, *writes: Write) -> list[WriteDone]:
    for write in writes:
        disk.submit(write)
    done: list[WriteDone] = []
    disk.flush(done.append)
    return done


class Failing(Files):
    """From call number ``at`` on, fails every call of one name."""

    def __init__(self, name: str, at: int, code: int) -> None:
        self.calls = 0
        real = getattr(Files, name)

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls > at:
                raise OSError(code, os.strerror(code))
            return real(*arguments) if name not in ("write", "fsync_dir") else real(self, *arguments)

        setattr(self, name, call)


BLOCK = first_block()._replace(sequence=2, parent=superblock_checksum(encode(first_block())))
WRITES = (
    Write(Zone.ENTRY, 1, entry(1).raw, 1),
    Write(Zone.HEADER, 2, entry(2).header.raw, 2),
    Write(Zone.SNAPSHOT, b"r" * 16, b"snapshot", 3),
    Write(Zone.SUPERBLOCK, 0, encode(BLOCK), 4),
)


@pytest.mark.parametrize(("name", "code"), [("pwrite", errno.ENOSPC), ("pwrite", errno.EIO), ("fdatasync", errno.EIO)])
def test_a_failure_is_reported_and_final(folder: Path, name: str, code: int) -> None:
    """Whatever is reported durable is; the rest is reported as failed, and so is all that comes later."""
    at = 0
    while True:
        files = Failing(name, 10**9, code)
        disk = Disk(folder, files=files)
        files.calls = 10**9 - at
        done = flush(disk, *WRITES)
        assert sorted(it.token for it in done) == [1, 2, 3, 4]
        held = {it.token for it in done if it.ok}
        if disk.failed is not None:
            assert disk.failed.errno == code
            assert errno.errorcode[code] in str(disk.failed)
            assert disk.failed.path.startswith(str(folder))
            files.calls = -(10**9)
            assert flush(disk, Write(Zone.HEADER, 3, b"x", 5)) == [WriteDone(5, False)]
        disk.close()
        with contextlib.closing(Disk(folder)) as again:
            image = again.image()
        assert 1 not in held or read_entry(image.entries[1] or b"") == entry(1)
        assert 2 not in held or (image.headers[2] or b"").startswith(entry(2).header.raw)
        assert 3 not in held or image.snapshots[b"r" * 16] == b"snapshot"
        assert 4 not in held or open_copies(image.superblock)[0] == BLOCK
        if len(held) == 4:
            break
        at += 1
    assert at >= 4


def test_a_full_disk_is_named(folder: Path) -> None:
    disk = Disk(folder, files=Failing("pwrite", 0, errno.ENOSPC))
    assert flush(disk, Write(Zone.ENTRY, 1, entry(1).raw, 1)) == [WriteDone(1, False)]
    assert str(disk.failed) == f"writing entry to {folder}/entries: No space left on device (ENOSPC)"
    disk.close()


class PowerLoss(power.Disk):
    """Knows of the files that were there before."""

    def _open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        known = Path(path)
        if known.is_file() and (inode := known.stat().st_ino) not in self._durable:
            self._durable[inode], self._pending[inode] = bytearray(known.read_bytes()), []
            self._names.setdefault(str(known.parent), {})[known.name] = inode
        return super()._open(path, flags & ~getattr(os, "O_DIRECT", 0), mode)


def test_the_power_may_go_at_any_call(tmp_path: Path) -> None:
    """What was reported durable before is there afterwards, and a superblock that was whole."""
    until = 1
    while True:
        random = Random(until)
        folder, found = tmp_path / f"before{until}", tmp_path / f"after{until}"
        format_disk(folder, first_image(2), body_max=20_000)
        lost = PowerLoss(until)
        done: list[WriteDone] = []
        disk: Disk | None = None
        try:
            disk = Disk(folder, files=lost)
            for write in (
                Write(Zone.ENTRY, 1, entry(1).raw, 1),
                Write(Zone.HEADER, 1, entry(1).header.raw, 2),
                Write(Zone.SNAPSHOT, b"r" * 16, b"snapshot" * 1000, 3),
                Write(Zone.SUPERBLOCK, 0, encode(BLOCK), 4),
                Write(Zone.ENTRY, 1, entry(3, 20_000).raw, 5),
            ):
                disk.submit(write)
                if write.token != 1:
                    disk.flush(done.append)
        except power.PowerFailure:
            pass
        finally:
            lost.calls = -(10**9)
            if disk is not None:
                disk.close()
        if len(done) == 5:
            break
        lost.after(folder, found, random)
        (folder / "lock").touch()
        (found / "lock").touch()
        for name in ("superblock", "headers", "entries"):
            if not (found / name).exists():  # It was not opened yet.
                (found / name).write_bytes((folder / name).read_bytes())
        lost.after(folder / "snapshots", found / "snapshots", random)
        with contextlib.closing(Disk(found)) as disk:
            image = disk.image()
        held = {it.token for it in done}
        block, _ = open_copies(image.superblock)
        assert block in ((BLOCK,) if 4 in held else (first_block(), BLOCK))
        if 1 in held and not held & {4, 5}:
            assert read_entry(image.entries[1] or b"") == entry(1)
        if 2 in held:
            assert (image.headers[1] or b"").startswith(entry(1).header.raw)
        assert (image.entries[0] or b"").startswith(first_image(2).entries[0] or b"?")
        assert (image.headers[0] or b"").startswith(first_image(2).headers[0] or b"?")
        snapshot = image.snapshots.get(b"r" * 16)
        assert snapshot == b"snapshot" * 1000 or (snapshot is None and 3 not in held)
        until += 1
    assert until > 15


def test_a_folder_has_one_process(folder: Path) -> None:
    first = Disk(folder)
    with pytest.raises(DiskFailed, match=f"another process uses {folder}"):
        Disk(folder)
    first.close()
    Disk(folder).close()
    first.close()


def test_a_folder_that_is_not_there_or_was_cut_is_refused(folder: Path) -> None:
    with pytest.raises(DiskFailed, match=r"no member's disk in .*replace-disk"):
        Disk(folder.parent / "other")
    for name in ("superblock", "headers", "entries"):
        path = folder / name
        whole = path.read_bytes()
        os.truncate(path, len(whole) - 512)
        with pytest.raises(DiskFailed, match="do not have the sizes"):
            Disk(folder)
        path.write_bytes(whole)
    os.truncate(folder / "headers", 0)
    with pytest.raises(DiskFailed, match="do not have the sizes"):
        Disk(folder)
    (folder / "headers").unlink()
    with pytest.raises(DiskFailed, match="or not all of it"):
        Disk(folder)


def test_what_cannot_be_read_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(folder)
    flush(disk, Write(Zone.ENTRY, 1, entry(1, 60_000).raw, 1), Write(Zone.SNAPSHOT, b"r" * 16, b"s", 2))
    (folder / "snapshots" / (b"r" * 16).hex()).unlink()
    assert disk.read(Zone.SNAPSHOT, b"r" * 16) is None
    real = os.preadv

    def beyond(fd: int, buffers: Any, position: int) -> int:
        if len(buffers[0]) > 16 << 10:
            raise OSError(errno.EIO, "a latent sector error")
        return real(fd, buffers, position)

    monkeypatch.setattr(os, "preadv", beyond)
    assert disk.read(Zone.ENTRY, 1) is None
    assert disk.read(Zone.HEADER, 1) is not None
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    image = disk.image()
    assert image.superblock == (None,) * 4
    assert image.entries == image.headers == (None,) * SLOTS
    disk.close()


def test_a_header_that_promises_more_than_a_place_holds_is_read_as_far_as_it_goes(folder: Path) -> None:
    disk = Disk(folder)
    long = entry(1, BODY_MAX * 2)
    flush(disk, Write(Zone.ENTRY, 1, long.raw[:1000], 1))
    assert (disk.read(Zone.ENTRY, 1) or b"")[:1000] == long.raw[:1000]
    disk.close()


def test_the_smallest_place_is_one_sector(tmp_path: Path) -> None:
    format_disk(tmp_path / "member", first_image(2), body_max=SECTOR - 128)
    with contextlib.closing(Disk(tmp_path / "member")) as disk:
        flush(disk, Write(Zone.ENTRY, 0, entry(2, SECTOR - 128).raw, 1), Write(Zone.ENTRY, 1, entry(1).raw, 2))
        assert read_entry(disk.read(Zone.ENTRY, 0) or b"") == entry(2, SECTOR - 128)
        assert open_copies([disk.read(Zone.SUPERBLOCK, number) for number in range(4)]) == (first_block(), True)


def test_no_header_shares_a_sector_with_another(folder: Path) -> None:
    disk = Disk(folder)
    flush(disk, *[Write(Zone.HEADER, slot, entry(slot).header.raw, slot) for slot in range(SLOTS)])
    disk.close()
    data = (folder / "headers").read_bytes()
    for slot in range(SLOTS):
        assert data[slot * SECTOR :].startswith(entry(slot).header.raw)


def test_a_superblock_counts_when_three_copies_read_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad, ok in ((1, True), (2, False)):
        disk = Disk(folder)
        read = Disk._read_copy

        def rotten(self: Disk, number: int, bad: int = bad, read: Any = read) -> bytes | None:
            return None if number < bad else read(self, number)

        monkeypatch.setattr(Disk, "_read_copy", rotten)
        assert flush(disk, WRITES[3]) == [WriteDone(4, ok)]
        assert ok or str(disk.failed).endswith("2 of 4 copies read back as they were written, 3 must")
        monkeypatch.undo()
        disk.close()


def test_copies_are_written_one_after_the_other(folder: Path) -> None:
    """So that a crash can spoil one of them, and never two."""
    log: list[str] = []

    class Watching(Files):
        def pwrite(self, fd: int, data: Any, position: int) -> int:
            log.append(f"write {position // COPY_SIZE}")
            return os.pwrite(fd, data, position)

        def fdatasync(self, fd: int) -> None:
            log.append("sync")
            os.fdatasync(fd)

    disk = Disk(folder, files=Watching())
    flush(disk, WRITES[3])
    disk.close()
    assert log == ["write 0", "sync", "write 1", "sync", "write 2", "sync", "write 3", "sync"]
    data = (folder / "superblock").read_bytes()
    for number in range(4):
        assert data[number * COPY_SIZE :].startswith(as_copy(encode(BLOCK), number))


def test_many_writes_share_a_sync(folder: Path) -> None:
    files = Failing("fdatasync", 10**9, errno.EIO)
    disk = Disk(folder, files=files)
    done = flush(
        disk,
        *[Write(Zone.HEADER, slot, entry(slot).header.raw, slot) for slot in range(SLOTS)],
        *[Write(Zone.ENTRY, slot, entry(slot).raw, SLOTS + slot) for slot in range(SLOTS)],
    )
    disk.close()
    assert files.calls == 2
    assert [it.token for it in done] == [*range(SLOTS, 2 * SLOTS), *range(SLOTS)]  # Entries first.


def test_what_an_unfinished_snapshot_left_is_taken_away(folder: Path) -> None:
    (folder / "snapshots" / "00.part").write_bytes(b"half")
    (folder / "snapshots" / "README").write_bytes(b"not ours")
    (folder / "snapshots" / ("z" * 32)).write_bytes(b"not ours")
    with contextlib.closing(Disk(folder)) as disk:
        assert disk.image().snapshots == first_image().snapshots
    assert not (folder / "snapshots" / "00.part").exists()
    assert (folder / "snapshots" / "README").exists()


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    for name in ("open", "pwrite", "fdatasync", "ftruncate", "rename", "fsync_dir", "mkdir"):
        at = 0
        while True:
            folder = tmp_path / f"{name}{at}"
            files = Failing(name, at, errno.EIO)
            failure: DiskFailed | None = None
            try:
                format_disk(folder, first_image(2), body_max=20_000, files=files)
            except DiskFailed as error:
                failure = error
            if failure is None:
                break
            assert "EIO" in str(failure)
            if folder.exists():  # Its name was not yet made durable.
                assert name in ("fsync_dir", "open")
                Disk(folder).close()
            at += 1
        assert at


def test_a_folder_is_never_made_over_another(folder: Path) -> None:
    before = (folder / "superblock").read_bytes()
    with pytest.raises(DiskFailed, match=r"making .*EEXIST"):
        format_disk(folder, first_image())
    assert (folder / "superblock").read_bytes() == before


def test_what_a_failed_making_left_is_in_nobodys_way(tmp_path: Path) -> None:
    folder = tmp_path / "member"
    with pytest.raises(DiskFailed):
        format_disk(folder, first_image(2), body_max=20_000, files=Failing("fdatasync", 1, errno.EIO))
    format_disk(folder, first_image(2), body_max=20_000)
    Disk(folder).close()


def test_where_the_cache_cannot_be_passed_by_files_are_ordinary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Files):
        def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return os.open(path, flags, mode)

    format_disk(tmp_path / "member", first_image(2), body_max=20_000, files=Refusing())
    disk = Disk(tmp_path / "member", files=Refusing())
    assert not disk.is_direct
    assert flush(disk, Write(Zone.ENTRY, 1, entry(1).raw, 1)) == [WriteDone(1, True)]
    assert read_entry(disk.read(Zone.ENTRY, 1) or b"") == entry(1)
    disk.close()
    monkeypatch.setattr(aligned, "_DIRECT", 0)
    with contextlib.closing(Disk(tmp_path / "member")) as disk:
        assert not disk.is_direct
        assert read_entry(disk.read(Zone.ENTRY, 1) or b"") == entry(1)
    with pytest.raises(OSError, match="Invalid"):

        class Broken(Files):
            def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
                raise OSError(errno.EINVAL, "Invalid argument")

        AlignedFile(str(tmp_path / "x"), Broken(), Buffer(SECTOR))


def test_one_write_goes_through_and_several_share_a_sync(folder: Path) -> None:
    """Either way it is on the disk when it is told: test_the_power_may_go… would see it if it were not."""
    through = []
    syncs = []

    class Counting(Files):
        def __init__(self) -> None:
            def pwrite(fd: int, data: Any, position: int) -> int:
                through.append(bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DSYNC))
                return Files.pwrite(fd, data, position)

            def fdatasync(fd: int) -> None:
                syncs.append(fd)
                Files.fdatasync(fd)

            setattr(self, "pwrite", pwrite)  # noqa: B010  mypy knows that these are of the class
            setattr(self, "fdatasync", fdatasync)  # noqa: B010

    disk = Disk(folder, files=Counting())
    assert flush(disk, Write(Zone.ENTRY, 1, entry(1).raw, 1)) == [WriteDone(1, True)]
    assert (through, syncs) == ([True], [])
    writes = [Write(Zone.ENTRY, slot, entry(slot).raw, slot) for slot in (1, 2)]
    assert flush(disk, *writes) == [WriteDone(1, True), WriteDone(2, True)]
    assert through == [True, False, False]
    assert len(syncs) == 1
    disk.close()


def test_a_thread_writes_what_it_is_given_and_tells_of_each(folder: Path) -> None:
    disk = Disk(folder)
    done: list[WriteDone | ReadDone] = []
    first = threading.Event()
    threads: set[str] = set()

    def tell(it: WriteDone | ReadDone) -> None:
        threads.add(threading.current_thread().name)
        done.append(it)
        first.set()

    thread = DiskThread(disk, tell)
    thread.put(Write(Zone.ENTRY, 1, entry(1).raw, 1))
    assert first.wait(30)
    for slot in range(SLOTS):
        thread.put(Write(Zone.HEADER, slot, entry(slot).header.raw, 10 + slot))
    thread.put(Write(Zone.SNAPSHOT, b"r" * 16, b"snapshot", 2))
    thread.put(Read(Zone.ENTRY, 1, 3))
    thread.close()
    assert threads == {"veritydb-disk"}
    assert {it.token for it in done} == {1, 2, 3, *range(10, 10 + SLOTS)}
    read = next(it for it in done if isinstance(it, ReadDone))
    assert read_entry(read.data or b"") == entry(1)
    thread = DiskThread(disk, tell)
    thread.put(Remove(Zone.SNAPSHOT, b"r" * 16))
    thread.close()
    assert disk.read(Zone.SNAPSHOT, b"r" * 16) is None
    disk.close()
