"""The kernel at its edges, to the unit: what mutation testing asked for (``make mutation``)."""

from __future__ import annotations

import importlib

import pytest
from blake3 import blake3

from tests.support.node import ANYWHERE, STREAM, Node, name, record
from veritydb.chain import OFFSET_MAX, ZERO_HASH
from veritydb.kernel import (
    AUTOMATIC,
    EMPTY,
    Append,
    Appended,
    BadBatch,
    BadCommand,
    BadReply,
    BadSnapshot,
    BatchRequest,
    Created,
    CreateStream,
    DataClass,
    DropStream,
    Forbidden,
    Known,
    Output,
    Placement,
    Refusal,
    Refused,
    Register,
    Registered,
    Reply,
    Resolve,
    Session,
    State,
    Stream,
    Verdict,
    batch,
    decode_batch,
    decode_command,
    decode_reply,
    digest,
    encode_batch,
    encode_command,
    encode_reply,
    head,
    lookup,
    machine,
    restore,
    snapshot,
)
from veritydb.kernel.commands import unpack_placement
from veritydb.kernel.state import About, Fate
from veritydb.packing import Structs, pack

CLIENT = name(0xC)
snapshots = importlib.import_module("veritydb.kernel.snapshot")  # The function of this name hides the module.


def said(call: object) -> str:
    """Return what is said by the error that a call raises."""
    with pytest.raises(Exception) as caught:
        call()  # type: ignore[operator]
    return str(caught.value)


def appended(node: Node, *ids: bytes) -> Reply:
    at = head(node.state, STREAM)
    assert at is not None
    *more, last = ids
    return node.ask(Append(tuple(more), record(at.next_offset, at.hash, id_=last, count=len(ids))))


# ---- outputs: whose they are


def test_an_output_says_whose_request_it_answers_whatever_the_answer() -> None:
    node = Node()
    registered = node.register()
    assert isinstance(registered, Registered)
    session = registered.session
    data = encode_command(Register())
    assert node.outputs == (Output(CLIENT, session, 0, encode_reply(registered), ()),)

    node.batch(BatchRequest(CLIENT, 0, 0, data))
    assert node.outputs == (Output(CLIENT, session, 0, encode_reply(registered), ()),), "the same again"

    for request, refusal in (
        (BatchRequest(name(1), 0, 0, encode_command(Resolve(STREAM, name(1), 0))), Refusal.BAD_COMMAND),
        (BatchRequest(name(1), 7, 8, data), Refusal.SESSION_UNKNOWN),
        (BatchRequest(CLIENT, session, 2, data), Refusal.REQUEST_AHEAD),
    ):
        node.batch(request)
        assert node.outputs == (Output(*request[:3], encode_reply(Refused(refusal)), ()),)


# ---- sessions


@pytest.mark.parametrize(
    ("session", "number", "verdict"),
    [(0, 1, Verdict.UNKNOWN), (1, 0, Verdict.UNKNOWN), (1, 1, Verdict.UNKNOWN), (0, 0, Verdict.NEW)],
)
def test_who_has_no_session_may_only_begin_one(session: int, number: int, verdict: Verdict) -> None:
    assert lookup(EMPTY, CLIENT, session, number, b"x") is verdict


def test_another_session_of_a_client_is_unknown_by_either_number() -> None:
    node = Node()
    node.register()
    own = node.state.sessions[CLIENT].session
    for session, number in ((own + 1, 0), (0, 1), (own + 1, 1)):
        assert lookup(node.state, CLIENT, session, number, b"x") is Verdict.UNKNOWN


# ---- streams


def test_an_automatic_id_is_the_hash_of_op_client_and_number() -> None:
    node = Node()
    created = node.ask(CreateStream(AUTOMATIC, ANYWHERE))
    seed = b"stream" + bytes([2, 0, 0, 0, 0, 0, 0, 0]) + CLIENT + bytes([1, 0, 0, 0, 0, 0, 0, 0])
    assert created == Created(blake3(seed).digest(length=16), existed=False)


def test_a_new_stream_is_empty_and_of_its_ops_time() -> None:
    node = Node(STREAM)
    assert node.state.streams[STREAM] == Stream(About(0, ANYWHERE, 2000, "", 0), 0, ZERO_HASH, 0, 0)
    first = node.ask(Append((), record(timestamp=0, generation=0)))
    assert isinstance(first, Appended), "so its first record may be of any time and generation"


def test_a_region_is_what_is_before_the_zeros() -> None:
    assert unpack_placement(2, b"abX\0\0") == Placement(DataClass.NON_PHI, "abX")


