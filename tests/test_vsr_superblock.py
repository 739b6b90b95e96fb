"""The superblock: what the copies agree on, and what is refused."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import POINT, ROOT, chain, first_block
from veritydb.vsr.superblock import (
    COPIES,
    COPY_SIZE,
    SuperblockDamaged,
    as_copy,
    encode,
    first_superblock,
    open_copies,
    read_copy,
    superblock_checksum,
)

FIRST = first_block()
HEADERS = tuple(entry.header for entry in reversed(chain(3)))
SECOND = first_block(
    sequence=2, parent=superblock_checksum(encode(FIRST)), view=3, log_view=2, headers=(*HEADERS, None), head=3
)


def copies(*blocks):
    return [as_copy(encode(block), number) if block is not None else None for number, block in enumerate(blocks)]


def test_what_is_written_is_read():
    assert open_copies(copies(SECOND, SECOND, SECOND, SECOND)) == (SECOND, True)


def test_a_rotten_copy_changes_nothing_and_is_noticed():
    rotten = copies(SECOND, SECOND, SECOND, SECOND)
    rotten[1] = rotten[1][:-1] + b"?"
    assert open_copies(rotten) == (SECOND, False)


@pytest.mark.parametrize("written", range(5))
def test_a_crash_between_two_copies_leaves_one_of_the_two_superblocks(written):
    found, complete = open_copies(copies(*[SECOND] * written, *[FIRST] * (COPIES - written)))
    assert found == (SECOND if written >= 2 else FIRST)
    assert complete == (written in (0, 4))


def test_the_newest_single_copy_does_not_count():
    assert open_copies(copies(SECOND, None, FIRST, FIRST))[0] == FIRST


def test_a_copy_in_anothers_place_counts_once():
    block = encode(FIRST)
    with pytest.raises(SuperblockDamaged, match="no two of 4 copies agree"):
        open_copies([as_copy(block, 0), as_copy(block, 0), None, None])


def test_two_superblocks_with_one_number_are_refused():
    other = SECOND._replace(view=9)
    for held in combinations(range(COPIES), 2):
        with pytest.raises(SuperblockDamaged, match="one sequence number"):
            open_copies(copies(*(SECOND if number in held else other for number in range(COPIES))))


def test_a_superblock_that_does_not_follow_the_one_before_is_refused():
    with pytest.raises(SuperblockDamaged, match="does not follow"):
        open_copies(copies(SECOND._replace(parent=bytes(16)), SECOND._replace(parent=bytes(16)), FIRST, FIRST))


@pytest.mark.parametrize("change", [{"view": 9, "log_view": 0}, {"epoch": 2}, {"checkpoint": POINT._replace(op=5)}])
def test_a_superblock_that_knows_less_than_an_older_one_is_refused(change):
    older = FIRST._replace(**change)
    newer = SECOND._replace(parent=superblock_checksum(encode(older)))
    with pytest.raises(SuperblockDamaged, match="knows less"):
        open_copies(copies(newer, newer, older, older))


def test_copies_of_another_member_are_refused():
    other = SECOND._replace(member=1)
    with pytest.raises(SuperblockDamaged, match="different clusters or members"):
        open_copies(copies(FIRST, FIRST, other, other))


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": b"short"},
        {"parent": b""},
        {"members": ()},
        {"members": (1, 1)},
        {"log_view": 7},
        {"headers": ()},
        {"headers": (None,)},
        {"head": 4},
        {"members": tuple(range(9))},
    ],
    ids=str,
)
def test_a_superblock_that_makes_no_sense_is_refused(change):
    block = SECOND._replace(**change)
    with pytest.raises(SuperblockDamaged, match="make no sense"):
        open_copies(copies(block, block, block, block))


def test_a_header_in_it_is_checked():
    broken = HEADERS[0]._replace(raw=bytes(128))
    block = SECOND._replace(headers=(broken,))
    with pytest.raises(SuperblockDamaged, match="make no sense"):
        open_copies(copies(block, block, block, block))


def test_one_that_does_not_fit_is_not_written():
    with pytest.raises(ValueError, match="does not fit"):
        encode(SECOND._replace(headers=HEADERS * 60))
    assert len(encode(SECOND)) < COPY_SIZE


@given(st.binary(max_size=200))
def test_other_bytes_are_no_copy(data):
    assert read_copy(data) is None
    with pytest.raises(SuperblockDamaged):
        open_copies([data] * COPIES)


@given(st.integers(0, len(encode(SECOND)) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_copy_goes_unnoticed(at, change):
    data = bytearray(encode(SECOND))
    data[at] ^= change
    found = read_copy(bytes(data))
    assert found is None or (found.checksum == superblock_checksum(encode(SECOND)) and 8 <= at < 12)


def test_a_member_whose_disk_was_lost_begins_in_a_later_view():
    block = first_superblock(cluster=bytes(16), member=1, members=(1, 2), root=ROOT.header, snapshot=b"", view=9)
    assert (block.view, block.log_view, block.head) == (9, 0, 0)
