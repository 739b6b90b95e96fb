"""Incremental blob I/O, captured.

SQLite reports such a write as the deletion of the row, without the bytes. So a write goes through here: each opens the
blob for a moment inside a joined transaction and adds a :class:`~veritydb.events.BlobWrite` with what was there before.
Holding no handle open in between means that nothing stands in the way of a COMMIT or a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from veritydb.errors import StatementRefused
from veritydb.events import BlobWrite
from veritydb.refusals import attached, meta_table, reserved
from veritydb.translation import translated

if TYPE_CHECKING:
    from veritydb.session import Session


class BlobHandle:
    """One value, opened for incremental I/O. Offsets and lengths are bytes."""

    __slots__ = ("_column", "_name", "_row", "_session", "_table", "_watch", "length", "readonly")

    def __init__(self, session: Session, table: str, column: str, row: int, *, readonly: bool, name: str) -> None:
        """Raise OperationalError if there is no such value, StatementRefused for an attached database."""
        if not readonly and name not in ("main", "temp"):
            raise StatementRefused(f"{attached(name)}; nothing was changed")
        if not readonly and reserved(table):
            raise StatementRefused(f"{meta_table(table)}; nothing was changed")
        self._session = session
        self._table = table
        self._column = column
        self._row = row
        self._name = name
        self.readonly = readonly
        self._watch: apsw.Blob | None = None
        try:
            probe = self._open(write=False)
        except apsw.Error as error:
            raise translated(error) from error
        self.length: int = probe.length()
        if session.db.in_transaction:
            self._watch = probe  # SQLite expires it when the row changes, which a later read or write must notice.
        else:
            probe.close()

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; the caller keeps both inside the value."""
        with self._session.gate:
            return self._read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``; the caller keeps it inside the value."""
        with self._session.gate:
            self._write(offset, data)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            self._check()
            blob = self._open(write=False)
            try:
                blob.seek(offset)
                return bytes(blob.read(length))
            finally:
                blob.close()
        except apsw.Error as error:
            raise translated(error) from error

    def _write(self, offset: int, data: bytes) -> None:
        session = self._session
        try:
            self._check()
            if self._name == "temp":
                watched = self._watch is not None
                self._put(offset, data)
                if watched:
                    self._watch = self._open(write=False)
                return
            bare = session.enter_write()
            session.statement_mark()
            watched = self._watch is not None
            try:
                session.capture.pause()
                before = self._put(offset, data)
                session.capture.add(BlobWrite(self._table, self._row, self._column, offset, data, before))
            except BaseException as error:
                if bare:
                    session.abandon()
                elif not isinstance(error, apsw.Error):
                    session.capture.poison = error  # It may have been written, and not logged.
                raise
            finally:
                session.capture.enabled = True
            if watched:
                self._watch = self._open(write=False)
        except apsw.Error as error:
            raise translated(error) from error
        if bare:
            session.commit_bare()

    def close(self) -> None:
        """Let go of the value."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close(True)

    def _put(self, offset: int, data: bytes) -> bytes:
        self.close()
        blob = self._open(write=True)
        try:
            blob.seek(offset)
            before = bytes(blob.read(len(data)))
            blob.seek(offset)
            blob.write(data)
        finally:
            blob.close()
        return before

    def _check(self) -> None:
        if self._watch is not None and self.length:
            self._watch.seek(0)
            self._watch.read(1)

    def _open(self, *, write: bool) -> apsw.Blob:
        planner = self._session.planner
        planner.internal += 1
        try:
            return self._session.db.blob_open(self._name, self._table, self._column, self._row, write)
        finally:
            planner.internal -= 1
