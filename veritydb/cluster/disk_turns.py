"""What a turn of the event loop gives a replica's disk to do, and whether the loop waits for it.

Being told of a completion through the event loop costs several times what writing and syncing 4 KiB costs on a disk
that has a cache of its own (``docs/internals/cluster-cost.md``). So small writes go to the disk's thread once a turn,
in one piece, with one sync a file for all of them, and the loop waits for the thread, though never for long; what
arrives meanwhile waits in the sockets, and shares the next turn. A disk that is slow is not waited for, but for a try
now and then (:class:`Pace`); nor is a large write, a read or a removal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veritydb.cluster.disk_thread import DiskThread, Order
from veritydb.vsr.effects import Write, Zone

if TYPE_CHECKING:
    from collections.abc import Callable

    from veritydb.cluster.disk import Disk
    from veritydb.vsr.effects import ReadDone, WriteDone

SMALL = 64 << 10
"""Bytes of a write that may be waited for."""
PATIENCE = 0.002
"""Seconds for which the event loop waits. A heartbeat may come 100 times as late before a backup suspects anything."""
REST = (64, 4096)
"""Writes that are not waited for after the disk was too slow: at first, and at most."""


class Pace:
    """Whether a disk is quick enough to wait for, judged by how it was before."""

    def __init__(self) -> None:
        self._rest = REST[0]
        self._left = 0

    def may_wait(self) -> bool:
        """Whether the next write may be waited for. Asked once for each."""
        if self._left:
            self._left -= 1
            return False
        return True

    def was(self, *, quick: bool) -> None:
        """Take note of how it was to wait."""
        if not quick:
            self._left = self._rest
            self._rest = min(2 * self._rest, REST[1])
        elif self._rest > REST[0]:
            self._rest -= 1


class DiskTurns:
    """Gives a disk's thread what a replica wants done. For the event loop's thread, and ``done`` is called there."""

    def __init__(
        self,
        disk: Disk,
        done: Callable[[WriteDone | ReadDone], object],
        soon: Callable[..., object],
        *,
        flushed: Callable[[float, int], object] = lambda seconds, writes: None,
    ) -> None:
        """``soon(call, argument)`` has the event loop call something, from any thread.

        ``flushed`` is told of each flush: how long it took, and how many writes it made durable.
        """
        self._done = done
        self._pace = Pace()
        self._gathered: list[Write] = []
        self._thread = DiskThread(disk, lambda event: soon(done, event), flushed=flushed)

    @property
    def due(self) -> bool:
        """Whether :meth:`flush` has something to do."""
        return bool(self._gathered)

    def put(self, order: Order) -> None:
        """Have it done: with the next :meth:`flush`, or meanwhile."""
        if (
            isinstance(order, Write)
            and (order.zone is Zone.ENTRY or order.zone is Zone.HEADER)
            and len(order.data) <= SMALL
            and self._pace.may_wait()
        ):
            self._gathered.append(order)
            return
        self._send()  # What was gathered before goes before it.
        self._thread.put(order)

    def flush(self) -> None:
        """Make durable what was gathered, and tell of it, now or when it is."""
        writes, self._gathered = self._gathered, []
        finished = self._thread.carry_out(writes, PATIENCE)
        self._pace.was(quick=bool(finished))
        for event in finished:
            self._done(event)

    def close(self) -> None:
        """Carry out what was put, and end the thread. The disk stays open."""
        self._send()
        self._thread.close()

    def _send(self) -> None:
        for write in self._gathered:
            self._thread.put(write)
        self._gathered.clear()
