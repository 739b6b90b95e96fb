"""The command line as a person runs it: its own environment, and no terminal unless one is given.

:func:`veritydb` starts a process, as the tests of every command do at least once; :func:`command` runs the same code
in this one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from veritydb.cli.app import run

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "veritydb.cli"]
KEY = "hex:" + "5e" * 32
"""A raw key, because a passphrase costs each process a tenth of a second."""


class Ran(NamedTuple):
    """What a run left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on the output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The documents on the output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(key: str | None = None, **variables: str) -> dict[str, str]:
    """Return the environment of a run: nothing of VerityDB's but what is given."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("VERITYDB_", "NO_COLOR", "FORCE_"))
    }
    kept["PYTHONPATH"] = str(ROOT)
    if key is not None:
        kept["VERITYDB_KEY"] = key
    return kept | variables


def veritydb(*arguments: object, key: str | None = None, cwd: Path | None = None, **variables: str) -> Ran:
    """Run ``veritydb`` to its end. ``key`` goes into VERITYDB_KEY."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=environment(key, **variables),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def command(*arguments: object, key: str | None = None) -> Ran:
    """Run one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    changed = {"VERITYDB_KEY": key} if key is not None else {}
    with (
        mock.patch.dict(os.environ, changed),
        mock.patch("sys.stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = run([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())
