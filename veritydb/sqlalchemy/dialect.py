"""SQLAlchemy's dialect for sqlite3, with VerityDB as its driver.

What differs is what a URL may say, actor and reason as execution options, which errors end a connection, and that a
savepoint works without the event listeners that pysqlite asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import pool
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import immutabledict

import veritydb
from veritydb.refusals import reserved
from veritydb.sqlalchemy.characteristics import STAMPS
from veritydb.sqlalchemy.functions import register
from veritydb.sqlalchemy.stamped import StampedConnection
from veritydb.sqlalchemy.urls import connect_arguments, masked
from veritydb.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import URL, Connection, Engine
    from sqlalchemy.engine.interfaces import ConnectArgsType, DBAPIConnection, DBAPIModule


class VerityDialect(SQLiteDialect_pysqlite):
    """``veritydb://`` and ``sqlite+veritydb://``. Its name stays ``sqlite``, or SQLAlchemy's constructs fall away."""

    driver = "veritydb"
    supports_statement_cache = True
    connection_characteristics = immutabledict({**SQLiteDialect_pysqlite.connection_characteristics, **STAMPS})

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        """Return the module that SQLAlchemy takes its PEP 249 names from."""
        return cast("DBAPIModule", veritydb)

    def retrieve_dbapi_version(self, dbapi: DBAPIModule) -> Any:
        """Return VerityDB's version, not Python's."""
        return tuple(int(part) for part in VERSION.split(".")[:3])

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Return a queue of connections for a file, one connection a thread for a database in memory."""
        return pool.QueuePool if cls._is_url_file_db(url) else pool.SingletonThreadPool

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """Return what ``url`` says as arguments of :func:`veritydb.connect`."""
        database, options = connect_arguments(url)
        # A pool lends connections to all threads, to one at a time. In memory there is one for each thread.
        options.setdefault("check_same_thread", not self._is_url_file_db(url))
        options.setdefault("register", register)
        options["factory"] = StampedConnection
        return [database], options

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Hide a key that the URL has in its query string."""
        engine.url = masked(engine.url)

    def on_connect(self) -> Callable[[DBAPIConnection], None]:
        """Return what gives each connection the functions that SQLAlchemy adds to SQLite."""
        return register

    def get_table_names(
        self, connection: Any, schema: Any = None, sqlite_include_internal: Any = False, **kw: Any
    ) -> list[str]:
        """Return the tables of the program; without the one in which the file says where in its log it is."""
        theirs: Any = super()
        names: list[str] = theirs.get_table_names(connection, schema, sqlite_include_internal, **kw)
        return [name for name in names if not reserved(name)]

    def do_savepoint(self, connection: Connection, name: str) -> None:
        """Begin the transaction first: a savepoint outside of one *is* a transaction, and its release the commit."""
        driver = cast("Any", connection.connection.dbapi_connection)
        if not driver.in_transaction and driver.isolation_level is not None:
            driver.execute("BEGIN").close()
        theirs: Any = super()
        theirs.do_savepoint(connection, name)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Whether a connection that raised ``e`` is of no use any more."""
        # After these two the connection refuses to go on, and a new one brings file and log together first.
        return isinstance(e, veritydb.LogUnavailable | veritydb.OutcomeUnknown) or super().is_disconnect(
            e, connection, cursor
        )


dialect = VerityDialect
