"""Corners of a single replica: messages that are late, foreign or forged, and what may not happen happening.

What members do together is in ``tests/transcripts``.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.support.members import CLUSTER, OPTIONS, POINT, Disk, chain, first_block, following
from tests.support.stage import Stage
from veritydb.vsr.core import CannotStart, ProtocolError, Status
from veritydb.vsr.effects import Gone, ReadDone, Retained, Tick, WriteDone
from veritydb.vsr.entry import Entry, Kind, checksum
from veritydb.vsr.messages import (
    Checkpoint,
    Commit,
    GetHeaders,
    GetPrepare,
    GetSnapshot,
    Headers,
    JoinView,
    Ping,
    Prepare,
    PrepareOk,
    Repair,
    Request,
    SnapshotChunk,
    StartView,
    Suffix,
)
from veritydb.vsr.options import Options
from veritydb.vsr.replica import Replica

MEMBERS = (0, 1, 2)


def group(*lines: str, size: int = 3, options: str = "") -> Stage:
    """Return a group in view 1, whose primary is 1, after the lines of a script."""
    stage = Stage()
    if options:
        stage.command(f"options {options}")
    stage.play(f"group {size}", "quiet writes", *lines)
    return stage


def entry_of(stage: Stage, member: int, op: int) -> Entry:
    return stage.replicas[member].bodies[op]


def start_view(
    view: int, entries: list[Entry], *, commit: int = 1, point: Checkpoint = POINT, **more: Any
) -> StartView:
    """Return StartView with these entries, oldest first, as the log's end."""
    headers = tuple(entry.header for entry in reversed(entries))
    return StartView(0, view, MEMBERS[view % 3], headers[0].op, commit, headers, point, 0, MEMBERS)._replace(**more)


# ---- starting


def test_files_of_another_cluster_or_member_are_refused() -> None:
    image = Disk().image()
    for cluster, member in ((os.urandom(16), 0), (CLUSTER, 1)):
        with pytest.raises(CannotStart, match="another cluster or member"):
            Replica(cluster=cluster, member=member, image=image, seed=1)


def test_a_snapshot_that_is_whole_and_of_another_version_is_not_thrown_away() -> None:
    disk = Disk()
    root = checksum(b"of another version")
    disk.snapshots = {root: b"of another version"}
    disk.name(first_block(checkpoint=POINT._replace(root=root)))
    with pytest.raises(CannotStart, match="snapshot cannot be read"):
        Replica(cluster=CLUSTER, member=0, image=disk.image(), seed=1, options=OPTIONS)


@pytest.mark.parametrize(
    "options",
    [
        Options(pipeline_eager=9, pipeline_max=8),
        Options(pipeline_eager=0),
        Options(pipeline_max=8, checkpoint_interval=8),
        Options(slots=2 * 1024 + 2 * 8 - 1, checkpoint_interval=1024, pipeline_max=8),
        Options(headers_max=9, pipeline_max=8),
    ],
)
def test_sizes_with_which_the_protocol_would_not_be_safe_are_refused(options: Options) -> None:
    with pytest.raises(ValueError, match="must"):
        options.check()


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(pipeline_eager=1, pipeline_max=1, checkpoint_interval=2, slots=6, headers_max=3),
        Options(pipeline_eager=8, pipeline_max=8, checkpoint_interval=9, slots=34, headers_max=10),
    ],
)
def test_the_smallest_sizes_that_are_safe_are_allowed(options: Options) -> None:
    options.check()


# ---- requests


def test_a_full_queue_takes_no_more() -> None:
    stage = group("ask 1 a", "ask 1 b", "ask 1 c", options="pipeline_eager=1 queue_max=1")
    told = stage.play("pass 4")

    assert [line for line in told if "=>" in line] == [
        "1 => a  Reply to request 0, op 2",
        "1 => b  Reply to request 0, op 3",
    ]


def test_a_command_that_is_larger_than_an_op_may_be_is_not_taken() -> None:
    stage = group(options="body_max=512")
    stage.hear(1, Request(bytes(16), 0, 0, bytes(257), 0))

    assert not stage.replicas[1].queue
    assert not stage.replicas[1].oks
    stage.hear(1, Request(bytes(16), 0, 0, bytes(256), 0))
    assert stage.replicas[1].oks


def test_requests_share_an_op_as_far_as_they_fit() -> None:
    stage = group("ask 1 a", "ask 1 b", "ask 1 c", "ask 1 d", options="pipeline_eager=1 body_max=340")
    told = stage.play("pass 6")

    assert [line for line in told if "=>" in line] == [
        "1 => a  Reply to request 0, op 2",
        "1 => b  Reply to request 0, op 3",
        "1 => c  Reply to request 0, op 3",
        "1 => d  Reply to request 0, op 4",
    ]


