"""What SQLAlchemy's own test suites need to know of a dialect: nothing else than of SQLite.

Loaded by :mod:`sqlalchemy.testing` alone, by this name. SQLAlchemy's module registers its routines for the backend
``sqlite``; here they are registered once more for URLs that begin with ``veritydb``.
"""

from __future__ import annotations

from sqlalchemy.dialects.sqlite import provision as sqlite
from sqlalchemy.testing import provision

provision.temp_table_keyword_args.for_db("veritydb")(provision.temp_table_keyword_args.fns["sqlite"])
provision.upsert.for_db("veritydb")(provision.upsert.fns["sqlite"])

__all__ = ["sqlite"]
