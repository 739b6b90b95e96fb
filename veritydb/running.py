"""How a statement of each kind is run: one function a kind, chosen by the plan.

The session calls them through :data:`RUNNERS` for everything but plain reads. Each opens and joins a transaction if
its kind needs one, runs the statement natively, adds what no hook reports, and commits if the transaction was opened
for this statement alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw

from veritydb import schema_changes, vacuuming
from veritydb.errors import ConflictError
from veritydb.events import Setting
from veritydb.planner import Kind, Plan
from veritydb.translation import no_transaction, translated

if TYPE_CHECKING:
    from veritydb.session import Session

Ran = tuple[Plan, "list[tuple[Any, ...]] | None", int]
"""The plan, the rows if they are already fetched, and the row count (-1: none)."""

_RETRY = (0.004, 0.064)
"""Seconds before a statement that met another one is run again: at first, and at most."""
_BEFORE_FIRST_USE = frozenset({"encoding", "page_size", "auto_vacuum"})


def run_rows(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    """Run a statement that writes rows of the main database. Rows that it returns are fetched at once."""
    capture, counters, db = session.capture, session.counters, session.db
    bare = not (capture.joined and db.in_transaction) and session.enter(plan)
    mark = session.statement_mark()
    rows = None
    try:
        if plan.returns_rows:
            rows = cursor.execute(plan.sql, bindings).fetchall()
        else:
            cursor.execute(plan.sql, bindings)
        count = db.changes() if plan.is_dml else -1
    except BaseException as error:
        # A statement that the schema has left behind has not run, and SQLite has not counted.
        if not isinstance(error, apsw.SQLError) or session.can_be_prepared(plan, bindings):
            counters.changes = None
        session.statement_failed(error, mark, bare=bare)
    counters.changes = None
    if capture.catalog.virtual:
        session.virtual_written(plan)
    if bare:
        changes = counters.current()
        virtual = capture.virtual_joined
        try:
            session.commit_bare()
        except BaseException:
            session.abandon()
            counters.undo(changes)
            raise
        if virtual:
            counters.hold(changes)  # What a virtual table writes in our COMMIT is part of this statement.
    return plan, rows, count


def _run_quiet(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    # Temp tables only: nothing is logged, and nobody's write lock is waited for. PEP 249's BEGIN comes all the same.
    begin = session.begin_text
    if plan.is_dml and begin is not None and session.autocommit is not True and not session.db.in_transaction:
        session.start(begin)
    rows = None
    try:
        if plan.is_dml and plan.returns_rows:
            rows = cursor.execute(plan.sql, bindings).fetchall()
        else:
            cursor.execute(plan.sql, bindings)
    except Exception as error:
        if session.overtaken():
            return _run_anew(session, cursor, plan, bindings)
        session.failed(error)
    if plan.is_dml:
        session.counters.changes = None
    elif plan.temp:
        session.planner.forget()  # A temp table may hide a table of the same name.
    return plan, rows, session.db.changes() if plan.is_dml else -1


def _run_schema(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    bare = session.enter(plan)
    mark = session.statement_mark()
    try:
        rows = schema_changes.run(session, cursor, plan, bindings)
    except BaseException as error:
        session.statement_failed(error, mark, bare=bare)
    session.schema_touched = True
    session.planner.forget()
    if bare:
        session.commit_bare()
    return plan, rows, -1


def _run_setting(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    name = plan.setting
    assert name is not None
    if session.fresh and name in _BEFORE_FIRST_USE:
        return _run_physical(session, cursor, plan, bindings)
    bare = session.enter(plan)
    mark = session.statement_mark()
    try:
        before = session.pragma(name)
        try:
            rows = cursor.execute(plan.sql, bindings).fetchall()
            after = session.pragma(name)
            if after != before or name == "auto_vacuum":  # SQLite carries this one out while it prepares it.
                session.capture.add(Setting(name, after))
        except BaseException as error:
            session.half_logged(error, lambda: session.pragma(name) == before)
            raise
    except BaseException as error:
        session.statement_failed(error, mark, bare=bare)
    if bare:
        session.commit_bare()
    return plan, rows, -1


def _run_analyze(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    bare = session.enter(plan)
    mark = session.statement_mark()
    try:
        rows = schema_changes.analyze(session, cursor, plan, bindings)
    except BaseException as error:
        session.statement_failed(error, mark, bare=bare)
    session.schema_touched = True
    if bare:
        session.commit_bare()
    return plan, rows, -1


def _run_begin(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    session.start(plan.sql)
    return plan, None, -1


def _run_commit(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    if plan.kind is Kind.COMMIT and session.db.in_transaction and not session.in_transaction:
        raise translated(no_transaction("commit"))  # A function of the program's, called by a bare statement.
    session.transactions.finish(plan.sql)
    if not session.db.in_transaction:
        session.schema_touched = False
    return plan, None, -1


def _run_rollback(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    if plan.kind is Kind.ROLLBACK and session.db.in_transaction:
        if not session.in_transaction:
            raise translated(no_transaction("rollback"))
        session.rolled_back(session.transactions.rollback)
        return plan, None, -1
    try:
        session.control.execute(plan.sql)
    except BaseException as error:
        session.capture.unwind(None, error)  # An interruption may have kept the rollback from the change buffer.
        session.failed(error)
    if session.schema_touched:
        session.planner.forget()
        session.capture.schema_changed()  # Tables have their former names and columns again.
    return plan, None, -1


def _run_savepoint(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    session.first_use()
    if not session.db.in_transaction:
        session.transactions.begun = None
    try:
        if session.capture.tail_due:
            session.transactions.join_tail()  # A statement that failed may have made a virtual table join.
        session.control.execute(plan.sql)
    except BaseException as error:
        session.capture.unwind(None, error)
        session.failed(error)
    return plan, None, -1


def _run_vacuum(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    session.first_use()
    vacuuming.run(session, cursor, plan, bindings)
    session.planner.forget()
    return plan, None, -1


def _run_physical(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    try:
        rows = cursor.execute(plan.sql, bindings).fetchall()
    except Exception as error:
        session.failed(error)
    return plan, rows, -1


def _run_idle(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    # It takes no lock, as in SQLite. If there is something to do by now, the authorizer has stopped it.
    try:
        rows = cursor.execute(plan.sql, bindings).fetchall()
    except Exception as error:
        if session.overtaken():
            return _run_anew(session, cursor, plan, bindings)
        session.failed(error)
    return plan, rows, -1


def run_again(session: Session, cursor: apsw.Cursor, sql: str, bindings: Any) -> Ran:
    """Run a bare statement to which another machine's was ahead, until it is first or the connection's time is over.

    The file has caught up each time, so it does what it would have done had it come later.
    """
    deadline = time.monotonic() + session.transactions.timeout
    pause = _RETRY[0]
    while True:
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, _RETRY[1])
        plan = session.plans.get(sql) or session.planned(sql, bindings)
        try:
            return RUNNERS[plan.kind](session, cursor, plan, bindings)
        except ConflictError:
            if time.monotonic() >= deadline:
                raise


def _run_anew(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    plan = session.planned(plan.sql, bindings)
    return RUNNERS[plan.kind](session, cursor, plan, bindings)


def _run_nothing(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> Ran:
    return plan, [], -1


RUNNERS: dict[Kind, Callable[[Session, apsw.Cursor, Plan, Any], Ran]] = {
    Kind.READ: _run_quiet,
    Kind.ROWS: run_rows,
    Kind.SCHEMA: _run_schema,
    Kind.SETTING: _run_setting,
    Kind.ANALYZE: _run_analyze,
    Kind.BEGIN: _run_begin,
    Kind.COMMIT: _run_commit,
    Kind.ROLLBACK: _run_rollback,
    Kind.SAVEPOINT: _run_savepoint,
    Kind.RELEASE: _run_commit,
    Kind.ROLLBACK_TO: _run_rollback,
    Kind.VACUUM: _run_vacuum,
    Kind.PHYSICAL: _run_physical,
    Kind.NOTHING: _run_nothing,
    Kind.IDLE: _run_idle,
}
