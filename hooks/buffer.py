"""The change buffer: what a transaction has done so far, in order, able to forget its end.

The preupdate hook appends rows to the *current run*, a pair of lists for one table and one kind of change; the session
adds the events that no hook reports; the witness truncates at the marks it took. What exceeds the limits goes to an
:class:`Overflow` (the log's spill file), part by part, and comes back if a rollback reaches into it.

Rows are kept by run rather than one by one because that is how they are logged, and because two list appends a row are
what a bulk insert can afford. Pure: nothing here knows SQLite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Protocol, TypeAlias, cast

from veritydb.errors import CaptureError
from veritydb.events import BlobWrite, Clear, Event, Images, Op, Rows, Schema, Value
from veritydb.few_rows import FEW, RowChange
from veritydb.hooks.images import Kind, Table, mend_short_rows

INSERT = 18
DELETE = 9
UPDATE = 23
"""SQLite's numbers for the kinds of change, as the preupdate hook reports them."""

_OPS = {INSERT: Op.INSERT, UPDATE: Op.UPDATE, DELETE: Op.DELETE}
_CODES = {op: code for code, op in _OPS.items()}

ROWS_MAX = 16_384
BYTES_MAX = 1 << 20
"""What stays in memory before a part goes to the overflow. A part becomes one sealed part of a record."""

_ROW_BYTES = 24
"""What a row costs in a record beside its values, about."""
_VALUE_BYTES = 9
_STEP_FIRST = 4
_STEP_MAX = 2_048
"""Rows of a run between two looks at the size; a step is at most twice the one before."""
_RUNS_STEP = 16
"""Entries between two looks at the size."""
_SAMPLE = 16
"""Rows looked at to estimate the size of a step."""

Mark: TypeAlias = "tuple[int, int]"
"""A place in the buffer: how many entries, and how many rows the last of them has (-1: take it whole)."""


class Overflow(Protocol):
    """Where parts go that the buffer does not keep."""

    @property
    def count(self) -> int:
        """How many parts it holds."""
        ...

    def add(self, events: list[Event]) -> None:
        """Take the next part."""
        ...

    def read(self, index: int) -> list[Event]:
        """Return a part, equal to what was given."""
        ...

    def truncate(self, count: int) -> None:
        """Forget all parts but the first ``count``."""
        ...


class Run:
    """Consecutive changes of one kind to one table.

    The lists of rowids have one entry a row; those of images have all values, row by row, so that nothing is kept that
    the garbage collector would have to look through.
    """

    __slots__ = ("after", "before", "code", "rowids", "rowids_after", "table")

    def __init__(self, table: Table, code: int) -> None:
        self.table = table
        self.code = code
        self.rowids: list[int] = []
        self.rowids_after: list[int] = []
        self.before: list[Value] = []
        self.after: list[Value] = []

    @property
    def width(self) -> int:
        """Values in an image."""
        return len(self.after or self.before) // len(self.rowids)

    def cut(self, length: int) -> None:
        """Forget all rows but the first ``length``."""
        if length < len(self.rowids):
            values = length * self.width
            del self.before[values:], self.after[values:], self.rowids_after[length:], self.rowids[length:]

    def changes(self) -> list[RowChange]:
        """Return the run row by row."""
        table, rowids, code = self.table, self.rowids, self.code
        op, name, keyed = _OPS[code], table.name, table.without_rowid
        before, after = self.before, self.after
        if table.real_columns and code != INSERT:
            before = mend_short_rows(before, self.width, table.real_columns)
        if len(rowids) == 1:
            return [
                (
                    op,
                    name,
                    None if keyed else rowids[0],
                    self.rowids_after[0] if code == UPDATE else None,
                    None if code == INSERT else before,
                    None if code == DELETE else after,
                )
            ]
        width = self.width
        changes: list[RowChange] = []
        at = 0
        for number, rowid in enumerate(rowids):
            end = at + width
            changes.append(
                (
                    op,
                    name,
                    None if keyed else rowid,
                    self.rowids_after[number] if code == UPDATE else None,
                    None if code == INSERT else before[at:end],
                    None if code == DELETE else after[at:end],
                )
            )
            at = end
        return changes

    def event(self) -> Rows:
        """Return the run as it is logged."""
        table = self.table
        code = self.code
        width = self.width
        rowids: list[int] | None = self.rowids
        if table.without_rowid:
            rowids = None
        if code == INSERT:
            return Rows(table.name, Op.INSERT, rowids, None, None, Images(self.after, width))
        before = Images(mend_short_rows(self.before, width, table.real_columns), width)
        if code == DELETE:
            return Rows(table.name, Op.DELETE, rowids, None, before, None)
        rowids_after = self.rowids_after if rowids is not None and self.rowids_after != rowids else None
        return Rows(table.name, Op.UPDATE, rowids, rowids_after, before, Images(self.after, width))


