"""``apply``: one op's requests, executed. Every node does it with every op, in the order of the log, and gets the same.

Nothing here can fail for a reason that one node has and another has not: what a client got wrong is answered with a
refusal, which is as much a result as any. :class:`~veritydb.kernel.batch.BadBatch` and :class:`OutOfOrder` say that the
log itself is not what it should be; a node stops then.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from blake3 import blake3
from immutables import Map

from veritydb.chain import HEADER_SIZE, ZERO_HASH, Malformed, Misfit, chain_hash, misfit, unpack_header
from veritydb.kernel.batch import BatchRequest, decode_batch
from veritydb.kernel.commands import (
    AUTOMATIC,
    ID_SIZE,
    PAGE_MAX,
    Append,
    BadCommand,
    Command,
    CreateStream,
    DropStream,
    ListStreams,
    Placement,
    Register,
    Resolve,
    decode_command,
)
from veritydb.kernel.replies import (
    Conflict,
    Created,
    Dropped,
    Forbidden,
    Forgotten,
    Known,
    Refusal,
    Refused,
    Registered,
    Reply,
    StreamInfo,
    Streams,
    encode_appended,
    encode_reply,
)
from veritydb.kernel.snapshot import FATE
from veritydb.kernel.state import (
    IDS_MAX,
    IDS_OPS,
    IDS_PER_OP_MAX,
    SESSIONS_MAX,
    STREAMS_MAX,
    TOMBSTONES_MAX,
    About,
    Duplicate,
    Fate,
    Session,
    State,
    Stream,
    Verdict,
    command_checksum,
    standing,
)
from veritydb.tuples import make


class OutOfOrder(Exception):
    """An op that is not the next one, or is older than the one before."""


class RecordAppended(NamedTuple):
    """A record is committed: keep it."""

    stream: bytes
    first_offset: int
    transaction_count: int
    hash: bytes
    """SHA-256 over the hash of the record before, and this one's header and body."""
    record: bytes
    """Header and body as stored."""


class StreamCreated(NamedTuple):
    """There is a new stream."""

    stream: bytes
    placement: Placement


class StreamDropped(NamedTuple):
    """A stream is at its end: set its records aside."""

    stream: bytes


Effect: TypeAlias = RecordAppended | StreamCreated | StreamDropped


class Output(NamedTuple):
    """What became of one request."""

    client: bytes
    session: int
    number: int
    reply: bytes
    """For :func:`~veritydb.kernel.replies.decode_reply`."""
    effects: tuple[Effect, ...]


REFUSALS = {
    Verdict.CHANGED: encode_reply(Refused(Refusal.REQUEST_CHANGED)),
    Verdict.OLD: encode_reply(Refused(Refusal.REQUEST_OLD)),
    Verdict.AHEAD: encode_reply(Refused(Refusal.REQUEST_AHEAD)),
    Verdict.UNKNOWN: encode_reply(Refused(Refusal.SESSION_UNKNOWN)),
}
_pack_fate = FATE.pack
_BAD_COMMAND = encode_reply(Refused(Refusal.BAD_COMMAND))
_BAD_RECORD = encode_reply(Refused(Refusal.BAD_RECORD))
_BUSY = encode_reply(Refused(Refusal.BUSY))
_STREAM_UNKNOWN = encode_reply(Refused(Refusal.STREAM_UNKNOWN))
_STREAM_DROPPED = encode_reply(Refused(Refusal.STREAM_DROPPED))


def apply_batch(state: State, op: int, timestamp: int, body: bytes) -> tuple[State, tuple[Output, ...]]:
    """Execute an op's requests. Returns the state after it and one output for each request, in order."""
    work = _Work(state, op, timestamp)
    outputs = [work.request(request) for request in decode_batch(body)]
    return work.finish(), tuple(outputs)


def apply_noop(state: State, op: int, timestamp: int) -> State:
    """Count an op that has no requests."""
    return _Work(state, op, timestamp).finish()


