"""Consumers and projections, looked at from outside: what the command line, or a page of a program, needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from veritydb.subscriptions.consumers import Lag, forget, lag_of, names, reset
from veritydb.subscriptions.feed import PROJECTIONS_TABLE
from veritydb.subscriptions.own import OwnTables
from veritydb.subscriptions.registry import feed_of

if TYPE_CHECKING:
    from typing import Self


class Administration:
    """What there is on the database of a connection; ``with`` closes it."""

    def __init__(self, connection: Any) -> None:
        session = connection._opened()  # A connection shows its session to no program.
        session.first_use()
        self._own = OwnTables(session)
        self._feed = feed_of(session.stream, session.register)

    @property
    def last_offset(self) -> int:
        """Of the last transaction; -1 if there is none."""
        return self._feed.catch_up().offset

    def consumers(self) -> list[tuple[str, str, bool]]:
        """Return name, position, and whether it is paused, of each consumer."""
        return names(self._own)

    def projections(self) -> list[tuple[str, str]]:
        """Return name and checkpoint of each projection."""
        found = self._own.read(f"SELECT name, checkpoint FROM {PROJECTIONS_TABLE} ORDER BY name")
        return [(name, checkpoint) for name, checkpoint in found]

    def lag(self, name: str) -> Lag:
        """Return how far a consumer is behind. Raises ProgrammingError if there is none of that name."""
        return lag_of(self._feed, self._own, name)

    def reset(self, name: str, to: object) -> None:
        """Set a consumer's cursor; see :meth:`veritydb.subscriptions.Consumer.reset`."""
        reset(self._own, self._feed, name, to)

    def forget(self, name: str) -> None:
        """Remove a consumer and all that is known of it."""
        forget(self._own, name)

    def close(self) -> None:
        """Let go of the feed."""
        self._feed.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self.close()
        return False
