"""Messages as bytes: each kind comes back as it went, reads as the schema says, and nothing else passes for one."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tests.support.node import record
from veritydb import schemas
from veritydb.vsr import wire
from veritydb.vsr.entry import BODY_MAX, OP_MAX, Entry, Header, Kind, make_entry, read_header, root_entry
from veritydb.vsr.kinds import KINDS, Side
from veritydb.vsr.messages import (
    Checkpoint,
    ClientMessage,
    Commit,
    CommitAck,
    ExitView,
    FetchedRecords,
    GetView,
    Headers,
    JoinView,
    Message,
    PeerMessage,
    Prepare,
    PrepareOk,
    ReadReply,
    ReadRequest,
    Reconfigure,
    Reconfigured,
    Redirect,
    Repair,
    Reply,
    Request,
    StartView,
    Suffix,
    ToClient,
)
from veritydb.vsr.wire import FRAME_SIZE, Dropped, DropReason, Wire, decode, derive_keys, encode

CLUSTER = b"the cluster here"
KEYS = derive_keys(bytes(range(32)))
U63 = st.integers(0, OP_MAX)
U64 = st.integers(0, 2**64 - 1)
H16 = st.binary(min_size=16, max_size=16)
H32 = st.binary(min_size=32, max_size=32)
SRC = st.integers(0, 5)
POINTS = st.builds(Checkpoint, U63, H16, H16, U63)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    op = draw(st.integers(0, OP_MAX))
    return make_entry(
        kind=draw(st.sampled_from(Kind)),
        cluster=CLUSTER,
        epoch=draw(U63),
        view=draw(U63),
        op=op,
        parent=draw(H16),
        commit=draw(st.integers(0, op)),
        timestamp=draw(U63),
        body=draw(st.binary(max_size=40)),
    )


HEADERS = st.lists(entries().map(lambda entry: entry.header), max_size=4).map(tuple)


@st.composite
def suffixes(draw: st.DrawFn) -> Suffix:
    headers: list[Header | None] = draw(st.lists(st.none() | entries().map(lambda entry: entry.header), max_size=5))
    bits = st.integers(0, 2 ** len(headers) - 1)
    return Suffix(tuple(headers), draw(bits), draw(bits))


MEMBERS = st.lists(U63, min_size=1, max_size=6, unique=True).map(tuple)
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "client": H16, "stream": H16, "checksum": H16, "root": H16, "hash": H32, "nonce": U64, "src": SRC,
    "known": st.booleans(), "command": st.binary(max_size=40), "result": st.binary(max_size=40),
    "data": st.binary(max_size=40), "entry": entries(), "headers": HEADERS, "suffix": suffixes(),
    "checkpoint": POINTS, "members": MEMBERS, "accepted": st.booleans(),
    "records": st.lists(st.binary(max_size=20).map(lambda body: record(body=body)), max_size=3).map(tuple),
    "why": st.text(max_size=20), "document": st.binary(max_size=40),
}  # fmt: skip
CLASSES: tuple[Any, ...] = (*get_args(ClientMessage), *get_args(ToClient), *get_args(PeerMessage))


def messages_of(message: Any) -> st.SearchStrategy[Message]:
    return st.builds(message, **{field: BY_NAME.get(field, U63) for field in message._fields})


MESSAGES = st.one_of(*map(messages_of, CLASSES))
EACH = pytest.mark.parametrize("message", CLASSES, ids=lambda message: message.__name__)


def listener(message: Message) -> int | None:
    """Return who hears a message: member 9, or a client."""
    return None if isinstance(message, get_args(ToClient)) else 9


def sent(message: Message) -> bytes:
    return encode(message, cluster=CLUSTER, keys=KEYS)


def received(data: bytes, member: int | None = 9) -> Message:
    return decode(data, cluster=CLUSTER, keys=KEYS, member=member)


def signed(data: bytes, magic: bytes = b"VSRP", cluster: bytes = CLUSTER) -> bytes:
    """Return a message's bytes in a frame that is in order."""
    key = KEYS.peer if magic == b"VSRP" else KEYS.client
    head = magic + len(data).to_bytes(4, "little") + cluster
    assert key is not None
    return head + blake3(head + data, key=key).digest() + data


