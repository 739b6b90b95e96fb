"""Random workloads, readers and deaths: what a cursor has seen, put together, is the log; no gap, nothing twice.

The oracle shares nothing with the feed: the row changes are read from the log's records, names from what the test's
own statements say; and a table rebuilt from updates alone has to equal the one in the database.
"""

from __future__ import annotations

import itertools
import os
import signal
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import veritydb
from tests.support import files
from tests.support.child import POINTS as ALL_POINTS
from tests.support.child import arm
from veritydb.events import Rows
from veritydb.subscriptions import (
    Cursor,
    Feed,
    SchemaChange,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    TableUpdate,
    open_feed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from veritydb.subscriptions import Subscription

POINTS = [point for point in ALL_POINTS if point not in ("wal", "checkpoint")]
"""Those two are met through a VFS of their own."""
TABLES = {"people": ("id", "name"), "stays": ("bed", "ward", "note")}

rows = st.integers(1, 6)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.sampled_from(sorted(TABLES)), rows),
        st.tuples(st.just("update"), st.sampled_from(sorted(TABLES)), rows),
        st.tuples(st.just("move"), st.sampled_from(sorted(TABLES)), rows),
        st.tuples(st.just("delete"), st.sampled_from(sorted(TABLES)), rows),
        st.tuples(st.just("many"), st.just("people"), st.integers(2, 700)),
        st.tuples(st.just("column"), st.sampled_from(sorted(TABLES)), st.just(0)),
    ),
    min_size=1,
    max_size=5,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), changes),
        st.tuples(st.just("rollback"), changes),
        st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 300)),
        st.tuples(st.just("reopen reader"), st.integers(0, 2)),
        st.tuples(st.just("reopen feed")),
        st.tuples(st.just("reopen writer")),
        st.tuples(st.just("kill a writer"), st.sampled_from(POINTS), st.integers(1, 12), changes),
        st.tuples(st.just("kill a reader"), st.integers(0, 2), st.integers(0, 40)),
        st.tuples(st.just("snapshot")),
    ),
    min_size=3,
    max_size=14,
)