# ---- ids


def test_the_ids_of_an_op_stand_side_by_side() -> None:
    node = Node(STREAM)
    appended(node, name(1), name(2))
    op = node.state.op
    assert len(node.state.recent[op]) == 2 * 80
    assert restore(snapshot(node.state)) == node.state
    assert node.ask(Resolve(STREAM, name(2), 0)) == Known(name(2), 1, node.state.streams[STREAM].hash)


def test_ids_of_so_many_ops_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_OPS", 3)
    node = Node(STREAM)
    appended(node, name(1))
    at = node.state.op
    for op in (at + 1, at + 2):
        node.state = machine.apply_noop(node.state, op, 10**9 + op)
        assert STREAM + name(1) in node.state.ids
        assert node.state.oldest == op - 2
    node.state = machine.apply_noop(node.state, at + 3, 10**9 + at + 3)
    assert STREAM + name(1) not in node.state.ids
    assert node.state.oldest == at + 1
    assert at not in node.state.recent


def test_an_ops_own_ids_are_kept_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_MAX", 1)
    node = Node(STREAM)
    appended(node, name(1), name(2), name(3))
    assert len(node.state.ids) == 3
    assert node.state.oldest == node.state.op


def test_tombstones_that_outlive_their_op_join_those_of_the_op_that_kept_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_OPS", 1)
    node = Node(STREAM)
    client = node.request(Resolve(STREAM, name(7), 0)), node.request(Resolve(STREAM, name(8), 0))
    node.batch(*client)
    node.ask(Resolve(STREAM, name(9), 0))
    assert len(node.state.recent[node.state.op]) == 3 * 80
    assert node.state.tombstones == 3
    assert list(node.state.recent) == [node.state.op]
    assert restore(snapshot(node.state)) == node.state
    appended(node, name(1))
    assert node.state.tombstones == 0
    node.state = machine.apply_noop(node.state, node.state.op + 1, 10**9)
    assert len(node.state.recent) == 0


def test_an_op_decides_so_many_ids_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_PER_OP_MAX", 2)
    node = Node(STREAM)
    two = record(id_=name(2), count=2)
    assert isinstance(node.ask(Append((name(1),), two)), Appended)
    at = head(node.state, STREAM)
    assert at is not None
    three = record(at.next_offset, at.hash, id_=name(5), count=3)
    assert node.ask(Append((name(3), name(4)), three)) == Refused(Refusal.BUSY)

    requests = [node.request(Resolve(STREAM, name(number), 0)) for number in (6, 7, 8)]
    assert node.batch(*requests) == [Forbidden(name(6)), Forbidden(name(7)), Refused(Refusal.BUSY)]


# ---- bytes that are refused, and what is said of them


def test_a_batch_that_is_none_is_refused_by_what_is_wrong() -> None:
    whole = encode_batch([BatchRequest(CLIENT, 1, 1, b"12345678")])
    assert said(lambda: decode_batch(whole[: batch.BATCH_OVERHEAD])) == "a batch of 32 bytes"
    assert said(lambda: decode_batch(b"x" + whole[1:])) == "the bytes do not begin as a batch does"
    none = batch._HEAD.pack(0, 4, batch._ROOT, batch._COMPOSITE, batch._TAG) + bytes(8)
    assert said(lambda: decode_batch(none)) == "the bytes do not begin as a batch does"
    words = int.from_bytes(whole[4:8], "little") + 1
    longer = whole[:4] + words.to_bytes(4, "little") + whole[8:] + bytes(8)
    assert said(lambda: decode_batch(longer)) == "8 bytes behind the last request"
    with pytest.raises(BadBatch):
        decode_batch(longer)


def test_a_command_that_is_none_is_refused_by_what_is_wrong() -> None:
    short = encode_command(Register())[:-1]
    assert said(lambda: decode_command(short)) == "a command of 87 bytes"
    crooked = encode_command(Register())[:-1] + b"x"
    assert said(lambda: decode_command(crooked)) == "the bytes are not laid out as those of any command"
    append = encode_command(Append((), record()))
    assert said(lambda: decode_command(append + bytes(8))) == "the record is not where it should be"
    with pytest.raises(BadCommand):
        decode_command(short)


