"""Catching up: a projection that is behind its log gets the transactions that it lacks.

:mod:`veritydb.recovery` drives it, at open and when a transaction joins, inside the one SQLite transaction in which
AppliedIndex and rows change together (DESIGN.md, invariants 2 and 4), with capture switched off.
"""

from __future__ import annotations

import apsw

from veritydb import applied
from veritydb.applied import AppliedIndex
from veritydb.log import Place
from veritydb.records import Reader, Transaction
from veritydb.replay.applier import Applier
from veritydb.replay.registering import Register, prepare


def redo(
    db: apsw.Connection,
    reader: Reader,
    index: AppliedIndex,
    *,
    register: Register = None,
) -> AppliedIndex:
    """Apply all transactions from ``index`` on and write the new AppliedIndex; the caller begins and commits.

    Raises ReplayMismatch, MissingFunction, and what reading the log or SQLite raises; the caller then rolls back.
    """
    prepare(db, register)
    place = Place(index.segment, index.position) if index.next_offset else None
    with Applier(db) as applier:
        for transaction in reader.transactions(index.next_offset, place=place):
            for event in transaction.events:
                applier.apply(event)
            applier.finish()
            index = index_after(transaction, index.stream)
        applied.write(db.cursor(), index)
    return index


def index_after(transaction: Transaction, stream: bytes) -> AppliedIndex:
    """Return the AppliedIndex of a projection whose last transaction is ``transaction``."""
    record = transaction.record
    return AppliedIndex(
        stream,
        transaction.offset + 1,
        transaction.id,
        record.header.prev_hash,
        record.place.segment,
        record.place.position,
    )
