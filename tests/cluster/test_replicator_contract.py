"""What every :class:`~veritydb.log.Replicator` promises: on disk, in memory, kept by a group, kept by NATS."""

from __future__ import annotations

import os
import secrets
import time

import pytest

from tests.cluster.groups import PATIENCE
from veritydb.chain import ZERO_HASH, Kind, chain_hash, pack_header
from veritydb.cluster.group_log import GroupLog
from veritydb.cluster.reaching import reach
from veritydb.errors import ConflictError, LogMismatch, LogUnavailable
from veritydb.log import Log, MemoryLog, Spill
from veritydb.log.record import pack_part_head
from veritydb.nats import sequencer
from veritydb.nats.config import read_address
from veritydb.nats.sequencer import NatsSequencer


class OnDisk:
    """Handles on one folder."""

    def __init__(self, folder, nodes):
        self.folder = folder / "log"
        Log.create(self.folder, os.urandom(16)).close()

    def open(self):
        return Log.open(self.folder)


class Agreed(OnDisk):
    """Handles on one copy of a stream."""

    def __init__(self, folder, nodes):
        super().__init__(folder, nodes)
        self.client = self.reach(nodes, Log.open(self.folder, read_only=True).stream)

    def reach(self, nodes, stream):
        client = reach(nodes.folder / "client")
        client.create(stream, "", timeout=PATIENCE)
        return client

    def open(self):
        log = GroupLog.open(self.folder)
        log.join(self.client)
        return log


class InNats(Agreed):
    """The same, of a stream in NATS JetStream."""

    def reach(self, nodes, stream):
        config = read_address(nodes.address, {})
        client = NatsSequencer(config, stream.hex(), bytes(16), stream)
        client.create(stream, stream.hex(), timeout=PATIENCE)
        return client


SHARED = {Agreed: "nodes", InNats: "nats"}


class InMemory:
    """The one handle there is."""

    def __init__(self, folder, nodes):
        self.log = MemoryLog(os.urandom(16))

    def open(self):
        return self.log


@pytest.fixture(params=[OnDisk, Agreed, InNats, InMemory])
def kind(request, tmp_path):
    yield from making(request, tmp_path)


@pytest.fixture(params=[Agreed, InNats])
def shared(request, tmp_path):
    yield from making(request, tmp_path)


def making(request, tmp_path):
    nodes = SHARED.get(request.param)
    made = request.param(tmp_path, request.getfixturevalue(nodes) if nodes else None)
    yield made
    if nodes:
        made.client.close()


@pytest.fixture
def log(kind):
    made = kind.open()
    yield made
    made.close()


def record(log, *, size=50, count=1, offset=None, prev_hash=None, stream=None, timestamp=None, parts=None):
    """Return what append() takes, built on the head or on what is said."""
    head = log.head
    stamp = max(time.time_ns() // 1000, head.timestamp) if timestamp is None else timestamp
    tail = os.urandom(size)
    header = pack_header(
        stream or log.stream,
        head.next_offset if offset is None else offset,
        stamp,
        prev_hash or head.hash,
        secrets.token_bytes(16),
        0,
        bytes(32),
        bytes(12),
        bytes(32) if parts is None else parts.digest,
        0 if parts is None else parts.length,
        size,
        0 if parts is None else parts.count,
        head.generation,
        count,
        Kind.DATA if count else Kind.GENERATION,
    )
    return header, tail, parts, count, stamp


def test_a_log_begins_empty(log):
    log.acquire(1)
    assert (log.head.next_offset, log.head.hash, log.torn, list(log.records())) == (0, ZERO_HASH, None, [])


def test_what_is_appended_is_the_head_and_is_read(log):
    log.acquire(1)
    before = log.head
    header, tail, *rest = record(log)
    place = log.place()
    log.append(header, tail, *rest)
    assert log.head.next_offset == 1
    assert log.head.hash == chain_hash(before.hash, header + tail)
    (found,) = log.records()
    assert (found.header_bytes, found.tail, found.hash, found.place) == (header, tail, log.head.hash, place)
    log.release()
    assert not log.held


def test_records_are_read_from_any_offset_with_notes_among_them(log):
    log.acquire(1)
    for count in (0, 1, 1, 0, 1):
        log.append(*record(log, count=count))
    assert log.head.next_offset == 3
    offsets = [(found.header.first_offset, found.header.transaction_count) for found in log.records()]
    assert offsets == [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1)]
    assert [found.header.first_offset for found in log.records(2)] == [2, 2]


