"""What a connection of VerityDB's has that one of ``sqlite3`` has not: who acts and why, where in the log, who listens.

A part of :class:`veritydb.Connection`, which inherits it; everything is asked of the connection's session.
"""

# A part of the connection looks into it.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from veritydb.errors import ConsistencyTimeout, ProgrammingError

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Self

    from veritydb.session import Session
    from veritydb.subscriptions.connecting import Committed
    from veritydb.subscriptions.consumers import Consumer
    from veritydb.subscriptions.projections import Projection
    from veritydb.subscriptions.subscription import Subscription
    from veritydb.subscriptions.updates import TableUpdate


class Logged:
    """The log's side of a connection."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _opened(self) -> Session: ...
        def _connected(self) -> Session: ...

    @property
    def last_offset(self) -> int | None:
        """Offset of the last transaction that this connection committed; None if there was none."""
        return self._connected().last_offset

    @property
    def actor(self) -> str:
        """Who makes the transactions that follow."""
        return self._connected().actor

    @actor.setter
    def actor(self, value: str) -> None:
        self._opened().actor = value

    @contextmanager
    def reason(self, text: str) -> Generator[None]:
        """Write ``text`` into the log as the reason of every transaction that commits inside the ``with``."""
        session = self._opened()
        before = session.reason_text
        session.reason_text = text
        try:
            yield
        finally:
            session.reason_text = before

    @property
    def token(self) -> str:
        """What travels with somebody who must find again what he sees here now; empty where no cluster is.

        See :meth:`read_after` and :mod:`veritydb.consistency`.
        """
        session = self._opened()
        return "" if session.freshness is None else session.freshness.token(session)

    def read_after(self, token: str, timeout: float | None = None) -> None:
        """Wait until the file has what ``token`` speaks of. Raises ConsistencyTimeout, CursorMalformed."""
        from veritydb.consistency import parse_tokens

        stream = self._opened().stream.log.stream.hex()[:16]
        offset = parse_tokens(token).get(stream)
        if offset is not None:
            self.wait_for_offset(offset, timeout)

    def wait_for_offset(self, offset: int, timeout: float | None = None) -> None:
        """Wait until the file has the transaction at ``offset``, by default as long as the connection always waits.

        Raises ConsistencyTimeout, and ProgrammingError inside a transaction, which sees what was there when it began.
        """
        session = self._opened()
        wait = session.transactions.timeout if timeout is None else timeout
        if session.freshness is not None:
            session.freshness.wait(session, offset, wait)
        elif session.applied() <= offset:
            # Whoever writes this file writes it here, so there is nothing to wait for.
            raise ConsistencyTimeout(offset=offset, applied=session.applied() - 1)

    @contextmanager
    def read(self, consistency: str = "default", timeout: float | None = None) -> Generator[Self]:
        """Read inside the ``with`` one state of the database, which is as new as ``consistency`` says.

        It is a transaction that is rolled back at the end. Raises ConsistencyTimeout, GroupUnavailable.
        """
        from veritydb.consistency import check

        session = self._opened()
        word = check(consistency)
        if session.in_transaction:
            raise ProgrammingError("a transaction is open and sees what was there when it began; end it first")
        freshness = session.freshness
        before = None if freshness is None else (freshness.consistency, freshness.timeout)
        if freshness is not None:
            freshness.consistency = word
            freshness.timeout = freshness.timeout if timeout is None else timeout
        try:
            session.start("BEGIN")
            # A deferred BEGIN sees nothing yet: the state is that of the first read.
            session.execute(session.control, "SELECT 1 FROM main.sqlite_schema LIMIT 1")
            session.control.execute("")
            yield self
        finally:
            if freshness is not None and before is not None:
                freshness.consistency, freshness.timeout = before
            if session.in_transaction:
                session.transactions.rollback()

    def subscribe(
        self,
        tables: str | Collection[str] | None = None,
        actions: str | Collection[str] | None = None,
        since: object = None,
        images: bool = False,
        where: Callable[[TableUpdate], Any] | None = None,
        snapshot: bool = False,
        buffer: int = 1_000,
    ) -> Subscription:
        """Return the changes that are committed from now on, by anybody: iterate over it, or use ``async for``.

        ``tables``    names of tables; None: all
        ``actions``   of "insert", "update", "delete"; None: all
        ``since``     a cursor or the offset of a transaction: what came after it is sent first; -1: from the beginning
        ``images``    whether updates carry the rows before and after
        ``where``     called with each update, images included; false: it is left out
        ``snapshot``  whether the rows there are now come first
        ``buffer``    how many updates are read ahead for this subscriber, where it reads the past

        The subscription outlives the connection; close it, or use ``with``. Raises UnknownTable, CursorMalformed,
        CursorAhead.
        """
        from veritydb.subscriptions.connecting import subscribe
        from veritydb.subscriptions.updates import Selection

        selection = Selection.of(tables, actions, images, where)
        return subscribe(self._opened(), selection, since, snapshot, buffer)

    def consumer(
        self,
        name: str,
        tables: str | Collection[str] | None = None,
        actions: str | Collection[str] | None = None,
        *,
        since: object = None,
        images: bool = False,
        timeout: float = 30.0,
        in_flight_max: int = 1_000,
        tries_max: int = 5,
    ) -> Consumer:
        """Return a worker of the durable consumer ``name``, which is made if it is not there.

        ``tables``, ``actions``  what it gets, as in :meth:`subscribe`; fixed when it is made
        ``since``                where it begins when it is made: None: now; -1: with the first transaction
        ``timeout``              seconds after which what this worker fetched and did not ack is handed out again
        ``in_flight_max``        updates that may be handed out and not done, over all workers
        ``tries_max``            after so many tries an update is a dead letter

        Raises ConfigurationError if it is there and takes something else, UnknownTable, CursorAhead.
        """
        from veritydb.subscriptions.consumers import Consumer

        return Consumer(
            self._opened(),
            name,
            tables=tables,
            actions=actions,
            since=since,
            images=images,
            timeout=timeout,
            in_flight_max=in_flight_max,
            tries_max=tries_max,
        )

    def projection(
        self,
        name: str,
        tables: str | Collection[str] | None = None,
        actions: str | Collection[str] | None = None,
        *,
        writes: str | Collection[str] = (),
        batch: int = 256,
    ) -> Callable[[Callable[[Any, Any], object]], Projection]:
        """Return a decorator that makes a :class:`~veritydb.subscriptions.Projection` of ``handler(update, db)``.

        ``tables``, ``actions``  what it gets, always with images
        ``writes``               the tables that it fills, and that a rebuild empties
        ``batch``                how many updates at most share a transaction
        """
        from veritydb.subscriptions.projections import Projection

        session = self._opened()

        def decorate(handler: Callable[[Any, Any], object]) -> Projection:
            return Projection(session, self, name, handler, tables=tables, actions=actions, writes=writes, batch=batch)

        return decorate

    def on_commit(self, callback: Callable[[Committed], object]) -> Callable[[], None]:
        """Call ``callback(committed)`` after each transaction that this connection commits; return what ends that.

        Called in the committing thread, once log and file have the transaction, and before the call that committed it
        returns; SQL may be run. What it raises is logged (``veritydb.subscriptions``), because the transaction stands.
        """
        from veritydb.subscriptions.connecting import on_commit

        return on_commit(self._opened(), callback)
