"""Tables made anew the way Django does: a new table, INSERT … SELECT, DROP, RENAME. The log makes the same of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.life import Life

_CREATE = "CREATE TABLE {}(id INTEGER PRIMARY KEY AUTOINCREMENT, name)"
_REMAKE = (
    "PRAGMA foreign_keys = OFF",
    "BEGIN",
    _CREATE.format("new__patients"),
    "INSERT INTO new__patients(id, name) SELECT id, name FROM patients",
    "DROP TABLE patients",
    "ALTER TABLE new__patients RENAME TO patients",
    "COMMIT",
    "PRAGMA foreign_keys = ON",
)


@pytest.mark.parametrize("rows", [0, 3])
def test_a_table_that_is_made_anew_twice_keeps_its_sequence(life: Life, rows: int) -> None:
    db = life.connect(isolation_level=None)
    db.execute(_CREATE.format("patients"))
    db.executemany("INSERT INTO patients(name) VALUES (?)", [("Ada",)] * rows)
    for statement in _REMAKE * 2:  # The second time the sequence ends as it began, and was gone in between.
        db.execute(statement)
    assert db.execute("SELECT * FROM sqlite_sequence").fetchall() == [("patients", rows)]


def test_a_sequence_that_was_ahead_of_the_rows_starts_anew_with_the_table(life: Life) -> None:
    db = life.connect(isolation_level=None)
    db.execute(_CREATE.format("patients"))
    db.execute("INSERT INTO patients VALUES (100, 'Ada')")
    db.execute("DELETE FROM patients")
    for statement in _REMAKE:
        db.execute(statement)
    assert db.execute("SELECT * FROM sqlite_sequence").fetchall() == [("patients", 0)]
