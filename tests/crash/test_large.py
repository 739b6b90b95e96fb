"""Transactions of millions of rows and logs of gigabytes, in memory that does not grow with them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import files
from tests.support.life import RAW
from tests.support.processes import run
from veritydb.replay.compare import differences

if TYPE_CHECKING:
    from tests.conftest import Count

SCRIPT = Path(__file__).parent / "scripts" / "large.py"
ROOT = Path(__file__).parents[2]
MEMORY_MAX = 300 << 20
"""Bytes for a process with all that it has loaded."""


def most_memory(what: str, path: Path, rows: int) -> int:
    """Run a step in a process of its own; return the most bytes it had in memory."""
    ended = run(SCRIPT, what, path, rows)
    assert ended.status == 0, ended.errors
    return int(ended.said.split()[-1])


def most_memory_unhurried(what: str, path: Path, size: int) -> int:
    """As :func:`most_memory`, for what takes minutes."""
    command = [sys.executable, str(SCRIPT), what, str(path), str(size)]
    ended = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    return int(ended.stdout.split()[-1])


def test_a_transaction_larger_than_memory_is_written_redone_and_rebuilt(
    tmp_path: Path, campaign: bool, count_of: Count
) -> None:
    path, rows = tmp_path / "large.db", 2_000_000 if campaign else 200_000
    for what in ("commit", "rebuild"):
        most = most_memory(what, path, rows)
        count_of(f"bytes of memory, one transaction, {what}", most)
        assert most < MEMORY_MAX

    # A file from before the transaction: it is redone when the file is opened.
    behind = tmp_path / "behind.db"
    shutil.copytree(f"{path}-log", f"{behind}-log")
    shutil.copy(earlier(path, tmp_path), behind)
    most = most_memory("redo", behind, rows)
    count_of("bytes of memory, one transaction, redo", most)
    assert most < MEMORY_MAX

    assert files.chain_is_whole(path)
    with files.opened(path, RAW) as life:
        for other in (path.with_name(f"{path.name}.rebuilt-1"), behind):
            with files.opened(other, RAW) as again:
                assert differences(life, again) == []


def earlier(path: Path, folder: Path) -> Path:
    """Return a copy of the database as it was at offset 0."""
    from veritydb.replay.rebuilding import rebuild

    target = folder / "earlier.db"
    rebuild(path, target, key=RAW, at=0)
    return target


def test_a_log_larger_than_memory_is_written_rebuilt_and_verified(
    tmp_path: Path, campaign: bool, count_of: Count
) -> None:
    """In the campaign one of 5 GB, where the disk has room for it and half as much again."""
    path, size = tmp_path / "long.db", 5_000_000_000 if campaign else 60_000_000
    size = min(size, shutil.disk_usage(tmp_path).free * 2 // 3)
    for what in ("fill", "rebuild", "verify"):
        most = most_memory_unhurried(what, path, size)
        count_of(f"bytes of memory, long log, {what}", most)
        assert most < MEMORY_MAX
    length = sum(file.stat().st_size for file in Path(f"{path}-log").glob("*.seg"))
    count_of("bytes of the long log", length)
    assert length >= size
    shutil.rmtree(f"{path}-log")
