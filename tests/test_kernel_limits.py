"""The kernel at its bounds: what is forgotten, what never is, who makes room, and snapshots that nobody wrote."""

from __future__ import annotations

import importlib

import pytest

from tests.support.node import ANYWHERE, STREAM, Node, name, record
from veritydb.chain import ZERO_HASH
from veritydb.kernel import (
    AUTOMATIC,
    EMPTY,
    Append,
    Appended,
    BadSnapshot,
    BatchRequest,
    Created,
    CreateStream,
    DataClass,
    Duplicate,
    Forbidden,
    Forgotten,
    Known,
    ListStreams,
    OutOfOrder,
    Placement,
    Refusal,
    Refused,
    Register,
    Resolve,
    Streams,
    Verdict,
    apply_batch,
    apply_noop,
    digest,
    encode_batch,
    encode_command,
    head,
    lookup,
    machine,
    restore,
    session,
    snapshot,
)
from veritydb.packing import Shape, Structs, pack, unpack

snapshots = importlib.import_module("veritydb.kernel.snapshot")  # The function of this name hides the module.
SHAPES = (Shape(16, blobs=True), Shape(10), Shape(7, blobs=True))


def appended(node: Node, number: int) -> Appended:
    at = head(node.state, STREAM)
    assert at is not None
    reply = node.ask(Append((), record(at.next_offset, at.hash, id_=name(number))))
    assert isinstance(reply, Appended)
    return reply


def test_an_id_that_is_forgotten_is_never_called_uncommitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_MAX", 2)
    node = Node(STREAM)
    for number in range(1, 5):
        appended(node, number)
    assert node.ask(Resolve(STREAM, name(1), 0)) == Forgotten(2)
    assert node.ask(Resolve(STREAM, name(1), 1)) == Forgotten(2)
    assert isinstance(node.ask(Resolve(STREAM, name(4), 0)), Known)
    assert node.ask(Resolve(STREAM, name(9), 2)) == Forbidden(name(9))
    assert restore(snapshot(node.state)) == node.state


def test_a_tombstone_outlives_the_bounds_while_its_append_could_be_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IDS_OPS", 2)
    node = Node(STREAM)
    assert node.ask(Resolve(STREAM, name(7), 0)) == Forbidden(name(7))
    for _ in range(9):
        node.state = apply_noop(node.state, node.state.op + 1, node.state.timestamp)
    assert node.ask(Append((), record(id_=name(7)))) == Forbidden(name(7))
    assert restore(snapshot(node.state)) == node.state
    appended(node, 1)
    for _ in range(9):
        node.state = apply_noop(node.state, node.state.op + 1, node.state.timestamp)
    assert node.state.tombstones == 0
    assert len(node.state.ids) == 0
    assert node.ask(Resolve(STREAM, name(1), 0)) == Forgotten(1)


def test_tombstones_and_ids_of_one_op_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(STREAM)
    monkeypatch.setattr(machine, "TOMBSTONES_MAX", 1)
    assert node.ask(Resolve(STREAM, name(1), 0)) == Forbidden(name(1))
    assert node.ask(Resolve(STREAM, name(1), 0)) == Forbidden(name(1))
    assert node.ask(Resolve(STREAM, name(2), 0)) == Refused(Refusal.BUSY)
    monkeypatch.setattr(machine, "IDS_PER_OP_MAX", 0)
    assert node.ask(Append((), record(id_=name(3)))) == Refused(Refusal.BUSY)


def test_the_session_that_was_silent_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SESSIONS_MAX", 2)
    node = Node()
    node.register(name(1))
    node.register(name(2))
    node.ask(ListStreams(0, 1), client=name(1))
    node.register(name(3))
    assert session(node.state, name(2)) is None
    assert session(node.state, name(1)) is not None
    (reply,) = node.batch(BatchRequest(name(2), 2, 1, encode_command(ListStreams(0, 1))))
    assert reply == Refused(Refusal.SESSION_UNKNOWN)


def test_lookup_tells_what_a_request_is_to_its_session() -> None:
    node = Node()
    register, listing = encode_command(Register()), encode_command(ListStreams(0, 1))
    assert lookup(node.state, name(1), 0, 0, register) is Verdict.NEW
    assert lookup(node.state, name(1), 1, 1, listing) is Verdict.UNKNOWN
    node.register(name(1))
    assert isinstance(lookup(node.state, name(1), 0, 0, register), Duplicate)
    assert lookup(node.state, name(1), 1, 1, listing) is Verdict.NEW
    assert lookup(node.state, name(1), 2, 1, listing) is Verdict.UNKNOWN
    assert lookup(node.state, name(1), 1, 2, listing) is Verdict.AHEAD
    node.ask(ListStreams(0, 1), client=name(1))
    assert isinstance(lookup(node.state, name(1), 1, 1, listing), Duplicate)
    assert lookup(node.state, name(1), 1, 1, register) is Verdict.CHANGED
    assert lookup(node.state, name(1), 0, 0, register) is Verdict.OLD
    for number, data, reason in ((1, register, Refusal.REQUEST_CHANGED), (3, listing, Refusal.REQUEST_AHEAD),
                                 (0, listing, Refusal.REQUEST_OLD)):  # fmt: skip
        (reply,) = node.batch(BatchRequest(name(1), 1, number, data))
        assert reply == Refused(reason)


def test_what_is_no_command_is_refused_and_counts_as_a_request() -> None:
    node = Node()
    (reply,) = node.batch(BatchRequest(name(1), 0, 0, b"junk"))
    assert reply == Refused(Refusal.BAD_COMMAND)
    assert session(node.state, name(1)) is None
    assert node.ask(b"junk") == Refused(Refusal.BAD_COMMAND)
    assert node.ask(Register()) == Refused(Refusal.BAD_COMMAND)
    assert node.ask(ListStreams(0, 9)) == Streams(())


