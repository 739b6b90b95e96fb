"""``Connection.backup`` and ``deserialize``: whole databases out of a connection, and into one in memory.

A VerityDB file is written through its log only, so nothing is copied over it; it is copied with ``veritydb export``,
``VACUUM INTO``, or as files together with its log. The content of an in-memory database can be replaced: its log, in
memory as well, says in a new generation what it begins with.
"""

# What replaces a database under a session looks into it.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw

from veritydb import applied, reading
from veritydb.applied import AppliedIndex
from veritydb.constants import SQLITE_BUSY, SQLITE_DONE, SQLITE_LOCKED, SQLITE_OK
from veritydb.errors import NotSupportedError, OperationalError
from veritydb.events import Event
from veritydb.records import Spilled, one_transaction

if TYPE_CHECKING:
    from veritydb.session import Session

Progress: TypeAlias = "Callable[[int, int, int], object] | None"

_WAL = b"\2\2"
_ROLLBACK = b"\1\1"
_VERSIONS = slice(18, 20)
"""Bytes of the header that say which journal the file's readers have to know (https://sqlite.org/fileformat2.html)."""
_PENDING_BYTES_MAX = 1024 * 1024
"""What is kept in memory before it becomes a part of its own."""


# Out of a database ----------------------------------------------------------------------------------------------------


def between(source: Session, target: Session, *, pages: int, progress: Progress, name: str, sleep: float) -> None:
    """Copy database ``name`` of ``source`` over the main database of ``target``, which has to be in memory."""
    if name not in source.db.db_names():
        raise OperationalError(f"unknown database {name}")
    if source.stream.keyring is None and target.stream.keyring is None:
        replace_content(target, lambda: _copy(source.db, target.db, pages, progress, name, sleep))
        return
    # SQLite copies no pages between an encrypted database and one that is not.
    image = _image(source, name)
    replace_content(target, lambda: target.db.deserialize("main", image))
    if progress is not None:
        progress(SQLITE_DONE, 0, int(source.db.pragma("page_count", schema=name)))


def _copy(
    source: apsw.Connection, target: apsw.Connection, pages: int, progress: Progress, name: str, sleep: float
) -> None:
    with target.backup("main", source, name) as copy:
        code: int = SQLITE_OK
        while code != SQLITE_DONE:
            try:
                code = SQLITE_DONE if copy.step(pages or -1) else SQLITE_OK
            except (apsw.BusyError, apsw.LockedError) as error:
                code = int(getattr(error, "extendedresult", SQLITE_BUSY))
            if progress is not None:
                progress(code, copy.remaining, copy.page_count)
            if code & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED):
                time.sleep(sleep)


def to_standard(source: Session, target: Any, *, pages: int, progress: Progress, name: str, sleep: float) -> None:
    """Copy database ``name`` of ``source``, in clear, over the main database of a standard connection."""
    image = _image(source, name)
    copy = sqlite3.connect(":memory:")
    try:
        if image:
            copy.deserialize(image)
        copy.backup(target, pages=pages, progress=progress, sleep=sleep)
    finally:
        copy.close()


def _image(source: Session, name: str) -> bytes:
    return _without_wal(source.guard(lambda: source.db.serialize(name)) or b"")


def _without_wal(data: bytes) -> bytes:
    # An image in memory has no WAL, and is not opened if it says so.
    if data[_VERSIONS] != _WAL:
        return data
    image = bytearray(data)
    image[_VERSIONS] = _ROLLBACK
    return bytes(image)


def is_standard(target: object) -> bool:
    """Whether ``target`` is a connection of the standard module."""
    return isinstance(target, sqlite3.Connection)


# Into a database ------------------------------------------------------------------------------------------------------


def deserialize(session: Session, name: str, data: bytes) -> None:
    """Make ``data``, the bytes of a database file, the content of database ``name``, which has to be in memory."""
    if name == "main":
        image = _without_wal(data)  # The file of every database with a log is in WAL mode.
        replace_content(session, lambda: session.db.deserialize("main", image))
    else:
        raise NotSupportedError(f"only the main database can be replaced, not {name}; attach a file, or open it alone")


def replace_content(session: Session, replace: Callable[[], object]) -> None:
    """Run ``replace``, which puts another database in the place of an in-memory one, and begin its log anew.

    Raises NotSupportedError for a file, OperationalError inside a transaction; then nothing has changed.
    """
    if session.stream.path:
        raise NotSupportedError(
            f"{session.stream.path} is written through its log only, and nothing was changed. Copy into an in-memory "
            "database, make a plain copy with `veritydb export` or VACUUM INTO, or adopt a copy with `veritydb adopt`"
        )
    if session.db.in_transaction:
        raise OperationalError("destination database is in use")
    capture, planner = session.capture, session.planner
    planner.internal += 1
    try:
        capture.pause()
        session.guard(replace)
        session.guard(lambda: _log_content(session))
    finally:
        planner.internal -= 1
        capture.enabled = True
        planner.forget()
    session.fresh = False


def _log_content(session: Session) -> None:
    # A note says that what follows begins with an empty database; one transaction then makes its content.
    db, log, writer = session.db, session.stream.log, session._writer
    cursor = db.cursor()
    if applied.exists(cursor):
        cursor.execute(f"DROP TABLE main.{applied.TABLE}")  # Of the database that was copied.
    identity = os.urandom(16)
    spilled = Spilled(None, writer.sealer, session._recovery.opener, identity)
    log.acquire(session.transactions.timeout)
    try:
        writer.note([reading.genesis(db)])
        pending: list[Event] = []
        size = 0
        for event, event_size in reading.content(db):
            if pending and size + event_size > _PENDING_BYTES_MAX:
                spilled.add(pending)
                pending, size = [], 0
            pending.append(event)
            size += event_size
        head = log.head
        place = log.place()
        index = AppliedIndex(log.stream, head.next_offset + 1, identity, head.hash, place.segment, place.position)
        body = one_transaction(identity, session.actor, session.reason_text, pending)
        writer.commit(identity, body, spilled if spilled.count else None)
        applied.write(cursor, index)
    finally:
        spilled.close()
        log.release()
        cursor.close()
    session.transactions.last_offset = log.head.next_offset - 1
    session.capture.schema_changed()
