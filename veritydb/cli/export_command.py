"""``veritydb export``: a plain SQLite file again."""

from __future__ import annotations

import typer

from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, Json, KeyFile, Register, Target
from veritydb.cli.output import count_text, progress_bar, size_text, write_fields, write_json
from veritydb.export import export


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "export",
        epilog=(
            "veritydb export clinic.db plain.db\n\n"
            "The past: veritydb replay clinic.db then.db --at TIME, and then verify or export that."
        ),
    )(export_command)


def export_command(
    database: Database, target: Target, key_file: KeyFile = None, register: Register = None, json: Json = False
) -> None:
    """Write a plain SQLite file with the same content. It is NOT encrypted, whatever the database is.

    Schema, rows, row ids and header fields are kept; the table in which VerityDB notes the offset is left out.
    """
    key = key_for(database, key_file)
    with progress_bar() as progress:
        made = export(database, target, key=key, register=register, progress=progress)
    if json:
        write_json(
            {
                "path": str(made.path),
                "transactions": made.next_offset,
                "bytes": made.bytes,
                "seconds": round(made.seconds, 3),
            }
        )
        return
    write_fields(
        {
            "exported": made.path,
            "encrypted": "no",
            "holds": f"{count_text(made.next_offset, 'transaction')}, {size_text(made.bytes)}",
            "took": f"{made.seconds:.1f} s",
        }
    )
