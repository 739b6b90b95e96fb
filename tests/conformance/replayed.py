"""Rebuilds each database file that a foreign suite leaves from its log, and compares.

Such suites delete their files themselves, so it is done whenever the last connection to a file has been closed.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from veritydb import opening
from veritydb.errors import KeyProblem
from veritydb.keys import load_keys, normalise
from veritydb.replay.compare import differences
from veritydb.replay.rebuilding import rebuild
from veritydb.session import Session
from veritydb.streams import log_folder


class Compared:
    """What was compared since :meth:`watch`."""

    def __init__(self, key: Any = None) -> None:
        self.count = 0
        """Rebuilds."""
        self.problems: list[str] = []
        self._key = key
        self._open: WeakSet[Session] = WeakSet()

    def watch(self) -> None:
        """Compare from now on, in this process."""
        make: Any = Session.__init__
        close: Any = Session.close

        def making(session: Session, *arguments: Any, **options: Any) -> None:
            make(session, *arguments, **options)
            self._open.add(session)

        def closing_(session: Session) -> None:
            close(session)
            self._open.discard(session)
            path = session.stream.path
            if path and not session.stream.read_only and all(other.stream.path != path for other in self._open):
                self._compare(Path(path))

        Session.__init__ = making
        Session.close = closing_

    def _compare(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size == 0 or not log_folder(path).is_dir():
            return
        key, file_key = None, None
        if (log_folder(path) / "keys").exists():
            try:
                key, file_key = self._key, load_keys(log_folder(path), normalise(self._key)).current.file_key()
            except KeyProblem as error:
                self.problems.append(f"{path.name}: {error}")
                return
        opened = partial(opening.open_file, create=False)
        with tempfile.TemporaryDirectory() as folder:
            target = os.path.join(folder, "rebuilt.db")
            rebuild(path, target, key=key)
            with closing(opened(str(path), file_key)) as life, closing(opened(target, file_key)) as replayed:
                self.problems += [f"{path.name}: {line}" for line in differences(life, replayed)]
        self.count += 1


__all__ = ["Compared"]
