"""A connection on which rows can be put back exactly as they were.

What an application switches on to guard or to react (foreign keys, triggers, checks, limits, an authorizer) did its
work when the transaction was live: its effects are in the log. Replay must neither repeat nor refuse them.
:class:`Quiet` switches all of it off and, for redo on a connection that lives on, back to what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import apsw

from veritydb.replay.statements import quoted

_CONFIGURED = {
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER: 0,
    apsw.SQLITE_DBCONFIG_DEFENSIVE: 0,  # Shadow tables of virtual tables are written directly.
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA: 1,  # Indexes and generated columns may call functions of the application.
    apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA: 0,
    apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE: 0,
    apsw.SQLITE_DBCONFIG_DQS_DDL: 1,
    apsw.SQLITE_DBCONFIG_DQS_DML: 1,
}
_PRAGMAS = {
    # Rows written under this pragma, or before a CHECK was there, are rows.
    "ignore_check_constraints": 1,
    "query_only": 0,
}
# What an application may have lowered below what its own earlier transactions needed.
_LIMITS = (
    apsw.SQLITE_LIMIT_LENGTH,
    apsw.SQLITE_LIMIT_SQL_LENGTH,
    apsw.SQLITE_LIMIT_COLUMN,
    apsw.SQLITE_LIMIT_EXPR_DEPTH,
    apsw.SQLITE_LIMIT_VDBE_OP,
    apsw.SQLITE_LIMIT_FUNCTION_ARG,
    apsw.SQLITE_LIMIT_VARIABLE_NUMBER,
)
_HIGHEST = 0x7FFFFFFF
_TRACERS = ("exec_trace", "row_trace", "authorizer")


class Quiet:
    """Makes ``db`` quiet until :meth:`leave`."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._undo: list[Callable[[], object]] = []
        try:
            self._enter()
        except BaseException:
            self.leave()
            raise

    def _enter(self) -> None:
        db, undo = self._db, self._undo
        for name in _TRACERS:
            former: Any = getattr(db, name)
            if former is not None:
                setattr(db, name, None)
                undo.append(partial(setattr, db, name, former))
        for limit in _LIMITS:
            lowered = db.limit(limit, _HIGHEST)
            undo.append(partial(db.limit, limit, lowered))
        for option, wanted in _CONFIGURED.items():
            undo.append(partial(db.config, option, db.config(option, -1)))
            db.config(option, wanted)
        for pragma, wanted in _PRAGMAS.items():
            value: Any = db.pragma(pragma)
            if value != wanted:
                db.pragma(pragma, wanted)
                undo.append(partial(db.pragma, pragma, value))
        self._drop_temporary_triggers()

    def _drop_temporary_triggers(self) -> None:
        # Since SQLite 3.35 ENABLE_TRIGGER spares the triggers of the temp schema: they have to go, and come again.
        execute = self._db.execute
        triggers = "SELECT name, sql FROM temp.sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
        found: list[Any] = execute(triggers).fetchall()
        for name, sql in found:
            execute(f"DROP TRIGGER temp.{quoted(name)}")
            self._undo.append(partial(_restore_trigger, self._db, sql))

    def leave(self) -> None:
        """Switch everything back to what it was; does nothing the second time."""
        while self._undo:
            self._undo.pop()()


def _restore_trigger(db: apsw.Connection, sql: str) -> None:
    # SQLite keeps the text from the name on, behind the words CREATE TRIGGER. A name that says "temp." takes no TEMP
    # before it, and a name that does not needs it, or the trigger would become one of the table's own schema.
    definition = sql[len("CREATE TRIGGER ") :]
    try:
        db.execute(f"CREATE TEMP TRIGGER IF NOT EXISTS {definition}")
    except apsw.SQLError as error:
        if "qualified name" not in str(error):
            raise
        db.execute(f"CREATE TRIGGER IF NOT EXISTS {definition}")