def test_no_more_requests_share_an_op_than_are_allowed() -> None:
    stage = group("ask 1 a", "ask 1 b", "ask 1 c", options="pipeline_eager=1 batch_max=1")
    told = stage.play("pass 6")

    assert [line[-5:] for line in told if "=>" in line] == [" op 2", " op 3", " op 4"]


def test_who_is_not_primary_redirects_also_to_who_is_about_to_be() -> None:
    stage = group()
    assert stage.play("read 0 bob") == ["0 => bob  Redirect to 1"]

    stage.play("expire 0 suspect", "expire 2 suspect", "deliver 2->0")
    assert stage.replicas[0].status is Status.VIEW_CHANGE
    assert stage.play("read 0 bob") == ["0 => bob  Redirect to 2"]
    assert stage.play("ask 0 ann") == ["0 => ann  Redirect to 2"]
    assert stage.play("members 0 0 1") == ["0 => people  Redirect to 2"]


def test_no_more_reads_wait_than_are_allowed() -> None:
    stage = group("read 1 a", "read 1 b", "read 1 c", options="reads_max=1")
    told = stage.play("pass 6")

    assert [line.split()[2] for line in told if "=>" in line] == ["a", "b"]


# ---- preparing


def test_an_op_that_does_not_follow_in_one_view_is_a_fork() -> None:
    stage = group()
    (forged,) = chain(1, view=1, body=b"another")
    two = following(forged, view=1)
    assert two.header.op == 2

    told = stage.hear(0, Prepare(0, 1, 1, two, 1))
    assert told[0].startswith("0 halts: two logs of view 1")
    assert stage.hear(0, Prepare(0, 1, 1, two, 1)) == []


def test_what_was_kept_aside_and_does_not_follow_is_not_taken() -> None:
    stage = group()
    right = following(Entry(stage.replicas[0].headers[1], b""), view=1)
    (stranger,) = chain(1, view=1, body=b"another")
    wrong = following(following(stranger, view=1), view=1)
    stage.hear(0, Prepare(0, 1, 1, wrong, 1))
    stage.hear(0, Prepare(0, 1, 1, right, 1))

    assert stage.replicas[0].head == 2
    assert not stage.replicas[0]._ahead


def test_an_op_beyond_what_may_be_under_way_is_not_kept() -> None:
    stage = group()
    far = chain(1 + stage.options.pipeline_max + 1, view=1)[-1]
    stage.hear(0, Prepare(0, 1, 1, far, 1))

    assert not stage.replicas[0]._ahead
    assert "getview_resend" in stage.replicas[0]._timers


def test_an_old_op_whose_header_is_not_known_is_not_taken() -> None:
    stage = group("cut 1->0", "ask 1 a", "pass 1", "ask 1 b", "pass 1", "heal")
    two = entry_of(stage, 1, 2)
    stage.play("expire 1 heartbeat", "deliver 1->0", "expire 0 getview_resend", "deliver 0->1", "deliver 1->0")
    assert 2 not in stage.replicas[0].headers
    stage.hear(0, Prepare(0, 1, 1, two, 1))

    assert 2 not in stage.replicas[0].bodies


def test_an_op_that_is_sent_again_fills_a_gap_that_is_known() -> None:
    stage = group("ask 1 a", "drop 1->0", "ask 1 b", "deliver 1->0", "expire 0 getview_resend", "deliver 0->1")
    stage.play("deliver 1->0", "expire 1 prepare_retry")

    assert "0 -> 1  PrepareOk 2, view 1" in stage.play("deliver 1->0")


def test_messages_of_who_is_not_primary_of_their_view_are_not_obeyed() -> None:
    stage = group()
    commit = Commit(0, 2, 0, 1, stage.replicas[0].headers[1].checksum, 9, 0, POINT)
    assert stage.hear(1, commit) == []
    assert stage.hear(1, commit._replace(src=2)) == ["1 -> 2  GetView 2"]


def test_a_heartbeat_that_names_another_op_is_a_fork() -> None:
    stage = group()
    told = stage.hear(0, Commit(0, 1, 1, 1, bytes(16), 99, 0, POINT))
    assert told[0].startswith("0 halts: two logs of view 1")


def test_an_old_heartbeat_says_nothing_of_its_primarys_health() -> None:
    stage = group("expire 1 heartbeat", "deliver 1->0")
    before = dict(stage.replicas[0]._timers)
    stage.play("expire 0 suspect")
    stage.play("repeat 1->0 Commit")

    assert "suspect" in before
    assert "suspect" not in stage.replicas[0]._timers, "it would have begun anew"


# ---- acknowledging


