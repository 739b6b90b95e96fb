"""Corners of a single replica in a view that runs: messages that are late, foreign or forged.

What members do together is in ``tests/transcripts``.
"""

from __future__ import annotations

import os

import pytest

from tests.support.groups import entry_of, group, start_view
from tests.support.members import CLUSTER, OPTIONS, POINT, Disk, chain, first_block, following
from veritydb.vsr.core import CannotStart, Status
from veritydb.vsr.entry import Entry, checksum
from veritydb.vsr.messages import (
    Commit,
    Prepare,
    PrepareOk,
    Repair,
    Request,
)
from veritydb.vsr.options import Options
from veritydb.vsr.replica import Replica

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
