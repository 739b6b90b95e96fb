"""The names of ``sqlite3.dbapi2``: type constructors, versions, and what the module itself does.

:mod:`veritydb` re-exports all of it, as :mod:`sqlite3` does with its ``dbapi2``.
"""

# What a program passes is checked, whatever the annotations promise.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import datetime
import time
import warnings

import apsw

from veritydb import constants
from veritydb.adaptation import (
    PrepareProtocol,
    adapt,
    adapters,
    converters,
    register_adapter,
    register_converter,
)
from veritydb.blob import Blob
from veritydb.connecting import connect
from veritydb.connection import Connection
from veritydb.constants import *  # noqa: F403  some 170 names, written out in constants.__all__
from veritydb.cursor import Cursor
from veritydb.deprecations import version_of
from veritydb.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)
from veritydb.functions import enable_callback_tracebacks
from veritydb.row import Row

apilevel = "2.0"
paramstyle = "qmark"
threadsafety = 3
"""Threads may share the module, connections and cursors: SQLite is compiled to serialise them."""

sqlite_version = apsw.sqlite_lib_version()
sqlite_version_info = tuple([int(part) for part in sqlite_version.split(".")])

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = memoryview


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802  PEP 249 prescribes the name
    """Return the local date at ``ticks`` seconds since 1970."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802  PEP 249's name
    """Return the local time of day at ``ticks`` seconds since 1970."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802  PEP 249's name
    """Return the local date and time at ``ticks`` seconds since 1970."""
    return Timestamp(*time.localtime(ticks)[:6])


def complete_statement(statement: str) -> bool:
    """Whether ``statement`` holds one or more whole SQL statements."""
    if not isinstance(statement, str):
        raise TypeError(f"complete_statement() argument 'statement' must be str, not {type(statement).__name__}")
    return bool(apsw.complete(statement))


def enable_shared_cache(do_enable: int) -> None:
    """Deprecated since Python 3.10, and without effect: SQLite is compiled without a shared cache."""
    warnings.warn(
        "enable_shared_cache is deprecated. Shared cache is strongly discouraged by the SQLite 3 documentation. "
        "If shared cache must be used, open the database in URI mode using the cache=shared query parameter.",
        DeprecationWarning,
        stacklevel=2,
    )


__all__ = [
    "Binary",
    "Blob",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "PrepareProtocol",
    "ProgrammingError",
    "Row",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "adapt",
    "adapters",
    "apilevel",
    "complete_statement",
    "connect",
    "converters",
    "enable_callback_tracebacks",
    "enable_shared_cache",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "sqlite_version",
    "sqlite_version_info",
    "threadsafety",
]
__all__ += constants.__all__


def __getattr__(name: str) -> object:
    return version_of(__name__, name)
