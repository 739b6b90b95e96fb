"""Test databases come and go with their logs: as files, in memory, and as copies for parallel workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.django.conftest import point
from tests.django.support import check, names
from tests.django.ward.models import Ward
from veritydb.streams import log_folder

RAW = "hex:" + bytes(range(32)).hex()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose database is a file in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    point(connection, tmp_path / "clinic.db")
    yield tmp_path
    connection.close()


def created(**options: Any) -> str:
    return str(connection.creation.create_test_db(verbosity=0, **options))


def test_a_file_is_tested_on_a_file_beside_it_that_has_its_own_log(project: Path) -> None:
    name = created()
    path = project / "test_clinic.db"
    assert name == str(path)
    Ward.objects.create(name="A")
    assert log_folder(path).is_dir()
    assert "ward_ward" in names(path)
    connection.close()
    check(path)
    connection.creation.destroy_test_db(str(project / "clinic.db"), verbosity=0)
    assert list(project.iterdir()) == []


def test_a_database_of_an_earlier_run_does_not_come_back_from_its_log(project: Path) -> None:
    created()
    Ward.objects.create(name="A")
    connection.close()
    (project / "test_clinic.db").unlink()
    point(connection, project / "clinic.db")
    created(autoclobber=True)
    assert Ward.objects.count() == 0
    connection.creation.destroy_test_db(str(project / "clinic.db"), verbosity=0)


def test_keepdb_keeps_file_and_log(project: Path) -> None:
    created(keepdb=True)
    Ward.objects.create(name="A")
    connection.creation.destroy_test_db(str(project / "clinic.db"), verbosity=0, keepdb=True)
    created(keepdb=True)
    assert Ward.objects.get().name == "A"
    connection.close()
    check(project / "test_clinic.db")


def test_a_test_database_is_no_copy_of_the_stream_that_the_projects_own_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"cluster": "ward/client", "stream": "clinic", "consistency": "synchronized"}
    point(connection, project / "clinic.db", **shared)
    monkeypatch.setenv("VERITYDB_CLUSTER", "ward/client")
    monkeypatch.setenv("VERITYDB_STREAM", "clinic")
    created()  # Asking the cluster would fail: there is none.
    Ward.objects.create(name="A")
    connection.close()
    check(project / "test_clinic.db")
    connection.creation.destroy_test_db(str(project / "clinic.db"), verbosity=0)
    assert list(project.iterdir()) == []
    assert connection.settings_dict["OPTIONS"].items() >= shared.items()
    connection.creation.set_as_test_mirror({"NAME": str(project / "test_other.db")})
    assert connection.settings_dict["OPTIONS"]["cluster"] is False
    assert "stream" not in connection.settings_dict["OPTIONS"]


@pytest.mark.parametrize(("name", "asked"), [(":memory:", None), ("clinic.db", ":memory:")])
def test_in_memory_is_where_sqlite_would_be_when_that_is_asked(project: Path, name: str, asked: str | None) -> None:
    settings = connection.settings_dict
    settings["NAME"] = name
    settings["TEST"]["NAME"] = asked
    try:
        assert created() == "file:memorydb_default?mode=memory&cache=shared"
        Ward.objects.create(name="A")
        assert connection.connection.last_offset > 0
        assert list(project.iterdir()) == []
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
        settings["TEST"]["NAME"] = None
        really_close()


@pytest.mark.parametrize("key", [None, RAW])
def test_a_workers_copy_has_a_copy_of_the_log(project: Path, key: str | None) -> None:
    if key is not None:
        point(connection, project / "clinic.db", key=key)
    created()
    Ward.objects.create(name="A")
    connection.creation.clone_test_db("1", verbosity=0)
    before = dict(connection.settings_dict)
    connection.creation.setup_worker_connection(1)
    Ward.objects.create(name="of the worker")
    connection.close()
    check(project / "test_clinic_1.db", key)
    connection.settings_dict.update(before)
    assert Ward.objects.count() == 1
    connection.creation.destroy_test_db(suffix="1", verbosity=0)
    connection.creation.destroy_test_db(str(project / "clinic.db"), verbosity=0)
    assert list(project.iterdir()) == []


@pytest.mark.usefixtures("spawning")
def test_a_copy_of_what_is_in_memory_is_a_file_where_workers_are_not_forked(project: Path) -> None:
    settings = connection.settings_dict
    settings["NAME"] = ":memory:"
    created()
    try:
        Ward.objects.create(name="A")
        connection.creation.clone_test_db("1", verbosity=0)
        memory = connection.connection
        name = settings["NAME"]
        connection.connection = None  # As in a process that has just been started.
        connection.creation.setup_worker_connection(1)
        assert Ward.objects.get().name == "A"
        Ward.objects.create(name="of the worker")
        connection.close()
        check(project / "default_1.sqlite3")
        settings["NAME"], connection.connection = name, memory
        assert Ward.objects.count() == 1
        connection.creation.destroy_test_db(suffix="1", verbosity=0)
        assert list(project.iterdir()) == []
    finally:
        connection.creation.destroy_test_db(":memory:", verbosity=0)
        really_close()


def test_fixtures_go_out_and_come_in_and_every_row_is_logged(database: Path, tmp_path: Path) -> None:
    Ward.objects.bulk_create([Ward(name=name) for name in "ABC"])
    fixture = tmp_path / "wards.json"
    call_command("dumpdata", "ward", output=str(fixture), verbosity=0)
    Ward.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert sorted(Ward.objects.values_list("name", flat=True)) == ["A", "B", "C"]


def really_close() -> None:
    """Close a connection to a database in memory, which Django keeps open."""
    connection.connection.close()
    connection.connection = None
