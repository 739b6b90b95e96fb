"""The records that a node keeps: appended once, made durable together, filled up from others."""

from __future__ import annotations

import secrets
import threading

import pytest

from veritydb.chain import Kind, chain_hash, pack_header
from veritydb.cluster.records import End, Missing, RecordStore
from veritydb.errors import LogDamaged, LogMissing
from veritydb.kernel import RecordAppended
from veritydb.log import Log, reading
from veritydb.log.record import pack_part_head

STREAM = bytes(range(16))


def records(count, size=40, *, parts=b"", part_count=0, notes=(), follows=()):
    """Effects of appending that many records; those at ``notes`` have no transactions."""
    made = []
    offset, before = after(follows, len(follows))
    for number in range(count):
        transactions = number not in notes
        header = pack_header(
            STREAM, offset, 1, before, secrets.token_bytes(16), 0, bytes(32), bytes(12), bytes(32), len(parts), size,
            part_count, 0, transactions, Kind.DATA if transactions else Kind.GENERATION,
        )  # fmt: skip
        record = header + parts + secrets.token_bytes(size)
        before = chain_hash(before, record)
        made.append(RecordAppended(STREAM, offset, int(transactions), before, record))
        offset += transactions
    return made


def after(effects, count):
    """Where a stream ends that has so many of these records."""
    if not count:
        return End(0, bytes(32))
    last = effects[count - 1]
    return End(last.first_offset + last.transaction_count, last.hash)


@pytest.fixture
def store(tmp_path):
    made = RecordStore(tmp_path / "streams")
    yield made
    made.close()


def keep(store, effects):
    for effect in effects:
        store.keep(effect)


def test_what_is_kept_is_read(store):
    effects = records(5)
    keep(store, effects)
    assert store.end(STREAM) == (5, effects[-1].hash)
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)
    assert store.read(STREAM, 3, 1 << 20) == tuple(effect.record for effect in effects[3:])
    assert store.read(STREAM, 1, 1) == (effects[1].record,)


def test_what_comes_again_is_kept_once(store):
    effects = records(3)
    keep(store, effects)
    keep(store, effects)
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)


def test_a_node_goes_on_where_it_was(tmp_path):
    effects = records(4)
    first = RecordStore(tmp_path)
    keep(first, effects[:3])
    first.close()
    second = RecordStore(tmp_path)
    keep(second, effects)
    assert second.end(STREAM) == (4, effects[-1].hash)
    second.close()
    log = Log.open(tmp_path / STREAM.hex(), read_only=True)
    assert [record.hash for record in log.records()] == [effect.hash for effect in effects]
    log.close()


def test_somebody_who_looks_at_a_log_is_waited_for(tmp_path):
    """A node halted when a reader opened a stream's log just when its first record of the day was to be kept."""
    effects = records(2)
    first = RecordStore(tmp_path)
    keep(first, effects[:1])
    first.close()
    reader = Log.open(tmp_path / STREAM.hex())
    reader.acquire(0)
    threading.Timer(0.3, reader.release).start()
    second = RecordStore(tmp_path)
    keep(second, effects)
    assert second.end(STREAM) == (2, effects[-1].hash)
    second.close()
    reader.close()


def test_a_gap_is_missing_until_it_is_filled(store):
    effects = records(6)
    keep(store, effects[:2])
    keep(store, effects[4:])
    assert store.missing == {STREAM: Missing(STREAM, after(effects, 2), after(effects, 6))}
    store.fill(STREAM, (effects[3].record, b"garbage"))
    assert store.end(STREAM) == after(effects, 2)
    store.fill(STREAM, tuple(effect.record for effect in effects[1:3]))
    assert store.missing == {STREAM: Missing(STREAM, after(effects, 3), after(effects, 6))}
    store.fill(STREAM, (effects[3].record,))
    assert store.missing == {}
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)


def test_a_gap_is_filled_once_although_records_come_all_the_time(store):
    """What another node sends is older than what has been committed when it arrives. A node chased it for ever."""
    effects = records(10)
    keep(store, effects[:2])
    keep(store, effects[4:6])
    asked = store.missing[STREAM].here
    sent = tuple(effect.record for effect in effects[asked.next_offset : 5])
    keep(store, effects[6:8])
    store.fill(STREAM, sent)
    assert store.missing == {}
    keep(store, effects[8:])
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)


@pytest.mark.parametrize("sent", range(1, 12))
def test_what_is_held_follows_wherever_the_gap_is_filled_up_to(store, sent):
    effects = records(12, notes=(0, 3, 4, 6, 7, 9))
    keep(store, effects[:1])
    keep(store, effects[4:])
    store.fill(STREAM, tuple(effect.record for effect in effects[1:sent]))
    assert (store.missing == {}) == (sent >= 4)
    store.fill(STREAM, tuple(effect.record for effect in effects[sent:4]))
    assert store.missing == {}
    assert (store._held, store._held_size) == ({}, 0)
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)


