"""The kernel: streams grow by compare-and-append, ids are decided once, sessions answer twice what they did once."""

from __future__ import annotations

from hashlib import sha256

from tests.support.node import ANYWHERE, STREAM, Node, name, record
from veritydb.chain import ZERO_HASH
from veritydb.kernel import (
    Append,
    Appended,
    BatchRequest,
    Conflict,
    Created,
    CreateStream,
    Dropped,
    DropStream,
    Forbidden,
    Head,
    Known,
    ListStreams,
    RecordAppended,
    Refusal,
    Refused,
    Registered,
    Resolve,
    StreamCreated,
    StreamDropped,
    Streams,
    head,
    restore,
    snapshot,
)


def test_a_record_that_builds_on_the_head_becomes_the_head() -> None:
    node = Node(STREAM)
    first = record()
    digest = sha256(ZERO_HASH + first).digest()
    assert node.ask(Append((), first)) == Appended(0, 1, digest)
    assert node.outputs[0].effects == (RecordAppended(STREAM, 0, 1, digest, first),)
    assert head(node.state, STREAM) == Head(1, digest)
    second = record(1, digest, id_=name(2))
    assert node.ask(Append((), second)) == Appended(1, 2, sha256(digest + second).digest())


def test_a_record_that_builds_on_anything_else_is_refused_with_the_head() -> None:
    node = Node(STREAM)
    node.ask(Append((), record()))
    there = head(node.state, STREAM)
    assert there is not None
    before = node.state
    for stale in (record(0, ZERO_HASH, id_=name(2)), record(1, bytes(31) + b"x", id_=name(2))):
        assert node.ask(Append((), stale)) == Conflict(*there)
        assert node.outputs[0].effects == ()
    assert node.state.streams == before.streams
    assert node.state.ids == before.ids


def test_an_append_sent_again_is_known_even_though_the_head_has_moved() -> None:
    node = Node(STREAM)
    first = record()
    reply = node.ask(Append((), first))
    assert isinstance(reply, Appended)
    assert node.ask(Append((), first), client=name(0xD)) == Known(name(1), 0, reply.hash)


def test_an_id_that_is_resolved_before_its_append_arrives_is_forbidden() -> None:
    node = Node(STREAM)
    assert node.ask(Resolve(STREAM, name(1), 0)) == Forbidden(name(1))
    assert node.ask(Append((), record()), client=name(0xD)) == Forbidden(name(1))
    assert head(node.state, STREAM) == Head(0, ZERO_HASH)


def test_a_request_sent_twice_is_executed_once_even_inside_one_op() -> None:
    node = Node(STREAM)
    request = node.request(Append((), record()))
    first, second = node.batch(request, request)
    assert first == second
    assert [len(output.effects) for output in node.outputs] == [1, 0]
    (third,) = node.batch(request)
    assert third == first
    assert head(node.state, STREAM) == Head(1, first.hash)


def test_a_session_is_named_by_the_op_that_registered_it() -> None:
    node = Node()
    assert node.register(name(1)) == Registered(1)
    assert node.register(name(2)) == Registered(2)
    assert node.register(name(1)) == Registered(1)
    assert node.outputs[0].session == 1


def test_a_request_of_no_session_is_refused() -> None:
    node = Node()
    (reply,) = node.batch(BatchRequest(name(1), 1, 1, b"x"))
    assert reply == Refused(Refusal.SESSION_UNKNOWN)


def test_a_stream_is_created_once() -> None:
    node = Node()
    assert node.ask(CreateStream(STREAM, ANYWHERE)) == Created(STREAM, existed=False)
    assert node.outputs[0].effects == (StreamCreated(STREAM, ANYWHERE),)
    assert node.ask(CreateStream(STREAM, ANYWHERE)) == Created(STREAM, existed=True)
    assert node.outputs[0].effects == ()


def test_a_stream_keeps_the_name_that_it_was_created_with() -> None:
    node = Node()
    assert node.ask(CreateStream(STREAM, ANYWHERE, "clinic")) == Created(STREAM, existed=False)
    assert node.outputs[0].effects == (StreamCreated(STREAM, ANYWHERE),)
    assert node.ask(CreateStream(STREAM, ANYWHERE, "clinic")) == Created(STREAM, existed=True)
    assert node.ask(CreateStream(STREAM, ANYWHERE)) == Refused(Refusal.STREAM_EXISTS)
    listed = node.ask(ListStreams(0, 10))
    assert isinstance(listed, Streams)
    assert [(it.name, it.stream, it.dropped) for it in listed.streams] == [("clinic", STREAM, 0)]
    assert restore(snapshot(node.state)) == node.state


def test_a_dropped_stream_takes_nothing_more_and_tells_what_it_had() -> None:
    node = Node(STREAM, name(2))
    first = node.ask(Append((), record()))
    assert isinstance(first, Appended)
    assert node.ask(DropStream(STREAM)) == Dropped(STREAM, 1)
    assert node.outputs[0].effects == (StreamDropped(STREAM),)
    assert node.ask(DropStream(STREAM)) == Dropped(STREAM, 1)
    assert node.outputs[0].effects == ()
    assert node.ask(Append((), record(1, first.hash, id_=name(3)))) == Refused(Refusal.STREAM_DROPPED)
    assert node.ask(Append((), record())) == Known(name(1), 0, first.hash)
    assert node.ask(CreateStream(STREAM, ANYWHERE)) == Refused(Refusal.STREAM_DROPPED)
    assert node.ask(Resolve(STREAM, name(1), 0)) == Known(name(1), 0, first.hash)
    assert node.ask(Resolve(STREAM, name(9), 0)) == Forbidden(name(9))
    assert node.state.tombstones == 0
    assert head(node.state, STREAM) is None
    assert head(node.state, name(2)) == Head(0, ZERO_HASH)
    listed = node.ask(ListStreams(0, 10))
    assert isinstance(listed, Streams)
    assert [(it.stream, bool(it.dropped)) for it in listed.streams] == [(STREAM, True), (name(2), False)]
    assert restore(snapshot(node.state)) == node.state
    assert node.ask(DropStream(name(3))) == Refused(Refusal.STREAM_UNKNOWN)


def test_a_state_comes_back_from_its_snapshot() -> None:
    node = Node(STREAM)
    node.ask(Append((), record()))
    node.ask(Resolve(STREAM, name(9), 1))
    assert restore(snapshot(node.state)) == node.state
