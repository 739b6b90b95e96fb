"""The streams of one event loop, and the feed that they share.

A stream has no buffer of its own: it is a place in the feed's ring (:class:`~veritydb.subscriptions.receiver.Receiver`,
here over ready-made text), or in the log while it is behind. So one whose client takes nothing costs what its socket
holds, and no other stream waits for it. When the ring has grown the feed's thread wakes the loop once, however many
streams there are; each then takes all there is in one piece, which is what lets a loop that is busy keep up.

The feed is opened by the first stream and closed by the last, so a server that nobody listens to reads nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from veritydb.errors import CursorAhead, CursorMalformed, Error
from veritydb.sse.callers import Caller
from veritydb.sse.messages import (
    Asked,
    Message,
    View,
    Views,
    joined,
    problem_text,
    ready_message,
    resync_message,
    snapshot_message,
)
from veritydb.sse.problems import Problem
from veritydb.sse.settings import Streams
from veritydb.subscriptions.decoding import Batch
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.receiver import Receiver
from veritydb.subscriptions.snapshots import begin, rows_of, tables_of
from veritydb.subscriptions.updates import Cursor, Resync, Selection

log = logging.getLogger("veritydb.sse")

HEARTBEAT = b":\n\n"
_ROUND_SHARE = 28e-6
"""Seconds between two rounds of sending, for each stream: what sending takes, and half as much again."""
_TICK = 0.5
"""Seconds between two looks at clocks: for heartbeats, stalls, and keys that expire."""
_PIECE_BYTES = 128 << 10
"""What is sent in one piece, roughly; one message may be longer."""
_BUFFER = 16
"""Batches that a stream which is behind reads from the log at a time."""


class _Texts(Receiver):
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
        # Of what is not there and of what may not be seen the same is said, and at the same moment.
        for name in sorted(self._view.asked.tables or ()):
            if self._view.rights.of(name) is None or not feed.knows(name):
                raise Problem("unknown-table", name)

    def choose(self, batch: Batch, seen: tuple[int, int]) -> Sequence[Message]:
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


class Hub:
    """All streams of a server. Made in a running event loop."""

    def __init__(self, open_feed: Callable[[], Feed], settings: Streams) -> None:
        self._open_feed = open_feed
        self.settings = settings
        self._views = Views(settings.value_bytes_max)
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.Lock()
        self._feed: Feed | None = None
        self._streams: set[Stream] = set()
        self._snapshots: set[Stream] = set()
        """Those that are reading one."""
        self._callers: Counter[tuple[str, str]] = Counter()
        self._ticker: asyncio.Task[None] | None = None
        self._woken = False
        self._pulsed = -1.0
        self._pieces: dict[tuple[View, int | None], tuple[list[Message], int, Cursor, bool]] = {}
        """What was taken since the last pulse, by view and place: messages, the place behind them, if that was all."""
        self.grown = asyncio.Event()
        """Set, and replaced by another one, when there is something to look at."""
        self.ending: str | None = None
        """Why all streams are to end."""

    @property
    def count(self) -> int:
        """Streams that there are."""
        return len(self._streams)

    @contextlib.asynccontextmanager
    async def stream(
        self, caller: Caller, asked: Asked, since: object, snapshot: bool = False
    ) -> AsyncGenerator[Stream]:
        """Begin a stream behind the cursor ``since``; None: with what is committed from now on.

        With ``snapshot`` the rows there are come first, unless the stream resumes (``since``), and again whenever it
        has to begin anew. Raises Problem.
        """
        settings = self.settings
        who = (caller.role, caller.name)
        if self.ending is not None:
            raise Problem("unavailable", self.ending, headers={"Retry-After": "1"})
        if len(self._streams) >= settings.streams_max or self._callers[who] >= settings.streams_per_caller_max:
            raise Problem("too-many", headers={"Retry-After": "5"})
        view = self._views.enter(caller.rights, asked)
        stream = Stream(self, caller, view)
        # Counted before anything is waited for, so that the limit holds for those who come at once.
        self._streams.add(stream)
        self._callers[who] += 1
        try:
            feed = await self._entered()
            if since is not None and not caller.rights.history and not _recent(feed, since):
                # Whoever may not ask what was resumes from memory, and is told where memory does not reach.
                since, stream.cut = None, True
            stream.receiver = await asyncio.to_thread(self._receiver, feed, view, since, snapshot)
            stream.touch()
            yield stream
        finally:
            self._streams.discard(stream)
            self.end_snapshot(stream)
            self._callers[who] -= 1
            if not self._callers[who]:
                del self._callers[who]
            self._views.leave(view)
            if stream.receiver is not None:
                stream.receiver.close()
            if not self._streams:
                await asyncio.shield(self._leave())

    def end(self, why: str) -> None:
        """End all streams; each tells its client to come back."""
        self.ending = why
        self._pulse()

    async def ended(self, seconds: float) -> None:
        """Wait until all streams have ended, for so long."""
        deadline = time.monotonic() + seconds
        while self._streams and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def _receiver(self, feed: Feed, view: View, since: object, snapshot: bool) -> _Texts:
        try:
            return _Texts(feed, view, self._views, since, snapshot)
        except CursorMalformed:
            raise Problem("bad-cursor", "a cursor is offset, offset.index, or offset.index@stream") from None
        except CursorAhead:
            raise Problem("future-offset") from None
        except Error as error:
            raise Problem("unavailable") from error

    async def _entered(self) -> Feed:
        async with self._opening:
            if self._feed is not None and (self._feed.closed or self._feed.failed is not None):
                await self._close_feed()
            if self._feed is None:
                try:
                    feed = await asyncio.to_thread(self._open_feed)
                except Error as error:
                    raise Problem("unavailable") from error
                feed.add_gate(self, self._wake)
                self._feed = feed
            if self._ticker is None:
                self._ticker = asyncio.create_task(self._tick())
            return self._feed

    async def _leave(self) -> None:
        async with self._opening:
            if self._streams:
                return
            if self._ticker is not None:
                self._ticker.cancel()
                self._ticker = None
            await self._close_feed()

    async def _close_feed(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.remove_gate(self)
            await asyncio.to_thread(feed.close)

    def take(self, stream: Stream, receiver: _Texts) -> list[Message]:
        """Take what is there for a stream. Most are at the same place: what one takes, the others get in one piece."""
        place = (stream.view, receiver.number)
        known = self._pieces.get(place) if stream.aligned else None
        if known is not None:
            messages, behind, cursor, stream.emptied = known
            receiver.advance(behind, cursor)
            return messages
        taken, same, stream.emptied = _piece(receiver)
        number = receiver.number
        # From now on the stream has seen all of each slot, or nothing of it.
        aligned = receiver.drained
        if number is not None and aligned and stream.aligned and same:
            whole = [Message(taken[-1].cursor, b"".join([message.sse for message in taken]))] if taken else []
            self._pieces[place] = whole, number, receiver.cursor, stream.emptied
        stream.aligned = number is not None and aligned
        return taken

    def may_snapshot(self, stream: Stream) -> bool:
        """Whether a stream may read a snapshot now: only so many do at once, for each holds the file as it was."""
        if stream.snapshot_since is None and len(self._snapshots) < self.settings.snapshots_max:
            self._snapshots.add(stream)
            stream.snapshot_since = time.monotonic()
        return stream.snapshot_since is not None

    def end_snapshot(self, stream: Stream) -> None:
        """Let another one."""
        if stream in self._snapshots:
            self._snapshots.discard(stream)
            stream.snapshot_since = None
            self._pulse()

    # Waking

    def _wake(self) -> None:
        """Called in the feed's thread: the ring has grown."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # The loop is closed already.
                self._loop.call_soon_threadsafe(self._grown)

    def _grown(self) -> None:
        # A round of sending costs a system call a stream. Where commits come faster than rounds, a round waits a little
        # and sends more; a commit that comes alone is sent at once, however many streams there are.
        due = self._pulsed + _ROUND_SHARE * len(self._streams)
        if self._loop.time() >= due:
            self._pulse()
        else:
            self._loop.call_at(due, self._pulse)

    def _pulse(self) -> None:
        self._woken = False
        self._pulsed = self._loop.time()
        self._pieces.clear()
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()

    async def _tick(self) -> None:
        settings = self.settings
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            attention = False
            for stream in list(self._streams):
                if stream.sending:
                    if now - stream.touched > settings.stall_seconds:
                        stream.give_up()
                elif now - stream.touched >= settings.heartbeat_seconds or stream.expired:
                    attention = True
            if attention:
                self._pulse()


