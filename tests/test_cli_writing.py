"""``veritydb adopt`` and ``export``, and how every command behaves: exit codes, prompts, pipes, locales."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import veritydb as package
from tests.support.cli import COMMAND, KEY, command, environment, veritydb
from veritydb.cli import exits
from veritydb.cli.app import app


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A plain SQLite file with two rows."""
    path = tmp_path / "plain.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t(a)")
    db.execute("INSERT INTO t(rowid, a) VALUES (3, 'three'), (7, 'seven')")
    db.commit()
    db.close()
    return path


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """An encrypted database."""
    path = tmp_path / "clinic.db"
    db = package.connect(path, key=KEY)
    db.execute("CREATE TABLE t(a)")
    for number in range(200):
        db.execute("INSERT INTO t VALUES (?)", (number,))
        db.commit()
    db.close()
    return path


def test_adopt_and_export_there_and_back(plain: Path, tmp_path: Path) -> None:
    """In place, encrypted; then verified; then a plain file again."""
    ran = veritydb("adopt", plain, "--actor", "me", "--json", key=KEY)
    assert ran.code == 0, ran.err
    assert (ran.json["path"], ran.json["encrypted"]) == (str(plain), True)
    assert b"three" not in plain.read_bytes()
    assert veritydb("verify", plain, key=KEY).code == 0
    (line,) = veritydb("log", plain, "--json", key=KEY).lines
    assert (line["actor"], line["reason"], line["rows"]) == ("me", "adopted from plain.db", {"t": {"insert": 2}})
    back = tmp_path / "back.db"
    assert veritydb("export", plain, back, key=KEY).code == 0
    db = sqlite3.connect(back)
    assert db.execute("SELECT rowid, a FROM t").fetchall() == [(3, "three"), (7, "seven")]
    db.close()


def test_adopt_without_a_key_says_that_nothing_is_encrypted(plain: Path, tmp_path: Path) -> None:
    """And with a target the source stays."""
    before = plain.read_bytes()
    ran = command("adopt", plain, tmp_path / "new.db")
    assert ran.code == 0
    assert "no: no key was given" in ran.out
    assert plain.read_bytes() == before


def test_expected_errors_are_one_line_and_an_exit_code(plain: Path, clinic: Path, tmp_path: Path) -> None:
    """No traceback, the kind of error in the code, the sentence on the error stream, nothing on the output."""
    with_log = tmp_path / "lost.db"
    package.connect(with_log).close()
    (tmp_path / "lost.db-log").rename(tmp_path / "elsewhere")
    readable = tmp_path / "readable.key"
    readable.write_text(KEY)
    readable.chmod(0o644)
    for arguments, key, code in (
        (["info", tmp_path / "none.db"], None, 2),
        (["verify", plain], None, 4),
        (["info", plain], None, 5),
        (["log", clinic], None, 3),
        (["log", clinic], "wrong", 3),
        (["log", clinic, "--key-file", readable], None, 2),
        (["log", clinic, "--key-file", tmp_path / "none.key"], None, 3),
        (["adopt", clinic], KEY, 2),
        (["adopt", plain, "--encrypt"], None, 3),
        (["export", clinic, plain], KEY, 2),
        (["replay", clinic, tmp_path / "new.db", "--at", "999"], KEY, 2),
        (["keys", "export", with_log], None, 4),
        (["nonsense"], None, 2),
    ):
        ran = command(*arguments, key=key)
        assert ran.code == code, (arguments, ran)
        assert ran.out == ""
        assert "Traceback" not in ran.err
        if arguments != ["nonsense"]:
            assert ran.err.startswith("veritydb: ")
            assert ran.err.count("\n") == 1


