"""Every I/O call fails once, for every call there is: of SQLite, of the system below it, of the log.

A run without a fault counts the calls; then run N is the same with call N failing, and the whole is over when a run
meets no fault. After each run the disk is well again, and what the caller was told has to be true.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

import veritydb
from tests.crash import beginnings, ledger
from tests.crash.beginnings import NAME, Beginning, crowded, run
from tests.crash.faults import CIPHER_VFS, Faults, FaultyVFS, fail_log
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.crash.system_calls import SystemCalls
from tests.support.life import RAW

if TYPE_CHECKING:
    from tests.conftest import Count

CALLS_MAX = 2000
"""More than any of the workloads makes: a test that reaches it does not end by itself."""

LAYERS = ("sqlite", "system", "log")
KINDS = {
    "EIO once": (errno.EIO, False),
    "ENOSPC for good": (errno.ENOSPC, True),
    "ENOSPC once": (errno.ENOSPC, False),
    "EIO for good": (errno.EIO, True),
}
"""What a call that fails says, and whether all calls after it fail too. The last two are for the campaign."""


CLOSING = (apsw.IOError, apsw.FullError)
"""SQLite ignores what fails while it closes a file; APSW raises it all the same if the VFS is one in Python."""


@pytest.fixture(scope="module")
def vfs() -> Iterator[FaultyVFS]:
    """The VFS. It stays registered as long as anything may use it."""
    made = FaultyVFS()
    yield made
    made.faults = Faults()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts spill after a few rows, and segments are full after one run."""
    make_small(monkeypatch, segment_size=4096)


def work(path: Path, vfs: str, told: Ledger) -> None:
    """Open, commit, checkpoint, close; an error does not keep the caller from going on."""
    uri = f"file:{path}?vfs={vfs}" if vfs else f"file:{path}"
    try:
        db = veritydb.connect(uri, uri=True, key=RAW, isolation_level=None)
    except veritydb.Error:
        return
    except CLOSING:
        assert vfs
        return
    try:
        new = not told.attempted
        if new:
            with contextlib.suppress(veritydb.Error):
                ledger.make_if_needed(db)
        for step in (ledger.single, lambda db, number: ledger.several(db, number, 20)):
            run(db, told, step)
        if not new:
            run(db, told, crowded)
        with contextlib.suppress(veritydb.Error):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        with contextlib.suppress(*CLOSING) if vfs else contextlib.nullcontext():
            db.close()
        db.close()


@contextlib.contextmanager
def injected(layer: str, faults: Faults, vfs: FaultyVFS) -> Iterator[str]:
    """Let the calls of a layer go through ``faults``; gives the name of the VFS to open the database with."""
    if layer == "sqlite":
        vfs.faults = faults
        yield CIPHER_VFS
        vfs.faults = Faults()
    elif layer == "system":
        with SystemCalls(faults):
            yield ""
    else:
        with pytest.MonkeyPatch.context() as patch:
            fail_log(patch, faults)
            yield ""


@pytest.mark.parametrize("state", beginnings.STATES)
@pytest.mark.parametrize("layer", LAYERS)
def test_whichever_call_fails_the_caller_is_told_the_truth(
    folder: Path, vfs: FaultyVFS, state: str, layer: str, campaign: bool, count_of: Count
) -> None:
    beginning = beginnings.make(folder, state)
    for kind in KINDS if campaign else list(KINDS)[:2]:
        for at in range(1, CALLS_MAX):
            if not fail(folder, vfs, beginning, layer, kind, at):
                break
        else:
            raise AssertionError("the calls do not end")
        count_of(f"calls that failed, {layer}", at - 1)


def fail(folder: Path, vfs: FaultyVFS, beginning: Beginning, layer: str, kind: str, at: int) -> bool:
    """Let call ``at`` fail and examine what is left; whether there was such a call."""
    path = folder / "run" / NAME
    shutil.copytree(beginning.folder, path.parent)
    told = copy.deepcopy(beginning.told)
    faults = Faults(at, *KINDS[kind])
    try:
        with injected(layer, faults, vfs) as name:
            work(path, name, told)
        faults.mend()
        ledger.examine(path, told, key=RAW)
    except BaseException as error:
        call = faults.calls[at - 1] if at <= len(faults.calls) else "none"
        error.add_note(f"call {at} of {faults.count}, {call}, fails: {kind}")
        raise
    shutil.rmtree(path.parent)
    met = faults.count >= at
    assert met or told.attempted == told.acknowledged
    return met
