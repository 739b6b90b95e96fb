"""Late rows: rows whose images the hook cannot have, read when the transaction is about to commit.

SQLite or APSW does not show the hook rows of tables with VIRTUAL generated columns, text that is not valid UTF-8, any
text of a UTF-16 database as it is stored, and what an incremental blob write puts in place. Of such a row the hook only
remembers the rowid. :meth:`Late.settle` then reads it twice: as it is now, and, through a connection that sees the file
as it was when the transaction began, as it was before. It logs the difference as *net* runs: one delete, one update and
one insert run, to be applied as sets. What the hook did record of such a table since the last settlement is dropped,
the difference includes it.

The settlement stands in the buffer where it was made: at the commit, and before each schema statement. Where the state
before cannot be known (a database in memory, a reader that is locked out, a table of which this transaction has already
logged something before a schema statement or into the overflow), the whole table is logged: cleared, then filled.

What was touched is kept as a superset: a rollback that undoes a change leaves its rowid, for equal images are no
difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Protocol, TypeAlias

import apsw

from veritydb.errors import CaptureError
from veritydb.events import BlobWrite, Clear, Event, Image, Op, Rows, Schema, Value
from veritydb.hooks.buffer import ChangeBuffer, Mark, Run
from veritydb.hooks.catalog import VIRTUAL_GENERATED, Catalog
from veritydb.hooks.images import Table, exact_text

ROWIDS_MAX = 1_000_000
"""Rowids remembered of one table; beyond, the whole table is compared."""
CHUNK_ROWS = 1_000
"""Rows in one event where a difference or a table's content is logged in several."""
KEYED_ROWS_MAX = 100_000
"""Rows of a WITHOUT ROWID table that are compared in memory; beyond, its content is logged."""
_EXACT_COLUMNS_MAX = 900
"""Columns that one query can ask for with their storage class: two results each, SQLite allows 2,000."""

Key: TypeAlias = "int | Image"
Change: TypeAlias = "tuple[Key, Image | None, Image | None]"
"""Rowid (or, without one, the key), image before, image after."""


class Host(Protocol):
    """What late rows need of :class:`veritydb.hooks.capture.Capture`."""

    db: apsw.Connection
    buffer: ChangeBuffer
    catalog: Catalog

    def open_reader(self) -> apsw.Connection | None:
        """Return a connection that sees the state at the beginning of the transaction, if there is one."""
        ...


