"""A thread that keeps committed records, makes them durable now and then, and reads them for those who follow.

The node's event loop puts in what its replica has committed and what clients ask; nothing here holds it up. Nor is the
thread woken for each op, which would cost both of them more than keeping its records does: what is committed gathers
until the thread looks by itself, unless a follower waits for it. Many records at once take half the time of as many
that come one by one.

A member that has installed a snapshot lacks the records that led to it: they are *missing* until the node has fetched
them from another one, and until then no checkpoint counts on them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias

from veritydb.chain import HEADER_SIZE, unpack_header
from veritydb.cluster.records import End, Missing, RecordStore
from veritydb.kernel import RecordAppended, StreamDropped
from veritydb.vsr.effects import Committed
from veritydb.vsr.messages import FetchedRecords, FetchRecords

log = logging.getLogger("veritydb.node")

FLUSH_SECONDS = 1.0
"""How often the logs are made durable, if nobody asks for it: who does is a checkpoint."""
LOOK_SECONDS = 0.1
"""How often the thread looks by itself: at what has gathered, whether a flush is due, who has waited long enough."""
QUEUE_OPS = 64
"""Ops that gather at most."""
WAIT_MAX = 30.0
"""Seconds that an answer waits for a record at most."""
FETCH_MAX = 4 << 20
"""Bytes of records in one answer."""


class Caught(NamedTuple):
    """Records that another node has sent."""

    stream: bytes
    records: tuple[bytes, ...]


class Expected(NamedTuple):
    """Where the streams end, by the state of the kernel."""

    ends: Mapping[bytes, End]
    dropped: frozenset[bytes] = frozenset()


class Hurry(NamedTuple):
    """What has been put shall be durable now; if records are missing, as soon as they are not."""


Order: TypeAlias = "Committed | FetchRecords | Caught | Expected | Hurry"


class Keeper:
    """A thread that keeps committed records, makes them durable now and then, and reads them for those who follow."""

    def __init__(
        self,
        store: RecordStore,
        *,
        retained: Callable[[int], object],
        answer: Callable[[bytes, FetchedRecords], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._store = store
        self._retained = retained
        self._answer = answer
        self._failed = failed
        self._orders: deque[Order | None] = deque()
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._flush_due = time.monotonic() + FLUSH_SECONDS
        self._op = 0
        self._told = 0
        self._is_hurried = False
        self._waiting: dict[bytes, list[tuple[float, FetchRecords]]] = {}
        """By stream, who waits for its next record, and until when."""
        self.missing: dict[bytes, Missing] = {}
        self._expected = self._looked = 0
        self._thread = threading.Thread(target=self._run, name="veritydb-records", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Have it done, in order, now."""
        if isinstance(order, Expected):
            self._expected += 1
        self._orders.append(order)
        self._wakes.put(None)

    def keep(self, order: Committed) -> None:
        """Have it done, in order, when the thread looks; now, if somebody waits for it or much has gathered."""
        self._orders.append(order)
        if self._is_awaited(order) or len(self._orders) >= QUEUE_OPS:
            self._wakes.put(None)

    @property
    def queued(self) -> int:
        """Orders that have not been carried out."""
        return len(self._orders)

    @property
    def is_looking(self) -> bool:
        """Whether it is not known yet what is missing: a state of the kernel was put that nobody has looked at."""
        return self._looked != self._expected

    def close(self) -> None:
        """Keep what was put, make it durable, and end."""
        self._orders.append(None)
        self._wakes.put(None)
        self._thread.join()

    def _is_awaited(self, order: Committed) -> bool:
        # Another thread's. Who begins to wait just now is not missed: the order has been put by now, and that thread
        # looks for orders after it has noted who waits.
        waiting = self._waiting
        return bool(waiting) and any(
            isinstance(effect, RecordAppended) and effect.stream in waiting
            for output in order.outputs
            for effect in output.effects
        )

    def _run(self) -> None:
        try:
            while self._carry_out():
                if time.monotonic() >= self._flush_due:
                    self._flush()
                self._give_up_waiting()
                with contextlib.suppress(Empty):
                    self._wakes.get(timeout=LOOK_SECONDS)
            self._flush()
        except Exception as error:
            log.exception("records")
            self._failed(error)
        finally:
            self._store.close()

    def _carry_out(self) -> bool:
        """Do all that was put; False: it was the end."""
        while self._orders:
            order = self._orders.popleft()
            if order is None:
                return False
            if isinstance(order, Committed):
                self._keep(order)
            elif isinstance(order, Caught):
                self._store.fill(order.stream, order.records)
                self._answer_waiting(order.stream)
                self.missing = dict(self._store.missing)
                if self._is_hurried and not self.missing:
                    self._flush()
            elif isinstance(order, Expected):
                for stream in order.dropped:
                    self._store.set_aside(stream)
                for stream, end in order.ends.items():
                    self._store.expect(stream, end)
                self.missing = dict(self._store.missing)
                self._looked += 1
            elif isinstance(order, Hurry):
                self._is_hurried = True
                self._flush()
            else:
                self._fetch(order)
        return True

    def _keep(self, order: Committed) -> None:
        for output in order.outputs:
            for effect in output.effects:
                if isinstance(effect, RecordAppended):
                    self._store.keep(effect)
                    if effect.stream in self._waiting:
                        self._answer_waiting(effect.stream, effect)
                elif isinstance(effect, StreamDropped):
                    self._store.set_aside(effect.stream)
        self._op = order.header.op

    def _flush(self) -> None:
        self.missing = dict(self._store.missing)
        if self._op > self._told:
            self._store.flush()
            if not self._store.missing:
                self._told = self._op
                self._is_hurried = False
                self._retained(self._op)
        self._flush_due = time.monotonic() + FLUSH_SECONDS

    def _fetch(self, order: FetchRecords) -> None:
        answer = self._fetched(order)
        if answer.records or not order.wait or not self._is_at_end(order):
            self._answer(order.client, answer)
        else:
            until = time.monotonic() + min(order.wait / 1000, WAIT_MAX)
            waiting = self._waiting.setdefault(order.stream, [])
            # Who asks again has given up on what he asked before.
            waiting[:] = [each for each in waiting if each[1].client != order.client]
            waiting.append((until, order))

    def _answer_waiting(self, stream: bytes, effect: RecordAppended | None = None) -> None:
        for _, order in self._waiting.pop(stream, ()):
            if effect is not None and unpack_header(effect.record[:HEADER_SIZE]).prev_hash == order.hash:
                # The usual case: it waits for this very record, which need not be read back.
                next_offset = effect.first_offset + effect.transaction_count
                answer = FetchedRecords(order.client, order.number, stream, True, next_offset, (effect.record,))
                self._answer(order.client, answer)
            else:
                self._fetch(order)

    def _give_up_waiting(self) -> None:
        now = time.monotonic()
        for stream, waiting in list(self._waiting.items()):
            over = [order for until, order in waiting if until <= now]
            if over:
                self._waiting[stream] = [each for each in waiting if each[0] > now]
                if not self._waiting[stream]:
                    del self._waiting[stream]
                for order in over:
                    self._answer(order.client, self._fetched(order))

    def _is_at_end(self, order: FetchRecords) -> bool:
        end = self._store.end(order.stream)
        return end is None or end == (order.first_offset, order.hash)

    def _fetched(self, order: FetchRecords) -> FetchedRecords:
        end = self._store.end(order.stream)
        records: tuple[bytes, ...] = ()
        if end is not None and order.first_offset <= end.next_offset and end != (order.first_offset, order.hash):
            records = self._store.read(order.stream, order.first_offset, min(order.bytes_max, FETCH_MAX))
        next_offset = 0 if end is None else end.next_offset
        return FetchedRecords(order.client, order.number, order.stream, end is not None, next_offset, records)
