"""VerityDB for asyncio and trio, in the shape people know from aiosqlite.

``import veritydb.aio as aiosqlite`` is all that a program changes::

    async with veritydb.aio.connect("clinic.db", key=..., actor="dr.lee") as db:
        await db.execute("INSERT INTO patients (name) VALUES (?)", ("Jane Smith",))
        await db.commit()
        async with db.execute("SELECT name FROM patients") as cursor:
            async for row in cursor:
                ...

SQLite waits for no network, so there is nothing in it to await: each connection has a thread, and what is awaited is
that thread. The map::

    worker       the thread, and what happens when the one who waits for it is cancelled
    pending      what connect(), cursor() and execute() return: awaited, or entered with ``async with``
    connection, cursor

APSW has an asynchronous mode too, which sends each of *its* calls to a thread. One statement of ours is some ten of
those (planning, joining the log, the statement, the commit), and no other task's may come between them. So whole
statements go to the thread here, and the synchronous code runs there as it always does.
"""

from __future__ import annotations

from veritydb import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Row,
    Warning,
    __version__,
    register_adapter,
    register_converter,
    sqlite_version,
    sqlite_version_info,
)
from veritydb.aio.connection import Connection, connect
from veritydb.aio.cursor import Cursor

__all__ = [
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Row",
    "Warning",
    "__version__",
    "connect",
    "register_adapter",
    "register_converter",
    "sqlite_version",
    "sqlite_version_info",
]
