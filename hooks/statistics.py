"""``sqlite_stat*``: the planner's statistics, of whose changes SQLite reports some.

ANALYZE, DROP INDEX and DROP TABLE report rows of ``sqlite_stat1`` and never of ``sqlite_stat4``. They are ordinary data
that people may write too, so at the commit the content of all of them is logged, if it changed.
"""

from __future__ import annotations

from veritydb.hooks.catalog import STATISTICS
from veritydb.hooks.late import Host, Late


class Statistics:
    """Whether the statistics of one transaction are to be logged."""

    __slots__ = ("_host", "_late", "due")

    def __init__(self, host: Host, late: Late) -> None:
        self._host = host
        self._late = late
        self.due = False

    def settle(self) -> None:
        """Log those of the tables that have changed since the transaction began."""
        for name in STATISTICS:
            if name in self._host.catalog.tables_present and not self._late.is_unchanged(name):
                self._late.add_content(name, clear=True)
