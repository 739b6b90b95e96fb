"""What the database can do: what Django's SQLite backend says, of the SQLite that VerityDB brings along.

Django decides some of it by the version of the standard module's SQLite, which is another one and often older.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import features
from django.utils.functional import cached_property

_DOUBLE_QUOTES = "SQLite does not parse escaped double quotes in the JSON path notation"


class DatabaseFeatures(features.DatabaseFeatures):
    """The flags that Django's tests and its ORM ask for."""

    can_alter_table_drop_column = True  # SQLite 3.35.5
    can_return_columns_from_insert: Any = True  # SQLite 3.35
    can_return_rows_from_bulk_insert: Any = True

    @cached_property
    def django_test_skips(self) -> Any:
        """Tests of Django's that are not for SQLite, by reason."""
        parent: Any = super()
        skips: dict[str, set[str]] = dict(parent.django_test_skips)
        skips.pop(_DOUBLE_QUOTES, None)  # It does since 3.47.
        return skips
