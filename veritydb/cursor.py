"""The cursor: PEP 249 over an APSW cursor, shaped for speed.

A cursor is one row ahead, exactly as ``sqlite3`` is: executing steps to the first row, and fetching a row steps to the
next. So fetching the last row ends the statement and its read lock, and a program that fetches one row and then drops
the table goes on working. APSW makes the rows; nothing here runs per value.

Each method checks what sqlite3 checks (thread, closed, initialised) where it costs least: a slot that was never filled
is missed when it is read, and a cursor or database that was closed has no row to give, so the slow path looks why.
"""

# The connection and its cursors are one thing in two files, and look into each other.
# pyright: reportPrivateUsage=false
# What a program passes is checked, whatever the annotations promise.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

import apsw

from veritydb import adaptation, texts
from veritydb import row as rows_of_names
from veritydb.adaptation import bindable, bindable_rows
from veritydb.constants import PARSE_COLNAMES, PARSE_DECLTYPES
from veritydb.deprecations import named_by_sequence
from veritydb.errors import DataError, OperationalError, ProgrammingError
from veritydb.row import Row, kind_of
from veritydb.translation import translated

if TYPE_CHECKING:
    from typing import Self

    from veritydb.connection import Connection
    from veritydb.planner import Plan
    from veritydb.session import Session

_NO_ROWS: Iterator[Any] = iter(())
_WARNS_OF_NAMES = sys.version_info >= (3, 12)
_RECURSIVE = "Recursive use of cursors not allowed."
_NO_NAME = re.compile(r"Binding (\d+) has no name")


