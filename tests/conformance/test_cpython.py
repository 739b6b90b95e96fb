"""CPython's own tests of ``sqlite3`` pass, but for those that ``docs/reference/differences.md`` explains."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIFFERENCES = (ROOT / "docs" / "reference" / "differences.md").read_text(encoding="utf-8")
EXPLAINED_MAX = 10


def explained() -> dict[str, str]:
    """Return the reason of each test in the table."""
    rows = re.findall(r"^\| `(test_[\w.]+)` \| (.+) \|$", DIFFERENCES, re.MULTILINE)
    return dict(rows)


def test_every_difference_is_explained_and_they_are_few() -> None:
    reasons = explained()
    assert 0 < len(reasons) < EXPLAINED_MAX
    assert all(len(reason.split()) > 1 for reason in reasons.values())


def test_what_fails_is_what_the_reference_says() -> None:
    pytest.importorskip("test.test_sqlite3", reason="this Python was installed without its tests")
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.cpython", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failed"].keys() == explained().keys(), found["failed"]
    assert found["compared"] > 10
    assert found["problems"] == []
    version = platform.python_version()
    row = re.search(rf"^\| {re.escape(version)} \| (\d+) \| (\d+) \| (\d+) \|$", DIFFERENCES, re.MULTILINE)
    if row is not None:
        assert tuple(map(int, row.groups())) == (
            found["count"],
            found["count"] - len(found["failed"]),
            len(found["failed"]),
        )