class Machine:
    """A writer, a feed with a ring so small that readers fall out of it, and three readers with a cursor each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = itertools.count(100)
        self.db = veritydb.connect(path)
        self.db.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        self.db.execute("CREATE TABLE stays (bed INT, ward TEXT, note, PRIMARY KEY (ward, bed)) WITHOUT ROWID")
        self.seen: list[list[Any]] = [[], [], []]
        self.readers: list[Subscription] = []
        self.feed: Feed = None
        self.open_feed()

    def open_feed(self) -> None:
        self.feed = open_feed(self.path, ring_rows=20)
        self.readers = [self.open_reader(number) for number in range(3)]

    def open_reader(self, number: int) -> Subscription:
        seen = self.seen[number]
        since: Cursor | int = seen[-1].cursor if seen else -1
        # One goes on from the text of its cursor, as a browser would.
        return self.feed.subscribe(since=str(since) if number == 1 else since, images=True, buffer=7 + 50 * number)

    def close_feed(self) -> None:
        for reader in self.readers:
            reader.close()
        self.feed.close()

    def close(self) -> None:
        self.close_feed()
        self.db.close()

    def step(self, what: str, *arguments: Any) -> None:
        getattr(self, what.replace(" ", "_"))(*arguments)

    def commit(self, changes: list[tuple[str, str, int]]) -> None:
        self.db.execute("BEGIN")
        for change in changes:
            self.change(*change)
        self.db.commit()

    def rollback(self, changes: list[tuple[str, str, int]]) -> None:
        self.db.execute("BEGIN")
        for change in changes:
            self.change(*change)
        self.db.rollback()

    def change(self, what: str, table: str, row: int) -> None:
        db, people = self.db, table == "people"
        number = next(self.numbers)
        key = "id = ?" if people else "bed = ?"
        if what == "insert":
            columns = "id, name" if people else "bed, ward, note"
            values = (row, f"n{number}") if people else (row, "w", number)
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", values)
        elif what == "update":
            column = "name" if people else "note"
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {key}", (f"u{number}", row))
        elif what == "move":
            db.execute(f"UPDATE OR REPLACE {table} SET {'id' if people else 'bed'} = ? WHERE {key}", (number, row))
        elif what == "delete":
            db.execute(f"DELETE FROM {table} WHERE {key}", (row,))
        elif what == "many":
            db.executemany("INSERT INTO people (name) VALUES (?)", ((f"m{number}-{each}",) for each in range(row)))
        else:
            db.execute(f"ALTER TABLE {table} ADD COLUMN c{number} DEFAULT 5")

    def read(self, number: int, limit: int) -> None:
        self.seen[number] += self.readers[number].drain(limit)

    def reopen_reader(self, number: int) -> None:
        self.readers[number].close()
        self.readers[number] = self.open_reader(number)

    def reopen_feed(self) -> None:
        self.close_feed()
        self.open_feed()

    def reopen_writer(self) -> None:
        self.db.close()
        self.db = veritydb.connect(self.path)

    def kill_a_writer(self, point: str, count: int, changes: list[tuple[str, str, int]]) -> None:
        """Another process makes the changes, each a transaction of its own, and is killed on the way, or is not."""
        self.numbers, theirs = itertools.count(next(self.numbers) + 10_000), self.numbers
        with warnings.catch_warnings():
            # The runner of the tests has a thread that the child does not use.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            status = os.waitpid(pid, 0)[1]
            assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
            return
        code = 1
        try:
            self.numbers = theirs
            arm(f"{point}:{count * (25 if point == 'log call' else 1)}")
            self.db = veritydb.connect(self.path)
            for change in changes:
                self.commit([change])
            code = 0
        finally:
            os._exit(code)

    def kill_a_reader(self, number: int, lost: int) -> None:
        """It has received more than it had noted when it died: what is not noted was not seen."""
        self.readers[number].close()
        seen = self.seen[number]
        del seen[max(0, len(seen) - lost) :]
        self.readers[number] = self.open_reader(number)

    def snapshot(self) -> None:
        """A snapshot and the tail behind it end where everybody ends."""
        with self.feed.subscribe(snapshot=True, images=True) as updates:
            self.commit([("insert", "people", 3), ("update", "stays", 2)])
            found = updates.drain(100_000)
        state = replayed(found)
        assert state == self.state()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for table in TABLES:
            cursor = self.db.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            found[table] = sorted((dict(zip(names, row, strict=True)) for row in cursor), key=repr)
        return found

    def finish(self) -> None:
        self.commit([("insert", "people", 1)])  # Whoever comes after the dead settles what they left.
        expected = in_the_log(self.path)
        for number in range(3):
            while found := self.readers[number].drain(200):
                self.seen[number] += found
            seen = [each for each in self.seen[number] if isinstance(each, TableUpdate)]
            assert [said(each) for each in seen] == expected
            cursors = [each.cursor for each in self.seen[number]]
            assert cursors == sorted(set(cursors))
            assert replayed(self.seen[number]) == self.state()


def said(update: TableUpdate) -> tuple[Any, ...]:
    before = tuple(update.before.values()) if update.before is not None else None
    after = tuple(update.after.values()) if update.after is not None else None
    return update.offset, update.table, update.action, before, after


def in_the_log(path: Path) -> list[tuple[Any, ...]]:
    """Every row change of the log, read without the feed."""
    found: list[tuple[Any, ...]] = []
    for transaction in files.transactions(path):
        for event in transaction.events:
            if isinstance(event, Rows) and event.table in TABLES:
                for number in range(len(event)):
                    before = event.before[number] if event.before is not None else None
                    after = event.after[number] if event.after is not None else None
                    found.append((transaction.offset, event.table, event.op.name.lower(), before, after))
    return found


def replayed(updates: list[Any]) -> dict[str, Any]:
    """What the tables hold, as somebody knows who has only seen the updates."""
    tables: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in TABLES}
    for update in updates:
        if isinstance(update, SnapshotRow):
            assert update.row is not None
            tables[update.table][update.row_id] = dict(update.row)
        elif isinstance(update, TableUpdate):
            rows = tables[update.table]
            if update.action != "insert":
                assert rows.pop(update.row_id_before) == update.before
            if update.after is not None:
                assert update.row_id not in rows
                rows[update.row_id] = dict(update.after)
        elif isinstance(update, SchemaChange) and update.altered:
            for name in update.altered:
                added = update.sql.split("ADD COLUMN ")[1].split()[0]
                for row in tables[name].values():
                    row[added] = 5
        else:
            assert isinstance(update, SnapshotBegin | SnapshotEnd | SchemaChange)
    return {table: sorted(rows.values(), key=repr) for table, rows in tables.items()}


@given(plan=steps)
def test_what_a_cursor_has_seen_is_the_log(
    plan: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine = Machine(tmp_path_factory.mktemp("random") / "random.db")
    try:
        for step in plan:
            machine.step(*step)
        machine.finish()
    finally:
        machine.close()
