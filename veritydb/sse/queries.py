"""Questions to a database: what it holds now, and what it held as of an offset.

Driven by the endpoints; everything here blocks and runs in worker threads, of which there are only so many
(``queries_max``). How current an answer has to be is the caller's choice, as everywhere in VerityDB: *default* answers
from the file as it is, having waited for the offset the caller has seen (``X-Read-After``); *synchronized* first asks
how far the log is; *eventual* waits for nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from veritydb.errors import Error
from veritydb.events import Value
from veritydb.keys import Key, normalise
from veritydb.log.store import Log
from veritydb.replay.registering import Register
from veritydb.sse.guarded import Answer, Guarded, TableInfo
from veritydb.sse.health import LocalQuorum, QuorumOf, log_health
from veritydb.sse.past import PastFiles
from veritydb.sse.problems import Problem
from veritydb.sse.rights import Rights
from veritydb.sse.settings import Settings
from veritydb.streams import keyring_of, log_folder
from veritydb.workshop import file_key_of

CONSISTENCIES = ("default", "synchronized", "eventual")
WAIT_SECONDS = 5.0
"""For an offset to be applied."""
_LOOK_EVERY = 0.01


class Queries:
    """Reads one database."""

    def __init__(
        self,
        database: Path,
        key: Key | None,
        settings: Settings,
        register: Register = None,
        quorum: QuorumOf | None = None,
    ) -> None:
        self._path = database
        self._folder = log_folder(database)
        self._settings = settings
        self._register = register
        self._quorum = quorum or LocalQuorum()
        secret = None if key is None else normalise(key, str(database))
        self._file_key = file_key_of(keyring_of(self._folder, secret, str(database)))
        with contextlib.closing(Log.open(self._folder, read_only=True)) as log:
            self.stream = log.stream.hex()[:16]
            """What cursors of this database carry."""
        self._past = PastFiles(database, key, settings.past, register)

    def close(self) -> None:
        """Take the files of the past away."""
        self._past.close()

    def run(
        self,
        rights: Rights,
        sql: str,
        parameters: Sequence[Value] | Mapping[str, Value],
        *,
        at: int | None = None,
        after: int | None = None,
        consistency: str = "default",
    ) -> Answer:
        """Run one SELECT. Raises Problem."""
        if not rights.query:
            raise Problem("forbidden", "this role may not query")
        with self._open(rights, at, after, consistency) as guarded:
            return guarded.run(sql, parameters)

    def tables(self, rights: Rights, *, at: int | None = None) -> tuple[Sequence[TableInfo], int]:
        """Return what the caller may see, and as of which offset."""
        with self._open(rights, at, None, "default") as guarded:
            return guarded.tables, guarded.offset

    @contextlib.contextmanager
    def _open(self, rights: Rights, at: int | None, after: int | None, consistency: str) -> Generator[Guarded]:
        if at is not None:
            if not rights.history:
                raise Problem("forbidden", "this role may not ask what was")
            if not 0 <= at < self.head():
                raise Problem("future-offset")
            with self._past.at(at) as path, self._guarded(path, rights) as guarded:
                yield guarded
            return
        known = -1  # How far the stream is for certain, here or where others keep it.
        if consistency == "synchronized":
            known = self._agreed(strictly=True)
            after = max(known, -1 if after is None else after)
        elif consistency == "eventual":
            after = None
        with contextlib.ExitStack() as stack:
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                guarded = stack.enter_context(self._guarded(self._path, rights))
                if after is None or guarded.offset >= after:
                    break
                stack.pop_all().close()
                if after > known and after > (known := self._agreed(strictly=False)):
                    raise Problem("future-offset")
                if time.monotonic() > deadline:
                    raise Problem("behind", f"offset {after}")
                time.sleep(_LOOK_EVERY)
            yield guarded

    @contextlib.contextmanager
    def _guarded(self, path: Path, rights: Rights) -> Generator[Guarded]:
        try:
            opened = Guarded(str(path), self._file_key, rights, self._settings.limits, self._register)
        except (Error, apsw.Error, OSError) as error:
            raise Problem("unavailable") from error
        with contextlib.closing(opened) as guarded:
            yield guarded

    def _agreed(self, *, strictly: bool) -> int:
        """Return the last offset that is committed, here or anywhere; ``strictly``: or fail if that cannot be known."""
        try:
            quorum = self._quorum(self._folder)
        except (Error, OSError) as error:
            raise Problem("unavailable") from error
        if strictly and quorum.reached is not None and quorum.needed is not None and quorum.reached < quorum.needed:
            raise Problem("unavailable", "too few nodes of the cluster answer to say what is committed")
        return max(quorum.durable, self.head() - 1)

    def head(self) -> int:
        """Return how many transactions the log has."""
        try:
            with contextlib.closing(Log.open(self._folder, read_only=True)) as log:
                return log.head.next_offset
        except (Error, OSError) as error:
            raise Problem("unavailable") from error

    def status(self) -> dict[str, Any]:
        """Return how log and file are: what anybody who may come at all is told."""
        try:
            facts = log_health(self._folder, self._quorum)
        except (Error, OSError) as error:
            raise Problem("unavailable") from error
        with self._guarded(self._path, Rights((), None, True, True, True)) as guarded:
            applied = guarded.offset
        return {
            "database": self._path.name,
            "encrypted": self._file_key is not None,
            "applied": applied,
            "pending": facts["offset"] - applied,
            **facts,
        }
