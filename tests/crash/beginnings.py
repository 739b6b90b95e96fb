"""Databases in the states that a program may find them in, to be copied and opened again and again."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import veritydb
from tests.crash import ledger
from tests.crash.ledger import Ledger
from tests.support.life import RAW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATES = ("existing", "new", "behind", "missing")
NAME = "life.db"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a run begins with: files, and what is known of them."""

    folder: Path
    told: Ledger


def make(folder: Path, state: str) -> Beginning:
    """A closed database of twenty rows; none; one whose log is ahead of it; one whose file is missing."""
    folder, told = folder / "beginning", Ledger()
    folder.mkdir()
    path = folder / NAME
    if state == "new":
        return Beginning(folder, told)
    ledger.create(path, RAW)
    with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None)) as db:
        db.execute("CREATE TABLE ballast AS SELECT zeroblob(80000) AS body")
    commit(path, told, 20)
    before = path.read_bytes()
    if state == "behind":
        commit(path, told, 12)
        path.write_bytes(before)
    if state == "missing":
        path.unlink()
    return Beginning(folder, told)


def crowded(db: veritydb.Connection, number: int) -> None:
    """Commit a transaction that has pushed all other pages out of the cache, so that the commit reads them again."""
    db.execute("PRAGMA cache_size = 10").fetchall()
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("INSERT INTO entries VALUES (?, ?, ?)", ledger.rows_of(number, 1)[0])
        db.execute("SELECT count(*) FROM ballast WHERE instr(body, x'01')").fetchall()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def commit(path: Path, told: Ledger, count: int) -> None:
    """Add rows, in two transactions."""
    with contextlib.closing(veritydb.connect(path, key=RAW, isolation_level=None)) as db:
        run(db, told, lambda db, number: ledger.several(db, number, count - 1))
        run(db, told, ledger.single)


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
