"""Logs made small: records of known content, a handle whose system calls fail at will, folders copied and damaged."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, Any

from veritydb.log import Files, Kind, Log, MemoryLog, Spill, pack_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

STREAM = bytes(range(100, 116))
SMALL = 4096
"""A segment size at which a few records fill a segment."""


def append(
    log: Log | MemoryLog,
    tail: bytes = b"tail",
    parts: Iterable[bytes] | None = None,
    *,
    transactions: int = 1,
    generation: int | None = None,
    kind: Kind = Kind.DATA,
) -> None:
    """Append one record under a lock that is held; its id is that of its content, so that it can be recognised."""
    spill = None
    if parts is not None:
        spill = Spill(None if isinstance(log, MemoryLog) else log.folder)
        for part in parts:
            spill.add(part[:12].ljust(12, b"n"), part)
    try:
        head = log.head
        log.append(
            header(log, tail, spill, transactions=transactions, generation=generation, kind=kind),
            tail,
            spill,
            transactions,
            head.timestamp + 1,
        )
    finally:
        if spill is not None:
            spill.close()


def header(
    log: Log | MemoryLog,
    tail: bytes,
    spill: Spill | None = None,
    *,
    transactions: int = 1,
    generation: int | None = None,
    kind: Kind = Kind.DATA,
    **changed: Any,
) -> bytes:
    """Return the header of a record that builds on the head, except where ``changed`` says otherwise."""
    head = log.head
    fields: dict[str, Any] = {
        "stream": log.stream,
        "first_offset": head.next_offset,
        "timestamp": head.timestamp + 1,
        "prev_hash": head.hash,
        "id": head.next_offset.to_bytes(16, "big"),
        "key_id": 7,
        "salt": b"s" * 32,
        "nonce": b"n" * 12,
        "parts_digest": spill.digest if spill else bytes(32),
        "parts_length": spill.length if spill else 0,
        "tail_length": len(tail),
        "part_count": spill.count if spill else 0,
        "generation": head.generation if generation is None else generation,
        "transaction_count": transactions,
        "kind": kind,
    }
    return pack_header(**{**fields, **changed})


def commit(log: Log | MemoryLog, *tails: bytes, **options: Any) -> None:
    """Append records, each in an acquire and release of its own."""
    for tail in tails:
        log.acquire(10)
        try:
            append(log, tail, **options)
        finally:
            log.release()


def tails(log: Log | MemoryLog, start: int = 0) -> list[bytes]:
    """Return the content of all records, parts and tail together."""
    return [b"".join([*(sealed for _, sealed in record.parts()), record.tail]) for record in log.records(start)]


def read_back(folder: Path, **options: Any) -> list[bytes]:
    """Open a log for reading and return the content of its records."""
    log = Log.open(folder, read_only=True, **options)
    try:
        return tails(log)
    finally:
        log.close()


def copied(folder: Path, target: Path) -> Path:
    """Return a fresh copy of a log's folder."""
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(folder, target)


def unsynced() -> Files:
    """Return system calls that all succeed, and do not wait for the disk."""
    return FaultyFiles(lambda *_: False)


def poke(path: Path, position: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, position)
    finally:
        os.close(fd)


def segment_path(folder: Path, number: int = 0) -> Path:
    """Return the path of a segment."""
    return folder / f"{number:08d}.seg"


class FaultyFiles(Files):
    """System calls of which some fail: those for which ``fails`` says so, asked before each call.

    ``half`` writes the first half of what a failing pwrite was given.
    """

    CALLS = (
        "open", "pread", "pwrite", "fdatasync", "ftruncate", "rename", "unlink", "mkdir", "listdir", "flock", "stat",
        "size", "fsync_dir",
    )  # fmt: skip

    def __init__(self, fails: Callable[[str, int], bool], error: int = errno.EIO, *, half: bool = False) -> None:
        self.calls = 0
        self.failed = 0
        for name in self.CALLS:
            setattr(
                self, name, self._wrapped(name, getattr(self, f"_{name}", getattr(Files, name)), fails, error, half)
            )

    # What matters here is which call fails; that the others reach the disk would only take time.

    @staticmethod
    def _open(path: str, flags: int, mode: int = 0o777) -> int:
        return os.open(path, flags & ~os.O_DSYNC, mode)

    @staticmethod
    def _fdatasync(fd: int) -> None:
        pass

    @staticmethod
    def _fsync_dir(files: Files, path: str) -> None:
        pass

    def _wrapped(
        self, name: str, call: Callable[..., Any], fails: Callable[[str, int], bool], error: int, half: bool
    ) -> Callable[..., Any]:
        own = name in ("size", "fsync_dir")

        def wrapper(*arguments: Any) -> Any:
            self.calls += 1
            if fails(name, self.calls):
                self.failed += 1
                if half and name == "pwrite":
                    fd, data, position = arguments
                    call(fd, data[: len(data) // 2], position)
                raise OSError(error, os.strerror(error))
            return call(self, *arguments) if own else call(*arguments)

        return wrapper