def test_acknowledgements_of_strangers_and_of_other_ops_do_not_count() -> None:
    stage = group("ask 1 a")
    ok = PrepareOk(0, 1, 0, 2, stage.replicas[1].headers[2].checksum, 1, 0)
    stage.hear(1, ok._replace(src=7))
    stage.hear(1, ok._replace(checksum=bytes(16)))
    stage.hear(1, ok._replace(op=3))
    stage.hear(1, ok._replace(view=0))
    assert stage.replicas[1].oks == {2: {1}}
    assert "1 commits 2@1" in stage.hear(1, ok)


def test_a_new_primary_whose_ops_others_have_all_acknowledged_counts_itself_for_none_that_is_committed() -> None:
    """Of five, three others have both ops of the old view before the new primary has got the first."""
    stage = group("cut 1->2", "ask 1 a", "ask 1 b", "deliver", "drop", "crash 1", size=5)
    stage.play("heal", "expire 0 suspect", "expire 2 suspect", "expire 3 suspect", "deliver ExitView")
    stage.play("deliver JoinView")
    replica = stage.replicas[2]
    assert replica._start_sent
    stage.play("deliver StartView", "deliver PrepareOk")
    assert replica.oks[2] == replica.oks[3] == {0, 3, 4}
    assert replica.status is Status.VIEW_CHANGE
    for op in (3, 2):
        told = stage.hear(2, Repair(0, 2, 0, entry_of(stage, 0, op)))
    assert told[-3:] == ["2 commits 3@1", "2 => b  Reply to request 0, op 3", "2 -> 0 1 3 4  Prepare 4@2, committed 3"]


def test_an_acknowledgement_to_who_is_not_primary_is_nothing() -> None:
    stage = group("ask 1 a", "deliver 1->0")
    ok = PrepareOk(0, 1, 2, 2, stage.replicas[0].headers[2].checksum, 1, 0)
    assert stage.hear(0, ok) == []


def test_a_primary_whose_disk_is_slow_does_not_send_to_itself() -> None:
    stage = group("hold 1", "ask 1 a")
    assert stage.play("expire 1 prepare_retry") == ["1 -> 0 2  Prepare 2@1, committed 1"]


def test_an_op_that_is_on_disk_only_is_not_sent_again_from_memory() -> None:
    stage = group("ask 1 a")
    del stage.replicas[1].bodies[2]
    assert stage.play("expire 1 prepare_retry") == []
    assert "prepare_retry" in stage.replicas[1]._timers


def test_a_primary_that_is_heard_waits_for_acknowledgements_before_it_speaks_again() -> None:
    stage = group("cut 1->0 1->2", "ask 1 a", "expire 1 abdicate", "expire 0 ping", "deliver", "expire 1 deaf")
    assert "silent" in stage.play("show 1")[0]
    stage.play("expire 0 ping", "deliver", "expire 1 deaf")
    assert "silent" in stage.play("show 1")[0]


# ---- writing


def test_what_was_replaced_while_it_was_being_written_is_left() -> None:
    """Member 0 is writing op 2 of view 1 when view 2 begins, in which another op has its number."""
    for steps in (0, 1):  # The entry is being written; its header is.
        stage = group("hold 0", "ask 1 a", "deliver 1->0", f"finish 0 {steps}" if steps else "show 0", "drop")
        stage.play("crash 1", "expire 0 suspect")
        entry = following(Entry(stage.replicas[0].headers[1], b""), view=2)
        stage.hear(0, start_view(2, [entry]))
        stage.hear(0, Repair(0, 2, 2, entry))
        told = stage.play("finish 0")

        assert "0 -> 2  PrepareOk 2, view 2" in told
        assert stage.disks[0].headers[2] == entry.header.raw
        assert stage.disks[0].entries[2] == entry.raw


def test_a_header_that_was_taken_back_for_an_op_that_is_gone_leaves_its_slot_free() -> None:
    stage = group("cut 1->0 1->2 0->1 2->1", "ask 1 ann", "drop")
    one = Entry(stage.replicas[1].headers[1], b"")
    second, third = following(one, view=2), following(one, view=3)
    stage.hear(1, start_view(2, [second]))
    stage.play("hold 1")
    stage.hear(1, Repair(0, 2, 2, second))
    assert len(stage.held[1] or ()) == 1, "the header of op 2 of view 1 is being taken back"
    stage.hear(1, start_view(3, [third]))
    stage.play("finish 1")

    assert not stage.replicas[1]._slots_busy
    assert stage.replicas[1]._unwritten == {2}


def test_what_is_being_written_is_not_asked_for() -> None:
    stage = group("hold 0", "ask 1 a", "deliver 1->0")
    assert stage.play("expire 0 repair") == []