def test_a_reply_that_is_none_is_refused_by_what_is_wrong() -> None:
    whole = encode_reply(Registered(1))
    assert said(lambda: decode_reply(whole[:-1])) not in ("", "None")
    spoilt = bytearray(whole)
    spoilt[-1] = 1
    with pytest.raises(BadReply):
        decode_reply(bytes(spoilt))
    used = bytearray(encode_reply(Forbidden(name(1))))
    used[40] ^= 1
    assert said(lambda: decode_reply(bytes(used))) == "the reply has fields that its kind has not"


# ---- snapshots that nobody wrote


def test_a_state_is_named_by_the_hash_of_its_snapshot() -> None:
    node = Node(STREAM)
    assert digest(node.state) == blake3(snapshot(node.state)).digest()[:16]
    assert digest(node.state) != digest(EMPTY)


def with_stream(next_offset: int, below: int = 0) -> State:
    hash_ = b"h" * 32 if next_offset else ZERO_HASH
    stream = Stream(About(0, ANYWHERE, 0, "", 0), next_offset, hash_, 0, 0)
    state = EMPTY._replace(op=9, timestamp=9, streams=EMPTY.streams.set(STREAM, stream))
    state = state._replace(numbers=EMPTY.numbers.set(0, STREAM))
    return state._replace(forgotten=EMPTY.forgotten.set(STREAM, below)) if below else state


@pytest.mark.parametrize(
    "state",
    [
        EMPTY._replace(op=5, oldest=6),
        EMPTY._replace(op=5, oldest=1),
        EMPTY._replace(op=OFFSET_MAX),
        EMPTY._replace(op=1, timestamp=OFFSET_MAX),
        with_stream(OFFSET_MAX),
        with_stream(3, 3),
    ],
)
def test_a_state_at_its_bounds_is_restored(state: State) -> None:
    assert restore(snapshot(state)) == state


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (EMPTY._replace(op=5, oldest=0), "op 5, oldest 0, timestamp 0"),
        (EMPTY._replace(op=5, oldest=7), "op 5, oldest 7, timestamp 0"),
        (EMPTY._replace(op=OFFSET_MAX + 1), f"op {OFFSET_MAX + 1}, oldest 1, timestamp 0"),
        (EMPTY._replace(op=5, timestamp=OFFSET_MAX + 1), f"op 5, oldest 1, timestamp {OFFSET_MAX + 1}"),
        (with_stream(OFFSET_MAX + 1), f"a stream of {OFFSET_MAX + 1} transactions of which 0 are forgotten"),
        (with_stream(3, 4), "a stream of 3 transactions of which 4 are forgotten"),
    ],
)
def test_a_state_beyond_its_bounds_is_refused_and_named(state: State, why: str) -> None:
    with pytest.raises(BadSnapshot) as caught:
        restore(snapshot(state))
    assert str(caught.value) == why


def with_session(session: int, at: int, op: int = 5) -> State:
    known = Session(session, 1, bytes(16), encode_reply(Registered(1)), at)
    return EMPTY._replace(op=op, sessions=EMPTY.sessions.set(CLIENT, known))


def test_a_sessions_request_is_not_older_than_the_session_nor_newer_than_the_state() -> None:
    for state in (with_session(1, 1), with_session(5, 5), with_session(1, 5)):
        assert restore(snapshot(state)) == state
    for session, at in ((0, 1), (3, 2), (1, 6)):
        why = said(lambda session=session, at=at: restore(snapshot(with_session(session, at))))
        assert why == f"a session of op {session} with a request of op {at}, after op 5"


def test_each_session_has_one_reply() -> None:
    root = snapshots._ROOT.pack(2, 5, 0, 1)
    fields = snapshots._SESSION.pack(CLIENT, 1, 1, 1, bytes(16))
    data = pack(root, Structs(16, b"", []), Structs(10, b""), Structs(7, fields, [b""]))
    with pytest.raises(BadSnapshot):
        restore(data)


def with_fate(at: int, offset: int, hash_: bytes, oldest: int = 2) -> State:
    key = STREAM + name(1)
    state = with_stream(3)._replace(op=9, oldest=oldest, tombstones=int(hash_ == ZERO_HASH))
    packed = snapshots.FATE.pack(key, at, offset, hash_)
    return state._replace(ids=EMPTY.ids.set(key, Fate(at, offset, hash_)), recent=EMPTY.recent.set(at, packed))


@pytest.mark.parametrize(("at", "offset", "hash_"), [(2, 0, b"h" * 32), (9, 2, b"h" * 32), (9, 3, ZERO_HASH)])
def test_an_id_lies_within_its_stream_and_the_ops_that_are_kept(at: int, offset: int, hash_: bytes) -> None:
    state = with_fate(at, offset, hash_)
    assert restore(snapshot(state)) == state


