"""The arguments and options that several commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Database: TypeAlias = Annotated[Path, typer.Argument(metavar="DATABASE", help="The database file.", show_default=False)]
Target: TypeAlias = Annotated[
    Path, typer.Argument(metavar="TARGET", help="The file to make; it must not exist.", show_default=False)
]
KeyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="A file with the key, readable by its owner only. Otherwise VERITYDB_KEY is used, or you are asked.",
        show_default=False,
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


def _find_here(value: str | None) -> str | None:
    # As `python -m` would. Last, so that no file that happens to lie here hides a module of somebody else's.
    if value is not None and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    return value


Register: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--register",
        metavar="MODULE:FUNCTION",
        help="A function that registers the SQL functions and collations that the schema needs. MODULE may lie here.",
        callback=_find_here,
        show_default=False,
    ),
]
