"""``veritydb run``: a program with ``sqlite3`` replaced, unchanged.

The command only says what is to run. The program itself runs when the command line has ended (:meth:`Program.start`),
because its errors, its exit code and its arguments are its own: no border of ours may stand around it.
"""

from __future__ import annotations

import io
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from veritydb.cli.asking import given_key
from veritydb.cli.options import KeyFile
from veritydb.installing import install
from veritydb.keys import VARIABLE
from veritydb.streams import ON_MISSING


class Program(Exception):
    """What is to run; raised by the command to the one who runs commands."""

    def __init__(
        self, name: str, arguments: list[str], *, is_module: bool, key: str | None, actor: str, on_missing: str | None
    ) -> None:
        super().__init__(name)
        self._name = name
        self._arguments = arguments
        self._is_module = is_module
        self._key = key
        self._actor = actor
        self._on_missing = on_missing

    def start(self) -> None:
        """Run it, as Python itself would: its own arguments, its folder (or the current one) first in the path."""
        before = _State(sys.argv, sys.path[:])
        # The command line has its own habits with pipes; a program expects Python's.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for stream in (sys.stdout,):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="strict")
        sys.argv = [self._name, *self._arguments]
        sys.path[0] = os.getcwd() if self._is_module else str(Path(self._name).resolve().parent)
        try:
            with install(key=self._key, actor=self._actor, on_missing=self._on_missing):
                if self._is_module:
                    runpy.run_module(self._name, run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(self._name, run_name="__main__")
        finally:
            sys.argv, sys.path[:] = before


class _State(NamedTuple):
    argv: list[str]
    path: list[str]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "run",
        # What follows the program is the program's, whatever it looks like.
        context_settings={"allow_interspersed_args": False},
        epilog=(
            "veritydb run visits.py John fever\n\n"
            "veritydb run --key-file clinic.key --actor reception -m clinic.import today.csv"
        ),
    )(run_command)


def run_command(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="A script, or a module (-m).", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS", help="The program's own.", show_default=False)
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="PROGRAM is a module, as in python -m.")] = False,
    key_file: KeyFile = None,
    actor: Annotated[str, typer.Option("--actor", metavar="NAME", help="Who acts, as the log will say.")] = "",
    on_missing: Annotated[
        str | None,
        typer.Option(
            "--on-missing",
            metavar="|".join(ON_MISSING),
            help="What a missing file becomes: what its log holds (rebuild), or a new database.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a Python program with sqlite3 replaced by VerityDB.

    A key that is given is that of each database file which the program opens; nobody is asked for one.
    """
    if not module and not Path(program).exists():
        raise typer.BadParameter(f"there is no {program}", param_hint="PROGRAM")
    if on_missing is not None and on_missing not in ON_MISSING:
        raise typer.BadParameter(f"it is {' or '.join(ON_MISSING)}, not {on_missing}", param_hint="--on-missing")
    key = given_key(Path(program), key_file, VARIABLE)
    raise Program(program, arguments or [], is_module=module, key=key, actor=actor, on_missing=on_missing)


__all__ = ["Program", "register"]