class Late:
    """The rows of one transaction that are to be read late."""

    __slots__ = ("_host", "_settled", "_start", "touched")

    def __init__(self, host: Host) -> None:
        self._host = host
        self.touched: dict[str, tuple[Table, set[int] | None]] = {}
        """By table, since the last settlement: rowids; None for the whole table."""
        self._start: Mark = (0, -1)
        """Where the last settlement ended."""
        self._settled: list[tuple[Mark, Mark, dict[str, tuple[Table, set[int] | None]]]] = []
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
        if self.touched or self._settled or self._start[0]:
            self.touched.clear()
            self._settled.clear()
            self._start = (0, -1)

    def forget_new(self) -> None:
        """Forget rows of tables that the running statement made itself."""
        for name in [name for name, (table, _) in self.touched.items() if not table.resolved]:
            del self.touched[name]

    def truncate(self, mark: Mark) -> None:
        """Take back the settlements that stand after ``mark``: what they covered is to be settled again."""
        while self._settled and self._settled[-1][0] >= mark:
            _, self._start, covered = self._settled.pop()
            for name, (table, rowids) in covered.items():
                _, more = self.touched.get(name, (table, set[int]()))
                self.touched[name] = (table, None if rowids is None or more is None else rowids | more)
        self._start = min(self._start, mark)

    # ---- settling

    def settle(self) -> None:
        """Log the differences, at this place of the buffer."""
        buffer = self._host.buffer
        if self.touched:
            here = buffer.mark()
            buffer.end_run()
            covered = self.touched
            for name, (table, rowids) in list(covered.items()):
                covered[name] = (table, self._settle_table(table, rowids))
            self._settled.append((here, self._start, covered))
            self.touched = {}
        self._start = buffer.mark()

    def _settle_table(self, table: Table, rowids: set[int] | None) -> set[int] | None:
        """Log the difference of one table; return what was compared, with what the hook had recorded itself."""
        host = self._host
        fixed, own = self._recorded(table.name)
        if rowids is not None:
            for run in own:
                rowids.update(run.rowids, run.rowids_after)
        for run in own:
            run.cut(0)
        now = _Source(host.db, table, host.catalog.text_encoding)
        then = None
        try:
            if not fixed:
                then = self._source_then(table)
            if then is None or not self._log_difference(table, rowids, now, then):
                host.buffer.add(Clear(table.name))
                self._log_rows(table, Op.INSERT, now.scan())
        finally:
            now.close()
            if then is not None:
                then.close()
        return rowids

    def _recorded(self, name: str) -> tuple[bool, list[Run]]:
        """Return whether replay will have changed the table before this place, and the runs that can still be dropped."""
        buffer = self._host.buffer
        fixed = name in buffer.spilled_tables or buffer.spilled_schema
        own: list[Run] = []
        number = len(buffer) - len(entries := buffer.entries())
        for entry in entries:
            number += 1
            if type(entry) is Run:
                if entry.table.name == name and entry.rowids:
                    own.append(entry)
                    fixed = fixed or number <= self._start[0]
            elif isinstance(entry, Schema) or (isinstance(entry, (Rows, Clear, BlobWrite)) and entry.table == name):
                fixed = True
        return fixed, [] if fixed and self._start[0] else own

    def _source_then(self, table: Table) -> _Source | None:
        """Return the table as it was when the transaction began, if it can be read."""
        reader = self._host.open_reader()
        if reader is None:
            return None
        try:
            return _Source(reader, table, self._host.catalog.text_encoding)
        except (apsw.BusyError, apsw.LockedError, apsw.SQLError):
            return None

    def _log_difference(self, table: Table, rowids: set[int] | None, now: _Source, then: _Source) -> bool:
        """Log the difference; False if it cannot be told after all."""

        def changes() -> Iterator[Change]:
            if rowids is not None:
                return _by_rowid(sorted(rowids), now, then)
            if table.without_rowid or now.rowid is None:
                return _by_key(now, then)
            return _by_scan(now, then)

        try:
            found = changes()
            first = list(islice(found, CHUNK_ROWS))
            more = next(found, None)
        except (apsw.BusyError, apsw.LockedError, apsw.SQLError, _TooMany):
            return False
        if more is None:
            self._log_net(table, first)
            return True
        # As one set it would be too large: all old rows out, then all new rows in, in pieces.
        keyed = table.without_rowid or now.rowid is None
        again = chain(first, (more,), found)
        if keyed:
            again = iter(every := list(again))
        self._log_rows(table, Op.DELETE, ((key, before) for key, before, _ in again if before is not None))
        again = iter(every) if keyed else changes()
        self._log_rows(table, Op.INSERT, ((key, after) for key, _, after in again if after is not None))
        return True

    def _log_net(self, table: Table, changes: list[Change]) -> None:
        add = self._host.buffer.add
        for op, has_before, has_after in ((Op.DELETE, True, False), (Op.UPDATE, True, True), (Op.INSERT, False, True)):
            run = [c for c in changes if (c[1] is not None) is has_before and (c[2] is not None) is has_after]
            if run:
                add(
                    Rows(
                        table.name,
                        op,
                        None if table.without_rowid else [_rowid(key) for key, _, _ in run],
                        None,
                        [c[1] for c in run if c[1] is not None] if has_before else None,
                        [c[2] for c in run if c[2] is not None] if has_after else None,
                        net=True,
                    )
                )

    def _log_rows(self, table: Table, op: Op, rows: Iterable[tuple[Key, Image]]) -> None:
        """Log rows as runs of ``op``, in pieces."""
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            rowids = None if type(chunk[0][0]) is not int else [_rowid(key) for key, _ in chunk]
            images = [image for _, image in chunk]
            before, after = (images, None) if op is Op.DELETE else (None, images)
            self._host.buffer.add(Rows(table.name, op, rowids, None, before, after))

    def add_content(self, name: str, *, clear: bool = False) -> None:
        """Log the content of a table as inserts, after a Clear if asked for."""
        host = self._host
        if clear:
            host.buffer.add(Clear(name))
        table = host.catalog.tables[name]
        source = _Source(host.db, table, host.catalog.text_encoding)
        try:
            self._log_rows(table, Op.INSERT, source.scan())
        finally:
            source.close()

    def same_content(self, name: str) -> bool:
        """Whether a table has the content it had when the transaction began; False if that cannot be told."""
        host = self._host
        table = host.catalog.tables[name]
        then = self._source_then(table)
        if then is None:
            return False
        now = _Source(host.db, table, host.catalog.text_encoding)
        try:
            return next(_by_scan(now, then), None) is None
        except (apsw.BusyError, apsw.LockedError, apsw.SQLError):
            return False
        finally:
            now.close()
            then.close()


class _TooMany(Exception):
    """A table without rowids is too large to be compared in memory."""


