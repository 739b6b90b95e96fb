"""The random tests try the same examples on every machine, in CI and out of it, alone and among others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_TEST = """
import hashlib
from hypothesis import given
from tests.support.strategies import statements

digest = hashlib.sha256()

@given(statements)
def test_draws(statement):
    digest.update(repr(statement).encode())

def test_tells():
    print("digest", digest.hexdigest())
"""


def _digest(folder: Path, environment: dict[str, str], *options: str) -> str:
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_drawn.py").write_text(_TEST)
    root = Path(__file__).parents[1]
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *options, "."],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(root)} | environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "digest" in line]
    return line.split()[-1].strip(".")


@pytest.fixture(scope="module")
def digest_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the examples are when nothing is said."""
    return _digest(tmp_path_factory.mktemp("here") / "test", {})


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({"CI": "true"}, ()),
        ({"PYTHONHASHSEED": "7"}, ()),
        ({}, ("-p", "veritydb.cli.app")),  # Other modules are loaded, with other constants in them.
    ],
    ids=["CI", "hash seed", "other modules"],
)
def test_examples_depend_on_nothing_around_them(
    environment: dict[str, str], options: tuple[str, ...], digest_here: str, tmp_path: Path
) -> None:
    assert _digest(tmp_path / "there", environment, *options) == digest_here
