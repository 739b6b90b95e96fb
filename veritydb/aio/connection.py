"""The asynchronous connection: :class:`veritydb.Connection` in a thread of its own.

Methods that run SQL or wait for the disk are awaited; what is only looked up (``in_transaction``, ``last_offset``) is
not. Statements of several tasks on one connection take turns, and share its transaction, as they would in threads.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from warnings import warn

import veritydb
from veritydb.aio.cursor import Cursor
from veritydb.aio.pending import Pending
from veritydb.aio.worker import Ending, Worker
from veritydb.errors import ProgrammingError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from veritydb.subscriptions.asynchronous import AsyncSubscription

Result = TypeVar("Result")

_DUMPED_LINES = 256


class ClosedError(ProgrammingError, ValueError):
    """The connection is closed, or not open yet. A ValueError as well, because aiosqlite raises that."""


class Connection:
    """A connection of :mod:`veritydb.aio`. Made by :func:`connect`; open once it was awaited or entered.

    ``connector`` opens the synchronous connection; it is called in the connection's thread.
    """

    def __init__(self, connector: Callable[[], veritydb.Connection], iter_chunk_size: int = 64) -> None:
        self._connector = connector
        self._connection: veritydb.Connection | None = None
        self._worker = Worker()
        self.chunk = iter_chunk_size
        """How many rows ``async for`` fetches at once."""

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._connection is not None:
            warn(
                f"{self!r} was deleted before being closed; use 'async with' or '.close()'",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
            self.stop()

    async def _open(self) -> Self:
        def opened() -> None:
            self._connection = self._connector()

        if self._connection is None:
            try:
                await self._worker.run(opened)
            except BaseException:
                self.stop()
                raise
        return self

    async def close(self) -> None:
        """Finish what was asked for before, roll back what is open, and close; harmless if called again."""
        connection = self._connection
        if connection is None:
            return
        try:
            await self._worker.run(connection.close)
        finally:
            self.stop()

    def stop(self) -> Ending:
        """Close without waiting for it, where nothing can be awaited: the thread does it, then ends.

        What is returned may be awaited, to see it end.
        """
        connection, self._connection = self._connection, None
        return self._worker.stop(_nothing if connection is None else connection.close)

    # Carrying out -----------------------------------------------------------------------------------------------------

    async def carry_out(self, call: Callable[[], Result], *, reads: bool = False, idle: bool = False) -> Result:
        """Return what ``call()`` returns in the connection's thread.

        If the task is cancelled meanwhile, the call is interrupted when it only ``reads``, or, for ``idle``, when no
        transaction was open before: interrupting a write would also undo all that its transaction wrote so far.
        """
        connection = self._connection
        if connection is None or self._worker.stopped:
            raise ClosedError("Connection closed")
        may = _always if reads else (partial(_no_transaction, connection) if idle else None)
        return await self._worker.run(call, interrupt=connection.interrupt, may_interrupt=may)

    @property
    def sync(self) -> veritydb.Connection:
        """The synchronous connection below, for use inside :meth:`carry_out`."""
        if self._connection is None:
            raise ClosedError("no active connection")
        return self._connection

    # Statements -------------------------------------------------------------------------------------------------------

    def cursor(self) -> Pending[Cursor]:
        """Return a new cursor."""
        return Pending(self._cursor())

    def execute(self, sql: str, parameters: Any = None) -> Pending[Cursor]:
        """Execute one statement with a new cursor, and return that."""
        return Pending(self._executed("execute", sql, () if parameters is None else parameters))

    def executemany(self, sql: str, parameters: Iterable[Any]) -> Pending[Cursor]:
        """Execute a statement once for each of ``parameters`` with a new cursor, and return that."""
        return Pending(self._executed("executemany", sql, parameters))

    def executescript(self, sql_script: str) -> Pending[Cursor]:
        """Execute all statements of a script with a new cursor, and return that."""
        return Pending(self._executed("executescript", sql_script))

    def execute_insert(self, sql: str, parameters: Any = None) -> Pending[Any]:
        """Execute an INSERT, and return a row with its row id."""

        def inserted() -> Any:
            cursor = self.sync.execute(sql, () if parameters is None else parameters)
            return cursor.execute("SELECT last_insert_rowid()").fetchone()

        return Pending(self.carry_out(inserted))

    def execute_fetchall(self, sql: str, parameters: Any = None) -> Pending[list[Any]]:
        """Execute a query, and return all its rows."""
        return Pending(
            self.carry_out(
                lambda: self.sync.execute(sql, () if parameters is None else parameters).fetchall(), idle=True
            )
        )

    def subscribe(self, *arguments: Any, **options: Any) -> Pending[AsyncSubscription]:
        """Return the changes that are committed from now on; arguments as of :meth:`veritydb.Connection.subscribe`.

        ``async with db.subscribe("patients") as updates: async for update in updates: …``
        """
        return Pending(self._subscribed(*arguments, **options))

    async def commit(self) -> None:
        """Commit the open transaction, if there is one: first the log, then the file."""
        await self.carry_out(self.sync.commit)

    async def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        await self.carry_out(self.sync.rollback)

    async def interrupt(self) -> None:
        """Stop what runs now."""
        self.sync.interrupt()

    async def _subscribed(self, *arguments: Any, **options: Any) -> AsyncSubscription:
        return await self.carry_out(lambda: self.sync.subscribe(*arguments, **options).detach())

    async def _cursor(self) -> Cursor:
        return Cursor(self, await self.carry_out(self.sync.cursor))

    async def _executed(self, method: str, *arguments: Any) -> Cursor:
        call = partial(getattr(self.sync, method), *arguments)
        return Cursor(self, await self.carry_out(call, idle=method != "executescript"))

    # What the log is told, and tells ----------------------------------------------------------------------------------

    @property
    def actor(self) -> str:
        """Who makes the transactions that follow."""
        return self.sync.actor

    @actor.setter
    def actor(self, value: str) -> None:
        self.sync.actor = value

    @contextmanager
    def reason(self, text: str) -> Generator[None]:
        """Write ``text`` into the log as the reason of every transaction that commits inside the ``with``."""
        with self.sync.reason(text):
            yield

    @property
    def last_offset(self) -> int | None:
        """Offset of the last transaction that this connection committed; None if there was none."""
        return self.sync.last_offset

    # Settings ---------------------------------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.sync.in_transaction

    @property
    def total_changes(self) -> int:
        """Rows changed since the connection was opened."""
        return self.sync.total_changes

    @property
    def isolation_level(self) -> str | None:
        """Which BEGIN comes by itself before a first change; None: none."""
        return self.sync.isolation_level

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        self.sync.isolation_level = value

    @property
    def row_factory(self) -> Any:
        """What makes the rows of new cursors; None: tuples."""
        return self.sync.row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        self.sync.row_factory = factory

    @property
    def text_factory(self) -> Any:
        """What makes Python values of TEXT."""
        return self.sync.text_factory

    @text_factory.setter
    def text_factory(self, factory: Any) -> None:
        self.sync.text_factory = factory

    # Functions and handlers; they are called in the connection's thread -----------------------------------------------

    async def create_function(
        self, name: str, num_params: int, func: Callable[..., Any] | None, deterministic: bool = False
    ) -> None:
        """Let SQL call ``func`` by ``name``."""
        await self.carry_out(partial(self.sync.create_function, name, num_params, func, deterministic=deterministic))

    async def create_aggregate(self, name: str, num_params: int, aggregate_class: Any) -> None:
        """Let SQL aggregate with instances of ``aggregate_class``."""
        await self.carry_out(partial(self.sync.create_aggregate, name, num_params, aggregate_class))

    async def create_collation(self, name: str, callback: Callable[[str, str], int] | None) -> None:
        """Let SQL order text by ``callback``."""
        await self.carry_out(partial(self.sync.create_collation, name, callback))

    async def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Ask ``authorizer_callback`` what a statement may do."""
        await self.carry_out(partial(self.sync.set_authorizer, authorizer_callback))

    async def set_progress_handler(self, handler: Callable[[], Any] | None, n: int) -> None:
        """Call ``handler`` every ``n`` instructions."""
        await self.carry_out(partial(self.sync.set_progress_handler, handler, n))

    async def set_trace_callback(self, handler: Callable[[str], Any] | None) -> None:
        """Call ``handler`` with each statement before it runs."""
        await self.carry_out(partial(self.sync.set_trace_callback, handler))

    async def enable_load_extension(self, value: bool) -> None:
        """Allow or forbid :meth:`load_extension`."""
        await self.carry_out(partial(self.sync.enable_load_extension, value))

    async def load_extension(self, path: str) -> None:
        """Load an extension."""
        await self.carry_out(partial(self.sync.load_extension, path))

    # The file ---------------------------------------------------------------------------------------------------------

    async def iterdump(self) -> AsyncIterator[str]:
        """Iterate over the SQL that makes the database."""
        lines = iter(self.sync.iterdump())
        while some := await self.carry_out(lambda: [line for line, _ in zip(lines, range(_DUMPED_LINES))]):  # noqa: B905  the shorter one ends it
            for line in some:
                yield line

    async def backup(
        self,
        target: Connection | veritydb.Connection,
        *,
        pages: int = 0,
        progress: Callable[[int, int, int], object] | None = None,
        name: str = "main",
        sleep: float = 0.250,
    ) -> None:
        """Copy the database into ``target``, as :meth:`veritydb.Connection.backup` does."""
        into = target.sync if isinstance(target, Connection) else target
        await self.carry_out(
            partial(self.sync.backup, into, pages=pages or -1, progress=progress, name=name, sleep=sleep)
        )


def connect(database: str | bytes | os.PathLike[str], *, iter_chunk_size: int = 64, **options: Any) -> Connection:
    """Open ``database`` and its log when the result is awaited or entered; options are :func:`veritydb.connect`'s.

    ``iter_chunk_size`` is how many rows ``async for`` fetches at once.
    """
    # One call runs at a time, whichever thread it comes from: attributes are read and set without a trip to the thread.
    options["check_same_thread"] = False
    known = isinstance(database, str | bytes | os.PathLike)  # pyright: ignore[reportUnnecessaryIsInstance]  the caller's word is not proof
    path = database if known else str(database)  # As aiosqlite does, for whatever else can say where it is.
    return Connection(lambda: veritydb.connect(path, **options), iter_chunk_size)


def _nothing() -> None:
    """Close what was never opened."""


def _always() -> bool:
    return True


def _no_transaction(connection: veritydb.Connection) -> bool:
    return not connection.in_transaction


for _public in (Connection, ClosedError, connect):
    _public.__module__ = "veritydb.aio"
