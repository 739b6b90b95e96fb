"""What a journal's bytes mean after a crash: torn, rotten, whole."""

from __future__ import annotations

import pytest

from tests.support.members import OPTIONS, ROOT, Disk, chain, first_block, following
from veritydb.vsr.messages import Checkpoint
from veritydb.vsr.recovery import blank, op_cap, recover
from veritydb.vsr.superblock import SuperblockDamaged

BLOCK = first_block(view=1, log_view=1)
LOG = chain(4)


def disk(entries=LOG, block=BLOCK):
    made = Disk(block)
    for entry in entries:
        made.write(entry)
    return made


def opened(made, block=BLOCK):
    return recover(made.image(), block, OPTIONS)


def test_a_whole_log_is_found():
    journal = opened(disk())
    assert journal.head == 4
    assert not journal.faulty
    assert not journal.head_uncertain
    assert [journal.headers[op].op for op in range(5)] == [0, 1, 2, 3, 4]
    assert journal.durable[4] == LOG[3].header
    assert journal.entries[3] == LOG[2]


def test_a_write_that_was_torn_was_never_acknowledged():
    made = disk()
    made.entries[5] = following(LOG[3], body=b"long").raw[:-2]
    journal = opened(made)
    assert (journal.head, journal.faulty, journal.head_uncertain) == (4, set(), False)


def test_a_write_that_could_not_be_read_back_counts_as_torn_only_above_everything():
    made = disk()
    made.entries[5] = None
    assert opened(made).faulty == set()
    made = disk()
    made.entries[2] = None
    assert opened(made).faulty == {2}


def test_what_was_acknowledged_and_has_rotted_is_not_denied():
    made = disk()
    made.entries[4] = b"rotten"
    journal = opened(made)
    assert (journal.head, journal.faulty, journal.head_uncertain) == (4, {4}, False)


def test_both_places_rotten_make_the_head_uncertain():
    made = disk()
    made.entries[4] = made.headers[4] = b"rotten"
    journal = opened(made)
    assert (journal.head, journal.head_uncertain) == (3, True)


def test_a_crash_between_the_two_writes_leaves_an_entry_to_write_again():
    made = disk(LOG[:3])
    made.write(LOG[3], header_too=False)
    journal = opened(made)
    assert (journal.head, journal.faulty, journal.unfinished) == (4, {4}, {4})
    assert not journal.head_uncertain


def test_a_rotten_header_beside_a_whole_entry_is_written_again():
    made = disk()
    made.headers[3] = b"rotten"
    journal = opened(made)
    assert (journal.head, journal.faulty, journal.unfinished) == (4, {3}, {3})


def test_a_lost_entry_write_is_seen_by_the_header():
    made = disk()
    made.entries[3] = blank(3)
    journal = opened(made)
    assert (journal.head, journal.faulty) == (4, {3})


def test_a_misdirected_entry_is_no_entry():
    made = disk()
    made.entries[2] = LOG[2].raw
    journal = opened(made)
    assert (journal.head, journal.faulty) == (4, {2})


def test_a_misdirected_header_and_another_clusters_are_no_headers():
    made = disk()
    made.headers[2] = LOG[2].header.raw
    assert opened(made).unfinished == {2}
    strange = first_block(view=1, log_view=1, cluster=bytes(16))
    with pytest.raises(SuperblockDamaged, match="does not continue"):
        recover(disk().image(), strange._replace(checkpoint=strange.checkpoint._replace(checksum=bytes(16))), OPTIONS)
    assert recover(disk().image(), strange, OPTIONS).head == 0


def test_two_versions_of_one_op_leave_it_open_which_is_newer():
    made = disk()
    newer = following(LOG[2], view=2)
    made.write(newer, header_too=False)
    journal = opened(made)
    assert journal.faulty == {4}


def test_a_header_that_was_taken_back_makes_a_torn_rewrite_deniable():
    made = disk()
    made.headers[4] = blank(4)
    made.entries[4] = b"torn"
    journal = opened(made)
    assert (journal.head, journal.faulty, journal.head_uncertain) == (3, set(), False)


def test_everything_from_the_lowest_torn_write_on_was_never_acknowledged():
    made = disk(LOG[:2])
    made.entries[3] = b"torn"
    made.write(LOG[3])
    journal = opened(made)
    assert (journal.head, journal.faulty, journal.head_uncertain) == (2, set(), False)
    assert journal.durable[4] is None


def test_a_torn_write_too_far_below_the_head_is_no_torn_write():
    log = chain(8)
    made = disk([*log[:2], *log[3:]])
    made.entries[3] = b"torn"
    journal = opened(made)
    assert journal.faulty == {3}
    assert journal.head_uncertain


def test_a_torn_write_below_a_header_that_was_torn_leaves_no_doubt():
    """Seed 23000043: three writes were under way when the power failed, and a group of one took that for damage."""
    made = disk(LOG[:2])
    made.entries[3] = b"torn"
    made.entries[4], made.headers[4] = LOG[3].raw, b"torn"
    journal = opened(made)
    assert not journal.faulty
    assert not journal.head_uncertain
    assert journal.head == 2


