"""Two ways to run one SQL program: through VerityDB, and through plain SQLite of the very same version beside it.

A :class:`Side` runs a step and says everything an application could see of it (:class:`Outcome`), so that a test
compares two outcomes and never has to know what SQLite does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import apsw

import veritydb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNTERS = "SELECT changes(), total_changes(), last_insert_rowid()"
_COMMENTS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_VERBS = ("INSERT", "UPDATE", "DELETE", "REPLACE")

# What the standard library raises for a primary result code (Modules/_sqlite/util.c); every other code: DatabaseError.
_CLASSES: dict[int, type[veritydb.Error]] = {
    apsw.SQLITE_INTERNAL: veritydb.InternalError,
    apsw.SQLITE_NOTFOUND: veritydb.InternalError,
    apsw.SQLITE_TOOBIG: veritydb.DataError,
    apsw.SQLITE_CONSTRAINT: veritydb.IntegrityError,
    apsw.SQLITE_MISMATCH: veritydb.IntegrityError,
    apsw.SQLITE_MISUSE: veritydb.InterfaceError,
    apsw.SQLITE_RANGE: veritydb.InterfaceError,
} | dict.fromkeys(
    (
        apsw.SQLITE_ERROR,
        apsw.SQLITE_PERM,
        apsw.SQLITE_ABORT,
        apsw.SQLITE_BUSY,
        apsw.SQLITE_LOCKED,
        apsw.SQLITE_READONLY,
        apsw.SQLITE_INTERRUPT,
        apsw.SQLITE_IOERR,
        apsw.SQLITE_FULL,
        apsw.SQLITE_CANTOPEN,
        apsw.SQLITE_PROTOCOL,
        apsw.SQLITE_EMPTY,
        apsw.SQLITE_SCHEMA,
    ),
    veritydb.OperationalError,
)


class Failure(NamedTuple):
    """An error as an application sees it."""

    kind: str
    """Name of the DB-API class."""
    code: int
    """Extended result code."""
    message: str


class Outcome(NamedTuple):
    """All that one step lets an application see."""

    rows: list[tuple[Any, ...]] | None
    failure: Failure | None
    counters: tuple[int, ...]
    """``changes()``, ``total_changes()``, ``last_insert_rowid()``."""
    in_transaction: bool


@dataclass(frozen=True, slots=True)
class Many:
    """A statement for each of several parameter sets (``executemany``)."""

    sql: str
    parameters: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes written through an incremental blob handle."""

    table: str
    column: str
    rowid: int
    offset: int
    data: bytes


Step: TypeAlias = "str | tuple[str, Any] | Many | Blob"


class Side(Protocol):
    """One of the two."""

    def run(self, step: Step) -> Outcome:
        """Run ``step`` and say what could be seen of it."""
        ...

    def function(self, name: str, argument_count: int, call: Callable[..., Any], *, pure: bool = False) -> None:
        """Register a function for SQL."""
        ...

    def collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        """Register a collation."""
        ...

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        ...


class Ours:
    """Through :func:`veritydb.connect`."""

    def __init__(self, connection: veritydb.Connection) -> None:
        self.connection = connection

    def run(self, step: Step) -> Outcome:
        rows: list[tuple[Any, ...]] | None = None
        failure: Failure | None = None
        try:
            rows = self._rows(step)
        except veritydb.Error as error:
            kind = next(c.__name__ for c in type(error).__mro__ if c in _DBAPI)
            failure = Failure(kind, getattr(error, "sqlite_errorcode", -1), str(error))
        counters = self.connection.execute(COUNTERS).fetchone()
        return Outcome(rows, failure, tuple(counters), self.connection.in_transaction)

    def _rows(self, step: Step) -> list[tuple[Any, ...]]:
        match step:
            case str():
                return self.connection.execute(step).fetchall()
            case (sql, parameters):
                return self.connection.execute(sql, parameters).fetchall()
            case Many():
                self.connection.executemany(step.sql, step.parameters)
                return []
            case Blob():
                with self.connection.blobopen(step.table, step.column, step.rowid) as blob:
                    blob.seek(step.offset)
                    blob.write(step.data)
                return []

    def function(self, name: str, argument_count: int, call: Callable[..., Any], *, pure: bool = False) -> None:
        self.connection.create_function(name, argument_count, call, deterministic=pure)

    def collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        self.connection.create_collation(name, compare)

    def close(self) -> None:
        self.connection.close()


