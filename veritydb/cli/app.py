"""The commands put together, and the one border where errors become messages and exit codes.

A command returns, or raises what the library raises. Here an expected error becomes one line on the error stream (and,
with ``--json``, an object) and the exit code of its kind; only a fault of VerityDB itself shows a traceback.
"""

from __future__ import annotations

import inspect
import io
import json
import re
import signal
import sqlite3
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import apsw
import typer

from veritydb.cli import (
    adopt_command,
    api_key_command,
    cluster_command,
    consumers_command,
    export_command,
    info,
    keys_command,
    log_command,
    node_command,
    replay_command,
    run_command,
    serve_command,
    simulate_command,
    streams_command,
    tail_command,
    verify_command,
)
from veritydb.cli.exits import Exit, exit_of
from veritydb.cli.output import printable
from veritydb.errors import LogDamaged
from veritydb.version import VERSION

app = typer.Typer(
    name="veritydb",
    help="SQLite for records that must be provable: look into a database's log, verify it, rebuild from it.",
    epilog=(
        "The key of an encrypted database comes from VERITYDB_KEY, from --key-file, or from a prompt.\n\n"
        "Exit codes: 0 good, 1 a problem was found, 2 usage, 3 key, 4 damaged log, 5 not adopted, 6 busy, "
        "7 cluster down."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(info, log_command, tail_command, verify_command, replay_command, adopt_command, export_command, run_command),
    serve_command,
    simulate_command,
):
    _command.register(app)
api_key_command.register(keys_command.app)
app.add_typer(keys_command.app, name="keys")
app.add_typer(node_command.app, name="node")
app.add_typer(cluster_command.app, name="cluster")
app.add_typer(consumers_command.app, name="consumers")
app.add_typer(streams_command.app, name="streams")


def _let_paragraphs_flow(group: typer.Typer) -> None:
    # Typer's rich mode breaks lines of a second paragraph where the docstring does, whatever the terminal's width.
    for command in group.registered_commands:
        command.help = command.help or re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.getdoc(command.callback) or "")
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _let_paragraphs_flow(inner.typer_instance)


_let_paragraphs_flow(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"veritydb {VERSION} (SQLite {apsw.sqlite_lib_version()})")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # A reader that closes the pipe early (head) ends us as it ends every other program. Work that must not stop
    # half-way writes nothing to a pipe before it is done.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A locale that lacks a character is no reason to fail.
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    program: run_command.Program | None = None
    try:
        app(args=list(arguments), prog_name="veritydb")
    except run_command.Program as chosen:
        program = chosen
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.OK
    except (sqlite3.Error, sqlite3.Warning, OSError) as error:
        _complain(error, as_json="--json" in arguments)
        return exit_of(error)
    if program is not None:
        program.start()
    return Exit.OK


def _complain(error: Exception, *, as_json: bool) -> None:
    message = printable(str(error))
    if not as_json:
        sys.stderr.write(f"veritydb: {message}\n")
        return
    facts: dict[str, object] = {"error": type(error).__name__, "message": message}
    if isinstance(error, LogDamaged):
        facts |= {"segment": error.segment, "position": error.position, "offset": error.offset}
    sys.stderr.write(json.dumps(facts) + "\n")
