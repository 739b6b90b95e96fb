"""``veritydb consumers``: who works on a database's changes, and how far behind they are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

import veritydb
from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, Json, KeyFile, Register
from veritydb.cli.output import count_text, printable, write_fields, write_json
from veritydb.errors import ConfigurationError
from veritydb.subscriptions import Administration

app = typer.Typer(help="Durable consumers and projections of a database.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The consumer.", show_default=False)]


@app.command("list", epilog="veritydb consumers list clinic.db")
def list_(database: Database, key_file: KeyFile = None, register: Register = None, json: Json = False) -> None:
    """List the consumers and projections, with the last transaction that each has taken something from.

    Later ones may hold nothing for it: what waits for a consumer, veritydb consumers lag counts.
    """
    with _opened(database, key_file, register) as work:
        consumers, projections = work.consumers(), work.projections()
        last = work.last_offset
    if json:
        write_json(
            {
                "last_offset": last,
                "consumers": [
                    {"name": name, "position": position, "paused": paused} for name, position, paused in consumers
                ],
                "projections": [{"name": name, "checkpoint": checkpoint} for name, checkpoint in projections],
            }
        )
        return
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("kind", "name", "last taken", f"of {last}", ""):
        table.add_column(title)
    for name, position, paused in consumers:
        table.add_row("consumer", printable(name), *_place(position, last), "paused" if paused else "")
    for name, checkpoint in projections:
        table.add_row("projection", printable(name), *_place(checkpoint, last), "")
    Console(highlight=False).print(table if table.row_count else "There are none.")


@app.command(epilog="veritydb consumers lag clinic.db billing")
def lag(
    database: Database, name: Name, key_file: KeyFile = None, register: Register = None, json: Json = False
) -> None:
    """Say what waits for a consumer: not handed out yet, in flight, dead, and how old the oldest is."""
    with _opened(database, key_file, register) as work:
        found = work.lag(name)
    age = None if found.oldest is None else max(0.0, time.time() - found.oldest / 1e6)
    if json:
        write_json(
            {
                "name": name,
                "waiting": found.waiting,
                "in_flight": found.in_flight,
                "dead": found.dead,
                "oldest_seconds": None if age is None else round(age, 3),
                "paused": found.paused,
            }
        )
        return
    write_fields(
        {
            "consumer": name + (" (paused)" if found.paused else ""),
            "waiting": count_text(found.waiting, "update"),
            "in flight": found.in_flight,
            "dead": found.dead,
            "oldest": None if age is None else f"{age:,.1f} seconds",
        },
        good=not found.dead,
    )


@app.command(
    epilog=(
        "veritydb consumers reset clinic.db billing --to -1       from the first transaction on\n\n"
        "veritydb consumers reset clinic.db billing --to now      what waits is skipped\n\n"
        "veritydb consumers reset clinic.db billing --forget"
    )
)
def reset(
    database: Database,
    name: Name,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="CURSOR", help="Go on behind this offset; -1: from the beginning; now: skip all."),
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the consumer altogether.")] = False,
    key_file: KeyFile = None,
    register: Register = None,
    json: Json = False,
) -> None:
    """Set a consumer back or ahead. What is in flight is taken from its workers, dead letters are dropped."""
    if (to is None) is not forget:
        raise ConfigurationError("reset needs either --to CURSOR or --forget; nothing was changed")
    with _opened(database, key_file, register) as work:
        if forget:
            work.forget(name)
        else:
            assert to is not None
            work.reset(name, work.last_offset if to == "now" else to)
    if json:
        write_json({"name": name, "forgotten": forget, "to": None if forget else to})


@contextlib.contextmanager
def _opened(database: Any, key_file: Any, register: str | None) -> Generator[Administration]:
    if not database.is_file():
        raise ConfigurationError(f"there is no database at {database}")
    options: dict[str, Any] = {} if register is None else {"register": register}
    connection = veritydb.connect(database, key=key_for(database, key_file), actor="veritydb consumers", **options)
    with contextlib.closing(connection), Administration(connection) as work:
        yield work


def _place(cursor: str, last: int) -> tuple[str, str]:
    offset = int(cursor.partition("@")[0].partition(".")[0])
    return cursor.partition("@")[0], "" if offset >= last else f"{count_text(last - offset, 'transaction')} ago"
