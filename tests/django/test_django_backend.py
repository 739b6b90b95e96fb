"""The backend as a project sees it: options, errors, connections that stay, a file that comes back from its log."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import (
    DatabaseError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    close_old_connections,
    connection,
)

import veritydb
from tests.django.conftest import point
from tests.django.support import check, names, written
from tests.django.ward.models import Patient, Ward
from veritydb.django.base import DatabaseWrapper
from veritydb.django.client import DatabaseClient
from veritydb.streams import log_folder

RAW = "hex:" + bytes(range(32)).hex()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file that holds a key, and that others may not read."""
    path = tmp_path / "key"
    path.write_text(RAW + "\n")
    path.chmod(0o600)
    return path


def test_the_vendor_is_sqlite_and_the_version_is_that_of_veritydbs_sqlite() -> None:
    assert connection.vendor == "sqlite"
    assert connection.Database is veritydb
    assert connection.get_database_version() == veritydb.sqlite_version_info


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kye": "x"}, "'kye'"),
        ({"key": "x", "key_file": "y"}, "'key_file'"),
        ({"transaction_mode": "SOON"}, "SOON"),
        ({"on_missing": "cry"}, "'on_missing'"),
        ({"factory": veritydb.Connection}, "'factory'"),
    ],
)
def test_an_option_that_cannot_be_is_named(tmp_path: Path, options: dict[str, object], named: str) -> None:
    made = wrapper(tmp_path / "a.db", **options)
    with pytest.raises(ImproperlyConfigured, match=named):
        made.ensure_connection()
    assert not (tmp_path / "a.db").exists()


def test_a_missing_key_is_an_error_that_says_so(tmp_path: Path) -> None:
    with_key, without = wrapper(tmp_path / "a.db", key=RAW), wrapper(tmp_path / "a.db")
    with_key.ensure_connection()
    with with_key.cursor() as cursor:
        cursor.execute("CREATE TABLE t(a)")
    with_key.close()
    with pytest.raises(DatabaseError, match="no key was given") as raised:
        without.ensure_connection()
    assert isinstance(raised.value.__cause__, veritydb.KeyMissing)


