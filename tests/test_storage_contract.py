"""What a replica relies on of a storage: the same for a real folder and for the simulator's imaginary disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.storages import (
    BODY_MAX,
    CLUSTER,
    SLOTS,
    ImaginaryStorage,
    RealStorage,
    Storage,
    first_block,
    first_image,
)
from veritydb.vsr.effects import Write, WriteDone, Zone
from veritydb.vsr.entry import Entry, Kind, make_entry, read_entry, read_header
from veritydb.vsr.superblock import encode, open_copies, superblock_checksum


@pytest.fixture(params=["real", "imaginary"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = RealStorage(tmp_path) if request.param == "real" else ImaginaryStorage()
    yield made
    made.close()


def entry(op: int, size: int = 100, byte: bytes = b"x") -> Entry:
    return make_entry(
        kind=Kind.COMMANDS, cluster=CLUSTER, epoch=0, view=0, op=op, parent=bytes(16), commit=0, timestamp=1,
        body=byte * size,
    )  # fmt: skip


def test_a_new_storage_holds_what_it_was_made_with(storage: Storage) -> None:
    image, made = storage.start_again(), first_image()
    assert open_copies(image.superblock) == (first_block(), True)
    assert image.snapshots == made.snapshots
    for held, given in ((image.entries, made.entries), (image.headers, made.headers)):
        assert len(held) == SLOTS
        assert all((h or b"").startswith(g or b"?") for h, g in zip(held, given, strict=True))


@pytest.mark.parametrize("size", [0, 1, 100, 16 << 10, (16 << 10) - 128, (16 << 10) - 127, BODY_MAX])
def test_an_entry_that_was_reported_durable_is_there_after_a_crash(storage: Storage, size: int) -> None:
    written = entry(3, size)
    assert storage.write(Write(Zone.ENTRY, 3, written.raw, 1)) == [WriteDone(1, True)]
    assert read_entry(storage.read(Zone.ENTRY, 3) or b"") == written
    assert read_entry(storage.start_again().entries[3] or b"") == written
    assert read_entry(storage.read(Zone.ENTRY, 3) or b"") == written


def test_a_header_that_was_reported_durable_is_there_after_a_crash(storage: Storage) -> None:
    header = entry(5).header
    assert storage.write(Write(Zone.HEADER, 5, header.raw, 1)) == [WriteDone(1, True)]
    raw = storage.start_again().headers[5] or b""
    assert read_header(raw[: len(header.raw)]) == header


def test_a_shorter_entry_takes_the_place_of_a_longer_one(storage: Storage) -> None:
    storage.write(Write(Zone.ENTRY, 3, entry(3, 40_000).raw, 1))
    shorter = entry(11, 10)
    storage.write(Write(Zone.ENTRY, 3, shorter.raw, 2))
    assert read_entry(storage.start_again().entries[3] or b"") == shorter


def test_what_is_written_in_one_slot_touches_no_other(storage: Storage) -> None:
    written = {slot: entry(slot, BODY_MAX, bytes([65 + slot])) for slot in range(SLOTS)}
    tokens = iter(range(100))
    storage.write(*[Write(Zone.ENTRY, slot, it.raw, next(tokens)) for slot, it in written.items()])
    storage.write(*[Write(Zone.HEADER, slot, it.header.raw, next(tokens)) for slot, it in written.items()])
    again = entry(SLOTS + 3, BODY_MAX, b"z")
    storage.write(Write(Zone.ENTRY, 3, again.raw, 50), Write(Zone.HEADER, 3, again.header.raw, 51))
    written[3] = again
    image = storage.start_again()
    for slot, it in written.items():
        assert read_entry(image.entries[slot] or b"") == it
        assert read_header((image.headers[slot] or b"")[:128]) == it.header


def test_each_of_many_writes_is_reported_once(storage: Storage) -> None:
    block = first_block()._replace(sequence=2, parent=superblock_checksum(encode(first_block())))
    writes = [
        Write(Zone.HEADER, 1, entry(1).header.raw, 7),
        Write(Zone.SUPERBLOCK, 0, encode(block), 3),
        Write(Zone.ENTRY, 2, entry(2).raw, 5),
        Write(Zone.SNAPSHOT, b"r" * 16, b"snapshot", 4),
        Write(Zone.ENTRY, 3, entry(3).raw, 6),
    ]
    assert sorted(storage.write(*writes)) == [WriteDone(token, True) for token in (3, 4, 5, 6, 7)]
    image = storage.start_again()
    assert open_copies(image.superblock) == (block, True)
    assert read_entry(image.entries[3] or b"") == entry(3)
    assert image.snapshots[b"r" * 16] == b"snapshot"


def test_of_two_writes_to_one_place_the_later_one_stays(storage: Storage) -> None:
    storage.write(Write(Zone.ENTRY, 3, entry(3).raw, 1), Write(Zone.ENTRY, 3, entry(11).raw, 2))
    assert read_entry(storage.start_again().entries[3] or b"") == entry(11)


def test_a_superblock_has_four_copies_that_agree(storage: Storage) -> None:
    block = first_block()
    for sequence in range(2, 6):
        block = block._replace(sequence=sequence, view=sequence, parent=superblock_checksum(encode(block)))
        assert storage.write(Write(Zone.SUPERBLOCK, 0, encode(block), sequence)) == [WriteDone(sequence, True)]
        assert open_copies(storage.start_again().superblock) == (block, True)


def test_a_write_that_was_not_reported_leaves_the_places_beside_it_alone(storage: Storage) -> None:
    storage.write(Write(Zone.ENTRY, 2, entry(2).raw, 1), Write(Zone.ENTRY, 4, entry(4).raw, 2))
    storage.begin(Write(Zone.ENTRY, 3, entry(3, 30_000).raw, 3))
    storage.begin(Write(Zone.SNAPSHOT, b"r" * 16, b"snapshot", 4))
    image = storage.start_again()
    assert read_entry(image.entries[2] or b"") == entry(2)
    assert read_entry(image.entries[4] or b"") == entry(4)
    assert image.snapshots.get(b"r" * 16, b"snapshot") == b"snapshot"  # Whole or not at all.


def test_a_crash_in_a_superblock_leaves_one_that_was_whole(storage: Storage) -> None:
    old = first_block()
    new = old._replace(sequence=2, view=1, parent=superblock_checksum(encode(old)))
    storage.begin(Write(Zone.SUPERBLOCK, 0, encode(new), 1))
    block, _ = open_copies(storage.start_again().superblock)
    assert block in (old, new)


@pytest.mark.parametrize("size", [0, 1, 4096, 100_001])
def test_a_snapshot_is_found_by_its_root_until_it_is_removed(storage: Storage, size: int) -> None:
    root, data = b"\0/\n." + b"r" * 12, b"s" * size
    assert storage.write(Write(Zone.SNAPSHOT, root, data, 1)) == [WriteDone(1, True)]
    assert storage.read(Zone.SNAPSHOT, root) == data
    assert storage.start_again().snapshots[root] == data
    storage.remove(Zone.SNAPSHOT, root)
    storage.remove(Zone.SNAPSHOT, root)
    assert storage.read(Zone.SNAPSHOT, root) is None
    assert root not in storage.start_again().snapshots


def test_a_snapshot_that_is_not_there_cannot_be_had(storage: Storage) -> None:
    assert storage.read(Zone.SNAPSHOT, b"r" * 16) is None
