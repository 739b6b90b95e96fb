"""Corners of the protocol, one text file each: what happens, and what comes of it.

A file in ``tests/transcripts`` is prose (lines with ``#``), commands (``> ``, :mod:`tests.support.stage` has their
table) and, indented below each, what the real replicas did. ``pytest tests/test_transcripts.py
--rewrite-transcripts`` writes down what they do now; read the difference before you keep it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.stage import Stage

_FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
_INTERNALS = Path(__file__).parents[1] / "docs" / "internals"


def played(text: str) -> str:
    """Return the transcript of a script, or of a transcript."""
    stage = Stage()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            lines.append(line)
            lines += [f"    {told}" for told in stage.command(line[2:])]
        elif not line.startswith(" "):
            lines.append(line)
    return "\n".join(lines).rstrip() + "\n"


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_the_replicas_do_what_is_written(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    now = played(text)
    if request.config.getoption("--rewrite-transcripts"):
        path.write_text(now)
    assert "\n    ? " not in now, "the script asks for what cannot be done"
    assert now == path.read_text()


def _named(text: str) -> set[str]:
    return set(re.findall(r"\(\.\./\.\./tests/transcripts/([a-z-]+)\.txt\)", text))


def test_each_bug_that_was_found_and_each_corner_is_shown_by_a_transcript_that_there_is() -> None:
    found = (_INTERNALS / "simulation.md").read_text().partition("\n## What it found\n")[2].partition("\n## ")[0]
    rows = [line for line in found.splitlines() if line.startswith("| ")][1:]
    corners = (_INTERNALS / "vsr.md").read_text().partition("\n## Corners, played\n")[2].partition("\n## ")[0]

    assert [row for row in rows if not _named(row)] == []
    assert rows
    assert _named(found) | _named(corners) == {path.stem for path in _FILES}
