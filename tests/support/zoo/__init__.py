"""SQL programs that cover everything SQLite accepts, one small program a point.

=================  =============================================================================================
``rows.sql``       inserts, updates, deletes, conflicts, rowids, keys, triggers, foreign keys
``values.sql``     storage classes, invalid text, zeroblob, JSON, collations, encodings
``schema.sql``     DDL of every kind, VACUUM, ANALYZE, pragmas, temp tables
``failures.sql``   statements that fail half-way, in all conflict modes; RAISE; savepoints
``virtual.sql``    FTS3, FTS4, FTS5, rtree
``edges.py``       what needs parameters, blob handles, or functions and collations of the application's own
=================  =============================================================================================
"""

from __future__ import annotations

from pathlib import Path

from tests.support.zoo.edges import EDGES
from tests.support.zoo.program import Program, read

PROGRAMS: tuple[Program, ...] = (
    *(program for path in sorted(Path(__file__).parent.glob("*.sql")) for program in read(path)),
    *EDGES,
)

__all__ = ["PROGRAMS", "Program"]
