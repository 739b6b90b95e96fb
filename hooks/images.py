"""What is known of a table whose rows the hook reports, and what must be mended in its row images.

:mod:`veritydb.hooks.catalog` makes the :class:`Table` objects, the hook attaches one to each run, so that a run keeps
what was true when its rows were changed, whatever a later statement does to the schema. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from veritydb.events import RawText, Value


class Kind(IntEnum):
    """What the hook does with the rows of a table."""

    PLAIN = 0
    """Keep them."""
    LATE = 1
    """The images cannot be had (VIRTUAL generated columns): remember the rowid, read the row later."""
    IGNORED = 2
    """Our own meta table."""
    SEQUENCE = 3
    """``sqlite_sequence``: its end state is logged."""
    STATISTICS = 4
    """``sqlite_stat*``: not all of its changes are reported, so the whole content is logged."""
    FORBIDDEN = 5
    """``sqlite_schema``, written by hand: no statement could repeat it."""


class Table:
    """One table of the schema ``main``, as it is between two schema changes."""

    __slots__ = ("autoincrement", "hidden", "kind", "name", "owner", "real_columns", "resolved", "without_rowid")

    def __init__(self, name: str, kind: Kind = Kind.PLAIN, *, resolved: bool = True) -> None:
        self.name = name
        self.kind = kind
        self.without_rowid = False
        self.autoincrement = False
        self.hidden = False
        """Whether columns have all the names of the rowid, so that no query tells it."""
        self.owner = ""
        """The virtual table of which this is a shadow table."""
        self.real_columns: tuple[int, ...] = ()
        """Places of the columns of REAL affinity that have a default."""
        self.resolved = resolved
        """False for a table that the statement now running has made: the catalog is read when it is over."""


def mend_short_rows(values: list[Value], width: int, columns: Sequence[int]) -> list[Value]:
    """Give back to ``columns`` the affinity REAL that before images of short rows lack.

    ``values`` are those of all rows, row by row. One written before ``ALTER TABLE … ADD COLUMN r REAL DEFAULT 7`` does
    not store the column, and SQLite's ``sqlite3_preupdate_old`` then reports the default as it was written, an integer,
    where a query says 7.0. In such a column a stored integer can never be anything else: REAL affinity makes a REAL of
    every integer.
    """
    for column in columns:
        found = values[column::width]
        if int in map(type, found):
            values = values.copy()
            values[column::width] = [float(value) if type(value) is int else value for value in found]
    return values


def exact_text(raw: bytes, encoding: str) -> Value:
    """Return the value of TEXT stored as ``raw``: a str if binding it stores these bytes again, otherwise the bytes."""
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return RawText(raw)
    if encoding != "utf-8" and ("\ufffe" in text or "\uffff" in text):
        return RawText(raw)  # SQLite's translation from UTF-8 makes U+FFFD of the two.
    return text


def has_real_affinity(declared: str) -> bool:
    """Whether a column of type ``declared`` has affinity REAL (https://www.sqlite.org/datatype3.html, 3.1)."""
    declared = declared.upper()
    if "INT" in declared or "CHAR" in declared or "CLOB" in declared or "TEXT" in declared or "BLOB" in declared:
        return False
    return "REAL" in declared or "FLOA" in declared or "DOUB" in declared
