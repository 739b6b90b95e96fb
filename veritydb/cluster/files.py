"""Small files of which others read only a whole one: settings, secrets, certificates."""

from __future__ import annotations

import os
from pathlib import Path

from veritydb.syncing import sync


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, for its owner only, durably. Raises FileExistsError."""
    _write(path, data, os.O_EXCL)
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Put a new file in the place of one, durably: whoever reads it has the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    _write(temporary, data, os.O_TRUNC)
    os.replace(temporary, path)
    sync(path.parent)


def _write(path: Path, data: bytes, flag: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flag | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
    finally:
        os.close(fd)
