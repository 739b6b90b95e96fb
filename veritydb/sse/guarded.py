"""A connection on which a caller can only read, and only what the caller may see.

Each query gets a connection of its own; opening one costs about a millisecond, and nothing of one caller is left for
the next. SQLite itself enforces what is allowed:

* The database is *attached*, under a name drawn at random; ``main`` is empty. Every table that is granted is a
  temporary view of its granted columns. What is not granted has a view that leads nowhere, so SQLite says the same as
  of a table that does not exist, at the same moment. A statement that contains the random name is refused unread.
* A row filter is a condition in the view: a function that applies the very rules that streams apply. ``LIMIT -1``
  keeps the planner from evaluating the caller's own conditions on rows that the filter would have taken away, where
  they could tell something by failing (https://www.sqlite.org/optoverview.html#flattening, rules 13 and 19).
* The authorizer allows SELECT, reading of those views, and of tables through them; functions that reach nothing beyond
  their arguments (and those that were registered for the schema); and nothing more.
* A progress handler ends what runs too long or takes too much memory; SQLite's limits bound the rest
  (https://www.sqlite.org/security.html).

Driven by :mod:`veritydb.sse.queries`, in a worker thread.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw

from veritydb import applied
from veritydb.events import Value
from veritydb.replay.registering import Register, prepare
from veritydb.replay.statements import quoted
from veritydb.sse.problems import Problem
from veritydb.sse.rights import Grant, Rights, Scalar, admitted
from veritydb.sse.values import json_value

NOWHERE = "veritydb_nowhere"
"""A table that does not exist, for what shall not exist."""
_ADMITS = "veritydb_admits"

_READS = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/|;)*(?:select|values|with)\b", re.IGNORECASE | re.DOTALL)
# What SQLite says of names: nothing of it is passed on, so that it cannot tell the forbidden from the unknown.
_OF_NAMES = re.compile(
    r"no such table|is not a function|is a view|DROP VIEW|circularly|prohibited|not authorized", re.I
)
_WRITTEN = re.compile(r"cannot modify (.*) because it is a view")
# Functions that reach beyond their arguments, by how their names begin.
_FUNCTIONS_DENIED = re.compile(r"(sqlite|load_|fts\d|rtree|geopoly_debug|veritydb_|optimize\Z)", re.IGNORECASE)
_PURE_MODULES = frozenset({"json_each", "json_tree", "jsonb_each", "jsonb_tree"})

_STEPS = 2_000
"""Instructions of SQLite between two looks at the clock: a fraction of a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one query may cost."""

    seconds: float = 5.0
    rows_max: int = 10_000
    bytes_max: int = 8 << 20
    """Of the answer's values, roughly."""
    value_bytes_max: int = 1 << 20
    """A longer text or blob is omitted from an answer."""
    memory_max: int = 256 << 20
    """What SQLite may take in this process while a query runs."""
    sql_bytes_max: int = 64 << 10
    parameters_max: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query found."""

    columns: tuple[str, ...]
    rows: list[list[object]]
    """Values as JSON has them."""
    offset: int
    """The last transaction that the answer knows of; -1 if there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """A table or view that the caller may see."""

    name: str
    kind: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """The columns of the primary key that may be seen."""


