"""A member's storage: the zones of :mod:`veritydb.vsr.effects` in one folder.

==================  ================================================================================================
``lock``            held while a process has the folder
``superblock``      four copies, 16 KiB each
``headers``         one sector of 4 KiB for each slot, so that no write can tear two
``entries``         one place for each slot, large enough for the largest entry; sparse beyond its first 16 KiB
``snapshots/``      one file for each, named by its root
==================  ================================================================================================

``docs/internals/vsr-disk.md`` has the bytes. The first 16 KiB of each place are written with zeros when the folder is
made: writing over them later needs no new blocks, and a sync no journal.

A driver calls :meth:`Disk.submit` for each write and :meth:`Disk.flush` when there is nothing else to do; one flush
makes all pending writes durable with one sync of each file (a single write goes through, without one): entries first,
because others wait for those, then headers, snapshots, the superblock.
:class:`veritydb.cluster.disk_thread.DiskThread` does so in a thread of its own.

A failure is final. A sync that failed says nothing when it is repeated, and a write that failed for want of room would
leave a member that cannot say what it has: the handle is finished, every write that was pending is reported as failed,
and the replica halts. What was acknowledged before is on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from veritydb.cluster.aligned import SECTOR, AlignedFile, Buffer, sectors
from veritydb.log.files import Files
from veritydb.vsr.effects import Image, Write, WriteDone, Zone
from veritydb.vsr.entry import BODY_MAX, HEADER_SIZE, BadEntry, read_header
from veritydb.vsr.superblock import COPIES, COPY_SIZE, WRITE_QUORUM, as_copy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from veritydb.vsr.effects import Key

RESERVE = 16 << 10
"""Bytes of a slot's place for its entry that are allocated from the beginning."""
SLOTS_MAX = 1 << 16
_TEMPORARY = ".part"
_ORDER = (Zone.ENTRY, Zone.HEADER, Zone.SNAPSHOT, Zone.SUPERBLOCK)
"""In which what is pending is written: others wait for entries."""


class DiskFailed(Exception):
    """A member's storage cannot be used, or no longer; what was acknowledged before is there."""

    def __init__(self, doing: str, path: str, error: OSError | None, why: str = "") -> None:
        name = errno.errorcode.get(error.errno or 0, "error") if error is not None else ""
        reason = f"{error.strerror} ({name})" if error is not None else why
        super().__init__(why if error is not None and why else f"{doing} {path}: {reason}")
        self.doing = doing
        self.path = path
        self.errno = error.errno if error is not None else None


class Prepared(NamedTuple):
    """One call of the system, made ready by one thread for another."""

    zone: Zone
    fd: int
    data: memoryview
    position: int


