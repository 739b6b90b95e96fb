"""Running a program with ``sqlite3`` replaced: ``with veritydb.install():`` and ``veritydb run script.py``.

While installed, ``import sqlite3`` (and ``sqlite3.dbapi2``) finds VerityDB. A module that imported the standard one
before keeps what it has.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from veritydb import connection

_NAMES = ("sqlite3", "sqlite3.dbapi2")


@contextmanager
def install(*, key: Any = None, actor: str = "", on_missing: str | None = None) -> Generator[None]:
    """Let ``import sqlite3`` find VerityDB inside the ``with``.

    ``key``, ``actor`` and ``on_missing`` are what connections get that say nothing of it themselves, as a program for
    ``sqlite3`` cannot; the key is for files only. See :class:`veritydb.Connection`.
    """
    # Its own copies go to the standard module, which is not to be found any more when it is first needed.
    import veritydb.backups  # noqa: F401  # pyright: ignore[reportUnusedImport]  loaded, not used

    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "sqlite3"}
    for name in before:
        del sys.modules[name]
    sys.modules.update(_stand_in())
    outer = dict(connection.defaults)
    given = {"key": key, "actor": actor, "on_missing": on_missing}
    connection.defaults.update({name: value for name, value in given.items() if value})
    try:
        yield
    finally:
        connection.defaults.clear()
        connection.defaults.update(outer)
        for name in [name for name in sys.modules if name.partition(".")[0] == "sqlite3"]:
            del sys.modules[name]
        sys.modules.update(before)


def _stand_in() -> dict[str, ModuleType]:
    """Make the modules that are found instead.

    They are not VerityDB's own, so that modules which only exist beside the standard one (``python -m sqlite3``) are
    still found there, and use what they import: this.
    """
    import veritydb
    from veritydb import dbapi2

    made: dict[str, ModuleType] = {}
    sources: tuple[Any, ...] = (veritydb, dbapi2)
    for name, source in zip(_NAMES, sources, strict=True):
        made[name] = ModuleType(name, source.__doc__)
        content: dict[str, Any] = {key: value for key, value in source.__dict__.items() if not key.startswith("__")}
        made[name].__dict__.update(content, __all__=source.__all__, __getattr__=source.__getattr__)
    package = made["sqlite3"]
    package.__path__ = list(sqlite3.__path__)
    package.dbapi2 = made["sqlite3.dbapi2"]  # type: ignore[attr-defined]  # a module gets what it is asked for
    return made
