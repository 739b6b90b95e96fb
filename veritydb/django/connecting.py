"""A connection and a cursor that ask, before whatever may write, who acts.

:mod:`veritydb.django.base` makes them. Cursors that a program takes from the connection under Django's wrapper ask,
too. What only reads, begins or goes back does not ask: to find out who acts, Django reads the user with a SELECT.
"""

# Django has no types. And this is a part of the connection: it sets both words at once, for each write.
# pyright: basic, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

from django.db.backends.sqlite3.base import FORMAT_QMARK_REGEX

import veritydb
from veritydb.django.acting import current

_SILENT = ("SELECT", "BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK")
"""How statements begin that write nothing themselves."""


class Connection(veritydb.Connection):
    """A connection whose transactions carry the actor and the reason of :func:`veritydb.django.acting`.

    While nobody acts they carry its own: the option ``actor``, or what a program has set.
    """

    __slots__ = ("_own", "ready")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._own: tuple[str, str] | None = None
        """Actor and reason of the connection itself, kept while somebody acts."""
        self.ready = False
        """Whether Django has it already. Before that, asking who acts would open another one to read the user."""
        super().__init__(*arguments, **options)

    def cursor(self, factory: Any = None) -> Any:
        """Return a new cursor, which knows who acts."""
        return super().cursor(ActingCursor if factory is None else factory)

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Execute one statement with a new cursor, and return that."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Execute a statement once for each of ``parameters`` with a new cursor, and return that."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> Any:
        """Execute all statements of a script with a new cursor, and return that."""
        return self.cursor().executescript(sql_script)

    def stamp(self) -> None:
        """Set actor and reason to those of whoever acts now."""
        acting = current()
        if (acting is None and self._own is None) or not self.ready:
            return
        session = self._session
        if session is None:
            return  # Closed. The statement that is about to run will say so.
        if self._own is None:
            self._own = (session.actor, session.reason_text)
        actor, reason = self._own
        if acting is None:
            self._own = None
        else:
            acting_actor, acting_reason = acting.words()
            actor = actor if acting_actor is None else acting_actor
            reason = reason if acting_reason is None else acting_reason
        session.actor = actor
        session.reason_text = reason

    @property
    def broken(self) -> bool:
        """Whether the connection writes no more, because what became of a transaction could not be told."""
        session = self._session
        return session is None or session.transactions.broken is not None


class ActingCursor(veritydb.Cursor):
    """The cursor of programs that go around Django's."""

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """Execute one statement."""
        if not sql.startswith(_SILENT):
            self.connection.stamp()
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Execute a statement once for each of ``parameters``."""
        self.connection.stamp()
        return super().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> Any:
        """Execute all statements of a script."""
        self.connection.stamp()
        return super().executescript(sql_script)


class DjangoCursor(ActingCursor):
    """Django's cursor: its placeholders are ``%s`` and ``%(name)s``."""

    def execute(self, query: str, params: Any = None) -> Any:
        """Execute one statement; without ``params`` its percent signs are nothing but percent signs."""
        if params is None:
            return super().execute(query)
        if isinstance(params, Mapping):
            return super().execute(_named(query, params), params)
        return super().execute(_numbered(query), params)

    def executemany(self, query: str, param_list: Iterable[Any]) -> Any:
        """Execute a statement once for each of ``param_list``."""
        rows = iter(param_list)
        first = next(rows, None)
        rows = rows if first is None else chain((first,), rows)
        if isinstance(first, Mapping):
            return super().executemany(_named(query, first), rows)
        return super().executemany(_numbered(query), rows)


@lru_cache(maxsize=512)
def _numbered(query: str) -> str:
    return FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")


def _named(query: str, params: Mapping[str, Any]) -> str:
    return query % {name: f":{name}" for name in params}
