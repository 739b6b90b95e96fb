"""Runs SQLAlchemy's own tests over VerityDB and, side by side, over its pysqlite.

``python -m tests.sqlalchemy.suites`` (``make conformance-sqlalchemy``) fetches the source distribution of the installed
SQLAlchemy and runs ``sqlalchemy.testing.suite`` in full, with the requirements SQLAlchemy has for pysqlite, and its
``test/dialect/sqlite``: in memory, in an encrypted file, and with asyncio. It prints what passes, and what fails that
does not fail with pysqlite. :mod:`tests.sqlalchemy.test_suites` runs the suite that is installed with SQLAlchemy.

Each run is a process of its own in a folder of its own, because SQLAlchemy's test plugin takes pytest over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
KEY = "hex:" + bytes(range(32)).hex()
SOURCES = ("test/dialect/test_suite.py", "test/dialect/sqlite")
REFUSED = re.compile(r"is attached: what is written there is not in this log|no such table: (main\.)?test_schema\b")
"""In a file, writing into an attached database is refused (docs/guides/sqlalchemy.md), so its tables are not there."""

# The names of suite classes end in the engine's; without that they are the same for each.
_ENGINE = re.compile(r"_(sqlite|veritydb)\+\w+?(_\d+)+$")


@dataclass(slots=True)
class Result:
    """What became of the tests of one run: names, and for those that failed the text."""

    passed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Failed, because VerityDB refuses on purpose what they do."""
    compared: int = 0
    """How often a database was rebuilt from its log and compared."""
    output: str = ""


def run_source(folder: Path, sources: Path, url: str, *, key: str = "", on_a_file: bool = False) -> Result:
    """Run the tests of an unpacked source distribution."""
    folder.mkdir()
    for name in ("test", "lib"):
        (folder / name).symlink_to(sources / name)
    settings = (sources / "setup.cfg").read_text()
    if on_a_file:
        settings = re.sub(
            "^requirement_cls.*",
            "requirement_cls = tests.sqlalchemy.source_requirements:OnAFile",
            settings,
            flags=re.MULTILINE,
        )
    (folder / "setup.cfg").write_text(settings)
    return _run(folder, [*SOURCES], url, key)


_CONFTEST = """
import pytest

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")
from sqlalchemy.testing.plugin.pytestplugin import *
"""
_SETTINGS = """
[sqla_testing]
requirement_cls = tests.sqlalchemy.requirements:Requirements
profile_file = profiles.txt
"""


def run_installed(folder: Path, url: str, *, key: str = "", only: str = "") -> Result:
    """Run the suite that is installed with SQLAlchemy; ``only`` is what pytest's ``-k`` takes."""
    folder.mkdir()
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "setup.cfg").write_text(_SETTINGS)
    (folder / "test_installed.py").write_text("from sqlalchemy.testing.suite import *\n")
    return _run(folder, ["test_installed.py", *(["-k", only] if only else [])], url, key)


def _run(folder: Path, tests: list[str], url: str, key: str) -> Result:
    (folder / "pytest.ini").write_text("[pytest]\npython_files = test_*.py\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VERITYDB_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(ROOT), "SUITE_KEY": key, "SUITE_URL": url, "PYTHONHASHSEED": "0"}
    plugins = ["-p", "tests.sqlalchemy.plugin", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    options = ["-q", "--tb=short", "--maxfail=100000", "--dburi", url, "--junitxml=results.xml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
        text=True,
    )
    report = folder / "results.xml"
    if done.returncode not in (0, 1) or not report.exists():
        raise RuntimeError(f"the run did not come to its end:\n{done.stdout[-5000:]}{done.stderr[-5000:]}")
    result = _results(report)
    result.output = done.stdout
    counted = re.search(r"rebuilt and compared: (\d+)", done.stdout)
    result.compared = int(counted[1]) if counted else 0
    return result


def _results(report: Path) -> Result:
    result = Result()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{_ENGINE.sub('', case.get('classname', ''))}::{case.get('name')}"
        problems = [each for each in case if each.tag in ("failure", "error")]
        text = "\n".join(f"{each.get('message')}\n{each.text}" for each in problems)
        if not problems:
            (result.skipped if case.find("skipped") is not None else result.passed).add(name)
        elif REFUSED.search(text):
            result.refused.add(name)
        else:
            result.failed[name] = text
    result.passed -= result.failed.keys() | result.refused
    return result


def fetch(folder: Path) -> Path:
    """Download the source distribution of the installed SQLAlchemy, and return where it is unpacked."""
    wanted = f"sqlalchemy=={version('sqlalchemy')}"
    # pip asks a source distribution for its metadata, and need not compile anything for that.
    options = ["--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", str(folder)]
    fetching = [sys.executable, "-m", "pip", "--quiet", "download", *options, wanted]
    subprocess.run(fetching, check=True, env=os.environ | {"DISABLE_SQLALCHEMY_CEXT": "1"})
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


RUNS = {
    "pysqlite": {"url": "sqlite:///:memory:"},
    "memory": {"url": "sqlite+veritydb:///:memory:"},
    "file": {"url": f"sqlite+veritydb:///suite.db?key={KEY}&timeout=0.2", "key": KEY, "on_a_file": True},
    "aio": {"url": "sqlite+veritydb_aio:///:memory:"},
    "aio file": {"url": f"sqlite+veritydb_aio:///suite.db?key={KEY}&timeout=0.2", "key": KEY, "on_a_file": True},
}


def main() -> int:
    """Print counts and differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, help="an unpacked source distribution (default: fetch it)")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)} (default: all)")
    options = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    status = 0
    with tempfile.TemporaryDirectory() as workshop:
        folder = Path(workshop)
        sources = (options.sources or fetch(folder)).resolve()
        names = ["pysqlite", *(name for name in (options.runs or RUNS) if name != "pysqlite")]
        base: set[str] = set()
        for name in names:
            result = run_source(folder / name.replace(" ", "-"), sources, **RUNS[name])
            if name == "pysqlite":
                base = set(result.failed)
            worse = {test: text for test, text in result.failed.items() if test not in base}
            found[name] = {"passed": len(result.passed), "failed": worse, "compared": result.compared}
            if name != "pysqlite" and worse:
                status = 1
            if options.json:
                continue
            for test, text in sorted(worse.items()):
                print(f"fails only here  {test}\n{text[-2000:]}")
            print(
                f"{name:9} {len(result.passed)} passed, {len(result.skipped)} skipped, {len(result.failed)} failed "
                f"({len(worse)} not with pysqlite), {len(result.refused)} refused on purpose, "
                f"{result.compared} databases rebuilt and compared"
            )
    if options.json:
        print(json.dumps(found))
    return status


if __name__ == "__main__":
    sys.exit(main())