class Cursor:
    """Executes statements and holds the rows of the last one. Made by :meth:`Connection.cursor`.

    ``arraysize`` is how many rows :meth:`fetchmany` fetches if not told; ``row_factory`` is called with the cursor and
    each row, and returns what is fetched (None: the tuple itself).
    """

    __slots__ = (
        "__weakref__",
        "_apsw",
        "_bindings",
        "_connection",
        "_convert",
        "_description",
        "_ident",
        "_lastrowid",
        "_plan",
        "_row",
        "_rowcount",
        "_rows",
        "_thread",
        "arraysize",
        "row_factory",
    )

    def __init__(self, connection: Connection, /) -> None:
        if not issubclass(type(connection), connections[0]):
            raise TypeError(f"Cursor() argument 1 must be veritydb.Connection, not {kind_of(connection)}")
        self._ident, self._thread = connection._ident, connection._thread
        session = connection._session
        if session is None or self._ident() != self._thread:
            connection._check()
            raise AssertionError("nothing is wrong with this connection")
        if connection._converting is not None and self in connection._converting:
            raise ProgrammingError(_RECURSIVE)
        if self._thread == 0:
            connection._share(self)
        self._connection = connection
        spare = connection._spare
        self._apsw: apsw.Cursor | None = spare.pop() if spare else connection._new_cursor(session)
        """None once the cursor is closed."""
        self._row: Any = None
        """The row that is fetched next; None if there is none, an :class:`_Undecodable` if it could not be made."""
        self._rows = _NO_ROWS
        """What comes after it."""
        self._convert: texts.Converter | None = None
        self._description: tuple[tuple[Any, ...], ...] | None = None
        self._plan: Plan | None = None
        self._bindings: Any = ()
        self._lastrowid: int | None = None
        self._rowcount = -1
        self.row_factory: Any = None
        self.arraysize = 1

    # Running ----------------------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        """Execute one statement with ``parameters`` (a sequence, or a mapping for named ones)."""
        connection = self._connection
        cursor, session = self._apsw, connection._session
        if cursor is None or session is None or self._ident() != self._thread:
            self._refuse()
        try:
            bindings = bindable(parameters)
            plan = session.plans.get(sql)
            if plan is not None and plan.reads:
                if session.freshness is not None:
                    session.freshness.before(session)
                cursor.execute(plan.sql, bindings)
                rows, count = None, -1
                if session.planner.reprepared:
                    plan = self._planned_anew(session, plan, sql, bindings)
            else:
                if self._row is not None:
                    cursor.execute("")  # The last query is over, also where this statement runs elsewhere.
                if plan is None and _WARNS_OF_NAMES and bindings.__class__ in (tuple, list) and bindings:
                    named_by_sequence(session.planned(sql, bindings).parameters)
                plan, rows, count = session.execute(cursor, sql, bindings)
        except Exception as error:
            raise self._execute_failure(error, sql, session) from error
        try:
            # Here, because what is interrupted from now on may have committed, and has to say so.
            if rows is not None and plan.returns_rows and session.planner.reprepared:
                plan = self._planned_anew(session, plan, sql, bindings)
            self._plan = plan
            self._description = plan.description
            self._rowcount = count
            if connection._converts:
                self._prepare_conversion(plan, bindings)
            else:
                self._convert = None
            if rows is None:
                self._rows = cursor
                if plan.description is None:
                    self._row = None
                else:
                    self._bindings = bindings
                    try:
                        self._row = next(cursor, None)
                    except Exception as error:
                        self._row = self._step_failure(error, in_hand=0)
            else:
                # The session has fetched the rows already, because the statement wrote.
                self._rows = iter(rows)
                self._row = next(self._rows, None)
            self._lastrowid = session.db.last_insert_rowid()
        except Exception:
            raise
        except BaseException as interruption:
            if not plan.reads:
                session.interrupted(interruption, session.offset_before)
            raise
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        """Execute an INSERT, UPDATE, DELETE or REPLACE once for each set of ``parameters``."""
        cursor, session = self._apsw, self._connection._session
        if cursor is None or session is None or self._ident() != self._thread:
            self._refuse()
        if not isinstance(sql, str):
            raise TypeError(f"executemany() argument 1 must be str, not {kind_of(sql)}")
        rows = bindable_rows(parameters)
        if self._row is not None:
            cursor.execute("")
        self._row, self._rows = None, _NO_ROWS
        self._ident = _nobody
        try:
            plan, count = session.execute_many(cursor, sql, rows)
        except Exception as error:
            raise self._execute_failure(error, sql, session) from error
        finally:
            self._ident = self._connection._ident
        self._plan = plan
        self._description = plan.description
        self._rowcount = count
        return self

    def executescript(self, sql_script: str, /) -> Self:
        """Execute all statements of ``sql_script``. An open transaction is committed first, as in sqlite3."""
        if not isinstance(sql_script, str):
            raise TypeError(f"executescript() argument must be str, not {kind_of(sql_script)}")
        if "\0" in sql_script:
            raise ValueError("embedded null character")
        session = self._connection._session
        if self._apsw is None or session is None or self._ident() != self._thread:
            self._refuse()
        if len(sql_script.encode()) > session.db.limit(apsw.SQLITE_LIMIT_SQL_LENGTH):
            raise DataError("query string is too large")
        try:
            spare = self._connection._spare
            cursor = spare.pop() if spare else self._connection._new_cursor(session)
            try:
                session.execute_script(sql_script, cursor)
            finally:
                cursor.execute("")
                spare.append(cursor)
        except Exception as error:
            raise self._execute_failure(error, sql_script, session) from error
        return self

    # Fetching ---------------------------------------------------------------------------------------------------------

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        row = self._row
        if row is None or self._ident() != self._thread:
            self._check()
            return None
        try:
            self._row = next(self._rows, None)
        except Exception as error:
            self._row = self._step_failure(error, in_hand=1)
        if self._convert is None and self.row_factory is None and row.__class__ is tuple:
            return row
        return self._made(row)

    def __next__(self) -> Any:
        # As fetchone, written out once more: a call for each row would cost a third of the row.
        row = self._row
        if row is None or self._ident() != self._thread:
            self._check()
            raise StopIteration
        try:
            self._row = next(self._rows, None)
        except Exception as error:
            self._row = self._step_failure(error, in_hand=1)
        if self._convert is None and self.row_factory is None and row.__class__ is tuple:
            return row
        return self._made(row)

    def __iter__(self) -> Self:
        return self

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next ``size`` rows (``arraysize`` if not given), fewer at the end."""
        if size is None:
            size = self.arraysize
        elif not hasattr(type(size), "__index__"):
            raise TypeError(f"{type(size).__name__!r} object cannot be interpreted as an integer")
        return self._take(size)

    def fetchall(self) -> list[Any]:
        """Return all remaining rows."""
        return self._take(0)

    def _take(self, size: int) -> list[Any]:
        first = self._row
        if first is None or self._ident() != self._thread:
            self._check()
            return []
        source = self._rows
        try:
            if size > 0:
                taken = list(islice(source, size - 1))
                self._row = next(source, None) if len(taken) == size - 1 else None
            else:  # sqlite3 takes no number, 0 and negative ones for all.
                taken = source.fetchall() if isinstance(source, apsw.Cursor) else list(source)
                self._row = None
            taken.insert(0, first)
        except Exception as error:
            self._row = self._step_failure(error, in_hand=1)
            if self._row.__class__ is _Undecodable:
                raise self._complaint(self._row) from None
            taken = [first, *self._take_again(size)]
        if first.__class__ is _Undecodable:
            raise self._complaint(first)
        if self._convert is not None:
            taken = self._converted(taken)
        factory = self.row_factory
        if factory is None:
            return taken
        if factory is Row:
            return rows_of_names.rows(self.description, taken)
        return [factory(self, row) for row in taken]

    def _take_again(self, size: int) -> list[Any]:
        # The rows come from the second run of the query now, and the first of them is in self._row.
        first, source = self._row, self._rows
        if first is None or size == 1:
            return []
        taken = [first, *(islice(source, size - 2) if size > 0 else source)]
        self._row = next(source, None)
        return taken

    def _made(self, row: Any) -> Any:
        if row.__class__ is _Undecodable:
            raise self._complaint(row)
        if self._convert is not None:
            row = self._converted((row,))[0]
        factory = self.row_factory
        return row if factory is None else factory(self, row)

    def _planned_anew(self, session: Session, plan: Plan, sql: str, bindings: Any) -> Plan:
        # Another connection may have changed what the columns are. If there are rows, they tell.
        session.planner.reprepared = False
        assert self._apsw is not None
        try:
            if self._apsw.get_description() == plan.columns:
                return plan
        except apsw.ExecutionCompleteError:
            pass
        session.plans.pop(sql, None)
        return session._plan(sql, bindings)

    def _keep_rows(self) -> None:
        # The connection is about to leave its database: what this cursor has yet to give comes into memory.
        if self._row is not None and isinstance(self._rows, apsw.Cursor):
            self._rows = iter(self._rows.fetchall())

    # The rest of PEP 249 ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the cursor; it cannot be used any more."""
        self._connection._check()
        if self._ident is _nobody:
            raise ProgrammingError(_RECURSIVE)
        cursor = self._apsw
        if cursor is not None:
            try:
                cursor.execute("")
            except apsw.ThreadingViolationError as error:
                raise ProgrammingError(_RECURSIVE) from error
            self._apsw = None
            self._row, self._rows = None, _NO_ROWS
            self._connection._spare.append(cursor)

    def __del__(self) -> None:
        # APSW 3.54 leaks a reference to every older cursor when a younger one goes, so that a cursor which is dropped
        # with rows left would keep its statement open, and its lock. So its cursors never go; they are used again.
        try:
            cursor = self._apsw
            if cursor is not None:
                if self._row is not None:
                    cursor.execute("")
                self._connection._spare.append(cursor)
        except Exception:
            pass  # Never initialised, or closed with its connection.

    def setinputsizes(self, sizes: Any, /) -> None:
        """Do nothing, as PEP 249 allows."""

    def setoutputsize(self, size: Any, column: Any = None, /) -> None:
        """Do nothing, as PEP 249 allows."""

    connection = property(attrgetter("_connection"), doc="The connection that made this cursor.")
    description = property(
        attrgetter("_description"),
        doc="For each column of the last statement its name and six times None; None if the statement returns no rows.",
    )
    lastrowid = property(attrgetter("_lastrowid"), doc="Row id of the row inserted last; None before any statement.")

    @property
    def rowcount(self) -> int:
        """Rows that the last INSERT, UPDATE, DELETE or REPLACE changed; -1 after any other statement."""
        count = self._rowcount
        # Until the last row of a RETURNING is fetched, it is 0, as in sqlite3.
        return 0 if count > 0 and self._row is not None else count

    # Conversion -------------------------------------------------------------------------------------------------------

    def _converted(self, rows: Iterable[Any]) -> list[Any]:
        # A converter is the program's code and has this cursor at hand. Nobody may use it meanwhile, or begin it anew.
        connection = self._connection
        before = connection._converting
        connection._converting = (*(before or ()), self)
        self._ident = _nobody
        try:
            assert self._convert is not None
            return list(map(self._convert, rows))
        finally:
            self._ident = connection._ident
            connection._converting = before

    def _prepare_conversion(self, plan: Plan, bindings: Any) -> None:
        self._convert = None
        connection = self._connection
        if plan.description is None:
            return
        detect = connection._detect
        found = None
        if detect:
            kept = plan.conversion
            if kept is None or kept[0] != detect:
                kept = plan.conversion = _conversion(plan, detect)
            _, self._description, names = kept
            found = adaptation.converters_of(names)
        if found is not None or connection._text_factory is not str:
            again = partial(texts.rows_as_bytes, connection._opened().db, plan, bindings)
            self._convert = texts.Converter(found, partial(getattr, connection, "_text_factory"), again)

    # Failing ----------------------------------------------------------------------------------------------------------

    def __init_subclass__(cls) -> None:
        # A class with an __init__ of its own may not call ours. Only there a slot that was never filled is looked for:
        # in a class that has __getattr__ every read of every attribute takes five times as long.
        if cls.__init__ is not Cursor.__init__ and not hasattr(cls, "__getattr__"):
            cls.__getattr__ = _missing  # type: ignore[attr-defined]  # as a method of the class would be

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle {rows_of_names.type_name(type(self))!r} object")

    def _check(self) -> None:
        """Raise what sqlite3 raises if this cursor cannot be used here and now."""
        if self._ident is _nobody:
            raise ProgrammingError(_RECURSIVE)
        if self._apsw is None:
            raise ProgrammingError("Cannot operate on a closed cursor.")
        self._connection._check()

    def _refuse(self) -> NoReturn:
        self._check()
        raise AssertionError("nothing is wrong with this cursor")

    # What follows returns exceptions, for its caller to raise where they are caught: a frame that has one in a variable
    # and raises it is a cycle, which keeps this cursor and its statement until the garbage collector comes by.

    def _step_failure(self, error: Exception, *, in_hand: int) -> Any:
        """Return the row that comes next all the same; else raise what the program gets."""
        if isinstance(error, UnicodeDecodeError):
            again = self._convert.resume(in_hand) if self._convert is not None else None
            if again is None:
                return _Undecodable(error.object)
            self._rows = again
            return next(again, None)
        self._row, self._rows = None, _NO_ROWS
        if isinstance(error, apsw.Error):
            raise self._named(translated(error), error) from error
        try:
            raise error
        finally:
            del error

    def _complaint(self, row: _Undecodable) -> Exception:
        plan = self._plan
        assert plan is not None
        again = partial(texts.rows_as_bytes, self._connection._opened().db, plan, self._bindings)
        return texts.undecodable(row.text, plan, again)

    def _execute_failure(self, error: Exception, sql: object, session: Session) -> Exception:
        self._row, self._rows = None, _NO_ROWS
        if not isinstance(sql, str):
            return TypeError(f"execute() argument 1 must be str, not {kind_of(sql)}")
        self._convert = None
        self._description = None
        self._rowcount = -1
        if self._apsw is not None:
            with suppress(apsw.Error):
                self._apsw.execute("")  # It lets go of its statement and of what executemany() took values from.
        if isinstance(error, ValueError) and "\0" in sql:
            return ProgrammingError("the query contains a null character")
        if _came_from_binding(error):
            if isinstance(error, KeyError):
                return ProgrammingError(f"You did not supply a value for binding parameter :{error.args[0]}.")
            if isinstance(error, OverflowError):
                return OverflowError("Python int too large to convert to SQLite INTEGER")
            if isinstance(error, UnicodeDecodeError):
                # A function of the program was to be called with such text; sqlite3 calls that its failure.
                return OperationalError("user-defined function raised exception")
        if isinstance(error, apsw.Error):
            try:
                session.failed(error)
            except Exception as translated_error:
                return self._named(translated_error, error)
        if isinstance(error, DataError) and len(sql.encode()) > session.db.limit(apsw.SQLITE_LIMIT_SQL_LENGTH):
            return DataError("query string is too large")
        return self._named(error, error.__cause__)

    def _named(self, error: Exception, cause: BaseException | None) -> Exception:
        """Return ``error``, whose cause is APSW's, in sqlite3's words."""
        if isinstance(cause, apsw.ThreadingViolationError):
            return ProgrammingError(_RECURSIVE)
        if isinstance(cause, apsw.CursorClosedError | apsw.ConnectionClosedError):
            try:
                self._check()
            except ProgrammingError as why:
                return why
        if isinstance(cause, apsw.BindingsError):
            found = _NO_NAME.match(str(error))
            if found is not None:
                return ProgrammingError(
                    f"Binding {int(found[1]) + 1} has no name, but you supplied a dictionary (which has only names)."
                )
        return error