_LIMITS: Mapping[int, int] = {
    apsw.SQLITE_LIMIT_EXPR_DEPTH: 100,
    apsw.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    apsw.SQLITE_LIMIT_VDBE_OP: 250_000,
    apsw.SQLITE_LIMIT_FUNCTION_ARG: 100,
    apsw.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class Guarded:
    """One such connection; the database is as it is at one moment, until :meth:`close`."""

    def __init__(
        self, path: str, file_key: bytes | None, rights: Rights, limits: Limits, register: Register = None
    ) -> None:
        self._rights = rights
        self._limits = limits
        self._alias = f"v{secrets.token_hex(16)}"
        self._db = apsw.Connection(":memory:", flags=apsw.SQLITE_OPEN_READWRITE)
        self._granted: dict[str, Grant] = {}
        self._shadows: set[str] = set()
        self._views: set[str] = set()
        self._tables: list[TableInfo] = []
        self._conditions: list[tuple[frozenset[Scalar], ...]] = []
        self._not_a_read = False
        self._statements = 0
        self._description: tuple[str, ...] = ()
        try:
            self._attach(path, file_key)
            prepare(self._db, register)
            self._db.create_scalar_function(_ADMITS, self._admits, deterministic=True)
            self._db.execute("BEGIN")
            self.offset = self._applied() - 1
            """The last transaction that is in it; -1 if there is none."""
            self._make_views()
            self._guard()
        except BaseException:
            self._db.close(True)
            raise

    def close(self) -> None:
        """Give everything back."""
        self._db.close(True)

    @property
    def tables(self) -> Sequence[TableInfo]:
        """What the caller may see."""
        return self._tables

    def run(self, sql: str, parameters: Sequence[Value] | Mapping[str, Value] = ()) -> Answer:
        """Run one SELECT. Raises Problem."""
        limits = self._limits
        if len(sql.encode("utf-8", "replace")) > limits.sql_bytes_max:
            raise Problem("too-large", f"a statement has at most {limits.sql_bytes_max:,} bytes")
        if self._alias in sql.lower():
            raise Problem("unknown-name")
        # That other statements are refused is the authorizer's doing. That they are refused in the same words, whatever
        # they name, is this line's.
        if not _READS.match(sql):
            raise Problem("not-a-read")
        if len(parameters) > limits.parameters_max:
            raise Problem("too-large", f"a statement takes at most {limits.parameters_max:,} parameters")
        self._not_a_read = False
        self._statements = 0
        with self._bounded(), self._explained():
            return self._fetch(sql, parameters)

    def _fetch(self, sql: str, parameters: Sequence[Value] | Mapping[str, Value]) -> Answer:
        limits = self._limits
        cursor = self._db.cursor()
        cursor.exec_trace = self._one_select
        rows: list[list[object]] = []
        size = 0
        for row in cursor.execute(sql, parameters):
            if len(rows) >= limits.rows_max:
                # Not the first so many: whoever did not look would take them for all there are.
                raise Problem("too-large", f"the answer has more than {limits.rows_max:,} rows; ask for less of it")
            for value in row:
                size += 16 if value is None or isinstance(value, (int, float)) else 16 + len(value)
            if size > limits.bytes_max:
                raise Problem("too-large", f"the answer has more than {limits.bytes_max:,} bytes; ask for less of it")
            rows.append([json_value(value, limits.value_bytes_max) for value in row])
        if not self._statements:
            raise Problem("bad-statement", "there is no statement")
        return Answer(columns=self._description, rows=rows, offset=self.offset)

    def _one_select(self, cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        """Called before a statement takes its first step."""
        self._statements += 1
        if self._statements > 1:
            raise Problem("not-a-read", "one statement at a time")
        # EXPLAIN would show the random name, and how big what is hidden is.
        if cursor.is_explain or not cursor.is_readonly:
            raise Problem("not-a-read")
        self._description = tuple(name for name, _ in cursor.get_description())
        return True

    # Beginning

    def _attach(self, path: str, file_key: bytes | None) -> None:
        db = self._db
        db.set_busy_timeout(1_000)
        db.pragma("temp_store", 2)  # What is sorted is not written to a disk in clear.
        if file_key is None:
            db.execute(f"ATTACH ? AS {self._alias}", (path,))
            return
        db.pragma("cipher", "sqlcipher")
        db.pragma("legacy", 4)
        salt = hmac.digest(file_key, b"veritydb salt", "sha256")[:16]
        db.execute(f"ATTACH ? AS {self._alias} KEY ?", (path, f"x'{file_key.hex()}{salt.hex()}'"))

    def _applied(self) -> int:
        found = self._db.execute(
            f"SELECT 1 FROM {self._alias}.sqlite_schema WHERE type = 'table' AND name = ?", (applied.TABLE,)
        ).fetchall()
        if not found:
            return 0
        rows: Any = self._db.execute(f"SELECT applied FROM {self._alias}.{applied.TABLE} WHERE rowid = 1").fetchall()
        return applied.unpack(rows[0][0]).next_offset

    def _make_views(self) -> None:
        alias, db = self._alias, self._db
        listed: list[Any] = db.execute(
            "SELECT name, type FROM pragma_table_list WHERE schema = ? ORDER BY name", (alias,)
        ).fetchall()
        for name, kind in listed:
            folded = name.lower()
            if kind == "view":
                self._views.add(folded)
            if kind == "shadow":
                self._shadows.add(folded)
            if folded.startswith("sqlite_"):  # Cannot be shadowed; the authorizer refuses them by name.
                continue
            grant = self._rights.of(name, view=kind in ("view", "shadow"))
            columns, key = self._columns(name, grant) if grant is not None else ((), ())
            if grant is None or not columns:
                db.execute(f"CREATE TEMP VIEW {quoted(name)} AS SELECT 1 FROM {NOWHERE}")
                continue
            self._granted[folded] = grant
            self._tables.append(TableInfo(name=name, kind=kind, columns=columns, key=key))
            where = self._where(grant)
            db.execute(
                f"CREATE TEMP VIEW {quoted(name)} AS SELECT {', '.join(map(quoted, columns))} "
                f"FROM {alias}.{quoted(name)}{where}"
            )

    def _columns(self, table: str, grant: Grant) -> tuple[tuple[str, ...], tuple[str, ...]]:
        described: list[Any] = self._db.execute(
            "SELECT name, pk FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1 ORDER BY cid", (table, self._alias)
        ).fetchall()
        there = {name.lower() for name, _ in described}
        if any(column not in there for column, _ in grant.rows):
            return (), ()  # A filter that cannot be applied admits nothing.
        shown = [(name, pk) for name, pk in described if grant.columns is None or name.lower() in grant.columns]
        key = tuple(name for name, pk in sorted(shown, key=lambda column: column[1]) if pk)
        return tuple(name for name, _ in shown), key

    def _where(self, grant: Grant) -> str:
        if not grant.rows:
            return ""
        self._conditions.append(tuple(values for _, values in grant.rows))
        columns = ", ".join(quoted(column) for column, _ in grant.rows)
        return f" WHERE {_ADMITS}({len(self._conditions) - 1}, {columns}) LIMIT -1"

    def _admits(self, *arguments: Any) -> bool:
        number, *values = arguments
        # A caller's common table expression may have the name of a view, and call this with anything.
        conditions = self._conditions[number] if isinstance(number, int) and 0 <= number < len(self._conditions) else ()
        return len(values) == len(conditions) and all(map(admitted, values, conditions))

    # Guarding

    def _guard(self) -> None:
        db = self._db
        db.pragma("query_only", True)
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        for limit, most in _LIMITS.items():
            db.limit(limit, most)
        db.authorizer = self._authorize

    def _authorize(
        self, action: int, first: str | None, second: str | None, schema: str | None, through: str | None
    ) -> int:
        if action in (apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE):
            return apsw.SQLITE_OK
        if action == apsw.SQLITE_READ:
            return self._read(str(first).lower(), second, schema, through)
        if action == apsw.SQLITE_FUNCTION:
            name = str(second).lower()
            ours = name == _ADMITS and through is not None and through.lower() in self._granted
            return apsw.SQLITE_OK if ours or not _FUNCTIONS_DENIED.match(name) else apsw.SQLITE_DENY
        if action == apsw.SQLITE_PRAGMA and first == "data_version" and schema == self._alias:
            return apsw.SQLITE_OK  # FTS5 looks whether its tables have changed.
        # Behind WITH a statement may write. Of a table that is not there SQLite says so first; of one that must not
        # seem to be there, this has to say the same.
        writes = action in (apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE)
        self._not_a_read = not writes or str(first).lower() in self._granted
        return apsw.SQLITE_DENY

    def _read(self, table: str, column: str | None, schema: str | None, through: str | None) -> int:
        if schema == self._alias:
            # No statement of the caller's can name this schema: who reads here is one of our views, a view of the
            # database that one of them leads to, or a virtual table that reads its shadow tables.
            inner = None if through is None else through.lower()
            allowed = inner == table and table in self._granted
            allowed = allowed or inner in self._views or (inner is None and table in self._shadows)
            # count(*) reads no column; of a view that SQLite has taken apart it says so on the view's behalf.
            allowed = allowed or (inner is None and not column)
            return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY
        if schema == "temp":
            return apsw.SQLITE_OK if table in self._granted else apsw.SQLITE_DENY
        # A subquery or a common table expression is read under no schema's name; its own parts have been asked about.
        allowed = schema is None or (schema == "main" and table in _PURE_MODULES)
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY

    @contextmanager
    def _bounded(self) -> Generator[None]:
        limits = self._limits
        deadline = time.monotonic() + limits.seconds
        memory_max = apsw.memory_used() + limits.memory_max
        why: list[Problem] = []

        def look() -> bool:
            if time.monotonic() > deadline:
                why.append(Problem("too-slow", f"it ran for more than {limits.seconds:g} s"))
            elif apsw.memory_used() > memory_max:
                why.append(Problem("too-large", "it took more memory than a query may"))
            return bool(why)

        self._db.limit(apsw.SQLITE_LIMIT_LENGTH, limits.bytes_max)
        self._db.set_progress_handler(look, _STEPS)
        try:
            yield
        except apsw.InterruptError:
            raise (why[0] if why else Problem("too-slow")) from None
        finally:
            self._db.set_progress_handler(None)

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Make a problem of what SQLite says, telling no more than the caller may know."""
        try:
            yield
        except apsw.AuthError:
            raise Problem("not-a-read" if self._not_a_read else "unknown-name") from None
        except apsw.TooBigError:
            raise Problem("too-large", "a value in it is too large") from None
        except apsw.InterruptError:
            raise
        except (apsw.BusyError, apsw.IOError, apsw.CorruptError, apsw.NotADBError) as error:
            raise Problem("unavailable") from error
        except UnicodeDecodeError:
            raise Problem("bad-statement", "a text in the answer is not valid UTF-8; CAST it AS BLOB") from None
        except apsw.Error as error:
            message = str(error)
            written = _WRITTEN.search(message)
            if written is not None and written[1].lower() in self._granted:
                raise Problem("not-a-read") from None
            if _OF_NAMES.search(message) or self._alias in message:
                raise Problem("unknown-name") from None
            raise Problem("bad-statement", message) from None
        except Problem:
            raise
        except Exception as error:  # Of a function that was registered for the schema.
            raise Problem("bad-statement", f"a function raised {type(error).__name__}") from error
