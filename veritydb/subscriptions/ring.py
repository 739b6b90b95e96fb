"""The last changes of a log, the same objects for all who read them.

A subscriber is a number: that of the slot which it needs next. So it costs the ring nothing, and one that is too slow
loses its slots to newer ones and finds what it missed in the log. Driven by :mod:`veritydb.subscriptions.feed`, under
its condition.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from veritydb.subscriptions.decoding import Batch
from veritydb.subscriptions.updates import Resync

if TYPE_CHECKING:
    from veritydb.subscriptions.catalogs import Position

ROWS = 16_384
"""Changes of up to 1 KiB that are kept, unless one transaction's batch alone has more."""


class Slot(NamedTuple):
    """One entry."""

    before: Position
    """Where the entry before it ended."""
    end: Position
    entry: Batch | Resync


class Ring:
    """Slots with numbers that count up for ever, of which only the last are there. The caller holds the lock."""

    def __init__(self, end: Position, rows_max: int) -> None:
        self.end = end
        """Where the last entry ended: everything up to here is known."""
        self._rows_max = rows_max
        self._slots: deque[Slot] = deque()
        self._rows = 0
        self._first = 0

    @property
    def next_number(self) -> int:
        """The number that the next slot will have."""
        return self._first + len(self._slots)

    def append(self, entry: Batch | Resync, end: Position) -> None:
        """Add an entry, and let the oldest go that are too many."""
        self._slots.append(Slot(self.end, end, entry))
        self._rows += _weight(entry)
        while self._rows > self._rows_max and len(self._slots) > 1:
            self._rows -= _weight(self._slots.popleft().entry)
            self._first += 1
        self.end = end

    def slots(self, number: int, limit: int) -> list[Slot] | None:
        """Return slots from a number on; None if the first is no longer there."""
        start = number - self._first
        if start < 0:
            return None
        slots = self._slots
        return [slots[place] for place in range(start, min(start + limit, len(slots)))]

    def find(self, position: Position) -> int | None:
        """Return the number of the first slot behind a position; None if what follows the position is not here."""
        slots = self._slots
        if position >= self.end:
            return self.next_number
        for place in range(len(slots) - 1, -1, -1):
            slot = slots[place]
            if isinstance(slot.entry, Resync):
                return None
            if slot.before <= position:
                return self._first + place if slot.end > position else self._first + place + 1
        return None


def _weight(entry: Batch | Resync) -> int:
    # A change counts as one, and a large one for each KiB: a ring of large values takes no more memory than one of
    # small ones.
    return max(1, len(entry.items), entry.size >> 10) if isinstance(entry, Batch) else 1


__all__ = ["ROWS", "Ring", "Slot"]
