"""``veritydb+aio://``: the same dialect for SQLAlchemy's asyncio extension."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

import veritydb
from tests.support import files
from veritydb import aio
from veritydb.events import Op, Rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.support.life import Life

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("body", Text, unique=True))


def _run(life: Life, path: Path, main: Callable[[AsyncEngine], Awaitable[None]], **options: Any) -> None:
    """Run ``main`` with an engine on ``path``, and check the database against its log afterwards."""

    async def whole() -> None:
        engine = create_async_engine(f"veritydb+aio:///{path}?actor=web", **options)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(metadata.create_all)
            await main(engine)
        finally:
            await engine.dispose()

    asyncio.run(whole())
    life.watch(path)


def test_core_returning_savepoints_and_reflection_work(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        assert (engine.dialect.name, engine.dialect.driver) == ("sqlite", "veritydb_aio")
        assert isinstance(engine.pool, AsyncAdaptedQueuePool)
        async with engine.begin() as connection:
            made = await connection.execute(insert(notes).returning(notes.c.id), [{"body": "a"}, {"body": "b"}])
            assert made.all() == [(1,), (2,)]
            with pytest.raises(IntegrityError):
                async with connection.begin_nested():
                    await connection.execute(insert(notes).values(body="c"))
                    await connection.execute(insert(notes).values(body="a"))
            assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == ["notes"]
        async with engine.connect() as connection:
            assert (await connection.scalars(select(notes.c.body))).all() == ["a", "b"]

    _run(life, path, main)


def test_results_can_be_streamed(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(insert(notes), [{"body": f"n{number}"} for number in range(2500)])
        async with engine.connect() as connection:
            result = await connection.stream(select(notes.c.id).order_by(notes.c.id))
            assert [row.id async for row in result] == list(range(1, 2501))

    _run(life, path, main)


def test_bulk_statements_of_a_session_are_in_the_log_with_actor_and_reason(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        by = engine.execution_options(veritydb_actor="dr.lee", veritydb_reason="import")
        async with AsyncSession(by) as session:
            await session.execute(insert(notes), [{"body": f"n{number}"} for number in range(100)])
            await session.commit()
            await session.execute(update(notes).where(notes.c.id <= 40).values(body=notes.c.body + "!"))
            await session.commit()
        async with AsyncSession(engine) as session:
            await session.execute(text("DELETE FROM notes WHERE id <= 10"))
            await session.commit()

    _run(life, path, main)
    found = [
        (each.actor, each.reason, event.op, len(event))
        for each in files.transactions(path)
        for event in each.events
        if isinstance(event, Rows)
    ]
    assert found == [
        ("dr.lee", "import", Op.INSERT, 100),
        ("dr.lee", "import", Op.UPDATE, 40),
        ("web", "", Op.DELETE, 10),
    ]


def test_tasks_have_connections_of_their_own(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        async def write(number: int) -> None:
            async with engine.begin() as connection:
                await connection.execute(insert(notes).values(body=f"n{number}"))

        await asyncio.gather(*(write(number) for number in range(8)))
        async with engine.connect() as connection:
            assert await connection.scalar(select(func.count()).select_from(notes)) == 8

    _run(life, path, main)


def test_a_cancelled_task_leaves_its_transaction_undone_and_the_pool_usable(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        written = asyncio.Event()

        async def write() -> None:
            async with engine.begin() as connection:
                await connection.execute(insert(notes).values(body="undone"))
                written.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(write())
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with engine.begin() as connection:
            assert await connection.scalar(select(func.count()).select_from(notes)) == 0
            await connection.execute(insert(notes).values(body="done"))

    _run(life, path, main)


def test_autocommit_the_driver_connection_and_functions_are_reached(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            assert isinstance(raw.driver_connection, aio.Connection)
            await raw.driver_connection.create_function("twice", 1, lambda value: value * 2)
            assert await connection.scalar(text("SELECT twice(4)")) == 8
            assert await connection.scalar(text("SELECT 'abc' REGEXP '^a'")) == 1

    _run(life, path, main, isolation_level="AUTOCOMMIT")


def test_a_connection_that_was_closed_below_the_pool_is_replaced(life: Life, path: Path) -> None:
    async def main(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            assert raw.driver_connection is not None
            await raw.driver_connection.close()
            with pytest.raises(Exception, match="no active connection") as caught:
                await connection.execute(select(notes))
            assert connection.invalidated, caught.value
        async with engine.connect() as connection:
            assert (await connection.execute(select(notes))).all() == []

    _run(life, path, main)


def test_in_memory_all_tasks_share_one_connection() -> None:
    async def main() -> None:
        engine = create_async_engine("sqlite+veritydb_aio://")
        assert isinstance(engine.pool, StaticPool)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            await connection.execute(insert(notes).values(body="a"))
        async with engine.connect() as connection:
            assert await connection.scalar(select(notes.c.body)) == "a"
        await engine.dispose()

    asyncio.run(main())


def test_errors_name_what_was_wrong(path: Path) -> None:
    async def main() -> None:
        engine = create_async_engine(f"veritydb+aio:///{path}")
        async with engine.connect() as connection:
            with pytest.raises(Exception, match="writable_schema") as caught:
                await connection.execute(text("PRAGMA writable_schema = ON"))
            assert isinstance(getattr(caught.value, "orig", None), veritydb.StatementRefused)
        await engine.dispose()

    asyncio.run(main())
