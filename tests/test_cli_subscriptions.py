"""``veritydb tail`` and ``veritydb consumers``, as a person runs them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

import veritydb as package
from tests.support.cli import COMMAND, KEY, command, environment, veritydb

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """An encrypted database with two transactions of rows."""
    path = tmp_path / "clinic.db"
    db = package.connect(path, key=KEY, actor="dr.lee")
    db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT)")
    with db, db.reason("first visit"):
        db.execute("INSERT INTO patients VALUES (1, 'Smith')")
    with db:
        db.execute("UPDATE patients SET name = 'Do' || char(27) || 'e'")
    db.close()
    return path


def test_tail_tells_the_past_and_ends_if_it_is_told_to(clinic: Path) -> None:
    ran = veritydb("tail", clinic, "--since", "-1", "--changes", "--no-follow", key=KEY)
    assert ran.code == 0, ran.err
    schema, insert, update = ran.out.splitlines()
    assert schema.endswith("! CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT)")
    assert insert.endswith("dr.lee  + patients 1  id 1, name 'Smith'  (first visit)")
    assert update.endswith("~ patients 1  name 'Smith' -> 'Do\\x1be'"), "nothing commands the terminal"


def test_tail_as_json_goes_on_behind_a_cursor(clinic: Path) -> None:
    whole = command("tail", clinic, "--since", "-1", "--json", "--no-follow", key=KEY).lines
    assert [each["kind"] for each in whole] == ["schema", "update", "update"]
    rest = command("tail", clinic, "--since", whole[1]["cursor"], "--json", "--no-follow", key=KEY).lines
    assert rest == whole[2:]
    assert rest[0]["before"] == {"id": 1, "name": "Smith"}
    rows = command("tail", clinic, "--snapshot", "--json", "--no-follow", key=KEY).lines
    assert [each["kind"] for each in rows] == ["snapshot-begin", "snapshot-row", "snapshot-end"]


def test_tail_shows_what_another_program_commits_at_once(clinic: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "tail", str(clinic), "--table", "patients", "--count", "2", "--json", "--since", "1"],
        env=environment(KEY),
        stdout=subprocess.PIPE,
        text=True,
    ) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["offset"] == 2
        db = package.connect(clinic, key=KEY)
        with db:
            db.execute("DELETE FROM patients")
        db.close()
        assert json.loads(tail.stdout.readline())["action"] == "delete"
        assert tail.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--table", "nonsense"], 2, "no such table: nonsense"),
        (["--since", "99"], 2, "the last transaction is 2"),
        (["--since", "x"], 2, "'x' is no offset and no cursor"),
    ],
)
def test_tail_says_what_cannot_be(clinic: Path, arguments: list[str], code: int, says: str) -> None:
    ran = command("tail", clinic, *arguments, key=KEY)
    assert (ran.code, says in ran.err) == (code, True), ran.err


def test_consumers_are_listed_measured_and_reset(clinic: Path) -> None:
    db = package.connect(clinic, key=KEY)
    with db.consumer("billing", "patients", since=-1) as billing:
        billing.fetch()
    with db.projection("names", "patients", writes="patients")(lambda update, db: None) as names:
        names.run_until_idle()
    db.close()
    listed = veritydb("consumers", "list", clinic, key=KEY)
    assert listed.code == 0, listed.err
    words = [line.split() for line in listed.out.splitlines()]
    assert ["consumer", "billing"] in [line[:2] for line in words]
    assert ["projection", "names"] in [line[:2] for line in words]
    found = command("consumers", "list", clinic, "--json", key=KEY).json
    assert [each["name"] for each in found["consumers"]] == ["billing"]
    lag = command("consumers", "lag", clinic, "billing", "--json", key=KEY).json
    assert (lag["waiting"], lag["in_flight"], lag["dead"], lag["paused"]) == (1, 1, 0, False)
    assert "1 update" in command("consumers", "lag", clinic, "billing", key=KEY).out
    assert command("consumers", "reset", clinic, "billing", "--to", "-1", key=KEY).code == 0
    lag = command("consumers", "lag", clinic, "billing", "--json", key=KEY).json
    assert (lag["waiting"], lag["in_flight"]) == (2, 0)
    assert command("consumers", "reset", clinic, "billing", "--to", "now", key=KEY).code == 0
    assert command("consumers", "lag", clinic, "billing", "--json", key=KEY).json["waiting"] == 0
    assert command("consumers", "reset", clinic, "billing", "--forget", key=KEY).code == 0
    ran = command("consumers", "lag", clinic, "billing", key=KEY)
    assert (ran.code, "no consumer 'billing'" in ran.err) == (2, True)
    assert command("consumers", "reset", clinic, "billing", key=KEY).code == 2
