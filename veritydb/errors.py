"""The exceptions of VerityDB.

The tree is PEP 249's, and each of its classes is also a class of :mod:`sqlite3`, so that
``except sqlite3.IntegrityError`` in code that was not changed still catches what it should::

    Warning
    Error
     ├── InterfaceError
     └── DatabaseError
          ├── DataError
          │    └── TransactionTooLarge
          ├── OperationalError
          │    ├── LogUnavailable        the log cannot be written or read now; rolled back everywhere
          │    ├── OutcomeUnknown        whether the transaction committed cannot be told
          │    ├── LeaseLost             another worker has what was to be acked; roll back
          │    ├── ConsumerOutOfLog      the log no longer has what a consumer needs
          │    ├── StaleSnapshot         the transaction read what has changed since; roll back and retry
          │    ├── NotPermitted          the cluster does not let this client do that; nothing was done
          │    ├── ConflictError         another machine committed first; the file has caught up; retry
          │    ├── GroupUnavailable      no quorum of the cluster answered in time
          │    ├── ConsistencyTimeout    the file did not get as far in time as the reader asked
          │    └── MissingFunction       the schema names a function or collation that is not registered
          ├── IntegrityError
          ├── InternalError
          │    └── CaptureError          a change could not be captured; rolled back
          ├── ProgrammingError
          │    ├── ConfigurationError    an option, URL or key file says what cannot be
          │    ├── SubscriptionClosed    the subscription or its feed was closed
          │    └── CursorProblem         CursorMalformed, CursorAhead, UnknownTable: what was asked of a feed cannot be
          ├── NotSupportedError
          │    └── StatementRefused      a statement that cannot be logged exactly, refused before it changed anything
          ├── KeyProblem                 WrongKey, KeyMissing, NotEncrypted
          ├── NotAdopted                 a database with content and without a log
          └── LogProblem                 LogDamaged, LogMismatch, LogMissing, ReplayMismatch

Every message ends in what became of the data, or in what to do next.
"""

from __future__ import annotations

import sqlite3


class Warning(sqlite3.Warning):  # noqa: A001  PEP 249 prescribes the name
    """As PEP 249 says."""


class Error(sqlite3.Error):
    """Base of all errors. ``sqlite_errorcode`` and ``sqlite_errorname`` are set where SQLite reported it."""

    sqlite_errorcode: int
    sqlite_errorname: str


class InterfaceError(Error, sqlite3.InterfaceError):
    """Misuse of the interface rather than of the database."""


class DatabaseError(Error, sqlite3.DatabaseError):
    """An error of the database."""


class DataError(DatabaseError, sqlite3.DataError):
    """A value out of range."""


class OperationalError(DatabaseError, sqlite3.OperationalError):
    """An error of the database's operation: locked, full, unreadable."""


class IntegrityError(DatabaseError, sqlite3.IntegrityError):
    """A constraint was broken."""


class InternalError(DatabaseError, sqlite3.InternalError):
    """The database or VerityDB is in a state it should not be in."""


class ProgrammingError(DatabaseError, sqlite3.ProgrammingError):
    """The program asked for what cannot be."""


class NotSupportedError(DatabaseError, sqlite3.NotSupportedError):
    """Not supported by this database."""


