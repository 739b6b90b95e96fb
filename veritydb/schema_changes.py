"""Schema statements: run, and captured as the event that replays them.

SQLite reports no schema change to a hook, so the session hands such statements here. What is logged is the statement
as executed, with the two settings that change its meaning and the digest of the schema it made, which replay compares.
The rows that CREATE TABLE … AS SELECT makes are not reported either: the table is logged by the definition that SQLite
derived, and its rows are read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

from veritydb import applied
from veritydb.errors import StatementRefused
from veritydb.events import Schema
from veritydb.refusals import RESERVED_PREFIX, meta_table
from veritydb.replay.digest import schema_digest

if TYPE_CHECKING:
    from veritydb.hooks.capture import StatementMark
    from veritydb.planner import Plan
    from veritydb.session import Session


def run(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> list[tuple[Any, ...]]:
    """Run a schema statement inside a joined transaction and add what it did to the change buffer."""
    if plan.alters and RESERVED_PREFIX in plan.sql.lower():  # The authorizer is not told of the new name.
        raise StatementRefused(f"{meta_table(RESERVED_PREFIX)}; nothing was changed")
    _settle(session)  # Rows that are read late have to be read while their table is as it was when they changed.
    mark = session.statement_mark()
    before = _schema_version(session)
    try:
        rows = _execute(session, cursor, plan, bindings)
        if _schema_version(session) != before:  # IF NOT EXISTS of what exists, IF EXISTS of what does not.
            _log(session, plan, mark)
    except BaseException as error:
        session.half_logged(error, lambda: _schema_version(session) == before)
        raise
    return rows


def _log(session: Session, plan: Plan, mark: StatementMark) -> None:
    capture = session.capture
    sql = plan.sql
    made_from_query = plan.creates is not None and plan.selects and not plan.virtual
    if made_from_query:
        sql = _definition(session, plan.creates or "")
    event = Schema(
        sql=sql,
        legacy_alter_table=bool(session.db.config(apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, -1)),
        dqs_ddl=bool(session.db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, -1)),
        digest=_digest(session),
    )
    capture.add_schema(event, mark)
    if made_from_query:
        capture.add_table(plan.creates or "")
    if plan.drops or plan.alters:
        capture.refresh_statistics()


def analyze(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> list[tuple[Any, ...]]:
    """Run ANALYZE: its tables are logged as they end up, for only some of their rows are reported."""
    _settle(session)
    session.capture.refresh_statistics()
    before = _schema_version(session)
    try:
        rows = _execute(session, cursor, plan, bindings)
        _forget_meta_table(session)
        session.capture.schema_changed()
    except BaseException as error:
        session.half_logged(error, lambda: _schema_version(session) == before)
        raise
    return rows


def _settle(session: Session) -> None:
    capture = session.capture
    if capture.settlement_due:
        session.transactions.settle_early()
    capture.settle()


def _execute(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> list[tuple[Any, ...]]:
    session.planner.changes_schema = True
    try:
        return cursor.execute(plan.sql, bindings).fetchall()
    finally:
        session.planner.changes_schema = False


def _forget_meta_table(session: Session) -> None:
    """Take our own table out of the statistics, where a program would find it."""
    names = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4')"
    session.planner.internal += 1
    try:
        with session.counters.kept():
            for (name,) in session.db.execute(names).fetchall():
                session.db.execute(f"DELETE FROM main.{name} WHERE tbl = '{applied.TABLE}'")
    finally:
        session.planner.internal -= 1


def _schema_version(session: Session) -> int:
    planner = session.planner
    planner.internal += 1
    try:
        return int(session.db.pragma("schema_version", schema="main"))
    finally:
        planner.internal -= 1


def _digest(session: Session) -> bytes:
    planner = session.planner
    planner.internal += 1
    try:
        return schema_digest(session.db)
    finally:
        planner.internal -= 1


def _definition(session: Session, table: str) -> str:
    sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    planner = session.planner
    planner.internal += 1
    try:
        return str(session.db.execute(sql, (table,)).get)
    finally:
        planner.internal -= 1
