"""Every guide is tried as a new user would: each block of it, from the top, in a fresh folder.

A block of Python is a program, run by itself, unless it opens with a comment that is a file's name: then it is that
file. What it prints is compared with its comments ``# prints …``. In a block of the console, lines that begin with
``$`` are commands; under each stands what it writes, ``…`` for anything, and ``[exit code 4]`` if it fails.

``veritydb`` runs in this process, because there are many such commands and a process takes a third of a second;
everything else runs as it is, in a shell. A guide that needs something beforehand, or says "your key here", has a
:class:`Setting`.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Engine

import veritydb
from tests.support.cli import ROOT, command, environment

KEY = "correct horse"
DJANGO = "docs/guides/django.md"
HTTP = "docs/guides/sse.md"
CLUSTER = "docs/guides/cluster.md"
NODES = "docs/guides/nodes.md"
NATS = "docs/guides/nats.md"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w.]+\.py)\n")
_EXIT = re.compile(r"\[exit code (\d+)\]")

PATIENTS = """
import contextlib, sqlite3
for name in ("clinic.db", "other.db"):
    with contextlib.closing(sqlite3.connect(name)) as db:
        db.executescript("CREATE TABLE patients (name TEXT); INSERT INTO patients VALUES ('Jane')")
"""
MODELS = """
from sqlalchemy import update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
class Base(DeclarativeBase):
    pass
class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    draft: Mapped[bool] = mapped_column(default=True)
Base.metadata.create_all(engine)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a document takes for granted."""

    before: str = ""
    """A program that is run first."""
    preludes: dict[int, str] = field(default_factory=dict[int, str])
    """What stands, unwritten, at the top of the n-th block of Python."""
    placeholders: dict[str, str] = field(default_factory=dict[str, str])
    """What a reader fills in."""
    continues: bool = False
    """Each block of Python goes on where the last one ended."""
    files: tuple[str, ...] = ()
    """Files of the tree that are there."""


SETTINGS: dict[str, Setting] = {
    "README.md": Setting(),
    "docs/concepts/log-first.md": Setting(),
    "docs/concepts/the-chain.md": Setting(),
    "docs/concepts/the-projection.md": Setting(),
    "docs/guides/from-sqlite3.md": Setting(),
    "docs/guides/from-sqlcipher3.md": Setting(),
    "docs/guides/adopt.md": Setting(before=PATIENTS),
    "docs/guides/async.md": Setting(
        before=f"""
import contextlib, veritydb
with contextlib.closing(veritydb.connect("clinic.db", key={KEY!r})) as db:
    db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT)")
""",
        placeholders={"key=...": f"key={KEY!r}"},
    ),
    "docs/guides/sqlalchemy.md": Setting(
        before=f"""
