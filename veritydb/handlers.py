"""What a program lets SQLite call: functions, aggregates, collations, and its handlers.

A part of :class:`veritydb.Connection`, which inherits it. :mod:`veritydb.functions` makes of each what SQLite calls;
here are the checks, names and messages of the standard module.
"""

# A part of the connection looks into it, and its cursors.
# pyright: reportPrivateUsage=false
# What a program passes is checked, whatever the annotations promise.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw

from veritydb import functions
from veritydb.boundaries import BARE_BEGIN
from veritydb.deprecations import positional_soon
from veritydb.errors import OperationalError, ProgrammingError
from veritydb.row import kind_of

if TYPE_CHECKING:
    from veritydb.cursor import Cursor
    from veritydb.session import Session


class Handlers:
    """The callbacks of a connection."""

    __slots__ = ()

    if TYPE_CHECKING:
        _trace: Any
        _spare: list[apsw.Cursor]

        def _opened(self) -> Session: ...
        def _connected(self) -> Session: ...
        def _cursors(self) -> list[Cursor]: ...

    @positional_soon("name", "narg", "func")
    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """Let SQL call ``func`` by ``name`` with ``narg`` arguments (-1: any number); None removes it."""
        session = self._opened()
        made = None if func is None else functions.scalar(func)
        flags = apsw.SQLITE_DETERMINISTIC if deterministic else 0
        try:
            session.db.create_scalar_function(name, made, narg, flags=flags)
            return
        except apsw.Error:
            pass  # sqlite3 does not say why, and chains nothing.
        raise OperationalError("Error creating function")

    @positional_soon("name", "n_arg", "aggregate_class")
    def create_aggregate(self, name: str, n_arg: int, aggregate_class: Any) -> None:
        """Let SQL aggregate with instances of ``aggregate_class``: ``step(…)``, ``finalize()``; None removes it."""
        session = self._opened()
        made = None if aggregate_class is None else functions.aggregate(aggregate_class)
        if not _creates(lambda: session.db.create_aggregate_function(name, made, n_arg)):
            raise OperationalError("Error creating aggregate")

    def create_window_function(self, name: str, num_params: int, aggregate_class: Any, /) -> None:
        """Let SQL use ``aggregate_class`` over windows: also ``value()`` and ``inverse(…)``; None removes it."""
        session = self._opened()
        made: Any = None if aggregate_class is None else functions.window(aggregate_class)
        if not _creates(lambda: session.db.create_window_function(name, made, num_params)):
            raise ProgrammingError("bad parameter or other API misuse")

    def create_collation(self, name: str, callback: Callable[[str, str], int] | None, /) -> None:
        """Let SQL order text by ``callback(one, two)`` (negative, 0, positive); None removes it."""
        session = self._opened()
        if not isinstance(name, str):
            raise TypeError(f"create_collation() argument 1 must be str, not {kind_of(name)}")
        if callback is not None and not callable(callback):
            raise TypeError("parameter must be callable")
        made = None if callback is None else functions.collation(callback)
        session.guard(lambda: session.db.create_collation(str.__str__(name), made))

    @positional_soon("authorizer_callback")
    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Ask ``authorizer_callback`` before ours what a statement may do."""
        session = self._opened()
        session.user_authorizer = None if authorizer_callback is None else functions.authorizer(authorizer_callback)

    @positional_soon("progress_handler")
    def set_progress_handler(self, progress_handler: Callable[[], Any] | None, n: int) -> None:
        """Call ``progress_handler`` every ``n`` instructions; if it returns true, the statement is interrupted."""
        session = self._opened()
        made = None if progress_handler is None else functions.progress(progress_handler)
        session.transactions.set_progress_handler(made, n)

    @positional_soon("trace_callback")
    def set_trace_callback(self, trace_callback: Callable[[str], Any] | None) -> None:
        """Call ``trace_callback`` with each statement, its parameters filled in, before it runs."""
        session = self._opened()
        control = (session.control, session.transactions._control)
        self._trace = None if trace_callback is None else functions.trace(trace_callback, control, BARE_BEGIN)
        used = [cursor._apsw for cursor in self._cursors() if cursor._apsw is not None]
        for each in (*used, *self._spare, *control):
            each.exec_trace = self._trace

    def interrupt(self) -> None:
        """Stop what runs now. May be called from any thread."""
        self._connected().interrupt()


def _creates(create: Callable[[], object]) -> bool:
    try:
        create()
    except apsw.Error:
        return False
    return True
