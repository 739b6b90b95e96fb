"""Connections that several threads use (``check_same_thread=False``), one call at a time.

SQLite makes threads that share a connection wait for each other, call by call, and so does ``sqlite3``. What is one
call there is several steps here: a bare statement begins, joins, runs and commits; another thread's statement between
two of them would become part of a transaction that it knows nothing of, and be rolled back with it after its own
success was reported. So each call holds the connection's *gate*. Used by :mod:`veritydb.connection`; a connection for
one thread has none of this.
"""

# The connection, its cursors and this look into each other.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.cursor import Cursor
from veritydb.session import Session

if TYPE_CHECKING:
    from typing import Self

    _Mixed = Cursor
else:
    _Mixed = object  # So that the layout of what is mixed is that of the program's class.


class SharedSession(Session):
    """A session whose calls wait for each other."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.gate = self.lock = RLock()
        self.dropped: list[apsw.Cursor] = []
        """Cursors that the garbage collector found with rows left while another thread was at work."""
        super().__init__(*arguments, **options)

    def tidy(self) -> None:
        """End the statements of cursors that are gone. The gate is held."""
        while self.dropped:
            self.dropped.pop().execute("")


def _one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def alone(self: SharedSession, *arguments: Any, **options: Any) -> Any:
        with self.gate:
            return method(self, *arguments, **options)

    return alone


for _name in (
    "execute",
    "execute_many",
    "execute_script",
    "commit",
    "commit_open",
    "rollback",
    "close",
    "blob_open",
    "guard",
):
    setattr(SharedSession, _name, _one_at_a_time(getattr(Session, _name)))
for _name in ("isolation_level", "autocommit", "user_authorizer"):
    _found = getattr(Session, _name)
    setattr(SharedSession, _name, property(_found.fget, _one_at_a_time(_found.fset), doc=_found.__doc__))


class _Shared(_Mixed):
    """A cursor whose calls hold the gate. Mixed in before the class that the program asked for.

    That class may take other arguments than ours (Django's takes None for no parameters): it gets what was given.
    """

    __slots__ = ()

    def execute(self, *arguments: Any, **options: Any) -> Self:
        with _gate(self):
            return super().execute(*arguments, **options)

    def executemany(self, *arguments: Any, **options: Any) -> Self:
        with _gate(self):
            return super().executemany(*arguments, **options)

    def executescript(self, *arguments: Any, **options: Any) -> Self:
        with _gate(self):
            return super().executescript(*arguments, **options)

    def fetchone(self) -> Any:
        with _gate(self):
            return super().fetchone()

    def __next__(self) -> Any:
        with _gate(self):
            return super().__next__()

    def fetchmany(self, *arguments: Any, **options: Any) -> list[Any]:
        with _gate(self):
            return super().fetchmany(*arguments, **options)

    def fetchall(self) -> list[Any]:
        with _gate(self):
            return super().fetchall()

    def close(self) -> None:
        with _gate(self):
            super().close()

    def __del__(self) -> None:
        try:
            session = self._connection._session
            if not isinstance(session, SharedSession):
                return
            # The garbage collector may come by anywhere, so this waits for nobody.
            if session.lock.acquire(blocking=False):
                try:
                    super().__del__()
                finally:
                    session.lock.release()
            elif self._apsw is not None:
                session.dropped.append(self._apsw)
        except Exception:
            pass  # Never initialised, or closed with its connection.


class _Open:
    """What stands for the gate of a connection that is closed: its cursors say so themselves."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_OPEN = _Open()


def _gate(cursor: Cursor) -> Any:
    session = cursor._connection._session
    if not isinstance(session, SharedSession):
        return _OPEN
    if session.dropped:
        with session.gate:
            session.tidy()
    return session.gate


def share(cursor: Cursor) -> None:
    """Make ``cursor``, just made, one of a connection that several threads use."""
    kind: Any = type(cursor)
    if not issubclass(kind, _Shared):
        cursor.__class__ = _class_for(kind)


@cache
def _class_for(kind: Any) -> Any:
    shared = type(kind.__name__, (_Shared, kind), {"__slots__": (), "__doc__": kind.__doc__})
    shared.__module__, shared.__qualname__ = kind.__module__, kind.__qualname__
    return shared


__all__ = ["SharedSession", "share"]
