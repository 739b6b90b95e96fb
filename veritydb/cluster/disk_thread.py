"""A disk that is written while its replica goes on: a thread of its own, fed by a queue.

All writes that come while one flush runs share the next: under load, one sync serves many clients.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from veritydb.vsr.effects import Read, ReadDone, Remove, Write, WriteDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.cluster.disk import Disk

Order: TypeAlias = "Write | Read | Remove"


class DiskThread:
    """Carries out a replica's writes, reads and removals, and tells ``done`` of each, from its own thread."""

    def __init__(
        self,
        disk: Disk,
        done: Callable[[WriteDone | ReadDone], None],
        *,
        flushed: Callable[[float, int], object] = lambda seconds, writes: None,
    ) -> None:
        """``flushed`` is told of each flush: how long it took, and how many writes it made durable."""
        self._disk = disk
        self._done = done
        self._flushed = flushed
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="veritydb-disk", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Have it done. Any thread may call this."""
        self._orders.put(order)

    def close(self) -> None:
        """Wait until all that was put is done, and end the thread. The disk stays open."""
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            orders = [self._orders.get(), *self._waiting()]
            more = None not in orders
            reads: list[Read] = []
            for order in orders:
                if isinstance(order, Write):
                    self._disk.submit(order)
                elif isinstance(order, Read):
                    reads.append(order)
                elif order is not None:
                    self._disk.remove(order.zone, order.key)
            # Writes first: others wait for them. A read that was asked for before a write of the same place may then
            # find what is newer, as it may on any disk.
            began = time.perf_counter()
            self._disk.flush(self._done)
            if len(orders) > len(reads):
                self._flushed(time.perf_counter() - began, len(orders) - len(reads))
            for read in reads:
                self._done(ReadDone(read.token, self._disk.read(read.zone, read.key)))

    def _waiting(self) -> list[Order | None]:
        orders: list[Order | None] = []
        while True:
            try:
                orders.append(self._orders.get_nowait())
            except Empty:
                return orders
