"""``veritydb+aio://`` and ``sqlite+veritydb_aio://``: the dialect for SQLAlchemy's asyncio extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import pool
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext

import veritydb
from veritydb.sqlalchemy.adapter import AsyncModule
from veritydb.sqlalchemy.dialect import VerityDialect

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIConnection, DBAPIModule


class AsyncExecutionContext(SQLiteExecutionContext):
    """Asks for a cursor that fetches rows when asked, where SQLAlchemy wants to stream."""

    def create_server_side_cursor(self) -> Any:
        """Return such a cursor."""
        return cast("Any", self._dbapi_connection).cursor(server_side=True)


class AsyncVerityDialect(VerityDialect):
    """The dialect over :mod:`veritydb.aio`."""

    driver = "veritydb_aio"
    supports_statement_cache = True
    is_async = True
    has_terminate = True
    supports_server_side_cursors = True
    execution_ctx_cls = AsyncExecutionContext

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        """Return what stands for the driver's module."""
        return cast("DBAPIModule", AsyncModule())

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Return a queue of connections for a file, one connection for all tasks for a database in memory."""
        return pool.AsyncAdaptedQueuePool if cls._is_url_file_db(url) else pool.StaticPool

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """Return what ``url`` says as arguments of :func:`veritydb.aio.connect`."""
        arguments, options = super().create_connect_args(url)
        options = dict(options)
        options.pop("check_same_thread", None)  # The thread is the connection's own.
        return arguments, options

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Whether a connection that raised ``e`` is of no use any more."""
        closed = isinstance(e, veritydb.ProgrammingError) and isinstance(e, ValueError)
        return closed or super().is_disconnect(e, connection, cursor)

    def get_driver_connection(self, connection: DBAPIConnection) -> Any:
        """Return the connection of :mod:`veritydb.aio` below the adapter."""
        return cast("Any", connection)._connection

    def do_terminate(self, dbapi_connection: DBAPIConnection) -> None:
        """Close a connection that cannot be waited for."""
        cast("Any", dbapi_connection).terminate()


dialect = AsyncVerityDialect