def test_a_key_file_encrypts_the_database_and_its_log(database: Path, tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "secret.db"
    point(connection, path, key_file=key_file)
    call_command("migrate", run_syncdb=True, verbosity=0)
    Patient.objects.create(name="Ada Lovelace")
    connection.close()
    for file in (path, *log_folder(path).iterdir()):
        assert b"Lovelace" not in file.read_bytes()
    check(path, RAW)
    point(connection, database)


def test_errors_are_djangos_and_keep_sqlites_words(database: Path) -> None:
    Ward.objects.create(name="A")
    with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: ward_ward\.name"):
        Ward.objects.create(name="A")
    with pytest.raises(IntegrityError, match="CHECK constraint failed: patient_has_a_name"):
        Patient.objects.create(name=" ")
    with connection.cursor() as cursor:
        with pytest.raises(OperationalError, match="no such table: nowhere"):
            cursor.execute("SELECT * FROM nowhere")
        with pytest.raises(NotSupportedError, match="writable_schema"):
            cursor.execute("PRAGMA writable_schema = ON")


def test_without_parameters_a_percent_sign_is_nothing_but_that(database: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT '%s'")
        assert cursor.fetchall() == [("%s",)]
        cursor.execute("SELECT '%%', %s", ["%d"])
        assert cursor.fetchall() == [("%", "%d")]


def test_a_locked_database_is_said_to_be_locked(database: Path) -> None:
    other = wrapper(database, timeout=0)
    point(connection, database, timeout=0)
    with other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError, match="database is locked"):
            Ward.objects.create(name="A")
        cursor.execute("ROLLBACK")
    other.close()
    Ward.objects.create(name="A")


def test_a_connection_that_stays_is_used_by_the_next_request(database: Path) -> None:
    connection.settings_dict["CONN_MAX_AGE"] = None
    connection.ensure_connection()
    connection.close_at = None
    before = connection.connection
    close_old_connections()
    assert connection.connection is before
    connection.settings_dict["CONN_MAX_AGE"] = 0


def test_a_connection_that_does_not_know_what_became_of_a_commit_is_not_kept(database: Path) -> None:
    connection.ensure_connection()
    assert connection.is_usable()
    connection.connection._session.transactions.broken = veritydb.OutcomeUnknown("lost")
    connection.errors_occurred = True
    close_old_connections()
    assert connection.connection is None
    Ward.objects.create(name="A")  # A new one is opened.


def test_a_missing_file_comes_back_with_indexes_over_djangos_functions(database: Path) -> None:
    Patient.objects.create(name="Ada")
    connection.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    assert Patient.objects.get(digest=hashlib.md5(b"Ada").hexdigest()).sort_name == "ada"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check")
        assert cursor.fetchone() == ("ok",)


def test_what_another_process_logged_and_could_not_write_is_redone_while_a_query_is_read(database: Path) -> None:
    with connection.cursor() as cursor:
        # While it is read, SQLite lets no function be replaced; and it holds no old state of the database.
        cursor.execute("VALUES (1), (2), (3)")
        assert cursor.fetchone() == (1,)
        die_between_log_and_file(database)
        assert not Patient.objects.exists()
        Ward.objects.create(name="A")  # Joins the log, and finds there what the file lacks.
        assert Patient.objects.get().sort_name == "from another process"
        assert cursor.fetchall() == [(2,), (3,)]


def test_functions_of_the_projects_own_are_there_for_queries_and_for_replay(tmp_path: Path, database: Path) -> None:
    path = tmp_path / "own.db"
    point(connection, path, register="tests.django.test_django_backend:register_soundslike")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t(a)")
        cursor.execute("CREATE INDEX i ON t(soundslike(a))")
        cursor.execute("INSERT INTO t VALUES ('Ada')")
    connection.close()
    path.unlink()
    with connection.cursor() as cursor:
        cursor.execute("SELECT a FROM t WHERE soundslike(a) = 'ada'")
        assert cursor.fetchone() == ("Ada",)
    point(connection, database)


def test_dbshell_opens_an_encrypted_database_and_logs_what_is_typed(tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "secret.db"
    made = wrapper(path, key=RAW)
    with made.cursor() as cursor:
        cursor.execute("CREATE TABLE t(a)")
    made.close()
    settings = {"NAME": path, "OPTIONS": {"key": bytes(range(32))}}
    arguments, environment = DatabaseClient.settings_to_cmd_args_env(settings, [])
    assert environment == {"VERITYDB_KEY": RAW}
    assert not any(RAW[4:] in argument for argument in arguments)  # Others see the arguments of a process.
    with written(path, RAW) as said:
        done = run(arguments, "INSERT INTO t\nVALUES (1), (NULL), ('x'),\n(x'00');\nSELECT *, 1 FROM t;", environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "a|1\n1|1\n|1\nx|1\nx'00'|1\n"
    assert [(entry.actor, entry.reason, entry.rows) for entry in said] == [("tester", "dbshell", {("t", "insert"): 4})]

    arguments, environment = DatabaseClient.settings_to_cmd_args_env(
        {"NAME": path, "OPTIONS": {"key_file": key_file}}, ["SELECT REGEXP('a', 'a') FROM t LIMIT 1"]
    )
    assert environment is None
    done = run(arguments, "", {})
    assert done.stderr == ""
    assert done.stdout == "REGEXP('a', 'a')\n1\n"
    done = run(arguments[:-1], "SELECT 1; SELECT ';' AS b;-- and\nSELECT 3; SELECT missing; SELECT 4;\n", {})
    assert (done.returncode, done.stdout) == (1, "1\n1\nb\n;\n3\n3\n")
    assert done.stderr == "Error: no such column: missing\n"
    done = run(
        arguments[:-1], "CREATE TABLE u_x(b); CREATE INDEX i ON u_x(b);\n.tables\n.schema U_X\n.schema\n.dump\n", {}
    )
    assert (done.returncode, done.stderr) == (1, "Error: there is no .dump; .help tells what there is\n")
    made = "CREATE TABLE u_x(b);\nCREATE INDEX i ON u_x(b);\n"
    assert done.stdout == f"t\nu_x\n{made}CREATE TABLE t(a);\n{made}"
    assert ".schema [TABLE]" in run(arguments[:-1], " .help\n", {}).stdout
    failed = run(arguments[:-1], "SELECT missing;\n.quit\nSELECT 1;", {})
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "Error: no such column: missing\n"


def test_inspectdb_and_flush_see_only_what_the_project_made(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ward.objects.create(name="A")
    call_command("inspectdb")
    shown = capsys.readouterr().out
    assert "class WardPatient" in shown
    assert "veritydb" not in shown.lower()
    with written(database) as said:
        call_command("flush", interactive=False, verbosity=0)
    assert said[0].rows["ward_ward", "delete"] == 1
    assert "_veritydb_applied" in names(database)


def register_soundslike(connection: veritydb.Connection) -> None:
    connection.create_function("soundslike", 1, str.lower, deterministic=True)


def wrapper(path: Path, **options: object) -> DatabaseWrapper:
    settings = {**connection.settings_dict, "NAME": path, "OPTIONS": options}
    return DatabaseWrapper(settings, alias="another")


def run(arguments: list[str], typed: str, environment: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        arguments,
        input=typed,
        env={**os.environ, "PYTHONPATH": str(root), "LOGNAME": "tester", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def die_between_log_and_file(path: Path) -> None:
    """Let another process insert a patient and die when the log has it, before the file has."""
    program = f"""
import os
from veritydb.records import Writer
import veritydb
from veritydb.django import register

commit = Writer.commit
def die(*arguments):
    commit(*arguments)
    os._exit(9)

db = veritydb.connect({str(path)!r}, actor="another")
register(db)
Writer.commit = die
db.execute("INSERT INTO ward_patient(name, allergies, fee) VALUES ('from another process', '[]', 0)")
db.commit()
"""
    done = run([sys.executable, "-c", program], "", {})
    assert done.returncode == 9, done.stderr


def test_the_standard_module_cannot_tell_the_file_from_its_own(database: Path) -> None:
    Ward.objects.create(name="A")
    connection.close()
    plain = sqlite3.connect(database)
    assert plain.execute("SELECT name FROM ward_ward").fetchall() == [("A",)]
    plain.close()