def test_what_is_held_has_a_bound_and_what_is_beyond_is_fetched(store, monkeypatch):
    effects = records(10)
    monkeypatch.setattr("veritydb.cluster.records.HELD_MAX", 3 * len(effects[0].record))
    keep(store, effects[3:8])
    store.fill(STREAM, tuple(effect.record for effect in effects[:3]))
    assert store.missing == {STREAM: Missing(STREAM, after(effects, 6), after(effects, 8))}
    keep(store, effects[8:])
    store.fill(STREAM, tuple(effect.record for effect in effects[6:8]))
    assert store.missing == {}
    assert store._held_size == 0
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)


@pytest.mark.parametrize("here", range(6))
def test_records_without_transactions_are_missed_and_filled_like_others(store, here):
    effects = records(6, notes=(0, 2, 3, 5))
    keep(store, effects[:here])
    store.expect(STREAM, after(effects, 6))
    assert store.missing == {STREAM: Missing(STREAM, after(effects, here), after(effects, 6))}
    store.fill(STREAM, tuple(effect.record for effect in effects))
    assert store.missing == {}
    keep(store, effects)
    assert store.missing == {}
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)


def test_what_the_kernel_says_is_expected(store):
    effects = records(3)
    store.expect(STREAM, after(effects, 3))
    assert store.missing == {STREAM: Missing(STREAM, after(effects, 0), after(effects, 3))}
    store.fill(STREAM, tuple(effect.record for effect in effects))
    store.expect(STREAM, after(effects, 3))
    assert store.missing == {}


def test_a_forged_record_does_not_fill_a_gap(store):
    (good,) = records(1)
    store.expect(STREAM, End(1, good.hash))
    store.fill(STREAM, (good.record[:-1],))
    assert store.end(STREAM) in (None, after([], 0))


def test_a_stream_that_is_not_here_is_not_made_by_asking(store, tmp_path):
    assert store.end(STREAM) is None
    with pytest.raises(LogMissing):
        store.read(STREAM, 0, 100)
    assert not (tmp_path / "streams" / STREAM.hex()).exists()


def test_a_stream_whose_making_was_cut_short_is_made(tmp_path):
    (tmp_path / f"{STREAM.hex()}.new").mkdir()
    (tmp_path / f"{STREAM.hex()}.new" / "lock").touch()
    store = RecordStore(tmp_path)
    keep(store, effects := records(2))
    assert store.end(STREAM) == after(effects, 2)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == [STREAM.hex()]


def test_a_torn_end_comes_again(tmp_path):
    effects = records(3)
    first = RecordStore(tmp_path)
    keep(first, effects)
    first.close()
    (segment,) = (tmp_path / STREAM.hex()).glob("*.seg")
    data = bytearray(segment.read_bytes())
    at = bytes(data).rindex(effects[2].record[-20:])
    data[at : at + 20] = bytes(20)
    segment.write_bytes(data)
    (tmp_path / STREAM.hex() / "marker").write_bytes(b"\1")
    second = RecordStore(tmp_path)
    keep(second, effects)
    assert second.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)
    second.close()


def test_more_streams_than_are_held_open(tmp_path, monkeypatch):
    monkeypatch.setattr("veritydb.cluster.records.OPEN_MAX", 2)
    store = RecordStore(tmp_path)
    names = [bytes([number]) * 16 for number in range(5)]
    for name in names:
        header = pack_header(
            name, 0, 1, bytes(32), bytes(16), 0, bytes(32), bytes(12), bytes(32), 0, 8, 0, 0, 1, Kind.DATA
        )
        store.keep(RecordAppended(name, 0, 1, bytes([1]) * 32, header + bytes(8)))
    assert [store.end(name)[0] for name in names] == [1] * 5
    store.close()


def test_a_record_with_spilled_parts_is_kept_whole(store):
    part = pack_part_head(5, bytes(12)) + b"12345"
    from hashlib import sha256

    header = pack_header(
        STREAM, 0, 1, bytes(32), bytes(16), 0, bytes(32), bytes(12), sha256(part * 2).digest(), 2 * len(part), 8, 2, 0,
        1, Kind.DATA,
    )  # fmt: skip
    record = header + part * 2 + bytes(8)
    store.keep(RecordAppended(STREAM, 0, 1, chain_hash(bytes(32), record), record))
    assert store.read(STREAM, 0, 1 << 20) == (record,)


def test_a_dropped_stream_is_set_aside_whole_and_stays_there(tmp_path):
    effects = records(4)
    store = RecordStore(tmp_path / "streams")
    keep(store, effects[:3])
    store.set_aside(STREAM)
    assert store.end(STREAM) is None
    keep(store, effects)  # After a restart they come again,
    store.fill(STREAM, tuple(effect.record for effect in effects))  # and perhaps from another node.
    store.set_aside(STREAM)
    assert store.end(STREAM) is None
    assert store.missing == {}
    store.close()

    again = RecordStore(tmp_path / "streams")
    assert again.dropped == {STREAM}
    keep(again, effects)
    assert again.end(STREAM) is None
    again.close()
    log = Log.open(tmp_path / "dropped" / STREAM.hex(), read_only=True)
    assert [record.hash for record in log.records()] == [effect.hash for effect in effects[:3]]
    log.close()


