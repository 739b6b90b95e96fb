"""Where two databases differ, in words.

"Replay equals life" is checked with this: by ``veritydb verify``, and by every test that has a log.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import apsw

from veritydb.replay.snapshot import Content, Snapshot, describe, rows_of

_SHOWN_MAX = 300
_NO_ROW = "no row"


def differences(one: apsw.Connection | Snapshot, other: apsw.Connection | Snapshot) -> list[str]:
    """Return what is not alike in two databases, a sentence for each thing; an empty list if nothing.

    Compared are the header fields, the schema, and every row: rowids, values, storage classes, bytes. Given two
    connections, the first row that differs in each table is shown. Both should be in a transaction if others write.
    """
    first = one if isinstance(one, Snapshot) else describe(one)
    second = other if isinstance(other, Snapshot) else describe(other)
    found = [
        f"{name} is {first.settings[name]!r} and {second.settings[name]!r}"
        for name in first.settings
        if first.settings[name] != second.settings[name]
    ]
    found += _schema_differences(first, second)
    for table in sorted(first.tables.keys() | second.tables.keys()):
        content, content_other = first.tables.get(table), second.tables.get(table)
        if content == content_other:
            continue
        if content is None or content_other is None:
            lacking, having = ("first", content_other) if content is None else ("second", content)
            assert having is not None
            found.append(f"table {table} with {having.count} rows is not in the {lacking}")
        elif isinstance(one, Snapshot) or isinstance(other, Snapshot):
            found.append(f"table {table}: its rows differ ({content.count} and {content_other.count} rows)")
        else:
            found.append(_first_difference(one, other, table, content, content_other))
    return found


def _schema_differences(first: Snapshot, second: Snapshot) -> list[str]:
    of_first = {(kind, name): (table, sql) for kind, name, table, sql in first.schema}
    of_second = {(kind, name): (table, sql) for kind, name, table, sql in second.schema}
    found: list[str] = []
    for kind, name in sorted(of_first.keys() | of_second.keys()):
        entry, entry_other = of_first.get((kind, name)), of_second.get((kind, name))
        if entry != entry_other:
            found.append(f"{kind} {name} is {_shown(entry)} and {_shown(entry_other)}")
    return found


def _first_difference(
    one: apsw.Connection, other: apsw.Connection, table: str, content: Content, content_other: Content
) -> str:
    exact = content.exact or content_other.exact
    missing: Any = _NO_ROW
    pairs = zip_longest(rows_of(one, table, exact=exact), rows_of(other, table, exact=exact), fillvalue=missing)
    for number, (row, row_other) in enumerate(pairs, 1):
        # ascii() because 1 == 1.0, which are two values here.
        if ascii(row) != ascii(row_other):
            return (
                f"table {table} ({content.count} and {content_other.count} rows): "
                f"row {number} is {_shown(row)} and {_shown(row_other)}"
            )
    return f"table {table}: its rows differed a moment ago, and no longer"


def _shown(value: object) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"
