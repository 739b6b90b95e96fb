"""Runs the classic PEP 249 suite (Stuart Bishop's ``dbapi20``) on ``sqlite3`` and on VerityDB, and compares.

``python -m tests.conformance.pep249`` fetches it (PyPI has it as ``dbapi-compliance``; it is from 2015, and only its
source is distributed) and prints what passes. VerityDB, encrypted and not, may fail nothing that ``sqlite3`` does not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import unittest
import warnings
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAME, VERSION = "dbapi-compliance", "1.15.0"
KEY = bytes(range(32))


def fetch(folder: Path) -> Path:
    """Return the folder of the suite, fetched if it is not there yet."""
    unpacked = folder / f"{NAME}-{VERSION}"
    if not unpacked.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet")
        what = ("--no-binary", ":all:", "--no-deps", "--no-build-isolation", f"{NAME}=={VERSION}")
        subprocess.run([*pip, *what, "--dest", str(folder)], check=True)
        with zipfile.ZipFile(folder / f"{NAME}-{VERSION}.zip") as archive:
            archive.extractall(folder)
    return unpacked


def run(module: Any, **options: Any) -> tuple[int, set[str]]:
    """Run the suite on ``module``. Returns how many tests ran, and the names of those that did not pass."""
    suite: Any = importlib.import_module("dbapi20")

    class Suite(suite.DatabaseAPI20Test):
        driver = module
        connect_kw_args = options
        # For drivers that have more than one result set, or give sizes a meaning.
        test_nextset = test_setoutputsize = None

        def setUp(self) -> None:
            self.folder = tempfile.TemporaryDirectory()
            self.connect_args = (f"{self.folder.name}/suite.db",)

        def tearDown(self) -> None:
            self.folder.cleanup()

    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unittest.defaultTestLoader.loadTestsFromTestCase(Suite).run(result)
    return result.testsRun, {test.id().rpartition(".")[2] for test, _ in [*result.failures, *result.errors]}


def main() -> int:
    """Print the counts and the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    import veritydb
    from tests.conformance.replayed import Compared

    sys.path.insert(0, str(fetch(ROOT / "build" / "conformance")))
    compared = Compared(KEY)
    compared.watch()
    count, standard = run(sqlite3)
    runs = {"plain": run(veritydb), "encrypted": run(veritydb, key=KEY)}
    worse = {name: sorted(failed - standard) for name, (_, failed) in runs.items()}
    complete = all(ran == count for ran, _ in runs.values())
    if options.json:
        print(json.dumps({"count": count, "worse": worse, "compared": compared.count, "problems": compared.problems}))
        return 0
    print(f"dbapi20, sqlite3: {count - len(standard)} of {count} pass")
    for name, (ran, failed) in runs.items():
        print(f"dbapi20, VerityDB {name}: {ran - len(failed)} of {ran} pass; worse: {', '.join(worse[name]) or 'none'}")
    print(f"rebuilt from the log and compared: {compared.count}; {len(compared.problems)} differ")
    return int(not complete or any(worse.values()) or bool(compared.problems))


if __name__ == "__main__":
    sys.exit(main())
