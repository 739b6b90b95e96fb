"""The connection: what ``sqlite3.Connection`` offers, over a :class:`~veritydb.session.Session`.

The session decides what a statement may do and sees it through the log; here are the checks, names and messages of the
standard module. What a program lets SQLite call is in :mod:`veritydb.handlers`, and what VerityDB adds (``actor``,
``reason(…)``, ``last_offset``, subscriptions) in :mod:`veritydb.logged`.
"""

# The connection, its cursors and its blobs are one thing in several files, and look into each other.
# pyright: reportPrivateUsage=false
# What a program passes is checked, whatever the annotations promise.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter, Signature
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn
from warnings import warn

import apsw

from veritydb import blob, constants, cursor, errors
from veritydb.constants import LEGACY_TRANSACTION_CONTROL
from veritydb.cursor import Cursor
from veritydb.deprecations import keyword_only_soon
from veritydb.errors import ConfigurationError, DataError, OperationalError, ProgrammingError
from veritydb.handlers import Handlers
from veritydb.logged import Logged
from veritydb.row import kind_of, type_name
from veritydb.session import Session
from veritydb.sharing import SharedSession, share

if TYPE_CHECKING:
    from typing import Self

    from veritydb.cluster.shared import SharedStream

_TIMEOUT_SECONDS_MAX = (2**31 - 1) // 1000
_LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")
_LIMITS = frozenset(getattr(constants, name) for name in constants.__all__ if name.startswith("SQLITE_LIMIT_"))
_DBCONFIGS = frozenset(getattr(constants, name) for name in constants.__all__ if name.startswith("SQLITE_DBCONFIG_"))


defaults: dict[str, Any] = {}
"""What a connection gets that says nothing of ``key``, ``actor``, ``on_missing`` (:mod:`veritydb.installing`)."""


class Statement:
    """A compiled statement: what calling a connection returns. It has no use of its own, in sqlite3 neither."""

    __slots__ = ("sql",)

    sql: str

    def __new__(cls, *_: object, **__: object) -> Self:
        """Refuse, as it is not made by calling it."""
        raise TypeError(f"cannot create 'veritydb.{cls.__name__}' instances")


