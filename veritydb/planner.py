"""What a statement will do, learned from SQLite itself before it does it.

SQLite's authorizer is told, while a statement is prepared, of everything the statement may read, write or change; no
SQL is parsed here. :class:`Planner` prepares each new statement once with an execution trace that stops it before its
first step, and turns what the authorizer heard into a :class:`Plan`, which is kept per SQL text. Driven by
:mod:`veritydb.session`.

What cannot be logged exactly is refused right in the authorizer, because SQLite carries out some pragmas while it
prepares them: after preparation it would be too late.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeAlias

import apsw

from veritydb import refusals

Authorizer: TypeAlias = "Callable[[int, str | None, str | None, str | None, str | None], int]"
Heard: TypeAlias = "tuple[int, str | None, str | None, str | None, str | None]"

PLANS_MAX = 1024
_OK = apsw.SQLITE_OK
_FUNCTION = apsw.SQLITE_FUNCTION
# A module of C looks its names up slowly, and the authorizer is asked often.
_NAMES_MAX = 2048
_NO_BINDINGS = re.compile(r"Statement has (\d+) bindings but you didn't supply any")


class Kind(IntEnum):
    """How the session has to treat a statement. Only READ takes the fast path."""

    READ = 0
    """Writes nothing that is logged: queries, EXPLAIN, most pragmas, temp tables only."""
    ROWS = 1
    """Writes rows of the main database."""
    SCHEMA = 2
    """Changes the schema of the main database."""
    SETTING = 3
    """A pragma that sets a logged header field."""
    ANALYZE = 4
    BEGIN = 5
    COMMIT = 6
    ROLLBACK = 7
    SAVEPOINT = 8
    RELEASE = 9
    ROLLBACK_TO = 10
    VACUUM = 11
    PHYSICAL = 12
    """Changes bytes of the file and nothing that is logged; may not run inside a wrapped transaction."""
    NOTHING = 13
    """No statement: empty, or only comments."""
    IDLE = 14
    """A schema statement that finds nothing to do (IF EXISTS, IF NOT EXISTS), as the schema is now."""


class Plan:
    """What is known of one statement."""

    __slots__ = (
        "alters",
        "columns",
        "conversion",
        "creates",
        "description",
        "drops",
        "explains",
        "is_dml",
        "kind",
        "parameters",
        "reads",
        "returns_rows",
        "selects",
        "setting",
        "sql",
        "tail",
        "temp",
        "triggers",
        "virtual",
        "written",
    )

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.kind = Kind.READ
        self.reads = True
        """The fast path will do: nothing is written at all."""
        self.explains = False
        """An EXPLAIN: it changes nothing, whatever is heard of it."""
        self.is_dml = False
        """The text begins with INSERT, UPDATE, DELETE or REPLACE: what sqlite3 opens transactions for."""
        self.description: tuple[tuple[Any, ...], ...] | None = None
        """Seven values a column, as PEP 249 says; None if the statement returns no rows."""
        self.columns: tuple[tuple[str, str | None], ...] = ()
        """Name and declared type of each column."""
        self.conversion: Any = None
        """What a cursor keeps here of how these columns are read."""
        self.returns_rows = False
        self.parameters: tuple[str | None, ...] = ()
        """The name of each parameter, without its first character; None for a question mark."""
        self.temp = False
        """Writes temp tables."""
        self.triggers = False
        """May fire triggers, so that the rows it changes are not all its own."""
        self.creates: str | None = None
        """Name of the table it creates in the main schema."""
        self.virtual = False
        self.selects = False
        """With ``creates``: CREATE TABLE … AS SELECT."""
        self.drops = False
        self.alters = False
        self.written: frozenset[str] = frozenset()
        """Names of the tables of the main schema that it writes rows of, by itself or through triggers."""
        self.setting: str | None = None
        self.tail = ""
        """What follows the statement in the text it was given in."""


# Authorizer actions that change a schema, and the argument that does not matter for it.
_SCHEMA_ACTIONS = frozenset(
    {
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
    }
)
_TEMP_ACTIONS = frozenset(
    {
        apsw.SQLITE_CREATE_TEMP_INDEX,
        apsw.SQLITE_CREATE_TEMP_TABLE,
        apsw.SQLITE_CREATE_TEMP_TRIGGER,
        apsw.SQLITE_CREATE_TEMP_VIEW,
        apsw.SQLITE_DROP_TEMP_INDEX,
        apsw.SQLITE_DROP_TEMP_TABLE,
        apsw.SQLITE_DROP_TEMP_TRIGGER,
        apsw.SQLITE_DROP_TEMP_VIEW,
    }
)
_DROPS = frozenset(
    {
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
    }
)
_WRITES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_MAIN = (None, "main")
_OWN = (*_MAIN, "temp")
_CATALOGUES = frozenset({"sqlite_master", "sqlite_temp_master", "sqlite_schema", "sqlite_temp_schema"})
_QUIET = frozenset({apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE})
_WRITING_FUNCTION = "optimize"
"""SELECT optimize(t) FROM t writes the index of an FTS3 table: the one query that changes rows."""
_SCHEMA_WORDS = frozenset({"CREATE", "DROP", "ALTER"})
_VERBS = {"INSERT": True, "UPDATE": True, "DELETE": True, "REPLACE": True}


class Planner:
    """Plans statements of one connection, and is its authorizer."""

    def __init__(self, db: apsw.Connection, *, encrypted: bool, in_memory: bool) -> None:
        self._db = db
        self._cursor = db.cursor()
        self._cursor.exec_trace = self._before_first_step
        self._encrypted = encrypted
        self._in_memory = in_memory
        self._heard: list[Heard] | None = None
        self._traced: list[tuple[str, bool, bool, tuple[tuple[str, str | None], ...], tuple[str | None, ...]]] = []
        """What the trace saw of the statement being planned; empty if there was none."""
        self.plans: dict[str, Plan] = {}
        self.internal = 0
        """Above zero while our own statements run: nothing is refused, nobody is asked."""
        self.reprepared = False
        """SQLite has prepared a statement by itself.

        It had left the cache, the schema has changed, or a value was bound that may lead to another query plan, as each
        value of a LIMIT may (https://www.sqlite.org/c3ref/prepare.html on "the new sqlite3_prepare_v2").
        """
        self.changes_schema = False
        """Whether the statement that runs may change the schema of the main database: it is captured as one that does.

        SQLite prepares a statement anew when another connection has changed the schema, and may then have something to
        do where there was nothing (CREATE INDEX IF NOT EXISTS). Nobody would log that.
        """
        self.overtaken = False
        """Whether the authorizer has refused what the plan of the statement that runs did not know of."""
        self.refusal: str | None = None
        """Why the authorizer said no, for the error that SQLite then raises."""
        self.user_authorizer: Authorizer | None = None
        db.authorizer = self._authorize
        self.callbacks = (Planner._authorize.__code__,)
        """What SQLite calls."""

    def reset_authorizer(self) -> None:
        """Install the authorizer anew, which makes SQLite prepare every statement again."""
        self._db.authorizer = self._authorize
        self.plans.clear()

    def forget(self) -> None:
        """Drop all plans: names may mean other things now."""
        self.plans.clear()

    def plan(self, sql: str, bindings: Any = ()) -> Plan:
        """Prepare the first statement of ``sql`` and say what it will do; it is not run.

        ``bindings`` may be None if there are none yet. Raises whatever preparing it raises; :attr:`refusal` then says
        if it was us.
        """
        try:
            heard = self._hear(sql, bindings, can_cache=True)
            if not heard:
                # Either APSW has had it (what is prepared already asks no authorizer, and has old column names), or it
                # is one of the few statements that never ask.
                heard = self._hear(sql, bindings, can_cache=False)
        except apsw.BindingsError as error:
            count = _NO_BINDINGS.match(str(error)) if bindings is None else None
            if count is None:
                raise
            return self.plan(sql, (None,) * int(count[1]))
        if not self._traced:
            plan = Plan("")
            plan.kind, plan.reads = Kind.NOTHING, False
            return plan
        text, readonly, explain, columns, parameters = self._traced[0]
        plan = Plan(text)
        plan.parameters = parameters
        plan.tail = sql[len(text) :]
        plan.columns = columns
        if columns:
            plan.description = tuple((name, None, None, None, None, None, None) for name, _ in columns)
            plan.returns_rows = True
        if explain:
            plan.explains = True
        else:
            self._classify(plan, heard, readonly)
        plan.reads = plan.kind is Kind.READ and not plan.is_dml and not plan.temp
        return plan

    def _hear(self, sql: str, bindings: Any, *, can_cache: bool) -> list[Heard]:
        """Prepare a statement, and return what the authorizer heard of it."""
        self.refusal = None
        self._traced.clear()
        heard: list[Heard] = []
        self._heard = heard
        try:
            self._cursor.execute(sql, bindings, can_cache=can_cache)
        except apsw.ExecTraceAbort:
            pass
        finally:
            self._heard = None
        self._cursor.execute("")  # What was prepared goes to APSW's cache, so that it is not prepared again to be run.
        return heard

    def remember(self, sql: str, plan: Plan) -> None:
        """Keep ``plan`` for the next time this text comes."""
        if len(self.plans) >= PLANS_MAX:
            self.plans.clear()
        self.plans[sql] = plan

    def _before_first_step(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if not sql:
            return True
        explain = bool(cursor.is_explain)
        self._traced.append((sql, cursor.is_readonly, explain, cursor.get_description(), cursor.bindings_names))
        return False

    def _authorize(self, action: int, one: str | None, two: str | None, schema: str | None, trigger: str | None) -> int:
        if self.internal:
            return _OK
        verdict = _OK
        if self.user_authorizer is not None:
            verdict = self.user_authorizer(action, one, two, schema, trigger)
            # A DELETE that is to be ignored deletes all the same, row by row, so we take note of it.
            if verdict not in (_OK, apsw.SQLITE_IGNORE):
                return verdict
        if action in _QUIET:
            if two == _WRITING_FUNCTION and action == _FUNCTION and self._heard is not None:
                self._heard.append((action, one, two, schema, trigger))
            return verdict
        why = self._refusal_of(action, one, two, schema)
        if why is not None:
            self.refusal = why
            return apsw.SQLITE_DENY
        if self._heard is not None:
            self._heard.append((action, one, two, schema, trigger))
        elif not self.changes_schema and _changes_main_schema(action, one, schema):
            self.overtaken = True
            self.refusal = refusals.unplanned()
            self.plans.clear()
            return apsw.SQLITE_DENY
        else:
            self.reprepared = True
            if action in _SCHEMA_ACTIONS or action in _TEMP_ACTIONS:
                self.plans.clear()  # SQLite prepared a kept statement again: the schema has changed under it.
        return verdict

    def _refusal_of(self, action: int, one: str | None, two: str | None, schema: str | None) -> str | None:
        if action == apsw.SQLITE_PRAGMA:
            return refusals.of_pragma(
                (one or "").lower(), two, schema, encrypted=self._encrypted, in_memory=self._in_memory
            )
        if action in _WRITES:
            if schema not in _OWN and self.may_not_write(schema):
                return refusals.attached(schema)
            if one is not None and refusals.reserved(one):
                return refusals.meta_table(one)
        elif action in _SCHEMA_ACTIONS or action in _TEMP_ACTIONS or action == apsw.SQLITE_ALTER_TABLE:
            name, where = (two, one) if action == apsw.SQLITE_ALTER_TABLE else (one, schema)
            if where not in _OWN and self.may_not_write(where):
                return refusals.attached(where)
            for touched in (name, two):  # The second is the table of an index or a trigger.
                if touched is not None and refusals.reserved(touched):
                    return refusals.meta_table(touched)
        elif action == apsw.SQLITE_ATTACH:
            return refusals.of_attach(one)
        return None

    def may_not_write(self, attached: str | None) -> bool:
        """Whether an attached database has to stay as it is."""
        # A database in memory is gone with its log, so what it writes beside itself takes no proof from it. A database
        # that has a log is written through that, whoever attaches it.
        return not self._in_memory or refusals.has_log(self._db.db_filename(attached or ""))

    def _classify(
        self,
        plan: Plan,
        heard: list[Heard],
        readonly: bool,
    ) -> None:
        written: set[str] = set()
        for action, one, two, schema, trigger in heard:
            if trigger is not None and action in _WRITES:
                plan.triggers = True
            if action == apsw.SQLITE_TRANSACTION:
                plan.kind = {"BEGIN": Kind.BEGIN, "COMMIT": Kind.COMMIT, "ROLLBACK": Kind.ROLLBACK}[one or ""]
                return
            if action == apsw.SQLITE_SAVEPOINT:
                plan.kind = {"BEGIN": Kind.SAVEPOINT, "RELEASE": Kind.RELEASE, "ROLLBACK": Kind.ROLLBACK_TO}[one or ""]
                return
            if action == apsw.SQLITE_PRAGMA:
                self._classify_pragma(plan, (one or "").lower(), two, schema)
                return
            if action == apsw.SQLITE_SELECT:
                plan.selects = True
            elif action == apsw.SQLITE_FUNCTION:
                if plan.kind is Kind.READ and not self._db.readonly("main"):
                    plan.kind = Kind.ROWS
            elif action == apsw.SQLITE_ANALYZE:
                plan.kind = Kind.ANALYZE
            elif action in _SCHEMA_ACTIONS and schema not in _OWN:
                plan.temp = True  # Attached to a database in memory, and no more logged than a temp table.
            elif action in _SCHEMA_ACTIONS and schema != "temp":
                if plan.kind is not Kind.ANALYZE:
                    plan.kind = Kind.SCHEMA
                plan.drops = plan.drops or action in _DROPS
                if action in (apsw.SQLITE_CREATE_TABLE, apsw.SQLITE_CREATE_VTABLE):
                    plan.creates = one
                    plan.virtual = action == apsw.SQLITE_CREATE_VTABLE
            elif action == apsw.SQLITE_ALTER_TABLE:
                if one not in _MAIN:
                    plan.temp = True
                else:
                    plan.kind, plan.alters = Kind.SCHEMA, True
            elif action in _TEMP_ACTIONS:
                plan.temp = True
            elif action in _WRITES:
                if schema not in _MAIN:
                    plan.temp = True
                elif one is not None and one not in _CATALOGUES:
                    written.add(one)
        if plan.kind is Kind.READ and written:
            # ANALYZE of what has no statistics, the schema itself, is not announced as one.
            plan.kind = Kind.ANALYZE if first_word(plan.sql, anywhere=True) == "ANALYZE" else Kind.ROWS
        if plan.kind is Kind.READ and plan.selects and not plan.temp and plan.sql[:6].upper() == "SELECT":
            return  # Most statements by far.
        plan.written = frozenset(written)
        plan.is_dml = first_word(plan.sql) in _VERBS
        if plan.kind is Kind.READ and not plan.is_dml:
            self._classify_by_word(plan, readonly)

    def _classify_by_word(self, plan: Plan, readonly: bool) -> None:
        # Three statements have no authorizer action of their own, and a DROP … IF EXISTS of nothing has none at all.
        word = first_word(plan.sql, anywhere=True)
        if word == "VACUUM":
            plan.kind = Kind.VACUUM
        elif word == "REINDEX":
            plan.kind = Kind.PHYSICAL
        elif word == "" and not plan.returns_rows:
            plan.kind = Kind.NOTHING
        elif word in _SCHEMA_WORDS and not plan.temp:
            plan.kind = Kind.IDLE

    def _classify_pragma(self, plan: Plan, name: str, value: str | None, schema: str | None) -> None:
        if value is not None and name in refusals.SETTINGS and schema != "temp":
            plan.kind, plan.setting = Kind.SETTING, name
        elif name == "optimize":
            plan.kind = Kind.ANALYZE
        elif name in refusals.PHYSICAL:
            plan.kind = Kind.PHYSICAL


def _changes_main_schema(action: int, one: str | None, schema: str | None) -> bool:
    if action in _SCHEMA_ACTIONS:
        return schema in _MAIN
    if action == apsw.SQLITE_ALTER_TABLE:
        return one in _MAIN
    if action == apsw.SQLITE_PRAGMA:
        return (one or "").lower() == "optimize"
    return action == apsw.SQLITE_ANALYZE and schema in _MAIN


def first_word(sql: str, *, anywhere: bool = False) -> str:
    """Return the first word of ``sql`` in capitals, comments skipped as sqlite3 skips them.

    ``anywhere`` also skips what SQLite skips and sqlite3 does not: a byte order mark and empty statements.
    """
    position, end = 0, len(sql)
    skipped = " \t\n\r\f\v" + ("\ufeff;" if anywhere else "")
    while position < end:
        if sql[position] in skipped:
            position += 1
        elif sql.startswith("--", position):
            position = sql.find("\n", position)
            if position < 0:
                return ""
        elif sql.startswith("/*", position):
            position = sql.find("*/", position + 2)
            if position < 0:
                return ""
            position += 2
        else:
            break
    stop = position
    while stop < end and stop - position < _NAMES_MAX and sql[stop].isalpha():
        stop += 1
    return sql[position:stop].upper()
