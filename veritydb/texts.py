"""Rows that need more than APSW gives: converters, text factories, and text that is not UTF-8.

APSW decodes text itself. So a converter or a text factory gets the text encoded again, and only if some text cannot be
decoded is the query run once more in a form that returns text as bytes. The cursor makes a :class:`Converter` for a
statement only if ``detect_types`` or ``text_factory`` asks for it; else no code here runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import apsw

from veritydb import adaptation
from veritydb.adaptation import RowConverter
from veritydb.errors import OperationalError

if TYPE_CHECKING:
    from veritydb.planner import Plan

_MESSAGE_MAX = 199


class _Text(bytes):
    """Text as its bytes, from a query that was run again."""

    __slots__ = ()


class Converter:
    """Converts the rows of one execution, and counts them, so that a second run can go on where the first failed."""

    __slots__ = ("_again", "_as_bytes", "_converters", "_count", "_factory", "_places")

    def __init__(
        self,
        converters: Sequence[adaptation.Converter | None] | None,
        factory: Callable[[], Any],
        again: Callable[[], Iterator[tuple[Any, ...]] | None],
    ) -> None:
        self._converters = converters
        self._factory = factory
        self._again = again
        self._count = 0
        self._as_bytes = False
        """Whether text comes as its bytes, from the second run."""
        self._places = [(place, converter) for place, converter in enumerate(converters or ()) if converter is not None]

    def __call__(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return ``row`` as the program wants it."""
        self._count += 1
        factory = self._factory()
        converters = self._converters
        if converters is None:
            return tuple([self._value(value, factory) for value in row])
        if factory is str and not self._as_bytes and len(converters) == len(row):
            # The usual case: the few columns that have a converter, and text as it came.
            made = list(row)
            for position, convert in self._places:
                value = made[position]
                if value.__class__ is str:
                    made[position] = convert(value.encode()) if value else None
                elif value is not None:
                    data = adaptation.as_bytes(value)
                    made[position] = convert(data) if data else None
            return tuple(made)
        values: list[Any] = []
        for position, value in enumerate(row):
            converter = converters[position] if position < len(converters) else None
            if converter is None:
                values.append(self._value(value, factory))
            else:
                # Zero-length values become None under a converter, as they do in sqlite3.
                data = adaptation.as_bytes(value)
                values.append(converter(bytes(data)) if data else None)
        return tuple(values)

    @staticmethod
    def _value(value: Any, factory: Any) -> Any:
        if value.__class__ is str:
            return value if factory is str else factory(value.encode())
        if value.__class__ is _Text:
            return bytes(value).decode() if factory is str else factory(bytes(value))
        return value

    def resume(self, in_hand: int) -> Iterator[tuple[Any, ...]] | None:
        """Return the rows that follow the ones that were converted and ``in_hand`` more, text as bytes."""
        rows = self._again()
        self._as_bytes = True
        return None if rows is None else islice(rows, self._count + in_hand, None)


def rows_as_bytes(db: apsw.Connection, plan: Plan, bindings: Any) -> Iterator[tuple[Any, ...]] | None:
    """Run the query of ``plan`` again and yield its rows with text as bytes; None if it is no query that can be."""
    if not plan.reads or plan.description is None:
        return None
    names = [f"c{number}" for number in range(len(plan.description))]
    columns = ", ".join(
        f"typeof({name}) = 'text', CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
        for name in names
    )
    query = plan.sql.rstrip().rstrip(";")
    cursor = db.cursor()
    try:
        cursor.execute(
            f"WITH veritydb_text({', '.join(names)}) AS (\n{query}\n) SELECT {columns} FROM veritydb_text", bindings
        )
    except apsw.Error:
        return None  # A PRAGMA or an EXPLAIN cannot stand there.
    return map(_joined, cursor)


def _joined(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([_Text(value) if text else value for text, value in zip(row[::2], row[1::2], strict=True)])


def undecodable(text: bytes, plan: Plan, again: RowsAgain) -> OperationalError:
    """Return what sqlite3 raises for text that is not UTF-8, with the name of its column."""
    names = [column[0] for column in plan.description or ()]
    name = names[0] if names else ""
    if len(names) > 1:
        for row in again() or ():
            position = next((at for at, value in enumerate(row) if value.__class__ is _Text and value == text), None)
            if position is not None:
                name = names[position]
                break
    message = f"Could not decode to UTF-8 column '{name}' with text '".encode() + text + b"'"
    message = message.split(b"\0", 1)[0][:_MESSAGE_MAX]
    return OperationalError(message.decode("ascii", "replace"))


RowsAgain = Callable[[], "Iterator[tuple[Any, ...]] | None"]

__all__ = ["Converter", "RowConverter", "rows_as_bytes", "undecodable"]
