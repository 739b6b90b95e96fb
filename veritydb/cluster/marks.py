"""Where records begin in the last segment of a log, here and there: so that its end is read without what is before it.

A closed segment has an index beside it; the one that is written to has none, and a node is asked for its end all the
time. :mod:`~veritydb.cluster.records` notes a mark where it appends and where it has read. A mark is a hint: whoever
reads from one sees whether a record begins there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from veritydb.log import Place
from veritydb.log.index import SPACING


class Marks:
    """Those of one log, in order. Bounded: no two are nearer to each other than ``SPACING`` bytes."""

    def __init__(self) -> None:
        self._segment = -1
        self._positions: list[int] = []
        self._offsets: list[int] = []

    def note(self, offset: int, place: Place) -> None:
        """Note that the record which begins at ``place`` is the one at ``offset``."""
        if place.segment < self._segment:
            return
        if place.segment > self._segment:  # The one before is closed by now, and has an index.
            self._segment = place.segment
            self._positions.clear()
            self._offsets.clear()
        at = bisect_right(self._positions, place.position)
        if at and place.position - self._positions[at - 1] < SPACING:
            return
        if at < len(self._positions) and self._positions[at] - place.position < SPACING:
            return
        self._positions.insert(at, place.position)
        self._offsets.insert(at, offset)

    def find(self, offset: int) -> Place | None:
        """Return where a record before an offset begins, if one is known.

        Before, because records without transactions share their offset with the record that follows them.
        """
        at = bisect_left(self._offsets, offset)
        return Place(self._segment, self._positions[at - 1]) if at else None