# ---- leaving a view


def test_a_primary_that_is_gone_is_not_waited_for() -> None:
    stage = group()
    assert stage.happen(0, Gone(2)) == []
    assert stage.happen(1, Gone(0)) == [], "a primary goes on without a backup"
    assert stage.happen(0, Gone(1)) == ["0 -> 1 2  ExitView 1"]


def test_nothing_is_asked_of_who_is_gone_until_it_is_heard_again() -> None:
    stage = group()
    replica = stage.replicas[0]
    stage.happen(0, Gone(2))
    assert {replica._peer() for _ in range(50)} == {1}
    stage.hear(0, GetHeaders(0, 1, 2, 1, 1))
    assert {replica._peer() for _ in range(50)} == {1, 2}
    stage.happen(0, Gone(1))
    stage.happen(0, Gone(2))
    assert {replica._peer() for _ in range(50)} == {1, 2}, "if all are, it may be wrong"


def test_a_started_view_is_told_again_until_its_log_is_complete() -> None:
    stage = group(
        "ask 1 a",
        "deliver 1->0",
        "deliver 0->1",
        "drop",
        "crash 1",
        "expire 0 suspect",
        "expire 2 suspect",
        "deliver 0->2",
    )
    stage.play("deliver 2->0", "deliver 0->2")
    assert stage.play("expire 2 join_resend") == ["2 -> 0 1  StartView 2: committed 1: 2@1 1@1"]


def test_a_primary_to_be_that_grew_tired_of_waiting_does_not_want_to_leave_its_own_view() -> None:
    stage = group("expire 0 suspect", "expire 2 suspect", "deliver 0->2", "expire 2 view_change")
    replica = stage.replicas[2]
    assert replica.exit_votes == {2}
    stage.play("deliver 2->0", "deliver 0->2")
    assert replica.status is Status.NORMAL
    assert replica.exit_votes == set()
    assert "exit_resend" not in replica._timers


def test_a_prepare_above_a_gap_is_a_sign_of_life_once() -> None:
    """Seed 28000191: a primary that heard nobody sent its last op again and again, and a member that lacked what comes
    before it took each for news: it could not go on itself, and did not let the others.
    """
    stage = group("cut 1->0", "ask 1 a", "pass 2", "heal", "ask 1 b", "drop 1->2")
    prepare = next(message for _, dst, message in stage.under_way if dst == 0 and type(message) is Prepare)
    assert prepare.entry.header.op == 3
    replica = stage.replicas[0]
    replica._timers["suspect"] = 2
    stage.hear(0, prepare)
    assert replica._timers["suspect"] > 2
    replica._timers["suspect"] = 2
    stage.hear(0, prepare)
    assert replica._timers["suspect"] == 2


# ---- what may not happen


@pytest.mark.parametrize(
    ("what", "value", "complaint"),
    [
        ("commit_max", 7, "commit points"),
        ("commit_min", 7, "commit points"),
        ("log_view", 2, "log_view above view"),
        ("headers", {}, "the header at the head"),
        ("view", 2, "normal without the view's log"),
        ("epoch", 1, "before the view is durable"),
        ("_entry_writes", 99, "too many writes"),
    ],
)
def test_a_broken_invariant_is_raised_and_nothing_is_done(what: str, value: object, complaint: str) -> None:
    stage = group()
    setattr(stage.replicas[0], what, value)
    with pytest.raises(ProtocolError, match=complaint):
        stage.replicas[0].check()


def test_a_log_with_an_uncommitted_end_beyond_the_pipeline_is_a_broken_invariant() -> None:
    stage = group()
    replica = stage.replicas[0]
    replica.head = replica.commit_max + replica.options.pipeline_max + 1
    with pytest.raises(ProtocolError, match="uncommitted end"):
        stage.happen(0, Tick())


def test_a_log_that_contradicts_what_is_committed_here_is_refused_loudly() -> None:
    stage = group("ask 1 a", "pass 6")
    told = stage.hear(0, start_view(2, chain(3, view=2), commit=2))
    assert sum("halts" in line for line in told) == 1, "it says so once, though two ops differ"
    assert "op 2 is committed here as" in told[0] or "op 1 is committed here as" in told[0]


def test_a_log_that_begins_above_what_is_committed_here_and_does_not_continue_it_is_refused_loudly() -> None:
    stage = group()
    stranger = chain(1, view=2)[0]
    told = stage.hear(0, start_view(2, [following(stranger, view=2)], commit=2))
    assert "does not continue what is committed here" in told[0]


