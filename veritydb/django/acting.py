"""Who acts, and why: what the log says of the transactions that a request, a command or a task makes.

A context variable, so it follows a request through ``await`` and into the threads that asgiref runs it in, and reaches
whatever connection is written to, also one that is opened later. :mod:`veritydb.django.connecting` asks for it before
each statement that may write; :mod:`veritydb.django.middleware` sets it for each request. Programs use :func:`acting`::

    with acting(actor="nightly import", reason="lab results of yesterday"):
        Result.objects.bulk_create(results)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Word: TypeAlias = "str | Callable[[], str | None] | None"
"""A text; or what to ask for it at each write; or None: what holds outside holds on."""


class Acting:
    """One ``with acting(…)``, inside another or none."""

    __slots__ = ("_actor", "_asking", "_outer", "_reason")

    def __init__(self, actor: Word, reason: Word, outer: Acting | None) -> None:
        self._actor = actor
        self._reason = reason
        self._outer = outer
        self._asking = False

    def words(self) -> tuple[str | None, str | None]:
        """Return actor and reason; None where nobody has said."""
        if self._asking:
            # Finding out who acts has led to a write (a session found invalid is deleted). Nobody is known yet.
            return None, None
        actor, reason = self._actor, self._reason
        self._asking = True
        try:
            if actor is not None and not isinstance(actor, str):
                actor = actor()
            if reason is not None and not isinstance(reason, str):
                reason = reason()
        finally:
            self._asking = False
        if self._outer is not None and (actor is None or reason is None):
            outer_actor, outer_reason = self._outer.words()
            actor = outer_actor if actor is None else actor
            reason = outer_reason if reason is None else reason
        return actor, reason


_acting: ContextVar[Acting | None] = ContextVar("veritydb.django.acting", default=None)
current = _acting.get
"""Return the innermost :class:`Acting`, or None."""


@contextmanager
def acting(actor: Word = None, reason: Word = None) -> Generator[None]:
    """Write ``actor`` and ``reason`` into the log with each transaction made inside the ``with``, on any database.

    A transaction has one actor and one reason: those that held at its last write. So a ``reason`` given inside of an
    ``atomic`` block holds for all of the block, unless something is written after it.
    """
    token = _acting.set(Acting(actor, reason, _acting.get()))
    try:
        yield
    finally:
        _acting.reset(token)
