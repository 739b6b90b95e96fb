"""Bringing a file and its log together: first use, redo, cuts, and the cases that are refused.

A projection may be behind its log (a process died between log and file): what is missing is redone. It may never be
ahead of it, nor belong to another log: then somebody replaced a file, and going on would lose one of the two histories.
Driven by :mod:`veritydb.session` at open and by :mod:`veritydb.transaction` when a transaction joins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from veritydb import applied, opening
from veritydb.applied import AppliedIndex
from veritydb.errors import LogMismatch, OperationalError
from veritydb.events import Cut, Genesis
from veritydb.log import Head, Place, Replicator
from veritydb.records import Reader, Writer
from veritydb.sealing import Opener
from veritydb.streams import Stream, sync_folder
from veritydb.version import SOFTWARE


class Recovery:
    """What one connection knows about its stream beyond the next append."""

    def __init__(self, name: str, opener: Opener, *, register: Callable[[Any], object] | None) -> None:
        self._name = name
        self.opener = opener
        self.register = register
        self.agreed: tuple[AppliedIndex, Head] | None = None
        """What is known to belong together, so that it need not be read again."""

    def check(self, log: Replicator, index: AppliedIndex) -> None:
        """Raise LogMismatch unless ``index`` describes a projection of this log, at or behind its end."""
        if index.stream != log.stream:
            raise LogMismatch(
                f"{self._name} belongs to stream {index.stream.hex()}, its log to {log.stream.hex()}: one of them was "
                "replaced. Put the right log back, or rebuild the file from this log (veritydb replay)"
            )
        if index.next_offset > log.head.next_offset:
            raise LogMismatch(
                f"{self._name} holds {index.next_offset} transactions and its log {log.head.next_offset}: the file is "
                "ahead of the log, so the log was cut or replaced. Put the right log back, or rebuild the file from "
                "this log (veritydb replay)"
            )
        if index.next_offset == 0 or (index, log.head) == self.agreed:
            return
        place = Place(index.segment, index.position)
        for record in log.records(index.next_offset - 1, place=place):
            header = record.header
            same = header.first_offset + header.transaction_count == index.next_offset and header.id == index.id
            if same and header.prev_hash == index.prev_hash:
                return
            break
        raise LogMismatch(
            f"transaction {index.next_offset - 1} of {self._name} is another one in its log: the two come from "
            "different histories. Put the right log back, or rebuild the file from this log (veritydb replay)"
        )

    def cut(self, log: Replicator, writer: Writer) -> None:
        """Cut the torn tail, which nobody was told had committed, and say so in the log. Both locks are held."""
        torn = log.torn
        assert torn is not None
        log.cut(torn)
        if log.shared:
            return  # The group has what it has; if this was of it, it comes again.
        writer.note([Cut(torn.segment_name, torn.position, torn.length, torn.why)])

    def initialise(
        self, db: apsw.Connection, cursor: apsw.Cursor, log: Replicator, writer: Writer, timeout: float
    ) -> None:
        """Give an empty database its AppliedIndex and an empty log its first record. Nothing is open."""
        cursor.execute("BEGIN IMMEDIATE")
        try:
            log.acquire(timeout)
            try:
                if log.torn is not None:
                    self.cut(log, writer)
                if not applied.exists(cursor):
                    if log.head.next_offset:
                        raise LogMismatch(
                            f"{self._name} is empty while its log has records; open it again to rebuild it"
                        )
                    writer.note([genesis_of(cursor)])
                    applied.write(cursor, applied.first(log.stream))
                cursor.execute("COMMIT")
            finally:
                log.release()
        except BaseException:
            if db.in_transaction:
                cursor.execute("ROLLBACK")
            raise

    def run(self, db: apsw.Connection, cursor: apsw.Cursor, log: Replicator, writer: Writer, *, timeout: float) -> None:
        """Redo what the log has and the file does not, under both locks, in one SQLite transaction.

        The caller has switched capture off. Raises what redo raises; the file is then as it was.
        """
        cursor.execute("BEGIN IMMEDIATE")
        try:
            log.acquire(timeout)
            try:
                if log.torn is not None:
                    self.cut(log, writer)
                log.follow(timeout)
                index = applied.read(cursor)
                assert index is not None
                self.check(log, index)
                if index.next_offset < log.head.next_offset:
                    from veritydb.replay.redo import redo

                    redo(db, Reader(log, self.opener), index, register=self.register)
                cursor.execute("COMMIT")
            finally:
                log.release()
        except BaseException:
            if db.in_transaction:
                cursor.execute("ROLLBACK")
            raise


def restore(stream: Stream, *, key: Any, register: Callable[[Any], object] | None, timeout: float) -> None:
    """Make the missing file of ``stream`` from its log, and close ``stream``.

    Under the log's lock, so that of several processes that find the file missing one makes it. What is left of a
    write-ahead log must go first: SQLite would apply it to a file that it does not belong to.
    """
    stream.db.close(True)
    path = Path(stream.path)
    unfinished = path.with_name(f"{path.name}.rebuilding-{os.urandom(4).hex()}")
    log = stream.log
    try:
        log.acquire(timeout)
        try:
            if _is_made(stream, timeout):
                return
            from veritydb.replay.rebuilding import rebuild

            rebuild(log.folder, unfinished, key=key, register=register)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            unfinished.replace(path)
            sync_folder(path.parent)
        finally:
            log.release()
    except OSError as error:
        raise OperationalError(f"{path} cannot be made from its log: {error}; the log is as it was") from error
    finally:
        log.close()
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _is_made(stream: Stream, timeout: float) -> bool:
    """Whether somebody has made the file meanwhile. One with a header and nothing in it was begun, and not made."""
    file_key = stream.keyring.current.file_key() if stream.keyring is not None else None
    try:
        db = opening.open_file(stream.path, file_key, create=False)
        with contextlib.closing(db):
            db.set_busy_timeout(int(timeout * 1000))
            return applied.exists(db.cursor())
    except apsw.CantOpenError:
        return False


def genesis_of(cursor: apsw.Cursor) -> Genesis:
    """Return the header fields that a rebuilt file must be given before its first table."""
    return Genesis(
        encoding=str(cursor.execute("PRAGMA encoding").get),
        page_size=int(cursor.execute("PRAGMA page_size").get),
        auto_vacuum=int(cursor.execute("PRAGMA auto_vacuum").get),
        software=SOFTWARE,
    )


__all__ = ["Recovery", "genesis_of", "restore"]
