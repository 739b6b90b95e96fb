"""A group on a stage, in view 1, and messages that it may be told."""

from __future__ import annotations

from typing import Any

from tests.support.members import POINT
from tests.support.stage import Stage
from veritydb.vsr.entry import Entry
from veritydb.vsr.messages import (
    Checkpoint,
    StartView,
)

MEMBERS = (0, 1, 2)


def group(*lines: str, size: int = 3, options: str = "") -> Stage:
    """Return a group in view 1, whose primary is 1, after the lines of a script."""
    stage = Stage()
    if options:
        stage.command(f"options {options}")
    stage.play(f"group {size}", "quiet writes", *lines)
    return stage


def entry_of(stage: Stage, member: int, op: int) -> Entry:
    return stage.replicas[member].bodies[op]


def start_view(
    view: int, entries: list[Entry], *, commit: int = 1, point: Checkpoint = POINT, **more: Any
) -> StartView:
    """Return StartView with these entries, oldest first, as the log's end."""
    headers = tuple(entry.header for entry in reversed(entries))
    return StartView(0, view, MEMBERS[view % 3], headers[0].op, commit, headers, point, 0, MEMBERS)._replace(**more)


def at_a_checkpoint() -> Stage:
    lines = [line for name in "abcdefghi" for line in (f"ask 1 {name}", "pass 2")]
    return group(*lines, "pass 6", options="checkpoint_interval=5 slots=24 chunk_size=4096")


def fetching() -> tuple[Stage, Checkpoint]:
    """Return a group whose member 0 has lost its snapshot, and asks for it."""
    stage = at_a_checkpoint()
    stage.play("crash 0", "rot 0 snapshot", "start 0", "drop")
    return stage, stage.replicas[0].checkpoint
