"""The same program on two modules: what it sees of VerityDB has to be what it sees of sqlite3.

A test writes a program that takes a module and a :class:`See`; :func:`same` runs it on both and compares
what they wrote down: values with their types, or an error's class and text.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import veritydb

Program = Callable[[Any, "See"], None]


class See:
    """Writes down what a program sees, in words that do not name the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[str] = []
        self.connections: list[Any] = []

    def __call__(self, look: Any) -> Any:
        """Write down ``look``, or what calling it returns or raises; return it."""
        if not callable(look):
            self.seen.append(self._words(look))
            return look
        try:
            value = look()
        except Exception as error:
            code = getattr(error, "sqlite_errorname", "")
            self.seen.append(f"{type(error).__name__} {code}: {self._words(str(error))}")
            return error
        self.seen.append(self._words(value))
        return value

    def opened(self, connection: Any) -> Any:
        """Have ``connection`` closed at the end."""
        self.connections.append(connection)
        return connection

    def close(self) -> None:
        """Close what was opened."""
        for connection in self.connections:
            connection.close()

    def _words(self, value: Any) -> str:
        text = value if isinstance(value, str) else f"{type(value).__name__} {value!r}"
        for module in ("veritydb", "sqlite3"):
            text = text.replace(f"{module}.", "")
        return text.replace(str(self.folder), "FOLDER")


def same(folder: Path, program: Program) -> list[str]:
    """Run ``program`` on sqlite3 and on VerityDB, require that it saw the same, and return that."""
    seen: list[list[str]] = []
    for module in (sqlite3, veritydb):
        place = folder / module.__name__
        place.mkdir()
        see = See(place)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                program(module, see)
        finally:
            see.close()
        seen.append(see.seen)
    standard, ours = seen
    for number, (one, two) in enumerate(zip(standard, ours, strict=False)):
        if one != two:
            raise AssertionError(f"look {number}:\n  sqlite3:  {one}\n  veritydb: {two}")
    if len(standard) != len(ours) or not standard:  # A program that sees nothing proves nothing.
        raise AssertionError(f"sqlite3 saw {len(standard)} things, veritydb {len(ours)}")
    return seen[0]


ROWS = [(1, "a", 1.5, b"x"), (2, None, None, None), (3, "\u00e9\0z", -2.0, b"")]


def table(db: Any, see: See, **options: Any) -> Any:
    con = see.opened(db.connect(":memory:", **options))
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, real REAL, data BLOB)")
    con.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", ROWS)
    con.commit()
    return con
