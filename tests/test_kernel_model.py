"""The kernel beside a model of dictionaries that scans and knows no structure: both say the same of any run."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.node import ANYWHERE, Node, name, record
from veritydb.chain import ZERO_HASH
from veritydb.kernel import (
    Append,
    Appended,
    Command,
    Conflict,
    Created,
    CreateStream,
    Dropped,
    DropStream,
    Forbidden,
    Head,
    Known,
    Refusal,
    Refused,
    Reply,
    Resolve,
    digest,
    head,
    restore,
    snapshot,
)

STREAMS = st.integers(1, 3).map(name)
IDS = st.integers(10, 18).map(name)
CLIENTS = st.integers(100, 102).map(name)


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.node = Node()
        self.records: dict[bytes, list[bytes]] = {}
        self.fates: dict[tuple[bytes, bytes], Reply] = {}
        self.dropped: set[bytes] = set()

    def head_of(self, stream: bytes) -> tuple[int, bytes]:
        """Walk the whole chain."""
        digest = ZERO_HASH
        for item in self.records[stream]:
            digest = sha256(digest + item).digest()
        return len(self.records[stream]), digest

    def expected(self, command: Command) -> Reply:
        match command:
            case CreateStream(stream) if stream in self.dropped:
                return Refused(Refusal.STREAM_DROPPED)
            case CreateStream(stream):
                existed = stream in self.records
                self.records.setdefault(stream, [])
                return Created(stream, existed)
            case Append(_, item):
                stream, id_ = item[16:32], item[80:96]
                if stream not in self.records:
                    return Refused(Refusal.STREAM_UNKNOWN)
                if (stream, id_) in self.fates:
                    return self.fates[stream, id_]
                if stream in self.dropped:
                    return Refused(Refusal.STREAM_DROPPED)
                offset, prev = self.head_of(stream)
                if int.from_bytes(item[32:40], "little") != offset or item[48:80] != prev:
                    return Conflict(offset, prev)
                self.records[stream].append(item)
                after, digest = self.head_of(stream)
                self.fates[stream, id_] = Known(id_, offset, digest)
                return Appended(offset, after, digest)
            case Resolve(stream, id_, _):
                if stream not in self.records:
                    return Refused(Refusal.STREAM_UNKNOWN)
                return self.fates.setdefault((stream, id_), Forbidden(id_))
            case DropStream(stream):
                if stream not in self.records:
                    return Refused(Refusal.STREAM_UNKNOWN)
                self.dropped.add(stream)
                return Dropped(stream, len(self.records[stream]))
            case _:
                raise AssertionError(command)

    def both(self, client: bytes, command: Command, *, twice: bool = False) -> None:
        request = self.node.request(command, client)
        replies = self.node.batch(*([request, request] if twice else [request]))
        assert replies == [self.expected(command)] * len(replies)
        assert sum(len(output.effects) for output in self.node.outputs) <= 1

    @rule(client=CLIENTS, stream=STREAMS)
    def create(self, client: bytes, stream: bytes) -> None:
        self.both(client, CreateStream(stream, ANYWHERE))

    @rule(client=CLIENTS, stream=STREAMS, id_=IDS, stale=st.sampled_from([0, 0, 0, 1, 2]), twice=st.booleans())
    def append(self, client: bytes, stream: bytes, id_: bytes, stale: int, twice: bool) -> None:
        offset, prev = self.head_of(stream) if stream in self.records else (0, ZERO_HASH)
        item = record(max(0, offset - (stale == 1)), bytes(32) if stale == 2 else prev, stream=stream, id_=id_)
        self.both(client, Append((), item), twice=twice)

    @rule(client=CLIENTS, stream=STREAMS, id_=IDS)
    def resolve(self, client: bytes, stream: bytes, id_: bytes) -> None:
        self.both(client, Resolve(stream, id_, 0))

    @rule(client=CLIENTS, stream=st.sampled_from([name(3), name(3), name(2)]))
    def drop(self, client: bytes, stream: bytes) -> None:
        self.both(client, DropStream(stream))

    @rule()
    def start_again(self) -> None:
        before = self.node.state
        self.node.state = restore(snapshot(before))
        assert self.node.state == before
        assert digest(self.node.state) == digest(before)

    @invariant()
    def heads_agree(self) -> None:
        for stream in self.records:
            end = None if stream in self.dropped else Head(*self.head_of(stream))
            assert head(self.node.state, stream) == end


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase
