"""``veritydb replay``: the database again, from its log, as it is or as it was."""

from __future__ import annotations

from typing import Annotated

import typer

from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, Json, KeyFile, Register, Target
from veritydb.cli.output import count_text, progress_bar, write_fields, write_json
from veritydb.replay.rebuilding import rebuild


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "replay",
        epilog=(
            "veritydb replay clinic.db rebuilt.db\n\n"
            "veritydb replay clinic.db before.db --at 4711                    up to and with offset 4711\n\n"
            "veritydb replay clinic.db may.db --at 2031-05-01T12:00           as it was then (UTC, or with a zone)"
        ),
    )(replay)


def replay(
    database: Database,
    target: Target,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="OFFSET|TIME", help="The last offset, or the last moment (ISO 8601), to apply."),
    ] = None,
    key_file: KeyFile = None,
    register: Register = None,
    json: Json = False,
) -> None:
    """Make a new database file from the log alone; encrypted under the same key.

    DATABASE may also be the folder of a log. The new file appears whole, or not at all.
    """
    key = key_for(database, key_file)
    with progress_bar() as progress:
        made = rebuild(
            database,
            target,
            key=key,
            at=at,
            register=register,
            progress=lambda done, total: progress("replaying the log", done, total),
        )
    if json:
        write_json(
            {
                "path": str(made.path),
                "transactions": made.transactions,
                "offset": made.offset,
                "seconds": round(made.seconds, 3),
            }
        )
        return
    last = "an empty database" if made.offset is None else f"up to and with offset {made.offset}"
    write_fields(
        {
            "made": made.path,
            "holds": f"{count_text(made.transactions, 'transaction')}, {last}",
            "took": f"{made.seconds:.1f} s",
        }
    )
