"""Subscriptions: committed changes, in order, each once; by iteration, with ``get``, and under asyncio and trio."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import veritydb
from tests.crash.small import make_small
from tests.support.life import RAW
from veritydb import keys, streams
from veritydb.subscriptions import (
    Cursor,
    Resync,
    SchemaChange,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotRow,
    TableCleared,
    TableUpdate,
    open_feed,
)
from veritydb.subscriptions.notification import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.life import Life

WAIT = 20
"""Seconds for which a test waits for what must come."""


def told(update: Any) -> tuple[Any, ...]:
    """What an update says, without who and when."""
    assert isinstance(update, TableUpdate)
    return update.table, update.action, update.row_id


@pytest.fixture(params=["file", "encrypted", "memory"])
def db(request: pytest.FixtureRequest, life: Life) -> Iterator[veritydb.Connection]:
    """An open database with two tables."""
    if request.param == "memory":
        connection = veritydb.connect(":memory:")
    else:
        connection = life.connect(key=RAW if request.param == "encrypted" else None)
    connection.executescript(
        "CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, born INT);"
        "CREATE TABLE stays (ward TEXT, bed INT, patient INT, PRIMARY KEY (bed, ward)) WITHOUT ROWID;"
    )
    yield connection
    connection.close()


def test_a_subscriber_gets_what_is_committed_after_it_subscribed_and_nothing_else(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO patients VALUES (1, 'before', 0)")
    db.commit()
    with db.subscribe() as updates:
        db.execute("INSERT INTO patients VALUES (2, 'rolled back', 0)")
        db.rollback()
        db.execute("INSERT INTO patients VALUES (3, 'open', 0)")
        assert updates.get(0.05) is None
        db.commit()
        update = updates.get(WAIT)
        assert told(update) == ("patients", "insert", 3)
        assert isinstance(update, TableUpdate)
        assert update.offset == db.last_offset
        assert update.before is update.after is None
        assert updates.get(0) is None


def test_images_are_the_rows_before_and_after_by_column(db: veritydb.Connection) -> None:
    with db.subscribe(images=True) as updates:
        db.execute("INSERT INTO patients VALUES (1, 'Jane', 1970)")
        db.execute("UPDATE patients SET name = 'Janet'")
        db.execute("DELETE FROM patients")
        db.commit()
        inserted, updated, deleted = (updates.get(WAIT) for _ in range(3))
    jane, janet = {"id": 1, "name": "Jane", "born": 1970}, {"id": 1, "name": "Janet", "born": 1970}
    assert isinstance(inserted, TableUpdate)
    assert isinstance(updated, TableUpdate)
    assert isinstance(deleted, TableUpdate)
    assert (inserted.before, inserted.after) == (None, jane)
    assert (updated.before, updated.after, updated.changed) == (jane, janet, ("name",))
    assert (deleted.before, deleted.after) == (janet, None)
    assert [each.number for each in (inserted, updated, deleted)] == [0, 1, 2]


def test_a_row_of_a_table_without_rowid_is_named_by_its_primary_key(db: veritydb.Connection) -> None:
    with db.subscribe("stays") as updates:
        db.execute("INSERT INTO stays VALUES ('east', 4, 1)")
        db.execute("UPDATE stays SET ward = 'west'")
        db.commit()
        inserted, updated = updates.get(WAIT), updates.get(WAIT)
    assert told(inserted) == ("stays", "insert", (4, "east"))
    assert told(updated) == ("stays", "update", (4, "west"))
    assert isinstance(updated, TableUpdate)
    assert updated.row_id_before == (4, "east")


def test_tables_actions_and_a_predicate_choose(db: veritydb.Connection) -> None:
    with (
        db.subscribe(tables=["STAYS"]) as stays,
        db.subscribe(actions="delete") as deletes,
        db.subscribe("patients", where=lambda update: (update.after or {}).get("born") == 2000) as young,
    ):
        db.execute("INSERT INTO patients VALUES (1, 'a', 2000), (2, 'b', 1950)")
        db.execute("INSERT INTO stays VALUES ('east', 1, 1)")
        db.execute("DELETE FROM patients WHERE id = 2")
        db.commit()
        assert [told(each) for each in stays.drain()] == [("stays", "insert", (1, "east"))]
        assert [told(each) for each in deletes.drain()] == [("patients", "delete", 2)]
        found = young.drain()
        assert [told(each) for each in found] == [("patients", "insert", 1)]
        assert isinstance(found[0], TableUpdate)
        assert found[0].after is None, "the predicate sees the row, the subscriber did not ask for it"


def test_since_goes_on_behind_an_offset_or_a_cursor(db: veritydb.Connection) -> None:
    for number in range(1, 4):
        db.execute("INSERT INTO patients VALUES (?, 'x', 0)", (number,))
        db.execute("INSERT INTO stays VALUES ('w', ?, 0)", (number,))
        db.commit()
    with db.subscribe(since=-1) as everything:
        all_of_it = everything.drain()
    assert [type(each) for each in all_of_it[:2]] == [SchemaChange, SchemaChange]
    assert len(all_of_it) == 8
    for place, each in enumerate(all_of_it):
        for since in (each.cursor, str(each.cursor)):
            with db.subscribe(since=since) as rest:
                assert rest.drain() == all_of_it[place + 1 :]
    assert db.last_offset is not None
    with db.subscribe(since=db.last_offset - 1) as rest:
        assert rest.drain() == all_of_it[-2:]


def test_a_snapshot_comes_first_and_the_tail_follows_without_gap_or_overlap(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO patients VALUES (1, 'a', 0), (2, 'b', 0)")
    db.commit()
    with db.subscribe("patients", images=True, snapshot=True) as updates:
        db.execute("INSERT INTO patients VALUES (3, 'c', 0)")
        db.commit()
        begin, one, two, end, tail = (updates.get(WAIT) for _ in range(5))
    assert isinstance(begin, SnapshotBegin)
    assert begin.tables == ("patients",)
    assert isinstance(one, SnapshotRow)
    assert isinstance(two, SnapshotRow)
    assert [one.row, two.row] == [{"id": 1, "name": "a", "born": 0}, {"id": 2, "name": "b", "born": 0}]
    assert isinstance(end, SnapshotEnd)
    assert told(tail) == ("patients", "insert", 3)
    assert tail is not None
    assert tail.offset == end.offset + 1


def test_names_are_those_of_the_time_of_the_change(db: veritydb.Connection) -> None:
    db.execute("INSERT INTO patients VALUES (1, 'a', 1)")
    db.execute("ALTER TABLE patients RENAME COLUMN born TO year")
    db.execute("ALTER TABLE patients ADD COLUMN note TEXT DEFAULT '-'")
    db.execute("UPDATE patients SET year = 2")
    db.execute("ALTER TABLE patients DROP COLUMN name")
    db.execute("ALTER TABLE patients RENAME TO people")
    db.execute("DELETE FROM people")
    db.commit()
    with db.subscribe(since=-1, images=True) as updates:
        found = updates.drain()
    rows = [each for each in found if isinstance(each, TableUpdate)]
    assert [each.columns for each in rows] == [
        ("id", "name", "born"),
        ("id", "name", "year", "note"),
        ("id", "year", "note"),
    ]
    assert [each.table for each in rows] == ["patients", "patients", "people"]
    assert rows[1].before == {"id": 1, "name": "a", "year": 1, "note": "-"}
    renamed = [each for each in found if isinstance(each, SchemaChange)][-1]
    assert (renamed.dropped, renamed.created) == ({"patients"}, {"people"})


def test_a_table_that_is_dropped_while_subscribed_is_told_and_may_come_back(db: veritydb.Connection) -> None:
    with db.subscribe("stays") as updates:
        db.execute("INSERT INTO stays VALUES ('w', 1, 1)")
        db.execute("DROP TABLE stays")
        db.execute("CREATE TABLE other (a)")
        db.execute("CREATE TABLE stays (a)")
        db.execute("INSERT INTO stays VALUES (1)")
        db.commit()
        found = updates.drain()
    assert told(found[0]) == ("stays", "insert", (1, "w"))
    changes = [each for each in found if isinstance(each, SchemaChange)]
    assert [(each.dropped, each.created) for each in changes] == [({"stays"}, set()), (set(), {"stays"})]
    assert told(found[-1]) == ("stays", "insert", 1)


def test_what_is_nobodys_business_is_not_told(db: veritydb.Connection) -> None:
    db.execute("CREATE VIRTUAL TABLE notes USING fts5(body)")
    with db.subscribe() as updates:
        db.execute("INSERT INTO notes VALUES ('shadow tables are SQLite''s')")
        db.execute("INSERT INTO patients VALUES (1, 'a', 0)")
        db.execute("ANALYZE")
        db.commit()
        assert [told(each) for each in updates.drain()] == [("patients", "insert", 1)]


def test_rows_with_a_computed_column_in_memory_are_told_by_their_outcome() -> None:
    with veritydb.connect(":memory:") as db:
        db.execute("CREATE TABLE t (a, twice AS (a * 2))")
        with db.subscribe(images=True) as updates:
            db.execute("INSERT INTO t VALUES (1), (2)")
            db.commit()
            first, *rest = updates.drain()
    db.close()
    assert isinstance(first, TableCleared)
    assert [each.after for each in rest if isinstance(each, TableUpdate)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_for_works_under_asyncio_and_trio(backend: str, db: veritydb.Connection) -> None:
    async def main() -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        with db.subscribe("patients") as updates, anyio.fail_after(WAIT):
            async with anyio.create_task_group() as group:

                async def read() -> None:
                    async for update in updates:
                        found.append(told(update))
                        if len(found) == 3:
                            return

                group.start_soon(read)
                for number in range(3):
                    await anyio.sleep(0.02)
                    db.execute("INSERT INTO patients VALUES (?, 'x', 0)", (number,))
                    db.commit()
        return found

    assert anyio.run(main, backend=backend) == [("patients", "insert", number) for number in range(3)]


def test_changes_of_another_process_arrive(life: Life, tmp_path: Path) -> None:
    db = life.connect(key=RAW)
    db.execute("CREATE TABLE t (a)")
    program = (
        "import sys, veritydb\n"
        "with veritydb.connect(sys.argv[1], key=bytes(range(32)), actor='other') as db:\n"
        "    db.execute('INSERT INTO t VALUES (7)')\n"
        "db.close()\n"
    )
    with db.subscribe(images=True) as updates:
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "life.db")], check=True, timeout=60)
        update = updates.get(WAIT)
    assert isinstance(update, TableUpdate)
    assert (update.actor, update.after) == ("other", {"a": 7})


@pytest.mark.parametrize("notify", [None, "poll"])
def test_a_feed_follows_without_a_connection(notify: str | None, life: Life, tmp_path: Path) -> None:
    db = life.connect(key=RAW)
    db.execute("CREATE TABLE t (a)")
    with open_feed(tmp_path / "life.db", key=RAW, notify=notify) as feed, feed.subscribe() as updates:
        assert feed.notification == (notify or "inotify")
        assert feed.tables == ("t",)
        assert feed.last.offset == 0
        db.execute("INSERT INTO t VALUES (7)")
        db.commit()
        assert told(updates.get(WAIT)) == ("t", "insert", 1)


def test_one_who_stalls_reads_on_from_the_log_and_misses_nothing(life: Life, tmp_path: Path) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t (a)")
    with open_feed(tmp_path / "life.db", ring_rows=10) as feed, feed.subscribe(images=True, buffer=7) as updates:
        for number in range(300):
            with db:
                db.execute("INSERT INTO t VALUES (?)", (number,))
        found = [updates.get(WAIT) for _ in range(300)]
        assert [each.after["a"] for each in found if isinstance(each, TableUpdate) and each.after] == list(range(300))
        db.execute("INSERT INTO t VALUES (-1)")
        db.commit()
        assert told(updates.get(WAIT)) == ("t", "insert", 301)


def test_a_transaction_larger_than_memory_arrives_whole(life: Life, tmp_path: Path) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t (a)")
    with open_feed(tmp_path / "life.db", ring_rows=100) as feed, feed.subscribe() as updates:
        with db:
            db.executemany("INSERT INTO t VALUES (?)", ((number,) for number in range(20_000)))
        count = 0
        cursor = Cursor(-1)
        while count < 20_000:
            update = updates.get(WAIT)
            assert isinstance(update, TableUpdate)
            assert update.cursor > cursor
            cursor = update.cursor
            count += 1
            assert update.row_id == count


def test_a_log_that_was_set_aside_is_told_once_as_a_resync(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    db = veritydb.connect(path)
    db.execute("CREATE TABLE t (a)")
    db.execute("INSERT INTO t VALUES (1)")
    db.commit()
    feed = open_feed(path)
    live, stalled = feed.subscribe(), feed.subscribe(since=0)
    db.close()
    path.unlink()
    db = veritydb.connect(path, on_missing="new")
    db.execute("CREATE TABLE other (a)")
    db.execute("INSERT INTO other VALUES (1)")
    db.commit()
    first = live.get(WAIT)
    assert isinstance(first, Resync)
    assert first.offset == -1
    assert isinstance(live.get(WAIT), SchemaChange)
    assert told(live.get(WAIT)) == ("other", "insert", 1)
    found = stalled.drain()
    assert [type(each) for each in found if not isinstance(each, TableUpdate)] == [Resync, SchemaChange]
    with feed.subscribe(since=Cursor(0, stream="0" * 16)) as foreign:
        assert isinstance(foreign.get(WAIT), Resync)
    live.close()
    stalled.close()
    feed.close()
    db.close()


def test_what_cannot_be_is_refused(db: veritydb.Connection) -> None:
    with pytest.raises(veritydb.UnknownTable) as unknown:
        db.subscribe("nonsense")
    assert unknown.value.table == "nonsense"
    for hidden in ("_veritydb_applied", "sqlite_schema"):
        with pytest.raises(veritydb.UnknownTable):
            db.subscribe(hidden)
    with pytest.raises(veritydb.CursorAhead) as ahead:
        db.subscribe(since=1_000)
    assert (ahead.value.offset, ahead.value.last) == (1_000, db.last_offset)
    for nonsense in ("x", "1.2.3", "1@", "-2", "1e3", 1.5, True, "9" * 30, "٣"):
        with pytest.raises(veritydb.CursorMalformed):
            db.subscribe(since=nonsense)
    with pytest.raises(ValueError, match="actions are"):
        db.subscribe(actions="truncate")


def test_what_was_retired_is_told_once_as_a_resync_and_the_rest_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    path = tmp_path / "a.db"
    with contextlib.closing(veritydb.connect(path, autocommit=True)) as db:
        db.execute("CREATE TABLE t (a)")
        for number in range(200):
            db.execute("INSERT INTO t VALUES (?)", (f"{number}" * 20,))
        with open_feed(path, ring_rows=4) as feed:
            # One has begun to read what is going to be retired, one will begin, one has fallen out of the ring.
            began, begins, fell = feed.subscribe(since=-1, buffer=1), feed.subscribe(since=3), feed.subscribe()
            assert isinstance(began.get(0), SchemaChange)
            segments = sorted(streams.log_folder(path).glob("*.seg"))
            assert len(segments) > 4
            for number in range(200, 220):
                db.execute("INSERT INTO t VALUES (?)", (number,))
            for segment in segments[:2]:
                segment.unlink()
            last = db.last_offset
            for updates in (began, begins, feed.subscribe(since=0)):
                found = updates.drain(10_000)
                resyncs = [each for each in found if isinstance(each, Resync)]
                assert len(resyncs) == 1
                place = found.index(resyncs[0])
                assert [each.offset for each in found[place + 1 :]] == list(range(resyncs[0].offset + 1, last + 1))
                before = [each.offset for each in found[:place]]
                assert before == list(range(before[0], before[0] + place)) if before else True
                updates.close()
            assert [each.offset for each in fell.drain(10_000)] == list(range(last - 19, last + 1))
            fell.close()


@pytest.mark.parametrize("way", ["a feed", "a connection"])
def test_a_database_that_gets_another_key_is_followed_on(way: str, tmp_path: Path) -> None:
    """The newer key is asked for where the first came from, when a record is met that needs it."""
    path = tmp_path / "clinic.db"
    folder = streams.log_folder(path)
    asked: list[str] = []

    def key(database: str) -> bytes:
        asked.append(database)
        return RAW

    db = veritydb.connect(path, key=RAW)
    db.execute("CREATE TABLE t (a)")
    feed = open_feed(path, key=key)
    try:
        with feed.subscribe() if way == "a feed" else db.subscribe() as updates, feed.subscribe() as other:
            with db:
                db.execute("INSERT INTO t VALUES (1)")
            assert told(updates.get(WAIT)) == ("t", "insert", 1)
            # Another database key under the same secret, and the file written anew with it.
            secret = keys.normalise(RAW)
            ring = keys.load_keys(folder, secret)
            newer = keys.Keyring(ring.stream, ring.keys | {2: keys.DatabaseKey(2, os.urandom(32))})
            (folder / keys.KEY_FILE).write_bytes(keys.pack_keys(newer, secret))
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            again = veritydb.connect(path, key=RAW)
            if way == "a connection":
                again.subscribe().close()
            with again:
                again.execute("INSERT INTO t VALUES (2)")
            for each in (updates, other):
                while (update := each.get(WAIT)).row_id == 1:
                    pass
                assert told(update) == ("t", "insert", 2)
            with again:
                again.execute("INSERT INTO t VALUES (3)")
            assert told(updates.get(WAIT)) == ("t", "insert", 3)
            again.close()
        assert asked == [str(path), str(path)]
    finally:
        feed.close()
        db.close()


def test_closing_lets_go_of_whoever_waits_in_another_thread(db: veritydb.Connection) -> None:
    updates = db.subscribe()
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(updates))
    thread.start()
    updates.close()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert found == []
    updates.close()
    with pytest.raises(veritydb.SubscriptionClosed):
        updates.get(0)


def test_whoever_waits_reads_by_himself_and_only_event_loops_need_a_thread(db: veritydb.Connection) -> None:
    before = threading.active_count()
    with db.subscribe() as one, db.subscribe() as two:
        feed = one._receiver.feed
        assert two._receiver.feed is feed, "all connections of a process share one"
        assert threading.active_count() == before

        woken: list[int] = []
        feed.add_gate("loop", lambda: woken.append(1))
        assert threading.active_count() == before + 1
        with db:
            db.execute("INSERT INTO patients VALUES (1, 'a', 0)")
        assert told(one.get(WAIT)) == told(two.get(WAIT)) == ("patients", "insert", 1)
        while not woken:
            time.sleep(0.001)
        feed.remove_gate("loop")
        while threading.active_count() > before:
            time.sleep(0.001)
        with db:
            db.execute("INSERT INTO patients VALUES (2, 'a', 0)")
        assert told(one.get(WAIT)) == ("patients", "insert", 2)


def test_commits_that_come_before_a_reader_has_woken_wake_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        written.append(descriptor)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    waiter = Waiter(str(tmp_path))
    for _ in range(100):
        waiter.wake()
    assert len(written) == 1
    waiter.wait(WAIT)
    waiter.wake()
    assert len(written) == 2
    waiter.close()
    waiter.wake()
    assert len(written) == 2, "not into a descriptor that may be another file's by now"


def test_of_many_threads_that_wait_each_gets_everything(db: veritydb.Connection) -> None:
    """The one who leads changes all the time: each leaves when it has its update, or its time is over."""
    seen: list[list[Any]] = [[] for _ in range(8)]

    def read(number: int, updates: Any) -> None:
        while len(seen[number]) < 40:
            update = updates.get(0.0005 * number if number % 2 else WAIT)
            if update is not None:
                seen[number].append(update.row_id)

    subscriptions = [db.subscribe() for _ in seen]
    threads = [threading.Thread(target=read, args=pair) for pair in enumerate(subscriptions)]
    for thread in threads:
        thread.start()
    for value in range(40):
        with db:
            db.execute("INSERT INTO patients VALUES (?, 'a', 0)", (value,))
    for thread, subscription in zip(threads, subscriptions, strict=True):
        thread.join(WAIT)
        subscription.close()
    assert seen == [list(range(40))] * 8


def test_who_is_interrupted_while_he_reads_for_all_loses_nothing(
    db: veritydb.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.subscribe() as updates, db.subscribe() as other:
        feed = updates._receiver.feed
        take, count = feed._take, itertools.count()

        def interrupted(record: Any) -> None:
            if next(count) == 1:
                raise KeyboardInterrupt  # As Ctrl-C does, in the thread that iterates.
            take(record)

        monkeypatch.setattr(feed, "_take", interrupted)
        for value in (1, 2, 3):
            with db:
                db.execute("INSERT INTO patients VALUES (?, 'a', 0)", (value,))
        with pytest.raises(KeyboardInterrupt):
            updates.get(WAIT)
        for subscription in (updates, other):
            assert [told(subscription.get(WAIT)) for _ in range(3)] == [("patients", "insert", n) for n in (1, 2, 3)]
            assert subscription.get(0) is None


def test_a_predicate_that_raises_hurts_only_its_own_subscriber(db: veritydb.Connection) -> None:
    def fails(update: TableUpdate) -> bool:
        raise LookupError(update.table)

    with db.subscribe(where=fails) as broken, db.subscribe() as sound:
        db.execute("INSERT INTO patients VALUES (1, 'a', 0)")
        db.commit()
        with pytest.raises(LookupError):
            broken.get(WAIT)
        assert told(sound.get(WAIT)) == ("patients", "insert", 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_asynchronous_connection_subscribes_too(backend: str, life: Life, tmp_path: Path) -> None:
    from veritydb import aio

    life.connect().close()

    async def main() -> list[Any]:
        async with aio.connect(tmp_path / "life.db") as db, db.subscribe(since=-1) as updates:
            await db.execute("CREATE TABLE t (a)")
            await db.execute("INSERT INTO t VALUES (1)")
            await db.commit()
            with anyio.fail_after(WAIT):
                found = [await updates.get()]
                found += await updates.get_all()
                with anyio.move_on_after(0.05):
                    found.append(await updates.get())
                await db.execute("INSERT INTO t VALUES (2)")
                await db.commit()
                found.append(await updates.get())
            return found

    schema, one, two = anyio.run(main, backend=backend)
    assert isinstance(schema, SchemaChange)
    assert [told(one), told(two)] == [("t", "insert", 1), ("t", "insert", 2)]


def test_a_hundred_tasks_of_one_loop_are_woken_by_one_feed(life: Life, tmp_path: Path) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t (a)")

    async def main() -> list[int]:
        counts = [0] * 100
        with open_feed(tmp_path / "life.db") as feed:
            async with anyio.create_task_group() as group:

                async def read(number: int) -> None:
                    async with feed.subscribe_async() as updates:
                        async for _ in updates:
                            counts[number] += 1
                            if counts[number] == 5:
                                return

                for number in range(100):
                    group.start_soon(read, number)
                for value in range(5):
                    await anyio.sleep(0.01)
                    with db:
                        db.execute("INSERT INTO t VALUES (?)", (value,))
            assert not feed.led or feed.last.offset == 5
        return counts

    with_time = anyio.run(main)
    assert with_time == [5] * 100


def test_a_subscription_does_not_survive_a_fork_and_says_so(life: Life, tmp_path: Path) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t (a)")
    with db.subscribe() as updates:
        pid = os.fork()
        if not pid:
            code = 1
            try:
                updates.get(1)
            except veritydb.ProgrammingError as error:
                code = 0 if "fork" in str(error) else 2
            updates.close()
            with open_feed(tmp_path / "life.db") as feed, feed.subscribe(since=-1) as own:
                code += 4 * (len(own.drain()) != 1)
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        with db:
            db.execute("INSERT INTO t VALUES (1)")
        assert told(updates.get(WAIT)) == ("t", "insert", 1)


@given(
    cursor=st.builds(
        Cursor,
        st.integers(-1, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.sampled_from(["", "0123456789abcdef"]),
    )
)
def test_a_cursor_is_its_text(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor


@given(text=st.text(alphabet="0123456789.@abcdef-x \n٣", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except veritydb.CursorMalformed:
        return
    assert Cursor.parse(str(cursor)) == cursor


def test_waiting_again_and_again_leaves_nothing_behind(life: Life) -> None:
    db = life.connect()
    db.execute("CREATE TABLE t (a)")
    with db.subscribe() as updates:
        watches = updates._receiver.feed._waiter._inotify._watches
        for number in range(6):
            assert updates.get(0.15) is None, "so long that the feed goes to sleep"
            with db:
                db.execute("INSERT INTO t VALUES (?)", (number,))
            assert told(updates.get(WAIT)) == ("t", "insert", number + 1)
        assert len(watches) <= 3, "the folder, the segment, and one that is on its way out"
