"""``make demo`` on a slice of its data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_demo_holds_what_it_promises() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), "--rows", "3000", "--kill-after", "20"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything held" in done.stdout
    assert "0 lost" in done.stdout
    assert done.stdout.count("ok ") >= 8