class Connection(Handlers, Logged):
    """A connection to a database whose every change is in its log before it commits.

    Parameters, meaning and defaults are those of :func:`sqlite3.connect`; in addition

    ``key``         passphrase, raw key or :class:`KeyProvider`; without one nothing is encrypted
    ``actor``       who makes the transactions, as the log will say
    ``on_missing``  "rebuild" (default): a missing file is rebuilt from its log; "new": the old log is set aside
    ``register``    a function, or "module:function", called with the connection before it is first used, to register
                    what the schema needs: functions, collations; before that, if the log has to be replayed, with
                    an object that has the same methods
    ``cluster``     the cluster that keeps the database's stream, so that a commit has to reach a quorum of its nodes:
                    the path of a ``client.toml``, addresses, or a ``ClusterConfig``; by default ``VERITYDB_CLUSTER``;
                    False: none, whatever that says
    ``stream``      the stream's name there; by default ``VERITYDB_STREAM``, or the file's name without its suffix
    ``consistency`` what a read of a shared database must see: "default", "synchronized" or "eventual"
                    (:mod:`veritydb.consistency`)
    """

    __slots__ = (
        "__weakref__",
        "_converting",
        "_converts",
        "_detect",
        "_ident",
        "_session",
        "_spare",
        "_text_factory",
        "_thread",
        "_trace",
        "row_factory",
    )

    Warning: ClassVar[type[errors.Warning]] = errors.Warning
    Error: ClassVar[type[errors.Error]] = errors.Error
    InterfaceError: ClassVar[type[errors.InterfaceError]] = errors.InterfaceError
    DatabaseError: ClassVar[type[errors.DatabaseError]] = errors.DatabaseError
    DataError: ClassVar[type[errors.DataError]] = errors.DataError
    OperationalError: ClassVar[type[errors.OperationalError]] = errors.OperationalError
    IntegrityError: ClassVar[type[errors.IntegrityError]] = errors.IntegrityError
    InternalError: ClassVar[type[errors.InternalError]] = errors.InternalError
    ProgrammingError: ClassVar[type[errors.ProgrammingError]] = errors.ProgrammingError
    NotSupportedError: ClassVar[type[errors.NotSupportedError]] = errors.NotSupportedError

    @keyword_only_soon("_sqlite3.Connection", 1)
    def __init__(
        self,
        database: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        timeout: float = 5.0,
        detect_types: int = 0,
        isolation_level: str | None = "",
        check_same_thread: bool = True,
        factory: Any = None,
        cached_statements: int = 128,
        uri: bool = False,
        *,
        autocommit: bool | int = LEGACY_TRANSACTION_CONTROL,
        key: Any = None,
        actor: str = "",
        on_missing: str | None = None,
        register: str | Callable[[Any], object] | None = None,
        cluster: Any = None,
        stream: str | None = None,
        consistency: str = "default",
    ) -> None:
        left = self._leave_session()
        path = os.fsdecode(database)
        if defaults:
            actor = actor or defaults.get("actor", "")
            on_missing = on_missing or defaults.get("on_missing")
            if key is None and path not in ("", ":memory:"):
                key = defaults.get("key")
        level, timeout = _level(isolation_level), _seconds(timeout)
        kind = Session if check_same_thread else SharedSession
        shared: SharedStream | None = None
        if cluster is None and path not in ("", ":memory:"):
            cluster = os.environ.get("VERITYDB_CLUSTER") or None
        if cluster is not None and cluster is not False:
            from veritydb.cluster.reaching import shared_stream

            shared = shared_stream(cluster, stream, path)
        elif stream is not None:
            raise ConfigurationError("stream=… names a stream of a cluster; say which with cluster=…")
        session = kind.open(
            path,
            timeout=timeout,
            isolation_level=level,
            autocommit=autocommit,
            cached_statements=cached_statements,
            uri=uri,
            key=key,
            actor=actor,
            on_missing=on_missing if on_missing is not None else os.environ.get("VERITYDB_ON_MISSING", "rebuild"),
            register=register,
            shared=shared,
        )
        if shared is not None:
            from veritydb.follower import follow
            from veritydb.freshness import Freshness

            session.freshness = Freshness(shared.stream, shared.client, word=consistency, timeout=timeout)
            follow(session, shared, key=key, register=register)
        self._ident: Callable[[], int]
        # A connection for all threads compares a constant with itself, so fetching asks one question in both cases.
        self._ident, self._thread = (get_ident, get_ident()) if check_same_thread else (int, 0)
        self._detect = detect_types
        self._text_factory: Any = str
        self._converts = bool(detect_types)
        """Whether cursors have to look at rows: for converters, or for a text factory."""
        self._trace: Any = None
        self._spare: list[apsw.Cursor] = []
        """Cursors of APSW that nobody uses now."""
        self._converting: tuple[Cursor, ...] | None = None
        """Cursors whose rows are being converted now."""
        self.row_factory: Any = None
        self._session: Session | None = session
        """None once the connection is closed."""
        for each in left:
            each._apsw = session.db.cursor()
        if session.register is not None:
            session.register(self)

    # Statements -------------------------------------------------------------------------------------------------------

    def cursor(self, factory: Any = Cursor) -> Any:
        """Return a new cursor; ``factory`` is called with the connection to make it."""
        try:
            session = self._session
        except AttributeError:
            raise _not_initialised() from None
        if session is None or self._ident() != self._thread:
            self._check()
        made = factory(self)
        if factory is not Cursor and not issubclass(type(made), Cursor):
            raise TypeError(f"factory must return a cursor, not {kind_of(made)}")
        if self.row_factory is not None:
            made.row_factory = self.row_factory
        return made

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Execute one statement with a new cursor, and return that."""
        return Connection.cursor(self).execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Execute a statement once for each of ``parameters`` with a new cursor, and return that."""
        return Connection.cursor(self).executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> Any:
        """Execute all statements of a script with a new cursor, and return that."""
        return Connection.cursor(self).executescript(sql_script)

    def __call__(self, *arguments: str) -> Statement:
        """Compile a statement without running it."""
        session = self._opened()
        if len(arguments) != 1:
            raise TypeError(f"Connection() takes exactly 1 argument ({len(arguments)} given)")
        sql = arguments[0]
        if not isinstance(sql, str):
            raise TypeError(f"argument 1 must be str, not {kind_of(sql)}")
        if "\0" in sql:
            raise ProgrammingError("the query contains a null character")
        if len(sql.encode()) > session.db.limit(apsw.SQLITE_LIMIT_SQL_LENGTH):
            raise DataError("query string is too large")
        session.guard(lambda: session.planner.plan(sql, None))
        statement = object.__new__(Statement)
        statement.sql = sql
        return statement

    # Transactions -----------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit the open transaction, if there is one: first the log, then the file."""
        self._opened().commit()

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one."""
        self._opened().rollback()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> Literal[False]:
        session = self._opened()
        if session.autocommit is True:
            return False
        if kind is not None:
            session.rollback()
            return False
        try:
            session.commit()
        except BaseException:
            # A commit that failed may have left the transaction open, and others waiting for it.
            session.rollback()
            raise
        return False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connected().in_transaction

    @property
    def isolation_level(self) -> str | None:
        """Which BEGIN comes by itself before a first change: "", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"; None: none."""
        return self._connected().isolation_level

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        self._connected().isolation_level = _level(value)

    @property
    def autocommit(self) -> bool | int:
        """As in Python 3.12: True, False, or LEGACY_TRANSACTION_CONTROL, where ``isolation_level`` rules."""
        return self._opened().autocommit

    @autocommit.setter
    def autocommit(self, value: bool | int) -> None:
        self._opened().autocommit = value

    @property
    def total_changes(self) -> int:
        """Rows changed since the connection was opened."""
        return self._connected().total_changes

    # The file ---------------------------------------------------------------------------------------------------------

    def blobopen(
        self, table: str, column: str, row: int, /, *, readonly: bool = False, name: str = "main"
    ) -> blob.Blob:
        """Open the value of ``column`` in row ``row`` of ``table``, to read and write parts of it."""
        session = self._opened()
        if name not in session.db.db_names():
            readonly = True  # SQLite says that there is no such database, which is no question of writing to it.
        return blob.blob(
            self, session.guard(lambda: session.blob_open(table, column, row, readonly=readonly, name=name))
        )

    def backup(
        self,
        target: Connection,
        *,
        pages: int = -1,
        progress: Callable[[int, int, int], object] | None = None,
        name: str = "main",
        sleep: float = 0.250,
    ) -> None:
        """Copy the database ``name`` into ``target``: an in-memory connection, or one of the standard ``sqlite3``.

        A file of VerityDB's has a log, which a copied page would not be in: NotSupportedError.
        """
        from veritydb import backups

        session = self._opened()
        if progress is not None and not callable(progress):
            raise TypeError("progress argument must be a callable")
        if backups.is_standard(target):
            backups.to_standard(session, target, pages=pages, progress=progress, name=name, sleep=sleep)
            return
        if not isinstance(target, Connection):
            raise TypeError(f"backup() argument 1 must be veritydb.Connection, not {kind_of(target)}")
        if target is self:
            raise ValueError("target cannot be the same connection instance")
        backups.between(session, target._opened(), pages=pages, progress=progress, name=name, sleep=sleep)

    def serialize(self, *, name: str = "main") -> bytes:
        """Return the database as the bytes of a file, not encrypted."""
        session = self._opened()
        data = session.guard(lambda: session.db.serialize(name))
        if data is None:
            raise OperationalError(f"unable to serialize {name!r}")
        return bytes(data)

    def deserialize(self, data: Any, /, *, name: str = "main") -> None:
        """Make ``data`` the content of an in-memory database; a file is changed through its log only."""
        from veritydb import backups

        session = self._opened()
        with memoryview(data) as view:
            if not view.c_contiguous:
                raise BufferError("memoryview: underlying buffer is not C-contiguous")
            content = view.tobytes()
        backups.deserialize(session, name, content)

    def iterdump(self, *, filter: str | None = None) -> Iterator[str]:  # noqa: A002  the name sqlite3 gives it
        """Return an iterator over the SQL that makes the database; ``filter`` is a LIKE pattern for names."""
        from veritydb import dump

        self._opened()
        return dump.iterdump(self, filter)

    def enable_load_extension(self, enable: bool, /) -> None:
        """Forbid extensions; allowing them is refused, because what they write cannot be foreseen."""
        self._opened()
        if enable:
            raise errors.StatementRefused(_EXTENSIONS)

    def load_extension(self, name: str, /, *, entrypoint: str | None = None) -> None:
        """Refused: see :meth:`enable_load_extension`."""
        self._opened()
        raise errors.StatementRefused(_EXTENSIONS)

    # Limits and settings ----------------------------------------------------------------------------------------------

    def setlimit(self, category: int, limit: int, /) -> int:
        """Set a limit of SQLite's for this connection's statements, and return what it was."""
        session = self._opened()
        if category not in _LIMITS:
            raise ProgrammingError("'category' is out of bounds")
        from veritydb.limits import set_limit

        return set_limit(session.planner, session.db, category, limit)

    def getlimit(self, category: int, /) -> int:
        """Return a limit of SQLite's."""
        return self.setlimit(category, -1)

    def getconfig(self, op: int, /) -> bool:
        """Return a boolean setting of SQLite's (SQLITE_DBCONFIG_…)."""
        session = self._opened()
        if op not in _DBCONFIGS:
            raise ValueError(f"unknown config 'op': {op}")
        return bool(session.guard(lambda: session.db.config(op, -1)))

    def setconfig(self, op: int, enable: bool = True, /) -> None:
        """Set a boolean setting of SQLite's. What would bypass the log is refused."""
        session = self._opened()
        if op not in _DBCONFIGS:
            raise ValueError(f"unknown config 'op': {op}")
        if enable and op in _BYPASSES:
            raise errors.StatementRefused(f"{_BYPASSES[op]}; nothing was changed")
        if session.guard(lambda: session.db.config(op, bool(enable))) != bool(enable):
            raise OperationalError(f"Unable to set config {op}")

    @property
    def text_factory(self) -> Any:
        """What makes Python values of TEXT: ``str``, or called with the bytes."""
        self._connected()
        return self._text_factory

    @text_factory.setter
    def text_factory(self, value: Any) -> None:
        self._connected()
        self._text_factory = value
        self._converts = bool(self._detect) or value is not str

    # Closing ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Roll back what is open and close; harmless if called again."""
        try:
            session = self._session
        except AttributeError:
            raise _not_initialised() from None
        if self._ident() != self._thread:
            self._check()
        if session is not None:
            self._session = None
            session.close()

    def __del__(self) -> None:
        try:
            session = self._session
        except AttributeError:
            return
        if session is not None:
            self._session = None
            try:
                warn(f"unclosed database in {self!r}", ResourceWarning, stacklevel=1, source=self)
            finally:
                session.close()

    def _leave_session(self) -> list[Cursor]:
        """Before a second ``__init__``: let the cursors keep the rows of the database that is left, and return them."""
        try:
            session = self._session
        except AttributeError:
            return []
        cursors = [cursor for cursor in self._cursors() if cursor._apsw is not None]
        if session is not None:
            for user in cursors:
                user._keep_rows()
            session.close()
        self._session, self._ident = None, _nobody
        return cursors

    _share = staticmethod(share)
    """Called with each new cursor of a connection for all threads."""

    def _new_cursor(self, session: Session) -> apsw.Cursor:
        made = session.db.cursor()
        if self._trace is not None:
            made.exec_trace = self._trace
        return made

    def _cursors(self) -> list[Cursor]:
        # Asked so rarely that the garbage collector's search costs less than keeping track of every cursor.
        return [user for user in gc.get_referrers(self) if isinstance(user, Cursor)]

    # Checks -----------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise what sqlite3 raises if this connection cannot be used here and now."""
        if self._ident() != self._thread:
            raise ProgrammingError(
                "SQLite objects created in a thread can only be used in that same thread. "
                f"The object was created in thread id {self._thread} and this is thread id {get_ident()}."
            )
        if self._session is None:
            raise ProgrammingError("Cannot operate on a closed database.")

    def _opened(self) -> Session:
        """Return the session, after all checks."""
        try:
            session = self._session
        except AttributeError:
            raise _not_initialised() from None
        if session is None or self._ident() != self._thread:
            self._check()
        assert session is not None
        return session

    def _connected(self) -> Session:
        """Return the session for what sqlite3 lets any thread do."""
        try:
            session = self._session
        except AttributeError:
            raise _not_initialised() from None
        if session is None:
            self._ident()  # Which says so if a second __init__ has failed.
            raise ProgrammingError("Cannot operate on a closed database.")
        return session

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle {type_name(type(self))!r} object")