class Stream:
    """One client's stream."""

    def __init__(self, hub: Hub, caller: Caller, view: View) -> None:
        self.hub = hub
        self.caller = caller
        self.view = view
        self.receiver: _Texts | None = None
        self.touched = time.monotonic()
        """When something was last sent, or was begun to be sent."""
        self.sending = False
        self.cut = False
        """Whether something before its beginning is missing."""
        self.aligned = False
        """Whether it has seen all of each slot of the ring, or nothing."""
        self.emptied = False
        """Whether it has taken all that there was when it looked."""
        self.snapshot_since: float | None = None
        """When it began to read a snapshot, while it does."""
        self._task: asyncio.Task[Any] | None = None

    @property
    def expired(self) -> bool:
        """Whether the caller's key or token has expired."""
        expires = self.caller.expires
        return expires is not None and time.time() >= expires

    @property
    def slow(self) -> bool:
        """Whether a snapshot takes too long, and its client keeps the file from being cut back."""
        since = self.snapshot_since
        return since is not None and time.monotonic() - since > self.hub.settings.snapshot_seconds

    def touch(self) -> None:
        """Note that something was sent."""
        self.touched = time.monotonic()

    def begin_sending(self) -> None:
        """Note that something is being sent, until :attr:`sending` is taken back."""
        self.touched = time.monotonic()
        self.sending = True

    def give_up(self) -> None:
        """End it from outside: its client takes nothing."""
        if self._task is not None:
            self._task.cancel()

    async def messages(self) -> AsyncIterator[list[Message] | Problem]:
        """Yield messages as they come; an empty list where a heartbeat is due; a Problem is the last."""
        receiver, hub = self.receiver, self.hub
        assert receiver is not None, "the hub made one"
        self._task = asyncio.current_task()
        if not receiver.in_snapshot:
            yield [ready_message(receiver.cursor)]
        if self.cut:
            why = "the stream goes on with what is committed from now on: this role may not ask what was"
            yield [resync_message(Resync(cursor=receiver.cursor, why=why), resumable=not receiver.snapshot)]
        heartbeat = hub.settings.heartbeat_seconds
        while True:
            grown = hub.grown
            if hub.ending is not None:
                yield Problem("unavailable", hub.ending)
                return
            if self.expired:
                yield Problem("token-expired")
                return
            if receiver.in_snapshot and not hub.may_snapshot(self):
                if time.monotonic() - self.touched >= heartbeat:
                    yield []
                else:
                    await grown.wait()
                continue
            if self.slow:
                yield Problem("too-slow", "the snapshot was not taken in time; ask for less of it")
                return
            try:
                if receiver.behind:
                    await asyncio.to_thread(receiver.read)
                    if not receiver.in_snapshot:
                        hub.end_snapshot(self)
                taken = hub.take(self, receiver)
            except Error as error:
                log.warning("a stream ends: %s", error)
                yield Problem("unavailable")
                return
            except Exception:
                log.exception("a stream failed")
                yield Problem("internal")
                return
            if taken:
                yield taken
                if self.emptied and hub.grown is grown and not receiver.behind:
                    await grown.wait()  # What has come meanwhile comes with a pulse.
            elif receiver.behind:
                continue
            elif time.monotonic() - self.touched >= heartbeat:
                yield []
            else:
                await grown.wait()


