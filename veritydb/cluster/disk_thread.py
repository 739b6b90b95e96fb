"""A disk that is written while its replica goes on: a thread of its own, fed by a queue.

All writes that come while one flush runs share the next: under load, one sync serves many clients.

Most disks are quick, and being told of a completion through the event loop costs several times what a write of 4 KiB
does (``docs/internals/cluster-cost.md``). So the event loop gives small writes once a turn, in one piece, and waits for
them here, in :meth:`DiskThread.carry_out`; but never for longer than it says, and then it is told as of anything else.
What holds the disk up does not hold the replica up: a primary whose disk stalls is still heard.

Most pieces are one write. The event loop makes it ready as far as the call of the system, because what this thread does
with the interpreter's lock held, and code that it comes to after a sleep, is what such a write costs beside the disk.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from veritydb.cluster.aligned import SECTOR, Buffer
from veritydb.vsr.effects import Read, ReadDone, Remove, Write, WriteDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.cluster.disk import Disk, Prepared

Order: TypeAlias = "Write | Read | Remove"


class _Piece:
    """Writes whose end somebody waits for."""

    def __init__(self, writes: list[Write], prepared: Prepared | None) -> None:
        self.writes = writes
        self.prepared = prepared
        """The same, if it is one write."""
        self.finished: list[WriteDone] = []
        self.is_over = threading.Lock()
        """Held until they have ended."""
        self.is_over.acquire()
        self.is_decided = threading.Lock()
        """Taken by whoever comes first: the thread, to leave here what it has done, or who waited, to wait no more."""


class DiskThread:
    """Carries out a replica's writes, reads and removals, and tells ``done`` of each, from its own thread."""

    def __init__(
        self,
        disk: Disk,
        done: Callable[[WriteDone | ReadDone], object],
        *,
        flushed: Callable[[float, int], object] = lambda seconds, writes: None,
    ) -> None:
        """``flushed`` is told of each flush: how long it took, and how many writes it made durable."""
        self._disk = disk
        self._done = done
        self._flushed = flushed
        self._buffer = Buffer(SECTOR)
        """Of the next piece that is one write."""
        self._orders: SimpleQueue[Order | _Piece | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="veritydb-disk", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Have it done. Any thread may call this."""
        self._orders.put(order)

    def carry_out(self, writes: list[Write], patience: float) -> list[WriteDone]:
        """Have writes done, and return how they have ended.

        If that takes longer than ``patience`` seconds, nothing is returned, and ``done`` will be told.
        """
        prepared: Prepared | None = None
        if len(writes) == 1:
            self._buffer.grow(len(writes[0].data))
            prepared = self._disk.prepare(writes[0], self._buffer)
        piece = _Piece(writes, prepared)
        self._orders.put(piece)
        if not piece.is_over.acquire(timeout=patience):
            if piece.is_decided.acquire(blocking=False):
                self._buffer = Buffer(SECTOR)  # The other one is being written.
                return []
            piece.is_over.acquire()
        return piece.finished

    def close(self) -> None:
        """Wait until all that was put is done, and end the thread. The disk stays open."""
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            first = self._orders.get()
            if isinstance(first, _Piece) and first.prepared is not None:
                self._carry_out(first, first.prepared)
                continue
            orders = [first]
            orders += [self._orders.get_nowait() for _ in range(self._orders.qsize())]  # Nobody else takes from it.
            more = None not in orders
            reads: list[Read] = []
            awaited: _Piece | None = None
            count = 0
            for order in orders:
                if isinstance(order, Write):
                    self._disk.submit(order)
                    count += 1
                elif isinstance(order, _Piece):
                    for write in order.writes:
                        self._disk.submit(write)
                    count += len(order.writes)
                    awaited = order  # Of those before it, nobody waits any more.
                elif isinstance(order, Read):
                    reads.append(order)
                elif order is not None:
                    self._disk.remove(order.zone, order.key)
            # Writes first: others wait for them. A read that was asked for before a write of the same place may then
            # find what is newer, as it may on any disk.
            finished: list[WriteDone] = []
            began = time.perf_counter()
            self._disk.flush(self._done if awaited is None else finished.append)
            if count:
                self._flushed(time.perf_counter() - began, count)
            if awaited is not None:
                self._leave(awaited, finished)
            for read in reads:
                self._done(ReadDone(read.token, self._disk.read(read.zone, read.key)))

    def _carry_out(self, piece: _Piece, prepared: Prepared) -> None:
        began = time.perf_counter()
        ok = self._disk.carry_out(prepared)
        self._flushed(time.perf_counter() - began, 1)
        self._leave(piece, [WriteDone(piece.writes[0].token, ok)])

    def _leave(self, piece: _Piece, finished: list[WriteDone]) -> None:
        """Give who waits for a piece what has become of it. The last thing that is done: the two share one lock."""
        if piece.is_decided.acquire(blocking=False):
            piece.finished = finished
            piece.is_over.release()
            return
        for event in finished:
            self._done(event)
