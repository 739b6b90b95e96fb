"""Net effects of a transaction: as the log tells it, and as SQLite's session extension tells it of a twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import apsw

from veritydb.events import BlobWrite, Clear, Event, Op, Rows, Schema

if TYPE_CHECKING:
    from collections.abc import Iterable

Net: TypeAlias = "dict[tuple[str, str], tuple[str, dict[int, tuple[Any, Any]]]]"
"""(table, repr of the primary key) → (operation, {column number: (before, after)})."""


class Unknown(Exception):
    """The net effect cannot be told from the events alone."""


def of_events(events: Iterable[Event], keys: dict[str, tuple[int, ...]]) -> Net:
    """Fold the row changes of the tables that ``keys`` names, with the numbers of their key columns."""
    found: dict[tuple[str, str], list[Any]] = {}

    def change(table: str, before: tuple[Any, ...] | None, after: tuple[Any, ...] | None) -> None:
        image = after if after is not None else before
        assert image is not None
        key = tuple(image[number] for number in keys[table])
        if None not in key:  # The extension leaves out rows with a NULL in their key.
            entry = found.setdefault((table, repr(key)), [before, None])
            entry[1] = after

    for event in events:
        if isinstance(event, Schema | Clear | BlobWrite):
            raise Unknown
        if not isinstance(event, Rows) or event.table not in keys:
            continue
        numbers = keys[event.table]
        befores = [None] * len(event) if event.before is None else [_plain(image) for image in event.before]
        afters = [None] * len(event) if event.after is None else [_plain(image) for image in event.after]
        pairs = list(zip(befores, afters, strict=True))
        if event.net and event.op is Op.UPDATE:
            pairs = [(before, None) for before, _ in pairs] + [(None, after) for _, after in pairs]
        for before, after in pairs:
            moved = before is not None and after is not None and any(before[n] != after[n] for n in numbers)
            if moved:
                change(event.table, before, None)
                change(event.table, None, after)
            else:
                change(event.table, before, after)

    net: Net = {}
    for identity, (before, after) in found.items():
        if repr(before) != repr(after):
            net[identity] = _named(before, after)
    return net


def of_changeset(changeset: bytes, tables: frozenset[str]) -> Net:
    """Read what the session extension recorded of ``tables``."""
    net: Net = {}
    for change in apsw.Changeset.iter(changeset):
        if change.name not in tables:
            continue
        old, new = _plain(change.old), _plain(change.new)
        image = new if old is None else old
        assert image is not None
        key = tuple(image[number] for number in sorted(change.pk_columns))
        if old is None or new is None:
            net[change.name, repr(key)] = _named(old, new)
        else:
            columns = {
                number: (before, after)
                for number, (before, after) in enumerate(zip(old, new, strict=True))
                if after is not apsw.no_change
            }
            net[change.name, repr(key)] = ("update", columns)
    return net


def _plain(image: Any) -> Any:
    """Return an image with 0.0 for -0.0, between which the extension sees no difference."""
    return None if image is None else tuple(value + 0.0 if isinstance(value, float) else value for value in image)


def _named(before: tuple[Any, ...] | None, after: tuple[Any, ...] | None) -> tuple[str, dict[int, tuple[Any, Any]]]:
    if before is None:
        assert after is not None
        return "insert", {number: (None, value) for number, value in enumerate(after)}
    if after is None:
        return "delete", {number: (value, None) for number, value in enumerate(before)}
    changed = {
        number: (old, new)
        for number, (old, new) in enumerate(zip(before, after, strict=True))
        if repr(old) != repr(new)
    }
    return "update", changed


def key_columns(db: apsw.Connection, tables: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return, for each table, the numbers of the columns of its primary key, in table order."""
    return {
        table: tuple(number for number, pk in db.execute("SELECT cid, pk FROM pragma_table_info(?)", (table,)) if pk)
        for table in sorted(tables)
    }