def _came_from_binding(error: Exception) -> bool:
    # Where the program raised it (in a generator of parameters), the last entry of the traceback is the program's.
    entry = error.__traceback__
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    return entry is not None and str(entry.tb_frame.f_globals.get("__name__")).startswith("veritydb.")


def _missing(self: Any, name: str) -> NoReturn:
    """Raise what sqlite3 raises for a cursor whose ``__init__`` was not called."""
    if name in Cursor.__slots__:
        raise ProgrammingError("Base Cursor.__init__ not called.")
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


def _nobody() -> int:
    """Stand for the thread of a cursor that is in use: none, so that each method looks why."""
    return -1


class _Undecodable:
    """Stands for a row that holds ``text`` which is not UTF-8, until it is fetched."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def _conversion(plan: Plan, detect: int) -> tuple[int, Any, list[tuple[str, ...]]]:
    description = plan.description
    if detect & PARSE_COLNAMES and description is not None:
        description = tuple([(_before_bracket(column[0]), *column[1:]) for column in description])
    by_declaration, by_name = bool(detect & PARSE_DECLTYPES), bool(detect & PARSE_COLNAMES)
    return detect, description, adaptation.converter_names(plan.columns, by_declaration=by_declaration, by_name=by_name)


def _before_bracket(name: str) -> str:
    # PARSE_COLNAMES: in "since [timestamp]" the name ends before the bracket and the space in front of it.
    bracket = name.find("[")
    if bracket < 0:
        return name
    return name[: bracket - 1] if name[bracket - 1 : bracket] == " " else name[:bracket]


connections: list[type] = []
"""Connection's class, put there by :mod:`veritydb.connection`, which imports this module."""
rows_of_names.cursors.append(Cursor)
Cursor.__module__ = "veritydb"
