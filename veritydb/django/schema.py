"""Migrations. Django's editor makes many changes by making a table anew: new table, INSERT … SELECT, drop, rename.

The log has each of these statements and each row that they move; nothing here changes how it is done.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import schema

import veritydb


class DatabaseSchemaEditor(schema.DatabaseSchemaEditor):
    """Django's editor for SQLite."""

    def quote_value(self, value: Any) -> str:
        """Return ``value`` as SQL, by the adapters of VerityDB: the standard module's are not ours."""
        quoted: str = super().quote_value(veritydb.adapt(value, veritydb.PrepareProtocol, value))
        return quoted