def test_streams_have_placements_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(STREAM)
    assert node.ask(CreateStream(name(1), Placement(DataClass.PHI, ""))) == Refused(Refusal.BAD_PLACEMENT)
    other = Placement(DataClass.PHI, "eu-1")
    assert node.ask(CreateStream(STREAM, other)) == Refused(Refusal.STREAM_EXISTS)
    first, second = (node.ask(CreateStream(AUTOMATIC, other)) for _ in range(2))
    assert isinstance(first, Created)
    assert isinstance(second, Created)
    assert len({first.stream, second.stream, AUTOMATIC}) == 3
    page = node.ask(ListStreams(1, 9))
    assert isinstance(page, Streams)
    assert [info.stream for info in page.streams] == [first.stream, second.stream]
    assert node.ask(ListStreams(9, 9)) == Streams(())
    assert restore(snapshot(node.state)) == node.state
    monkeypatch.setattr(machine, "STREAMS_MAX", 3)
    assert node.ask(CreateStream(name(5), ANYWHERE)) == Refused(Refusal.STREAMS_FULL)
    assert node.ask(Resolve(name(6), name(1), 0)) == Refused(Refusal.STREAM_UNKNOWN)
    assert node.ask(Append((), record(stream=name(6)))) == Refused(Refusal.STREAM_UNKNOWN)
    assert head(node.state, name(6)) is None


def test_a_record_that_contradicts_itself_or_the_one_before_is_refused() -> None:
    node = Node(STREAM)
    bad = Refused(Refusal.BAD_RECORD)
    assert node.ask(Append((), bytes(300))) == bad
    assert node.ask(Append((), record() + b"x")) == bad
    assert node.ask(Append((name(2),), record())) == bad
    assert node.ask(Append((), record(count=2))) == bad
    assert node.ask(Append((name(1),), record(count=2))) == bad  # One id twice.
    assert node.ask(Append((name(2),), record(count=0))) == bad
    two = node.ask(Append((name(2),), record(count=2, generation=3)))
    assert isinstance(two, Appended)
    assert (two.first_offset, two.next_offset) == (0, 2)
    assert node.ask(Resolve(STREAM, name(1), 0)) == Known(name(1), 1, two.hash)
    assert node.ask(Append((), record(2, two.hash, id_=name(3), timestamp=4, generation=3))) == bad
    assert node.ask(Append((), record(2, two.hash, id_=name(3), generation=2))) == bad
    none = node.ask(Append((), record(2, two.hash, count=0, generation=3)))  # A generation record: no transactions.
    assert isinstance(none, Appended)
    assert none.next_offset == 2
    assert none.hash != two.hash


def test_ops_come_one_after_the_other() -> None:
    body = encode_batch([BatchRequest(name(1), 0, 0, encode_command(Register()))])
    state = apply_noop(EMPTY, 1, 10)
    for op, timestamp in ((1, 10), (3, 10), (2, 9)):
        with pytest.raises(OutOfOrder, match=f"op {op} at {timestamp}"):
            apply_batch(state, op, timestamp, body)
    assert apply_batch(state, 2, 10, body)[0].op == 2


def test_equal_states_have_equal_bytes_and_others_are_refused() -> None:
    node = Node(STREAM)
    appended(node, 1)
    node.ask(Resolve(STREAM, name(2), 1))
    data = snapshot(node.state)
    assert restore(data) == node.state
    assert digest(restore(data)) == digest(node.state)
    assert restore(snapshot(EMPTY)) == EMPTY
    refused = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            other = restore(bytes(changed))
        except BadSnapshot:
            refused += 1
            continue
        assert snapshot(other) == changed
    assert refused > 1000
    with pytest.raises(BadSnapshot):
        restore(data[:-8])
    assert ZERO_HASH not in {it.hash for it in node.state.streams.values()}


def test_a_snapshot_says_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(STREAM)
    node.ask(Resolve(STREAM, name(2), 0))
    fields, (streams, ids, sessions) = unpack(snapshot(node.state), 4, *SHAPES)
    assert isinstance(streams, Structs)
    assert isinstance(ids, Structs)
    assert restore(pack(fields, streams, ids, sessions)) == node.state
    with pytest.raises(BadSnapshot, match="decided twice"):
        restore(pack(fields, streams, ids._replace(fields=ids.fields * 2), sessions))
    with pytest.raises(BadSnapshot, match="there twice"):
        restore(pack(fields, streams._replace(fields=streams.fields * 2, blobs=[b"", b""]), ids, sessions))
    with pytest.raises(BadSnapshot, match="a stream's name is none"):
        restore(pack(fields, streams._replace(blobs=[b"\xff"]), ids, sessions))
    with pytest.raises(BadSnapshot, match="a stream's name is none"):
        restore(pack(fields, streams._replace(blobs=[b"x" * 65]), ids, sessions))
    with pytest.raises(BadSnapshot, match="a snapshot of version 1; this program reads 2"):
        restore(pack(b"\1" + fields[1:], streams, ids, sessions))
    assert isinstance(sessions, Structs)
    doubled = sessions._replace(fields=sessions.fields * 2, blobs=[*(sessions.blobs or ())] * 2)
    with pytest.raises(BadSnapshot, match="says something twice"):
        restore(pack(fields, streams, ids, doubled))
    monkeypatch.setattr(snapshots, "TOMBSTONES_MAX", 0)
    with pytest.raises(BadSnapshot, match="1 tombstones where there may be 0"):
        restore(snapshot(node.state))
