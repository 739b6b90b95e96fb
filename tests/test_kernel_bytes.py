"""Batches, commands and replies: Cap'n Proto of one layout, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.node import ANYWHERE, name, record
from veritydb import schemas
from veritydb.kernel import (
    AUTOMATIC,
    COMMAND_MAX,
    PAGE_MAX,
    REQUESTS_MAX,
    TRANSACTIONS_MAX,
    Append,
    Appended,
    BadBatch,
    BadCommand,
    BadReply,
    BatchRequest,
    Command,
    Conflict,
    Created,
    CreateStream,
    DataClass,
    Dropped,
    DropStream,
    Forbidden,
    Forgotten,
    Known,
    ListStreams,
    Placement,
    Refusal,
    Refused,
    Register,
    Registered,
    Reply,
    Resolve,
    StreamInfo,
    Streams,
    Subject,
    batch_size,
    decode_batch,
    decode_command,
    decode_reply,
    encode_append,
    encode_batch,
    encode_command,
    encode_reply,
    subject,
)
from veritydb.kernel.batch import BODY_MAX

U64 = st.integers(0, 2**64 - 1)
H16 = st.binary(min_size=16, max_size=16)
H32 = st.binary(min_size=32, max_size=32)
REGIONS = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z") | st.just("")
PLACEMENTS = st.builds(Placement, st.sampled_from(DataClass), REGIONS)
NAMES = st.text(max_size=16)
REQUESTS = st.builds(BatchRequest, H16, U64, U64, st.binary(min_size=1, max_size=50))
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.just(Register()),
    st.builds(CreateStream, H16, PLACEMENTS, NAMES),
    st.builds(Append, st.lists(H16, max_size=4).map(tuple), st.binary(min_size=208, max_size=300)),
    st.builds(Resolve, H16, H16, U64),
    st.builds(ListStreams, U64, st.integers(0, 65535)),
    st.builds(DropStream, H16),
)
INFOS = st.builds(StreamInfo, H16, PLACEMENTS, U64, U64, H32, NAMES, U64)
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Registered, U64),
    st.builds(Created, H16, st.booleans()),
    st.builds(Appended, U64, U64, H32),
    st.builds(Conflict, U64, H32),
    st.builds(Known, H16, U64, H32),
    st.builds(Forbidden, H16),
    st.builds(Forgotten, U64),
    st.builds(Streams, st.lists(INFOS, max_size=3).map(tuple)),
    st.builds(Refused, st.sampled_from(Refusal)),
    st.builds(Dropped, H16, U64),
)


def words(data: bytes, *names: str) -> dict[str, int]:
    """Return a byte string as the fields of a schema have it."""
    return {field: int.from_bytes(data[8 * at : 8 * at + 8], "little") for at, field in enumerate(names)}


HASH = ("hash0", "hash1", "hash2", "hash3")
REGION = ("region0", "region1", "region2", "region3")


def region(placement: Placement) -> dict[str, int]:
    return words(placement.region.encode().ljust(32, b"\0"), *REGION)


# Batches


@given(st.lists(REQUESTS, min_size=1, max_size=5))
def test_a_batch_is_the_message_capnp_makes(requests: list[BatchRequest]) -> None:
    message = schemas.kernel.Batch.new_message()
    listed = message.init("requests", len(requests))
    for item, request in zip(listed, requests, strict=True):
        item.session, item.number, item.command = request[1:]
        for field, value in words(request.client, "clientHigh", "clientLow").items():
            setattr(item, field, value)
    body = encode_batch(requests)
    assert body == message.to_bytes()
    assert decode_batch(body) == tuple(requests)
    assert len(body) == batch_size([request.command for request in requests])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_or_refused(body: bytes) -> None:
    try:
        requests = decode_batch(body)
    except BadBatch:
        return
    assert encode_batch(requests) == body


BATCH = encode_batch([BatchRequest(name(1), 2, 3, b"abc"), BatchRequest(name(4), 5, 6, b"12345678")])


@pytest.mark.parametrize("at", range(len(BATCH)))
def test_a_batch_changed_in_one_bit_is_another_batch_or_refused(at: int) -> None:
    for bit in range(8):
        changed = bytearray(BATCH)
        changed[at] ^= 1 << bit
        try:
            requests = decode_batch(bytes(changed))
        except BadBatch:
            continue
        assert encode_batch(requests) == changed


def test_a_batch_that_is_cut_or_longer_is_refused() -> None:
    for end in range(len(BATCH)):
        with pytest.raises(BadBatch):
            decode_batch(BATCH[:end])
    with pytest.raises(BadBatch):
        decode_batch(BATCH + bytes(8))


def test_a_batch_has_at_least_one_request_and_each_a_command() -> None:
    one = bytearray(encode_batch([BatchRequest(name(1), 2, 3, b"abc")]))
    none = schemas.kernel.Batch.new_message()
    none.init("requests", 0)
    with pytest.raises(BadBatch):
        decode_batch(none.to_bytes())
    empty = schemas.kernel.Batch.new_message()
    empty.init("requests", 1)[0].command = b""
    with pytest.raises(BadBatch, match="request 0"):
        decode_batch(empty.to_bytes())
    one[4:8] = (len(one) // 8).to_bytes(4, "little")
    with pytest.raises(BadBatch, match="8 bytes behind"):
        decode_batch(bytes(one) + bytes(8))


def test_the_largest_batch_and_the_largest_command_are_taken_and_no_larger() -> None:
    most = [BatchRequest(name(1), 2, number, b"x") for number in range(REQUESTS_MAX)]
    assert decode_batch(encode_batch(most)) == tuple(most)
    message = schemas.kernel.Batch.new_message()
    for item in message.init("requests", REQUESTS_MAX + 1):
        item.command = b"x"
    with pytest.raises(BadBatch, match="begin as a batch"):
        decode_batch(message.to_bytes())
    with pytest.raises(AssertionError):
        encode_batch([*most, most[0]])
    with pytest.raises(AssertionError):
        encode_batch([])
    with pytest.raises(AssertionError):
        encode_batch([BatchRequest(name(1), 2, 3, b"")])

    largest = encode_batch([BatchRequest(name(1), 2, 3, bytes(COMMAND_MAX))])
    assert len(largest) == BODY_MAX
    assert len(decode_batch(largest)[0].command) == COMMAND_MAX
    with pytest.raises(BadBatch, match=str(BODY_MAX + 8)):
        decode_batch(encode_batch([BatchRequest(name(1), 2, 3, bytes(COMMAND_MAX + 1))]))


def test_a_list_that_would_reach_beyond_the_body_is_refused() -> None:
    body = bytearray(encode_batch([BatchRequest(name(1), 2, 3, b"abc")]))
    count = REQUESTS_MAX
    body[16:24] = (7 << 32 | 1 | 5 * count << 35).to_bytes(8, "little")
    body[24:32] = (1 << 48 | 4 << 32 | count << 2).to_bytes(8, "little")
    with pytest.raises(BadBatch, match=f"{count} requests in {len(body)} bytes"):
        decode_batch(bytes(body))


# Commands


def capnp_command(command: Command) -> Any:
    message = schemas.kernel.Command.new_message(version=1)
    match command:
        case Register():
            message.register = None
        case CreateStream(stream, placement, called):
            group = message.init("createStream")
            if called:
                group.name = called.encode()
            group.dataClass = int(placement.data_class)
            fields = words(stream, "streamHigh", "streamLow") | region(placement)
        case Append(ids, data):
            group = message.init("append")
            if ids:
                group.ids = b"".join(ids)
            group.record = data
            fields = {}
        case Resolve(stream, id_, since):
            group = message.init("resolve")
            fields = words(stream + id_, "streamHigh", "streamLow", "idHigh", "idLow") | {"since": since}
        case ListStreams(after, limit):
            group = message.init("listStreams")
            fields = {"after": after, "limit": limit}
        case DropStream(stream):
            group = message.init("dropStream")
            fields = words(stream, "streamHigh", "streamLow")
    if not isinstance(command, Register):
        for field, value in fields.items():
            setattr(group, field, value)
    return message


@given(COMMANDS)
def test_a_command_is_the_message_capnp_makes(command: Command) -> None:
    data = encode_command(command)
    assert data == capnp_command(command).to_bytes()
    assert decode_command(data) == command
    assert type(decode_command(data)) is type(command)


SAMPLES: list[Command] = [
    Register(),
    CreateStream(AUTOMATIC, Placement(DataClass.PHI, "eu-1")),
    CreateStream(name(7), ANYWHERE, "die Übung"),
    DropStream(name(8)),
    Append((), record()),
    Append((name(1), name(2)), record(count=3) + b"odd"),
    Resolve(name(1), name(2), 3),
    ListStreams(1, 2),
]


@pytest.mark.parametrize("command", SAMPLES, ids=lambda command: type(command).__name__)
def test_a_command_changed_in_one_bit_is_another_command_or_refused(command: Command) -> None:
    data = encode_command(command)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            other = decode_command(bytes(changed))
        except BadCommand:
            continue
        assert other != command
        assert encode_command(other) == changed
    for end in range(len(data)):
        with pytest.raises(BadCommand):
            decode_command(data[:end])
    with pytest.raises(BadCommand):
        decode_command(data + bytes(8))


@given(COMMANDS, st.integers(0, 95), st.binary(min_size=1, max_size=16))
def test_any_bytes_are_a_command_or_refused(command: Command, at: int, new: bytes) -> None:
    data = encode_command(command)
    changed = data[:at] + new + data[at + len(new) :]
    try:
        other = decode_command(changed)
    except BadCommand:
        return
    assert encode_command(other) == changed


def test_a_command_of_another_version_or_kind_is_refused() -> None:
    data = bytearray(encode_command(Register()))
    data[16] = 2
    with pytest.raises(BadCommand, match="version 2"):
        decode_command(bytes(data))
    data[16:20] = 1, 0, 9, 0
    with pytest.raises(BadCommand, match="not laid out"):
        decode_command(bytes(data))


def test_a_record_is_at_least_a_header_and_has_a_bounded_number_of_transactions() -> None:
    assert decode_command(encode_append((), bytes(208))) == Append((), bytes(208))
    with pytest.raises(BadCommand, match="207 bytes"):
        decode_command(encode_append((), bytes(207)))
    most = tuple(map(name, range(TRANSACTIONS_MAX - 1)))
    assert decode_command(encode_append(most, bytes(208))) == Append(most, bytes(208))
    with pytest.raises(BadCommand, match="4096 more transactions"):
        decode_command(encode_append((*most, name(1)), bytes(208)))


def test_ids_of_another_length_are_refused() -> None:
    message = schemas.kernel.Command.new_message(version=1)
    group = message.init("append")
    group.ids = bytes(24)
    group.record = bytes(208)
    with pytest.raises(BadCommand, match="not where it should be"):
        decode_command(message.to_bytes())


def test_a_name_is_short_and_utf_8() -> None:
    longest = CreateStream(name(1), ANYWHERE, "ä" * 32)
    assert decode_command(encode_command(longest)) == longest
    with pytest.raises(BadCommand, match="not laid out"):
        decode_command(encode_command(longest._replace(name="ä" * 32 + "x")))
    data = bytearray(encode_command(CreateStream(name(1), ANYWHERE, "abc")))
    data[data.index(b"abc")] = 0xFF
    with pytest.raises(BadCommand, match="not laid out"):
        decode_command(bytes(data))


# Placements


@pytest.mark.parametrize("data_class", DataClass)
def test_only_what_is_not_phi_may_be_anywhere(data_class: DataClass) -> None:
    assert Placement(data_class, "eu-central-1").problem is None
    problem = Placement(data_class, "").problem
    if data_class is DataClass.PHI:
        assert problem is not None
        assert "must name the region" in problem
    else:
        assert problem is None


@pytest.mark.parametrize("bad", ["-a", "a-", "A", "a b", "a" * 33, "ä", "a\0b", "-", "a\n"])
def test_a_region_that_is_no_name_is_a_problem(bad: str) -> None:
    assert "does not name a region" in (Placement(DataClass.PHI, bad).problem or "")


@pytest.mark.parametrize("good", ["a", "0", "a-b", "a" * 32, "northamerica-northeast1"])
def test_a_region_is_up_to_32_characters(good: str) -> None:
    assert Placement(DataClass.PHI, good).problem is None


# Replies


def capnp_reply(reply: Reply) -> Any:
    message = schemas.kernel.Reply.new_message(version=1)
    group = message.init(type(reply).__name__.lower())
    match reply:
        case Registered(session):
            fields = {"session": session}
        case Created(stream, existed):
            fields = words(stream, "streamHigh", "streamLow") | {"existed": int(existed)}
        case Appended(first, after, digest):
            fields = {"firstOffset": first, "nextOffset": after} | words(digest, *HASH)
        case Conflict(after, digest):
            fields = {"nextOffset": after} | words(digest, *HASH)
        case Known(id_, offset, digest):
            fields = words(id_, "idHigh", "idLow") | {"offset": offset} | words(digest, *HASH)
        case Forbidden(id_):
            fields = words(id_, "idHigh", "idLow")
        case Forgotten(offset):
            fields = {"offset": offset}
        case Refused(reason):
            fields = {"reason": int(reason)}
        case Dropped(stream, after):
            fields = {"nextOffset": after} | words(stream, "streamHigh", "streamLow")
        case Streams(streams):
            fields = {}
            if streams:
                for item, info in zip(group.init("list", len(streams)), streams, strict=True):
                    of = words(info.stream, "streamHigh", "streamLow") | region(info.placement)
                    of |= words(info.hash, *HASH) | {"dataClass": int(info.placement.data_class)}
                    of |= {"created": info.created, "nextOffset": info.next_offset, "dropped": info.dropped}
                    if info.name:
                        item.name = info.name.encode()
                    for field, value in of.items():
                        setattr(item, field, value)
    for field, value in fields.items():
        setattr(group, field, value)
    return message


@given(REPLIES)
def test_a_reply_is_the_message_capnp_makes(reply: Reply) -> None:
    data = encode_reply(reply)
    assert data == capnp_reply(reply).to_bytes()
    assert decode_reply(data) == reply
    assert type(decode_reply(data)) is type(reply)


@given(REPLIES, st.integers(0, 95), st.binary(min_size=1, max_size=16))
def test_any_bytes_are_a_reply_or_refused(reply: Reply, at: int, new: bytes) -> None:
    data = encode_reply(reply)
    changed = data[:at] + new + data[at + len(new) :]
    try:
        other = decode_reply(changed)
    except BadReply:
        return
    assert encode_reply(other) == changed


def test_a_reply_of_another_version_kind_or_reason_is_refused() -> None:
    data = encode_reply(Refused(Refusal.BUSY))
    with pytest.raises(BadReply, match="version 2"):
        decode_reply(data[:16] + b"\2" + data[17:])
    with pytest.raises(BadReply, match="not"):
        decode_reply(data[:18] + b"\x63" + data[19:])
    with pytest.raises(BadReply, match="not"):
        decode_reply(data[:24] + b"\x63" + data[25:])
    with pytest.raises(BadReply):
        decode_reply(data[:-1])


def test_a_page_of_streams_is_bounded_and_each_has_a_placement() -> None:
    info = StreamInfo(b"unlike any other", ANYWHERE, 2, 3, bytes(32))
    page = encode_reply(Streams((info,) * PAGE_MAX))
    assert decode_reply(page) == Streams((info,) * PAGE_MAX)
    with pytest.raises(BadReply):
        decode_reply(encode_reply(Streams((info,) * (PAGE_MAX + 1))))
    odd = info._replace(placement=Placement(9, ""))
    with pytest.raises(BadReply, match="placement"):
        decode_reply(encode_reply(Streams((odd,))))
    data = bytearray(encode_reply(Streams((info,))))
    data[data.index(info.stream) + 16] = 0xFF
    with pytest.raises(BadReply, match="placement"):
        decode_reply(bytes(data))


@given(COMMANDS)
def test_what_a_command_is_about_is_seen_without_reading_it_all(command: Command) -> None:
    seen = subject(encode_command(command))
    match command:
        case Append(_, record_):
            assert seen == (Subject.APPEND, unpack_stream(record_))
        case CreateStream(stream, _, _):
            assert seen == (Subject.CREATE, None if stream == AUTOMATIC else stream)
        case Resolve(stream, _, _):
            assert seen == (Subject.RESOLVE, stream)
        case ListStreams():
            assert seen == (Subject.LIST, None)
        case DropStream(stream):
            assert seen == (Subject.DROP, stream)
        case Register():
            assert seen == (Subject.REGISTER, None)


def test_what_a_command_with_an_automatic_id_is_about_is_not_known() -> None:
    assert subject(encode_command(CreateStream(AUTOMATIC, ANYWHERE))) == (Subject.CREATE, None)


def test_bytes_that_are_no_command_are_about_nothing() -> None:
    with pytest.raises(BadCommand, match="a command of 87 bytes"):
        subject(encode_command(Register())[:-1])
    with pytest.raises(BadCommand):
        subject(bytes(len(encode_command(Register()))))


def unpack_stream(record_: bytes) -> bytes:
    return record_[16:32]


def test_an_appended_reply_with_a_field_that_is_not_its_own_is_refused() -> None:
    """It is decoded by a way of its own where it is as it should be; this is where it is not."""
    data = encode_reply(Appended(3, 4, bytes(range(32))))
    refused = 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            assert decode_reply(changed) != decode_reply(data)
        except BadReply:
            refused += 1
    assert refused > 16
