"""The streams of one event loop, and the feed that they share.

A stream has no buffer of its own: it is a place in the feed's ring (:class:`~veritydb.subscriptions.receiver.Receiver`,
here over ready-made text), or in the log while it is behind. So one whose client takes nothing costs what its socket
holds, and no other stream waits for it. When the ring has grown the feed's thread wakes the loop once, however many
streams there are, and a *round* begins: each takes all there is in one piece. Most are idle then and their connections
can be written to, so the hub sends to them itself, some at a time; the others' tasks wake and look.

The feed is opened by the first stream and closed by the last, so a server that nobody listens to reads nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import islice

from veritydb.errors import CursorAhead, CursorMalformed, Error
from veritydb.sse.callers import Caller
from veritydb.sse.messages import Asked, View, Views
from veritydb.sse.pieces import Piece, Texts, chunk, piece_of
from veritydb.sse.problems import Problem
from veritydb.sse.settings import Streams
from veritydb.sse.stream import HEARTBEAT, Stream
from veritydb.subscriptions.feed import Feed
from veritydb.subscriptions.updates import Cursor

_PAUSE_SHARE = 0.5
"""How long the loop has for other things between two rounds, as a part of what the last one took."""
_SLICE = 64
"""Streams that are sent to before the loop looks at what else there is, and the kernel has what was written."""
_TICK = 0.5
"""Seconds between two looks at clocks: for heartbeats, stalls, and keys that expire."""
_HEARTBEAT_CHUNK = chunk(HEARTBEAT)


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
        self._idle: dict[Stream, asyncio.Future[None]] = {}
        """Streams that wait for what comes and can be sent to, with what wakes their tasks."""
        self._woken = False
        """Whether a round is due already."""
        self._round: Iterator[Stream] | None = None
        """Idle streams that are still to be sent to, while a round is under way."""
        self._again = False
        """Whether another round is wanted after this one."""
        self._began = 0.0
        self._due = 0.0
        """When a round began, and when the next one may."""
        self._pieces: dict[tuple[View, int | None], Piece] = {}
        """What was taken since the last pulse, by view and place."""
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

    def _receiver(self, feed: Feed, view: View, since: object, snapshot: bool) -> Texts:
        try:
            return Texts(feed, view, self._views, since, snapshot)
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

    def take(self, stream: Stream, receiver: Texts) -> Piece:
        """Take what is there for a stream. Most are at the same place: what one takes, the others get."""
        place = (stream.view, receiver.number)
        known = self._pieces.get(place) if stream.aligned else None
        if known is not None:
            assert known.number is not None, "what is shared is of the ring"
            receiver.advance(known.number, known.cursor)
            return known
        piece = piece_of(receiver)
        if piece.shared and stream.aligned:
            self._pieces[place] = piece
        stream.aligned = piece.number is not None and receiver.drained
        return piece

    async def idle(self, stream: Stream, grown: asyncio.Event) -> None:
        """Wait until there may be something for the stream's task to do: since ``grown`` was current, or from now on.

        While it waits the hub sends what comes, if the stream has a pipe.
        """
        if stream.pipe is None:
            await grown.wait()
        elif not grown.is_set():
            self._idle[stream] = waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._idle.pop(stream, None)

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
        # A round costs a system call a stream. Where commits come faster than rounds, a round waits a little and sends
        # more; a commit that comes alone is sent at once, however many streams there are.
        if self._round is not None or self._loop.time() >= self._due:
            self._pulse()
        else:
            self._loop.call_at(self._due, self._pulse)

    def _pulse(self) -> None:
        """Let all streams look."""
        self._woken = False
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()
        if self._round is not None:
            self._again = True
            return
        self._pieces.clear()
        self._began = self._loop.time()
        self._round = iter(list(self._idle))
        self._send_some()

    def _send_some(self) -> None:
        """Go on with the round."""
        assert self._round is not None, "it is under way"
        more = False
        for stream in islice(self._round, _SLICE):
            more = True
            waiter = self._idle.get(stream)
            if waiter is not None and not self._send(stream) and not waiter.done():
                waiter.set_result(None)
        self._loop.call_soon(self._send_some if more else self._end_round)

    def _end_round(self) -> None:
        # Behind all that the round has made the loop do.
        now = self._loop.time()
        self._due = now + (now - self._began) * _PAUSE_SHARE
        self._round = None
        if self._again:
            self._again = False
            self._woken = True
            self._loop.call_at(self._due, self._pulse)

    def _send(self, stream: Stream) -> bool:
        """Send an idle stream what there is; return False if its task has to see to it."""
        receiver, pipe = stream.receiver, stream.pipe
        assert receiver is not None, "it has begun"
        assert pipe is not None, "it is idle"
        if not pipe.open or receiver.behind or self.ending is not None or stream.expired:
            return False
        try:
            piece = self.take(stream, receiver)
            if piece.sse:
                pipe.write(piece.framed)
                stream.touch()
            elif stream.silent:
                pipe.write(_HEARTBEAT_CHUNK)
                stream.touch()
        except Exception as error:
            stream.error = error  # It ends this stream, and not the round.
            return False
        return piece.complete and not receiver.behind

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
                elif stream.silent or stream.expired:
                    attention = True
            if attention:
                self._pulse()


def _recent(feed: Feed, since: object) -> bool:
    """Whether a feed has what follows a cursor in memory."""
    cursor = Cursor.parse(since)
    with feed.condition:
        same = not cursor.stream or cursor.stream == feed.stream
        return same and feed.find(cursor.position, feed.epoch) is not None
