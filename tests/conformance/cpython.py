"""Runs CPython's own ``test.test_sqlite3``, of the Python that runs it, with VerityDB in the place of sqlite3.

``python -m tests.conformance.cpython`` prints how many of its tests pass and what differs; ``make conformance`` does
that. :mod:`tests.conformance.test_cpython` compares the differences with the list in ``docs/reference/differences.md``.

The tests start processes of their own; a ``sitecustomize`` module puts VerityDB into those too. Each database file is
rebuilt from its log and compared when its last connection closes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "test.test_sqlite3"


def run(names: list[str]) -> tuple[int, dict[str, str]]:
    """Run the suite in this process. Returns how many tests ran, and for each that did not pass its last line."""
    import veritydb  # Before it replaces the module whose exceptions it extends.

    result = unittest.TestResult()
    with veritydb.install(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        suite = unittest.TestSuite()
        package = importlib.import_module(SUITE)
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.startswith("test_"):
                suite.addTests(unittest.defaultTestLoader.loadTestsFromName(f"{SUITE}.{module.name}"))
        if names:
            suite = unittest.TestSuite(test for test in _flat(suite) if any(name in test.id() for name in names))
        suite.run(result)
    failed: dict[str, str] = {}
    for test, text in [*result.failures, *result.errors]:
        name = getattr(test, "test_case", test).id().removeprefix(f"{SUITE}.")
        failed[name] = text if names else text.strip().splitlines()[-1]
    for test in result.unexpectedSuccesses:
        failed[test.id().removeprefix(f"{SUITE}.")] = "unexpected success"
    return result.testsRun, failed


def _flat(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for test in suite:
        found.extend(_flat(test) if isinstance(test, unittest.TestSuite) else [test])
    return found


def main() -> int:
    """Print the counts and the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("names", nargs="*", help="parts of test names; prints their whole tracebacks")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent / "substitute"), str(ROOT)])
    os.environ.setdefault("VERITYDB_ON_MISSING", "new")  # The suite unlinks its file and makes it anew.
    from tests.conformance.replayed import Compared

    compared = Compared()
    compared.watch()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        count, failed = run(options.names)
        os.chdir(ROOT)
    if options.json:
        found = {"count": count, "failed": failed, "compared": compared.count, "problems": compared.problems}
        print(json.dumps(found))
        return 0
    for name, text in sorted(failed.items()):
        print(f"differs  {name}\n         {text}")
    for problem in compared.problems:
        print(f"replay is not life  {problem}")
    print(f"{SUITE} of Python {sys.version.split()[0]}: {count - len(failed)} of {count} pass, {len(failed)} differ")
    print(f"rebuilt from the log and compared: {compared.count} times; {len(compared.problems)} differ")
    return int(bool(compared.problems))


if __name__ == "__main__":
    sys.exit(main())
