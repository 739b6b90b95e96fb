"""Waiting for what is to come: threads, event loops, interruptions, forks; who reads, and who is woken."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import veritydb
from tests.support.subscribed import WAIT, told
from veritydb.subscriptions import (
    SchemaChange,
    open_feed,
)
from veritydb.subscriptions.notification import Waiter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.life import Life


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