class Plain:
    """Through APSW and nothing else; what :mod:`sqlite3` adds is done by hand where a test needs it."""

    def __init__(self, path: str, *, implicit: str | None = None) -> None:
        # A statement that was kept is not prepared again, and may so meet a lock before it meets its own mistake.
        self.db = apsw.Connection(path, statementcachesize=0)
        self.db.pragma("synchronous", "OFF")
        self._fresh = True
        self.implicit = implicit
        """How a transaction begins by itself before INSERT, UPDATE, DELETE and REPLACE; None: it does not."""

    def run(self, step: Step) -> Outcome:
        rows: list[tuple[Any, ...]] | None = None
        failure: Failure | None = None
        if self._fresh and not str(step).startswith("PRAGMA"):
            self.db.pragma("journal_mode", "WAL")  # From then on page_size and encoding are what they are.
            self._fresh = False
        try:
            rows = self._rows(step)
        except apsw.Error as error:
            primary = error.extendedresult & 0xFF
            kind = _CLASSES.get(primary, veritydb.DatabaseError).__name__
            failure = Failure(kind, error.extendedresult, str(error))
        except RaisedInFunction:
            failure = Failure("OperationalError", apsw.SQLITE_ERROR, "user-defined function raised exception")
        (counters,) = self.db.execute(COUNTERS).fetchall()
        return Outcome(rows, failure, counters, self.db.in_transaction)

    def _rows(self, step: Step) -> list[tuple[Any, ...]]:
        match step:
            case str():
                self._begin(step)
                return self.db.execute(step).fetchall()
            case (sql, parameters):
                self._begin(sql, parameters)
                return self.db.execute(sql, parameters).fetchall()
            case Many():
                self._begin(step.sql, step.parameters[0])
                for _ in self.db.executemany(step.sql, step.parameters):
                    pass
                return []
            case Blob():
                blob = self.db.blob_open("main", step.table, step.column, step.rowid, True)
                try:
                    blob.seek(step.offset)
                    blob.write(step.data)
                finally:
                    blob.close(True)
                return []

    def _begin(self, sql: str, parameters: Any = None) -> None:
        # sqlite3 prepares the statement first: what cannot be prepared begins no transaction.
        text = _COMMENTS.sub("", sql, count=1)
        if self.implicit is not None and not self.db.in_transaction and text.upper().startswith(_VERBS):
            cursor = self.db.cursor()
            cursor.exec_trace = _stop
            try:
                cursor.execute(sql, parameters)
            except apsw.ExecTraceAbort:
                pass
            except apsw.Error:
                return
            self.db.execute(self.implicit)

    def function(self, name: str, argument_count: int, call: Callable[..., Any], *, pure: bool = False) -> None:
        self.db.create_scalar_function(name, call, argument_count, deterministic=pure)

    def collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        self.db.create_collation(name, compare)

    def close(self) -> None:
        self.db.close(True)


def _stop(*_: Any) -> bool:
    return False


class RaisedInFunction(Exception):
    """What functions registered by tests raise."""


_DBAPI = frozenset(
    {
        veritydb.InterfaceError,
        veritydb.DatabaseError,
        veritydb.DataError,
        veritydb.OperationalError,
        veritydb.IntegrityError,
        veritydb.InternalError,
        veritydb.ProgrammingError,
        veritydb.NotSupportedError,
    }
)


def run_both(ours: Side, plain: Side, steps: Sequence[Step]) -> None:
    """Run ``steps`` on both sides and require equal outcomes, step by step."""
    for number, step in enumerate(steps):
        seen, expected = ours.run(step), plain.run(step)
        assert_alike(seen, expected, f"step {number}: {step!r:.300}")


def assert_alike(seen: Outcome, expected: Outcome, where: str) -> None:
    """Require equal outcomes; NaN does not occur, for SQLite stores it as NULL."""
    if "EXPLAIN" in where:  # A DELETE is another program where row changes are reported.
        seen, expected = seen._replace(rows=None), expected._replace(rows=None)
    if "VACUUM" in where:  # It leaves the number of objects in the schema, of which one is ours.
        seen, expected = (outcome._replace(counters=outcome.counters[:2]) for outcome in (seen, expected))
    if repr(seen) != repr(expected):  # By repr: 1 and 1.0 are not alike, nor are 0.0 and -0.0.
        raise AssertionError(f"{where}\n  veritydb: {seen}\n  sqlite:   {expected}")
