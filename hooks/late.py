"""Late rows: rows whose images the hook cannot have, read when the transaction is about to commit.

SQLite or APSW does not show the hook rows of tables with VIRTUAL generated columns, text that is not valid UTF-8, any
text of a UTF-16 database as it is stored, and what an incremental blob write puts in place. Of such a row the hook only
remembers the rowid. :meth:`Late.settle` then reads it twice: as it is now, and, through a connection that sees the file
as it was when the transaction began, as it was before. It logs the difference as *net* runs: one delete, one update and
one insert run, to be applied as sets. What the hook did record of such a table since the last settlement is dropped,
the difference includes it.

The settlement stands in the buffer where it was made: at the commit, and before each schema statement. Where the state
before cannot be known (a database in memory, a reader that is locked out, a table of which the log will already have
changed something: a schema statement, an earlier settlement, a spilled part), the whole table is logged: cleared, then
filled.

What was touched is kept as a superset: a rollback that undoes a change leaves its rowid, for equal images are no
difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Protocol, TypeAlias

import apsw

from veritydb.events import BlobWrite, Clear, Image, Op, Rows, Schema
from veritydb.hooks.buffer import ChangeBuffer, Mark, Run
from veritydb.hooks.catalog import Catalog
from veritydb.hooks.hidden import refusal
from veritydb.hooks.images import Table
from veritydb.hooks.stored import Change, Key, StoredTable, TooManyRows, differences

ROWIDS_MAX = 1_000_000
"""Rowids remembered of one table; beyond, the whole table is compared."""
CHUNK_ROWS = 1_000
"""Rows in one event, where a difference or a table's content is logged in several."""

Touched: TypeAlias = "dict[str, tuple[Table, set[int] | None]]"
"""By table: rowids; None for the whole table."""

_UNREADABLE = (apsw.BusyError, apsw.LockedError, apsw.SQLError, apsw.SchemaChangeError, TooManyRows)


class Host(Protocol):
    """What late rows need of :class:`veritydb.hooks.capture.Capture`."""

    db: apsw.Connection
    buffer: ChangeBuffer
    catalog: Catalog

    def open_reader(self) -> apsw.Connection | None:
        """Return a connection that sees the state at the beginning of the transaction, if there is one."""
        ...

    def numbers(self, table: Table) -> list[int]:
        """Return the row ids of a table that hides them, in order."""
        ...


