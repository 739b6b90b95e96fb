"""A plain APSW connection with capture on it, driven as the session drives it, and a model that replays its events.

The model is strict: an update or a delete must meet exactly the row that its image describes, or it complains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw

from veritydb.events import Clear, Event, Op, RawText, Rows, Schema, Sequence
from veritydb.hooks.buffer import BYTES_MAX, ROWS_MAX
from veritydb.hooks.capture import Capture

if TYPE_CHECKING:
    from collections.abc import Iterator


NUMBERS = "WITH RECURSIVE r(x) AS (SELECT {} UNION ALL SELECT x + 1 FROM r WHERE x < {}) SELECT x, x FROM r"
"""Pairs of equal numbers, from and to."""


class Parts:
    """An overflow in memory."""

    def __init__(self) -> None:
        self.parts: list[list[Event]] = []

    @property
    def count(self) -> int:
        return len(self.parts)

    def add(self, events: list[Event]) -> None:
        self.parts.append(events)

    def read(self, index: int) -> list[Event]:
        return self.parts[index]

    def truncate(self, count: int) -> None:
        del self.parts[count:]


class Captured:
    """The connection, and what its client was told."""

    def __init__(
        self, path: str = ":memory:", script: str = "", *, rows_max: int = ROWS_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self.path = path
        self.db = apsw.Connection(path)
        self.db.execute("PRAGMA journal_mode = WAL").fetchall()
        self.overflow = Parts()
        self.capture = Capture(self.db, self, self.overflow, rows_max=rows_max, bytes_max=bytes_max)
        self.cursor = self.db.cursor()
        self.committed: list[list[Event]] = []
        """The events of each transaction that committed."""
        self.offered: list[Event] = []
        """The events of the last transaction that came to its commit hook."""
        self.told: list[str] = []
        self.refuse: BaseException | None = None
        """Raised in ``on_commit``."""
        self._reader: apsw.Connection | None = None
        self.setup(script)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close(True)
        self.db.close(True)

    def setup(self, script: str) -> None:
        """Run a script that is not captured."""
        self.capture.pause()
        self.db.execute(script).fetchall()
        self.capture.enabled = True

    # What the session does

    def begin(self, sql: str = "BEGIN") -> None:
        self.cursor.execute(sql)
        self.capture.join()

    def do(self, sql: str, bindings: Any = ()) -> list[Any]:
        """Run one statement of a transaction."""
        mark = self.capture.statement_mark()
        try:
            return self.cursor.execute(sql, bindings).fetchall()
        except apsw.Error:
            raise
        except BaseException as error:
            handles_savepoints = sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK TO"))
            self.capture.unwind(None if handles_savepoints else mark, error)
            raise

    def fails(self, sql: str) -> str:
        """Run a statement that fails; return the name of the error."""
        try:
            self.do(sql)
        except Exception as error:
            return type(error).__name__
        raise AssertionError(f"{sql} did not fail")

    def commit(self, sql: str = "COMMIT") -> list[Event]:
        """Commit and return the events."""
        if self.capture.virtual_joined:
            self.capture.drain()
        self.offered = []
        self.cursor.execute(sql)
        self.committed.append(self.offered)
        return self.offered

    def transact(self, *statements: str) -> list[Event]:
        """Run statements, which may fail, as one transaction; return its events."""
        self.begin()
        for sql in statements:
            try:
                self.do(sql)
            except Exception:
                if self.db.get_autocommit():
                    return []
        return self.commit()

    @contextmanager
    def schema(self) -> Iterator[Any]:
        """A schema statement runs inside."""
        self.capture.settle()
        yield self.capture.statement_mark()

    # What capture calls

    def on_sync(self) -> None:
        self.told.append("sync")

    def on_commit(self) -> bool:
        self.told.append("commit")
        if self.refuse is not None:
            raise self.refuse
        if self.capture.poison is not None:
            return True
        parts = (self.overflow.read(number) for number in range(self.overflow.count))
        self.offered = [event for part in (*parts, self.capture.buffer.events()) for event in part]
        return False

    def on_rollback(self) -> None:
        self.told.append("rollback")

    def reader(self) -> apsw.Connection | None:
        if self.path == ":memory:":
            return None
        if self._reader is None:
            self._reader = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READONLY)
        return self._reader


Make: TypeAlias = "Callable[..., Captured]"


def making(**options: Any) -> Iterator[Make]:
    """Yield what makes connections (from a script and further options), and close them afterwards."""
    made: list[Captured] = []

    def make(script: str = "", **more: Any) -> Captured:
        made.append(Captured(script=script, **(options | more)))
        return made[-1]

    yield make
    for each in made:
        each.close()


# What tests say of events


def brief(events: list[Event]) -> list[Any]:
    """Return row events as (op, table, rowids), others as they are."""
    return [(event.op.name, event.table, event.rowids) if isinstance(event, Rows) else event for event in events]


def rows(table: str, op: Op, rowids: list[int] | None, before: Any, after: Any, moved: list[int] | None = None) -> Rows:
    """Return a run."""
    return Rows(table, op, rowids, moved, before, after)


def schema(sql: str) -> Schema:
    """Return the event of a schema statement, as :func:`alter` adds it."""
    return Schema(sql, False, False, b"")


def alter(c: Captured, sql: str) -> None:
    """Run a schema statement as the session does."""
    c.capture.settle()
    mark = c.capture.statement_mark()
    c.do(sql)
    c.capture.add_schema(schema(sql), mark)


# The model

Form: TypeAlias = "tuple[tuple[str, Any], ...]"
"""An image whose values are equal only if they are the same to the last byte."""


def form(image: Iterable[Any], encoding: str = "utf-8") -> Form:
    """Return an image in that form; text as the bytes that a database of ``encoding`` stores."""
    found: list[tuple[str, Any]] = []
    for value in image:
        if isinstance(value, str):
            found.append(("text", value.encode(encoding)))
        elif isinstance(value, RawText):
            found.append(("text", bytes(value)))
        elif isinstance(value, float):
            found.append(("real", value.hex()))
        else:
            found.append((type(value).__name__, value))
    return tuple(found)


class State:
    """The rows of all tables, by rowid, or as a set where there is none; and the sequences."""

    def __init__(self, db: apsw.Connection) -> None:
        self.rowids: dict[str, dict[int, Form]] = {}
        self.sets: dict[str, set[Form]] = {}
        self.sequences: dict[Any, Any] = {}
        self.encoding = str(db.pragma("encoding")).lower()
        self.autoincrement = {
            name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE sql LIKE '%AUTOINCREMENT%'")
        }
        tables: list[Any] = db.execute(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
        ).fetchall()
        for name, without_rowid in tables:
            if name == "sqlite_sequence":
                self.sequences = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
            elif name != "sqlite_schema":
                self._load(db, name, bool(without_rowid))

    def _load(self, db: apsw.Connection, name: str, without_rowid: bool) -> None:
        columns: list[Any] = db.execute(
            "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE hidden <> 2", (name,)
        ).fetchall()
        exact = ", ".join(
            f'typeof("{c}"), CASE typeof("{c}") WHEN \'text\' THEN CAST("{c}" AS BLOB) ELSE "{c}" END'
            for (c,) in columns
        )
        taken = {column.lower() for (column,) in columns}
        rowid = "0" if without_rowid else next(alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken)
        rows: list[Any] = db.execute(f'SELECT {rowid}, {exact} FROM main."{name}"').fetchall()
        images = [
            (row[0], form(RawText(row[at + 1]) if row[at] == "text" else row[at + 1] for at in range(1, len(row), 2)))
            for row in rows
        ]
        if without_rowid:
            self.sets[name] = {image for _, image in images}
        else:
            self.rowids[name] = dict(images)

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, State)
        return (self.rowids, self.sets, self.sequences) == (other.rowids, other.sets, other.sequences)

    __hash__ = None

    def different(self, other: State) -> str:
        """Say what differs."""
        lines: list[str] = []
        for mine, its in ((self.rowids, other.rowids), (self.sets, other.sets)):
            for name in mine.keys() | its.keys():
                if mine.get(name) != its.get(name):
                    lines.append(f"{name}: {mine.get(name)} <> {its.get(name)}")
        if self.sequences != other.sequences:
            lines.append(f"sqlite_sequence: {self.sequences} <> {other.sequences}")
        return "\n".join(lines)

    def apply(self, events: Iterable[Event]) -> None:
        """Replay row events."""
        for event in events:
            if isinstance(event, Clear):
                self._clear(event.table)
            elif isinstance(event, Sequence):
                self.sequences.pop(event.table, None)
                if not event.gone:
                    self.sequences[event.table] = event.value
            else:
                assert isinstance(event, Rows), event
                self._rows(event)

    def _clear(self, table: str) -> None:
        if table == "sqlite_sequence":
            self.sequences.clear()
        elif table in self.sets:
            self.sets[table].clear()
        else:
            self.rowids[table].clear()

    def _rows(self, event: Rows) -> None:
        count = len(event)
        olds = [form(image, self.encoding) for image in event.before] if event.before is not None else [None] * count
        news = [form(image, self.encoding) for image in event.after] if event.after is not None else [None] * count
        assert len(olds) == len(news) == count > 0
        assert (event.before is None) == (event.op is Op.INSERT)
        assert (event.after is None) == (event.op is Op.DELETE)
        if event.table == "sqlite_sequence":
            self.sequences.update(event.after or [])
        elif event.rowids is None:
            self._set_rows(self.sets[event.table], olds, news, net=event.net)
        else:
            self._rowid_rows(event, olds, news)

    def _set_rows(self, rows: set[Form], olds: list[Form | None], news: list[Form | None], *, net: bool) -> None:
        pairs = list(zip(olds, news, strict=True))
        if net:
            pairs = [(old, None) for old in olds] + [(None, new) for new in news]
        for old, new in pairs:
            if old is not None:
                rows.remove(old)
            if new is not None:
                assert new not in rows
                rows.add(new)

    def _rowid_rows(self, event: Rows, olds: list[Form | None], news: list[Form | None]) -> None:
        rows = self.rowids[event.table]
        befores = event.rowids
        assert befores is not None
        afters = event.rowids_after or befores
        steps = list(zip(befores, afters, olds, news, strict=True))
        if event.net:
            steps = [(a, b, old, None) for a, b, old, _ in steps] + [(a, b, None, new) for a, b, _, new in steps]
        for before, after, old, new in steps:
            if old is not None:
                assert rows[before] == old, (event.table, before, rows[before], old)
                del rows[before]
            if new is not None:
                assert after not in rows, (event.table, after)
                rows[after] = new
                if event.op is Op.INSERT and event.table in self.autoincrement:
                    last = self.sequences.get(event.table)
                    self.sequences[event.table] = max(last if isinstance(last, int) else 0, after)
