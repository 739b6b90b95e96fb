"""A pytest plugin for runs of SQLAlchemy's suites: it knows VerityDB's dialects, and that replay must equal life.

:mod:`tests.sqlalchemy.suites` starts those runs, in processes of their own, because SQLAlchemy's test plugin takes
pytest over. Before a test class gives up its tables, and before a database is deleted, every database in the run's
folder is rebuilt from its log and compared.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.dialects import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

for _name in ("veritydb", "sqlite.veritydb"):
    registry.register(_name, "veritydb.sqlalchemy.dialect", "VerityDialect")
for _name in ("veritydb.aio", "sqlite.veritydb_aio"):
    registry.register(_name, "veritydb.sqlalchemy.aio", "AsyncVerityDialect")

KEY = os.environ.get("SUITE_KEY")
_SHARED = "cluster=" in os.environ.get("SUITE_URL", "")
"""Whether the database is a copy of a cluster's stream: what a class leaves there, no removal of files undoes."""
_EVERY = os.environ.get("SUITE_COMPARES") == "each"
"""Compare before each test's teardown; otherwise only before the last one of each class."""
_compared: dict[Path, int] = {}
"""How many bytes of log each database had when it was last compared."""
compared_count = 0


def compare(folder: Path) -> None:
    """Rebuild every database in ``folder`` that has changed since, and require that life and replay are equal."""
    global compared_count
    from tests.support.files import opened_log
    from tests.support.life import Life

    for log in sorted(folder.glob("*.db-log")):
        path = log.with_name(log.name.removesuffix("-log"))
        if not path.exists() or path.stat().st_size == 0:
            continue
        with opened_log(path) as opened:
            offset = opened.head.next_offset
        if _compared.get(path) == offset:
            continue
        life = Life(folder)
        life.watch(path, key=KEY, register="veritydb.sqlalchemy:register")
        life.check(path)
        _compared[path] = offset
        compared_count += 1


def remove(folder: Path) -> None:
    """Remove every database of ``folder`` and its log, so that the next class begins anew."""
    for path in itertools.chain(folder.glob("*.db"), folder.glob("*.db.*"), folder.glob("*.db-*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    _compared.clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: Any, nextitem: Any) -> Iterator[None]:
    """Compare while the tables of the test are still there."""
    problem = None
    if _EVERY or nextitem is None or nextitem.parent is not item.parent:
        try:
            compare(Path.cwd())
        except AssertionError as error:
            problem = error
    yield
    if problem is not None:
        raise problem


def pytest_collection_modifyitems() -> None:
    """Let the suite recognise our streaming cursors: it knows those of SQLAlchemy's own drivers, by their names."""
    from sqlalchemy.testing.suite.test_results import ServerSideCursorsTest

    theirs = ServerSideCursorsTest._is_server_side

    def is_server_side(test: Any, cursor: Any) -> bool:
        if test.engine.dialect.driver == "veritydb_aio":
            return bool(cursor.server_side)
        return bool(theirs(test, cursor))

    ServerSideCursorsTest._is_server_side = is_server_side


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how often a database was rebuilt, for the test that started this run."""
    terminalreporter.write_line(f"rebuilt and compared: {compared_count}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Put our provisioning in the place of SQLAlchemy's, which attaches a second file to write into, and deletes files.

    With a database in memory nothing is replaced.
    """
    from sqlalchemy import event
    from sqlalchemy.dialects.sqlite import provision as _loaded  # noqa: F401  for what it registers
    from sqlalchemy.testing import provision

    theirs = provision.post_configure_engine.fns["sqlite"]

    def ours(url: Any, engine: Any, follower: Any) -> None:
        if not engine.driver.startswith("veritydb") or not engine.dialect._is_url_file_db(engine.url):
            theirs(url, engine, follower)
            return
        event.listen(engine, "connect", _attach)
        if not _SHARED:
            event.listen(engine, "engine_disposed", lambda _: remove(Path.cwd()))

    provision.post_configure_engine.for_db("sqlite", "veritydb")(ours)


def _attach(connection: Any, _: Any) -> None:
    # So that a test which writes into it is refused by name; nothing can be lost in there.
    connection.execute("ATTACH ':memory:' AS test_schema")
