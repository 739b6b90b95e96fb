"""``veritydb.aio``: aiosqlite's shape, one thread a connection, and nothing left behind by a cancelled task."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import veritydb
from tests.support import files
from veritydb import aio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.life import Life


@pytest.fixture
def path(life: Life, tmp_path: Path) -> Iterator[Path]:
    """Where the test's database is; it is checked against its log when the test is over."""
    path = tmp_path / "clinic.db"
    life.watch(path)
    yield path
    _until(lambda: not any(thread.name == "veritydb.aio" for thread in threading.enumerate()))


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run an asynchronous function, with each of the two event loops that anyio knows."""
    return functools.partial(anyio.run, backend=request.param)


def _until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do. Fails by itself only if it is never done."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_statements_transactions_and_rows_are_awaited(path: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with aio.connect(path, actor="dr.lee") as db:
            await db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
            cursor = await db.executemany("INSERT INTO t (b) VALUES (?)", [(n,) for n in range(200)])
            assert cursor.rowcount == 200
            assert db.in_transaction
            await db.commit()
            assert not db.in_transaction
            await db.execute("DELETE FROM t")
            await db.rollback()
            async with db.execute("SELECT b FROM t ORDER BY a") as rows:
                assert [row async for row in rows] == [(n,) for n in range(200)]
            cursor = await db.execute("SELECT a, b FROM t WHERE a < :n", {"n": 6})
            assert await cursor.fetchone() == (1, 0)
            assert await cursor.fetchmany(2) == [(2, 1), (3, 2)]
            assert await cursor.fetchall() == [(4, 3), (5, 4)]
            assert [column[0] for column in cursor.description or ()] == ["a", "b"]
            assert await db.execute_insert("INSERT INTO t (b) VALUES (?)", (1,)) == (201,)
            assert await db.execute_fetchall("SELECT count(*) FROM t") == [(201,)]
            await db.executescript("INSERT INTO t (b) VALUES (2); INSERT INTO t (b) VALUES (3)")
            assert db.last_offset is not None

    run(main)
    assert {each.actor for each in files.transactions(path) if each.offset} == {"dr.lee"}


def test_actor_and_reason_reach_the_log(path: Path) -> None:
    async def main() -> None:
        async with aio.connect(path, isolation_level=None) as db:
            await db.execute("CREATE TABLE t (a)")
            db.actor = "dr.wu"
            with db.reason("review"):
                await db.execute("INSERT INTO t VALUES (1)")
            await db.execute("INSERT INTO t VALUES (2)")

    anyio.run(main)
    assert [(each.actor, each.reason) for each in files.transactions(path)][-2:] == [("dr.wu", "review"), ("dr.wu", "")]


def test_rows_properties_functions_and_dump_work_as_in_sqlite3(path: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with aio.connect(path) as db:
            assert db.row_factory is None
            db.row_factory = aio.Row
            await db.create_function("twice", 1, lambda value: value * 2, deterministic=True)
            async with db.execute("SELECT twice(21) AS answer") as cursor:
                row = await cursor.fetchone()
            assert row["answer"] == 42
            await db.execute("CREATE TABLE t (a)")
            await db.execute("INSERT INTO t VALUES ('x')")
            await db.commit()
            assert db.total_changes == 1
            assert [line async for line in db.iterdump()][1] == "CREATE TABLE t (a);"
            async with aio.connect(":memory:") as copy:
                await db.backup(copy)
                assert await copy.execute_fetchall("SELECT a FROM t") == [("x",)]

    run(main)


def test_errors_are_veritydbs_and_leave_the_connection_usable(path: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with aio.connect(path) as db:
            await db.execute("CREATE TABLE t (a UNIQUE)")
            await db.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(veritydb.IntegrityError):
                await db.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(veritydb.StatementRefused):
                await db.execute("PRAGMA writable_schema = ON")
            await db.commit()

    run(main)


def test_opening_what_cannot_be_opened_raises_and_ends_the_thread(path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.connect(path):
            pass
        with pytest.raises(veritydb.NotEncrypted):
            await aio.connect(path, key="unexpected")
        with pytest.raises(veritydb.OperationalError, match="unable to open database"):
            async with aio.connect(tmp_path / "nowhere" / "c.db"):
                raise AssertionError("it was opened")

    asyncio.run(main())


def test_a_closed_connection_says_so(path: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        db = await aio.connect(path)
        cursor = await db.execute("SELECT 1")
        await db.close()
        await db.close()
        with pytest.raises(ValueError, match="Connection closed"):
            await cursor.fetchall()
        with pytest.raises(veritydb.ProgrammingError, match="no active connection"):
            await db.execute("SELECT 1")

    run(main)


def test_a_connection_that_is_forgotten_warns_and_ends_its_thread(path: Path) -> None:
    async def main() -> None:
        db = await aio.connect(path)
        with pytest.warns(ResourceWarning, match="deleted before being closed"):  # noqa: PT031  the warning comes in the last line
            del db
            gc.collect()

    asyncio.run(main())


def test_stopping_closes_without_being_awaited_and_after_the_loop_is_closed(path: Path) -> None:
    async def opened() -> aio.Connection:
        db = await aio.connect(path)
        await db.execute("CREATE TABLE t (a)")
        return db

    db = asyncio.run(opened())
    db.stop()

    async def awaited() -> None:
        other = await opened_again()
        await other.stop()

    async def opened_again() -> aio.Connection:
        return await aio.connect(path)

    asyncio.run(awaited())


def test_many_tasks_take_turns_on_one_connection_and_none_is_lost(path: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with aio.connect(path, isolation_level=None) as db:
            await db.execute("CREATE TABLE t (a)")

            async def insert(value: int) -> None:
                await db.execute("INSERT INTO t VALUES (?)", (value,))

            async with anyio.create_task_group() as group:
                for value in range(50):
                    group.start_soon(insert, value)
            assert await db.execute_fetchall("SELECT count(*), sum(a) FROM t") == [(50, 1225)]

    run(main)


def test_the_event_loop_goes_on_while_a_statement_runs(path: Path) -> None:
    async def main() -> None:
        async with aio.connect(path) as db:
            begun, may_end = threading.Event(), threading.Event()

            def wait() -> int:
                begun.set()
                assert may_end.wait(30)
                return 1

            await db.create_function("wait", 0, wait)
            task = asyncio.create_task(db.execute_fetchall("SELECT wait()"))
            while not begun.is_set():
                await asyncio.sleep(0)
            may_end.set()  # Only a loop that is not blocked comes here.
            assert await task == [(1,)]

    asyncio.run(main())


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE tick(i)) SELECT count(*) FROM n"


async def _ticking(db: aio.Connection) -> threading.Event:
    """Give the connection a function that says when a statement is running."""
    running = threading.Event()

    def tick(number: int) -> int:
        running.set()
        return 1

    await db.create_function("tick", 1, tick)
    return running


def test_a_cancelled_read_is_interrupted_and_the_connection_is_idle_afterwards(path: Path) -> None:
    async def main() -> None:
        async with aio.connect(path) as db:
            running = await _ticking(db)
            task = asyncio.create_task(db.execute_fetchall(ENDLESS))
            while not running.is_set():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await db.execute_fetchall("SELECT 1") == [(1,)]

    asyncio.run(main())


def test_a_cancelled_write_outside_a_transaction_is_undone_as_a_whole(path: Path, run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with aio.connect(path, isolation_level=None) as db:
            running = await _ticking(db)
            await db.execute("CREATE TABLE t (a)")
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(db.execute, f"INSERT INTO t {ENDLESS.replace('count(*)', 'i')}")
                    while not running.is_set():
                        await anyio.sleep(0)
                    scope.cancel()
            assert scope.cancelled_caught
            assert await db.execute_fetchall("SELECT count(*) FROM t") == [(0,)]

    run(main)


def test_a_cancelled_write_in_a_transaction_is_finished_so_that_what_came_before_it_stays(path: Path) -> None:
    """SQLite answers an interrupted write by rolling back its whole transaction, which the program did not ask for."""

    async def main() -> None:
        async with aio.connect(path) as db:
            begun, may_end = threading.Event(), threading.Event()

            def slow() -> int:
                begun.set()
                assert may_end.wait(30)
                return 2

            await db.create_function("slow", 0, slow)
            await db.execute("CREATE TABLE t (a)")
            await db.execute("INSERT INTO t VALUES (1)")
            task = asyncio.create_task(db.execute_insert("INSERT INTO t VALUES (slow())"))
            while not begun.is_set():
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            assert not task.done()
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            await db.commit()
            assert await db.execute_fetchall("SELECT a FROM t") == [(1,), (2,)]

    asyncio.run(main())


def test_a_call_that_is_cancelled_before_its_turn_is_never_carried_out(path: Path) -> None:
    async def main() -> None:
        async with aio.connect(path, isolation_level=None) as db:
            await db.execute("CREATE TABLE t (a)")
            begun, may_end = threading.Event(), threading.Event()

            def hold() -> None:
                begun.set()
                assert may_end.wait(30)

            first = asyncio.create_task(db.carry_out(hold))
            while not begun.is_set():
                await asyncio.sleep(0)
            second = asyncio.create_task(_inserted(db))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            may_end.set()
            await first
            assert await db.execute_fetchall("SELECT count(*) FROM t") == [(0,)]

    async def _inserted(db: aio.Connection) -> None:
        await db.execute("INSERT INTO t VALUES (1)")

    asyncio.run(main())


def test_an_encrypted_database_is_opened_with_its_key(life: Life, tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.connect(tmp_path / "secret.db", key=bytes(32)) as db:
            await db.execute("CREATE TABLE t (a)")

    asyncio.run(main())
    life.watch(tmp_path / "secret.db", key=bytes(32))


def test_every_public_name_of_aiosqlite_is_here() -> None:
    names: list[Any] = """
        connect Connection Cursor Row DatabaseError Error IntegrityError NotSupportedError OperationalError
        ProgrammingError Warning InterfaceError DataError InternalError register_adapter register_converter
        sqlite_version sqlite_version_info __version__
    """.split()  # noqa: SIM905  a list would be as many lines
    assert set(names) <= set(dir(aio))
    methods = """
        execute executemany executescript execute_insert execute_fetchall cursor commit rollback close stop interrupt
        create_function set_authorizer set_progress_handler set_trace_callback iterdump backup enable_load_extension
        load_extension in_transaction isolation_level row_factory text_factory total_changes
    """.split()  # noqa: SIM905  a list would be as many lines
    assert set(methods) <= set(dir(aio.Connection))
