"""PEP 249 over :mod:`veritydb.aio`, as SQLAlchemy's asyncio extension wants it.

That extension runs SQLAlchemy's synchronous code in a greenlet; where such code waits for the database, the adapter
hands an awaitable to the event loop and the greenlet sleeps. An adapter offers what SQLAlchemy's own one for aiosqlite
does. A statement costs one trip to the connection's thread, its rows and the cursor's closing included.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.util import concurrency

import veritydb
from veritydb import aio
from veritydb.sqlalchemy.stamped import StampedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

_wait: Callable[[Any], Any] = getattr(concurrency, "await_", None) or concurrency.await_only
"""Lets the event loop await. It has another name before SQLAlchemy 2.1."""


class AsyncModule:
    """What the dialect takes for the driver's module: PEP 249's names are VerityDB's, ``connect`` is its own."""

    paramstyle = "qmark"

    def __getattr__(self, name: str) -> Any:
        return getattr(veritydb, name)

    def connect(self, *arguments: Any, **options: Any) -> AsyncAdaptedConnection:
        """Open a connection, inside a greenlet."""
        creator = options.pop("async_creator_fn", None)
        if creator is not None:
            return AsyncAdaptedConnection(_wait(creator(*arguments, **options)))
        options.setdefault("factory", StampedConnection)
        return AsyncAdaptedConnection(_wait(aio.connect(*arguments, **options)))


class AsyncAdaptedConnection(AdaptedConnection):
    """A connection of :mod:`veritydb.aio` with the methods of a synchronous one, for use inside a greenlet."""

    __slots__ = ()

    _connection: Any

    def __init__(self, connection: aio.Connection) -> None:
        self._connection = connection

    def carry_out(self, call: Callable[[], Any], *, reads: bool = False, idle: bool = False) -> Any:
        """Return what ``call()`` returns in the connection's thread."""
        return _wait(self._connection.carry_out(call, reads=reads, idle=idle))

    @property
    def sync(self) -> Any:
        """The synchronous connection below."""
        return self._connection.sync

    def cursor(self, server_side: bool = False) -> Cursor:
        """Return a cursor that has all rows in memory, or with ``server_side`` one that fetches them when asked."""
        return StreamingCursor(self) if server_side else Cursor(self)

    def execute(self, operation: str, parameters: Any = ()) -> Cursor:
        """Execute one statement with a new cursor, and return that."""
        cursor = self.cursor()
        cursor.execute(operation, parameters)
        return cursor

    def create_function(self, *arguments: Any, **options: Any) -> None:
        """As of a synchronous connection, like all that follow."""
        self.carry_out(partial(self.sync.create_function, *arguments, **options))

    def create_aggregate(self, *arguments: Any, **options: Any) -> None:
        """Let SQL aggregate with Python."""
        self.carry_out(partial(self.sync.create_aggregate, *arguments, **options))

    def create_collation(self, *arguments: Any, **options: Any) -> None:
        """Let SQL order text with Python."""
        self.carry_out(partial(self.sync.create_collation, *arguments, **options))

    def commit(self) -> None:
        """Commit: first the log, then the file."""
        self.carry_out(self.sync.commit)

    def rollback(self) -> None:
        """Roll back."""
        self.carry_out(self.sync.rollback)

    def close(self) -> None:
        """Close the connection and end its thread."""
        _wait(self._connection.close())

    def terminate(self) -> None:
        """Close without waiting: the pool asks for this where nothing can be awaited."""
        self._connection.stop()

    # SQLAlchemy sets isolation_level, and our execution options the two stamps. isolation_level=None may commit, and
    # waits for the disk then; the others only set an attribute.

    @property
    def isolation_level(self) -> str | None:
        """Which BEGIN comes by itself."""
        return self.sync.isolation_level  # type: ignore[no-any-return]  # what it passes on has no type

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        self.carry_out(partial(setattr, self.sync, "isolation_level", value))

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.sync.in_transaction  # type: ignore[no-any-return]  # what it passes on has no type

    @property
    def last_offset(self) -> int | None:
        """Offset of the last transaction that this connection committed."""
        return self.sync.last_offset  # type: ignore[no-any-return]  # what it passes on has no type

    @property
    def actor(self) -> str:
        """Who makes the transactions that follow."""
        return self.sync.actor  # type: ignore[no-any-return]  # what it passes on has no type

    @actor.setter
    def actor(self, value: str) -> None:
        self.sync.actor = value

    @property
    def reason_text(self) -> str:
        """Why the transactions that follow are made."""
        return self.sync.reason_text  # type: ignore[no-any-return]  # what it passes on has no type

    @reason_text.setter
    def reason_text(self, value: str) -> None:
        self.sync.reason_text = value

    @property
    def first_actor(self) -> str:
        """The actor the connection was opened with."""
        return self.sync.first_actor  # type: ignore[no-any-return]  # what it passes on has no type

    @property
    def first_reason_text(self) -> str:
        """The reason it was opened with: none."""
        return self.sync.first_reason_text  # type: ignore[no-any-return]  # what it passes on has no type


