"""Schema statements: run, and captured as the event that replays them.

SQLite reports no schema change to a hook, so the session hands such statements here. What is logged is the statement
as executed, with the two settings that change its meaning and the digest of the schema it made, which replay compares.
The rows that CREATE TABLE … AS SELECT makes are not reported either: the table is logged by the definition that SQLite
derived, and its rows are read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

from veritydb.events import Schema
from veritydb.replay.digest import schema_digest

if TYPE_CHECKING:
    from veritydb.planner import Plan
    from veritydb.session import Session


def run(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> list[tuple[Any, ...]]:
    """Run a schema statement inside a joined transaction and add what it did to the change buffer."""
    capture = session.capture
    capture.settle()  # Rows that are read late have to be read while their table is as it was when they changed.
    mark = capture.statement_mark()
    before = _schema_version(session)
    rows = cursor.execute(plan.sql, bindings).fetchall()
    if _schema_version(session) == before:
        return rows  # IF NOT EXISTS of what exists, IF EXISTS of what does not.
    sql = plan.sql
    made_from_query = plan.creates is not None and plan.selects and not plan.virtual
    if made_from_query:
        sql = _definition(session, plan.creates or "")
    event = Schema(
        sql=sql,
        legacy_alter_table=bool(session.db.config(apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, -1)),
        dqs_ddl=bool(session.db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, -1)),
        digest=schema_digest(session.db.cursor()),
    )
    capture.add_schema(event, mark)
    if made_from_query:
        capture.add_table(plan.creates or "")
    if plan.drops or plan.alters:
        capture.refresh_statistics()
    return rows


def analyze(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> list[tuple[Any, ...]]:
    """Run ANALYZE: its tables are logged as they end up, for only some of their rows are reported."""
    session.capture.settle()
    rows = cursor.execute(plan.sql, bindings).fetchall()
    session.capture.schema_changed()
    session.capture.refresh_statistics()
    return rows


def _schema_version(session: Session) -> int:
    planner = session.planner
    planner.internal += 1
    try:
        return int(session.db.pragma("schema_version", schema="main"))
    finally:
        planner.internal -= 1


def _definition(session: Session, table: str) -> str:
    sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
    return str(session.db.execute(sql, (table,)).get)
