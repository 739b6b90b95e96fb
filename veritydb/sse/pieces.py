"""What a stream takes at once: text of the ring, or of the log, or of a snapshot, made once for all who see the same.

:class:`Texts` is a subscriber's place in the feed whose updates are ready-made text (:mod:`veritydb.sse.messages`);
:func:`piece_of` takes from it what there is, up to a size, as one :class:`Piece`. Most streams of a server are at the
same place of the ring, and get the same piece (:mod:`veritydb.sse.hub`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from veritydb.sse.messages import (
    Message,
    View,
    Views,
    joined,
    ready_message,
    resync_message,
    snapshot_message,
)
from veritydb.sse.problems import Problem
from veritydb.subscriptions.decoding import Batch
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.receiver import Receiver
from veritydb.subscriptions.snapshots import begin, rows_of, tables_of
from veritydb.subscriptions.updates import Cursor, Resync, Selection

_PIECE_BYTES = 128 << 10
"""What is sent in one piece, roughly; one message may be longer."""
_BUFFER = 16
"""Batches that a stream which is behind reads from the log at a time."""


class Piece:
    """What is sent at once."""

    __slots__ = ("_framed", "complete", "cursor", "number", "shared", "sse")

    def __init__(self, sse: bytes, number: int | None, cursor: Cursor, *, complete: bool, shared: bool) -> None:
        self.sse = sse
        """Messages as an event stream has them; empty if there are none."""
        self.number = number
        """The slot of the ring behind it."""
        self.cursor = cursor
        self.complete = complete
        """Whether it was all that there was."""
        self.shared = shared
        """Whether others at the same place would get the same."""
        self._framed: bytes | None = None

    @property
    def framed(self) -> bytes:
        """As a chunk of HTTP/1.1 (RFC 9112, section 7.1), made once for all who are sent it."""
        if self._framed is None:
            self._framed = chunk(self.sse)
        return self._framed


def chunk(text: bytes) -> bytes:
    """Return text as a chunk of HTTP/1.1. An empty one would end the answer."""
    assert text, "an empty chunk is the last"
    return b"%x\r\n%b\r\n" % (len(text), text)


class Texts(Receiver):
    """A receiver that hands out text; with ``snapshot``, of the rows there are, too, whenever it begins anew."""

    def __init__(self, feed: Feed, view: View, views: Views, since: object, snapshot: bool) -> None:
        self._view = view
        self._views = views
        self.snapshot = snapshot
        super().__init__(
            feed, Selection(), since=since, buffer=_BUFFER, snapshot=feed.take_snapshot if snapshot else None
        )

    @property
    def in_snapshot(self) -> bool:
        """Whether rows of a snapshot are still to come."""
        return self._pending is not None

    def check_tables(self, feed: Feed) -> None:
        """Raise Problem for a table that is not to be had."""
        # Of what is not there and of what may not be seen the same is said, and at the same moment.
        for name in sorted(self._view.asked.tables or ()):
            if self._view.rights.of(name) is None or not feed.knows(name):
                raise Problem("unknown-table", name)

    def choose(self, batch: Batch, seen: tuple[int, int]) -> Sequence[Message]:
        """Return the text of a batch behind ``seen``."""
        if batch.items and seen >= _position_of(batch.items[0], batch):
            # Resumed in the middle of it.
            return joined([message for message in self._view.messages(batch) if message.cursor.position > seen])
        return self._views.messages(self._view, batch)

    def _begin_snapshot(self) -> None:
        # The loop may have called, and must not wait for a file: it is opened where the rows are read, in a thread.
        self._number = None
        self._pending = self._rows()

    def _rows(self) -> Iterator[Any]:
        with contextlib.closing(self.feed.open_file()) as db:
            place = begin(db, close=True)
            tables = tables_of(db, self._view.shows_rows)
            self._cursor = self._cursor_out = place
            yield snapshot_message(place, (table.name for table in tables))
            for table in tables:
                yield from self._view.rows(table, rows_of(db, table), place)
        yield ready_message(place)


def _position_of(item: Any, batch: Batch) -> tuple[int, int]:
    cursor: Cursor | None = getattr(item, "cursor", None)
    return cursor.position if cursor is not None else (batch.said.offset, item.number)


def piece_of(receiver: Texts) -> Piece:
    """Take what is there, up to the size of a piece."""
    taken: list[bytes] = []
    size = 0
    same = True
    while size < _PIECE_BYTES:
        one: Any = receiver.take()
        if one is None:
            break
        if isinstance(one, Resync):
            same = False
            one = resync_message(one, resumable=not receiver.snapshot)
        taken.append(one.sse)
        size += len(one.sse)
    number = receiver.number
    return Piece(
        taken[0] if len(taken) == 1 else b"".join(taken),
        number,
        receiver.cursor,
        complete=size < _PIECE_BYTES,
        # From now on the stream has seen all of each slot, or nothing of it.
        shared=same and number is not None and receiver.drained,
    )


__all__ = ["Piece", "Texts", "chunk", "piece_of"]