class Late:
    """The rows of one transaction that are to be read late."""

    __slots__ = ("_host", "_start", "settled", "touched")

    def __init__(self, host: Host) -> None:
        self._host = host
        self.touched: Touched = {}
        """Since the last settlement."""
        self._start: Mark = (0, -1)
        """Where the last settlement ended."""
        self.settled: list[tuple[Mark, Mark, Touched]] = []
        """Earlier settlements: where they stand, where their stretch began, and what they covered."""

    def touch(self, table: Table, rowid: int) -> None:
        """Remember a row."""
        entry = self.touched.get(table.name)
        if entry is None:
            entry = self.touched[table.name] = (table, None if table.without_rowid else set())
        rowids = entry[1]
        if rowids is not None:
            rowids.add(rowid)
            if len(rowids) > ROWIDS_MAX:
                self.touched[table.name] = (table, None)

    def clear(self) -> None:
        """Forget the transaction."""
        self.touched.clear()
        self.settled.clear()
        self._start = (0, -1)

    def forget_new(self) -> None:
        """Forget rows of tables that the running statement made itself."""
        for name in [name for name, (table, _) in self.touched.items() if not table.resolved]:
            del self.touched[name]

    def truncate(self, mark: Mark) -> None:
        """Take back the settlements that stand after ``mark``: what they covered is to be settled again."""
        while self.settled and self.settled[-1][0] >= mark:
            _, self._start, covered = self.settled.pop()
            for name, (table, rowids) in covered.items():
                more = self.touched[name][1] if name in self.touched else set[int]()
                self.touched[name] = (table, None if rowids is None or more is None else rowids | more)

    @property
    def hidden(self) -> bool:
        """Whether rows are to be settled whose row ids have to be found out first."""
        return any(table.hidden for table, _ in self.touched.values())

    def settle(self, *, committing: bool = False) -> None:
        """Log the differences, at this place of the buffer; ``committing`` says that no savepoint can be made."""
        buffer = self._host.buffer
        if self.touched:
            here = buffer.mark()
            covered = self.touched
            tables = self._host.catalog.tables
            for name, (_, rowids) in list(covered.items()):
                known = tables.get(name)
                if known is None:
                    del covered[name]  # Its making was rolled back, and the rows went with it.
                    continue
                if known.hidden:
                    if committing:
                        raise refusal(known)
                    covered[name] = (known, self._settle_hidden(known))
                else:
                    covered[name] = (known, self._settle_table(known, rowids))
            self.settled.append((here, self._start, covered))
            self.touched = {}
        else:
            self.settled.append((buffer.mark(), self._start, {}))
        self._start = buffer.mark()

    def _settle_table(self, table: Table, rowids: set[int] | None) -> set[int] | None:
        """Log the difference of one table; return what was compared, with what the hook had recorded itself."""
        host = self._host
        fixed, own = self._recorded(table.name)
        for run in own:
            if rowids is not None:
                rowids.update(run.rowids, run.rowids_after)
            run.cut(0)
        now = StoredTable(host.db, table, host.catalog.text_encoding)
        then = None
        try:
            if not fixed:
                then = self._table_then(table)
            if then is None or not self._log_differences(table, rowids, now, then):
                host.buffer.add(Clear(table.name))
                self._log_rows(table, Op.INSERT, now.scan())
        finally:
            now.close()
            if then is not None:
                then.close()
        return rowids

    def _settle_hidden(self, table: Table) -> set[int] | None:
        """Log a table as a whole whose row ids are hidden."""
        host = self._host
        for run in self._recorded(table.name)[1]:
            run.cut(0)
        numbers = host.numbers(table)
        if host.db.pragma("reverse_unordered_selects"):
            numbers.reverse()
        now = StoredTable(host.db, table, host.catalog.text_encoding)
        try:
            host.buffer.add(Clear(table.name))
            # As many rows as numbers, or a number is wrong.
            self._log_rows(table, Op.INSERT, zip(numbers, (image for _, image in now.scan()), strict=True))
        except ValueError as error:
            raise refusal(table) from error
        finally:
            now.close()
        return None

    def _recorded(self, name: str) -> tuple[bool, list[Run]]:
        """Return whether the log will have changed the table before this stretch, and its runs in the stretch."""
        buffer = self._host.buffer
        fixed = buffer.spilled_schema or name in buffer.spilled_tables
        own: list[Run] = []
        entries = buffer.entries()
        for number, entry in enumerate(entries, len(buffer) - len(entries) + 1):
            if type(entry) is Run:
                if entry.rowids and entry.table.name == name:
                    if number > self._start[0]:
                        own.append(entry)
                    else:
                        fixed = True
            elif isinstance(entry, Schema) or (isinstance(entry, Rows | Clear | BlobWrite) and entry.table == name):
                fixed = True
        return fixed, own

    def _table_then(self, table: Table) -> StoredTable | None:
        """Return the table as it was when the transaction began, if it can be read."""
        reader = self._host.open_reader()
        if reader is None:
            return None
        try:
            return StoredTable(reader, table, self._host.catalog.text_encoding)
        except _UNREADABLE:
            return None

    def _log_differences(self, table: Table, rowids: set[int] | None, now: StoredTable, then: StoredTable) -> bool:
        """Log the differences; False if they cannot be told after all."""
        try:
            found = differences(now, then, rowids)
            first = list(islice(found, CHUNK_ROWS))
            rest = list(islice(found, 1))
        except _UNREADABLE:
            return False
        if not rest:
            self._log_net(table, first, now.has_rowid)
            return True
        # As one set it would be too large: all old rows out, then all new rows in, in pieces.
        olds: Iterator[Change] = chain(first, rest, found)
        news: Iterator[Change] | None = None
        if not now.has_rowid:
            every = list(olds)
            olds, news = iter(every), iter(every)
        self._log_rows(table, Op.DELETE, ((key, before) for key, before, _ in olds if before is not None))
        news = news or differences(now, then, rowids)
        self._log_rows(table, Op.INSERT, ((key, after) for key, _, after in news if after is not None))
        return True

    def _log_net(self, table: Table, changes: list[Change], has_rowid: bool) -> None:
        add = self._host.buffer.add
        for op, was, stays in ((Op.DELETE, True, False), (Op.UPDATE, True, True), (Op.INSERT, False, True)):
            run = [c for c in changes if (c[1] is not None) is was and (c[2] is not None) is stays]
            if run:
                rowids = [key for key, _, _ in run if isinstance(key, int)] if has_rowid else None
                before = [image for _, image, _ in run if image is not None] if was else None
                after = [image for _, _, image in run if image is not None] if stays else None
                add(Rows(table.name, op, rowids, None, before, after, net=True))

    def _log_rows(self, table: Table, op: Op, rows: Iterable[tuple[Key, Image]]) -> None:
        """Log rows as runs of ``op``, in pieces."""
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            rowids = [key for key, _ in chunk if isinstance(key, int)] or None
            images = [image for _, image in chunk]
            before, after = (images, None) if op is Op.DELETE else (None, images)
            self._host.buffer.add(Rows(table.name, op, rowids, None, before, after))

    def add_content(self, name: str, *, clear: bool = False) -> None:
        """Log the content of a table as inserts, after a Clear if asked for."""
        host = self._host
        if clear:
            host.buffer.add(Clear(name))
        table = host.catalog.find(name)
        now = StoredTable(host.db, table, host.catalog.text_encoding)
        try:
            rows = now.scan()
            if not now.has_rowid and not table.without_rowid:
                # Made from a query: its rows have been numbered from 1, whatever its columns are called.
                rows = enumerate((image for _, image in rows), 1)
            self._log_rows(table, Op.INSERT, rows)
        finally:
            now.close()

    def is_unchanged(self, name: str) -> bool:
        """Whether a table has the content it had when the transaction began; False if that cannot be told."""
        host = self._host
        table = host.catalog.find(name)
        then = self._table_then(table)
        if then is None:
            return False
        now = StoredTable(host.db, table, host.catalog.text_encoding)
        try:
            return next(differences(now, then, None), None) is None
        except _UNREADABLE:
            return False
        finally:
            now.close()
            then.close()
