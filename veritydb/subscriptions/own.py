"""Tables of our own in the user's database, written in the user's transactions.

Cursors of consumers and projections live in the database they are about, so that they commit and roll back with the
work they speak of, are in the log, and come back with a rebuilt file. Programs cannot write them: names that begin with
``_veritydb_`` are refused to everybody but this module. What is written here moves none of the counters that a program
sees (``changes()``, ``last_insert_rowid()``).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.errors import ProgrammingError
from veritydb.planner import Kind, Plan
from veritydb.schema_changes import run as run_schema
from veritydb.translation import translated

if TYPE_CHECKING:
    from veritydb.session import Session


class OwnTables:
    """Reads and writes them through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cursor = session.db.cursor()
        self._depth = 0

    def read(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """Return rows; none if the tables are not there yet."""
        with self._session.gate:
            return self._read(sql, bindings)

    def _read(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        planner = self._session.planner
        planner.internal += 1
        try:
            return self._cursor.execute(sql, bindings).fetchall()
        except apsw.SQLError as error:
            if "no such table: _veritydb_" in str(error):
                return []
            raise translated(error) from error
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            planner.internal -= 1

    def write(self, sql: str, bindings: tuple[Any, ...] = ()) -> int:
        """Run a statement in the open transaction, or in one of its own; return how many rows it changed."""
        with self._session.gate:
            return self._write(sql, bindings)

    def _write(self, sql: str, bindings: tuple[Any, ...]) -> int:
        session = self._session
        bare = session.enter_write()
        mark = session.statement_mark()
        session.planner.internal += 1
        try:
            with session.counters.kept():
                self._cursor.execute(sql, bindings)
                count = session.db.changes()
        except BaseException as error:
            session.statement_failed(error, mark, bare=bare)
        finally:
            session.planner.internal -= 1
        if bare:
            session.transactions.finish()
        return count

    def make(self, name: str, sql: str) -> None:
        """Create a table if it is not there; inside :meth:`transaction`."""
        session = self._session
        if self.read("SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?", (name,)):
            return
        plan = Plan(sql)
        plan.kind, plan.reads, plan.creates = Kind.SCHEMA, False, name
        session.planner.internal += 1
        try:
            run_schema(session, self._cursor, plan, ())
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            session.planner.internal -= 1
        session.planner.forget()

    @contextmanager
    def outside(self, what: str) -> Generator[None]:
        """Run outside of any transaction, and leave the connection as it was found.

        Raises ProgrammingError if one is open that has read or written something.
        """
        session = self._session
        if session.in_transaction:
            # Where autocommit is False one is always open; if nothing has happened in it, nobody will miss it.
            if session.autocommit is not False or session.db.txn_state("main") != apsw.SQLITE_TXN_NONE:
                raise ProgrammingError(f"{what} needs a transaction of its own: commit or roll back first")
            session.commit_open()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and session.autocommit is False and not session.in_transaction:
                session.start("BEGIN")

    @contextmanager
    def transaction(self, what: str) -> Generator[None]:
        """Run in a transaction of its own, which holds the write lock from its beginning; raises as :meth:`outside`."""
        session = self._session
        with session.gate, self.outside(what):
            session.start("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                session.rolled_back(session.transactions.rollback)
                raise
            if session.in_transaction:  # A handler may have committed it, with all that is in it.
                session.commit_open()


__all__ = ["OwnTables"]
