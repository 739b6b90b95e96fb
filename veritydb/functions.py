"""A program's callbacks as SQLite calls them: functions, aggregates, windows, collations, handlers.

:mod:`veritydb.connection` registers what these wrappers return. sqlite3 lets no exception of a callback through, but
those of collations: SQLite sees an error with a fixed text, and the traceback is dropped, or reported through
``sys.unraisablehook`` after :func:`enable_callback_tracebacks`. APSW lets every exception through, so each wrapper
catches all and raises what carries the text.
"""

# What a program passes is checked, whatever the annotations promise.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import sys
from collections.abc import Callable, Container
from typing import Any, TypeAlias

import apsw

from veritydb.errors import DataError

_tracebacks = False
_arguments_type: Any = None

Step: TypeAlias = "Callable[..., None]"
Value: TypeAlias = "Callable[[Any], Any]"


def enable_callback_tracebacks(enable: bool, /) -> None:
    """Report exceptions of callbacks through ``sys.unraisablehook``, or drop them (the default)."""
    global _tracebacks
    _tracebacks = bool(enable)


def report(error: BaseException, callback: object) -> None:
    """Hand ``error``, which ``callback`` raised, to ``sys.unraisablehook`` if tracebacks are wanted."""
    if _tracebacks:
        sys.unraisablehook(_unraisable_type()((type(error), error, error.__traceback__, None, callback)))


def _unraisable_type() -> Any:
    # The hook's argument has a type that Python names nowhere; it is learned from a first, caught one.
    global _arguments_type
    if _arguments_type is None:
        caught: list[Any] = []
        before, sys.unraisablehook = sys.unraisablehook, caught.append
        try:
            _Failing()
        finally:
            sys.unraisablehook = before
        _arguments_type = caught[0].__class__
    return _arguments_type


class _Failing:
    def __del__(self) -> None:
        raise RuntimeError


def failure(text: str, code: int = apsw.SQLITE_ERROR) -> apsw.Error:
    """Return the exception that makes SQLite's error ``code`` with ``text``."""
    error: Any = {apsw.SQLITE_TOOBIG: apsw.TooBigError, apsw.SQLITE_NOMEM: apsw.NoMemError}.get(code, apsw.SQLError)(
        text
    )
    error.result = error.extendedresult = code
    # An exception on its way through SQLite keeps APSW from calling us; the session has to know that it was one.
    error.from_callback = True
    made: apsw.Error = error
    return made


def _failure_of(error: BaseException, callback: object, text: str) -> apsw.Error:
    report(error, callback)
    if isinstance(error, MemoryError):
        return failure("out of memory", apsw.SQLITE_NOMEM)
    if isinstance(error, OverflowError):
        return failure("string or blob too big", apsw.SQLITE_TOOBIG)
    return failure(text)


def _result(value: Any) -> Any:
    """Return ``value`` as APSW takes it, or raise what makes it fail as in sqlite3."""
    kind = value.__class__
    if kind is int:
        if not -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return value
    if kind is str:
        if not value.isascii():
            value.encode()  # A lone surrogate must fail here, where it is our error.
        return value
    if value is None or kind is float or kind is bytes:
        return value
    if isinstance(value, int | str | float):
        return _result(int(value) if isinstance(value, int) else str(value) if isinstance(value, str) else float(value))
    try:
        view = memoryview(value)
    except TypeError:
        raise _Unsupported from None
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view.tobytes()


class _Unsupported(Exception):
    """A callback returned a value of a type that SQLite does not store."""


