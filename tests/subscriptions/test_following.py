"""A log that is followed: of other processes, beyond memory, past what was retired, set aside, or sealed anew."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import veritydb
from tests.crash.small import make_small
from tests.support.life import RAW
from tests.support.subscribed import WAIT, told
from veritydb import keys, streams
from veritydb.subscriptions import (
    Cursor,
    Resync,
    SchemaChange,
    TableUpdate,
    open_feed,
)
from veritydb.subscriptions.updates import Selection

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.life import Life


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


def test_what_memory_no_longer_has_is_committed_all_the_same(life: Life, tmp_path: Path) -> None:
    """As consumers and projections take it: the ring has gone on since they looked, and the log has it."""
    db = life.connect()
    db.execute("CREATE TABLE t (a)")
    with open_feed(tmp_path / "life.db", ring_rows=10) as feed:
        receiver = feed.receiver(Selection(frozenset({"t"})))
        for number in range(40):
            with db:
                db.execute("INSERT INTO t VALUES (?)", (number,))
        feed.catch_up()
        assert not receiver.behind
        assert [told(update) for update in iter(receiver.take_committed, None)] == [
            ("t", "insert", number) for number in range(1, 41)
        ]
        receiver.close()


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