import os
with open("clinic.key", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
    file.write({KEY!r})
from sqlalchemy.dialects import registry  # What installing does by an entry point.
registry.register("veritydb", "veritydb.sqlalchemy.dialect", "VerityDialect")
""",
        placeholders={"/run/secrets/clinic": "clinic.key"},
        preludes={2: MODELS, 3: "from unittest.mock import Mock\ncontext = Mock()"},
        continues=True,
    ),
    "docs/guides/subscriptions.md": Setting(
        before="""
from sqlalchemy.dialects import registry
registry.register("veritydb", "veritydb.sqlalchemy.dialect", "VerityDialect")
""",
        continues=True,
    ),
    "examples/plain_script/README.md": Setting(files=("examples/plain_script/clinic.py",)),
}


# The documents


def blocks(document: str) -> list[tuple[str, str]]:
    """Return language and text of each block."""
    return [(found[1], found[2]) for found in _BLOCK.finditer((ROOT / document).read_text(encoding="utf-8"))]


def test_every_guide_is_tried() -> None:
    """A new one has to be added above. Django, HTTP, the cluster and its nodes have tests of their own."""
    found = [path.relative_to(ROOT) for name in ("guides", "concepts") for path in (ROOT / "docs" / name).glob("*.md")]
    assert {str(path) for path in found} == {name for name in SETTINGS if name.startswith("docs/")} | {
        DJANGO,
        HTTP,
        CLUSTER,
        NODES,
        NATS,
    }


def test_a_block_is_a_program_or_a_console() -> None:
    """Other languages would not be tried, and a block without one is a drawing."""
    for document in SETTINGS:
        for language, text in blocks(document):
            assert language in ("python", "console", ""), document
            assert "$ " not in text or language == "console", document


@pytest.mark.parametrize("document", SETTINGS)
def test_what_the_document_says_happens(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first block to its last."""
    setting = SETTINGS[document]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("veritydb.cli.asking.can_ask", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: KEY)
    for file in setting.files:
        shutil.copy(ROOT / file, tmp_path)
    exec(compile(setting.before, "before", "exec", dont_inherit=True), {"__name__": "__main__"})
    reader = Reader(document, setting)
    with mock.patch.dict(os.environ):
        try:
            for language, text in blocks(document):
                for placeholder, value in setting.placeholders.items():
                    text = text.replace(placeholder, value)
                if language == "python":
                    reader.program(text)
                elif language == "console":
                    reader.console(text)
        finally:
            reader.end()


# Django


_DJANGO_PROGRAM = """
import django
django.setup()
from clinic.models import Patient
from veritydb.django.middleware import ActorMiddleware

patient = Patient.objects.create(name="Jane Smith", born="1985-03-22")
Patient.discharge = lambda self: self.save(update_fields=["name"])
{blocks}
from veritydb.django import acting
with acting(actor="dr.lee", reason="admission"):
    Patient.objects.create(name="John Doe", born="1990-01-01")
import_results()
"""


def test_what_the_guide_for_django_says_happens(tmp_path: Path) -> None:
    """Its settings are put into the example's project, its programs run there, its commands typed there."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "django_clinic", project, ignore=shutil.ignore_patterns("*.db*"))
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(KEY)
    settings, *programs = [text for language, text in blocks(DJANGO) if language == "python"]
    settings = settings.replace("/etc/clinic/key", str(key)).replace("    ...\n", "    *MIDDLEWARE[1:],\n")
    (project / "guide.py").write_text(f"from clinic.settings import *\n{settings}")
    (project / "program.py").write_text(_DJANGO_PROGRAM.format(blocks="\n".join(programs)))
    with contextlib.closing(sqlite3.connect(project / "db.sqlite3")) as db:
        db.create_function("regexp", 2, lambda pattern, text: pattern in text, deterministic=True)
        db.executescript("CREATE TABLE t (a CHECK (a REGEXP 'x')); INSERT INTO t VALUES ('xyz')")
    told = _shell("export DJANGO_SETTINGS_MODULE=guide; python manage.py migrate -v0 && python program.py", cwd=project)
    assert told == (0, "")
    with contextlib.chdir(project), mock.patch.dict(os.environ, VERITYDB_KEY=KEY):
        (found,) = [text for language, text in blocks(DJANGO) if language == "console" and "veritydb log" in text]
        ((line, _),) = _typed(found)
        assert "'John Doe'" in _type(line)[1]
        assert "discharge: recovered" in _type("veritydb log clinic.db")[1]
    with contextlib.chdir(project):
        (found,) = [text for language, text in blocks(DJANGO) if language == "console" and "veritydb adopt" in text]
        ((line, _),) = _typed(found)
        assert _type(line)[0] == 0
    for language, text in blocks(DJANGO):
        if language == "console" and text.startswith("$ pip"):
            assert _type(text.removeprefix("$ "))[0] == 0


# The reader


class Reader:
    """Who does what a document says."""

    def __init__(self, document: str, setting: Setting) -> None:
        self._document = document
        self._setting = setting
        self._programs = 0
        self._names: dict[str, Any] = {}

    def program(self, text: str) -> None:
        """Save a program, or run it and compare what it prints."""
        if named := _FILE.match(text):
            Path(named[1]).write_text(text, encoding="utf-8")
            return
        self._programs += 1
        if not self._setting.continues:
            self._names = {}
        self._names["__name__"] = "__main__"
        code = compile(
            self._setting.preludes.get(self._programs, "") + "\n" + text,
            f"{self._document}, program {self._programs}",
            "exec",
            flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            dont_inherit=True,
        )
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                if code.co_flags & inspect.CO_COROUTINE:
                    asyncio.run(eval(code, self._names))
                else:
                    exec(code, self._names)
        finally:
            if not self._setting.continues:
                self.end()
        expected = re.findall(r"# prints (.*)$", text, re.MULTILINE)
        assert printed.getvalue().splitlines()[: len(expected)] == expected, text

    def end(self) -> None:
        """Close what a program leaves open, as its end would."""
        for value in self._names.values():
            if isinstance(value, veritydb.Connection):
                value.close()
            elif isinstance(value, Engine):
                value.dispose()

    def console(self, text: str) -> None:
        """Type each command, and compare what comes with what stands under it."""
        for line, expected in _typed(text):
            code, out = _type(line)
            wanted = 0
            if expected and (said := _EXIT.fullmatch(expected[-1])):
                wanted = int(said[1])
                expected.pop()
            assert code == wanted, f"{self._document}: {line}\n{out}"
            if expected:
                assert _fits("\n".join(expected), out.rstrip()), f"{self._document}: {line}\n{out}"


def _type(line: str) -> tuple[int, str]:
    words = shlex.split(line, comments=True)
    if words[0] == "pip":
        return _installs(words[1:])
    if words[0] == "make":
        return int(words[1] not in _targets()), ""
    if words[0] == "export":
        os.environ.update(word.split("=", 1) for word in words[1:])
        return 0, ""
    in_a_process = {"|", ">", "&&"} & set(words) or "$(" in line or words[1:2] == ["run"]
    if words[0] == "veritydb" and not in_a_process:
        ran = command(*words[1:])
        return ran.code, ran.out + ran.err
    return _shell(line)


def _typed(text: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, *expected = part.rstrip("\n").split("\n")
        yield line, expected


def _fits(expected: str, written: str) -> bool:
    pattern = ".*".join(re.escape(each) for each in expected.split("…"))
    # Spaces that end a line cannot be seen in a document.
    return re.fullmatch(pattern, re.sub(r" +$", "", written, flags=re.MULTILINE), re.DOTALL) is not None


def _shell(line: str, cwd: Path | None = None) -> tuple[int, str]:
    run = f'"{sys.executable}" -m'
    functions = f'python() {{ "{sys.executable}" "$@"; }}\nveritydb() {{ {run} veritydb.cli "$@"; }}\n'
    variables = {name: value for name, value in os.environ.items() if name.startswith(("VERITYDB_", "CLINIC_"))}
    done = subprocess.run(
        ["bash", "-c", functions + line],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _installs(words: list[str]) -> tuple[int, str]:
    """Whether what is to be installed is ours, with extras that exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert words[0] == "install"
    found = re.fullmatch(r"veritydb(?:\[([\w,]+)\])?", words[1])
    assert found is not None, words
    extras = set((found[1] or "").split(",")) - {""}
    return int(not extras <= set(project["optional-dependencies"])), ""


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
