"""``veritydb tail``: what changes, as it is committed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, Json, KeyFile, Register
from veritydb.cli.output import json_value, printable, time_text, write_json
from veritydb.replay.registering import load
from veritydb.subscriptions import (
    Resync,
    SchemaChange,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    TableCleared,
    TableUpdate,
    Update,
    open_feed,
)
from veritydb.subscriptions.updates import Row, RowId

_SIGNS = {"insert": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}
_VALUE_MAX = 60


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "tail",
        epilog=(
            "veritydb tail clinic.db --table patients --changes\n\n"
            "veritydb tail clinic.db --since -1 --json | jq 'select(.table == \"visits\")'   from the first\n\n"
            "veritydb tail clinic.db --snapshot --json      the rows there are, then what changes"
        ),
    )(tail)


def tail(
    database: Database,
    key_file: KeyFile = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table; may be repeated.", show_default=False)
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option("--action", help="Only insert, update, or delete; may be repeated.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="CURSOR", help="Begin behind this offset or cursor; -1: at the beginning."),
    ] = None,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Show the rows that there are first.")] = False,
    changes: Annotated[bool, typer.Option("--changes", help="Show the values before and after.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="End after so many.", show_default=False)
    ] = None,
    until_now: Annotated[bool, typer.Option("--no-follow", help="End with what is committed now.")] = False,
    register: Register = None,
    json: Json = False,
) -> None:
    """Show changes as they are committed, by whatever program; Control-C ends it.

    Nothing is locked, and no writer waits. With --json, one object a line; its "cursor" goes into --since.
    """
    key = key_for(database, key_file)
    write = _write_json if json else _Lines().write
    with (
        open_feed(database, key=key, register=load(register)) as feed,
        feed.subscribe(
            table or None, action or None, since=since, images=changes or json, snapshot=snapshot
        ) as updates,
    ):
        left = count
        while left is None or left > 0:
            update = updates.get(0 if until_now else None)
            if update is None:
                return
            write(update)
            sys.stdout.flush()
            if left is not None:
                left -= 1


def as_json(update: Update) -> dict[str, object]:
    """Return an update as JSON has it; docs/reference/cli.md lists the fields."""
    told: dict[str, object] = {"kind": _KINDS[type(update)], "cursor": str(update.cursor), "offset": update.offset}
    if isinstance(update, TableUpdate | SchemaChange | TableCleared):
        told |= {
            "time": time_text(update.timestamp, exact=True),
            "actor": update.actor,
            "reason": update.reason,
        }
    if isinstance(update, TableUpdate):
        told |= {
            "table": update.table,
            "action": update.action,
            "row_id": _id(update.row_id),
            "row_id_before": _id(update.row_id_before),
            "changed": list(update.changed),
            "before": _row(update.before),
            "after": _row(update.after),
        }
    elif isinstance(update, SchemaChange):
        told |= {
            "sql": update.sql,
            "created": sorted(update.created),
            "dropped": sorted(update.dropped),
            "altered": sorted(update.altered),
        }
    elif isinstance(update, TableCleared):
        told["table"] = update.table
    elif isinstance(update, Resync):
        told["why"] = update.why
    elif isinstance(update, SnapshotBegin):
        told["tables"] = list(update.tables)
    elif isinstance(update, SnapshotRow):
        told |= {"table": update.table, "row_id": _id(update.row_id), "row": _row(update.row)}
    return told


_KINDS: dict[type, str] = {
    TableUpdate: "update",
    SchemaChange: "schema",
    TableCleared: "cleared",
    Resync: "resync",
    SnapshotBegin: "snapshot-begin",
    SnapshotRow: "snapshot-row",
    SnapshotEnd: "snapshot-end",
}


def _write_json(update: Update) -> None:
    write_json(as_json(update))


class _Lines:
    """A line for each, for people."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def write(self, update: Update) -> None:
        if isinstance(update, TableUpdate | SchemaChange | TableCleared):
            head = f"{update.offset:>8}  {time_text(update.timestamp)}  {printable(update.actor) or '-'}  "
        else:
            head = f"{update.offset:>8}  "
        line = Text(head, style="dim")
        if isinstance(update, TableUpdate):
            sign, style = _SIGNS[update.action]
            line.append(f"{sign} {printable(update.table)} {_shown(_id(update.row_id))}", style)
            line.append(_difference(update))
            if update.reason:
                line.append(f"  ({printable(update.reason)})", "dim")
        elif isinstance(update, SchemaChange):
            line.append(f"! {_cut(printable(' '.join(update.sql.split())), 100)}", "magenta")
        elif isinstance(update, TableCleared):
            line.append(f"- {printable(update.table)}: all rows; what follows is its new content", "red")
        elif isinstance(update, Resync):
            line.append(f"resync: {printable(update.why)}", "bold red")
        elif isinstance(update, SnapshotBegin):
            line.append(f"snapshot of {printable(', '.join(update.tables)) or 'nothing'}", "dim")
        elif isinstance(update, SnapshotRow):
            line.append(f"= {printable(update.table)} {_shown(_id(update.row_id))}")
            if update.row is not None:
                line.append(
                    "  " + ", ".join(f"{printable(name)} {_shown(value)}" for name, value in update.row.items())
                )
        else:
            line.append("end of the snapshot", "dim")
        self._console.print(line)


def _difference(update: TableUpdate) -> str:
    before, after = update.before, update.after
    if before is None and after is None:
        return ""
    parts: list[str] = []
    for name in update.changed:
        if before is not None and after is not None:
            parts.append(f"{printable(name)} {_shown(before.get(name))} -> {_shown(after.get(name))}")
        else:
            parts.append(f"{printable(name)} {_shown((after or before or {}).get(name))}")
    return "  " + ", ".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    return _cut(printable(repr(value)), _VALUE_MAX)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _id(row_id: RowId) -> object:
    return [json_value(each) for each in row_id] if isinstance(row_id, tuple) else row_id


def _row(row: Row | None) -> object:
    return None if row is None else {name: json_value(value) for name, value in row.items()}
