"""Django's SQL functions, made ready once for all connections of a process.

Django registers some thirty functions on each connection that it opens, and opens one for each request. What makes them
look to SQLite as ``sqlite3``'s would (:mod:`veritydb.functions`) does not depend on the connection.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from typing import Any

import apsw
from django.db.backends.sqlite3._functions import register as register_functions

from veritydb import functions


class _Recorder:
    """Takes what a connection takes, and keeps it as APSW takes it."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, Callable[..., Any], int, int]] = []
        self.aggregates: list[tuple[str, Callable[[], Any], int]] = []

    def create_function(self, name: str, narg: int, func: Callable[..., Any], *, deterministic: bool = False) -> None:
        flags = apsw.SQLITE_DETERMINISTIC if deterministic else 0
        self.scalars.append((name, functions.scalar(func), narg, flags))

    def create_aggregate(self, name: str, n_arg: int, aggregate_class: Any) -> None:
        self.aggregates.append((name, functions.aggregate(aggregate_class), n_arg))

    def execute(self, sql: str) -> Any:
        # Django asks which functions SQLite has of its own; any connection knows.
        with closing(apsw.Connection(":memory:")) as db:
            rows = iter(db.execute(sql).fetchall())
        return _Answer(rows)


class _Answer:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def fetchone(self) -> Any:
        return next(self._rows, None)


@cache
def _recorded() -> _Recorder:
    recorder = _Recorder()
    register_functions(recorder)
    return recorder


def add_functions(db: apsw.Connection) -> None:
    """Give ``db``, which belongs to one of our connections, Django's functions."""
    recorded = _recorded()
    for name, function, count, flags in recorded.scalars:
        db.create_scalar_function(name, function, count, flags=flags)
    for name, make, count in recorded.aggregates:
        db.create_aggregate_function(name, make, count)


__all__ = ["add_functions", "register_functions"]
