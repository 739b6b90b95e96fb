"""Replay equals life: databases of a test, each rebuilt from its log when the test is over, and compared.

The fixture ``life`` hands out a :class:`Life`. A test opens connections through it and does what it is about; what is
checked afterwards is the same for all of them (:meth:`Life.check`).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

import veritydb
from tests.support import files
from tests.support.content import content, different
from veritydb.replay.compare import differences
from veritydb.replay.rebuilding import rebuild

if TYPE_CHECKING:
    from pathlib import Path

KEY = "correct horse battery staple"
"""Costs a key derivation once in a process; tests that are not about passphrases use :data:`RAW`."""
RAW = bytes(range(32))


class Life:
    """The databases of one test, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._databases: dict[Path, dict[str, Any]] = {}
        self._connections: list[veritydb.Connection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for path in self._databases:
            self.check(path)

    def connect(
        self, name: str = "life.db", *, key: Any = None, register: str | None = None, **options: Any
    ) -> veritydb.Connection:
        """Open ``name`` in the test's folder, and check it when the test is over."""
        path = self.folder / name
        if register is not None:
            options["register"] = register
        connection = veritydb.connect(path, key=key, **options)
        self._databases[path] = {"key": key, "register": register}
        self._connections.append(connection)
        return connection

    def watch(self, path: Path, *, key: Any = None, register: str | None = None) -> None:
        """Check a database too that something else opened."""
        self._databases[path] = {"key": key, "register": register}

    def forget(self, path: Path) -> None:
        """Do not check ``path``: the test has broken it on purpose."""
        del self._databases[path]

    def close(self) -> None:
        """Close the connections of the test; open transactions are rolled back."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def check(self, path: Path) -> None:
        """Require that ``path`` is sound, its chain whole, and a rebuild from its log equal to it in all it holds."""
        key, register = self._databases[path]["key"], self._databases[path]["register"]
        names = (self.folder / f"{path.name}.rebuilt-{number}" for number in itertools.count())
        target = next(name for name in names if not name.exists())
        assert files.chain_is_whole(path)
        options = {} if register is None else {"register": register}
        rebuild(path, target, key=key, **options)
        with files.opened(path, key, register) as life, files.opened(target, key, register) as rebuilt:
            for db in (life, rebuilt):
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            # Twice, by the product's own comparison and by one that shares no code with it.
            assert not differences(life, rebuilt), differences(life, rebuilt)
            assert not different(content(life), content(rebuilt))