@pytest.mark.parametrize(
    "wrong", [{"offset": 5}, {"prev_hash": b"x" * 32}, {"stream": b"y" * 16}], ids=["offset", "hash", "stream"]
)
def test_what_does_not_build_on_the_head_is_refused_and_changes_nothing(log, wrong):
    log.acquire(1)
    log.append(*record(log))
    head = log.head
    with pytest.raises((LogMismatch, LogUnavailable)):
        log.append(*record(log, **wrong))
    log.refresh()
    assert log.head == head
    log.append(*record(log))
    assert log.head.next_offset == 2


def test_without_the_lock_nothing_is_appended(log):
    with pytest.raises(LogUnavailable):
        log.append(*record(log))
    log.acquire(1)
    log.acquire(1)
    log.release()
    log.release()
    with pytest.raises(LogUnavailable):
        log.append(*record(log))


def test_parts_are_part_of_the_record(log, tmp_path):
    spill = Spill(tmp_path)
    for _ in range(3):
        spill.add(os.urandom(12), os.urandom(100))
    log.acquire(1)
    log.append(*record(log, parts=spill))
    (found,) = log.records()
    assert [pack_part_head(len(data), nonce) + data for nonce, data in found.parts()] == [
        spill.stored(number) for number in range(3)
    ]
    spill.close()


def test_a_second_handle_finds_the_end(kind, log):
    log.acquire(1)
    log.append(*record(log))
    log.release()
    second = kind.open()
    second.acquire(1)
    assert second.head == log.head
    second.append(*record(second))
    second.release()
    log.acquire(1)
    assert log.head.next_offset == 2
    log.release()
    second.close()


def test_refresh_and_follow_change_nothing_where_nothing_happened(log):
    log.acquire(1)
    log.append(*record(log))
    head = log.head
    log.refresh()
    log.follow(1)
    assert log.head == head


def test_of_two_copies_of_a_stream_one_wins_and_the_other_follows(shared, tmp_path):
    first = shared.open()
    other_folder = tmp_path / "other"
    Log.create(other_folder, first.stream).close()
    second = GroupLog.open(other_folder)
    second.join(shared.client)
    first.acquire(1)
    second.acquire(1)
    first.append(*record(first))
    first.append(*record(first, count=0))
    with pytest.raises(ConflictError) as conflict:
        second.append(*record(second))
    assert conflict.value.next_offset == 1
    second.refresh()
    assert second.head.next_offset == 0
    second.follow(PATIENCE)
    assert (second.head.next_offset, second.head.hash) == (first.head.next_offset, first.head.hash)
    second.append(*record(second))
    first.close()
    second.close()


def test_a_copy_that_went_another_way_is_named(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(sequencer, "BEHIND_SECONDS", 0.1)
    log = shared.open()
    log.acquire(1)
    log.append(*record(log))
    alone = tmp_path / "alone"
    Log.create(alone, log.stream).close()
    forked = Log.open(alone)
    forked.acquire(1)
    forked.append(*record(forked))
    forked.close()
    second = GroupLog.open(alone)
    second.join(shared.client)
    second.acquire(PATIENCE)
    with pytest.raises((ConflictError, LogMismatch)):
        second.append(*record(second))
    log.append(*record(log))
    second.aim(log.head.next_offset, log.head.hash)
    with pytest.raises(LogMismatch, match="is no copy of"):
        second.follow(PATIENCE)
    log.close()
    second.close()
