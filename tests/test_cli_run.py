"""``veritydb run``: a program for ``sqlite3``, unchanged, with what a program for ``sqlite3`` cannot say."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

import veritydb
from tests.support import cli, files
from tests.support.cli import KEY
from veritydb.errors import NotEncrypted

PROGRAM = """
import sqlite3, sys
class Own(sqlite3.Connection):
    def __init__(self, database):
        super().__init__(database)
con = sqlite3.Connection(sys.argv[1]) if "direct" in sys.argv else sqlite3.connect(sys.argv[1])
con.execute("CREATE TABLE IF NOT EXISTS t (a)")
with con:
    con.execute("INSERT INTO t VALUES (1)")
con.close()
Own(":memory:").close()
print(sys.argv[1:], __name__)
if "boom" in sys.argv:
    raise sqlite3.OperationalError("mine")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def actors(path: Path, key: str | None = None) -> list[str]:
    return [transaction.actor for transaction in files.transactions(path, key)]


def test_what_follows_the_program_is_the_programs(script: Path, tmp_path: Path) -> None:
    ran = cli.veritydb("run", script, tmp_path / "a.db", "--actor", "-h", "--", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"['{tmp_path / 'a.db'}', '--actor', '-h', '--', '--json'] __main__\n"


@pytest.mark.parametrize("how", ["connect", "direct"])
def test_key_and_actor_are_those_of_each_file_it_opens(script: Path, tmp_path: Path, how: str) -> None:
    ran = cli.veritydb("run", "--actor", "dr.lee", script, tmp_path / "a.db", how, key=KEY)
    assert ran.code == 0, ran.err
    assert not (tmp_path / "a.db").read_bytes().startswith(b"SQLite format 3")
    assert actors(tmp_path / "a.db", KEY) == ["dr.lee"] * 2


def test_a_key_file_is_as_good_as_the_variable(script: Path, tmp_path: Path) -> None:
    cli.command("keys", "generate", tmp_path / "key")
    assert cli.veritydb("run", "--key-file", tmp_path / "key", script, tmp_path / "a.db").code == 0
    assert cli.veritydb("keys", "check", tmp_path / "a.db", "--key-file", tmp_path / "key").code == 0


def test_a_missing_file_may_be_a_new_database(script: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for count, arguments in ((1, []), (2, []), (1, ["--on-missing", "new"])):
        assert cli.veritydb("run", *arguments, script, path).code == 0
        assert cli.veritydb("info", path, "--json").json["transactions"] == count + 1
        path.unlink()
    assert cli.veritydb("run", "--on-missing", "never", script, path).code == 2


def test_its_errors_are_its_own(script: Path, tmp_path: Path) -> None:
    ran = cli.veritydb("run", script, tmp_path / "a.db", "boom")
    assert ran.code == 1
    assert ran.err.startswith("Traceback")
    assert ran.err.endswith("OperationalError: mine\n")
    ran = cli.veritydb("run", tmp_path / "none.py")
    assert ran.code == 2
    assert "there is no" in ran.err


def test_a_module_runs_as_with_python_m(script: Path, tmp_path: Path) -> None:
    ran = cli.veritydb("run", "-m", "program", "a.db", "--option", cwd=tmp_path)
    assert (ran.code, ran.out) == (0, "['a.db', '--option'] __main__\n")
    assert (tmp_path / "a.db-log").is_dir()


def test_installing_gives_what_a_connection_does_not_say_itself(tmp_path: Path) -> None:
    with veritydb.install(key=KEY, actor="reception"):
        sqlite = __import__("sqlite3")
        con = sqlite.connect(tmp_path / "a.db")
        assert con.actor == "reception"
        con.execute("CREATE TABLE t (a)")
        con.close()
        con = sqlite.connect(tmp_path / "a.db", actor="dr.lee")
        assert con.actor == "dr.lee"
        con.close()
        plain = tmp_path / "plain.db"
        sqlite3.connect(plain).close()
        other = veritydb.connect(tmp_path / "b.db", key="hex:" + "01" * 32)
        other.execute("CREATE TABLE t (a)")
        other.close()
    with pytest.raises(veritydb.KeyMissing):
        veritydb.connect(tmp_path / "a.db")
    with veritydb.install():
        con = sys.modules["sqlite3"].connect(tmp_path / "c.db")
        con.execute("CREATE TABLE t (a)")
        con.close()
    with veritydb.install(key=KEY), pytest.raises(NotEncrypted):
        veritydb.connect(tmp_path / "c.db")
