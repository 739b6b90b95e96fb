"""Corners of the protocol, one text file each: what happens, and what comes of it.

A file in ``tests/transcripts`` is prose (lines with ``#``), commands (``> ``, :mod:`tests.support.stage` has their
table) and, indented below each, what the real replicas did. ``pytest tests/test_transcripts.py
--rewrite-transcripts`` writes down what they do now; read the difference before you keep it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stage import Stage

_FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


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


def test_there_are_transcripts() -> None:
    assert len(_FILES) >= 12
