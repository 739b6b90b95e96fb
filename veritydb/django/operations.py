"""SQL that differs by database: here only what Django decides by the version of the standard module's SQLite."""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from django.db.backends.sqlite3 import operations


class DatabaseOperations(operations.DatabaseOperations):
    """Django's SQL for SQLite."""

    def force_group_by(self) -> list[str]:
        """Return what HAVING without GROUP BY needs: nothing since SQLite 3.39."""
        return []
