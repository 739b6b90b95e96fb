"""``make demo``: it runs without a terminal, and does not call good what is not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "demo.py"
TIMEOUT = 120.0


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The demonstration as a module; the process that it starts finds VerityDB as this one does."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ACKNOWLEDGED_MIN", 5)
    return module


def test_the_demonstration_runs_where_there_is_no_terminal_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(DEMO), "--rows", "1500"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1,500 flights" in ran.stdout
    assert "0 lost" in ran.stdout
    assert "differences: none" in ran.stdout
    assert "everything is as it should be" in ran.stdout
    assert "✗" not in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_bit_that_is_not_found_fails_the_demonstration(
    demo: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "flip", lambda file, position: None)
    assert demo.main(["--rows", "500"]) == 1
    assert "✗ detect    nothing was found" in capsys.readouterr().out


def test_a_lost_commit_fails_the_demonstration(
    demo: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "killed_while_committing", lambda path: {1, 2, 3})
    assert demo.main(["--rows", "500"]) == 1
    assert "0 found, 3 lost" in capsys.readouterr().out
