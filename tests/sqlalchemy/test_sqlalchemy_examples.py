"""The examples for SQLAlchemy with Alembic and for FastAPI run, and what they did is in their logs."""

from __future__ import annotations

import asyncio
import runpy
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import alembic.command
import httpx
import pytest
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

from tests.support import files
from veritydb.events import Op, Rows

if TYPE_CHECKING:
    from tests.support.life import Life

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "hex:" + "5a" * 32


def _changes(path: Path) -> list[tuple[str, str, str, Op, int]]:
    return [
        (each.actor, each.reason, event.table, event.op, len(event))
        for each in files.transactions(path, KEY)
        for event in each.events
        if isinstance(event, Rows)
    ]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example for SQLAlchemy, as the working directory."""
    shutil.copytree(EXAMPLES / "sqlalchemy_alembic", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLINIC_KEY", KEY)
    monkeypatch.delenv("CLINIC_URL", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    return tmp_path


def test_alembic_migrates_up_and_down_and_finds_nothing_to_do(clinic: Path, life: Life) -> None:
    path = clinic / "clinic.db"
    config = Config("alembic.ini")
    alembic.command.upgrade(config, "0001")
    url = f"veritydb:///{path}?key_env=CLINIC_KEY"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO patients (name, born) VALUES (NULL, '1990-01-01'), ('Ann', '1991-01-01')"))
        connection.execute(text("INSERT INTO visits (patient_id, note) VALUES (2, 'cough')"))
    alembic.command.upgrade(config, "head")
    alembic.command.check(config)  # Raises if models and database differ: our own table is no difference.
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name, allergies FROM patients ORDER BY id")).all() == [
            ("unknown", "[]"),
            ("Ann", "[]"),
        ]
    alembic.command.downgrade(config, "0001")
    assert [column["name"] for column in inspect(engine).get_columns("patients")] == ["id", "name", "born"]
    alembic.command.upgrade(config, "head")
    engine.dispose()
    life.watch(path, key=KEY)
    assert ("alembic", "migration") in {(each.actor, each.reason) for each in files.transactions(path, KEY)}
    assert ("alembic", "migration", "patients", Op.UPDATE, 2) in _changes(path)


def test_the_clinics_morning_is_in_its_log(clinic: Path, life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    path = clinic / "clinic.db"
    alembic.command.upgrade(Config("alembic.ini"), "head")
    before = len(_changes(path))
    runpy.run_path(str(clinic / "clinic.py"), run_name="__main__")
    life.watch(path, key=KEY)
    assert "Jane Smith ['penicillin'] ['cough for a week, no fever']" in capsys.readouterr().out
    assert _changes(path)[before:] == [
        ("reception", "registration", "patients", Op.INSERT, 2),
        ("dr.lee", "first visit", "visits", Op.INSERT, 1),
        ("dr.lee", "correction", "visits", Op.UPDATE, 1),
    ]


def test_the_service_writes_who_asked_into_the_log(tmp_path: Path, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clinic.db"
    monkeypatch.setenv("CLINIC_KEY", KEY)
    monkeypatch.setenv("CLINIC_URL", f"veritydb+aio:///{path}?key_env=CLINIC_KEY")
    monkeypatch.syspath_prepend(str(EXAMPLES / "fastapi_async"))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    import app as example

    lee, wu = {"X-User": "dr.lee", "X-Reason": "first visit"}, {"X-User": "dr.wu"}

    async def main() -> None:
        transport = httpx.ASGITransport(app=example.app)
        async with (
            example.lifespan(example.app),
            httpx.AsyncClient(transport=transport, base_url="http://clinic") as client,
        ):
            made = await client.post("/patients", json={"name": "Jane"}, headers=lee)
            assert (made.status_code, made.json()) == (201, {"id": 1, "name": "Jane"})
            asked = [client.post("/patients/1/notes", json={"body": f"n{n}"}, headers=wu) for n in range(5)]
            assert {answer.status_code for answer in await asyncio.gather(*asked)} == {201}
            assert (await client.post("/patients/9/notes", json={"body": "x"}, headers=wu)).status_code == 404
            assert (await client.post("/patients", json={"name": "No one"})).status_code == 422
            assert (await client.delete("/patients/1/notes", headers=lee)).status_code == 204
            assert (await client.get("/patients", headers=wu)).json() == [{"id": 1, "name": "Jane"}]

    asyncio.run(main())
    life.watch(path, key=KEY)
    assert _changes(path) == [
        ("dr.lee", "first visit", "patients", Op.INSERT, 1),
        *[("dr.wu", "", "notes", Op.INSERT, 1)] * 5,
        ("dr.lee", "first visit", "notes", Op.DELETE, 5),
    ]
