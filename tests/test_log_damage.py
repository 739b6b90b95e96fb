"""What is torn is cut, what is damaged is named, and the two are never mistaken for each other."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.logs import (
    SMALL,
    STREAM,
    append,
    commit,
    copied,
    header,
    poke,
    read_back,
    segment_path,
    tails,
    unsynced,
)
from veritydb.errors import LogDamaged, LogMismatch, LogUnavailable
from veritydb.log import Log, Place, Spill, Torn
from veritydb.log.record import (
    MAGIC,
    MAGIC_BEGUN,
    PREFIX_SIZE,
    SegmentHeader,
    pack_end,
    pack_prefix,
    pack_segment_header,
)
from veritydb.log.segment import CHUNK, StoredRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = [b"first part", b"2nd"]


@pytest.fixture
def log(folder: Path) -> Iterator[Log]:
    log = Log.create(folder, STREAM, segment_size=SMALL)
    yield log
    log.close()


def mended(folder: Path, floor: int = 0) -> tuple[Torn, list[bytes]]:
    """Cut what is torn, append two records, and return what the log has then, read by somebody else."""
    with contextlib.closing(Log.open(folder, floor=floor, segment_size=SMALL, files=unsynced())) as log:
        torn = log.torn
        assert torn is not None
        log.acquire()
        with pytest.raises(LogUnavailable, match="must be cut first"):
            append(log)
        assert log.torn == torn
        log.cut(torn)
        assert log.torn is None
        append(log, b"generation", transactions=0, generation=log.head.generation + 1)
        append(log, b"more")
        log.release()
    with contextlib.closing(Log.open(folder)) as log:
        assert log.torn is None
        return torn, tails(log)


@pytest.mark.parametrize("parts", [None, PARTS], ids=["small", "large"])
def test_a_record_torn_at_any_byte_is_cut(log: Log, folder: Path, tmp_path: Path, parts: list[bytes] | None) -> None:
    commit(log, b"one", b"two")
    commit(log, b"the last", parts=parts)
    log.close()
    last = list(log.records())[-1]
    start, end = last.place.position, last.end
    data = segment_path(folder).read_bytes()
    # The last byte may be padding, and then nothing is missing where only it is.
    meaning = len(data[:end].rstrip(b"\0"))
    for at in range(start, meaning):
        copy = copied(folder, tmp_path / "copy")
        poke(segment_path(copy), at, bytes(end - at))
        if not data[start:at].strip(b"\0"):
            with contextlib.closing(Log.open(copy)) as opened:
                assert opened.torn is None
                assert tails(opened) == [b"one", b"two"]
            continue
        torn, found = mended(copy)
        assert torn.position == start
        assert torn.length == len(data[start:at].rstrip(b"\0"))
        assert torn.segment_name == "00000000.seg"
        assert found == [b"one", b"two", b"generation", b"more"]


def test_a_file_that_ends_inside_the_last_record_is_cut_there(log: Log, folder: Path, tmp_path: Path) -> None:
    commit(log, b"one", b"two" * 50)
    log.close()
    last = list(log.records())[-1]
    for length in range(last.place.position, last.end - 7):
        copy = copied(folder, tmp_path / "copy")
        os.truncate(segment_path(copy), length)
        with contextlib.closing(Log.open(copy)) as opened:
            assert opened.head.next_offset == 1
            assert (opened.torn is None) == (length == last.place.position)
        if length % 40 == 0 and length > last.place.position:
            assert mended(copy)[1] == [b"one", b"generation", b"more"]


def test_sectors_that_arrived_without_their_record_are_cut(log: Log, folder: Path, tmp_path: Path) -> None:
    commit(log, b"one", b"x" * 2000)
    log.close()
    last = list(log.records())[-1]
    start = last.place.position
    for lost in (8, 512, 1024):
        copy = copied(folder, tmp_path / "copy")
        poke(segment_path(copy), start, bytes(lost))
        torn, found = mended(copy)
        assert "belong to no record" in torn.why
        assert found == [b"one", b"generation", b"more"]


@pytest.mark.parametrize("parts", [None, PARTS], ids=["small", "large"])
def test_a_flip_in_any_byte_of_any_record_is_found(
    log: Log, folder: Path, tmp_path: Path, parts: list[bytes] | None
) -> None:
    commit(log, b"one", b"tail", b"three")
    commit(log, b"four!", parts=parts)
    log.close()
    records = list(log.records())
    for record in records:
        place = record.place.position
        for at in range(place, record.end):
            copy = copied(folder, tmp_path / "copy")
            path = segment_path(copy)
            poke(path, at, bytes([path.read_bytes()[at] ^ (1 << at % 8)]))
            # Read without judging the end: it is named, with its place.
            with pytest.raises(LogDamaged) as caught:
                list(reading(copy, log))
            assert (caught.value.segment, caught.value.position) == (record.segment_name, place)
            assert caught.value.offset == record.header.first_offset
            # Opened: damage as well, unless it is the last one and nobody was told of it.
            if record is records[-1] and not parts_padding(record, at):
                with pytest.raises(LogDamaged, match="the database holds"):
                    Log.open(copy, floor=4)
                with contextlib.closing(Log.open(copy, floor=3)) as opened:
                    assert opened.torn is not None
                    assert opened.torn.position == place
            else:
                with pytest.raises(LogDamaged) as caught:
                    Log.open(copy)
                assert (caught.value.segment, caught.value.position) == ("00000000.seg", place)


def reading(folder: Path, log: Log) -> Iterator[StoredRecord]:
    """Read a copy up to the head the original has."""
    from veritydb.log.files import Files
    from veritydb.log.reading import Reader

    return Reader(Files(), str(folder), STREAM, read_only=True, mode=0o600).records(0, log.head)


def parts_padding(record: StoredRecord, at: int) -> bool:
    """Whether a byte only fills the record up: the hash says that the record is whole, so it was not torn."""
    header = record.header
    return at >= record.place.position + 256 + header.parts_length + header.tail_length


def test_a_flip_in_any_byte_of_a_segments_header_is_found(log: Log, folder: Path, tmp_path: Path) -> None:
    commit(log, *[b"x" * 500] * 10)
    log.close()
    for number in (0, 1):
        for at in range(128):
            copy = copied(folder, tmp_path / "copy")
            path = segment_path(copy, number)
            poke(path, at, bytes([path.read_bytes()[at] ^ 0x10]))
            with pytest.raises(LogDamaged) as caught, contextlib.closing(Log.open(copy, read_only=True)) as opened:
                list(opened.records())
            assert (caught.value.segment, caught.value.position) == (f"0000000{number}.seg", 0)


def test_a_flip_in_the_mark_at_a_segments_end_is_found_by_readers(log: Log, folder: Path, tmp_path: Path) -> None:
    commit(log, *[b"x" * 500] * 10)
    log.close()
    end = max(record.end for record in log.records() if record.place.segment == 0)
    for at in range(end, end + PREFIX_SIZE):
        copy = copied(folder, tmp_path / "copy")
        path = segment_path(copy)
        poke(path, at, bytes([path.read_bytes()[at] ^ 0x10]))
        with pytest.raises(LogDamaged) as caught, contextlib.closing(Log.open(copy, read_only=True)) as opened:
            list(opened.records())
        assert (caught.value.segment, caught.value.position) == ("00000000.seg", end)


def test_a_record_taken_out_or_put_elsewhere_is_found(log: Log, folder: Path) -> None:
    commit(log, b"aaaa", b"bbbb", b"cccc", b"dddd")
    log.close()
    records = list(log.records())
    data = segment_path(folder).read_bytes()
    size = records[1].end - records[1].place.position
    second, third, rest = (records[n].place.position for n in (1, 2, 3))
    for changed in (
        data[:second] + data[third:] + bytes(size),  # removed
        data[:second] + data[third:rest] + data[second:third] + data[rest:],  # swapped
        data[:third] + data[second:],  # repeated
    ):
        segment_path(folder).write_bytes(changed[: len(data)])
        with pytest.raises(LogDamaged, match="does not build on"):
            Log.open(folder)


def test_the_end_of_a_log_that_others_have_seen_is_missed_by_readers(log: Log, folder: Path) -> None:
    commit(log, b"one", b"two")
    second = list(log.records())[1].place.position
    os.truncate(segment_path(folder), second)
    with pytest.raises(LogDamaged, match="records that were there are gone"):
        list(log.records())


def test_a_record_before_an_unfinished_one_is_never_cut(log: Log, folder: Path) -> None:
    """Both the last records are bad; the second one was begun, so the first one had been acknowledged."""
    commit(log, b"one", b"two")
    commit(log, b"tail", parts=PARTS)
    log.close()
    two, three = list(log.records())[1:]
    poke(segment_path(folder), two.place.position + 300 - 44, b"!")
    poke(segment_path(folder), three.place.position, MAGIC_BEGUN)
    with pytest.raises(LogDamaged, match="a later record stands at byte"):
        Log.open(folder)


def test_a_later_record_is_found_across_the_borders_of_what_is_read_at_once(folder: Path) -> None:
    """The record after the bad one begins at each place around the border of two chunks."""
    with contextlib.closing(Log.create(folder, STREAM)) as log:
        commit(log, b"one")
        first = log.head.position
        for shift in range(0, 112, 8):
            length = CHUNK - 256 - shift
            commit(log, b"x" * length)
            begin = log.head
            commit(log, b"later")
            data = segment_path(folder).read_bytes()
            with contextlib.closing(Log.open(folder)) as other:
                poke(segment_path(folder), first + 300, b"!")
                with pytest.raises(LogDamaged, match=f"stands at byte {begin.position}"):
                    Log.open(folder)
                segment_path(folder).write_bytes(data)
                assert other.torn is None
            log.close()
            os.truncate(segment_path(folder), first)
            log = Log.open(folder)
        log.close()


def test_a_copy_of_the_log_inside_a_record_does_not_make_it_damage(log: Log, folder: Path) -> None:
    """A user may store the log's own file in a row, and the machine may stop while that is written."""
    commit(log, b"one", b"two")
    stolen = segment_path(folder).read_bytes()[128 : log.head.position]
    for shift in range(8):
        start = log.head.position
        commit(log, bytes(shift) + stolen + b"the end")
        poke(segment_path(folder), log.head.position - 16, b"?")
        log.close()
        log = Log.open(folder, segment_size=1 << 20)
        assert log.torn is not None
        assert log.torn.position == start
        log.acquire()
        log.cut(log.torn)
        log.release()
    log.close()
    assert read_back(folder) == [b"one", b"two"]