_FUNCTION = "user-defined function raised exception"


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` as SQLite may call it."""

    def call(*arguments: Any) -> Any:
        try:
            value = function(*arguments)
            if value is None or value.__class__ is float:
                return value
            return _result(value)
        except _Unsupported:
            raise failure(_FUNCTION) from None
        except BaseException as error:
            raise _failure_of(error, function, _FUNCTION) from None

    return call


class _Aggregation:
    """One run of an aggregate or window function. The program's object is made at the first row, as in sqlite3."""

    __slots__ = ("failed", "made", "make", "windowed")

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.made: Any = None
        self.failed = False
        self.windowed = False

    def call(self, method: str, *arguments: Any) -> Any:
        try:
            bound = getattr(self.made, method)
        except AttributeError as error:
            raise _failure_of(error, self.make, f"user-defined aggregate's '{method}' method not defined") from None
        try:
            return bound(*arguments)
        except BaseException as error:
            raise _failure_of(error, self.make, f"user-defined aggregate's '{method}' method raised error") from None


def _step(run: _Aggregation, *arguments: Any) -> None:
    if run.made is None:
        try:
            run.made = run.make()
        except BaseException as error:
            run.failed = True
            raise _failure_of(error, run.make, "user-defined aggregate's '__init__' method raised error") from None
    run.call("step", *arguments)


def _returned(run: _Aggregation, method: str) -> Any:
    value = run.call(method)
    try:
        return _result(value)
    except _Unsupported:
        raise failure(f"user-defined aggregate's '{method}' method raised error") from None
    except BaseException as error:
        raise _failure_of(error, run.make, f"user-defined aggregate's '{method}' method raised error") from None


def _final(run: _Aggregation) -> Any:
    if run.made is None:
        return None
    try:
        return _returned(run, "finalize")
    except apsw.Error:
        # SQLite has no ear for an error of xFinal after a window; as an aggregate it has.
        if run.windowed:
            return None
        raise


def _value(run: _Aggregation) -> Any:
    run.windowed = True
    return _returned(run, "value")


def _inverse(run: _Aggregation, *arguments: Any) -> None:
    run.windowed = True
    run.call("inverse", *arguments)


def aggregate(make: Callable[[], Any]) -> Callable[[], tuple[_Aggregation, Step, Value]]:
    """Return a factory of aggregations that ``make`` (a class with ``step`` and ``finalize``) carries out."""
    return lambda: (_Aggregation(make), _step, _final)


def window(make: Callable[[], Any]) -> Callable[[], tuple[_Aggregation, Step, Value, Value, Step]]:
    """Return a factory of window functions: ``make`` gives ``step``, ``finalize``, ``value`` and ``inverse``."""
    return lambda: (_Aggregation(make), _step, _final, _value, _inverse)


def collation(compare: Callable[[str, str], int]) -> Callable[[str, str], int]:
    """Return ``compare`` as SQLite may call it. What is no number counts as equal; exceptions go through, as there."""

    def call(one: str, two: str) -> int:
        order = compare(one, two)
        return (order > 0) - (order < 0) if isinstance(order, int) else 0

    return call


def authorizer(ask: Callable[..., Any]) -> Callable[..., int]:
    """Return ``ask`` as SQLite may call it; what fails, or is no int, denies."""

    def call(*arguments: Any) -> int:
        try:
            verdict = ask(*arguments)
            if isinstance(verdict, int):
                if not -0x8000_0000 <= verdict <= 0x7FFF_FFFF:
                    raise OverflowError("Python int too large to convert to C int")
                return verdict
        except BaseException as error:
            report(error, ask)
        return apsw.SQLITE_DENY

    return call


def progress(handler: Callable[[], Any]) -> Callable[[], bool]:
    """Return ``handler`` as SQLite may call it; what fails stops the statement."""

    def call() -> bool:
        try:
            return bool(handler())
        except BaseException as error:
            report(error, handler)
            return True

    return call


def trace(
    callback: Callable[[str], Any], control: Container[apsw.Cursor], bare_begin: str
) -> Callable[[apsw.Cursor, str, Any], bool]:
    """Return ``callback`` as an execution trace: called with each statement, its parameters filled in.

    It is set on the program's cursors, and on those in ``control``, which begin and end transactions. A transaction
    around one bare statement is ours alone and begins with ``bare_begin``; sqlite3 has none there.
    """
    bare = False

    def call(cursor: apsw.Cursor, sql: str, _: Any) -> bool:
        nonlocal bare
        if not sql:
            return True  # That is how a query is given up.
        if cursor in control:
            if sql.startswith("BEGIN"):
                bare = sql == bare_begin
                if bare:
                    return True
            elif bare:
                bare = False
                return True
        try:
            try:
                text = cursor.expanded_sql
            except apsw.Error:
                report(DataError("Expanded SQL string exceeds the maximum string length"), callback)
                text = sql
            callback(text)
        except BaseException as error:
            report(error, callback)
        return True

    return call
