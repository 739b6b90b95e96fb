"""Folders in memory, where there is room: what the death of a process leaves behind does not depend on the disk.

These tests sync some ten thousand times. On a disk that others use too, nothing but the waiting for it would be
measured.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY = "/dev/shm"
ROOM = 32 << 20
"""Bytes; a test of this folder needs less."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory if the machine has such a place."""
    try:
        status = os.statvfs(MEMORY)
        room = status.f_bavail * status.f_frsize >= ROOM
        made = Path(tempfile.mkdtemp(prefix="veritydb-", dir=MEMORY)) if room else None
    except OSError:
        made = None
    if made is None:
        yield tmp_path
        return
    yield made
    shutil.rmtree(made)
