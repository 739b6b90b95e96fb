"""The tree keeps its shape: fixed top level, three links, layers, and a lock that pins what is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOP_LEVEL = {
    ".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "benchmarks", "docs",
    "examples", "hooks", "pyproject.toml", "replay", "requirements-dev.lock", "schemas", "tests", "veritydb",
}  # fmt: skip


@pytest.mark.parametrize("name", ["hooks", "replay", "schemas"])
def test_type_checkers_find_each_package_by_a_relative_link(name: str) -> None:
    """A link that were absolute, or a copy, would work on one machine only, or go stale."""
    link = ROOT / "veritydb" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert (link / "__init__.py").is_file()


def test_top_level_is_fixed() -> None:
    """What lies at the top is what the layout says, and each of it is there."""
    names = {path.name for path in ROOT.iterdir()} & TOP_LEVEL  # In an unpacked archive no more can be told.
    if (git := shutil.which("git")) is not None:
        listed = subprocess.run(
            [git, "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if listed.returncode == 0 and listed.stdout:
            names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert names == TOP_LEVEL


def test_layers_hold() -> None:
    """import-linter's contracts in pyproject are kept, and name every module."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_lock_pins_everything_that_is_asked_for() -> None:
    """Each requirement of the project and of its development is pinned, to a version that satisfies it."""
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements-dev.lock").read_text().splitlines()
        if not line.startswith("#")
    )
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    for text in [*asked, *PROJECT["build-system"]["requires"]]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in {canonicalize_name(pin) for pin in pins}, f"{name} is not in requirements-dev.lock"
        version = next(pins[pin] for pin in pins if canonicalize_name(pin) == name)
        assert version in requirement.specifier, f"{name} {version} is not {requirement.specifier}"


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    """No document points to a file that is not there."""
    missing = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                missing.append(f"{document.relative_to(ROOT)}: {target}")
    assert missing == []
