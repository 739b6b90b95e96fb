"""The asynchronous cursor: each method is the synchronous one's, carried out in the connection's thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import veritydb
    from veritydb.aio.connection import Connection


class Cursor:
    """Executes statements and holds the rows of the last one. Made by :meth:`Connection.cursor`."""

    __slots__ = ("_cursor", "_on")

    def __init__(self, connection: Connection, cursor: veritydb.Cursor) -> None:
        self._on = connection
        self._cursor = cursor

    async def execute(self, sql: str, parameters: Any = None) -> Self:
        """Execute one statement with ``parameters``, a sequence or a mapping."""
        call = partial(self._cursor.execute, sql, () if parameters is None else parameters)
        await self._on.carry_out(call, idle=True)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> Self:
        """Execute a statement once for each of ``parameters``."""
        await self._on.carry_out(partial(self._cursor.executemany, sql, parameters), idle=True)
        return self

    async def executescript(self, sql_script: str) -> Self:
        """Execute all statements of ``sql_script``."""
        await self._on.carry_out(partial(self._cursor.executescript, sql_script))
        return self

    async def fetchone(self) -> Any:
        """Return the next row, or None."""
        return await self._on.carry_out(self._cursor.fetchone, reads=True)

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next ``size`` rows (``arraysize`` if not given), fewer at the end."""
        return await self._on.carry_out(partial(self._cursor.fetchmany, size), reads=True)

    async def fetchall(self) -> list[Any]:
        """Return all remaining rows."""
        return await self._on.carry_out(self._cursor.fetchall, reads=True)

    async def close(self) -> None:
        """Close the cursor; it cannot be used any more."""
        await self._on.carry_out(self._cursor.close)

    async def __aiter__(self) -> AsyncIterator[Any]:
        # By the chunk, because each trip to the thread costs as much as some hundred rows.
        while rows := await self.fetchmany(self._on.chunk):
            for row in rows:
                yield row

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def rowcount(self) -> int:
        """Rows that the last INSERT, UPDATE, DELETE or REPLACE changed; -1 after any other statement."""
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Row id of the row inserted last."""
        return self._cursor.lastrowid  # type: ignore[no-any-return]  # the below has no type

    @property
    def description(self) -> tuple[tuple[Any, ...], ...] | None:
        """For each column of the last statement its name and six times None."""
        return self._cursor.description  # type: ignore[no-any-return]  # the below has no type

    @property
    def arraysize(self) -> int:
        """How many rows :meth:`fetchmany` fetches if not told."""
        return self._cursor.arraysize

    @arraysize.setter
    def arraysize(self, value: int) -> None:
        self._cursor.arraysize = value

    @property
    def row_factory(self) -> Any:
        """What makes the rows; None: tuples."""
        return self._cursor.row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        self._cursor.row_factory = factory

    @property
    def connection(self) -> veritydb.Connection:
        """The synchronous connection below; use it in the connection's thread only."""
        return self._cursor.connection  # type: ignore[no-any-return]  # the below has no type


Cursor.__module__ = "veritydb.aio"
