"""The one border where APSW's exceptions become ours.

APSW has an exception class per SQLite result code; PEP 249 has a tree of eight. The mapping is CPython's
(``Modules/_sqlite/util.c``), so that code which catches ``sqlite3.OperationalError`` goes on working.
"""

from __future__ import annotations

from typing import Any

import apsw

from veritydb import errors

_DATABASE = errors.DatabaseError
_BY_CODE: dict[int, type[Exception]] = {
    apsw.SQLITE_INTERNAL: errors.InternalError,
    apsw.SQLITE_NOTFOUND: errors.InternalError,
    apsw.SQLITE_NOMEM: MemoryError,
    apsw.SQLITE_ERROR: errors.OperationalError,
    apsw.SQLITE_PERM: errors.OperationalError,
    apsw.SQLITE_ABORT: errors.OperationalError,
    apsw.SQLITE_BUSY: errors.OperationalError,
    apsw.SQLITE_LOCKED: errors.OperationalError,
    apsw.SQLITE_READONLY: errors.OperationalError,
    apsw.SQLITE_INTERRUPT: errors.OperationalError,
    apsw.SQLITE_IOERR: errors.OperationalError,
    apsw.SQLITE_FULL: errors.OperationalError,
    apsw.SQLITE_CANTOPEN: errors.OperationalError,
    apsw.SQLITE_PROTOCOL: errors.OperationalError,
    apsw.SQLITE_EMPTY: errors.OperationalError,
    apsw.SQLITE_SCHEMA: errors.OperationalError,
    apsw.SQLITE_CORRUPT: _DATABASE,
    apsw.SQLITE_NOTADB: _DATABASE,
    apsw.SQLITE_AUTH: _DATABASE,
    apsw.SQLITE_TOOBIG: errors.DataError,
    apsw.SQLITE_CONSTRAINT: errors.IntegrityError,
    apsw.SQLITE_MISMATCH: errors.IntegrityError,
    apsw.SQLITE_MISUSE: errors.ProgrammingError,
    apsw.SQLITE_RANGE: errors.InterfaceError,
}
_NOT_SQLITE: dict[type[apsw.Error], type[Exception]] = {
    apsw.BindingsError: errors.ProgrammingError,
    apsw.ConnectionClosedError: errors.ProgrammingError,
    apsw.CursorClosedError: errors.ProgrammingError,
    apsw.ThreadingViolationError: errors.ProgrammingError,
    apsw.IncompleteExecutionError: errors.ProgrammingError,
    apsw.ForkingViolationError: errors.ProgrammingError,
    apsw.ExtensionLoadingError: errors.StatementRefused,
}


def translated(error: apsw.Error) -> Exception:
    """Return ``error`` as one of ours, to be raised ``from`` it."""
    code: int = getattr(error, "extendedresult", -1) if getattr(error, "result", -1) >= 0 else -1
    if code < 0:
        return _NOT_SQLITE.get(type(error), errors.InterfaceError)(str(error))
    # Stopped while it prepares a statement anew, SQLite leaves its reason for that in the place of the message.
    message = "interrupted" if code == apsw.SQLITE_INTERRUPT else str(error)
    made = _BY_CODE.get(code & 0xFF, _DATABASE)(message)
    if isinstance(made, MemoryError):
        return MemoryError()
    if isinstance(made, errors.Error):
        made.sqlite_errorcode = code
        made.sqlite_errorname = _name(code)
    return made


def no_transaction(what: str) -> apsw.Error:
    """Return what SQLite raises for a COMMIT or ROLLBACK where no transaction is open."""
    error: Any = apsw.SQLError(f"cannot {what} - no transaction is active")
    error.result = error.extendedresult = apsw.SQLITE_ERROR
    made: apsw.Error = error
    return made


def _name(code: int) -> str:
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code & 0xFF)
    return str(name) if name is not None else "unknown"
