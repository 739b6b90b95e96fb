"""The thread that keeps records: now and then, or at once where somebody waits, and durable before it says so."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from tests.cluster.test_cluster_records import STREAM, records
from veritydb.chain import ZERO_HASH
from veritydb.cluster import keeping
from veritydb.cluster.keeping import Caught, Expected, Hurry, Keeper
from veritydb.cluster.records import End, Missing, RecordStore
from veritydb.kernel import Output
from veritydb.vsr.effects import Committed
from veritydb.vsr.entry import Kind, make_entry
from veritydb.vsr.messages import FetchRecords

CLIENT = b"c" * 16


def committed(op, effect):
    header = make_entry(
        kind=Kind.COMMANDS,
        cluster=bytes(16),
        epoch=0,
        view=0,
        op=op,
        parent=bytes(16),
        commit=0,
        timestamp=op,
        body=b"",
    ).header
    return Committed(header, (Output(CLIENT, 1, op, b"", (effect,)),))


class Kept:
    def __init__(self, folder):
        self.retained: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.answers = queue.SimpleQueue()
        self.failures = []
        self.store = RecordStore(folder / "streams")
        self.keeper = Keeper(
            self.store,
            retained=self.retained.put,
            answer=lambda client, answer: self.answers.put(answer),
            failed=self.failures.append,
        )


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 3600)  # Nothing happens because time has passed.
    made = Kept(tmp_path)
    yield made
    made.keeper.close()
    assert not made.failures


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def fetch(offset, hash_=ZERO_HASH, wait=0):
    return FetchRecords(CLIENT, 7, STREAM, offset, 1 << 20, hash_, wait)


def test_what_is_committed_gathers_while_nobody_waits_for_it(kept):
    effects = records(3)
    for op, effect in enumerate(effects, 1):
        kept.keeper.keep(committed(op, effect))
    assert kept.keeper.queued == 3
    kept.keeper.put(fetch(0))
    assert kept.answers.get(timeout=30).records == tuple(effect.record for effect in effects)


def test_what_has_gathered_is_kept_after_a_moment(tmp_path):
    kept = Kept(tmp_path)
    for op, effect in enumerate(records(3), 1):
        kept.keeper.keep(committed(op, effect))
    wait_for(lambda: not kept.keeper.queued)
    kept.keeper.close()
    assert not kept.failures


def test_who_asks_finds_what_was_committed_before(kept):
    effects = records(2)
    for op, effect in enumerate(effects, 1):
        kept.keeper.keep(committed(op, effect))
    kept.keeper.put(fetch(1))
    assert kept.answers.get(timeout=30).records == (effects[1].record,)


def test_who_waits_for_a_record_gets_it_at_once(kept):
    first, second = records(2)
    kept.keeper.keep(committed(1, first))
    kept.keeper.put(fetch(1, first.hash, wait=30_000))
    wait_for(lambda: kept.keeper._waiting)
    kept.keeper.keep(committed(2, second))
    assert kept.answers.get(timeout=30).records == (second.record,)


def test_what_gathers_is_bounded(kept):
    for op, effect in enumerate(records(keeping.QUEUE_OPS), 1):
        kept.keeper.keep(committed(op, effect))
    wait_for(lambda: not kept.keeper.queued)


def test_ops_are_retained_when_there_is_hurry_and_at_the_end(kept, monkeypatch):
    monkeypatch.setattr(keeping, "FLUSH_SECONDS", 3600)
    monkeypatch.setattr(kept.keeper, "_flush_due", time.monotonic() + 3600)
    flushed = []
    flush = kept.store.flush
    monkeypatch.setattr(kept.store, "flush", lambda: (flushed.append(kept.store.end(STREAM)), flush()))
    effects = records(7)
    for op, effect in enumerate(effects[:4], 1):
        kept.keeper.keep(committed(op, effect))
    kept.keeper.put(Hurry())
    assert kept.retained.get(timeout=30) == 4
    assert flushed == [(4, effects[3].hash)], "durable first"
    for op, effect in enumerate(effects[4:], 5):
        kept.keeper.keep(committed(op, effect))
    kept.keeper.close()
    assert kept.retained.get(timeout=30) == 7


def test_who_is_in_a_hurry_does_not_wait_longer_than_for_what_is_missing(kept, monkeypatch):
    """A node that comes back takes no op beyond its next checkpoint, and that waits for this."""
    monkeypatch.setattr(keeping, "FLUSH_SECONDS", 3600)
    monkeypatch.setattr(kept.keeper, "_flush_due", time.monotonic() + 3600)
    effects = records(5)
    kept.keeper.put(Expected({STREAM: End(3, effects[2].hash)}))
    for op, effect in enumerate(effects[3:], 4):
        kept.keeper.keep(committed(op, effect))
    kept.keeper.put(Hurry())
    kept.keeper.put(Caught(STREAM, (effects[0].record,)))
    wait_for(lambda: kept.keeper.missing == {STREAM: Missing(STREAM, End(1, effects[0].hash), End(5, effects[4].hash))})
    assert kept.retained.empty()
    kept.keeper.put(Caught(STREAM, tuple(effect.record for effect in effects[1:3])))
    assert kept.retained.get(timeout=30) == 5
    assert kept.keeper.missing == {}


def test_it_is_said_when_it_is_not_known_yet_what_is_missing(kept, monkeypatch):
    """A member that has just installed a snapshot said for a moment that it was ready, and then that it was not."""
    go_on = threading.Event()
    expect = kept.store.expect
    monkeypatch.setattr(kept.store, "expect", lambda *each: (go_on.wait(30), expect(*each)))
    (effect,) = records(1)
    assert not kept.keeper.is_looking
    kept.keeper.put(Expected({STREAM: End(1, effect.hash)}))
    assert kept.keeper.is_looking
    assert not kept.keeper.missing
    go_on.set()
    wait_for(lambda: not kept.keeper.is_looking)
    assert kept.keeper.missing


def test_ops_are_retained_after_a_while(kept, monkeypatch):
    (effect,) = records(1)
    monkeypatch.setattr(kept.keeper, "_flush_due", 0.0)
    kept.keeper.put(committed(1, effect))
    assert kept.retained.get(timeout=30) == 1
