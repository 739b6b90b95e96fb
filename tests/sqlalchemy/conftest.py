"""Engines over databases that are rebuilt from their logs and compared when the test is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects import registry

from tests.support import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from tests.support.life import Life

# Also where the package is tested from its sources and its entry points are not installed.
for _name in ("veritydb", "sqlite.veritydb"):
    registry.register(_name, "veritydb.sqlalchemy.dialect", "VerityDialect")
for _name in ("veritydb.aio", "sqlite.veritydb_aio"):
    registry.register(_name, "veritydb.sqlalchemy.aio", "AsyncVerityDialect")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database is."""
    return tmp_path / "clinic.db"


@pytest.fixture
def engines(life: Life, path: Path) -> Iterator[Callable[..., Engine]]:
    """Make an engine for the test's database, with more in its URL or its arguments."""
    made: list[Engine] = []

    def make(query: str = "", **options: Any) -> Engine:
        life.watch(path, key=options.get("connect_args", {}).get("key"), register="veritydb.sqlalchemy:register")
        made.append(create_engine(f"veritydb:///{path}{query}", **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def engine(engines: Callable[..., Engine]) -> Engine:
    """An engine for the test's database."""
    return engines("?actor=reception")


@pytest.fixture
def logged(path: Path) -> Callable[[], list[tuple[str, str, list[Any]]]]:
    """Return what the log of the test's database holds: actor, reason and events of each transaction."""

    def read() -> list[tuple[str, str, list[Any]]]:
        return [(each.actor, each.reason, list(each.events)) for each in files.transactions(path)]

    return read