class Cursor:
    """Executes a statement and has all its rows in memory, because fetching them one by one would wait for each."""

    __slots__ = ("_connection", "_rows", "arraysize", "description", "lastrowid", "rowcount")

    server_side: ClassVar[bool] = False

    def __init__(self, connection: AsyncAdaptedConnection) -> None:
        self._connection = connection
        self._rows: deque[Any] = deque()
        self.arraysize = 1
        self.description: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1

    def execute(self, operation: str, parameters: Any = ()) -> Self:
        """Execute one statement."""
        self._run("execute", operation, parameters)
        return self

    def executemany(self, operation: str, parameters: Any) -> Self:
        """Execute a statement once for each of ``parameters``."""
        self._run("executemany", operation, parameters)
        return self

    def _run(self, method: str, operation: str, parameters: Any) -> None:
        sync = self._connection.sync

        def run() -> list[Any]:
            cursor = sync.cursor()
            try:
                getattr(cursor, method)(operation, () if parameters is None else parameters)
                self.description, self.lastrowid = cursor.description, cursor.lastrowid
                rows: list[Any] = cursor.fetchall() if cursor.description else []
                self.rowcount = cursor.rowcount
                return rows
            finally:
                cursor.close()

        self._rows = deque(self._connection.carry_out(run, idle=True))

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Return the next ``size`` rows, fewer at the end."""
        rows = self._rows
        return [rows.popleft() for _ in range(min(self.arraysize if size is None else size, len(rows)))]

    def fetchall(self) -> Sequence[Any]:
        """Return all remaining rows."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the rows. The cursor below is closed already."""
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        # SQLAlchemy calls this before it hands buffered rows to code that cannot await: nothing is open here.
        return

    def setinputsizes(self, *sizes: Any) -> None:
        """Do nothing, as PEP 249 allows."""

    def nextset(self) -> None:
        """Do nothing: a statement has one set of rows."""


class StreamingCursor(Cursor):
    """Fetches rows when it is asked for them, for results that do not fit into memory (``AsyncConnection.stream``)."""

    __slots__ = ("_below",)

    server_side: ClassVar[bool] = True

    def __init__(self, connection: AsyncAdaptedConnection) -> None:
        super().__init__(connection)
        self._below: Any = connection.carry_out(connection.sync.cursor)

    def _run(self, method: str, operation: str, parameters: Any) -> None:
        below = self._below
        call = partial(getattr(below, method), operation, () if parameters is None else parameters)
        self._connection.carry_out(call, idle=True)
        self.description, self.lastrowid, self.rowcount = below.description, below.lastrowid, below.rowcount

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._connection.carry_out(self._below.fetchone, reads=True)

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Return the next ``size`` rows, fewer at the end."""
        call = partial(self._below.fetchmany, self.arraysize if size is None else size)
        return self._connection.carry_out(call, reads=True)  # type: ignore[no-any-return]  # what it passes on has no type

    def fetchall(self) -> Sequence[Any]:
        """Return all remaining rows."""
        return self._connection.carry_out(self._below.fetchall, reads=True)  # type: ignore[no-any-return]  # what it passes on has no type

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def close(self) -> None:
        """Close the cursor below."""
        below, self._below = self._below, None
        if below is not None:
            self._connection.carry_out(below.close)
