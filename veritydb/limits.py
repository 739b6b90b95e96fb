"""Limits that a program sets (``setlimit``), which bind its statements and not ours.

SQLite has one set of limits a connection. A program that takes SQL from strangers lowers them, as
https://www.sqlite.org/security.html advises; our own statements, which read a table's columns or write the
AppliedIndex, are then no longer possible. They run between ``planner.internal += 1`` and ``-= 1``, so that is where
the limits are lifted. Only a connection with a lowered limit pays for that: its planner becomes a
:class:`BoundedPlanner`.
"""

from __future__ import annotations

from typing import Any

import apsw

from veritydb.planner import Planner


class BoundedPlanner(Planner):
    """The planner of a connection of which a limit was lowered."""

    other: dict[int, int]
    """By limit: the value that does not hold now. Outside our own statements SQLite's, inside them the program's."""
    _inside: int

    @property
    def internal(self) -> Any:
        """How many of our own statements run, one inside the other."""
        return self._inside

    @internal.setter
    def internal(self, value: int) -> None:
        if (value > 0) != (self._inside > 0):
            self._exchange()
        self._inside = value

    def _exchange(self) -> None:
        done: list[int] = []
        try:
            for category, value in self.other.items():
                self.other[category] = self._db.limit(category, value)
                done.append(category)
        except BaseException:  # A signal's exception: half of it must not stay.
            for category in done:
                self.other[category] = self._db.limit(category, self.other[category])
            raise


def set_limit(planner: Planner, db: apsw.Connection, category: int, limit: int) -> int:
    """Set a limit for the program's statements, unless ``limit`` is negative; return what it was."""
    before = int(db.limit(category, limit))
    if limit >= 0:
        if not isinstance(planner, BoundedPlanner):
            other: dict[int, int] = {}
            planner.__dict__.update(other=other, _inside=planner.__dict__.pop("internal"))
            planner.__class__ = BoundedPlanner
            assert isinstance(planner, BoundedPlanner)
        planner.other.setdefault(category, before)
    return before
