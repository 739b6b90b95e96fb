"""Every I/O call fails once, for every call there is: of SQLite, of the system below it, of the log.

A run without a fault counts the calls; then run N is the same with call N failing, and the whole is over when a run meets
no fault. After each run the disk is well again, and what the caller was told has to be true.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

import veritydb
from tests.crash import ledger
from tests.crash.faults import CIPHER_VFS, Faults, FaultyVFS, fail_log
from tests.crash.ledger import Ledger
from tests.crash.small import make_small
from tests.crash.system_calls import SystemCalls
from tests.support.life import RAW

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
STATES = ("existing", "new", "behind", "missing")


CLOSING = (apsw.IOError, apsw.FullError)
"""SQLite ignores what fails while it closes a file; APSW raises it all the same if the VFS is one in Python."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a run begins with: files, and what is known of them."""

    folder: Path
    told: Ledger


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


@pytest.fixture
def beginning(folder: Path, state: str) -> Beginning:
    """A closed database of twenty rows; none; one whose log is ahead of it; one whose file is missing."""
    folder, told = folder / "beginning", Ledger()
    folder.mkdir()
    path = folder / "life.db"
    if state == "new":
        return Beginning(folder, told)
    ledger.create(path, RAW)
    commit(path, told, 20)
    before = path.read_bytes()
    if state == "behind":
        commit(path, told, 12)
        path.write_bytes(before)
    if state == "missing":
        path.unlink()
    return Beginning(folder, told)


def commit(path: Path, told: Ledger, count: int) -> None:
    """Add rows, in two transactions."""
    db = veritydb.connect(path, key=RAW, isolation_level=None)
    try:
        run(db, told, lambda db, number: ledger.several(db, number, count - 1))
        run(db, told, ledger.single)
    finally:
        db.close()


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
        if not told.attempted:
            with contextlib.suppress(veritydb.Error):
                ledger.make_if_needed(db)
        for step in (ledger.single, lambda db, number: ledger.several(db, number, 20)):
            run(db, told, step)
        with contextlib.suppress(veritydb.Error):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        with contextlib.suppress(*CLOSING) if vfs else contextlib.nullcontext():
            db.close()
        db.close()


def run(db: veritydb.Connection, told: Ledger, step: Callable[[veritydb.Connection, int], None]) -> None:
    """Try one transaction and note what is said about it."""
    number = max(told.attempted, default=0) + 1
    told.attempted.add(number)
    try:
        step(db, number)
    except veritydb.OutcomeUnknown:
        pass
    except veritydb.Error:
        told.refused.add(number)
    else:
        told.acknowledged.add(number)


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


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("layer", LAYERS)
def test_whichever_call_fails_the_caller_is_told_the_truth(
    folder: Path, vfs: FaultyVFS, beginning: Beginning, layer: str, campaign: bool
) -> None:
    for kind in KINDS if campaign else list(KINDS)[:2]:
        for at in range(1, CALLS_MAX):
            if not fail(folder, vfs, beginning, layer, kind, at):
                break
        else:
            raise AssertionError("the calls do not end")


def fail(folder: Path, vfs: FaultyVFS, beginning: Beginning, layer: str, kind: str, at: int) -> bool:
    """Let call ``at`` fail and examine what is left; whether there was such a call."""
    path = folder / "run" / "life.db"
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