def retry_text(stream: Stream) -> bytes:
    """Return what an event stream begins with: how long a browser waits before it connects again."""
    return b"retry: %d\n\n" % stream.hub.settings.retry_ms


def piece_of(messages: list[Message] | Problem) -> bytes:
    """Return what :meth:`Stream.messages` has yielded as an event stream has it."""
    if isinstance(messages, Problem):
        return problem_text(messages)
    if len(messages) == 1:
        return messages[0].sse
    return b"".join([message.sse for message in messages]) if messages else HEARTBEAT


def _recent(feed: Feed, since: object) -> bool:
    """Whether a feed has what follows a cursor in memory."""
    cursor = Cursor.parse(since)
    with feed.condition:
        same = not cursor.stream or cursor.stream == feed.stream
        return same and feed.find(cursor.position, feed.epoch) is not None


def _piece(receiver: _Texts) -> tuple[list[Message], bool, bool]:
    """Take what is there, up to the size of a piece.

    Returns that; whether others at the same place would take the same; and whether it was all.
    """
    taken: list[Message] = []
    size = 0
    same = True
    while size < _PIECE_BYTES:
        one: Any = receiver.take()
        if one is None:
            break
        if isinstance(one, Resync):
            same = False
        message: Message = resync_message(one, resumable=not receiver.snapshot) if isinstance(one, Resync) else one
        taken.append(message)
        size += len(message.sse)
    return taken, same, size < _PIECE_BYTES
