"""What the commands write: tables for people, JSON for programs, progress on the error stream.

What comes out of a database was written by somebody: an actor's name may hold the escape sequences of a terminal, or
what rich takes for markup. So values go out as text, with everything unprintable spelled out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from veritydb.events import RawText

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_json(document: Any) -> None:
    """Write one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(document, ensure_ascii=True, allow_nan=False) + "\n")


def write_fields(fields: Mapping[str, object], *, good: bool | None = None) -> None:
    """Write names and values, one a line, without those that are None; ``good`` colours the first green or red."""
    shown = {name: printable(str(value)) for name, value in fields.items() if value is not None}
    width = max(map(len, shown))
    console = Console(highlight=False, soft_wrap=True)
    style = {None: "bold", True: "bold green", False: "bold red"}[good]
    for name, value in shown.items():
        console.print(Text.assemble((f"{name:<{width}}  ", "dim"), (value, style)))
        style = ""


def printable(text: str) -> str:
    """Return ``text`` with what a terminal would obey, or not show, spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def json_value(value: object) -> object:
    """Return an SQLite value as JSON has it: blobs, odd text and odd numbers as objects that say what they are."""
    if isinstance(value, RawText):
        return {"text": value.hex()}
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"real": repr(value)}
    return value


def time_text(microseconds: int, *, exact: bool = False) -> str:
    """Return a timestamp of the log as ISO 8601, in UTC."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds" if exact else "seconds").replace("+00:00", "Z")


def size_text(count: int) -> str:
    """Return a number of bytes for people."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count:,} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def count_text(count: int, singular: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {singular}{'' if count == 1 else 's'}"


@contextmanager
def progress_bar(*, beside_output: bool = False) -> Generator[Callable[[str, int, int], None]]:
    """Yield what a long work calls with (what, done, total); it is shown if somebody is looking at a terminal.

    ``beside_output`` says that results are written meanwhile: where they go to the terminal, they are progress enough.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and os.environ.get("TERM") != "dumb"
    if not shown or (beside_output and sys.stdout.isatty()):
        yield lambda what, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bars:
        task = bars.add_task("", total=None)
        current = ""

        def report(what: str, done: int, total: int) -> None:
            nonlocal current
            if what != current:
                current = what
                bars.reset(task, description=what, total=max(total, 1), completed=done)
            else:
                bars.update(task, completed=done, total=max(total, 1))

        yield report