def test_the_end_of_a_long_log_is_read_without_what_is_before_it(tmp_path, monkeypatch):
    """A segment that is written to has no index; who fetched ten records had the node read all before them."""
    read = []
    monkeypatch.setattr(reading, "follow", lambda *each, follow=reading.follow: (read.append(each), follow(*each))[1])

    def looked_at(offset):
        read.clear()
        assert store.read(STREAM, offset, 1) == (effects[offset].record,)
        return len(read)

    effects = records(400, size=4000)
    store = RecordStore(tmp_path)
    keep(store, effects)
    store.close()
    store = RecordStore(tmp_path)  # Has appended nothing itself.
    assert looked_at(300) > 300
    assert looked_at(300) > 300, "it is the first mark"
    assert looked_at(320) <= 40, "as many as stand between two marks"
    assert looked_at(200) > 200
    assert looked_at(210) <= 40
    effects += records(800, size=4000, follows=effects)
    keep(store, effects)
    assert looked_at(1150) <= 40
    store.close()


def test_a_dropped_stream_is_no_longer_missing(store):
    store.expect(STREAM, after(records(3), 3))
    store.set_aside(STREAM)
    assert store.missing == {}
    assert store.dropped == {STREAM}


def written(folder, effects):
    """A log of these records, made durable and closed; its segments."""
    store = RecordStore(folder)
    keep(store, effects)
    store.close()
    return sorted((folder / STREAM.hex()).glob("*.seg"))


def overwrite(segment, at, data):
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("what", "left"),
    [("a hole", 3), ("garbage", 3), ("a hole at the beginning", 0), ("no header", 0), ("no file", 0), ("cut", 3)],
)
def test_a_log_that_has_lost_something_is_cut_there_and_filled_again(tmp_path, what, left, caplog):
    effects = records(8, size=600)
    folder = tmp_path / "streams"
    (segment,) = written(folder, effects)
    before = segment.read_bytes()
    at = before.index(effects[3].record)
    if what == "a hole":
        overwrite(segment, at, bytes(600))
    elif what == "garbage":
        overwrite(segment, at + 300, b"garbage")
    elif what == "a hole at the beginning":
        overwrite(segment, before.index(effects[0].record), bytes(400))
    elif what == "no header":
        overwrite(segment, 0, bytes(64))
    elif what == "no file":
        segment.unlink()
    else:
        overwrite(segment, at + 100, bytes(len(before) - at - 100))
    found = {path.name: path.read_bytes() for path in segment.parent.iterdir()}
    store = RecordStore(folder)
    store.expect(STREAM, after(effects, 8))
    assert store.missing == {STREAM: Missing(STREAM, after(effects, left), after(effects, 8))}
    if what != "cut":  # That could be a write that never was finished: nothing stands behind it.
        (aside,) = (tmp_path / "damaged").iterdir()
        kept = {path.name: path.read_bytes() for path in aside.iterdir()}
        assert {name: data for name, data in kept.items() if name.endswith(".seg")} == {
            name: data for name, data in found.items() if name.endswith(".seg")
        }
        assert f"was cut at offset {left}" in caplog.text
    store.fill(STREAM, tuple(effect.record for effect in effects))
    assert store.missing == {}
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)
    store.close()
    log = Log.open(folder / STREAM.hex(), read_only=True)
    assert [record.hash for record in log.records()] == [effect.hash for effect in effects]
    log.close()


def test_a_log_is_cut_in_the_segment_that_is_damaged_and_keeps_those_before(tmp_path, monkeypatch):
    monkeypatch.setattr("veritydb.log.store.SEGMENT_SIZE", 4096)
    monkeypatch.setattr(Log.open.__func__, "__kwdefaults__", Log.open.__func__.__kwdefaults__ | {"segment_size": 4096})
    effects = records(20, size=1000)
    folder = tmp_path / "streams"
    segments = written(folder, effects)
    assert len(segments) > 3
    store = RecordStore(folder)
    assert store.end(STREAM) == after(effects, 20)
    lost = effects[9]
    segment = next(each for each in segments if lost.record in each.read_bytes())
    overwrite(segment, segment.read_bytes().index(lost.record) + 400, bytes(8))
    assert store.read(STREAM, 9, 1 << 20) == ()  # Opening looks at the newest segment only; reading finds it.
    assert store.missing == {STREAM: Missing(STREAM, after(effects, 9), after(effects, 20))}
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects[:9])
    store.fill(STREAM, tuple(effect.record for effect in effects[5:]))
    assert store.missing == {}
    assert store.read(STREAM, 0, 1 << 20) == tuple(effect.record for effect in effects)
    store.close()


def test_a_node_that_is_alone_refuses_a_damaged_log_and_changes_nothing(tmp_path):
    effects = records(5)
    (segment,) = written(tmp_path / "streams", effects)
    overwrite(segment, segment.read_bytes().index(effects[2].record), bytes(100))
    before = segment.read_bytes()
    store = RecordStore(tmp_path / "streams", alone=True)
    with pytest.raises(LogDamaged):
        store.end(STREAM)
    assert segment.read_bytes() == before
    assert not (tmp_path / "damaged").exists()
    store.close()
