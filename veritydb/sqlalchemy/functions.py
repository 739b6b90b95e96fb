"""The SQL functions that SQLAlchemy adds to every SQLite connection.

They are a module of their own because a schema may use them, in a CHECK or in an index. Replaying such a schema needs
them: ``veritydb replay … --register veritydb.sqlalchemy:register``. The dialect gives :func:`register` to every
connection, so that recovery has them, too.
"""

from __future__ import annotations

import math
import re
from typing import Any


def register(connection: Any) -> None:
    """Add ``regexp(pattern, text)``, which is SQL's ``text REGEXP pattern``, and ``floor(number)``."""
    connection.create_function("regexp", 2, _regexp, deterministic=True)
    connection.create_function("floor", 1, math.floor, deterministic=True)


def _regexp(pattern: str, text: str | None) -> bool | None:
    return None if text is None else re.search(pattern, text) is not None
