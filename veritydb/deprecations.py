"""What the standard module deprecates, deprecated here from the same Python version on.

Programs that turn warnings into errors, or silence them, are written against the ``sqlite3`` of the Python they run on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_HERE = str(Path(__file__).parent)


def deprecated(message: str) -> None:
    """Warn as if the program's own line did."""
    if sys.version_info >= (3, 12):
        from warnings import warn

        warn(message, DeprecationWarning, skip_file_prefixes=(_HERE,))


def positional_soon(*names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Deprecate passing the parameters ``names`` of a Connection's method by keyword, as Python 3.13 does."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        if sys.version_info < (3, 13):
            return method
        quoted = [f"'{name}'" for name in names]
        several = len(names) > 1
        listed = f"{', '.join(quoted[:-1])} and {quoted[-1]}" if several else quoted[0]
        message = (
            f"Passing keyword argument{'s' * several} {listed} to _sqlite3.Connection.{method.__name__}() is "
            f"deprecated. Parameter{'s' * several} {listed} will become positional-only in Python 3.15."
        )

        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if any(name in kwargs for name in names):
                deprecated(message)
            return method(*args, **kwargs)

        return call

    return decorate


def keyword_only_soon(what: str, place: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Deprecate passing more than the database, which is argument ``place``, by position, as Python 3.13 does."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        if sys.version_info < (3, 13):
            return function

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if len(args) > place + 1:
                deprecated(
                    f"Passing more than 1 positional argument to {what}() is deprecated. Parameters 'timeout', "
                    "'detect_types', 'isolation_level', 'check_same_thread', 'factory', 'cached_statements' and 'uri' "
                    "will become keyword-only parameters in Python 3.15."
                )
            return function(*args, **kwargs)

        return call

    return decorate


def named_by_sequence(names: Any) -> None:
    """Deprecate parameters with names that are given as a sequence, as Python 3.12 does."""
    for number, name in enumerate(names, 1):
        if name is not None and not name.isdigit():
            deprecated(
                f"Binding {number} (':{name}') is a named parameter, but you supplied a sequence which requires "
                "nameless (qmark) placeholders. Starting with Python 3.14 an sqlite3.ProgrammingError will be raised."
            )
            return


def version_of(module: str, name: str) -> object:
    """Return what ``version`` and ``version_info`` of the DB-API module are; they last changed in 2010."""
    known = {"version": "2.6.0", "version_info": (2, 6, 0)}
    if name == "OptimizedUnicode" and sys.version_info < (3, 12):
        from warnings import warn

        warn("OptimizedUnicode is deprecated, use str instead", DeprecationWarning, stacklevel=3)
        return str
    if name not in known:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    deprecated(f"{name} is deprecated and will be removed in Python 3.14")
    return known[name]