class Disk:
    """One folder, opened by one process. Not for several threads at once."""

    def __init__(self, folder: Path | str, *, files: Files | None = None) -> None:
        """Open a folder that :func:`format_disk` made. Raises DiskFailed."""
        self.folder = str(folder)
        self.failed: DiskFailed | None = None
        self._files = files or Files()
        self._pending: list[Write] = []
        self._open: list[AlignedFile] = []
        self._buffer = Buffer(COPY_SIZE)
        self._lock = -1
        doing = "opening"
        path = self.folder
        try:
            path = f"{self.folder}/lock"
            self._lock = self._files.open(path, os.O_RDWR | os.O_CLOEXEC)
            doing = "locking"
            self._files.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            doing = "opening"
            self._superblock = self._file("superblock")
            self._headers = self._file("headers")
            self._entries = self._file("entries")
            path = f"{self.folder}/snapshots"
            self._snapshots = self._find_snapshots()
            self.slots = self._headers.size // SECTOR
            self._place, rest = divmod(self._entries.size, self.slots or 1)
            sizes = (self._superblock.size, self._headers.size, self._place % SECTOR, rest)
        except OSError as error:
            self.close()
            raise DiskFailed(doing, path, error, _explained(doing, self.folder, error)) from error
        if not self.slots or not self._place or sizes != (COPIES * COPY_SIZE, self.slots * SECTOR, 0, 0):
            self.close()
            raise DiskFailed("opening", self.folder, None, "its files do not have the sizes that they were made with")
        self._buffer.grow(self._place)
        self._reserve = min(RESERVE, self._place)

    def _file(self, name: str) -> AlignedFile:
        file = AlignedFile(f"{self.folder}/{name}", self._files, self._buffer)
        self._open.append(file)
        return file

    def _find_snapshots(self) -> dict[bytes, str]:
        found: dict[bytes, str] = {}
        folder = f"{self.folder}/snapshots"
        for name in sorted(self._files.listdir(folder)):
            if name.endswith(_TEMPORARY):
                self._files.unlink(f"{folder}/{name}")
            elif len(name) == 32:
                with contextlib.suppress(ValueError):
                    found[bytes.fromhex(name)] = f"{folder}/{name}"
        return found

    @property
    def is_direct(self) -> bool:
        """Whether the page cache is passed by."""
        return all(file.is_direct for file in self._open)

    def image(self) -> Image:
        """Read everything: what a replica starts with."""
        snapshots = {root: self._read_snapshot(root) for root in self._snapshots}
        return Image(
            superblock=tuple([self._read_copy(number) for number in range(COPIES)]),
            entries=tuple([self.read(Zone.ENTRY, slot) for slot in range(self.slots)]),
            headers=tuple([self.read(Zone.HEADER, slot) for slot in range(self.slots)]),
            snapshots={root: data for root, data in snapshots.items() if data is not None},
        )

    def read(self, zone: Zone, key: Key) -> bytes | None:
        """Return what is on the disk now, perhaps with what follows it; None if it cannot be had."""
        if isinstance(key, bytes):
            return self._read_snapshot(key)
        if zone is Zone.SUPERBLOCK:
            return self._read_copy(key)
        if zone is Zone.HEADER:
            return _read(self._headers, key * SECTOR, SECTOR)
        start = key * self._place
        begin = _read(self._entries, start, self._reserve)
        if begin is None:
            return None
        try:
            size = HEADER_SIZE + read_header(begin[:HEADER_SIZE]).size
        except BadEntry:
            return begin
        if size <= self._reserve:
            return begin[:size]
        if size > self._place:
            return begin
        whole = _read(self._entries, start, sectors(size))
        return None if whole is None else whole[:size]

    def _read_copy(self, number: int) -> bytes | None:
        return _read(self._superblock, number * COPY_SIZE, COPY_SIZE)

    def _read_snapshot(self, root: bytes) -> bytes | None:
        path = self._snapshots.get(root)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return None

    def submit(self, write: Write) -> None:
        """Take note of a write; nothing happens before :meth:`flush`."""
        self._pending.append(write)

    def remove(self, zone: Zone, key: Key) -> None:
        """Forget a snapshot."""
        assert zone is Zone.SNAPSHOT
        assert isinstance(key, bytes)
        path = self._snapshots.pop(key, None)
        if path is not None:
            with contextlib.suppress(OSError):  # It will be found again at the next start, and removed again.
                self._files.unlink(path)

    def prepare(self, write: Write, buffer: Buffer) -> Prepared:
        """Return what makes one write to a slot durable; ``buffer`` is its own until that is done.

        Any thread may call this, also while another one has the disk write.
        """
        assert isinstance(write.key, int)
        assert 0 <= write.key < self.slots
        file, step = (self._entries, self._place) if write.zone is Zone.ENTRY else (self._headers, SECTOR)
        assert len(write.data) <= step
        return Prepared(write.zone, file.through, buffer.fill(write.data), write.key * step)

    def carry_out(self, prepared: Prepared) -> bool:
        """Make one write durable that was prepared, as :meth:`flush` does; False if it failed."""
        if self.failed is None:
            zone, fd, data, position = prepared
            try:
                self._files.write(fd, data, position)
            except OSError as error:
                file = self._entries if zone is Zone.ENTRY else self._headers
                self.failed = DiskFailed(f"writing {zone.name.lower()} to", file.path, error)
        return self.failed is None

    def flush(self, done: Callable[[WriteDone], object]) -> None:
        """Make all pending writes durable, and tell ``done`` of each as soon as it is, or of its failure."""
        pending, self._pending = self._pending, []
        for zone in _ORDER:
            writes = [write for write in pending if write.zone is zone]
            if not writes:
                continue
            for together in [writes] if zone is Zone.ENTRY or zone is Zone.HEADER else [[write] for write in writes]:
                if self.failed is None:
                    try:
                        self._make_durable(zone, together)
                    except DiskFailed as failure:
                        self.failed = failure
                ok = self.failed is None
                for write in together:
                    done(WriteDone(write.token, ok))

    def _make_durable(self, zone: Zone, writes: list[Write]) -> None:
        if zone is Zone.ENTRY:
            self._write_group(zone, self._entries, self._place, writes)
        elif zone is Zone.HEADER:
            self._write_group(zone, self._headers, SECTOR, writes)
        elif zone is Zone.SNAPSHOT:
            self._write_snapshot(*writes)
        else:
            self._write_superblock(*writes)

    def _write_group(self, zone: Zone, file: AlignedFile, step: int, writes: list[Write]) -> None:
        try:
            write_to = file.write_through if len(writes) == 1 else file.write
            for write in writes:
                assert isinstance(write.key, int)
                assert 0 <= write.key < self.slots
                assert len(write.data) <= step
                write_to(write.key * step, write.data)
            if len(writes) > 1:
                file.sync()
        except OSError as error:
            raise DiskFailed(f"writing {zone.name.lower()} to", file.path, error) from error

    def _write_snapshot(self, write: Write) -> None:
        root = write.key
        assert isinstance(root, bytes)
        path = f"{self.folder}/snapshots/{root.hex()}"
        files = self._files
        try:
            fd = files.open(path + _TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                files.write(fd, write.data, 0)
                files.fdatasync(fd)
            finally:
                files.close(fd)
            files.rename(path + _TEMPORARY, path)
            files.fsync_dir(f"{self.folder}/snapshots")
        except OSError as error:
            raise DiskFailed("writing snapshot", path, error) from error
        self._snapshots[root] = path

    def _write_superblock(self, write: Write) -> None:
        """Write the copies one after the other, so that a crash spoils one at most, and look at what is there."""
        file = self._superblock
        copies = [as_copy(write.data, number).ljust(COPY_SIZE, b"\0") for number in range(COPIES)]
        try:
            for number, copy in enumerate(copies):
                file.write(number * COPY_SIZE, copy)
                file.sync()
        except OSError as error:
            raise DiskFailed("writing superblock to", file.path, error) from error
        alike = sum([self._read_copy(number) == copy for number, copy in enumerate(copies)])
        if alike < WRITE_QUORUM:
            why = f"{alike} of {COPIES} copies read back as they were written, {WRITE_QUORUM} must"
            raise DiskFailed("writing superblock to", file.path, None, why)

    def close(self) -> None:
        """Give everything back. What is pending is forgotten."""
        while self._open:
            self._open.pop().close()
        if self._lock >= 0:
            self._files.close(self._lock)
            self._lock = -1


def _explained(doing: str, folder: str, error: OSError) -> str:
    """Return what a failure to open a member's folder means, where that can be said better than by its number."""
    if doing == "locking" and error.errno == errno.EAGAIN:
        return f"another process uses {folder}"
    if error.errno == errno.ENOENT:
        return (
            f"there is no member's disk in {folder} (or not all of it): perhaps what holds it is not mounted. If it is "
            "lost, veritydb cluster replace-disk makes another"
        )
    return ""


def _read(file: AlignedFile, position: int, size: int) -> bytes | None:
    try:
        data = file.read(position, size)
    except OSError:
        return None
    return data if len(data) == size else None


def format_disk(folder: Path | str, image: Image, *, body_max: int = BODY_MAX, files: Files | None = None) -> None:
    """Make the folder of a new member, with what ``image`` says.

    ``body_max``: bytes of the body of an op, at most. The folder appears whole and durable, or not at all: what an
    attempt that failed has left, under another name, is taken away by the next. Raises DiskFailed: the folder exists,
    or it could not be made.
    """
    final = str(folder)
    slots = len(image.entries)
    assert 0 < slots <= SLOTS_MAX
    assert slots == len(image.headers)
    assert len(image.superblock) == COPIES
    files = files or Files()
    temporary = final + _TEMPORARY
    place = sectors(HEADER_SIZE + body_max)
    buffer = Buffer(max(COPY_SIZE, place))
    try:
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, "it exists")
        shutil.rmtree(temporary, ignore_errors=True)
        files.mkdir(temporary, 0o700)
        files.mkdir(f"{temporary}/snapshots", 0o700)
        files.close(files.open(f"{temporary}/lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for name, step, reserve, each in (
            ("superblock", COPY_SIZE, COPY_SIZE, image.superblock),
            ("headers", SECTOR, SECTOR, image.headers),
            ("entries", place, min(RESERVE, place), image.entries),
        ):
            file = AlignedFile(f"{temporary}/{name}", files, buffer, create=True)
            try:
                for number, data in enumerate(each):
                    file.write(number * step, (data or b"").ljust(reserve, b"\0"))
                file.extend(step * len(each))
                file.sync()
            finally:
                file.close()
        for root, data in image.snapshots.items():
            fd = files.open(f"{temporary}/snapshots/{root.hex()}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                files.write(fd, data, 0)
                files.fdatasync(fd)
            finally:
                files.close(fd)
        files.fsync_dir(f"{temporary}/snapshots")
        files.fsync_dir(temporary)
        files.rename(temporary, final)  # Fails if somebody else made it meanwhile: it is not empty.
        files.fsync_dir(os.path.dirname(os.path.abspath(final)))
    except OSError as error:
        raise DiskFailed("making", final, error) from error