def test_an_op_that_does_not_build_on_what_is_applied_is_not_applied() -> None:
    stage = group("ask 1 a", "deliver 1->0", "deliver 0->1", "expire 1 heartbeat")
    stage.replicas[0].commit_checksum = bytes(16)
    told = stage.play("deliver 1->0")
    assert told == ["0 halts: op 2 does not build on what is committed here"]


def test_who_has_applied_a_snapshot_knows_the_op_of_its_end_by_checksum() -> None:
    stage = group("ask 1 a", "pass 6")
    replica = stage.replicas[0]
    del replica.headers[1]
    two = replica.headers.pop(2)
    replica.headers[2] = two
    other = chain(3, view=2)
    del replica.headers[2]
    told = stage.hear(0, start_view(2, other[1:], commit=2))
    assert "another one is said to be in its place" in told[0]


def test_headers_below_what_is_applied_are_not_taken_again() -> None:
    stage = _at_a_checkpoint()
    replica = stage.replicas[0]
    nine, ten = replica.headers[9], replica.headers[10]
    del replica.headers[9]
    stage.hear(0, start_view(2, [Entry(nine, b""), Entry(ten, b"")], commit=10, point=replica.checkpoint))
    assert 9 not in replica.headers
    assert replica.halted is None


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


def test_what_connects_the_log_need_not_be_asked_for_where_it_is_on_disk() -> None:
    """Seed 650735274071: nobody had the header in memory any more, and the one who had its entry did not look."""
    stage = group(
        "ask 1 a", "deliver 1->0", "ask 1 b", "deliver 1->0", "cut 1->0", "pass 6", "ask 1 c", "ask 1 d", "pass 6"
    )
    replica, others = stage.replicas[0], stage.replicas[1].headers
    assert (replica.head, replica.commit_min, max(others)) == (3, 1, 5)
    stage.hear(0, start_view(4, [Entry(others[5], b"")], commit=5))
    assert (replica.chain_min, replica._unwritten) == (5, {5}), "it is not known what op 4 is"
    stage.hear(0, Headers(0, 4, 1, (others[4],)))
    assert (replica.chain_min, replica._unwritten) == (2, {4, 5})


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


def test_what_is_below_the_checkpoint_and_has_rotted_is_not_asked_for() -> None:
    lines = [line for name in "abcdefghi" for line in (f"ask 1 {name}", "pass 2")]
    stage = group(*lines, options="cached_max=1 checkpoint_interval=5 slots=24")
    replica = stage.replicas[0]
    assert replica.checkpoint.op == 5
    stage.disks[0].entries[4] = None
    stage.hear(0, GetPrepare(0, 1, 2, 4, replica.headers[4].checksum))
    assert replica.faulty == {4}
    assert not replica._unwritten


def test_nothing_is_acknowledged_above_an_op_that_never_was_here_though_its_slot_is_faulty() -> None:
    """Op 4 has rotted; op 28 is to have its slot, and op 29 is on disk before it."""
    lines = [line for number in range(26) for line in (f"ask 1 {number}", "pass 2")]
    stage = group(*lines, options="cached_max=1 checkpoint_interval=5 slots=24")
    replica = stage.replicas[0]
    assert (replica.head, replica.checkpoint.op) == (27, 25)
    held = replica.durable[4]
    assert held is not None
    stage.disks[0].entries[4] = None
    stage.hear(0, GetPrepare(0, 1, 2, 4, held.checksum))
    assert replica.faulty == {4}
    stage.play("hold 0", "ask 1 x", "deliver 1->0", "ask 1 y", "deliver 1->0")
    writes = stage.held[0]
    assert writes is not None
    assert [write.key for write in writes] == [4, 5]
    writes.reverse()
    stage.play("finish 0 1")
    writes.reverse()
    stage.play("finish 0 1")
    assert replica._durable_checksum(29) is not None
    assert not any(isinstance(message, PrepareOk) for _, _, message in stage.under_way)
    stage.play("release 0")
    assert [message.op for _, _, message in stage.under_way if isinstance(message, PrepareOk)] == [28, 29]


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


def _at_a_checkpoint() -> Stage:
    lines = [line for name in "abcdefghi" for line in (f"ask 1 {name}", "pass 2")]
    return group(*lines, "pass 6", options="checkpoint_interval=5 slots=24 chunk_size=4096")


def test_the_last_two_snapshots_are_given_to_who_asks() -> None:
    stage = _at_a_checkpoint()
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


def _fetching() -> tuple[Stage, Checkpoint]:
    """Return a group whose member 0 has lost its snapshot, and asks for it."""
    stage = _at_a_checkpoint()
    stage.play("crash 0", "rot 0 snapshot", "start 0", "drop")
    return stage, stage.replicas[0].checkpoint


