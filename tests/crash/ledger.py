"""The little application that the crash tests run, and what has to be true after any end it may have come to.

A transaction of it is a number. What it writes follows from the number, so that whoever reads the file later can tell
whether a transaction is in it whole, in part, or not at all::

    entries(id, body)   one row, or as many as :func:`rows_of` says, all with the transaction's number
    totals(name, n)     one row that every transaction with more than one statement counts up

:class:`Ledger` keeps what a caller was told; :func:`examine` compares that with the file, the log, and a rebuild.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw

import veritydb
from tests.support import files
from tests.support.content import content, different
from veritydb import keys, opening
from veritydb.replay.compare import differences
from veritydb.replay.rebuilding import rebuild

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SCHEMA = """
CREATE TABLE entries (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX entries_by_number ON entries (number);
CREATE TABLE totals (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO totals VALUES ('transactions', 0);
"""
ROWS_MAX = 1000
"""A transaction has the ids from number * ROWS_MAX on."""


@dataclass(slots=True)
class Ledger:
    """What a caller knows of its transactions."""

    attempted: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    """Those that raised an error which promises that they were rolled back."""

    def add(self, attempted: Iterable[int], acknowledged: Iterable[int]) -> None:
        """Take in what a process has said."""
        self.attempted |= set(attempted)
        self.acknowledged |= set(acknowledged)


def create(path: Path, key: Any = None) -> None:
    """Make the application's database."""
    db = veritydb.connect(path, key=key, isolation_level=None)
    try:
        make_if_needed(db)
    finally:
        db.close()


def make_if_needed(db: veritydb.Connection) -> None:
    """Make the application's tables, all or none, unless they are there."""
    db.execute("BEGIN IMMEDIATE")
    try:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'entries'").fetchall():
            for statement in SCHEMA.split(";")[:-1]:
                db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def body_of(number: int, row: int) -> str:
    """Return the text that row ``row`` of transaction ``number`` has."""
    return f"entry {row} of transaction {number}"


def rows_of(number: int, count: int) -> list[tuple[int, int, str]]:
    """Return the rows of a transaction."""
    return [(number * ROWS_MAX + row, number, body_of(number, row)) for row in range(count)]


def single(db: veritydb.Connection, number: int) -> None:
    """Commit transaction ``number`` as one bare statement; the connection's ``isolation_level`` is None."""
    db.execute("INSERT INTO entries VALUES (?, ?, ?)", rows_of(number, 1)[0])


def several(db: veritydb.Connection, number: int, count: int = 3) -> None:
    """Commit transaction ``number`` as several statements; roll back if one of them fails, as an application does."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows_of(number, count))
        db.execute("SAVEPOINT correction")
        db.execute("UPDATE entries SET body = 'wrong' WHERE number = ?", (number,))
        db.execute("ROLLBACK TO correction")
        db.execute("UPDATE totals SET n = n + ?", (count,))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def examine(path: Path, ledger: Ledger, *, key: Any = None, rebuilt: Path | None = None) -> set[int]:
    """Open the database, which recovers it, and require that it agrees with ``ledger``, its log, and a rebuild.

    Returns the numbers of the transactions that are in it. One more is committed, to see that life goes on.
    """
    db = veritydb.connect(path, key=key, isolation_level=None)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        recovered = _transactions(db)
        lost = ledger.acknowledged - recovered
        assert not lost, f"acknowledged and lost: {sorted(lost)}"
        invented = recovered - ledger.attempted
        assert not invented, f"never attempted: {sorted(invented)}"
        risen = recovered & ledger.refused
        assert not risen, f"reported as rolled back, and there: {sorted(risen)}"
        db.execute("CREATE TABLE IF NOT EXISTS probes (id INTEGER PRIMARY KEY)")
        db.execute("INSERT INTO probes DEFAULT VALUES")
        last_offset = db.last_offset
    finally:
        db.close()
    compare(path, key=key, rebuilt=rebuilt)
    with files.opened_log(path) as log:
        assert log.head.next_offset - 1 == last_offset
    return recovered


def compare(path: Path, *, key: Any = None, rebuilt: Path | None = None) -> None:
    """Require that the chain is whole and a rebuild from the log alone is equal to the file."""
    assert files.chain_is_whole(path)
    target = rebuilt or path.with_name(f"{path.name}.rebuilt-1")
    target.unlink(missing_ok=True)
    rebuild(path, target, key=key)
    with files.opened(path, key) as life, files.opened(target, key) as again:
        for opened in (life, again):
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert (found := differences(life, again)) == [], found
        assert not (told := different(content(life), content(again))), told
    target.unlink()


def _transactions(db: veritydb.Connection) -> set[int]:
    """Return the numbers of the transactions in the file; each has to be there whole."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'entries'").fetchall():
        return set()
    found: dict[int, int] = {}
    for identity, number, body in db.execute("SELECT id, number, body FROM entries ORDER BY id"):
        row = found.get(number, 0)
        assert (identity, body) == (number * ROWS_MAX + row, body_of(number, row))
        found[number] = row + 1
    # Transactions of several statements count their rows in another table: both, or neither.
    counted = sum(count for count in found.values() if count > 1)
    ((total,),) = db.execute("SELECT n FROM totals").fetchall()
    assert total == counted
    return set(found)


def opened(path: Path, log: Path, key: Any) -> apsw.Connection:
    """Open a file that was made from ``log``, with nothing of VerityDB around it."""
    keyring = keys.load_keys(log, keys.normalise(key))
    return opening.open_file(str(path), keyring.current.file_key(), create=False)
