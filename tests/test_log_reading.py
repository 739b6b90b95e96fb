"""Reading from an offset, and the sidecars that say where to begin."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs import SMALL, STREAM, FaultyFiles, commit, poke, segment_path
from veritydb.errors import LogDamaged, LogUnavailable
from veritydb.log import Files, Log, Place
from veritydb.log.index import SPACING, Index, decode_index, encode_index, load_index, store_index
from veritydb.log.record import Malformed
from veritydb.log.segment import is_segment_name

if TYPE_CHECKING:
    from collections.abc import Iterator

U64 = st.integers(0, 2**64 - 1)


@pytest.fixture
def log(folder: Path) -> Iterator[Log]:
    """Five segments of 200 KiB, with records of 10 KiB and one of no transactions in ten."""
    log = Log.create(folder, STREAM, segment_size=200 << 10)
    for n in range(90):
        commit(log, bytes([n]) * 10_000, transactions=0 if n % 10 == 7 else 2)
    assert log.head.segment == 4
    yield log
    log.close()


def offsets(log: Log, start: int, **options: Place) -> list[int]:
    return [record.header.first_offset for record in log.records(start, **options)]


def test_any_offset_is_found(log: Log) -> None:
    every = [(r.header.first_offset, r.header.transaction_count) for r in log.records()]
    for start in range(log.head.next_offset + 2):
        assert offsets(log, start) == [first for first, count in every if first >= start or first + count > start]


def test_seeking_makes_a_sidecar_of_a_closed_segment(log: Log, folder: Path) -> None:
    assert not list(folder.glob("*.idx"))
    offsets(log, 100)
    assert [path.name for path in folder.glob("*.idx")] == ["00000002.idx"]
    index = load_index(Files(), str(folder / "00000002.idx"), 2)
    assert index is not None
    records = [record for record in log.records() if record.place.segment == 2]
    assert index.length == records[-1].end
    assert index.positions[0] == 128
    assert all(after - before >= SPACING for before, after in zip(index.positions, index.positions[1:], strict=False))
    by_place = {record.place.position: record for record in records}
    for offset, position, time in zip(index.offsets, index.positions, index.times, strict=True):
        assert (by_place[position].header.first_offset, by_place[position].header.timestamp) == (offset, time)
    assert not list(folder.glob("*.tmp"))


def test_a_sidecar_saves_reading(log: Log, folder: Path) -> None:
    def read(files: FaultyFiles) -> int:
        with contextlib.closing(Log.open(folder, files=files)) as other:
            before = files.calls
            next(iter(other.records(100)))
            return files.calls - before

    def never(*_: object) -> bool:
        return False

    without = read(FaultyFiles(never))
    assert read(FaultyFiles(never)) < without


@pytest.mark.parametrize("damage", [b"", b"VERITYIX", b"rubbish" * 20])
def test_a_damaged_sidecar_is_made_again(log: Log, folder: Path, damage: bytes) -> None:
    wanted = offsets(log, 100)
    path = folder / "00000002.idx"
    good = path.read_bytes()
    path.write_bytes(damage)
    assert offsets(log, 100) == wanted
    assert path.read_bytes() == good


def test_a_sidecar_that_lies_is_not_believed(log: Log, folder: Path) -> None:
    wanted = offsets(log, 100)
    path = folder / "00000002.idx"
    good = load_index(Files(), str(path), 2)
    assert good is not None
    for positions, first in (
        ((136, *good.positions[1:]), good.offsets),
        (tuple(at + 8 for at in good.positions), good.offsets),
        (tuple(reversed(good.positions)), good.offsets),
    ):
        path.write_bytes(encode_index(good._replace(positions=positions, offsets=first)))
        assert offsets(log, 100) == wanted


def test_a_folder_that_takes_no_sidecar_is_read_without(log: Log, folder: Path) -> None:
    wanted = offsets(log, 100)
    for call in ("open", "pwrite", "rename"):
        for path in folder.glob("*.idx"):
            path.unlink()
        files = Files()

        def refuse(first: str | int, *rest: Any, call: str = call) -> Any:
            # What is opened for writing besides the segments is the sidecar.
            if call == "open" and not str(first).endswith(".tmp"):
                return Files.open(first, *rest)
            raise OSError(errno.EROFS, "Read-only file system")

        with contextlib.closing(Log.open(folder, files=files)) as other:
            setattr(files, call, refuse)
            assert offsets(other, 100) == wanted
        assert not list(folder.glob("*.idx*"))


def test_a_log_that_cannot_be_read_says_so(log: Log, folder: Path) -> None:
    armed = False
    files = FaultyFiles(lambda name, _: armed and name == "pread")
    with contextlib.closing(Log.open(folder, files=files)) as other:
        armed = True
        for start in (0, 100):
            with pytest.raises(LogUnavailable, match="cannot be read"):
                list(other.records(start))


def test_damage_met_while_seeking_is_named(log: Log, folder: Path) -> None:
    poke(segment_path(folder, 2), 40, b"!")
    for start in (0, 100):
        with pytest.raises(LogDamaged, match="header is damaged") as caught:
            list(log.records(start))
        assert (caught.value.segment, caught.value.position) == ("00000002.seg", 0)


def test_a_segment_of_another_stream_is_damage(log: Log, folder: Path, tmp_path: Path) -> None:
    first = next(iter(log.records())).place
    with contextlib.closing(Log.create(tmp_path / "other", b"o" * 16, segment_size=SMALL)) as other:
        commit(other, b"x")
    segment_path(folder).write_bytes(segment_path(tmp_path / "other").read_bytes())
    with pytest.raises(LogDamaged, match="another stream"):
        list(log.records(0, place=first))
    with pytest.raises(LogDamaged, match="another stream"):
        list(log.records(0))


def test_a_segment_under_another_name_is_damage(log: Log, folder: Path) -> None:
    segment_path(folder, 1).replace(segment_path(folder, 2))
    with pytest.raises(LogDamaged, match="says that it is number 1"):
        list(log.records(100))


def test_a_reader_is_not_disturbed_by_what_is_appended_meanwhile(log: Log) -> None:
    reading = log.records(160)
    first = next(reading)
    head = log.head
    commit(log, b"more")
    assert [first, *reading][-1].hash == head.hash


def test_the_end_is_where_nothing_is_read(log: Log) -> None:
    end = Place(log.head.segment, log.head.position)
    assert offsets(log, log.head.next_offset, place=end) == []
    assert offsets(log, log.head.next_offset - 1, place=Place(7, 128)) == [log.head.next_offset - 2]


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    count = draw(st.integers(0, 20))

    def numbers() -> tuple[int, ...]:
        return tuple(draw(st.lists(U64, min_size=count, max_size=count)))

    positions = tuple(draw(st.lists(st.integers(0, 1000), min_size=count, max_size=count)))
    return Index(3, 8008, tuple(sorted(numbers())), tuple(8 * at for at in positions), numbers())


@given(indexes())
def test_an_index_comes_back_as_it_went(index: Index) -> None:
    assert decode_index(encode_index(index), 3) == index


@given(indexes(), U64)
def test_an_index_finds_the_last_entry_below_an_offset(index: Index, offset: int) -> None:
    below = [position for first, position in zip(index.offsets, index.positions, strict=True) if first < offset]
    assert index.find(offset) == (below[-1] if below else None)


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (Index(4, 100, (), (), ()), "does not fit"),
        (Index(3, 100, (1,), (), ()), "does not fit"),
        (Index(3, 100, (2, 1), (8, 16), (0, 0)), "out of order"),
        (Index(3, 100, (1,), (104,), (0,)), "out of order"),
        (Index(3, 100, (1,), (12,), (0,)), "out of order"),
    ],
)
def test_an_index_that_cannot_be_is_refused(index: Index, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        decode_index(encode_index(index), 3)


def test_a_file_that_is_too_large_for_an_index_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from veritydb.log import index as index_module

    path = str(tmp_path / "00000003.idx")
    store_index(Files(), path, Index(3, 100, (1,), (8,), (0,)), 0o600)
    assert load_index(Files(), path, 3) is not None
    monkeypatch.setattr(index_module, "SIZE_MAX", 50)
    assert load_index(Files(), path, 3) is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("00000000.seg", True),
        ("12345678.seg", True),
        ("0000000.seg", False),
        ("00000000.idx", False),
        ("00000000.seg.tmp", False),
        ("0000000x.seg", False),
        ("\u0660" * 8 + ".seg", False),
        ("lock", False),
    ],
)
def test_only_a_segments_name_is_one(name: str, answer: bool) -> None:
    assert is_segment_name(name) is answer


def test_an_index_whose_digest_fits_and_whose_message_does_not_is_refused() -> None:
    """Somebody has made it so: the digest is no signature."""
    for message in (b"", b"\xff" * 64):
        with pytest.raises(Malformed, match="is not what it should be"):
            decode_index(b"VERITYIX" + blake3(message).digest() + message, 0)