class TestBetweenSegments:
    """A process dies while it begins a segment; the next one finds each of the states that can leave."""

    def rolled(self, log: Log) -> tuple[int, bytes]:
        while log.head.position < SMALL:
            commit(log, b"x" * 500)
        end = log.head.position
        log.acquire()
        log.place()
        log.release()
        return end, segment_path(log.folder).read_bytes()[end : end + PREFIX_SIZE]

    def test_the_mark_names_the_next_segment_and_the_last_hash(self, log: Log) -> None:
        _, mark = self.rolled(log)
        assert mark == pack_end(1, log.head.hash)

    @pytest.mark.parametrize("kept", range(PREFIX_SIZE))
    def test_a_mark_torn_at_any_byte_is_written_again(self, log: Log, folder: Path, kept: int) -> None:
        end, mark = self.rolled(log)
        first_segment = next(iter(log.records())).place
        log.close()
        poke(segment_path(folder), end, bytes(PREFIX_SIZE))
        poke(segment_path(folder), end, mark[:kept])
        with contextlib.closing(Log.open(folder, start=first_segment, segment_size=SMALL)) as again:
            assert again.torn is None
            assert again.head == log.head
            commit(again, b"more")
        assert segment_path(folder).read_bytes()[end : end + PREFIX_SIZE] == mark
        assert read_back(folder)[-1] == b"more"

    def test_the_next_segments_name_is_durable_before_the_mark_is_written_again(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        log.close()
        poke(segment_path(folder), end, bytes(PREFIX_SIZE))
        files = unsynced()
        synced = files.fsync_dir
        seen: list[bytes] = []

        def fsync_dir(path: str) -> None:
            seen.append(segment_path(folder).read_bytes()[end : end + PREFIX_SIZE])
            synced(path)

        files.fsync_dir = fsync_dir
        with contextlib.closing(Log.open(folder, start=Place(0, 128), files=files)):
            assert seen == [bytes(PREFIX_SIZE)]

    def test_a_missing_mark_is_passed_by_readers_who_may_not_write(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        commit(log, b"more")
        poke(segment_path(folder), end, bytes(PREFIX_SIZE))
        assert read_back(folder, start=Place(0, 128))[-1] == b"more"
        assert not segment_path(folder).read_bytes()[end : end + PREFIX_SIZE].strip(b"\0")

    def test_a_handle_that_would_begin_the_segment_finds_it_begun(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        log.close()
        poke(segment_path(folder), end, bytes(PREFIX_SIZE))
        segment_path(folder, 1).rename(folder / "aside")
        with contextlib.closing(Log.open(folder, segment_size=SMALL)) as again:
            (folder / "aside").rename(segment_path(folder, 1))
            commit(again, b"more")
            assert again.head.segment == 1
        assert read_back(folder)[-1] == b"more"

    def test_rubbish_in_a_segment_found_begun_stops_the_append(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        log.close()
        poke(segment_path(folder), end, bytes(PREFIX_SIZE))
        poke(segment_path(folder, 1), 128, b"rubbish")
        segment_path(folder, 1).rename(folder / "aside")
        with contextlib.closing(Log.open(folder, segment_size=SMALL)) as again:
            again.acquire()
            (folder / "aside").rename(segment_path(folder, 1))
            with pytest.raises(LogUnavailable, match="must be cut first"):
                again.place()
            again.release()

    def test_more_than_a_torn_mark_before_the_next_segment_is_damage(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        log.close()
        for rubbish, why in ((b"x" * 60, "does not begin as a record"), (bytes(8) + b"x" * 60, "behind the last")):
            poke(segment_path(folder), end, rubbish)
            with pytest.raises(LogDamaged, match=why):
                Log.open(folder, start=Place(0, 128))

    def test_a_next_segment_that_does_not_continue_is_damage(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        log.close()
        segment_path(folder, 1).write_bytes(pack_segment_header(SegmentHeader(STREAM, 3, b"h" * 32, 1)))
        with pytest.raises(LogDamaged, match="does not continue"):
            Log.open(folder, start=Place(0, 128))
        with pytest.raises(LogDamaged, match="does not continue"):
            read_back(folder)
        assert end > 0

    def test_a_mark_that_leads_nowhere_is_damage(self, log: Log, folder: Path) -> None:
        self.rolled(log)
        log.close()
        segment_path(folder, 1).unlink()
        with pytest.raises(LogDamaged, match=r"00000001\.seg is missing"):
            Log.open(folder)

    def test_a_mark_of_another_record_is_damage_to_readers(self, log: Log, folder: Path) -> None:
        end, _ = self.rolled(log)
        log.close()
        poke(segment_path(folder), end, pack_end(1, b"h" * 32))
        with pytest.raises(LogDamaged, match="mark at the segment's end"):
            read_back(folder)


class TestWholeAndWrong:
    """Records whose hash fits and that no writer wrote: never torn."""

    def forged(self, log: Log, tail: bytes, parts: bytes = b"", **changed: object) -> bytes:
        data = header(log, tail, **changed)
        body = parts + tail
        prev = changed.get("prev_hash", log.head.hash)
        assert isinstance(prev, bytes)
        frame = pack_prefix(MAGIC, 208, len(body), hashlib.sha256(prev + data + body).digest()) + data + body
        return frame + bytes(-len(body) % 8)

    def refused(self, log: Log, frame: bytes, why: str) -> None:
        poke(segment_path(log.folder), log.head.position, frame)
        with pytest.raises(LogDamaged, match=why):
            log.acquire()
        assert not log.held
        with pytest.raises(LogDamaged, match=why):
            Log.open(log.folder)

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"prev_hash": b"h" * 32}, "does not build on"),
            ({"first_offset": 5}, "offset 5, not 1"),
            ({"timestamp": 0}, "time or generation"),
            ({"stream": b"o" * 16}, "another stream"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_record_that_does_not_belong_there(self, log: Log, changed: dict[str, object], why: str) -> None:
        commit(log, b"one", generation=2)
        self.refused(log, self.forged(log, b"forged", **changed), why)

    def test_a_generation_that_falls(self, log: Log) -> None:
        commit(log, b"one", generation=2)
        self.refused(log, self.forged(log, b"forged", generation=1), "time or generation")

    def test_padding_that_is_not_zero(self, log: Log) -> None:
        commit(log, b"one")
        self.refused(log, self.forged(log, b"12345")[:-3] + b"\0x\0", "fill the record up")

    def test_parts_that_do_not_have_the_digest_of_the_header(self, log: Log) -> None:
        with contextlib.closing(Spill(None)) as spill:
            spill.add(b"n" * 12, b"part")
            frame = self.forged(log, b"tail", spill.stored(0), part_count=1, parts_length=20, parts_digest=b"d" * 32)
        self.refused(log, frame, "not the ones the header names")

    @pytest.mark.parametrize(
        ("stored", "count", "why"),
        [
            (b"\5\0\0\0" + b"n" * 12 + b"part", 1, "longer than what is left"),
            (b"\xff\xff\xff\xff" + b"n" * 12 + b"part", 1, "longer than what is left"),
            (b"\3\0\0\0" + b"n" * 12 + b"part", 1, "shorter than their record says"),
        ],
    )
    def test_parts_that_do_not_add_up(self, log: Log, stored: bytes, count: int, why: str) -> None:
        digest = hashlib.sha256(stored).digest()
        frame = self.forged(log, b"tail", stored, part_count=count, parts_length=len(stored), parts_digest=digest)
        self.refused(log, frame, why)

    def test_lengths_beyond_the_file_are_not_believed(self, log: Log, folder: Path) -> None:
        commit(log, b"one")
        for changed in ({"tail_length": 1 << 30}, {"parts_length": 1 << 43, "part_count": 3}):
            data = header(log, b"", **changed)
            body = sum(value for name, value in changed.items() if name.endswith("length"))
            poke(segment_path(folder), log.head.position, pack_prefix(MAGIC, 208, body, b"h" * 32) + data)
            tracemalloc.start()
            log.acquire()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert log.torn is not None
            assert log.torn.why == "the file ends inside the record"
            assert peak < 4 << 20
            log.release()


def test_only_what_is_torn_can_be_cut(log: Log, folder: Path) -> None:
    commit(log, b"one")
    poke(segment_path(folder), log.head.position, b"rubbish")
    with contextlib.closing(Log.open(folder, read_only=True)) as reader:
        assert reader.torn is not None
        reader.acquire()
        with pytest.raises(LogMismatch):
            reader.cut(reader.torn)
        reader.release()
    log.acquire()
    torn = log.torn
    assert torn == (0, log.head.position, 7, "what stands there does not begin as a record does")
    with pytest.raises(LogMismatch):
        log.cut(torn._replace(length=8))
    with pytest.raises(LogUnavailable, match="must be cut first"):
        log.place()
    log.cut(torn)
    log.release()
    with pytest.raises(LogUnavailable, match="lock is not held"):
        log.cut(torn)
    commit(log, b"two")
    assert tails(log) == [b"one", b"two"]


def test_what_one_handle_cuts_another_sees_cut(log: Log, folder: Path) -> None:
    with contextlib.closing(Log.open(folder, segment_size=SMALL)) as other:
        commit(log, b"one")
        poke(segment_path(folder), log.head.position, b"rubbish")
        other.acquire()
        assert other.torn is not None
        other.release()
        log.acquire()
        assert log.torn is not None
        log.cut(log.torn)
        append(log, b"two")
        log.release()
        commit(other, b"three")
        assert other.torn is None
        commit(log, b"four")
        assert tails(other) == [b"one", b"two", b"three"]
        assert tails(log) == [b"one", b"two", b"three", b"four"]


def test_parts_that_rot_after_they_were_verified_are_named(log: Log, folder: Path) -> None:
    commit(log, b"tail", parts=[b"part" * 10])
    record = next(iter(log.records()))
    poke(segment_path(folder), record.place.position + 256, b"\xff")
    with pytest.raises(LogDamaged) as caught:
        list(record.parts())
    assert caught.value.position == record.place.position
    segment_path(folder).unlink()
    with pytest.raises(LogUnavailable, match="cannot be read"):
        list(record.parts())