def reason(data: bytes, member: int | None = 9) -> DropReason:
    with pytest.raises(Dropped) as caught:
        received(data, member)
    return caught.value.reason


def test_every_kind_of_message_has_its_bytes() -> None:
    assert {kind.message for kind in KINDS} == set(CLASSES)


@given(MESSAGES)
def test_a_message_comes_back_as_it_went(message: Message) -> None:
    back = received(sent(message), listener(message))
    assert back == message
    assert type(back) is type(message)


def capnp_name(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def in_words(group: Any, name: str, count: int) -> bytes:
    """Return a field of several words as bytes."""
    suffix = ("High", "Low") if count == 2 else ("0", "1", "2", "3")
    return b"".join(getattr(group, name + end).to_bytes(8, "little") for end in suffix)


def as_the_schema_reads(group: Any, field: str, value: Any) -> Any:
    """Return what a field of a group says, in the form that the message has."""
    name = capnp_name(field)
    match value:
        case Checkpoint():
            return Checkpoint(
                group.checkpointOp,
                in_words(group, "checkpointChecksum", 2),
                in_words(group, "checkpointRoot", 2),
                group.checkpointSize,
            )
        case Suffix(headers, _, _):
            known = bytes(group.headers)
            assert known == b"".join(header.raw for header in headers if header is not None)
            assert group.count == len(headers)
            assert group.known == sum(header is not None and 1 << at for at, header in enumerate(headers))
            return Suffix(headers, group.present, group.nack)
        case Entry():
            return value if bytes(group.entry) == value.raw else None
        case tuple() if field == "records":
            return value if bytes(group.records) == b"".join(value) else None
        case tuple() if field == "headers":
            return value if bytes(group.headers) == b"".join(header.raw for header in value) else None
        case tuple():
            assert group.memberCount == len(value)
            assert not any(getattr(group, f"member{at}") for at in range(len(value), 6))
            return tuple(getattr(group, f"member{at}") for at in range(len(value)))
        case str():
            return bytes(getattr(group, name)).decode()
        case bytes() if field in ("command", "result", "data", "document"):
            return bytes(getattr(group, name))
        case bytes():
            return in_words(group, name, len(value) // 8)
        case _:
            return getattr(group, name)


@given(MESSAGES)
def test_capnp_reads_a_message_as_the_schema_says(message: Message) -> None:
    name = type(message).__name__
    with schemas.vsr.Message.from_bytes(sent(message)[FRAME_SIZE:]) as read:
        assert read.which() == name[0].lower() + name[1:]
        assert read.version == 1
        group = getattr(read, name[0].lower() + name[1:])
        for field, value in message._asdict().items():
            source = read if field in COMMON and not hasattr(group, field) else group
            assert as_the_schema_reads(source, field, value) == value, field


def test_the_schema_lists_the_kinds_in_their_order() -> None:
    kinds = [field.proto.name for field in schemas.vsr.Message.schema.fields_list if field.proto.name not in COMMON]
    assert kinds == [kind.message.__name__[0].lower() + kind.message.__name__[1:] for kind in KINDS]


COMMON = ("version", "src", "epoch", "view")


@given(entries())
def test_an_entry_header_is_the_message_capnp_makes(entry: Entry) -> None:
    header = entry.header
    fields: dict[str, int] = {}
    for name, value in (
        ("checksum", header.checksum),
        ("bodyChecksum", header.body_checksum),
        ("parent", header.parent),
        ("cluster", header.cluster),
    ):
        fields[f"{name}High"] = int.from_bytes(value[:8], "little")
        fields[f"{name}Low"] = int.from_bytes(value[8:], "little")
    for name in ("epoch", "view", "op", "commit", "timestamp", "size"):
        fields[name] = getattr(header, name)
    message = schemas.vsr.EntryHeader.new_message(kind=int(header.kind), version=1, **fields)
    assert message.to_bytes() == header.raw
    assert read_header(header.raw) == header


# What is dropped


@EACH
def test_no_bit_of_a_frame_can_change_unheard(message: Any) -> None:
    example = sent(SAMPLES[message])
    for at in range(FRAME_SIZE):
        changed = bytearray(example)
        changed[at] ^= 1 << at % 8
        with pytest.raises(Dropped):
            received(bytes(changed), listener(SAMPLES[message]))


def _sample(message: Any) -> Message:
    """Return one message of a class, with something in every field."""
    entry = make_entry(
        kind=Kind.NOOP, cluster=CLUSTER, epoch=1, view=2, op=3, parent=bytes(16), commit=2, timestamp=9, body=b"body!"
    )
    header = entry.header
    values: dict[str, Any] = {
        "client": b"c" * 16, "stream": b"s" * 16, "checksum": b"k" * 16, "root": b"r" * 16, "hash": b"h" * 32,
        "known": True, "command": b"command", "result": b"result", "data": b"data", "document": b"{}", "entry": entry,
        "headers": (header, header), "suffix": Suffix((header, None, header), 5, 2),
        "checkpoint": Checkpoint(1, b"k" * 16, b"r" * 16, 2), "members": (0, 1, 2), "src": 4,
        "accepted": True, "why": "because", "records": (record(), record(body=b"")),
    }  # fmt: skip
    result: Message = message(**{field: values.get(field, 7) for field in message._fields})
    return result


SAMPLES: dict[Any, Message] = {message: _sample(message) for message in CLASSES}


@EACH
def test_a_message_changed_in_one_bit_by_a_member_is_a_message_or_dropped(message: Any) -> None:
    """The authenticity code cannot help against a member's own mistake; the layout still does."""
    sample = SAMPLES[message]
    data = sent(sample)[FRAME_SIZE:]
    magic = sent(sample)[:4]
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            other = received(signed(bytes(changed), magic), listener(sample))
        except Dropped:
            continue
        assert (type(other), other) != (type(sample), sample)
        assert encode(other, cluster=CLUSTER, keys=KEYS)[FRAME_SIZE:] == changed


@EACH
def test_a_message_that_is_cut_or_longer_is_dropped(message: Any) -> None:
    sample = SAMPLES[message]
    whole = sent(sample)
    magic = whole[:4]
    for end in range(len(whole)):
        assert reason(whole[:end], listener(sample)) in (DropReason.CUT, DropReason.NOT_A_FRAME)
    data = whole[FRAME_SIZE:]
    for end in range(len(data)):
        reason(signed(data[:end], magic), listener(sample))
    assert reason(signed(data + bytes(8), magic), listener(sample)) is DropReason.MALFORMED
    assert reason(whole + b"\0", listener(sample)) is DropReason.CUT
    grown = data[:4] + (len(data) // 8).to_bytes(4, "little") + data[8:] + bytes(8)
    assert reason(signed(grown, magic), listener(sample)) is DropReason.MALFORMED


@given(st.binary(max_size=300), st.sampled_from([b"VSRP", b"VSRC"]), st.sampled_from([9, None]))
def test_any_bytes_are_a_message_or_dropped(data: bytes, magic: bytes, member: int | None) -> None:
    for frame in (data, signed(data, magic)):
        try:
            message = received(frame, member)
        except Dropped:
            continue
        assert sent(message) == frame


@given(MESSAGES, st.integers(0, 400), st.binary(min_size=1, max_size=16))
def test_a_message_with_other_bytes_in_it_is_a_message_or_dropped(message: Message, at: int, new: bytes) -> None:
    data = sent(message)
    body = data[FRAME_SIZE:]
    at %= len(body)
    changed = body[:at] + new + body[at + len(new) :]
    try:
        other = received(signed(changed, data[:4]), listener(message))
    except Dropped:
        return
    assert sent(other)[FRAME_SIZE:] == changed


def test_what_is_of_another_cluster_is_dropped() -> None:
    other = encode(GetView(1, 2, 3, 4), cluster=b"another cluster!", keys=KEYS)
    assert reason(other) is DropReason.FOREIGN
    theirs = Prepare(1, 2, 3, root_entry(b"another cluster!"), 0)
    assert reason(sent(theirs)) is DropReason.FOREIGN


def test_what_is_signed_with_another_secret_is_dropped() -> None:
    other = derive_keys(bytes(32))
    for message in (GetView(1, 2, 3, 4), Request(b"c" * 16, 1, 2, b"x", 3)):
        assert reason(encode(message, cluster=CLUSTER, keys=other)) is DropReason.FORGED


def test_a_client_cannot_speak_as_a_member() -> None:
    """Not with its key, and not by putting a member's words into a client's frame."""
    assert KEYS.peer != KEYS.client
    client_only = KEYS._replace(peer=None)
    with pytest.raises(AssertionError):
        encode(GetView(1, 2, 3, 4), cluster=CLUSTER, keys=client_only)
    words = sent(GetView(1, 2, 3, 4))[FRAME_SIZE:]
    assert reason(signed(words, b"VSRC")) is DropReason.MISPLACED
    with pytest.raises(Dropped) as caught:
        decode(sent(GetView(1, 2, 3, 4)), cluster=CLUSTER, keys=client_only)
    assert caught.value.reason is DropReason.MISPLACED


def test_a_message_is_heard_only_by_those_it_is_for() -> None:
    assert reason(sent(SAMPLES[Reply])) is DropReason.MISPLACED
    assert reason(sent(SAMPLES[Redirect])) is DropReason.MISPLACED
    assert reason(sent(SAMPLES[Request]), None) is DropReason.MISPLACED
    assert reason(sent(SAMPLES[GetView]), None) is DropReason.MISPLACED
    assert reason(signed(sent(SAMPLES[Request])[FRAME_SIZE:], b"VSRP")) is DropReason.MISPLACED


def test_the_members_are_changed_with_the_members_key_alone() -> None:
    words = sent(SAMPLES[Reconfigure])
    assert received(words) == SAMPLES[Reconfigure]
    assert reason(signed(words[FRAME_SIZE:], b"VSRC")) is DropReason.MISPLACED
    with pytest.raises(AssertionError):
        encode(SAMPLES[Reconfigure], cluster=CLUSTER, keys=KEYS._replace(peer=None))


def test_nobody_hears_itself() -> None:
    assert reason(sent(CommitAck(1, 2, 9, 4))) is DropReason.FROM_OURSELVES
    assert received(sent(CommitAck(1, 2, 8, 4))) == CommitAck(1, 2, 8, 4)


def test_a_version_or_kind_that_is_not_known_is_dropped() -> None:
    data = bytearray(sent(ExitView(1, 2, 3))[FRAME_SIZE:])
    data[16] = 2
    assert reason(signed(bytes(data))) is DropReason.VERSION
    data[16:20] = 1, 0, len(KINDS), 0
    assert reason(signed(bytes(data))) is DropReason.UNKNOWN_KIND


def test_a_frame_that_says_too_much_is_dropped_before_more_is_read() -> None:
    frame = b"VSRP" + (wire.MESSAGE_MAX + 1).to_bytes(4, "little") + CLUSTER + bytes(32)
    with pytest.raises(Dropped) as caught:
        wire.message_size(frame)
    assert caught.value.reason is DropReason.OVERSIZED
    assert wire.message_size(sent(ExitView(1, 2, 3))[:FRAME_SIZE]) == len(sent(ExitView(1, 2, 3))) - FRAME_SIZE
    with pytest.raises(Dropped) as caught:
        wire.message_size(b"HTTP" + frame[4:])
    assert caught.value.reason is DropReason.NOT_A_FRAME


def test_the_largest_entry_goes_through_and_a_larger_does_not() -> None:
    fields: dict[str, Any] = {
        "kind": Kind.COMMANDS, "cluster": CLUSTER, "epoch": 0, "view": 0, "op": 1, "parent": bytes(16), "commit": 0,
        "timestamp": 0,
    }  # fmt: skip
    largest = Repair(0, 0, 1, make_entry(**fields, body=bytes(BODY_MAX)))
    assert received(sent(largest)) == largest
    with pytest.raises(AssertionError):
        sent(Repair(0, 0, 1, make_entry(**fields, body=bytes(BODY_MAX + 1))))


def patched(message: Message, old: bytes, new: bytes) -> bytes:
    data = sent(message)
    body = data[FRAME_SIZE:]
    assert body.count(old) == 1
    return signed(body.replace(old, new), data[:4])


def word(value: int) -> bytes:
    return value.to_bytes(8, "little")


def test_numbers_are_below_two_to_the_63() -> None:
    top = 1 << 63
    for message in (PrepareOk(1, 2, 3, top, bytes(16), 0, 0), PrepareOk(top, 2, 3, 0, bytes(16), 0, 0),
                    PrepareOk(1, top, 3, 0, bytes(16), 0, 0), PrepareOk(1, 2, 3, 0, bytes(16), 0, top)):  # fmt: skip
        assert reason(sent(message)) is DropReason.OUT_OF_RANGE
    highest = PrepareOk(OP_MAX, OP_MAX, 3, OP_MAX, b"\xff" * 16, OP_MAX, OP_MAX)
    assert received(sent(highest)) == highest


def test_a_client_has_no_epoch_and_only_some_messages_of_it_a_view() -> None:
    request = Request(b"c" * 16, 1, 2, b"x", 3)
    assert reason(patched(request, b"\1\0\0\0\0\0\0\0" + word(0), b"\1\0\0\0\1\0\0\0" + word(0))) is (
        DropReason.OUT_OF_RANGE
    )
    data = bytearray(sent(SAMPLES[ReadRequest])[FRAME_SIZE:])
    assert reason(signed(bytes(data[:32]) + word(1) + bytes(data[40:]), b"VSRC")) is DropReason.OUT_OF_RANGE


def test_headers_of_a_suffix_are_as_many_as_its_bits_say() -> None:
    header = SAMPLES[Headers].headers[0]
    point = Checkpoint(0, bytes(16), bytes(16), 0)
    good = JoinView(1, 2, 3, 0, 9, 0, 0, point, Suffix((header, None), 1, 2))
    assert received(sent(good)) == good
    bits = [word(2), word(1), word(1), word(2)]  # count, known, present, nack

    def with_bits(*changed: int) -> DropReason:
        return reason(patched(good, b"".join(bits), b"".join(map(word, changed))))

    assert with_bits(2, 3, 1, 2) is DropReason.OUT_OF_RANGE  # one more known than there are
    assert with_bits(2, 0, 1, 2) is DropReason.OUT_OF_RANGE
    assert with_bits(1, 1, 1, 2) is DropReason.OUT_OF_RANGE  # a bit beyond the last header
    assert with_bits(2, 1, 4, 2) is DropReason.OUT_OF_RANGE
    assert with_bits(2, 1, 1, 4) is DropReason.OUT_OF_RANGE
    assert with_bits(65, 1, 1, 2) is DropReason.OUT_OF_RANGE
    most = JoinView(1, 2, 3, 0, 9, 0, 0, point, Suffix((header,) * 64, 2**64 - 1, 2**64 - 1))
    assert received(sent(most)) == most
    with pytest.raises(AssertionError):
        sent(Headers(1, 2, 3, (header,) * 65))


def test_a_byte_string_is_no_longer_than_its_kind_allows() -> None:
    header = SAMPLES[Headers].headers[0]
    data = bytearray(sent(Headers(1, 2, 3, (header,) * 64))[FRAME_SIZE:])
    at = 16 + 24
    data[4:8] = ((len(data) + len(header.raw)) // 8 - 1).to_bytes(4, "little")
    data[at : at + 8] = word(65 * len(header.raw) << 35 | 2 << 32 | 1)
    assert reason(signed(bytes(data) + header.raw)) is DropReason.OUT_OF_RANGE


def test_a_message_without_its_pointer_is_dropped() -> None:
    data = sent(SAMPLES[Headers])[FRAME_SIZE : FRAME_SIZE + 16 + 24]
    words = (len(data) // 8 - 1).to_bytes(4, "little")
    assert reason(signed(data[:4] + words + data[8:])) is DropReason.MALFORMED


def test_members_are_one_to_six_and_different() -> None:
    point = Checkpoint(0, bytes(16), bytes(16), 0)
    good = StartView(1, 2, 3, 0, 0, (), point, 77, (5, 6))
    members = word(77) + word(2) + word(5) + word(6) + bytes(32)
    for count, *listed in ((0, 0, 0), (0, 5, 6), (1, 5, 6), (2, 5, 5), (3, 5, 0), (7, 5, 6)):
        new = word(77) + word(count) + b"".join(map(word, listed)) + bytes(32)
        assert reason(patched(good, members, new)) is DropReason.OUT_OF_RANGE
    six = good._replace(members=(1, 2, 3, 4, 5, 6))
    assert received(sent(six)) == six


def test_an_entry_that_is_not_whole_is_dropped() -> None:
    sample = SAMPLES[Prepare]
    assert reason(patched(sample, b"body!", b"Body!")) is DropReason.BAD_ENTRY
    assert reason(patched(sample, SAMPLES[Prepare].entry.header.checksum, bytes(16))) is (DropReason.BAD_ENTRY)
    longer = Repair(1, 2, 3, Entry(SAMPLES[Prepare].entry.header, b"body!!"))
    assert reason(sent(longer)) is DropReason.OUT_OF_RANGE
    header = SAMPLES[Headers].headers[0]
    part = Headers(1, 2, 3, (header._replace(raw=header.raw + bytes(8)),))
    assert reason(sent(part)) is DropReason.OUT_OF_RANGE


def test_a_read_reply_knows_or_does_not_know() -> None:
    reply = ReadReply(b"c" * 16, 1, 2, True, 33, b"h" * 32, 4)
    assert reason(patched(reply, word(1) + word(33), word(2) + word(33)), None) is DropReason.OUT_OF_RANGE


def test_records_follow_one_another_whole() -> None:
    def fetched(blob: bytes) -> bytes:
        return sent(FetchedRecords(b"c" * 16, 1, b"s" * 16, True, 2, (blob,)))

    two = record(body=b"first") + record(body=b"second")
    assert received(fetched(two), None)[-1] == (record(body=b"first"), record(body=b"second"))
    assert reason(fetched(two[:-1]), None) is DropReason.BAD_ENTRY
    assert reason(fetched(two + b"x"), None) is DropReason.BAD_ENTRY


def test_an_explanation_is_text() -> None:
    answer = Reconfigured(b"c" * 16, 1, 2, False, "because")
    assert reason(patched(answer, b"because", b"bec\xffuse"), None) is DropReason.OUT_OF_RANGE


def test_what_is_dropped_is_counted_by_reason() -> None:
    here = Wire(cluster=CLUSTER, keys=KEYS, member=9)
    there = Wire(cluster=CLUSTER, keys=KEYS, member=8)
    message = Commit(1, 2, 8, 3, bytes(16), 4, 5, Checkpoint(0, bytes(16), bytes(16), 0))
    assert here.decode(there.encode(message)) == message
    assert there.decode(there.encode(message)) is None
    assert here.decode(b"GET / HTTP/1.1\r\n") is None
    assert here.decode(b"") is None
    assert here.decode(there.encode(message)[:-1] + b"\1") is None
    assert here.dropped == {DropReason.CUT: 2, DropReason.FORGED: 1}
    assert there.dropped == {DropReason.FROM_OURSELVES: 1}


def test_a_secret_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        derive_keys(bytes(31))


def test_a_dropped_message_says_why() -> None:
    with pytest.raises(Dropped, match=r"a message was dropped: it is not as long as it says \(3 bytes\)"):
        received(b"abc")
    assert {kind.side for kind in KINDS} == set(Side)
