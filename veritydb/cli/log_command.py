"""``veritydb log``: what happened, who, when, and why.

The log is streamed: the first line comes at once, and a transaction of millions of rows needs no memory to match.
"""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Annotated, Protocol, TypeAlias

import typer
from rich.console import Console
from rich.text import Text

from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, Json, KeyFile
from veritydb.cli.output import json_value, printable, progress_bar, time_text
from veritydb.errors import ConfigurationError
from veritydb.events import BlobWrite, Clear, Event, Image, Op, RawText, Rows, Schema, Sequence, Setting, Value
from veritydb.records import Reader, Transaction
from veritydb.sealing import Opener
from veritydb.streams import log_folder, open_log

_SIGNS = {Op.INSERT: "+", Op.UPDATE: "~", Op.DELETE: "-"}
_VERBS = {Op.INSERT: "insert", Op.UPDATE: "update", Op.DELETE: "delete"}
_VALUE_MAX = 60
_SCHEMA_SHOWN_MAX = 3
_SQL_MAX = 100
_REPORT_EVERY = 256
"""Transactions between two reports of progress."""

Selected: TypeAlias = "tuple[Transaction, Iterator[Event]]"
"""A transaction, and those of its events that are to be shown."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "log",
        epilog=(
            "veritydb log clinic.db --last 20\n\n"
            "veritydb log clinic.db --table patients --row 17 --changes      the history of one row\n\n"
            "veritydb log clinic.db --actor dr.lee --since 2031-05-01\n\n"
            "veritydb log clinic.db --json | jq 'select(.actor == \"\")'       a JSON object a line"
        ),
    )(log)


def log(
    database: Database,
    key_file: KeyFile = None,
    first: Annotated[
        int | None, typer.Option("--from", metavar="OFFSET", min=0, help="Begin at this offset.", show_default=False)
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", metavar="COUNT", min=1, help="Only the newest ones.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="From this moment on (ISO 8601; UTC, or with a zone).")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Up to and with this moment.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only what this actor did.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="Only transactions that changed this table.")] = None,
    row: Annotated[
        int | None, typer.Option("--row", metavar="ROWID", help="Only changes of this row of --table.")
    ] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="Show every change, with the values before and after.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the transactions of the log, oldest first: offset, time, actor, what changed, why.

    DATABASE may also be the folder of a log. Times are UTC.
    """
    if row is not None and table is None:
        raise ConfigurationError("--row needs --table: row ids are those of a table")
    wanted = Wanted(_moment(since), _moment(until), actor, None if table is None else table.casefold(), row)
    key = key_for(database, key_file)
    folder = database if database.is_dir() else log_folder(database)
    opened, keyring = open_log(folder, key, database=str(database))
    with contextlib.closing(opened), progress_bar(beside_output=True) as progress:
        reader = Reader(opened, Opener(keyring))
        start = first or 0
        if last is not None and not wanted.selective:
            start = max(start, opened.head.next_offset - last)
        total = opened.head.next_offset
        found = wanted.of(reader, start, lambda done: progress("reading the log", done, total))
        if last is not None and wanted.selective:
            found = _newest(reader, wanted, found, last)
        writer: Writer = JsonLines(changes=changes) if json else Lines(changes=changes)
        for transaction, events in found:
            writer.write(transaction, events)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which transactions, and which of their changes, are to be shown."""

    since: int | None
    until: int | None
    actor: str | None
    table: str | None
    row: int | None

    @property
    def selective(self) -> bool:
        """Whether not all transactions are wanted."""
        return any(value is not None for value in (self.since, self.until, self.actor, self.table))

    def of(self, reader: Reader, start: int, progress: Callable[[int], None]) -> Iterator[Selected]:
        """Yield the transactions from offset ``start`` on that are wanted; report how far it has come."""
        for transaction in reader.transactions(start):
            if transaction.offset % _REPORT_EVERY == 0:
                progress(transaction.offset)
            if self.until is not None and transaction.timestamp > self.until:
                return  # The log's time does not go back.
            if self._admits(transaction):
                events = self.events_of(transaction)
                if self.table is None:
                    yield transaction, events
                elif (one := next(events, None)) is not None:
                    yield transaction, chain([one], events)

    def _admits(self, transaction: Transaction) -> bool:
        if self.since is not None and transaction.timestamp < self.since:
            return False
        return self.actor is None or transaction.actor == self.actor

    def events_of(self, transaction: Transaction) -> Iterator[Event]:
        """Yield what of a transaction is wanted."""
        if self.table is None:
            return transaction.events
        return (part for event in transaction.events if (part := self._part(event)) is not None)

    def _part(self, event: Event) -> Event | None:
        if not isinstance(event, (Rows, BlobWrite, Clear, Sequence)) or event.table.casefold() != self.table:
            return None
        if self.row is None:
            return event
        if isinstance(event, BlobWrite):
            return event if event.rowid == self.row else None
        if not isinstance(event, Rows) or event.rowids is None:
            return None
        after = event.rowids_after or event.rowids
        chosen = [n for n, rowid in enumerate(event.rowids) if self.row in (rowid, after[n])]
        return (
            None
            if not chosen
            else Rows(
                event.table,
                event.op,
                [event.rowids[n] for n in chosen],
                None if event.rowids_after is None else [event.rowids_after[n] for n in chosen],
                None if event.before is None else [event.before[n] for n in chosen],
                None if event.after is None else [event.after[n] for n in chosen],
                event.net,
            )
        )


def _newest(reader: Reader, wanted: Wanted, found: Iterator[Selected], count: int) -> Iterator[Selected]:
    """Yield the last ``count``. Events can be read only once, so the places are kept and read again."""
    places = deque(((transaction.offset, transaction.record.place) for transaction, _ in found), maxlen=count)
    for offset, place in places:
        transaction = next(reader.transactions(offset, place=place))
        yield transaction, wanted.events_of(transaction)


class Writer(Protocol):
    """Writes one transaction after the other."""

    def write(self, transaction: Transaction, events: Iterator[Event]) -> None:
        """Write one."""
        ...


@dataclass(slots=True)
class Summary:
    """What a transaction changed, counted while its events go by."""

    rows: Counter[tuple[str, Op]] = field(default_factory=Counter[tuple[str, Op]])
    schema: list[str] = field(default_factory=list[str])
    other: list[str] = field(default_factory=list[str])

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Rows):
            self.rows[event.table, event.op] += len(event)
        elif isinstance(event, BlobWrite):
            self.rows[event.table, Op.UPDATE] += 1
        elif isinstance(event, Schema):
            self.schema.append(event.sql)
        elif isinstance(event, Setting):
            self.other.append(f"{event.name} = {event.value}")
        elif isinstance(event, Clear):
            self.other.append(f"{event.table} rewritten")

    def text(self) -> str:
        """Return it in a few words."""
        parts = [f"{_SIGNS[op]}{count:,} {table}" for (table, op), count in self.rows.items()]
        parts += [_short(" ".join(sql.split()), _SQL_MAX) for sql in self.schema[:_SCHEMA_SHOWN_MAX]]
        if len(self.schema) > _SCHEMA_SHOWN_MAX:
            parts.append(f"{len(self.schema) - _SCHEMA_SHOWN_MAX} more schema statements")
        return ", ".join([*parts, *self.other])


class Lines:
    """For people: a line a transaction and, if asked for, a line a change below it."""

    def __init__(self, *, changes: bool) -> None:
        self._changes = changes
        self._console = Console(highlight=False, soft_wrap=True)
        self._coloured = self._console.is_terminal and not self._console.no_color

    def write(self, transaction: Transaction, events: Iterator[Event]) -> None:
        """Write one."""
        if self._changes:
            self._line(transaction, "")
            for event in events:
                for line in _change_lines(event):
                    sys.stdout.write(f"          {printable(line)}\n")
            return
        summary = Summary()
        for event in events:
            summary.add(event)
        self._line(transaction, summary.text())

    def _line(self, transaction: Transaction, what: str) -> None:
        offset, when = f"{transaction.offset:>8}", time_text(transaction.timestamp)
        actor, reason = printable(transaction.actor) or "-", printable(transaction.reason)
        what = printable(what)
        why = f"  ({reason})" if reason else ""
        if not self._coloured:  # Quicker by far, and a log may be long.
            sys.stdout.write(f"{offset}  {when}  {actor:<12}  {what}{why}".rstrip() + "\n")
            return
        self._console.print(
            Text.assemble(
                (offset, "bold"), "  ", (when, "dim"), "  ", (f"{actor:<12}", "cyan"), "  ", what, (why, "italic")
            )
        )


class JsonLines:
    """For programs: an object a line. Changes are written as they are read, before the counts."""

    def __init__(self, *, changes: bool) -> None:
        self._changes = changes

    def write(self, transaction: Transaction, events: Iterator[Event]) -> None:
        """Write one."""
        write = sys.stdout.write
        head = {
            "offset": transaction.offset,
            "time": time_text(transaction.timestamp, exact=True),
            "id": transaction.id.hex(),
            "actor": transaction.actor,
            "reason": transaction.reason,
        }
        write(json_module.dumps(head)[:-1])
        summary = Summary()
        if self._changes:
            write(', "changes": [')
            separator = ""
            for event in events:
                summary.add(event)
                for change in _change_documents(event):
                    write(separator + json_module.dumps(change, allow_nan=False))
                    separator = ", "
            write("]")
        else:
            for event in events:
                summary.add(event)
        rows: dict[str, dict[str, int]] = {}
        for (table, op), count in summary.rows.items():
            rows.setdefault(table, {})[_VERBS[op]] = count
        write(f', "rows": {json_module.dumps(rows)}, "schema": {json_module.dumps(summary.schema)}}}\n')


def _change_lines(event: Event) -> Iterator[str]:
    if isinstance(event, Rows):
        for rowid, rowid_after, before, after in _each(event):
            place = "" if rowid is None else f" {rowid}"
            if rowid_after is not None and rowid_after != rowid:
                place += f" -> {rowid_after}"
            if before is None or after is None:
                values = ", ".join(map(_value_text, before or after or ()))
            else:
                pairs = enumerate(zip(before, after, strict=True), 1)
                values = ", ".join(
                    f"#{number} {_value_text(old)} -> {_value_text(new)}"
                    for number, (old, new) in pairs
                    if old != new or type(old) is not type(new)
                )
            yield f"{_SIGNS[event.op]} {event.table}{place}: {values}"
    elif isinstance(event, BlobWrite):
        yield f"~ {event.table} {event.rowid}: {event.column}, {len(event.data):,} bytes at byte {event.offset:,}"
    elif isinstance(event, Sequence):
        yield f"~ sequence of {event.table}: {'gone' if event.gone else _value_text(event.value)}"
    else:
        summary = Summary()
        summary.add(event)
        yield f"! {event.sql if isinstance(event, Schema) else summary.text()}"


def _change_documents(event: Event) -> Iterator[dict[str, object]]:
    if isinstance(event, Rows):
        for rowid, rowid_after, before, after in _each(event):
            change: dict[str, object] = {"op": _VERBS[event.op], "table": event.table}
            if rowid is not None:
                change["rowid"] = rowid
            if rowid_after is not None and rowid_after != rowid:
                change["rowid_after"] = rowid_after
            if before is not None:
                change["before"] = list(map(json_value, before))
            if after is not None:
                change["after"] = list(map(json_value, after))
            yield change
    elif isinstance(event, Schema):
        yield {"op": "schema", "sql": event.sql}
    elif isinstance(event, BlobWrite):
        yield {
            "op": "blob",
            "table": event.table,
            "rowid": event.rowid,
            "column": event.column,
            "offset": event.offset,
            "before": event.before.hex(),
            "after": event.data.hex(),
        }
    elif isinstance(event, Setting):
        yield {"op": "setting", "name": event.name, "value": event.value}
    elif isinstance(event, Sequence):
        yield {"op": "sequence", "table": event.table, "value": json_value(event.value), "gone": event.gone}
    elif isinstance(event, Clear):
        yield {"op": "clear", "table": event.table}


def _each(event: Rows) -> Iterator[tuple[int | None, int | None, Image | None, Image | None]]:
    for number in range(len(event)):
        yield (
            None if event.rowids is None else event.rowids[number],
            None if event.rowids_after is None else event.rowids_after[number],
            None if event.before is None else event.before[number],
            None if event.after is None else event.after[number],
        )


def _value_text(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, RawText):
        return _short(f"text x'{value.hex()}'", _VALUE_MAX)
    if isinstance(value, bytes):
        return _short(f"x'{value.hex()}'", _VALUE_MAX)
    if isinstance(value, str):
        return _short("'" + value.replace("'", "''") + "'", _VALUE_MAX)
    return repr(value)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _moment(text: str | None) -> int | None:
    """Return microseconds since 1970-01-01 UTC for an ISO 8601 time."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time; write it as 2031-05-01 or 2031-05-01T12:00:00+02:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
