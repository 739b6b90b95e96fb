"""Waiting until a file is as far as its reader must see (:mod:`veritydb.consistency` says what that may be).

A session of a shared database has one :class:`Freshness`, which it asks before each read that is not of a state it has
already begun to read. What is written needs no such question: who builds on an old state is refused. What brings the
file there is the follower (:mod:`veritydb.follower`); here is only waiting.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import apsw

from veritydb import consistency
from veritydb.errors import ConsistencyTimeout, NotSupportedError, OperationalError, ProgrammingError

if TYPE_CHECKING:
    from veritydb.cluster.group_log import Sequencer
    from veritydb.session import Session

_PAUSE = (0.000_5, 0.01)
"""Seconds between two looks at the file: at first, and at most."""


class Freshness:
    """What one session must see."""

    __slots__ = ("_client", "_name", "_seen", "_stream", "consistency", "timeout")

    def __init__(self, stream: bytes, client: Sequencer, *, word: str, timeout: float) -> None:
        self._stream = stream
        self._client = client
        self._name = stream.hex()[:16]
        self._seen = 0
        """Transactions that the file is known to have."""
        self.consistency = consistency.check(word)
        if word == "synchronized":
            self._check_linearizable()
        self.timeout = timeout

    def before(self, session: Session) -> None:
        """Wait until ``session`` may read, unless it has begun to. Raises ConsistencyTimeout, GroupUnavailable."""
        if session.db.txn_state("main") != apsw.SQLITE_TXN_NONE:
            return
        opened = consistency.current()
        word = self.consistency
        after = -1
        if opened is not None:
            word = opened.consistency or word
            after = opened.after.get(self._name, -1)
        if word == "synchronized":
            self.synchronize(session, self.timeout)
        elif word == "default" and after >= self._seen:
            self.wait(session, after, self.timeout)
        if opened is not None:
            opened.served[self._name] = session.applied() - 1

    def synchronize(self, session: Session, timeout: float) -> None:
        """Wait until the file has what was committed anywhere before this call.

        Raises ConsistencyTimeout, GroupUnavailable; NotSupportedError where it cannot be asked how far that is,
        OperationalError if the stream was dropped.
        """
        self._check_linearizable()
        deadline = time.monotonic() + timeout
        end = self._client.end(self._stream, timeout=timeout)
        if end is None:
            raise OperationalError("the cluster has no such stream any more; nothing was read")
        if end[0]:
            self.wait(session, end[0] - 1, max(0.0, deadline - time.monotonic()))

    def wait(self, session: Session, offset: int, timeout: float) -> None:
        """Wait until the file has the transaction at ``offset``. Raises ConsistencyTimeout, ProgrammingError."""
        if offset < self._seen:
            return
        deadline = time.monotonic() + timeout
        pause = _PAUSE[0]
        while True:
            self._seen = max(self._seen, session.applied())
            if offset < self._seen:
                return
            if session.db.txn_state("main") != apsw.SQLITE_TXN_NONE:
                raise ProgrammingError(
                    f"an open transaction sees what was there when it began, and not offset {offset}; end it first"
                )
            if time.monotonic() >= deadline:
                raise ConsistencyTimeout(offset=offset, applied=self._seen - 1)
            time.sleep(pause)
            pause = min(1.5 * pause, _PAUSE[1])

    def _check_linearizable(self) -> None:
        if not self._client.linearizable:
            raise NotSupportedError(
                "NATS has no question whose answer is sure to be the newest, so nothing can be read 'synchronized'. "
                "Write what must only happen once: a commit is taken on the newest state or not at all"
            )

    def token(self, session: Session) -> str:
        """Return the token of what the session sees now."""
        applied = session.applied()
        return f"{applied - 1}@{self._name}" if applied else ""