class TransactionTooLarge(DataError):
    """The transaction exceeds what one record may hold; it was rolled back.

    ``size`` is what it has and ``limit`` what there may be, in bytes, where a cluster sets the limit; else None.
    """

    def __init__(self, message: str, *, size: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class LogUnavailable(OperationalError):
    """The log could not be written, made durable, or read; the transaction was rolled back everywhere."""


class OutcomeUnknown(OperationalError):
    """Whether the transaction committed cannot be told; the connection refuses to go on. Reopen to learn it."""


class StaleSnapshot(OperationalError):
    """The transaction has read a state that is no longer the last one; roll back and retry."""


class ConflictError(OperationalError):
    """Another writer of the stream was first, so the transaction was rolled back; retry it.

    The file has caught up with what he wrote, unless ``__context__`` says why not. ``next_offset`` is where the stream
    ended.
    """

    def __init__(self, next_offset: int) -> None:
        super().__init__(
            f"another writer was first: the stream went on to offset {next_offset}; the transaction was rolled back, "
            "retry it"
        )
        self.next_offset = next_offset
        # To whoever looks at SQLite's codes it is what SQLite says of a snapshot that is no longer the last one.
        self.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
        self.sqlite_errorname = "SQLITE_BUSY_SNAPSHOT"


class GroupUnavailable(OperationalError):
    """No node of the cluster has answered in time.

    ``asked`` says whether one may have got the question, and so may have done what was asked. A transaction whose
    commit raises this was rolled back: what may have been done is asked for, and ``OutcomeUnknown`` says that it cannot
    be told.
    """

    asked: bool = True


class ConsistencyTimeout(OperationalError):
    """The file did not get to ``offset`` in time; it was at ``applied``. Nothing was read."""

    def __init__(self, *, offset: int, applied: int) -> None:
        super().__init__(
            f"the file has the transactions up to {applied}, and {offset} was asked for; it did not come in time"
        )
        self.offset = offset
        self.applied = applied


class LeaseLost(OperationalError):
    """The update is another worker's now, or the consumer was reset; what was done for it must be rolled back."""

    def __init__(self, *, consumer: str, offset: int, number: int) -> None:
        super().__init__(
            f"update {offset}.{number} of consumer {consumer!r} is no longer this worker's; roll back what was done"
        )
        self.consumer = consumer
        self.offset = offset
        self.number = number


class ConsumerOutOfLog(OperationalError):
    """The log no longer has what the consumer needs; nothing was handed out. ``offset`` is where it goes on."""

    def __init__(self, *, consumer: str, offset: int) -> None:
        super().__init__(
            f"consumer {consumer!r} needs what is no longer in the log, which goes on behind offset {offset}; reset it "
            "there and take from the tables what it missed"
        )
        self.consumer = consumer
        self.offset = offset


class NotPermitted(OperationalError):
    """The cluster does not let this client do what was asked; nothing was done.

    A client's name stands in its certificate, its rights in the nodes' ``rights.toml``.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; nothing was done")
        self.why = why


class MissingFunction(OperationalError):
    """The schema uses a function or collation that is not registered; nothing was written."""


class CaptureError(InternalError):
    """A change could not be captured, so its transaction was refused."""


class ConfigurationError(ProgrammingError):
    """An option, a URL, an environment variable or a key file says what cannot be."""


class SubscriptionClosed(ProgrammingError):
    """The subscription, or the feed it reads, was closed; what was not read is in the log."""


class CursorProblem(ProgrammingError):
    """Base of the errors about what was asked of a feed; nothing was read."""


class CursorMalformed(CursorProblem):
    """The text is no cursor and no offset."""


class CursorAhead(CursorProblem):
    """The cursor lies behind the last committed transaction: it is of another database, or of one that was set back.

    ``offset`` is the cursor's, ``last`` that of the last transaction.
    """

    def __init__(self, *, offset: int, last: int) -> None:
        super().__init__(f"the cursor is at offset {offset}, and the last transaction is {last}; nothing was read")
        self.offset = offset
        self.last = last


class UnknownTable(CursorProblem):
    """There is no such table. ``table`` is its name."""

    def __init__(self, table: str) -> None:
        super().__init__(f"no such table: {table}; nothing was read")
        self.table = table


class StatementRefused(NotSupportedError):
    """The statement cannot be logged exactly; it was refused before it changed anything."""


class KeyProblem(DatabaseError):
    """Base of the errors about keys; nothing was touched."""


class WrongKey(KeyProblem):
    """The key does not open this database."""


class KeyMissing(KeyProblem):
    """The database is encrypted and no key was given."""


class NotEncrypted(KeyProblem):
    """A key was given for a database that is not encrypted."""


class NotAdopted(DatabaseError):
    """The file has content and no log; ``veritydb adopt`` gives it one."""


class LogProblem(DatabaseError):
    """Base of the errors about what a log says."""


class LogDamaged(LogProblem):
    """Bytes of the log are not what was written.

    ``segment`` is the file's name, ``position`` the byte at which the bad record or field begins, ``offset`` the first
    transaction that cannot be read (None if not known).
    """

    def __init__(self, message: str, *, segment: str = "", position: int = 0, offset: int | None = None) -> None:
        super().__init__(message)
        self.segment = segment
        self.position = position
        self.offset = offset


class LogMismatch(LogProblem):
    """File and log do not belong together, or the file is ahead of the log."""


class LogMissing(LogProblem):
    """The file says that it has a log, and there is none."""


class ReplayMismatch(LogProblem):
    """Replaying the log met a state other than the one that was logged."""
