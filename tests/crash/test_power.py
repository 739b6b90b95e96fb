"""The power fails: what SQLite had not synced is gone or half there, what the log had synced is not.

In WAL mode with ``synchronous=NORMAL`` SQLite syncs the WAL only before a checkpoint, so after a power failure what was
written since may be missing in any part, or be there as zeros or as rubbish; what it had synced is there, and the pages
of the database file that were written from it rely on that. The log is synced at each commit, and holds what it held.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

import veritydb
from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.support.life import RAW

if TYPE_CHECKING:
    from tests.conftest import Count

SECTOR = 512
VFS = "syncing"


class SyncingFile(apsw.VFSFile):
    """A file that keeps what is in it at each sync, if it is a WAL."""

    def __init__(self, synced: dict[str, bytes], name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._synced = synced
        self._wal = str(name) if flags[0] & apsw.SQLITE_OPEN_WAL else ""

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        if self._wal:
            self._synced[self._wal] = Path(self._wal).read_bytes()


class SyncingVFS(apsw.VFS):
    """The operating system's VFS, which knows what has been synced."""

    def __init__(self) -> None:
        super().__init__(VFS, "unix")
        self.synced: dict[str, bytes] = {}

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return SyncingFile(self.synced, name, flags)


@pytest.fixture(scope="module")
def vfs() -> SyncingVFS:
    """The VFS. It stays registered as long as anything may use it."""
    return SyncingVFS()


Harm = Callable[[bytes, bytes, random.Random], bytes]
"""What is on the disk, of a WAL that was synced as the first and has been written to the second since."""


def sectors(synced: bytes, written: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what was synced and what was written, sector by sector; beyond what was synced there are zeros."""
    for at in range(0, len(written), SECTOR):
        new = written[at : at + SECTOR]
        yield synced[at : at + SECTOR].ljust(len(new), b"\0"), new


def cut(synced: bytes, written: bytes, chance: random.Random) -> bytes:
    """Write a beginning."""
    keep = chance.randint(0, len(written))
    return written[:keep] + synced[keep:]


def lose(synced: bytes, written: bytes, chance: random.Random) -> bytes:
    """Lose sectors anywhere, as a disk that writes them in an order of its own."""
    return b"".join(old if chance.random() < 0.2 else new for old, new in sectors(synced, written))


def spoil(synced: bytes, written: bytes, chance: random.Random) -> bytes:
    """End in the rubbish that stood on the disk before."""
    keep = chance.randint(0, len(written) // SECTOR)
    return b"".join(
        new if number < keep or old == new else chance.randbytes(len(new))
        for number, (old, new) in enumerate(sectors(synced, written))
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


@pytest.mark.parametrize("harm", [cut, lose, spoil])
def test_a_wal_that_never_reached_the_disk_costs_nothing(
    folder: Path, vfs: SyncingVFS, harm: Harm, campaign: bool, count_of: Count
) -> None:
    chance = random.Random(harm.__name__)
    path, image = folder / "life.db", folder / "image" / "life.db"
    ledger.create(path, RAW)
    told = Ledger()
    db = veritydb.connect(f"file:{path}?vfs=multipleciphers-{VFS}", uri=True, key=RAW, isolation_level=None)
    db.execute("PRAGMA wal_autocheckpoint = 30").fetchall()
    lost = 0
    try:
        for number in range(1, 400 if campaign else 60):
            told.attempted.add(number)
            (ledger.single, ledger.several)[number % 2](db, number)
            told.acknowledged.add(number)
            if number % 3 == 0:
                lost += copy_as_after_a_power_failure(path, image, vfs, harm, chance)
                ledger.examine(image, told, key=RAW)
                shutil.rmtree(image.parent)
    finally:
        db.close()
    assert lost  # If nothing had been lost, nothing would have been redone.
    count_of("power failures that took something of the WAL", lost)
    assert vfs.synced[f"{path}-wal"]


def copy_as_after_a_power_failure(path: Path, image: Path, vfs: SyncingVFS, harm: Harm, chance: random.Random) -> bool:
    """Copy what is on the disk; the index of the WAL is in memory only. Returns whether anything was lost."""
    shutil.copytree(f"{path}-log", f"{image}-log")
    shutil.copy(path, image)
    wal = f"{path}-wal"
    written = Path(wal).read_bytes()
    left = harm(vfs.synced.get(wal, b""), written, chance)
    Path(f"{image}-wal").write_bytes(left)
    return left != written