class _Source:
    """One table, as one connection sees it, value for value as it is stored."""

    __slots__ = ("_by_rowid", "_encoding", "_exact_by_rowid", "_names", "_scan", "_scanning", "_single", "_width", "rowid")

    def __init__(self, db: apsw.Connection, table: Table, encoding: str) -> None:
        self._encoding = encoding
        self._single = db.cursor()
        self._scanning = db.cursor()
        info = self._single.execute(
            "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, 'main')", (table.name,)
        ).fetchall()
        if not info:
            self.close()
            raise apsw.SQLError(f"no such table: {table.name}")
        names = [name for name, _, _, hidden in info if hidden != VIRTUAL_GENERATED]
        quoted = [_quote(name) for name in names]
        taken = {name.lower() for name, _, _, _ in info}
        self.rowid = next((alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken), None)
        if self.rowid is None:
            keys = [(name, declared) for name, declared, pk, _ in info if pk]
            if len(keys) == 1 and keys[0][1].upper() == "INTEGER":
                self.rowid = _quote(keys[0][0])
        if table.without_rowid:
            self.rowid = None
        self._names = quoted
        self._width = len(quoted)
        source = f"FROM main.{_quote(table.name)}"
        self._by_rowid = f"SELECT {', '.join(quoted)} {source} WHERE {self.rowid} = ?"
        self._exact_by_rowid = [
            f"SELECT {_exact(quoted[at : at + _EXACT_COLUMNS_MAX])} {source} WHERE {self.rowid} = ?"
            for at in range(0, len(quoted), _EXACT_COLUMNS_MAX)
        ]
        if self.rowid is not None:
            self._scan = f"SELECT {self.rowid} {source} ORDER BY {self.rowid}"
        else:
            self._scan = f"SELECT {_exact(quoted)} {source}"
            if len(quoted) > _EXACT_COLUMNS_MAX:
                self.close()
                raise CaptureError(f"{table.name} has too many columns to be read without a rowid")

    def close(self) -> None:
        self._single.close()
        self._scanning.close()

    def row(self, rowid: int) -> Image | None:
        """Return one row."""
        if self._encoding == "utf-8":
            try:
                rows = self._single.execute(self._by_rowid, (rowid,)).fetchall()
            except UnicodeDecodeError:
                pass
            else:
                return rows[0] if rows else None
        values: list[Value] = []
        for sql in self._exact_by_rowid:
            rows = self._single.execute(sql, (rowid,)).fetchall()
            if not rows:
                return None
            values.extend(self._values(rows[0]))
        return tuple(values)

    def scan(self) -> Iterator[tuple[Key, Image]]:
        """Yield all rows; by rowid if there is one, otherwise with the image as the key."""
        if self.rowid is not None:
            for (rowid,) in self._scanning.execute(self._scan):
                image = self.row(rowid)
                assert image is not None
                yield rowid, image
        else:
            for row in self._scanning.execute(self._scan):
                image = tuple(self._values(row))
                yield image, image

    def _values(self, row: tuple[Value, ...]) -> Iterator[Value]:
        """Yield the values from pairs of storage class and value."""
        for place in range(0, len(row), 2):
            value = row[place + 1]
            yield exact_text(value, self._encoding) if row[place] == "text" and isinstance(value, bytes) else value


def _by_rowid(rowids: list[int], now: _Source, then: _Source) -> Iterator[Change]:
    for rowid in rowids:
        before = then.row(rowid)
        after = now.row(rowid)
        if not _same(before, after):
            yield rowid, before, after


def _by_scan(now: _Source, then: _Source) -> Iterator[Change]:
    """Compare two tables in the order of their rowids."""
    olds = then.scan()
    news = now.scan()
    old = next(olds, None)
    new = next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and _rowid(old[0]) < _rowid(new[0])):
            assert old is not None
            yield old[0], old[1], None
            old = next(olds, None)
        elif old is None or _rowid(new[0]) < _rowid(old[0]):
            yield new[0], None, new[1]
            new = next(news, None)
        else:
            if not _same(old[1], new[1]):
                yield old[0], old[1], new[1]
            old = next(olds, None)
            new = next(news, None)


def _by_key(now: _Source, then: _Source) -> Iterator[Change]:
    """Compare two tables without rowids: what is gone, then what is new. Equal keys need not be told."""
    olds = {_identity(image): image for _, image in islice(then.scan(), KEYED_ROWS_MAX + 1)}
    if len(olds) > KEYED_ROWS_MAX:
        raise _TooMany
    news: list[Image] = []
    for _, image in now.scan():
        if olds.pop(_identity(image), None) is None:
            news.append(image)
            if len(news) > KEYED_ROWS_MAX:
                raise _TooMany
    for image in olds.values():
        yield image, image, None
    for image in news:
        yield image, None, image


def _identity(image: Image) -> tuple[object, ...]:
    """Return what is equal only for values of the same class and bytes; Python says 1 == 1.0 and 0.0 == -0.0."""
    return tuple((type(value), value.hex() if type(value) is float else value) for value in image)


def _same(before: Image | None, after: Image | None) -> bool:
    if before is None or after is None:
        return before is after
    return before == after and _identity(before) == _identity(after)


def _rowid(key: Key) -> int:
    assert isinstance(key, int)
    return key


def _exact(names: list[str]) -> str:
    return ", ".join(f"typeof({n}), CASE typeof({n}) WHEN 'text' THEN CAST({n} AS BLOB) ELSE {n} END" for n in names)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def is_row_event(event: Event, table: str) -> bool:
    """Whether ``event`` changes rows of ``table``."""
    return isinstance(event, (Rows, Clear, BlobWrite)) and event.table == table
