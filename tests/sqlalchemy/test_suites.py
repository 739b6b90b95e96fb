"""``sqlalchemy.testing.suite``, as it is installed with SQLAlchemy, passes over VerityDB, and replay equals life in it.

The suite over each of: an encrypted file, asyncio. What needs SQLAlchemy's sources (its own requirements, its tests of
the SQLite dialect, pysqlite beside it) is :mod:`tests.sqlalchemy.suites`, which the campaign runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sqlalchemy.suites import KEY, ROOT, run_installed

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = {
    "ComponentReflectionTest::test_metadata",
    "ComponentReflectionTestExtra::test_check_constraint_inline",
    "ComponentReflectionTestExtra::test_check_constraint_mixed",
    "ComponentReflectionTestExtra::test_check_constraint_no_constraint",
    "ComponentReflectionTestExtra::test_check_constraint_parenthesized_expressions",
    "ComponentReflectionTestExtra::test_check_constraint_standalone",
}
"""These write into an attached database without asking whether they can."""

ASYNC_SLICE = (
    "InsertBehaviorTest or ReturningTest or ServerSideCursorsTest or RowFetchTest or JSONTest or IsolationLevel"
)


def test_the_suite_passes_in_an_encrypted_file_and_its_databases_are_what_their_logs_say(tmp_path: Path) -> None:
    result = run_installed(tmp_path / "run", f"sqlite+veritydb:///suite.db?key={KEY}&timeout=0.2", key=KEY)
    assert result.failed == {}
    assert {name.rpartition(".")[2].partition("[")[0] for name in result.refused} <= REFUSED
    assert len(result.passed) > 1000
    assert result.compared > 50


def test_a_slice_of_the_suite_passes_with_asyncio(tmp_path: Path) -> None:
    url = f"veritydb+aio:///suite.db?key={KEY}&timeout=0.2"
    result = run_installed(tmp_path / "run", url, key=KEY, only=ASYNC_SLICE)
    assert result.failed == {}
    assert len(result.passed) > 40
    assert result.compared > 5


def test_all_of_sqlalchemys_tests_fail_no_more_than_with_pysqlite(campaign: bool) -> None:
    if not campaign:
        pytest.skip("part of the campaign: it fetches SQLAlchemy's sources, and takes minutes")
    done = subprocess.run(
        [sys.executable, "-m", "tests.sqlalchemy.suites", "--json"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    runs = json.loads(done.stdout)
    assert not any(run["failed"] for run in runs.values())
    assert all(run["passed"] > 1500 for run in runs.values())
