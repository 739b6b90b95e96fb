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
from contextlib import nullcontext
from functools import cache, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.session import Session

if TYPE_CHECKING:
    from veritydb.cursor import Cursor


class SharedSession(Session):
    """A session whose calls wait for each other. What cursors call is not among them: they hold the gate already."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.gate = self.lock = RLock()
        self.dropped: list[apsw.Cursor] = []
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


for _name in ("commit", "commit_open", "rollback", "close", "blob_open", "guard"):
    setattr(SharedSession, _name, _one_at_a_time(getattr(Session, _name)))
for _name in ("isolation_level", "autocommit", "user_authorizer"):
    _found = getattr(Session, _name)
    setattr(SharedSession, _name, property(_found.fget, _one_at_a_time(_found.fset), doc=_found.__doc__))


class _Shared:
    """What the classes of cursors whose calls hold the gate have in common."""

    __slots__ = ()


class _Closed:
    """Stands for the session of a connection that is closed: its cursors say so themselves."""

    gate = nullcontext()
    dropped = ()


_CLOSED: Any = _Closed()


def _at_the_gate(method: Callable[..., Any]) -> Callable[..., Any]:
    # The program's class may take other arguments than ours (Django's takes None for no parameters): it gets what was
    # given. Its method is not looked up by super(), which costs as much as the gate.
    @wraps(method)
    def alone(self: Cursor, *arguments: Any, **options: Any) -> Any:
        session: Any = self._connection._session or _CLOSED
        with session.gate:
            if session.dropped:
                session.tidy()
            return method(self, *arguments, **options)

    return alone


def _execute_at_the_gate(method: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: Cursor, sql: str, parameters: Any = (), /) -> Any:
        session: Any = self._connection._session or _CLOSED
        with session.gate:
            if session.dropped:
                session.tidy()
            return method(self, sql, parameters)

    return wraps(method)(execute)


def _plain_at_the_gate(method: Callable[[Any], Any]) -> Callable[..., Any]:
    def alone(self: Cursor) -> Any:
        session: Any = self._connection._session or _CLOSED
        with session.gate:
            if session.dropped:
                session.tidy()
            return method(self)

    return wraps(method)(alone)


def _finalizer(method: Callable[[Any], None]) -> Callable[[Cursor], None]:
    def dropped(self: Cursor) -> None:
        try:
            cursor = self._apsw
            session = self._connection._session
            if cursor is None or not isinstance(session, SharedSession):
                return
            # The garbage collector may come by anywhere, so this waits for nobody.
            if session.lock.acquire(blocking=False):
                try:
                    method(self)
                finally:
                    session.lock.release()
            else:
                session.dropped.append(cursor)
        except Exception:
            pass  # Never initialised, or closed with its connection.

    return dropped


def share(cursor: Cursor) -> None:
    """Make ``cursor``, which is being made, one of a connection that several threads use."""
    kind: Any = type(cursor)
    if not issubclass(kind, _Shared):
        cursor.__class__ = _class_for(kind)


_GUARDED = ("execute", "executemany", "executescript", "fetchone", "__next__", "fetchmany", "fetchall", "close")
# To pass on arguments of which nothing is known costs a tenth of a statement. Those of our own methods are known.
_KNOWN = {
    "execute": _execute_at_the_gate,
    "fetchone": _plain_at_the_gate,
    "__next__": _plain_at_the_gate,
    "fetchall": _plain_at_the_gate,
    "close": _plain_at_the_gate,
}


def _guarded(kind: Any, name: str) -> Callable[..., Any]:
    from veritydb.cursor import Cursor

    method = getattr(kind, name)
    guard = _KNOWN.get(name, _at_the_gate) if method is getattr(Cursor, name) else _at_the_gate
    return guard(method)


@cache
def _class_for(kind: Any) -> Any:
    content: dict[str, Any] = {name: _guarded(kind, name) for name in _GUARDED}
    content |= {"__slots__": (), "__doc__": kind.__doc__, "__del__": _finalizer(kind.__del__)}
    shared = type(kind.__name__, (_Shared, kind), content)
    shared.__module__, shared.__qualname__ = kind.__module__, kind.__qualname__
    return shared


__all__ = ["SharedSession", "share"]
