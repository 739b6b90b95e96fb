"""One value that stands for the whole schema of a database.

A session takes it after every schema statement and logs it with the statement; replay takes it again and compares, so
that a statement that means something else today (another SQLite, another setting) is found where it happens.
"""

from __future__ import annotations

import apsw
from blake3 import blake3

from veritydb import applied

SIZE = 16
"""Bytes of a digest: BLAKE3-128."""

# The statistics tables are made by ANALYZE, which is not logged as a statement; the meta table is ours. GLOB, because
# "_" is a wildcard of LIKE.
_SCHEMA = (
    "SELECT type, name, tbl_name, sql FROM main.sqlite_schema "
    f"WHERE name NOT GLOB 'sqlite_stat[0-9]' AND name <> '{applied.TABLE}' ORDER BY type, name, tbl_name, sql"
)


def schema_digest(db: apsw.Connection) -> bytes:
    """Return the BLAKE3-128 of the main schema: type, name, tbl_name and sql of every object, sorted."""
    # ascii() writes every value so that it cannot run into the next one, and alike in every version of Python.
    text = ascii(db.execute(_SCHEMA).fetchall())
    return blake3(text.encode("ascii")).digest(SIZE)