def test_a_snapshot_with_a_piece_of_another_is_fetched_from_the_beginning() -> None:
    stage, point = _fetching()
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
    stage, point = _fetching()
    replica = stage.replicas[0]
    snapshot = stage.replicas[1].snapshot
    assert snapshot is not None
    replica.state = stage.replicas[1].state  # As if another way had been found in the meantime.
    assert stage.hear(0, SnapshotChunk(0, 1, 1, point.root, 0, point.size, snapshot)) == []
    assert replica._fetching is None


def test_a_snapshot_that_is_being_fetched_is_not_begun_anew() -> None:
    stage, point = _fetching()
    replica = stage.replicas[0]
    replica._fetch(point)
    assert replica._out == []
    assert replica._fetching == point


def test_a_snapshot_that_comes_while_ones_own_is_being_written_is_asked_for_again() -> None:
    """Member 0 is at its first checkpoint, and slow; the others have gone on to their third."""
    stage = group("slow 0 snapshot", options="checkpoint_interval=5 slots=24 pipeline_max=4")
    ask = [line for name in "abcdefgh" for line in (f"ask 1 {name}", "pass 2")]
    stage.play(*ask)
    replica = stage.replicas[0]
    assert replica.commit_min == replica.op_max == 9
    assert replica.checkpoint.op == 0
    own = replica._next_checkpoint
    assert own is not None
    stage.play("cut 1->0 2->0", *ask, "heal")
    assert stage.replicas[1].checkpoint.op == 15
    stage.play("pass 30")
    assert replica._next_checkpoint == own, "without it there is no room in the journal, whatever becomes of the other"
    stage.play("finish 0 1")
    assert replica.checkpoint == own
    stage.play("release 0", "pass 40")
    assert replica.checkpoint.op == 15
    assert replica.commit_min == stage.replicas[1].commit_min


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


def test_a_snapshot_that_was_fetched_waits_for_the_outputs_of_what_has_been_applied_since() -> None:
    stage = group("slow 0 snapshot", options="checkpoint_interval=5 slots=24 pipeline_max=4")
    stage.play(*[line for name in "abcdefgh" for line in (f"ask 1 {name}", "pass 2")])
    replica = stage.replicas[0]
    replica.retained = 4  # Its write began when its op was not applied here yet.
    stage.play("finish 0", "release 0", "pass 4")
    assert replica.checkpoint.op == 0
    stage.happen(0, Retained(5))
    stage.play("pass 4")
    assert replica.checkpoint.op == 5


def test_a_snapshot_that_comes_while_the_superblock_is_written_with_ones_own_is_asked_for_again() -> None:
    stage = _at_a_checkpoint()
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
    stage.play("release 0", "pass 60")
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


def test_what_has_rotted_and_is_not_of_the_log_any_more_is_not_repaired() -> None:
    """Seed 17000016: an op that a view had dropped was on disk; somebody asked for it, and it could not be read."""
    stage = group("cut 1->0 1->2 0->1 2->1", "ask 1 a")
    replica = stage.replicas[1]
    dropped = replica.durable[2]
    assert dropped is not None
    assert replica.head == 2
    stage.hear(1, start_view(5, [Entry(replica.headers[1], b"")], commit=1))
    assert (replica.head, replica.durable[2]) == (1, dropped)
    stage.disks[1].entries[2] = None
    stage.hear(1, GetPrepare(0, 5, 2, 2, dropped.checksum))
    assert replica.faulty == {2}
    assert not replica._unwritten


def test_what_is_known_to_have_rotted_is_not_read_again() -> None:
    stage = _with_little_memory()
    replica = stage.replicas[0]
    replica.durable[1 + replica._scrub_op % 3] = None
    replica.durable[1] = replica.durable[2] = replica.durable[3] = None
    assert stage.play("expire 0 scrub") == []


def test_a_started_view_reminds_who_has_lost_its_snapshot() -> None:
    stage, point = _fetching()
    replica = stage.replicas[0]
    replica._fetching = None
    ten = Entry(replica.headers[10], b"")
    told = stage.hear(0, start_view(2, [ten], commit=10, point=point))
    assert any("GetSnapshot" in line for line in told)


# ---- changing the view


def test_a_log_whose_end_others_know_by_number_alone_is_adopted_by_who_knows_it() -> None:
    stage = group()
    replica = stage.replicas[2]
    stage.hear(2, JoinView(0, 5, 0, 4, 1, 1, 1, POINT, Suffix((None,), 0, 0)))
    assert replica.log_view == 5
    assert replica.status is Status.NORMAL


