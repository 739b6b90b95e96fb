"""Sealed parts of a transaction that is too large for memory, on disk until it commits or rolls back.

The session adds parts while statements run and truncates when SQLite rolls back to a savepoint; the log copies them
into the record. They are kept in the form in which the record will hold them (length, nonce, sealed bytes), with the
digest so far beside each, so that a commit reads them once.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from veritydb.errors import LogUnavailable, TransactionTooLarge
from veritydb.log.files import Files
from veritydb.log.record import (
    COUNT_MAX,
    PART_HEAD_SIZE,
    PART_MAX,
    PARTS_MAX,
    ZERO_HASH,
    pack_part_head,
    unpack_part_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK = 1 << 20


class Spill:
    """Parts in order, in a file of ``folder`` that has no name any more, or in memory if ``folder`` is None."""

    def __init__(self, folder: Path | str | None, files: Files | None = None) -> None:
        self._files = files or Files()
        self._ends = [0]
        self._digests = [sha256()]
        self._memory: list[bytes] = []
        self._fd = -1
        if folder is not None:
            path = f"{folder}/spill-{os.urandom(8).hex()}"
            try:
                self._fd = self._files.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                self._files.unlink(path)
            except OSError as error:
                self.close()
                raise _unavailable(error) from error
        self._in_memory = folder is None

    @property
    def count(self) -> int:
        """How many parts there are."""
        return len(self._ends) - 1

    @property
    def length(self) -> int:
        """Bytes of all parts as stored."""
        return self._ends[-1]

    @property
    def digest(self) -> bytes:
        """SHA-256 over the parts as stored; zeros if there are none."""
        return self._digests[-1].digest() if self.count else ZERO_HASH

    def add(self, nonce: bytes, sealed: bytes) -> None:
        """Add one part.

        Raises ``TransactionTooLarge`` beyond the format's limits, ``LogUnavailable`` if the disk fails.
        """
        start = self._ends[-1]
        end = start + PART_HEAD_SIZE + len(sealed)
        if len(sealed) > PART_MAX or end > PARTS_MAX or self.count >= COUNT_MAX:
            raise TransactionTooLarge("the transaction is larger than a record can be; it cannot be committed")

        stored = pack_part_head(len(sealed), nonce) + sealed
        if self._in_memory:
            self._memory.append(stored)
        else:
            try:
                self._files.write(self._fd, stored, start)
            except OSError as error:
                raise _unavailable(error) from error
        digest = self._digests[-1].copy()
        digest.update(stored)
        self._digests.append(digest)
        self._ends.append(end)

    def read(self, index: int) -> tuple[bytes, bytes]:
        """Return (nonce, sealed bytes) of a part."""
        stored = self.stored(index)
        return unpack_part_head(stored[:PART_HEAD_SIZE])[1], stored[PART_HEAD_SIZE:]

    def stored(self, index: int) -> bytes:
        """Return a part as the record will hold it: length, nonce, sealed bytes."""
        if self._in_memory:
            return self._memory[index]
        start = self._ends[index]
        return self._pread(self._ends[index + 1] - start, start)

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` parts."""
        del self._ends[count + 1 :], self._digests[count + 1 :], self._memory[count:]
        if not self._in_memory:
            try:
                self._files.ftruncate(self._fd, self._ends[-1])
            except OSError as error:
                raise _unavailable(error) from error

    def copy(self, write: Callable[[bytes], object]) -> None:
        """Hand all parts as stored to ``write``, in pieces of bounded size."""
        if self._in_memory:
            for stored in self._memory:
                write(stored)
            return
        for position in range(0, self.length, _CHUNK):
            write(self._pread(min(_CHUNK, self.length - position), position))

    def close(self) -> None:
        """Give the space back."""
        fd, self._fd = self._fd, -1
        self._memory.clear()
        if fd >= 0:
            self._files.close(fd)

    def _pread(self, length: int, position: int) -> bytes:
        try:
            data = self._files.pread(self._fd, length, position)
        except OSError as error:
            raise _unavailable(error) from error
        if len(data) != length:
            raise LogUnavailable("what the transaction put aside on disk is gone; it cannot be committed")
        return data


def _unavailable(error: OSError) -> LogUnavailable:
    return LogUnavailable(f"a large transaction cannot be put aside on disk: {error}; it cannot be committed")
