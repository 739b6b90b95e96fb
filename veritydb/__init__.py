"""VerityDB: SQLite for records that must be provable.

``import veritydb as sqlite3`` is all that a program changes. Every row it changes is then in a durable, hash-chained
event log before it commits, and the database file can be rebuilt from that log, as it is or as it was::

    db = veritydb.connect("clinic.db", key="correct horse", actor="dr.lee")
    with db, db.reason("first visit"):
        db.execute("INSERT INTO patients (name) VALUES (?)", ("Jane Smith",))
    print(db.last_offset)

The map, from the outside in::

    connection, cursor, blob, row     the DB-API, over a session
    session, transaction, planner     what a statement may do, and how it is seen through
    hooks                             what SQLite changed, as events
    records, log                      the durable, hash-chained log
    replay                            events into a database again
    subscriptions                     what was committed, pushed to whoever asked
    cluster, vsr, kernel              the log, agreed on by several machines
    aio, sqlalchemy, django, sse      the same for asyncio, for frameworks, over HTTP

All names of :mod:`sqlite3` are here, up to Python 3.13's, whatever Python runs.
"""

from __future__ import annotations

from veritydb import constants, dbapi2
from veritydb.adaptation import PrepareProtocol, adapt, adapters, converters, register_adapter, register_converter
from veritydb.blob import Blob
from veritydb.connecting import connect
from veritydb.connection import Connection
from veritydb.constants import *  # noqa: F403  some 170 names, written out in constants.__all__
from veritydb.cursor import Cursor
from veritydb.dbapi2 import (
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
    apilevel,
    complete_statement,
    enable_shared_cache,
    paramstyle,
    sqlite_version,
    sqlite_version_info,
    threadsafety,
)
from veritydb.deprecations import version_of
from veritydb.errors import (
    CaptureError,
    ConfigurationError,
    ConflictError,
    ConsistencyTimeout,
    ConsumerOutOfLog,
    CursorAhead,
    CursorMalformed,
    CursorProblem,
    DatabaseError,
    DataError,
    Error,
    GroupUnavailable,
    IntegrityError,
    InterfaceError,
    InternalError,
    KeyMissing,
    KeyProblem,
    LeaseLost,
    LogDamaged,
    LogMismatch,
    LogMissing,
    LogProblem,
    LogUnavailable,
    MissingFunction,
    NotAdopted,
    NotEncrypted,
    NotPermitted,
    NotSupportedError,
    OperationalError,
    OutcomeUnknown,
    ProgrammingError,
    ReplayMismatch,
    StaleSnapshot,
    StatementRefused,
    SubscriptionClosed,
    TransactionTooLarge,
    UnknownTable,
    Warning,
    WrongKey,
)
from veritydb.functions import enable_callback_tracebacks
from veritydb.installing import install
from veritydb.keys import EnvKeyProvider, FileKeyProvider, KeyProvider
from veritydb.row import Row
from veritydb.version import VERSION

__all__ = [
    "Binary",
    "Blob",
    "CaptureError",
    "ConfigurationError",
    "ConflictError",
    "Connection",
    "ConsistencyTimeout",
    "ConsumerOutOfLog",
    "Cursor",
    "CursorAhead",
    "CursorMalformed",
    "CursorProblem",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "EnvKeyProvider",
    "Error",
    "FileKeyProvider",
    "GroupUnavailable",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "KeyMissing",
    "KeyProblem",
    "KeyProvider",
    "LeaseLost",
    "LogDamaged",
    "LogMismatch",
    "LogMissing",
    "LogProblem",
    "LogUnavailable",
    "MissingFunction",
    "NotAdopted",
    "NotEncrypted",
    "NotPermitted",
    "NotSupportedError",
    "OperationalError",
    "OutcomeUnknown",
    "PrepareProtocol",
    "ProgrammingError",
    "ReplayMismatch",
    "Row",
    "StaleSnapshot",
    "StatementRefused",
    "SubscriptionClosed",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "TransactionTooLarge",
    "UnknownTable",
    "Warning",
    "WrongKey",
    "__version__",
    "adapt",
    "adapters",
    "apilevel",
    "complete_statement",
    "connect",
    "converters",
    "dbapi2",
    "enable_callback_tracebacks",
    "enable_shared_cache",
    "install",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "sqlite_version",
    "sqlite_version_info",
    "threadsafety",
]
__all__ += constants.__all__


__version__ = VERSION
# sqlite3.version is a text. The module of that name is found in sys.modules by whoever imports from it.
globals().pop("version", None)


def __getattr__(name: str) -> object:
    return version_of(__name__, name)