class ChangeBuffer:
    """The changes of the transaction in progress.

    The hook reads and writes the first group of attributes directly, by row.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_ended",
        "_entries",
        "_holes",
        "_measured",
        "_overflow",
        "_parts",
        "_rows_max",
        "_runs_check_at",
        "_seen",
        "_spilled",
        "add_after",
        "add_before",
        "add_rowid",
        "add_rowid_after",
        "check_at",
        "code",
        "name",
        "on_truncate",
        "rowids",
        "spilled_schema",
        "spilled_tables",
    )

    add_rowid: Callable[[int], None]
    add_rowid_after: Callable[[int], None]
    add_before: Callable[[Any], None]
    add_after: Callable[[Any], None]
    """Append to the lists of the current run, an image by its values; APSW types values more widely than they are."""

    def __init__(
        self, overflow: Overflow | None = None, *, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self.name: str | None = None
        """Table of the current run; None if the next row begins one."""
        self.code = 0
        self.rowids: list[int] = []
        self.check_at = _STEP_FIRST
        """Length of the current run at which :meth:`look` is due."""

        self._entries: list[Run | Event] = []
        self._ended = False
        """Whether the last run may not be gone on with."""
        self._overflow = overflow
        self._parts: list[int] = []
        """For each part in the overflow, how many entries lie before its end."""
        self._holes: list[tuple[int, ...]] = []
        """For each part, where in it emptied runs stood: they are not handed out, but marks count them."""
        self._spilled = False
        """Whether the overflow was used by this transaction."""
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._measured = 0
        """Entries whose size is in ``_bytes``, and"""
        self._seen = 0
        """how many rows of the next one."""
        self._runs_check_at = _RUNS_STEP
        self.spilled_tables: set[str] = set()
        """Tables of which rows have gone to the overflow in this transaction, even if they were rolled back since."""
        self.spilled_schema = False
        """Whether a schema statement went there."""
        self.on_truncate: Callable[[Mark], None] | None = None
        """Told of each truncation that removed something."""

    def __len__(self) -> int:
        """How many entries (runs and events) there are, spilled ones too; 0 if nothing was captured."""
        entries = self._entries
        return len(entries) + (self._parts[-1] if self._parts else 0)

    def any(self) -> bool:
        """Whether there is anything to log."""
        for entry in self._entries:
            if type(entry) is not Run or entry.rowids:
                return True
        return bool(self._parts)

    @property
    def approximate_bytes(self) -> int:
        """What is in memory, as it would be logged, within a factor of two or so."""
        self._measure()
        return self._bytes

    @property
    def spilled_count(self) -> int:
        """Parts in the overflow."""
        return len(self._parts)

    # ---- what the hook does

    def begin_run(self, table: Table, code: int) -> Run:
        """Begin a run, or go on with the last; the hook appends to its lists through ``add_rowid`` and the others."""
        if self._overflow is not None and len(self._entries) >= self._runs_check_at:
            self._runs_check_at += _RUNS_STEP
            self.look()
        entries = self._entries
        last = entries[-1] if entries else None
        if type(last) is Run and last.table is table and last.code == code and not self._ended:
            run = last  # A rollback, or a row of another kind that was rolled back, had interrupted it.
        else:
            run = Run(table, code)
            entries.append(run)
        self._ended = False
        self.code = code
        self.rowids = run.rowids
        self.add_rowid = run.rowids.append
        self.add_rowid_after = run.rowids_after.append
        self.add_before = run.before.extend
        self.add_after = run.after.extend
        self.name = table.name
        self.check_at = len(run.rowids) + _STEP_FIRST
        return run

    def pause_run(self) -> None:
        """Let the next row come to :meth:`begin_run`, which may go on with the run."""
        self.name = None

    def end_run(self) -> None:
        """Let the next row begin another run."""
        self.name = None
        self._ended = True

    def look(self) -> None:
        """Estimate the size, spill if it is too much, and say when to look again."""
        if self._overflow is None:
            self.check_at = 1 << 62
            return
        before = self._bytes
        step = max(len(self.rowids) - self._seen, 1)
        self._measure()
        if self._bytes >= self._bytes_max or len(self.rowids) >= self._rows_max or len(self._entries) >= self._rows_max:
            self.spill()
            return
        room = (self._bytes_max - self._bytes) * step // max(self._bytes - before, 1)
        self.check_at = len(self.rowids) + min(max(room, 1), 2 * step, _STEP_MAX)

    def _measure(self) -> None:
        """Bring ``_bytes`` up to date, from samples of the rows that came since the last time."""
        entries = self._entries
        for entry in entries[self._measured :]:
            if type(entry) is Run:
                self._bytes += _run_bytes(entry, self._seen)
            self._seen = 0
        if entries:
            # The last may grow, or have been an event, whose size was added when it was.
            self._measured = len(entries) - 1
            last = entries[-1]
            self._seen = len(last.rowids) if type(last) is Run else 0

    # ---- what the session and the witness do

    def add(self, event: Event) -> None:
        """Append an event that no hook reports."""
        self.end_run()
        self._entries.append(event)
        self._bytes += _event_bytes(event)
        if self._overflow is not None and self._bytes >= self._bytes_max:
            self.spill()

    def mark(self) -> Mark:
        """Return the place reached, for :meth:`truncate`."""
        entries = self._entries
        count = self._parts[-1] if self._parts else 0
        if not entries:
            return (count, -1)
        last = entries[-1]
        return (count + len(entries), len(last.rowids) if type(last) is Run else -1)

    def truncate(self, mark: Mark) -> None:
        """Forget everything after ``mark``."""
        if mark == self.mark():
            return
        count, length = mark
        self.name = None
        self._ended = False
        base = self._parts[-1] if self._parts else 0
        if count < base or (count == base and length >= 0 and base):
            self._unspill(count)
            base = self._parts[-1] if self._parts else 0
        del self._entries[count - base :]
        if length >= 0 and self._entries:
            last = self._entries[-1]
            assert type(last) is Run  # Only in a run a mark counts rows.
            last.cut(length)
        self._recount()
        if self.on_truncate is not None:
            self.on_truncate(mark)

    def clear(self) -> None:
        """Forget the transaction.

        What makes the buffer look empty goes last, so that an interrupted clear shows, and can be repeated.
        """
        self.name = None
        self.rowids = []
        self._ended = False
        self._bytes = self._measured = self._seen = 0
        self._runs_check_at = _RUNS_STEP
        if self._spilled:
            assert self._overflow is not None
            self._overflow.truncate(0)
            self.spilled_tables.clear()
            self.spilled_schema = False
            self._holes.clear()
            self._parts.clear()
            self._spilled = False
        self._entries = []

    def entries(self, start: int = 0) -> list[Run | Event]:
        """Return the entries in memory from the one with number ``start`` on (numbers count spilled ones too)."""
        base = self._parts[-1] if self._parts else 0
        return self._entries[max(start - base, 0) :]

    def drop_runs(self, mark: Mark, unwanted: Callable[[Run], bool]) -> None:
        """Empty the runs after ``mark`` that are ``unwanted``; what has been spilled stays."""
        self.end_run()
        for entry in self.entries(mark[0]):
            if type(entry) is Run and unwanted(entry):
                entry.cut(0)

    def events(self) -> list[Event]:
        """Return what is in memory: all of the transaction, or what follows the spilled parts."""
        events: list[Event] = []
        append = events.append
        for entry in self._entries:
            if type(entry) is not Run:
                append(cast(Event, entry))
            elif entry.rowids and entry.table.kind != Kind.IGNORED:
                append(entry.event())
        return events

    def few(self) -> list[RowChange] | None:
        """Return the row changes that are all of the transaction, or None if they are many or not all there is.

        So the commonest commits need no events; :func:`veritydb.codec.encode_rows` takes them.
        """
        if self._parts:
            return None
        room = FEW
        changes: list[RowChange] = []
        for run in self._entries:
            if type(run) is not Run or run.table.kind is not Kind.PLAIN:
                return None
            count = len(run.rowids)
            room -= count
            if room < 0:
                return None
            if count:
                changes += run.changes()
        return changes or None

    # ---- the overflow

    def spill(self) -> None:
        """Hand what is in memory to the overflow as one part."""
        overflow = self._overflow
        if overflow is None or not self._entries:
            return
        self.name = None
        part: list[Event] = []
        holes: list[int] = []
        for place, entry in enumerate(self._entries):
            if type(entry) is Run:
                if not entry.rowids:
                    holes.append(place)
                    continue
                if not entry.table.resolved:
                    raise CaptureError(f"rows of {entry.table.name} came before its schema was known")
                self.spilled_tables.add(entry.table.name)
                part.append(entry.event())
            else:
                event = cast(Event, entry)
                if isinstance(event, Rows | Clear | BlobWrite):
                    self.spilled_tables.add(event.table)
                elif isinstance(event, Schema):
                    self.spilled_schema = True
                part.append(event)
        end = len(self)
        self._spilled = True
        overflow.add(part)
        self._parts.append(end)
        self._holes.append(tuple(holes))
        self._entries = []
        self._bytes = self._measured = self._seen = 0
        self._runs_check_at = _RUNS_STEP
        self.rowids = []

    def _unspill(self, count: int) -> None:
        """Bring back the part in which entry number ``count`` is the last to stay; forget the parts after it."""
        overflow = self._overflow
        assert overflow is not None
        index = next(i for i, end in enumerate(self._parts) if end >= count)
        self._entries = [_entry(event) for event in overflow.read(index)] if count else []
        for place in self._holes[index]:
            self._entries.insert(place, Run(_NO_TABLE, INSERT))
        overflow.truncate(index)
        del self._parts[index:], self._holes[index:]

    def _recount(self) -> None:
        """Estimate the size anew after entries went."""
        self._bytes = self._measured = self._seen = 0
        for entry in self._entries:
            if type(entry) is not Run:
                self._bytes += _event_bytes(cast(Event, entry))
        self._runs_check_at = len(self._entries) + _RUNS_STEP


def _entry(event: Event) -> Run | Event:
    """Return the run that became ``event``, so that it can be cut; net runs and other events are taken whole."""
    if not isinstance(event, Rows) or event.net:
        return event
    table = Table(event.table)
    table.without_rowid = event.rowids is None
    run = Run(table, _CODES[event.op])
    run.rowids = event.rowids if event.rowids is not None else [0] * len(event)
    run.rowids_after = list(event.rowids_after if event.rowids_after is not None else run.rowids)
    run.before = list(chain.from_iterable(event.before or ()))
    run.after = list(chain.from_iterable(event.after or ()))
    return run


def _run_bytes(run: Run, start: int) -> int:
    """Return about how many bytes the rows of ``run`` from ``start`` on take in a record."""
    count = len(run.rowids) - start
    size = _ROW_BYTES * count
    if count > 0:
        width = run.width
        stride = max(count // _SAMPLE, 1)
        for values in (run.before, run.after):
            if values:
                rows = range(start, len(run.rowids), stride)
                sample = sum([_values_bytes(values[row * width : (row + 1) * width]) for row in rows])
                size += sample * count // len(rows)
    return size


def _event_bytes(event: Event) -> int:
    if not isinstance(event, Rows):
        return 2 * _ROW_BYTES
    return _ROW_BYTES * len(event) + sum(map(_values_bytes, (*(event.before or ()), *(event.after or ()))))


def _values_bytes(values: Iterable[Value]) -> int:
    return sum([len(value) if isinstance(value, str | bytes) else _VALUE_BYTES for value in values])


_NO_TABLE = Table("", Kind.IGNORED)