def test_a_view_that_no_member_of_it_tells_of_is_not_started() -> None:
    stage = group()
    entries = [Entry(stage.replicas[0].headers[1], b"")]
    good = start_view(2, entries)
    for bad in (
        good._replace(view=0, src=0),
        good._replace(src=0),
        good._replace(src=7),
        good._replace(members=()),
        good._replace(op=2),
        good._replace(headers=()),
        good._replace(headers=(*good.headers, *good.headers)),
    ):
        assert stage.hear(0, bad) == []
        assert stage.replicas[0].view == 1
    stage.hear(0, good)
    assert stage.replicas[0].view == 2


def test_a_late_end_of_the_log_of_this_view_takes_nothing_back() -> None:
    stage = group("ask 1 a", "deliver 1->0")
    stage.hear(0, start_view(1, [Entry(stage.replicas[0].headers[1], b"")]))
    assert stage.replicas[0].head == 2


def test_a_primary_to_be_that_has_a_log_takes_no_other() -> None:
    stage = group("expire 0 suspect", "expire 2 suspect", "deliver 0->2", "hold 2", "deliver 2->0", "deliver 0->2")
    replica = stage.replicas[2]
    assert replica.elected
    assert not replica._start_sent
    assert stage.play("expire 2 join_resend") == [], "nothing is to be said before it is durable"
    assert stage.hear(2, start_view(2, [Entry(replica.headers[1], b"")], src=2)) == []
    stage.play("release 2")
    assert replica.status is Status.NORMAL


def test_one_that_is_not_a_member_joins_no_view() -> None:
    stage = group("expire 0 suspect", "expire 2 suspect", "deliver 0->2")
    replica = stage.replicas[2]
    join = JoinView(0, 2, 7, 1, 1, 1, 1, POINT, Suffix((replica.headers[1],), 1, 0))
    stage.hear(2, join)
    assert 7 not in replica.joins


def test_who_joins_a_view_that_is_over_is_told_where_everybody_is() -> None:
    stage = group(
        "expire 0 suspect", "expire 2 suspect", "deliver 0->2", "pass 4", "expire 0 suspect", "expire 1 suspect"
    )
    stage.play("deliver 1->0", "pass 4")
    stage.quiet.clear()
    assert stage.replicas[2].view == 3
    late = JoinView(0, 2, 0, 1, 1, 1, 1, POINT, Suffix((stage.replicas[0].headers[1],), 1, 0))
    assert stage.hear(2, late) == [f"2 -> 0  Ping view 3, log to {stage.replicas[2].head}"]


def test_two_logs_of_one_view_stop_the_primary_to_be() -> None:
    stage = group(
        "ask 1 a", "deliver 1->0", "deliver 1->2", "drop", "expire 0 suspect", "expire 2 suspect", "deliver 0->2"
    )
    replica = stage.replicas[2]
    fork = following(Entry(replica.headers[1], b""), view=1, body=b"")
    join = JoinView(0, 2, 0, 1, 2, 1, 1, POINT, Suffix((fork.header, replica.headers[1]), 3, 0))
    told = stage.hear(2, join)
    assert told == ["2 halts: two logs of one view disagree at op 2"]


def test_a_primary_to_be_whose_snapshot_is_behind_leaves_the_view_to_another() -> None:
    stage = group("expire 0 suspect", "expire 2 suspect", "deliver 0->2")
    replica = stage.replicas[2]
    far = Checkpoint(40, bytes(16), bytes(16), 8)
    join = JoinView(0, 2, 0, 1, 1, 1, 1, far, Suffix((replica.headers[1],), 1, 0))
    stage.hear(2, join)
    assert replica.view == 3


def test_a_log_of_which_only_the_end_is_known_is_adopted_from_there() -> None:
    """Others have committed op 2, and list no op below it."""
    stage = group("ask 1 a", "deliver 1->0", "deliver 0->1", "drop", "crash 1", "expire 0 suspect", "expire 2 suspect")
    stage.play("deliver 0->2")
    replica, two = stage.replicas[2], stage.replicas[0].headers[2]
    stage.hear(2, JoinView(0, 2, 0, 1, 2, 2, 2, POINT, Suffix((two,), 1, 0)))
    assert replica.elected
    assert replica.head == 2


def test_a_log_whose_end_is_known_by_number_alone_is_not_adopted() -> None:
    stage = group("expire 0 suspect", "expire 2 suspect", "deliver 0->2")
    replica = stage.replicas[2]
    stage.hear(2, JoinView(0, 2, 0, 1, 2, 2, 2, POINT, Suffix((None,), 0, 0)))
    assert not replica.elected
    assert replica.status is Status.VIEW_CHANGE


def test_a_primary_to_be_that_has_lost_its_snapshot_fetches_it() -> None:
    stage, _ = _fetching()
    stage.play("crash 2", "crash 1", "rot 2 snapshot", "start 2", "drop", "expire 0 suspect", "expire 2 suspect")
    stage.play("deliver 0->2", "deliver 2->0")
    stage.replicas[2]._fetching = None
    told = stage.play("deliver 0->2")
    assert stage.replicas[2].elected
    assert any("GetSnapshot" in line for line in told)


