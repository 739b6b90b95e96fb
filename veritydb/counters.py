"""What ``changes()``, ``total_changes()`` and ``last_insert_rowid()`` answer while we work in between.

A program may steer by them (``INSERT … WHERE changes() = 0``), so they must be what plain SQLite would say. Three
things of ours would show: the witness joins by a DELETE, which sets ``changes()`` to 0; statements of our own, such as
redo, change rows; and a virtual table that writes out its index does so in our COMMIT instead of in the bare statement
that SQLite would have ended by itself. SQLite lets the last rowid be set; the other two are answered here, by functions
that take the place of the built-in ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import apsw


class Counters:
    """The counters of one connection. Driven by :mod:`veritydb.session` and :mod:`veritydb.transaction`."""

    __slots__ = ("_db", "_hidden", "_seen", "changes")

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._hidden = 0
        self._seen = 0
        self.changes: int | None = None
        """What ``changes()`` is, if SQLite has lost it; None: as SQLite has it."""
        # Without arguments, which APSW's types do not know of.
        db.create_scalar_function("changes", self.current, 0)  # type: ignore[arg-type]  # the stub wants SQL's arguments, of which there are none
        db.create_scalar_function("total_changes", self.total, 0)  # type: ignore[arg-type]  # the stub wants SQL's arguments, of which there are none

    def total(self) -> int:
        """Return how many rows the program has changed since the connection was opened."""
        return self._db.total_changes() - self._hidden

    def hold(self, changes: int) -> None:
        """Answer ``changes`` until SQLite counts anew."""
        self.changes = changes
        self._seen = self._db.changes()

    def undo(self, changes: int) -> None:
        """Count nothing of a bare statement that has changed so many rows, for it did not commit.

        What its triggers and foreign keys did stays counted: SQLite has added that before it knew.
        """
        self._hidden += changes
        self.hold(0)

    @contextlib.contextmanager
    def kept(self) -> Generator[None]:
        """Let nothing that happens inside be seen."""
        db = self._db
        changes = self.current()
        total, rowid = db.total_changes(), db.last_insert_rowid()
        try:
            yield
        finally:
            self._hidden += db.total_changes() - total
            db.set_last_insert_rowid(rowid)
            self.hold(changes)

    def current(self) -> int:
        """Return what ``changes()`` is."""
        changes = self._db.changes()
        # A trigger of the running statement may have changed rows since, and asks for that.
        return changes if self.changes is None or changes != self._seen else self.changes
