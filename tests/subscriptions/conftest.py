"""A database to subscribe to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import veritydb
from tests.support.life import RAW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.life import Life


@pytest.fixture(params=["file", "encrypted", "memory"])
def db(request: pytest.FixtureRequest, life: Life) -> Iterator[veritydb.Connection]:
    """An open database with two tables."""
    if request.param == "memory":
        connection = veritydb.connect(":memory:")
    else:
        connection = life.connect(key=RAW if request.param == "encrypted" else None)
    connection.executescript(
        "CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, born INT);"
        "CREATE TABLE stays (ward TEXT, bed INT, patient INT, PRIMARY KEY (bed, ward)) WITHOUT ROWID;"
    )
    yield connection
    connection.close()
