"""A disk that loses power: what was synced stays, of the rest any part may have arrived, sector by sector.

The system calls work on real files, which play the page cache. Beside them :class:`Disk` keeps what is durable, by
inode, and what is on its way; :meth:`Disk.after` makes the folder that the next start of the machine finds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veritydb.log import Files

if TYPE_CHECKING:
    from random import Random

SECTOR = 512


class PowerFailure(BaseException):
    """Nothing runs after it."""


class Disk(Files):
    """Fails at call number ``until``; until then remembers what is durable."""

    def __init__(self, until: int) -> None:
        self.calls = 0
        self._until = until
        # By inode: durable bytes, and the changes after them, (position, data) or (new size, None).
        self._durable: dict[int, bytearray] = {}
        self._pending: dict[int, list[tuple[int, bytes | None]]] = {}
        # By folder: durable names, and the changes after them, (name, inode or None).
        self._names: dict[str, dict[str, int]] = {}
        self._renames: dict[str, list[tuple[str, int | None]]] = {}
        self._synced_at_once: set[int] = set()
        for name in ("open", "pwrite", "fdatasync", "ftruncate", "rename", "unlink", "fsync_dir"):
            setattr(self, name, getattr(self, f"_{name}"))

    def _count(self) -> None:
        self.calls += 1
        if self.calls >= self._until:
            raise PowerFailure

    def _open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self._count()
        path = str(path)
        new = bool(flags & os.O_CREAT) and not Path(path).exists()
        fd = os.open(path, flags & ~os.O_DSYNC, mode)
        inode = os.fstat(fd).st_ino
        if new:
            # The inode of a file that is gone may be used again.
            self._durable[inode], self._pending[inode] = bytearray(), []
            self._renames.setdefault(os.path.dirname(path), []).append((os.path.basename(path), inode))
        elif flags & os.O_TRUNC:
            self._pending[inode].append((0, None))
        self._synced_at_once.discard(fd)
        if flags & os.O_DSYNC:
            self._synced_at_once.add(fd)
        return fd

    def _pwrite(self, fd: int, data: bytes, position: int) -> int:
        inode = os.fstat(fd).st_ino
        self._pending[inode].append((position, bytes(data)))
        self._count()
        written = os.pwrite(fd, data, position)
        if fd in self._synced_at_once:
            # Only this range, and not what others have written without a sync.
            change = self._pending[inode].pop()
            self._apply(self._durable[inode], *change)
        return written

    def _fdatasync(self, fd: int) -> None:
        self._count()
        inode = os.fstat(fd).st_ino
        for change in self._pending[inode]:
            self._apply(self._durable[inode], *change)
        self._pending[inode].clear()

    def _ftruncate(self, fd: int, length: int) -> None:
        self._pending[os.fstat(fd).st_ino].append((length, None))
        self._count()
        os.ftruncate(fd, length)

    def _rename(self, old: str, new: str) -> None:
        inode = os.stat(old).st_ino
        changes = self._renames.setdefault(os.path.dirname(old), [])
        changes += [(os.path.basename(new), inode), (os.path.basename(old), None)]
        self._count()
        os.rename(old, new)

    def _unlink(self, path: str) -> None:
        self._count()
        self._renames.setdefault(os.path.dirname(path), []).append((os.path.basename(path), None))
        os.unlink(path)

    def _fsync_dir(self, path: str) -> None:
        self._count()
        names = self._names.setdefault(path, {})
        for name, inode in self._renames.pop(path, []):
            self._rename_in(names, name, inode)

    @staticmethod
    def _rename_in(names: dict[str, int], name: str, inode: int | None) -> None:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode

    @staticmethod
    def _apply(content: bytearray, position: int, data: bytes | None) -> None:
        if data is None:
            del content[position:]
            content.extend(bytes(position - len(content)))
            return
        content.extend(bytes(max(0, position - len(content))))
        content[position : position + len(data)] = data

    def after(self, folder: Path, target: Path, random: Random) -> Path:
        """Make what is found of ``folder`` when the power is back."""
        target.mkdir()
        names = dict(self._names.get(str(folder), {}))
        changes = self._renames.get(str(folder), [])
        for name, inode in changes[: random.randint(0, len(changes))]:
            self._rename_in(names, name, inode)
        for name, inode in names.items():
            content = bytearray(self._durable[inode])
            for position, data in self._pending[inode]:
                if data is None:
                    if random.random() < 0.5:
                        self._apply(content, position, None)
                    continue
                for start in range(position - position % SECTOR, position + len(data), SECTOR):
                    if random.random() < 0.5:
                        first, last = max(start, position), min(start + SECTOR, position + len(data))
                        self._apply(content, first, data[first - position : last - position])
            (target / name).write_bytes(content)
        return target
