"""What SQLAlchemy's own test suites need to know of a dialect: nothing else than of SQLite.

Loaded by :mod:`sqlalchemy.testing` alone, by this name. SQLAlchemy's module registers its routines for the backend
``sqlite``; here they are registered once more for URLs that begin with ``veritydb``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects.sqlite import provision as sqlite
from sqlalchemy.testing import provision

_provision: Any = provision  # It has no types.
for _routine in (_provision.temp_table_keyword_args, _provision.upsert, _provision.profile_platform_tokens):
    _routine.for_db("veritydb")(_routine.fns["sqlite"])

__all__ = ["sqlite"]
