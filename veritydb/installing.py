"""Running a program with ``sqlite3`` replaced: ``with veritydb.install():`` and ``python -m veritydb run script.py``.

While installed, ``import sqlite3`` (and ``sqlite3.dbapi2``, ``sqlite3.dump``) finds VerityDB. A module that imported the
standard one before keeps what it has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_NAMES = ("sqlite3", "sqlite3.dbapi2", "sqlite3.dump")


@contextmanager
def install() -> Iterator[None]:
    """Let ``import sqlite3`` find VerityDB inside the ``with``."""
    import veritydb
    from veritydb import dbapi2, dump

    before = {name: sys.modules.get(name) for name in _NAMES}
    replacements: tuple[ModuleType, ...] = (veritydb, dbapi2, dump)
    sys.modules.update(zip(_NAMES, replacements, strict=True))
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
