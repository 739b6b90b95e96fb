"""The witnesses: virtual tables that only listen to their transaction.

SQLite tells a virtual table that has joined a transaction about every savepoint, every partial rollback (a statement's
own included) and the coming commit, https://www.sqlite.org/vtab.html#the_xsavepoint_xrelease_and_xrollbackto_methods.
Ours are eponymous-only, so the schema shows no trace of them.

The *head* joins before a transaction's first change. A *tail* joins after another virtual table has: SQLite tells its
virtual tables in the order in which they joined, FTS writes out its index when it hears of a savepoint, and those rows
lie before the savepoint. So the mark that counts is that of the last witness.

They join by ``DELETE FROM … WHERE 0``. With a plan that promises at most one row SQLite opens no statement journal for
it, which would make FTS write; ``last_insert_rowid()`` and ``total_changes()`` keep their values.
"""

from __future__ import annotations

from typing import Protocol

import apsw

HEAD = "_veritydb_head"
TAIL = "_veritydb_tail"


class Listener(Protocol):
    """Who wants to know: :class:`veritydb.hooks.capture.Capture`. ``source`` is the witness that speaks."""

    def on_begin(self, source: Witness) -> None:
        """Handle the witness's entry into a transaction."""
        ...

    def on_savepoint(self, source: Witness, level: int) -> None:
        """Handle the making of savepoint ``level``, counted from 0; a statement's own are above the user's."""
        ...

    def on_rollback_to(self, level: int) -> None:
        """Handle the rollback to savepoint ``level``, which stays; -1 is the beginning of the transaction."""
        ...

    def on_release(self, level: int) -> None:
        """Handle the release of savepoint ``level`` and those above it."""
        ...

    def on_sync(self, source: Witness) -> None:
        """Handle the announcement of the commit. SQL is allowed."""
        ...

    def on_end(self, *, committed: bool) -> None:
        """Handle the end of the transaction."""
        ...


class Witness:
    """The table. APSW looks its methods up by name and calls those there are."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def BestIndexObject(self, index: apsw.IndexInfo) -> bool:
        """Promise at most one row, for which a DELETE needs no statement journal."""
        index.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE
        index.estimatedRows = 1
        index.estimatedCost = 1.0
        return True

    def UpdateDeleteRow(self, rowid: int) -> None:
        """Delete nothing: there are no rows. APSW wants the method to be there for a table that may be written."""

    def Disconnect(self) -> None:
        """Nothing to let go."""

    def Destroy(self) -> None:
        """Nothing to let go."""

    def Begin(self) -> None:
        """Join."""
        self._listener.on_begin(self)

    def Savepoint(self, level: int) -> None:
        """Hear of a savepoint."""
        self._listener.on_savepoint(self, level)

    def Sync(self) -> None:
        """Hear of the coming commit."""
        self._listener.on_sync(self)


class Head(Witness):
    """The first to join."""

    __slots__ = ()

    def RollbackTo(self, level: int) -> None:
        """Hear of a partial rollback."""
        self._listener.on_rollback_to(level)

    def Release(self, level: int) -> None:
        """Hear of a release."""
        self._listener.on_release(level)

    def Commit(self) -> None:
        """Hear that it is done."""
        self._listener.on_end(committed=True)

    def Rollback(self) -> None:
        """Hear that it is undone."""
        self._listener.on_end(committed=False)


class Module:
    """What SQLite asks for the table, once a connection."""

    __slots__ = ("_witness",)

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    def Connect(self, *_: object) -> tuple[str, Witness]:
        """Return the table."""
        return "CREATE TABLE witness(unused)", self._witness

    Create = Connect


def install(db: apsw.Connection, name: str, witness: Witness) -> str:
    """Make ``witness`` known to ``db`` and return the statement by which it joins a transaction."""
    # Version 2 has the savepoint methods. From version 3 on APSW keeps one of 33 process-wide slots for each module, so
    # the seventeenth connection could not be opened.
    db.create_module(name, Module(witness), iVersion=2, eponymous_only=True, use_bestindex_object=True)  # type: ignore[arg-type]  # APSW's stub wants all methods
    return f"DELETE FROM main.{name} WHERE 0"
