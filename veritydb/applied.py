"""The AppliedIndex: the row by which a projection says how far it is.

Written in the same SQLite transaction as the rows it speaks of, as a blob of fixed size, so that writing it through a
blob handle leaves ``changes()`` alone. Its bytes are :file:`schemas/files.capnp` ``AppliedIndex``: fixed-size fields
have one layout, so they are packed by position; a test reads them back through the schema.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import apsw

from veritydb.errors import LogMismatch

TABLE = "_veritydb_applied"
# A table made from a query counts no change and moves no last_insert_rowid(), so nobody sees that it was made.
DDL = f"CREATE TABLE main.{TABLE} AS SELECT zeroblob(104) AS applied"
SELECT = f"SELECT applied FROM main.{TABLE} WHERE rowid = 1"

VERSION = 1
SIZE = 104
# Segment table and root pointer of a one-segment message whose root has 11 data words and no pointers.
_PREFIX = bytes.fromhex("000000000c000000000000000b000000")
_LAYOUT = struct.Struct("<16s 16s Q 16s 32s Q I I")
_pack = _LAYOUT.pack
_ZERO_ID = bytes(16)
_ZERO_HASH = bytes(32)


class AppliedIndex(NamedTuple):
    """How far a projection is, and which record made it so."""

    stream: bytes
    """16 bytes."""
    next_offset: int
    """Transactions applied: the projection holds the offsets below."""
    id: bytes
    """Id of the transaction that wrote this, 16 bytes."""
    prev_hash: bytes
    """Chain hash that transaction's record builds on, 32 bytes."""
    segment: int
    """Number of the segment that holds the record, and"""
    position: int
    """the byte in it where the record begins."""


def pack(stream: bytes, next_offset: int, identity: bytes, prev_hash: bytes, segment: int, position: int) -> bytes:
    """Return the 104 bytes of an AppliedIndex, which is given by its fields: each commit makes one."""
    return _pack(_PREFIX, stream, next_offset, identity, prev_hash, position, segment, VERSION)


def unpack(blob: object) -> AppliedIndex:
    """Read what :func:`pack` made. Raises LogMismatch if it is something else."""
    if not isinstance(blob, bytes) or len(blob) != SIZE or blob[:16] != _PREFIX:
        raise LogMismatch(f"the row in {TABLE} is not an AppliedIndex; was the table written by hand?")
    _, stream, next_offset, identity, prev_hash, position, segment, version = _LAYOUT.unpack(blob)
    if version != VERSION:
        raise LogMismatch(f"{TABLE} has format version {version}; this program reads {VERSION}")
    return AppliedIndex(stream, next_offset, identity, prev_hash, segment, position)


def exists(cursor: apsw.Cursor) -> bool:
    """Whether the database has the meta table."""
    sql = f"SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = '{TABLE}'"
    # To the end, and on a cursor that nothing names: a statement left open holds a read lock, and what has a name lives
    # as long as the traceback of an interruption.
    return bool(cursor.connection.execute(sql).fetchall())


def read(cursor: apsw.Cursor) -> AppliedIndex | None:
    """Return the projection's AppliedIndex, or None if it has none."""
    if not exists(cursor):
        return None
    rows = cursor.connection.execute(SELECT).fetchall()
    if not rows:
        raise LogMismatch(f"{TABLE} is empty; was it written by hand?")
    return unpack(rows[0][0])


def write(cursor: apsw.Cursor, index: AppliedIndex) -> None:
    """Set the AppliedIndex by ordinary statements, making the table if need be (redo, rebuild, adopt)."""
    if not exists(cursor):
        cursor.execute(DDL)
    cursor.execute(f"UPDATE main.{TABLE} SET applied = ? WHERE rowid = 1", (pack(*index),))


def first(stream: bytes) -> AppliedIndex:
    """Return the AppliedIndex of an empty projection of ``stream``: nothing applied."""
    return AppliedIndex(stream, 0, _ZERO_ID, _ZERO_HASH, 0, 0)
