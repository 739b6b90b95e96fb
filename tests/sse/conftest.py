"""A database, and a server for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

import veritydb
from tests.support.cli import KEY
from tests.support.served import SCHEMA, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.life import Life


class Clinic(NamedTuple):
    """An encrypted database with a table that others may see a part of, and one that they may not."""

    db: veritydb.Connection
    path: Path


@pytest.fixture
def clinic(life: Life, tmp_path: Path) -> Clinic:
    db = life.connect("clinic.db", key=KEY, autocommit=True, actor="dr.lee")
    db.executescript(SCHEMA)
    return Clinic(db, tmp_path / "clinic.db")


@pytest.fixture
def server(clinic: Clinic) -> Iterator[Server]:
    with Server(clinic.path, key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose database does not change, for tests that only ask."""
    path = tmp_path_factory.mktemp("quiet") / "clinic.db"
    db = veritydb.connect(path, key=KEY, autocommit=True, actor="dr.lee")
    db.executescript(SCHEMA)
    db.execute("INSERT INTO patients VALUES (1, 'Jane', 'A', '111'), (2, 'Hidden', 'B', '222')")
    db.execute("UPDATE patients SET name = 'Jane Smith' WHERE id = 1")
    db.close()
    with Server(path, key=KEY) as server:
        yield server