_EXTENSIONS = (
    "what an extension writes cannot be foreseen, so none is loaded; register functions and collations from Python "
    "(create_function, create_collation); nothing was changed"
)
_BYPASSES = {
    constants.SQLITE_DBCONFIG_WRITABLE_SCHEMA: (
        "a writable schema changes the schema behind SQLite's back; use CREATE, ALTER and DROP"
    ),
    constants.SQLITE_DBCONFIG_RESET_DATABASE: (
        "a reset empties the database without its log; drop the tables, or start a new database"
    ),
}


def _not_initialised() -> ProgrammingError:
    # Who finds that a slot was never filled raises this. A __getattr__ would do it in one place, and make every read of
    # every attribute five times slower.
    return ProgrammingError("Base Connection.__init__ not called.")


def _nobody() -> int:
    """Stand for the thread of a connection whose second ``__init__`` has not come to its end."""
    raise _not_initialised()


def _level(value: object) -> str | None:
    """Return an isolation level as SQLite spells it."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("isolation_level must be str or None")
    if "\0" in value:
        raise ValueError("embedded null character")
    level = str.upper(value)
    if level not in _LEVELS:
        raise ValueError("isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'")
    return level


def _seconds(timeout: Any) -> float:
    """Return how long to wait, in seconds, and at most what SQLite can be told."""
    if timeout.__class__ is not float:
        if not hasattr(timeout, "__float__") and not hasattr(timeout, "__index__"):
            raise TypeError(f"timeout must be a real number, not {type(timeout).__name__}")
        timeout = float(timeout)
    if timeout != timeout:
        raise ValueError("timeout must be a number of seconds, not nan")
    return min(float(timeout), _TIMEOUT_SECONDS_MAX)


# Called without an argument, a closed connection complains of being closed, so __call__ takes any number of them.
Connection.__call__.__signature__ = Signature(  # type: ignore[attr-defined]  # as sqlite3's shows itself to inspect
    [Parameter("self", Parameter.POSITIONAL_ONLY), Parameter("sql", Parameter.POSITIONAL_ONLY)]
)
cursor.connections.append(Connection)
Connection.__module__ = Statement.__module__ = "veritydb"
