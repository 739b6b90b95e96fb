"""What a feed is of: a database's log, with the keys that open it.

A feed (:mod:`veritydb.subscriptions.feed`) asks its :class:`Origin` for a source to read, again when the database has
got another log, and for newer keys when a record says that there are some. Made by
:mod:`veritydb.subscriptions.registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from veritydb.keys import Keyring
from veritydb.publishing import Topic, topic_of
from veritydb.sealing import Opener
from veritydb.subscriptions.source import FileSource, MemorySource, Projection, Source

if TYPE_CHECKING:
    from veritydb.log.memory import MemoryLog


class Origin(Protocol):
    """One database."""

    opener: Opener

    @property
    def folder(self) -> str | None:
        """Where the log's files are; None for a log in memory."""
        ...

    @property
    def projection(self) -> Projection | None:
        """The database file; None for a database in memory."""
        ...

    def source(self) -> Source:
        """Begin to read the log that is there now. Raises LogMissing, LogDamaged, LogUnavailable."""
        ...

    def topic(self, stream: bytes) -> Topic:
        """Return where this process says that it has committed to that log."""
        ...

    def renew(self) -> bool:
        """Ask for the keys again; return whether there are others than before. Raises KeyProblem."""
        ...


class FileOrigin:
    """A database file and the folder of its log."""

    def __init__(
        self, folder: Path, path: str, keyring: Keyring | None, ask: Callable[[], Keyring | None] | None = None
    ) -> None:
        """``ask`` returns the keys that there are now; without it others may :meth:`offer` newer ones."""
        self._folder = folder
        self._path = path
        self._ask = ask
        self._keyring = self._offered = keyring
        self.opener = Opener(keyring)

    @property
    def folder(self) -> str | None:
        """Where the log's files are."""
        return str(self._folder)

    @property
    def projection(self) -> Projection | None:
        """The database file."""
        return Projection(self._path, self._file_key)

    def source(self) -> Source:
        """Begin to read the log that is there now."""
        return FileSource(self._folder, Projection(self._path, self._file_key), self.topic)

    def topic(self, stream: bytes) -> Topic:
        """Return where this process says that it has committed to that log."""
        return topic_of(str(self._folder), stream)

    def offer(self, keyring: Keyring | None) -> None:
        """Remember keys that somebody else has opened the database with."""
        self._offered = keyring

    def renew(self) -> bool:
        """Take the keys that there are now."""
        newer = self._offered if self._ask is None else self._ask()
        if newer is None or self._keyring is None or newer.keys.keys() <= self._keyring.keys.keys():
            return False
        self._keyring = newer
        self.opener.learn(newer)
        return True

    @property
    def _file_key(self) -> bytes | None:
        return None if self._keyring is None else self._keyring.current.file_key()


class MemoryOrigin:
    """A database in memory, whose log lives as long as its connections."""

    folder = None
    projection = None

    def __init__(self, log: MemoryLog, keyring: Keyring | None) -> None:
        self._log = log
        self._topic = topic_of(":memory:", log.stream)
        self.opener = Opener(keyring)

    def source(self) -> Source:
        """Begin to read it."""
        return MemorySource(self._log, self._topic)

    def topic(self, stream: bytes) -> Topic:
        """Return where its connections say that they have committed."""
        return self._topic

    def renew(self) -> bool:
        """Its keys are never changed."""
        return False


__all__ = ["FileOrigin", "MemoryOrigin", "Origin"]
