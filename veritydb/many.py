"""``executemany``: one statement for each of many sets of values, handed to SQLite in one call where that is the same.

In one call it is several times faster, and the same only as long as nobody else uses the connection in between. The
sets come from the program, often from a generator, and a generator may run statements of its own on the connection, or
commit. sqlite3 lets it: it begins a transaction before the first set, and each set then runs where it finds itself. So
the call to SQLite ends with the set before which the program did something (:meth:`Batch.disturb`); that set and those
that follow are run one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.errors import ConflictError, ProgrammingError
from veritydb.planner import Kind, Plan
from veritydb.running import RUNNERS, run_again

if TYPE_CHECKING:
    from veritydb.session import Session


class Batch:
    """One call of ``executemany``. Driven by :class:`veritydb.session.Session`, whose ``batch`` it is while it runs.

    They nest, where a generator makes such a call itself.
    """

    __slots__ = ("_base", "_disturbed", "_session", "_sql", "changed", "plan")

    def __init__(self, session: Session, sql: str) -> None:
        self._session = session
        self._sql = sql
        self.changed = 0
        """Rows that the statement has changed."""
        self.plan: Plan = session.plans.get(sql) or session.planned(sql, None)
        self._base: int | None = None
        """``total_changes()`` from which the rows are counted; None where each set is counted for itself."""
        self._disturbed: list[Any] | None = None
        """Once the program has done something: the set before which it did."""
        if not self.plan.is_dml:
            raise ProgrammingError("executemany() can only execute DML statements.")

    def disturb(self) -> None:
        """Take note that the program is about to do something else on the connection."""
        if self._disturbed is None:
            self._disturbed = []
            self._count()

    def run(self, cursor: apsw.Cursor, many: Iterable[Any]) -> None:
        """Run the statement once for each of ``many``; what was done before an error stays done."""
        session = self._session
        sets = iter(many)
        if not session.db.in_transaction and (session.begin_text is None or session.autocommit is True):
            self._one_by_one(cursor, sets)  # Each statement is a transaction of its own, as in sqlite3.
            return
        self._begin()
        # A list or tuple, which has been looked through, runs no code of the program.
        self._at_once(cursor, sets if type(many) is list or type(many) is tuple else self._until_disturbed(sets))
        if self._disturbed is not None:
            self._one_by_one(cursor, iter(self._disturbed))
            self._one_by_one(cursor, sets)

    def _begin(self) -> None:
        session = self._session
        if self.plan.kind is not Kind.READ:
            bare = session.enter(self.plan)
            assert not bare
            self.plan = session.plans.get(self._sql) or session.planned(self._sql, None)
        elif not session.db.in_transaction:  # Temp tables only: nobody's write lock is waited for.
            assert session.begin_text is not None
            session.start(session.begin_text)

    def _at_once(self, cursor: apsw.Cursor, sets: Iterator[Any]) -> None:
        session, plan = self._session, self.plan
        db = session.db
        mark = session.statement_mark()
        try:
            if plan.triggers or plan.temp or session.foreign_keys():
                for bindings in sets:
                    cursor.execute(plan.sql, bindings)
                    if plan.returns_rows:
                        cursor.fetchall()
                    self.changed += db.changes()
            else:
                self._base = db.total_changes()
                found = cursor.executemany(plan.sql, sets)
                if plan.returns_rows:
                    found.fetchall()
                self._count()
        except BaseException as error:
            session.counters.changes = None
            session.statement_failed(error, mark, bare=False)
        session.counters.changes = None
        if session.capture.virtual_tables:
            session.virtual_written(plan)

    def _until_disturbed(self, sets: Iterator[Any]) -> Iterator[Any]:
        for bindings in sets:
            if self._disturbed is not None:
                self._disturbed.append(bindings)
                return
            yield bindings

    def _one_by_one(self, cursor: apsw.Cursor, sets: Iterator[Any]) -> None:
        session = self._session
        for bindings in sets:
            plan = self.plan = session.plans.get(self._sql) or session.planned(self._sql, None)
            # Where no transaction is open now none is begun: that was done once, before the first set.
            begin, session.begin_text = session.begin_text, None
            try:
                try:
                    changed = RUNNERS[plan.kind](session, cursor, plan, bindings)[2]
                except ConflictError:
                    if session.db.in_transaction:
                        raise
                    changed = run_again(session, cursor, self._sql, bindings)[2]
            finally:
                session.begin_text = begin
            self.changed += max(changed, 0)

    def _count(self) -> None:
        if self._base is not None:
            self.changed += self._session.db.total_changes() - self._base
            self._base = None
