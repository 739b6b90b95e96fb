"""A thread that keeps committed records, makes them durable now and then, and reads them for those who follow.

The node's event loop puts in what its replica has committed and what clients ask; nothing here holds it up. A member
that has installed a snapshot lacks the records that led to it: they are *missing* until the node has fetched them from
another one, and until then no checkpoint counts on them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias

from veritydb.cluster.records import Missing, RecordStore
from veritydb.kernel import RecordAppended, StreamDropped
from veritydb.vsr.effects import Committed
from veritydb.vsr.messages import FetchedRecords, FetchRecords

log = logging.getLogger("veritydb.node")

FLUSH_SECONDS = 0.25
"""How often the logs are made durable; a checkpoint waits for that."""
FETCH_MAX = 4 << 20
"""Bytes of records in one answer."""


class Caught(NamedTuple):
    """Records that another node has sent."""

    stream: bytes
    records: tuple[bytes, ...]


class Expected(NamedTuple):
    """Where the streams end, by the state of the kernel."""

    heads: Mapping[bytes, int]
    dropped: frozenset[bytes] = frozenset()


Order: TypeAlias = "Committed | FetchRecords | Caught | Expected"


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
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._op = 0
        self._told = 0
        self.missing: dict[bytes, Missing] = {}
        self._thread = threading.Thread(target=self._run, name="veritydb-records", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Have it done, in order."""
        self._orders.put(order)

    def close(self) -> None:
        """Keep what was put, make it durable, and end."""
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + FLUSH_SECONDS
        try:
            while True:
                try:
                    order = self._orders.get(timeout=max(0.0, due - time.monotonic()))
                except Empty:
                    self._flush()
                    due = time.monotonic() + FLUSH_SECONDS
                    continue
                if order is None:
                    break
                if isinstance(order, Committed):
                    for output in order.outputs:
                        for effect in output.effects:
                            if isinstance(effect, RecordAppended):
                                self._store.keep(effect)
                            elif isinstance(effect, StreamDropped):
                                self._store.set_aside(effect.stream)
                    self._op = order.header.op
                elif isinstance(order, Caught):
                    self._store.fill(order.stream, order.records)
                    self.missing = dict(self._store.missing)
                elif isinstance(order, Expected):
                    for stream in order.dropped:
                        self._store.set_aside(stream)
                    for stream, next_offset in order.heads.items():
                        self._store.expect(stream, next_offset)
                    self.missing = dict(self._store.missing)
                else:
                    self._answer(order.client, self._fetched(order))
            self._flush()
        except Exception as error:
            log.exception("records")
            self._failed(error)
        finally:
            self._store.close()

    def _flush(self) -> None:
        self.missing = dict(self._store.missing)
        if self._op > self._told:
            self._store.flush()
            if not self._store.missing:
                self._told = self._op
                self._retained(self._op)

    def _fetched(self, order: FetchRecords) -> FetchedRecords:
        head = self._store.head(order.stream)
        records: tuple[bytes, ...] = ()
        if head is not None and order.first_offset < head:
            records = self._store.read(order.stream, order.first_offset, min(order.bytes_max, FETCH_MAX))
        return FetchedRecords(order.client, order.number, order.stream, head is not None, head or 0, records)
