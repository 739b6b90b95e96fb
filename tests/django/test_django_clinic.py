"""The example clinic does what its README says: it is set up, filled, tested and verified as a reader would do it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.django.support import check

ROOT = Path(__file__).parents[2]
KEY = "correct horse battery staple"


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """A copy of the example."""
    shutil.copytree(ROOT / "examples" / "django_clinic", tmp_path / "clinic", ignore=shutil.ignore_patterns("*.db*"))
    return tmp_path / "clinic"


def run(clinic: Path, *arguments: str, typed: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "CLINIC_"))}
    environment |= {"PYTHONPATH": str(ROOT), "VERITYDB_KEY": KEY, "LOGNAME": "tester"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=clinic,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_clinic_is_set_up_filled_and_verified(clinic: Path) -> None:
    run(clinic, "manage.py", "migrate", "-v0")
    assert run(clinic, "manage.py", "seed") == "50 patients\n"
    run(clinic, "manage.py", "dbshell", typed="UPDATE clinic_patient SET name = 'Jane' WHERE id = 7;")
    told = run(clinic, "-m", "veritydb", "log", "clinic.db", "--table", "clinic_patient", "--row", "7")
    assert "manage.py" in told
    assert "made-up patients" in told
    assert "tester" in told
    assert "dbshell" in told
    run(clinic, "-m", "veritydb", "verify", "clinic.db", "--register", "veritydb.django:register")
    check(clinic / "clinic.db", KEY)


def test_the_clinics_own_tests_pass(clinic: Path) -> None:
    assert "OK" in run(clinic, "-W", "error", "manage.py", "test")
    assert not list(clinic.glob("test_clinic.db*"))