def test_a_torn_write_below_another_doubt_is_a_doubt():
    made = disk(LOG[:2])
    made.entries[3] = b"torn"
    made.entries[4] = made.headers[4] = b"rotten"
    journal = opened(made)
    assert journal.faulty == {3, 4}
    assert journal.head_uncertain


def test_what_another_view_left_beyond_its_end_is_no_part_of_the_log():
    block = first_block(view=3, log_view=3, headers=(LOG[1].header,), head=2)
    journal = opened(disk(block=block), block)
    assert (journal.head, journal.head_uncertain) == (2, False)
    assert journal.durable[3] is None


def test_what_this_view_has_added_is():
    added = following(LOG[1], view=3)
    block = first_block(view=3, log_view=3, headers=(LOG[1].header,), head=2)
    assert opened(disk([*LOG[:2], added], block), block).head == 3


def test_a_log_that_was_left_ends_where_it_was_left():
    block = first_block(view=4, log_view=1, headers=(LOG[2].header, LOG[1].header), head=3)
    journal = opened(disk(block=block), block)
    assert (journal.head, journal.head_uncertain) == (3, False)


def test_a_header_that_the_superblock_names_is_known_though_its_entry_never_came():
    block = first_block(view=2, log_view=2, headers=(LOG[3].header, LOG[2].header), head=4)
    journal = opened(disk(LOG[:2], block), block)
    assert (journal.head, journal.faulty) == (4, set())
    assert 4 not in journal.entries
    assert journal.headers[1] == LOG[0].header


def test_a_gap_in_the_chain_ends_what_is_known():
    block = first_block(view=2, log_view=2, headers=(LOG[3].header, None), head=4)
    made = disk(LOG[:2], block)
    journal = opened(made, block)
    assert sorted(journal.headers) == [4]


def test_an_orphan_without_its_header_is_forgotten():
    other = following(LOG[1], view=9)
    block = first_block(view=9, log_view=1, headers=(LOG[2].header,), head=3)
    made = disk(LOG[:2], block)
    made.write(other, header_too=False)
    journal = opened(made, block)
    assert journal.faulty == set()


def test_slots_beyond_what_the_checkpoint_allows_do_not_matter():
    made = disk()
    beyond = op_cap(0, OPTIONS) + 1
    made.entries[beyond] = made.headers[beyond] = b"rotten"
    made.entries[beyond + 1] = b"rotten"
    journal = opened(made)
    assert (journal.faulty, journal.head_uncertain) == (set(), False)


def test_a_rotten_header_of_a_slot_that_was_never_used_does_not_matter():
    made = disk()
    made.headers[7] = b"rotten"
    assert opened(made).faulty == set()


def test_a_torn_header_beside_an_entry_of_an_earlier_lap_does_not_matter():
    """Seed 930002562: the crash came with the lap before; a snapshot had moved the checkpoint since."""
    log = chain(32)
    point = BLOCK.checkpoint._replace(op=24, checksum=log[23].header.checksum)
    block = BLOCK._replace(checkpoint=point, headers=(log[23].header,), head=24)
    made = disk(log[24:], block)
    made.write(log[0], header_too=False)
    made.headers[1] = b"torn"
    journal = opened(made, block)
    assert op_cap(24, OPTIONS) > 33, "op 33 could be in slot 1"
    assert (journal.head, journal.faulty, journal.head_uncertain) == (32, set(), False)


def test_what_an_earlier_view_left_beside_a_torn_header_is_no_doubt():
    """Seed 930002503: the header of an op that a view gave up was torn; a group of one refused to start for it."""
    block = BLOCK._replace(view=2, log_view=2, headers=(LOG[2].header,), head=3)
    made = disk(block=block)
    made.headers[4] = b"torn"
    journal = opened(made, block)
    assert (journal.head, journal.faulty, journal.head_uncertain) == (3, set(), False)
    assert opened(made).faulty == {4}, "in the view that it is of, it may have been acknowledged"
    left = block._replace(log_view=1)
    assert opened(made, left).faulty == {4}, "and it may have been in a view that was left"


def test_an_entry_that_was_torn_over_one_that_its_view_gave_up_was_never_acknowledged():
    """Seed 930002607: the header of the one given up still stood beside it, and was taken for the new one's."""
    block = BLOCK._replace(view=2, log_view=2, headers=(LOG[2].header,), head=3)
    made = disk(block=block)
    made.entries[4] = b"torn"
    journal = opened(made, block)
    assert (journal.head, journal.faulty, journal.head_uncertain) == (3, set(), False)
    assert opened(made).faulty == {4}


def test_a_log_that_does_not_continue_its_checkpoint_is_refused():
    strange = chain(3, after=following(ROOT, view=7))
    point = Checkpoint(1, LOG[0].header.checksum, BLOCK.checkpoint.root, BLOCK.checkpoint.size)
    block = first_block(view=1, log_view=1, checkpoint=point, headers=(strange[2].header,), head=4)
    with pytest.raises(SuperblockDamaged, match="does not continue"):
        opened(disk(strange, block), block)


def test_a_superblock_whose_log_ends_below_its_checkpoint_is_refused():
    point = BLOCK.checkpoint._replace(op=3)
    with pytest.raises(SuperblockDamaged, match="ends below"):
        opened(disk(), first_block(checkpoint=point))
