"""What newer Pythons deprecate is warned of there, and disturbs nothing; each Python runs this as the newer ones do."""

from __future__ import annotations

import pytest

import veritydb
from tests.support.life import Life
from veritydb import cursor, deprecations


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warn as from Python 3.12 on, whichever runs."""
    warnings: list[str] = []
    monkeypatch.setattr(cursor, "_WARNS_OF_NAMES", True)
    monkeypatch.setattr(deprecations, "deprecated", warnings.append)
    return warnings


def test_statements_with_values_run_where_names_are_warned_of(life: Life, warned: list[str]) -> None:
    db = life.connect()
    db.execute("CREATE TABLE patients (name TEXT)")
    db.execute("INSERT INTO patients VALUES (?)", ("Jane",))
    db.execute("UPDATE patients SET name = ?1 || ?1", ["Jane"])
    db.execute("INSERT INTO patients VALUES (:name)", {"name": "John"})
    db.commit()
    names = db.execute("SELECT name FROM patients WHERE name <> ? ORDER BY name", ("",)).fetchall()
    assert names == [("JaneJane",), ("John",)]
    assert warned == []


@pytest.mark.parametrize("sql", ["SELECT ?, :name", "INSERT INTO patients VALUES (? || :name)"])
def test_names_that_are_given_by_position_are_deprecated_once_a_statement(
    life: Life, warned: list[str], sql: str
) -> None:
    db = life.connect()
    db.execute("CREATE TABLE patients (name TEXT)")
    db.execute("INSERT INTO patients VALUES ('Anne')")  # With it the schema is settled, and plans are kept.
    db.execute(sql, ("Jane", "Smith"))
    db.execute(sql, ("John", "Doe"))
    assert len(warned) == 1
    assert warned[0].startswith("Binding 2 (':name') is a named parameter, but you supplied a sequence")


def test_too_few_values_are_an_error_before_names_are_looked_at(life: Life, warned: list[str]) -> None:
    db = life.connect()
    with pytest.raises(veritydb.ProgrammingError, match="Incorrect number of bindings supplied"):
        db.execute("SELECT ?, :name", (1,))
    assert warned == []
