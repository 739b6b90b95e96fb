"""What the log of a project's database says, and whether the file is what it says."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support import files
from veritydb.events import Op, Rows
from veritydb.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTER = "veritydb.django:register"


class Said(NamedTuple):
    """One transaction of the log."""

    actor: str
    reason: str
    rows: dict[tuple[str, str], int]
    """(table, "insert" and so on) → rows."""


@contextmanager
def written(path: Path, key: Any = None) -> Iterator[list[Said]]:
    """Give a list that holds, after the ``with``, what the log has got inside of it."""
    start = len(files.transactions(path, key))
    found: list[Said] = []
    yield found
    for transaction in files.transactions(path, key, start):
        rows: Counter[tuple[str, str]] = Counter()
        for event in transaction.events:
            if isinstance(event, Rows):
                rows[event.table, Op(event.op).name.lower()] += len(event)
        found.append(Said(transaction.actor, transaction.reason, dict(rows)))


def images(path: Path, table: str, start: int = 0, key: Any = None) -> list[tuple[str, Any, Any]]:
    """Return (operation, before, after) of each logged change of a row of ``table``."""
    found: list[tuple[str, Any, Any]] = []
    for transaction in files.transactions(path, key, start):
        for event in transaction.events:
            if isinstance(event, Rows) and event.table == table:
                nothing = [None] * len(event)
                for pair in zip(event.before or nothing, event.after or nothing, strict=True):
                    found.append((Op(event.op).name.lower(), *pair))
    return found


def check(path: Path, key: Any = None) -> None:
    """Require that the chain is whole, and that a rebuild from the log is equal to the file."""
    result = verify(path, key=key, register=REGISTER)
    assert result.ok, result.problems


def names(path: Path) -> set[str]:
    """Return the tables in a file that is not encrypted, as the standard module sees them."""
    with closing(sqlite3.connect(path)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