def test_a_database_in_use_is_its_own_exit_code(plain: Path) -> None:
    """So that a script can try again."""
    db = sqlite3.connect(plain, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    ran = veritydb("adopt", plain)
    db.close()
    assert (ran.code, ran.err.count("\n")) == (exits.Exit.BUSY, 1)
    assert "in use" in ran.err


def test_errors_are_json_for_programs(clinic: Path) -> None:
    """With --json, on the error stream."""
    ran = veritydb("log", clinic, "--json")
    assert ran.code == 3
    assert '"error": "KeyMissing"' in ran.err


def test_a_reader_that_goes_away_ends_the_writer_quietly(clinic: Path) -> None:
    """As in ``veritydb log | head``."""
    writer = subprocess.Popen(
        [*COMMAND, "log", str(clinic), "--changes", "--json"],
        env=environment(KEY), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    with writer.stderr:
        assert writer.stderr.read() == b""
    assert writer.wait(60) in (0, -13)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_locale_without_the_character_is_no_reason_to_fail(tmp_path: Path, encoding: str) -> None:
    """The name is spelled out."""
    path = tmp_path / "a.db"
    db = package.connect(path, actor="Ωmega")
    db.execute("CREATE TABLE t(a)")
    db.close()
    ran = veritydb("log", path, PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C")
    assert ran.code == 0, ran.err
    assert r"\u03a9mega" in ran.out
    help_text = veritydb("--help", PYTHONIOENCODING=encoding, PYTHONUTF8="0", LC_ALL="C")
    assert help_text.code == 0
    assert "verify" in help_text.out


def at_a_terminal(*arguments: object, typed: bytes, output: Any = None, **variables: str) -> tuple[int, str]:
    """Run with a terminal, type, and return the exit code and what was shown; the output may go elsewhere."""
    master, slave = pty.openpty()
    run = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(None, TERM="xterm", **variables),
        stdin=slave, stdout=slave if output is None else output, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while data := os.read(master, 4096):
            shown += data
            if shown.endswith(b": ") and typed:
                line, _, typed = typed.partition(b"\n")
                os.write(master, line + b"\n")
    except OSError:
        pass  # What Linux says when the other side of a terminal has gone.
    os.close(master)
    return run.wait(60), shown.decode()


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(clinic: Path) -> None:
    """Only there; and a wrong one is a wrong key."""
    code, shown = at_a_terminal("log", clinic, "--last", 1, typed=KEY.encode() + b"\n")
    assert code == 0, shown
    assert "Key of clinic.db: " in shown
    assert KEY not in shown
    assert "+1 t" in shown
    assert at_a_terminal("log", clinic, typed=b"wrong\n")[0] == 3


def test_a_new_key_is_asked_for_twice(plain: Path) -> None:
    """Because a slip of the finger would make the data unreadable."""
    code, shown = at_a_terminal("adopt", plain, "--encrypt", typed=b"one\nother\n")
    assert code == 2
    assert "differ" in shown
    assert at_a_terminal("adopt", plain, "--encrypt", typed=f"{KEY}\n{KEY}\n".encode())[0] == 0
    assert veritydb("verify", plain, key=KEY).code == 0


def test_colours_are_for_terminals_and_can_be_switched_off(clinic: Path) -> None:
    """NO_COLOR, https://no-color.org."""
    coloured = at_a_terminal("log", clinic, "--last", 1, typed=KEY.encode() + b"\n")[1]
    bare = at_a_terminal("log", clinic, "--last", 1, typed=KEY.encode() + b"\n", NO_COLOR="1")[1]
    assert "\x1b[" in coloured
    assert "\x1b[" not in bare


def test_long_commands_show_how_far_they_are_where_that_disturbs_no_result(clinic: Path, tmp_path: Path) -> None:
    for words, what in (
        (["verify", clinic], "reading the chain"),
        (["replay", clinic, tmp_path / "again.db"], "replaying the log"),
        (["log", clinic], "reading the log"),
    ):
        with (tmp_path / "output").open("wb") as output:
            code, shown = at_a_terminal(*words, typed=KEY.encode() + b"\n", output=output)
        assert code == 0, shown
        assert what in shown
        assert "\x1b" not in (tmp_path / "output").read_text()
    assert "reading the log" not in at_a_terminal("log", clinic, typed=KEY.encode() + b"\n")[1]


def test_every_command_explains_itself() -> None:
    """With an example, and without needing a database."""
    commands = typer.main.get_command(app).commands
    words_of = [
        [name, *inner]
        for name, one in commands.items()
        for inner in ([[each] for each in one.commands] if hasattr(one, "commands") else [[]])
    ]
    assert ["keys", "generate"] in words_of
    for words in words_of:
        ran = command(*words, "--help")
        assert ran.code == 0
        assert f"veritydb {' '.join(words)} " in ran.out
        assert "--json" in ran.out or words[-1] in (
            "run",
            "serve",
            "start",
            "stop",
            "rolling-restart",
        )  # They have no result of their own.


def test_the_shell_can_complete() -> None:
    """What ``--show-completion`` writes is a script for the shell."""
    ran = veritydb("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert ran.code == 0, ran.err
    assert "_VERITYDB_COMPLETE" in ran.out


def test_what_the_schema_needs_may_lie_in_the_folder_where_the_command_is_run(tmp_path: Path) -> None:
    """The installed command knows nothing of the current folder by itself; ``python -m`` does."""
    code = "def register(db):\n    db.create_function('shout', 1, lambda text: text.upper(), deterministic=True)\n"
    (tmp_path / "functions_of_ours.py").write_text(code)
    with contextlib.closing(package.connect(tmp_path / "own.db", register=_shouting)) as db:
        db.execute("CREATE TABLE t(a, b AS (shout(a)) STORED)")
    installed = [Path(sys.executable).with_name("veritydb"), "replay", "own.db", "again.db"]
    ran = _in(tmp_path, *installed)
    assert (ran.returncode, (tmp_path / "again.db").exists()) == (1, False)
    assert "shout" in ran.stderr
    assert "--register" in ran.stderr
    ran = _in(tmp_path, *installed, "--register", "functions_of_ours:register")
    assert (ran.returncode, ran.stderr) == (0, "")


def _in(folder: Path, *command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    made = [str(word) for word in command]
    return subprocess.run(made, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False)


def _shouting(db: package.Connection) -> None:
    db.create_function("shout", 1, lambda text: text.upper(), deterministic=True)


@pytest.mark.parametrize("command", ["verify", "adopt"])
def test_paragraphs_of_a_help_text_are_as_wide_as_the_terminal(tmp_path: Path, command: str) -> None:
    """Lines do not end where those of the source do."""
    ran = _in(tmp_path, *COMMAND, command, "--help", COLUMNS="64")
    lines = [line.strip() for line in ran.stdout.split("Arguments")[0].split("\n")]
    for line, after in itertools.pairwise(lines):
        if after and line and not line.startswith("Usage"):
            assert len(line) + len(after.split(" ")[0]) + 1 > 60, line