def test_who_installs_a_view_and_asks_in_vain_waits_for_its_disk() -> None:
    stage = group("hold 0", "cut 1->0 2->0")
    replica = stage.replicas[0]
    one = Entry(replica.headers[1], b"")
    two = following(one, view=2)
    stage.hear(0, start_view(2, [one, two]))
    assert replica._installing
    for _ in range(20):
        stage.play("expire 0 repair", "drop")
    assert replica.view == 2
    assert replica._installing


def test_a_view_whose_log_fills_the_journal_opens_when_there_is_room() -> None:
    stage = group("slow 2 snapshot", options="checkpoint_interval=5 slots=24")
    for name in "abcdefgh":
        stage.play(f"ask 1 {name}", "pass 1")
    stage.play("pass 6", "crash 1", "expire 0 suspect", "expire 2 suspect", "pass 4")
    replica = stage.replicas[2]
    assert replica.head == replica.op_max == 9
    assert replica.status is Status.NORMAL
    assert replica._opening_due
    assert not replica.view_committed
    stage.play("release 2", "pass 3")
    assert replica.view_committed


def test_a_started_view_is_told_as_far_down_as_headers_are_known() -> None:
    stage = group("ask 1 a", "pass 6")
    replica = stage.replicas[1]
    replica.commit_max = replica.commit_min = 1
    del replica.headers[1]
    message = replica._start_message(0)
    assert [header.op for header in message.headers] == [2]


def test_who_does_not_know_its_head_follows_no_view_change() -> None:
    stage = group("ask 1 a", "pass 6", "crash 0", "rot 0 entry 2", "rot 0 header 2", "start 0", "drop")
    replica = stage.replicas[0]
    assert replica.status is Status.RECOVERING_HEAD
    stage.hear(0, JoinView(0, 3, 2, 1, 2, 1, 1, POINT, Suffix((replica.headers[1],), 1, 0)))
    assert replica.status is Status.RECOVERING_HEAD
    assert replica.view == 1
    assert stage.play("read 0 bob") == [], "nor does it know who is primary"
    entries = [Entry(stage.replicas[1].headers[2], b"")]
    assert stage.hear(0, start_view(1, entries, commit=2)) == [], "of its own view, and no answer to its question"
    assert stage.hear(0, Headers(0, 1, 1, (stage.replicas[1].headers[1],))) == []
    assert stage.play("expire 0 repair") == []
    stage.hear(0, start_view(2, entries, commit=2))
    assert replica.status is Status.NORMAL


def test_a_learner_asks_for_the_view_and_changes_none() -> None:
    stage = Stage()
    stage.play("group 3 learner 3", "pass 14", "quiet writes")
    learner = stage.replicas[3]
    assert learner.view == 1
    told = stage.play("expire 3 suspect")
    assert told == ["3 -> 0 1 2  GetView 1"]
    told = stage.hear(3, Ping(0, 2, 0, 1, 1, 1, POINT, 1))
    assert learner.view == 1
    assert learner._wanted_view == 2


def test_a_vote_of_ones_own_is_not_forgotten_with_the_others() -> None:
    stage = group("expire 0 suspect", "deliver 0->2", "drop", "expire 2 exit_window")
    assert stage.replicas[2].exit_votes == set()
    stage.play("expire 2 suspect", "drop")
    stage.replicas[2]._start_timer("exit_window", 9)
    stage.play("expire 2 exit_window")
    assert stage.replicas[2].exit_votes == {2}
    assert "exit_window" in stage.replicas[2]._timers


def test_a_vote_that_a_new_view_has_ended_is_not_repeated() -> None:
    stage = group("expire 0 suspect", "hold 0")
    stage.hear(0, start_view(2, [Entry(stage.replicas[0].headers[1], b"")]))
    assert stage.replicas[0].exit_votes == set()
    assert stage.play("expire 0 exit_resend") == []


def test_a_member_that_is_elected_and_loses_its_disk_halts_once() -> None:
    stage = group("hold 0", "ask 1 a", "deliver 1->0")
    assert stage.play("fail 0") == ["0 halts: a write to disk failed"]
    assert stage.happen(0, WriteDone(10**6, True)) == []


def test_the_last_op_of_an_epoch_is_followed_by_none() -> None:
    stage = group("members 1 0 2")
    replica = stage.replicas[1]
    assert replica.headers[replica.head].kind is Kind.RECONFIGURE
    stage.play("ask 1 a")
    assert replica.head == 2
