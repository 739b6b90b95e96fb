"""``sqlite_sequence``: AUTOINCREMENT's memory, which moves without any event.

Replaying the inserts into an AUTOINCREMENT table moves its sequence as SQLite does: to the highest rowid. Live, it may
end elsewhere: ``INSERT OR IGNORE`` moves it without a row, ``OR FAIL`` keeps rows and not the sequence, and people may
write the table. So at the commit each row is compared with what replay would make of it, and logged if it differs.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import apsw

from veritydb.events import Clear, Image, Op, Rows, Schema, Sequence, Value
from veritydb.hooks.buffer import INSERT, ChangeBuffer, Mark, Run
from veritydb.hooks.catalog import Catalog

State: TypeAlias = "list[tuple[int, Value, Value]]"
"""The rows: rowid, name, seq."""


class Host(Protocol):
    """What sequences need of :class:`veritydb.hooks.capture.Capture`."""

    buffer: ChangeBuffer
    catalog: Catalog


class Sequences:
    """The sequences of one transaction: as they were, or as they were last logged."""

    __slots__ = ("_base", "_host", "_logged", "_version")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._base: State = []
        self._version: int | None = None
        """``PRAGMA data_version`` when ``_base`` was true; None if it must be read."""
        self._logged: list[tuple[Mark, State]] = []
        """What was logged in this transaction, or found to need no logging, and where; the last counts."""

    def begin(self, cursor: apsw.Cursor) -> None:
        """Take note of the state at the join, if another connection may have changed it."""
        version: Any = cursor.execute("PRAGMA main.data_version").get
        if version != self._version:
            self._base = _read(cursor)
            self._version = version

    def end(self, *, committed: bool) -> None:
        """Carry over to the next transaction what this one leaves."""
        if self._logged:
            if committed:
                self._base = self._logged[-1][1]
            self._logged.clear()

    def forget(self) -> None:
        """Read the state again at the next join."""
        self._version = None

    def truncate(self, mark: Mark) -> None:
        """Take back what was logged after ``mark``."""
        while self._logged and self._logged[-1][0] >= mark:
            self._logged.pop()

    def settle(self, cursor: apsw.Cursor) -> None:
        """Log what replay would not come to by itself."""
        start, base = self._logged[-1] if self._logged else ((0, -1), self._base)
        state = _read(cursor)
        buffer = self._host.buffer
        buffer.end_run()
        here = buffer.mark()
        forced, highest = self._inserted(start)
        remade = self._schema_changed(start)
        if state != base or highest or forced or remade:
            was = _by_name(base)
            now = _by_name(state)
            if was is None or now is None:
                self._log_content(state)
            else:
                if remade:
                    # A table that was dropped took its sequence along, a new one may have brought the same again: what
                    # is as it was need not be what replay has. (Django makes tables anew so: INSERT … SELECT without a
                    # row leaves a sequence of 0.)
                    forced.update(now)
                self._log_rows(was, now, forced, highest)
        self._logged.append((here, state))

    def _log_rows(
        self, was: dict[str, Value], now: dict[str, Value], forced: set[str], highest: dict[str, int]
    ) -> None:
        add = self._host.buffer.add
        for name, value in now.items():
            expected = was.get(name)
            if name in highest:
                expected = max(expected if type(expected) is int else 0, highest[name])
            if name in forced or type(value) is not type(expected) or value != expected:
                add(Sequence(name, value))
        tables = self._host.catalog.tables
        for name in {*was, *highest, *forced}:
            # A table that is gone, or has another name now, took its row along; replaying that does the same.
            if name not in now and (name in was or ((table := tables.get(name)) is not None and table.autoincrement)):
                add(Sequence(name, None, gone=True))

    def _log_content(self, state: State) -> None:
        """Log the table as a whole: somebody has given it rows that are not sequences."""
        add = self._host.buffer.add
        add(Clear("sqlite_sequence"))
        if state:
            images: list[Image] = [(name, value) for _, name, value in state]
            add(Rows("sqlite_sequence", Op.INSERT, [rowid for rowid, _, _ in state], None, None, images))

    def _schema_changed(self, start: Mark) -> bool:
        """Whether there is a schema statement after ``start``, or may be one, in what has been spilled."""
        buffer = self._host.buffer
        return buffer.spilled_schema or any(type(entry) is Schema for entry in buffer.entries(start[0]))

    def _inserted(self, start: Mark) -> tuple[set[str], dict[str, int]]:
        """Return the tables whose sequence replay moves after ``start``: how far cannot be told, and how far it can."""
        tables = self._host.catalog.tables
        buffer = self._host.buffer
        forced: set[str] = set()
        highest: dict[str, int] = {}
        for name in buffer.spilled_tables:
            if (table := tables.get(name)) is not None and table.autoincrement:
                forced.add(name)
        for entry in buffer.entries(start[0]):
            if type(entry) is Run:
                if entry.code == INSERT and entry.table.autoincrement and entry.rowids:
                    name = entry.table.name
                    top = max(entry.rowids)
                    highest[name] = max(top, highest.get(name, 0))
            elif isinstance(entry, Rows) and (table := tables.get(entry.table)) is not None and table.autoincrement:
                forced.add(entry.table)
        return forced, highest


def _by_name(state: State) -> dict[str, Value] | None:
    """Return the sequences by table; None if the rows are not one for each table."""
    by_name = {name: value for _, name, value in state if isinstance(name, str)}
    return by_name if len(by_name) == len(state) else None


def _read(cursor: apsw.Cursor) -> State:
    rows: list[Any] = cursor.execute("SELECT rowid, name, seq FROM main.sqlite_sequence").fetchall()
    return rows
