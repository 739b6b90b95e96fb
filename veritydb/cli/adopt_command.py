"""``veritydb adopt``: an existing SQLite or SQLCipher file becomes a VerityDB database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veritydb import keys
from veritydb.adopt import adopt
from veritydb.cli.asking import SOURCE_VARIABLE, ask, ask_new, can_ask, given_key
from veritydb.cli.options import Json, KeyFile, Register
from veritydb.cli.output import progress_bar, write_fields, write_json
from veritydb.opening import starts_plain


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "adopt",
        epilog=(
            "veritydb adopt clinic.db --encrypt                         in place; asks for the new key\n\n"
            "veritydb adopt clinic.db new.db --key-file new.key         clinic.db stays as it is\n\n"
            "veritydb adopt old.db --source-key-file old.key --key-file new.key      old.db is a SQLCipher file"
        ),
    )(adopt_command)


def adopt_command(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A plain SQLite or SQLCipher file.", show_default=False)
    ],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="TARGET", help="The file to make. Without it, SOURCE is adopted in place."),
    ] = None,
    key_file: KeyFile = None,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Ask for the key of the new database.")] = False,
    source_key_file: Annotated[
        Path | None,
        typer.Option(
            "--source-key-file",
            metavar="FILE",
            help=f"The key of a SQLCipher SOURCE. Otherwise {SOURCE_VARIABLE} is used, or you are asked.",
            show_default=False,
        ),
    ] = None,
    actor: Annotated[str, typer.Option("--actor", help="Who does this, for the log.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")] = "",
    register: Register = None,
    json: Json = False,
) -> None:
    """Make an existing file a VerityDB database: its content becomes the first transaction of a log.

    With a key the result is encrypted; without one it is not. Stop the programs that use the file first; it stays
    locked meanwhile. If the work is interrupted, the file is as it was, or adopted; the same command again finishes.
    """
    place = source if target is None else target
    key = given_key(place, key_file, keys.VARIABLE)
    if key is None and encrypt:
        key = ask_new(place)
    source_key = given_key(source, source_key_file, SOURCE_VARIABLE)
    if (
        source_key is None
        and source.is_file()
        and not starts_plain(str(source))
        and source.stat().st_size
        and can_ask()
    ):
        source_key = ask(f"Key of {source.name}: ")
    with progress_bar() as progress:
        done = adopt(
            source,
            target,
            key=key,
            source_key=source_key,
            actor=actor,
            reason=reason or f"adopted from {source.name}",
            register=register,
            progress=progress,
        )
    if json:
        write_json(
            {
                "path": str(done.path),
                "log": str(done.log),
                "stream": done.stream.hex(),
                "encrypted": done.encrypted,
                "finished_earlier_run": done.finished,
                "seconds": round(done.seconds, 3),
            }
        )
        return
    write_fields(
        {
            "adopted": done.path,
            "log": done.log,
            "encrypted": "yes" if done.encrypted else "no: no key was given",
            "note": "an interrupted adoption was finished" if done.finished else None,
            "took": f"{done.seconds:.1f} s",
        },
        good=True,
    )
