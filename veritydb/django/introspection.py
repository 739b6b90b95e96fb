"""What is in the database, for ``inspectdb``, ``flush`` and the schema editor: all that the program put there.

The one table that VerityDB keeps in a file, and any other under its prefix, is not among it.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import introspection

from veritydb.refusals import reserved


class DatabaseIntrospection(introspection.DatabaseIntrospection):
    """Reads the schema."""

    def get_table_list(self, cursor: Any) -> list[Any]:
        """Return the tables and views of the program."""
        return [table for table in super().get_table_list(cursor) if not reserved(table.name)]
