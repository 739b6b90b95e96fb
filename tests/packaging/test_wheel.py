"""The wheel and the source archive hold the tree: nothing forgotten, nothing more.

``hooks/``, ``replay/`` and ``schemas/`` lie beside the package and become part of it in the wheel, by a mapping that
names each package. A package that nobody added to it would be missing only at the user's; here it is missing by name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"


def modules_of(tree: Path) -> set[str]:
    """Return the files that the installed package should have, by their path below ``site-packages``."""
    found = set()
    for name in ("veritydb", "hooks", "replay", "schemas"):
        for path in (tree / name).rglob("*"):  # does not follow the three links inside veritydb/
            if path.is_file() and "__pycache__" not in path.parts and not path.is_symlink():
                inside = path.relative_to(tree)
                found.add(str(inside if name == "veritydb" else "veritydb" / inside))
    return found


def build(what: str, tree: Path, into: Path) -> Path:
    """Build a wheel or a source archive of ``tree`` as pip would, without its network."""
    into.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, what, str(into)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is committed, to build in without leaving anything in the checkout."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("veritydb", "hooks", "replay", "schemas"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree."""
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


def inside(wheel: Path) -> set[str]:
    """Return the names of the package's files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_exactly_the_tree(wheel: Path, tree: Path) -> None:
    """Every module, schema and marker of the tree is in the wheel, and nothing else is."""
    assert inside(wheel) == modules_of(tree)


def test_wheel_without_the_links_is_the_same(wheel: Path, tree: Path, tmp_path: Path) -> None:
    """The links are for type checkers and editors: a checkout that lost them builds the same wheel."""
    bare = tmp_path / "bare"
    shutil.copytree(
        tree, bare, symlinks=True, ignore=lambda folder, names: [n for n in names if (Path(folder) / n).is_symlink()]
    )
    assert not (bare / "veritydb" / "hooks").exists()
    assert inside(build("wheel", bare, tmp_path / "wheel")) == inside(wheel)


def test_source_archive_builds_the_same_wheel(wheel: Path, tree: Path, tmp_path: Path) -> None:
    """What PyPI calls an sdist is complete: the wheel built from it is the wheel built from the tree."""
    archive = build("sdist", tree, tmp_path / "sdist")
    with tarfile.open(archive) as source:
        source.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert inside(build("wheel", unpacked, tmp_path / "wheel")) == inside(wheel)


def test_package_works_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """Unpacked somewhere else, the package finds its schemas and its command."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import veritydb, veritydb.schemas, veritydb.cli\n"
        "assert veritydb.__file__.startswith(sys.argv[1]), veritydb.__file__\n"
        "assert veritydb.schemas.record.Header is not None\n"
        "sys.argv = ['veritydb', '--version']; veritydb.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "site")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("veritydb ")


def test_wheel_says_what_the_project_is(wheel: Path) -> None:
    """Name, version, license and the command are in the wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        folder = next(name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        assert "veritydb = veritydb.cli:main" in archive.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert (metadata["Name"], metadata["License-Expression"]) == ("veritydb", "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.11"
