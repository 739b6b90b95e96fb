"""A state as bytes and back (``State`` in ``schemas/kernel.capnp``).

The same state gives the same bytes on every node, however it came about: streams stand in the order of their creation,
ids in the order of the ops that decided them, sessions by client. So the hash of the bytes names the state.

Ids are most of it. They are packed when they are decided and kept so, op by op; a snapshot only joins them.
"""

from __future__ import annotations

from struct import Struct

from blake3 import blake3
from immutables import Map

from veritydb.chain import OFFSET_MAX, ZERO_HASH, Malformed
from veritydb.kernel.commands import ID_SIZE, unpack_name, unpack_placement
from veritydb.kernel.replies import decode_reply
from veritydb.kernel.state import (
    IDS_MAX,
    IDS_PER_OP_MAX,
    SESSIONS_MAX,
    STREAMS_MAX,
    TOMBSTONES_MAX,
    About,
    Fate,
    Session,
    State,
    Stream,
)
from veritydb.packing import PREFACE_SIZE, Shape, Structs, pack, unpack

VERSION = 2
"""1 had streams without names, and none that were dropped."""

_ROOT = Struct("<QQQQ")
_STREAM = Struct("<16s32sQQ32sQQIIQ")
_SESSION = Struct("<16sQQQ16s")
FATE = Struct("<32sQQ32s")
"""(stream and id, op, offset, hash) -> 80 bytes."""
_SHAPES = (
    Shape(_STREAM.size // 8, blobs=True, count_max=STREAMS_MAX),
    Shape(FATE.size // 8, count_max=IDS_MAX + IDS_PER_OP_MAX),
    Shape(_SESSION.size // 8, blobs=True, count_max=SESSIONS_MAX),
)


class BadSnapshot(Malformed):
    """Bytes that are not the snapshot of a state."""


def snapshot(state: State) -> bytes:
    """Return the state as bytes."""
    streams: list[bytes] = []
    names: list[bytes] = []
    for number in range(len(state.numbers)):
        name = state.numbers[number]
        stream = state.streams[name]
        _, placement, created, called, dropped = stream.about
        names.append(called.encode())
        streams.append(
            _STREAM.pack(
                name, placement.region.encode(), created, stream.next_offset, stream.hash, stream.timestamp,
                state.forgotten.get(name, 0), stream.generation, placement.data_class, dropped,
            )
        )  # fmt: skip
    sessions = sorted(state.sessions.items())
    return pack(
        _ROOT.pack(VERSION, state.op, state.timestamp, state.oldest),
        Structs(_SHAPES[0].words, b"".join(streams), names),
        Structs(_SHAPES[1].words, b"".join([packed for _, packed in sorted(state.recent.items())])),
        Structs(
            _SHAPES[2].words,
            b"".join([_SESSION.pack(client, s.session, s.number, s.op, s.checksum) for client, s in sessions]),
            [s.reply for _, s in sessions],
        ),
    )


def digest(state: State) -> bytes:
    """Return 16 bytes that name the state."""
    return blake3(snapshot(state)).digest(length=16)


def restore(data: bytes) -> State:
    """Return the state of which ``data`` is the snapshot. Raises BadSnapshot if there can be none."""
    version = int.from_bytes(data[PREFACE_SIZE : PREFACE_SIZE + 8], "little")
    if version != VERSION:  # First, because another version may be laid out in another way.
        raise BadSnapshot(f"a snapshot of version {version}; this program reads {VERSION}")
    try:
        fields, objects = unpack(data, _ROOT.size // 8, *_SHAPES)
        streams, ids, sessions = objects
        assert isinstance(streams, Structs)
        assert isinstance(ids, Structs)
        assert isinstance(sessions, Structs)
        state = _restore(fields, streams, ids, sessions)
    except Malformed as error:
        raise BadSnapshot(error.why) from error
    # Order, repetitions, and fields that only look different are right if the same comes out again.
    if snapshot(state) != data:
        raise BadSnapshot("the snapshot says something twice, or in another order than a snapshot has")
    return state


def _restore(fields: bytes, streams: Structs, ids: Structs, sessions: Structs) -> State:
    _, op, timestamp, oldest = _ROOT.unpack(fields)
    if not (0 < oldest <= op + 1 and op <= OFFSET_MAX and timestamp <= OFFSET_MAX):
        raise BadSnapshot(f"op {op}, oldest {oldest}, timestamp {timestamp}")

    by_name, forgotten = _restore_streams(streams)
    fates, recent, tombstones = _restore_ids(ids, by_name, oldest, op)
    by_client: dict[bytes, Session] = {}
    for (client, session, number, at, checksum), reply in zip(
        _SESSION.iter_unpack(sessions.fields), sessions.blobs or (), strict=True
    ):
        decode_reply(reply)
        if not 0 < session <= at <= op:
            raise BadSnapshot(f"a session of op {session} with a request of op {at}, after op {op}")
        by_client[client] = Session(session, number, checksum, reply, at)
    return State(
        op=op,
        timestamp=timestamp,
        streams=Map(by_name),
        numbers=Map({stream.about.number: name for name, stream in by_name.items()}),
        sessions=Map(by_client),
        ids=Map(fates),
        recent=Map(recent),
        oldest=oldest,
        forgotten=Map(forgotten),
        tombstones=tombstones,
    )


def _restore_streams(streams: Structs) -> tuple[dict[bytes, Stream], dict[bytes, int]]:
    by_name: dict[bytes, Stream] = {}
    forgotten: dict[bytes, int] = {}
    for fields, called in zip(_STREAM.iter_unpack(streams.fields), streams.blobs or (), strict=True):
        name, region, created, next_offset, hash_, timestamp, below, generation, data_class, dropped = fields
        text = unpack_name(called)
        if text is None:
            raise BadSnapshot("a stream's name is none")
        placement = unpack_placement(data_class, region)
        if placement is None or placement.problem is not None:
            raise BadSnapshot("a stream's placement is none")
        if name in by_name:
            raise BadSnapshot("a stream that is there twice")
        if next_offset > OFFSET_MAX or below > next_offset:
            raise BadSnapshot(f"a stream of {next_offset} transactions of which {below} are forgotten")
        about = About(len(by_name), placement, created, text, dropped)
        by_name[name] = Stream(about, next_offset, hash_, timestamp, generation)
        if below:
            forgotten[name] = below
    return by_name, forgotten


def _restore_ids(
    ids: Structs, streams: dict[bytes, Stream], oldest: int, op: int
) -> tuple[dict[bytes, Fate], dict[int, bytes], int]:
    fates: dict[bytes, Fate] = {}
    recent: dict[int, list[bytes]] = {}
    tombstones = 0
    for key, at, offset, hash_ in FATE.iter_unpack(ids.fields):
        stream = streams.get(key[:ID_SIZE])
        if stream is None or not oldest <= at <= op or offset >= stream.next_offset + (hash_ == ZERO_HASH):
            raise BadSnapshot(f"an id of op {at} and offset {offset} that no stream has")
        fates[key] = Fate(at, offset, hash_)
        recent.setdefault(at, []).append(FATE.pack(key, at, offset, hash_))
        tombstones += hash_ == ZERO_HASH
    if len(fates) != ids.number:
        raise BadSnapshot("an id that is decided twice")
    if tombstones > TOMBSTONES_MAX:
        raise BadSnapshot(f"{tombstones} tombstones where there may be {TOMBSTONES_MAX}")
    return fates, {at: b"".join(packed) for at, packed in recent.items()}, tombstones
