"""What a replica lacks: headers, entries, snapshots, and what it does with pieces that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.groups import MEMBERS, at_a_checkpoint, entry_of, fetching, group, start_view
from tests.support.members import POINT, chain
from tests.support.stage import Stage
from veritydb.vsr.core import Status
from veritydb.vsr.effects import ReadDone
from veritydb.vsr.entry import Entry
from veritydb.vsr.messages import (
    GetHeaders,
    GetPrepare,
    GetSnapshot,
    Headers,
    JoinView,
    Prepare,
    Repair,
    SnapshotChunk,
    StartView,
    Suffix,
)

# ---- repair


def test_headers_that_nobody_asked_for_are_not_taken() -> None:
    stage = group()
    stranger = chain(2, view=1)
    assert stage.hear(0, Headers(0, 1, 1, (stranger[1].header, stranger[0].header))) == []
    assert stage.replicas[0].head == 1


def test_headers_are_taken_as_far_as_they_connect_and_asked_for_in_pieces() -> None:
    stage = group("cut 1->0", options="headers_max=6")
    for name in "abcdefgh":
        stage.play(f"ask 1 {name}", "pass 1")
    stage.play("heal", "expire 1 heartbeat", "deliver 1->0", "expire 0 getview_resend", "deliver 0->1")
    replica = stage.replicas[0]
    assert stage.play("deliver 1->0")[0].endswith("GetHeaders 3 to 8")

    strangers = tuple(entry.header for entry in reversed(chain(8, view=1, body=b"another")))
    stage.hear(0, Headers(0, 1, 1, strangers))
    assert replica.chain_min == 9, "none of them connects"
    known = stage.replicas[1].headers
    stage.hear(0, Headers(0, 1, 1, (known[8], known[7])))
    assert replica.chain_min == 7
    assert replica._timers["repair"] == 1, "the next piece is asked for at once"
    stage.hear(0, Headers(0, 1, 1, tuple(known[op] for op in (8, 7, 6, 5, 4))))
    assert replica.chain_min == 4
    assert stage.hear(0, GetHeaders(0, 1, 2, 2, 3)) == [], "these it has not got itself"
    stage.play("pass 12")
    assert replica.commit_min == 9


def test_headers_are_sent_as_far_as_they_are_here() -> None:
    stage = group("ask 1 a", "pass 6")
    replica = stage.replicas[0]
    assert stage.hear(0, GetHeaders(0, 1, 2, 1, 2)) == ["0 -> 2  Headers 2@1 1@1"]
    assert stage.hear(0, GetHeaders(0, 1, 2, 3, 9)) == []
    assert stage.hear(0, GetHeaders(0, 1, 2, 2, 1)) == []
    del replica.headers[1]
    assert stage.hear(0, GetHeaders(0, 1, 2, 0, 2)) == ["0 -> 2  Headers 2@1 1@1 0@0"], "its entry is on disk"
    replica.durable[1] = None
    assert stage.hear(0, GetHeaders(0, 1, 2, 0, 2)) == ["0 -> 2  Headers 2@1"]
    assert stage.hear(0, GetHeaders(0, 1, 2, 0, 1)) == []


def _with_little_memory(*lines: str) -> Stage:
    return group("ask 1 a", "pass 6", "ask 1 b", "pass 6", *lines, options="cached_max=1")


def test_an_entry_is_read_for_who_asks() -> None:
    stage = _with_little_memory()
    header = stage.replicas[0].headers[2]
    assert 2 not in stage.replicas[0].bodies
    ask = GetPrepare(0, 1, 2, 2, header.checksum)
    assert stage.hear(0, ask) == ["0 reads the entry in slot 2", "0 -> 2  Repair 2@1"]
    assert stage.hear(0, ask._replace(checksum=bytes(16))) == []
    assert stage.hear(0, GetPrepare(0, 1, 2, 3, stage.replicas[0].headers[3].checksum)) == ["0 -> 2  Repair 3@1"]


def test_no_more_entries_are_read_at_once_than_are_allowed() -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    ask = GetPrepare(0, 1, 2, 2, replica.headers[2].checksum)
    replica.options = replica.options._replace(repairs_max=0)
    assert stage.hear(0, ask) == []


@pytest.mark.parametrize("found", [None, b"neither an entry nor blank", "another entry"])
def test_what_has_rotted_is_found_when_it_is_read_and_is_got_back(found: Any) -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    stage.disks[0].entries[2] = stage.disks[1].entries[3] if found == "another entry" else found
    stage.hear(0, GetPrepare(0, 1, 2, 2, replica.headers[2].checksum))

    assert replica.faulty == {2}
    assert replica._durable_checksum(2) is None
    told = stage.play("pass 8")
    assert told == []
    assert not replica.faulty
    assert stage.disks[0].entries[2] == stage.disks[1].entries[2]


def test_what_has_rotted_and_nobody_else_has_does_not_hold_up_what_comes() -> None:
    stage = _with_little_memory("ask 1 c", "pass 6")
    for disk in stage.disks.values():
        disk.entries[2] = None
    stage.hear(0, GetPrepare(0, 1, 2, 2, stage.replicas[0].headers[2].checksum))
    for name in "defghijklmn":
        stage.play(f"ask 1 {name}", "pass 2")
    stage.play("pass 6")
    assert stage.replicas[0].faulty == {2}
    assert stage.replicas[0].commit_min == stage.replicas[1].commit_min == 15


def test_what_is_below_the_checkpoint_and_has_rotted_is_not_asked_for() -> None:
    lines = [line for name in "abcdefghi" for line in (f"ask 1 {name}", "pass 2")]
    stage = group(*lines, options="cached_max=1 checkpoint_interval=5 slots=24")
    replica = stage.replicas[0]
    assert replica.checkpoint.op == 5
    stage.disks[0].entries[4] = None
    stage.hear(0, GetPrepare(0, 1, 2, 4, replica.headers[4].checksum))
    assert replica.faulty == {4}
    assert not replica._unwritten


def test_what_is_read_and_was_replaced_meanwhile_has_not_rotted() -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    replica._read_entry(2, 2, bytes(16))
    (token,) = replica._serving
    replica._out.clear()
    assert stage.happen(0, ReadDone(token, None)) == []
    assert not replica.faulty
    assert stage.happen(0, ReadDone(token, None)) == [], "a read that nobody asked for"


def test_a_recalled_entry_that_is_here_already_is_not_taken_twice() -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    replica._read_entry(None, 2, replica.headers[2].checksum)
    (token,) = replica._serving
    replica._out.clear()
    stage.happen(0, ReadDone(token, stage.disks[0].entries[2]))
    assert 2 not in replica.bodies, "it is applied: nobody needs it"


def test_an_op_is_recalled_once() -> None:
    stage = group("ask 1 a", "deliver 1->0", "deliver 0->1", "expire 1 heartbeat")
    replica = stage.replicas[0]
    del replica.bodies[2]
    replica.commit_max = 2
    replica._apply()
    replica._apply()
    assert len(replica._serving) == 1
    replica._serving.clear()
    replica._out.clear()


def test_entries_behind_one_that_is_recalled_are_read_with_it() -> None:
    stage = group("ask 1 a", "ask 1 b", "ask 1 c", "deliver 1->0")
    replica = stage.replicas[0]
    del replica.bodies[2], replica.bodies[3]
    replica.commit_max = replica.head
    replica._apply()
    assert [serving.op for serving in replica._serving.values()] == [2, 3]
    replica._serving.clear()
    replica._out.clear()


def test_when_all_entries_that_were_asked_for_have_come_the_next_ones_are_asked_for_at_once() -> None:
    stage = group("cut 1->0", options="repairs_max=2")
    for name in "abcdef":
        stage.play(f"ask 1 {name}", "pass 1")
    stage.play("heal", "expire 1 heartbeat", "deliver 1->0", "expire 0 getview_resend", "deliver 0->1", "deliver 1->0")
    replica = stage.replicas[0]
    known = stage.replicas[1].headers
    stage.hear(0, Headers(0, 1, 1, tuple(known[op] for op in (6, 5, 4, 3, 2))))
    stage.play("expire 0 repair", "drop")
    for op, at_once in ((2, False), (3, True)):
        stage.hear(0, Repair(0, 1, 1, entry_of(stage, 1, op)))
        assert (replica._timers["repair"] == 1) is at_once


def test_a_group_of_one_has_nobody_to_ask() -> None:
    stage = group("ask 0 a", "expire 0 repair", size=1)
    assert stage.replicas[0].commit_min == 2


# ---- snapshots


def test_the_last_two_snapshots_are_given_to_who_asks() -> None:
    stage = at_a_checkpoint()
    replica = stage.replicas[0]
    assert replica.checkpoint.op == 10
    before = replica.snapshot_before
    assert before is not None
    size = replica.checkpoint.size
    assert stage.hear(0, GetSnapshot(0, 1, 2, replica.checkpoint.root, 0)) == [
        f"0 -> 2  SnapshotChunk 0 to {size} of {size}"
    ]
    assert stage.hear(0, GetSnapshot(0, 1, 2, before[0], 0)) == [
        f"0 -> 2  SnapshotChunk 0 to {len(before[1])} of {len(before[1])}"
    ]
    assert stage.hear(0, GetSnapshot(0, 1, 2, replica.checkpoint.root, size)) == [], "there is no more"
    assert stage.hear(0, GetSnapshot(0, 1, 2, bytes(16), 0)) == []


def test_pieces_of_snapshots_that_are_not_fetched_are_not_taken() -> None:
    stage = group()
    assert stage.hear(0, SnapshotChunk(0, 1, 1, bytes(16), 0, 3, b"abc")) == []
    assert not stage.replicas[0]._fetched


def test_a_snapshot_with_a_piece_of_another_is_fetched_from_the_beginning() -> None:
    stage, point = fetching()
    told = stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 0, point.size, bytes(point.size)))
    assert len(told) == 1
    assert told[0].endswith("GetSnapshot from byte 0")
    assert stage.replicas[0].state is None
    told = stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 0, point.size, b"x"))
    assert told[0].endswith("GetSnapshot from byte 1")
    assert stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 0, point.size, b"x")) == [], "that piece is here"
    assert stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 1, point.size, b"")) == [], "it has not got it"
    stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 1, point.size, bytes(point.size)))
    told = stage.play("expire 0 sync")
    assert told[0].endswith("GetSnapshot from byte 0")
    stage.play("pass 12")
    assert stage.replicas[0].state is not None
    assert stage.replicas[0].commit_min == stage.replicas[1].commit_min


def test_a_snapshot_that_was_overtaken_is_not_installed() -> None:
    stage, point = fetching()
    replica = stage.replicas[0]
    snapshot = stage.replicas[1].snapshot
    assert snapshot is not None
    replica.state = stage.replicas[1].state  # As if another way had been found in the meantime.
    assert stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 0, point.size, snapshot)) == []
    assert replica._fetching is None


def test_a_snapshot_that_is_being_fetched_is_not_begun_anew() -> None:
    stage, point = fetching()
    replica = stage.replicas[0]
    replica._fetch(point)
    assert replica._out == []
    assert replica._fetching == point


def test_it_can_be_seen_which_outputs_a_checkpoint_waits_for() -> None:
    replica = group().replicas[0]
    assert replica.retention_due == 0
    op = replica.commit_min
    replica._next_checkpoint, replica.retained = POINT._replace(op=op), op - 1
    assert replica.retention_due == op
    replica.retained = op
    assert replica.retention_due == 0


def test_a_checkpoint_of_ones_own_goes_before_one_that_is_being_fetched() -> None:
    """Member 0 fetches a snapshot, and then the ops come that it had asked for before."""
    stage = group(options="checkpoint_interval=5 slots=24 pipeline_max=4 cached_max=24")
    stage.play(
        "cut 1->0 2->0", *[line for name in "abcdefghi" for line in (f"ask 1 {name}", "pass 2")], "slow 0 snapshot"
    )
    replica, other = stage.replicas[0], stage.replicas[1]
    assert (replica.commit_min, other.commit_min, other.checkpoint.op) == (1, 10, 10)
    assert other.snapshot is not None
    ops = [other.bodies[op] for op in range(2, 11)]
    stage.hear(0, StartView(0, 1, 1, 10, 9, tuple(entry.header for entry in ops[:6:-1]), POINT, 0, MEMBERS))
    stage.hear(0, Headers(0, 1, 1, tuple(entry.header for entry in reversed(ops))))
    replica._sync = replica._fetching = None
    replica._sync_to(StartView(0, 1, 1, 10, 10, (ops[-1].header,), other.checkpoint, 0, MEMBERS))
    replica._out.clear()
    stage.hear(0, SnapshotChunk(0, 1, 1, other.checkpoint.root, 0, len(other.snapshot), other.snapshot))
    assert replica._next_checkpoint == other.checkpoint
    for entry in ops:
        stage.hear(0, Repair(0, 1, 1, entry))
    assert replica.commit_min == replica.op_max == 9
    assert replica._next_checkpoint is not None
    assert replica._next_checkpoint.op == 5
    stage.play("finish 0 1")
    assert replica._get_view_due, "what was fetched is durable; a view change would wait for it"
    stage.play("heal", "release 0", "pass 40")
    assert replica.checkpoint == other.checkpoint
    assert replica.commit_min == 10


def test_a_snapshot_that_comes_while_the_superblock_is_written_with_ones_own_is_asked_for_again() -> None:
    stage = at_a_checkpoint()
    replica = stage.replicas[0]
    snapshot = stage.replicas[1].snapshot
    assert snapshot is not None
    replica._next_due = True
    replica._snapshot_fetched(stage.replicas[1].checkpoint, snapshot)
    assert replica._next_checkpoint is None
    assert replica._get_view_due


def test_a_snapshot_whose_view_is_over_when_it_is_durable_waits_for_the_next_views_primary() -> None:
    lines = [line for name in "abcdefghijklmnop" for line in (f"ask 1 {name}", "pass 2")]
    stage = group("crash 0", *lines, "start 0", "slow 0 snapshot", options="checkpoint_interval=5 slots=24")
    stage.play("pass 20")
    replica = stage.replicas[0]
    assert len(stage.held[0] or ()) == 1
    stage.play("crash 1")
    stage.hear(0, JoinView(0, 2, 1, 1, 17, 17, 17, POINT, Suffix((stage.replicas[2].headers[17],), 1, 0)))
    assert replica.view == 2
    stage.play("finish 0")
    assert replica.checkpoint.op == 0
    assert replica._next_checkpoint is None
    stage.play("release 0", "pass 120")
    assert replica.status is Status.NORMAL
    assert replica.commit_min == stage.replicas[2].commit_min


def test_bodies_that_came_back_late_go_with_the_checkpoint() -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    stage.disks[0].entries[2] = None
    stage.hear(0, GetPrepare(0, 1, 2, 2, replica.headers[2].checksum))
    stage.play("pass 10")
    assert 2 in replica.bodies, "though it is applied"
    stage.play(*[line for name in "cdefgh" for line in (f"ask 1 {name}", "pass 4")])
    assert replica.checkpoint.op == 8
    assert 2 not in replica.bodies


def test_what_is_known_to_have_rotted_is_not_read_again() -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    replica.durable[1 + replica._scrub_op % 3] = None
    replica.durable[1] = replica.durable[2] = replica.durable[3] = None
    assert stage.play("expire 0 scrub") == []


def test_a_started_view_reminds_who_has_lost_its_snapshot() -> None:
    stage, point = fetching()
    replica = stage.replicas[0]
    replica._fetching = None
    ten = Entry(replica.headers[10], b"")
    told = stage.hear(0, start_view(2, [ten], commit=10, point=point))
    assert any("GetSnapshot" in line for line in told)


def test_a_prepare_that_comes_a_lap_late_does_not_take_the_slot_of_the_op_that_has_it_now() -> None:
    """Seed 980001544: it was of this view, and its header was known still; what stood in its slot was acknowledged."""
    stage = group("ask 1 a", "pass 2", options="checkpoint_interval=5 slots=24 pipeline_max=4")
    late = entry_of(stage, 1, 2)
    for number in range(24):
        stage.play(f"ask 1 c{number}", "pass 2")
    replica = stage.replicas[0]
    assert replica.head == replica.commit_min == 26
    replica.headers[2] = late.header  # It goes with the next checkpoint, which may be long in coming.
    before = list(stage.disks[0].entries)
    stage.hear(0, Prepare(0, 1, 1, late, 2))
    assert stage.disks[0].entries == before
    assert replica.durable[2] == replica.headers[26]