@pytest.mark.parametrize(
    ("at", "offset", "hash_"),
    [(1, 0, b"h" * 32), (10, 0, b"h" * 32), (9, 3, b"h" * 32), (9, 4, ZERO_HASH), (9, 4, b"h" * 32)],
)
def test_an_id_beyond_them_is_refused_and_named(at: int, offset: int, hash_: bytes) -> None:
    with pytest.raises(BadSnapshot) as caught:
        restore(snapshot(with_fate(at, offset, hash_)))
    assert str(caught.value) == f"an id of op {at} and offset {offset} that no stream has"


def test_as_many_tombstones_as_there_may_be_are_restored_and_one_more_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(STREAM)
    for number in (1, 2):
        node.ask(Resolve(STREAM, name(number), 0))
    monkeypatch.setattr(snapshots, "TOMBSTONES_MAX", 2)
    assert restore(snapshot(node.state)) == node.state
    monkeypatch.setattr(snapshots, "TOMBSTONES_MAX", 1)
    assert said(lambda: restore(snapshot(node.state))) == "2 tombstones where there may be 1"


def test_two_ids_of_one_op_are_restored_as_they_were() -> None:
    node = Node(STREAM)
    appended(node, name(1), name(2))
    assert restore(snapshot(node.state)).recent == node.state.recent


def test_what_is_said_twice_is_refused_and_named() -> None:
    packed = snapshots._STREAM.pack(STREAM, b"", 0, 0, ZERO_HASH, 0, 0, 0, DataClass.NON_PHI, 0)
    root = snapshots._ROOT.pack(2, 5, 0, 1)
    none = Structs(10, b""), Structs(7, b"", [])
    assert restore(pack(root, Structs(16, packed, [b""]), *none)).streams[STREAM].next_offset == 0
    twice = Structs(16, packed * 2, [b"", b""])
    assert said(lambda: restore(pack(root, twice, *none))) == "a stream that is there twice"
    phi = snapshots._STREAM.pack(STREAM, b"", 0, 0, ZERO_HASH, 0, 0, 0, DataClass.PHI, 0)
    assert said(lambda: restore(pack(root, Structs(16, phi, [b""]), *none))) == "a stream's placement is none"
    assert said(lambda: restore(pack(root, Structs(16, packed, [b"\xff"]), *none))) == "a stream's name is none"
    other = snapshots._ROOT.pack(3, 5, 0, 1)
    assert said(lambda: restore(pack(other, Structs(16, packed, [b""]), *none))) == (
        "a snapshot of version 3; this program reads 2"
    )
    fate = snapshots.FATE.pack(STREAM + name(1), 2, 0, ZERO_HASH)
    decided = pack(root, Structs(16, packed, [b""]), Structs(10, fate), Structs(7, b"", []))
    assert restore(decided).tombstones == 1
    again = pack(root, Structs(16, packed, [b""]), Structs(10, fate * 2), Structs(7, b"", []))
    assert said(lambda: restore(again)) == "an id that is decided twice"
    turned = b"".join(snapshots.FATE.pack(STREAM + name(number), 2, 0, ZERO_HASH) for number in (2, 1))
    order = pack(root, Structs(16, packed, [b""]), Structs(10, turned), Structs(7, b"", []))
    assert restore(order).tombstones == 2
    sessions = b"".join(snapshots._SESSION.pack(name(number), 1, 1, 1, bytes(16)) for number in (2, 1))
    replies = [encode_reply(Registered(1))] * 2
    wrong = pack(root, Structs(16, b"", []), Structs(10, b""), Structs(7, sessions, replies))
    assert said(lambda: restore(wrong)) == (
        "the snapshot says something twice, or in another order than a snapshot has"
    )


def test_all_that_an_op_decided_is_forgotten_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_OPS", 1)
    node = Node(STREAM)
    appended(node, name(1), name(2))
    assert len(node.state.ids) == 2
    node.state = machine.apply_noop(node.state, node.state.op + 1, 10**9)
    assert len(node.state.ids) == 0
    assert node.state.forgotten[STREAM] == 2


def test_a_stream_that_was_dropped_at_the_beginning_of_time_is_dropped() -> None:
    node = Node()
    node.register()
    create = node.request(CreateStream(STREAM, ANYWHERE))
    drop = node.request(DropStream(STREAM))
    state = node.state._replace(timestamp=0)
    state, _ = machine.apply_batch(state, state.op + 1, 0, encode_batch([create, drop]))
    assert state.streams[STREAM].about.dropped == 1