class _Work:
    """A state on its way through one op."""

    __slots__ = (
        "decided",
        "forgotten",
        "ids",
        "numbers",
        "op",
        "sessions",
        "state",
        "streams",
        "timestamp",
        "tombstones",
    )

    def __init__(self, state: State, op: int, timestamp: int) -> None:
        if op != state.op + 1 or timestamp < state.timestamp:
            raise OutOfOrder(f"op {op} at {timestamp} after op {state.op} at {state.timestamp}")
        self.state = state
        self.op = op
        self.timestamp = timestamp
        self.streams = state.streams
        self.numbers = state.numbers
        self.sessions = state.sessions
        self.ids = state.ids
        self.forgotten = state.forgotten
        self.tombstones = state.tombstones
        self.decided: list[bytes] = []

    def finish(self) -> State:
        """Drop the ids whose time has come, and return the state after the op."""
        op, oldest, recent = self.op, self.state.oldest, self.state.recent
        if self.decided:
            recent = recent.set(op, b"".join(self.decided))
        while oldest <= op - IDS_OPS or (len(self.ids) > IDS_MAX and oldest < op):
            packed = recent.get(oldest)
            if packed is not None:
                recent = self._drop(recent.delete(oldest), packed)
            oldest += 1
        return make(
            State,
            (
                op, self.timestamp, self.streams, self.numbers, self.sessions, self.ids, recent, oldest,
                self.forgotten, self.tombstones,
            ),
        )  # fmt: skip

    def _drop(self, recent: Map[int, bytes], packed: bytes) -> Map[int, bytes]:
        """Drop what one op decided, except tombstones of appends that could still be accepted: those count as new."""
        kept: list[bytes] = []
        for key, _, offset, hash_ in FATE.iter_unpack(packed):
            name = key[:ID_SIZE]
            if hash_ != ZERO_HASH:
                self.ids = self.ids.delete(key)
                self.forgotten = self.forgotten.set(name, offset + 1)
                continue
            stream = self.streams[name]
            if stream.next_offset > offset or stream.about.dropped:
                self.ids = self.ids.delete(key)
                self.tombstones -= 1
            else:
                self.ids = self.ids.set(key, Fate(self.op, offset, hash_))
                kept.append(_pack_fate(key, self.op, offset, hash_))
        return recent.set(self.op, recent.get(self.op, b"") + b"".join(kept)) if kept else recent

    def request(self, request: BatchRequest) -> Output:
        """Execute one request, unless its session has had it."""
        client, session, number, data = request
        checksum = command_checksum(data)
        what = standing(self.sessions.get(client), session, number, checksum)
        if what is Verdict.NEW:
            effects: tuple[Effect, ...] = ()
            try:
                command = decode_command(data)
            except BadCommand:
                command = None
            if number == 0:
                if not isinstance(command, Register):
                    return Output(client, session, number, _BAD_COMMAND, ())
                session = self._make_room()
                reply = encode_reply(Registered(session))
            elif isinstance(command, Append):
                reply, effects = self._append(*command)
            else:
                reply, effects = self._execute(command, client, number)
            self.sessions = self.sessions.set(client, make(Session, (session, number, checksum, reply, self.op)))
            return make(Output, (client, session, number, reply, effects))
        if isinstance(what, Duplicate):
            return Output(client, self.sessions[client].session, number, what.reply, ())
        return Output(client, session, number, REFUSALS[what], ())

    def _make_room(self) -> int:
        """End the session that has been silent for longest if there is no room. Returns the new session's number."""
        sessions = self.sessions
        if len(sessions) >= SESSIONS_MAX:
            # By client where ops are equal: the map's own order differs between processes.
            _, silent = min((known.op, client) for client, known in sessions.items())
            self.sessions = sessions.delete(silent)
        return self.op

    def _execute(self, command: Command | None, client: bytes, number: int) -> tuple[bytes, tuple[Effect, ...]]:
        match command:
            case CreateStream():
                reply, effects = self._create(command, client, number)
                return encode_reply(reply), effects
            case Resolve():
                return encode_reply(self._resolve(command)), ()
            case ListStreams():
                return encode_reply(self._list(command)), ()
            case DropStream(stream):
                reply, effects = self._drop_stream(stream)
                return encode_reply(reply), effects
            case _:
                return _BAD_COMMAND, ()

    def _create(self, command: CreateStream, client: bytes, number: int) -> tuple[Reply, tuple[Effect, ...]]:
        stream, placement, name = command
        if placement.problem is not None:
            return Refused(Refusal.BAD_PLACEMENT), ()
        if stream == AUTOMATIC:
            seed = b"stream" + self.op.to_bytes(8, "little") + client + number.to_bytes(8, "little")
            stream = blake3(seed).digest(length=ID_SIZE)
        known = self.streams.get(stream)
        if known is not None:
            if known.about.dropped:
                return Refused(Refusal.STREAM_DROPPED), ()
            same = (known.about.placement, known.about.name) == (placement, name)
            return Created(stream, existed=True) if same else Refused(Refusal.STREAM_EXISTS), ()
        count = len(self.streams)
        if count >= STREAMS_MAX:
            return Refused(Refusal.STREAMS_FULL), ()
        about = About(count, placement, self.timestamp, name, 0)
        self.streams = self.streams.set(stream, Stream(about, 0, ZERO_HASH, 0, 0))
        self.numbers = self.numbers.set(count, stream)
        return Created(stream, existed=False), (StreamCreated(stream, placement),)

    def _drop_stream(self, name: bytes) -> tuple[Reply, tuple[Effect, ...]]:
        stream = self.streams.get(name)
        if stream is None:
            return Refused(Refusal.STREAM_UNKNOWN), ()
        if stream.about.dropped:
            return Dropped(name, stream.next_offset), ()
        # It stays in the state for ever, so that nobody begins another stream under its id: a writer who was away
        # would go on where the old one ended.
        about = stream.about._replace(dropped=max(self.timestamp, 1))
        self.streams = self.streams.set(name, stream._replace(about=about))
        return Dropped(name, stream.next_offset), (StreamDropped(name),)

    def _append(self, more: tuple[bytes, ...], record: bytes) -> tuple[bytes, tuple[Effect, ...]]:
        try:
            header = unpack_header(record[:HEADER_SIZE])
        except Malformed:
            return _BAD_RECORD, ()
        (
            name, first_offset, timestamp, prev_hash, last, _, _, _, _,
            parts_length, tail_length, _, generation, count, _, _,
        ) = header  # fmt: skip
        if parts_length + tail_length != len(record) - HEADER_SIZE:
            return _BAD_RECORD, ()
        stream = self.streams.get(name)
        if stream is None:
            return _STREAM_UNKNOWN, ()

        ids = (*more, last) if count else more
        if len(ids) != count or (more and len(set(ids)) != count):
            return _BAD_RECORD, ()
        # An id that is known decides before the head does: somebody who sends an append again must learn that it is
        # committed, not that the head has moved, which it did itself.
        keys = [name + id_ for id_ in ids]
        for key in keys:
            if key in self.ids:
                return encode_reply(_what_became_of(key[ID_SIZE:], self.ids[key])), ()

        about, offset, head, timestamp_min, generation_min = stream
        if about.dropped:
            return _STREAM_DROPPED, ()
        why = misfit(offset, head, timestamp_min, generation_min, first_offset, prev_hash, timestamp, generation)
        if why is not None:
            return _BAD_RECORD if why is Misfit.TIME else encode_reply(Conflict(offset, head)), ()
        if len(self.decided) + count > IDS_PER_OP_MAX:
            return _BUSY, ()

        hash_ = chain_hash(head, record)
        op, at = self.op, offset
        for key in keys:
            self.ids = self.ids.set(key, make(Fate, (op, at, hash_)))
            self.decided.append(_pack_fate(key, op, at, hash_))
            at += 1
        self.streams = self.streams.set(name, make(Stream, (about, at, hash_, timestamp, generation)))
        effect = make(RecordAppended, (name, offset, count, hash_, record))
        return encode_appended(offset, at, hash_), (effect,)

    def _resolve(self, command: Resolve) -> Reply:
        name, id_, since = command
        stream = self.streams.get(name)
        if stream is None:
            return Refused(Refusal.STREAM_UNKNOWN)
        key = name + id_
        if key in self.ids:
            return _what_became_of(id_, self.ids[key])
        below = self.forgotten.get(name, 0)
        if since < below:
            return Forgotten(below)
        if stream.about.dropped:
            return Forbidden(id_)  # As every append to it is.
        if self.tombstones >= TOMBSTONES_MAX or len(self.decided) >= IDS_PER_OP_MAX:
            return Refused(Refusal.BUSY)
        self.tombstones += 1
        self.ids = self.ids.set(key, Fate(self.op, stream.next_offset, ZERO_HASH))
        self.decided.append(_pack_fate(key, self.op, stream.next_offset, ZERO_HASH))
        return Forbidden(id_)

    def _list(self, command: ListStreams) -> Reply:
        after, limit = command
        end = min(after + min(limit, PAGE_MAX), len(self.numbers))
        page: list[StreamInfo] = []
        for number in range(after, end):
            name = self.numbers[number]
            stream = self.streams[name]
            _, placement, created, called, dropped = stream.about
            page.append(StreamInfo(name, placement, created, stream.next_offset, stream.hash, called, dropped))
        return Streams(tuple(page))


def _what_became_of(id_: bytes, fate: Fate) -> Known | Forbidden:
    return Forbidden(id_) if fate.is_tombstone else Known(id_, fate.offset, fate.hash)
