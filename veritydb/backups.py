"""``Connection.backup``: pages out of a database, into one in memory or one of the standard :mod:`sqlite3`.

A VerityDB file is written through its log only, so it cannot be a target; it is copied with ``veritydb export``,
``VACUUM INTO``, or as files together with its log. An in-memory database can: its log, in memory as well, starts anew.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw

from veritydb.constants import SQLITE_BUSY, SQLITE_DONE, SQLITE_LOCKED, SQLITE_OK
from veritydb.translation import translated

if TYPE_CHECKING:
    from veritydb.session import Session

Progress: TypeAlias = "Callable[[int, int, int], object] | None"

_WAL = b"\2\2"
_ROLLBACK = b"\1\1"
_VERSIONS = slice(18, 20)
"""Bytes of the header that say which journal the file's readers have to know (https://sqlite.org/fileformat2.html)."""


def between(
    source: Session, target: Session, *, pages: int, progress: Progress, name: str, sleep: float
) -> None:
    """Copy database ``name`` of ``source`` over the main database of ``target``, which has to be in memory."""
    target.guard(lambda: target.replace_content(lambda: _copy(source, target, pages, progress, name, sleep)))


def _copy(source: Session, target: Session, pages: int, progress: Progress, name: str, sleep: float) -> None:
    with target.db.backup("main", source.db, name) as copy:
        while True:
            code = SQLITE_OK
            try:
                if copy.step(pages or -1):
                    code = SQLITE_DONE
            except (apsw.BusyError, apsw.LockedError) as error:
                code = error.extendedresult
            if progress is not None:
                progress(code, copy.remaining, copy.page_count)
            if code == SQLITE_DONE:
                return
            if code & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED):
                time.sleep(sleep)


def to_standard(
    source: Session, target: Any, *, pages: int, progress: Progress, name: str, sleep: float
) -> None:
    """Copy database ``name`` of ``source``, in clear, over the main database of a standard connection."""
    try:
        data = source.db.serialize(name)
    except apsw.Error as error:
        raise translated(error) from error
    image = bytearray(data or b"")
    if image[_VERSIONS] == _WAL:
        image[_VERSIONS] = _ROLLBACK  # An image in memory has no WAL, and is not opened if it says so.
    between_them = sqlite3.connect(":memory:")
    try:
        between_them.deserialize(bytes(image))
        between_them.backup(target, pages=pages, progress=progress, sleep=sleep)
    finally:
        between_them.close()


def is_standard(target: object) -> bool:
    """Whether ``target`` is a connection of the standard module."""
    return isinstance(target, sqlite3.Connection)


def kind(target: object) -> str:
    """Return what an error message calls ``target``."""
    return "None" if target is None else type(target).__name__
