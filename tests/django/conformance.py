"""Runs Django's own test suite, on VerityDB and on Django's SQLite backend, and compares.

``make conformance-django`` runs all that is in :data:`LABELS`; ``SLICE=1`` what fits into a minute. The suite comes
from the source distribution of the Django that is installed, for the package itself has no tests in it. VerityDB may
fail nothing, and skip nothing, that the SQLite backend does not. Then every database file that the suite has left is
rebuilt from its log and compared with what it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STANDARD = "django.db.backends.sqlite3"
OURS = "veritydb.django"
REGISTER = "veritydb.django:register"
LABELS = (
    *("backends", "basic", "queries", "transactions", "aggregation", "expressions", "model_fields"),
    *("schema", "migrations", "bulk_create", "lookup", "constraints"),
)
_SIGNATURES = "backends.sqlite.test_creation.TestDbSignatureTests"
EXPECTED = {
    # Since Django 6.1. It replaces sqlite3.connect and looks for a copy, page by page, into the memory of a worker that
    # was not forked. A copy of ours is a file with a log: tests/django/test_django_creation.py.
    f"{_SIGNATURES}.test_setup_worker_connection_respects_test_database_name",
}
"""Tests that pass on the standard backend and not on ours, because of how they look, not of what they look for."""
SLICE = ("backends", "basic", "bulk_create", "constraints", "lookup", "schema", "transactions")


def main() -> int:
    """Print what passes and what differs; return 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slice", action="store_true", help=f"only {' '.join(SLICE)}")
    parser.add_argument("--jobs", type=int, default=1, help="2: both backends at the same time")
    parser.add_argument("labels", nargs="*", help="labels of Django's suite")
    options = parser.parse_args()
    labels = options.labels or list(SLICE if options.slice else LABELS)
    suite = source(ROOT / "build" / "conformance")
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        with ThreadPoolExecutor(options.jobs) as pool:
            runs = {engine: pool.submit(run, suite, engine, Path(name) / engine, labels) for engine in (STANDARD, OURS)}
        standard, ours = (runs[engine].result() for engine in (STANDARD, OURS))
        problems = [*compared(standard, ours), *rebuilt(Path(name) / OURS)]
    for engine, outcome in ((STANDARD, standard), (OURS, ours)):
        print(
            f"{engine:27} {outcome['count']} tests, {len(outcome['failed'])} fail, "
            f"{len(outcome['skipped'])} skipped, {outcome['seconds']:.0f} s"
        )
    for test in sorted(standard["failed"].keys() & ours["failed"].keys()):
        print(f"both     {test}")
    for problem in problems:
        print(problem)
    print(f"Django {version('django')}, {' '.join(labels)}: " + (f"{len(problems)} differ" if problems else "the same"))
    return int(bool(problems))


def source(folder: Path) -> Path:
    """Return the folder of the tests of the installed Django, fetched if they are not there yet."""
    number = version("django")
    tests = folder / f"django-{number}" / "tests"
    if not tests.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as download:
            pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet")
            what = ("--no-binary", ":all:", "--no-deps", "--no-build-isolation", f"Django=={number}")
            subprocess.run([*pip, *what, "--dest", download], check=True)
            (archive,) = Path(download).iterdir()
            with tarfile.open(archive) as opened:
                opened.extractall(download, filter="data")
            (Path(download) / f"django-{number}").rename(tests.parent)
    return tests


def run(suite: Path, engine: str, folder: Path, labels: list[str], **more: str) -> dict[str, Any]:
    """Run ``labels`` on ``engine``, with its database files in ``folder``. Returns what became of the tests.

    ``more`` is what else is in its environment.
    """
    folder.mkdir()
    environment = {
        **os.environ,
        "CONFORMANCE_ENGINE": engine,
        "CONFORMANCE_FOLDER": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        **more,
    }
    # One process, and the order in which the tests are found; the databases stay, for they are looked at afterwards.
    options = ("--settings=tests.django.suite", "--parallel=1", "--noinput", "--keepdb", "--verbosity=0")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "runtests.py", *options, *labels],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    outcome = folder / "outcome.json"
    if not outcome.exists():
        sys.exit(f"Django's suite did not run on {engine}:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(outcome.read_text())
    found["seconds"] = time.monotonic() - started
    return found


def compared(standard: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Return a line for each test that passes on the standard backend and not on ours."""
    problems: list[str] = []
    for what in ("failed", "skipped"):
        for test in sorted(ours[what].keys() - standard[what].keys() - standard["failed"].keys()):
            if test.partition(" ")[0] in EXPECTED:
                print(f"expected {test}")
                continue
            problems.append(f"{what:8} {test}\n         {ours[what][test].strip().splitlines()[-1]}")
    if ours["count"] < standard["count"]:
        problems.append(f"only {ours['count']} of {standard['count']} tests ran")
    return problems


def rebuilt(folder: Path) -> list[str]:
    """Rebuild each database in ``folder`` from its log. Returns the differences."""
    from tests.django.suite import KEY
    from veritydb import opening
    from veritydb.keys import load_keys, normalise
    from veritydb.replay.compare import differences
    from veritydb.replay.rebuilding import rebuild
    from veritydb.replay.registering import prepare
    from veritydb.streams import log_folder

    problems: list[str] = []
    for path in sorted(folder.glob("*.db")):
        encrypted = (log_folder(path) / "keys").exists()
        key = KEY if encrypted else None
        target = folder / f"{path.stem}.rebuilt"
        result = rebuild(path, target, key=key, register=REGISTER)
        file_key = load_keys(log_folder(path), normalise(KEY)).current.file_key() if encrypted else None
        with (
            closing(opening.open_file(str(path), file_key, create=False)) as life,
            closing(opening.open_file(str(target), file_key, create=False)) as replayed,
        ):
            for db in (life, replayed):
                prepare(db, REGISTER)
            found = differences(life, replayed)
        problems += [f"{path.name}: {line}" for line in found]
        kind = "encrypted" if encrypted else "plain"
        same = "differs from the file" if found else "is the file"
        print(f"{path.name} ({kind}), rebuilt from {result.transactions} transactions of its log, {same}")
    if not problems and not list(folder.glob("*.db")):
        problems.append("the suite left no database file")
    return problems


if __name__ == "__main__":
    sys.exit(main())
