"""Corners of leaving a view and starting one, and what may not happen happening."""

from __future__ import annotations

import pytest

from tests.support.groups import at_a_checkpoint, fetching, group, start_view
from tests.support.members import POINT, chain, following
from tests.support.stage import Stage
from veritydb.vsr.core import ProtocolError, Status
from veritydb.vsr.effects import Gone, Tick, WriteDone
from veritydb.vsr.entry import Entry, Kind
from veritydb.vsr.messages import (
    Checkpoint,
    GetHeaders,
    Headers,
    JoinView,
    Ping,
    Suffix,
)

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
    stage = at_a_checkpoint()
    replica = stage.replicas[0]
    nine, ten = replica.headers[9], replica.headers[10]
    del replica.headers[9]
    stage.hear(0, start_view(2, [Entry(nine, b""), Entry(ten, b"")], commit=10, point=replica.checkpoint))
    assert 9 not in replica.headers
    assert replica.halted is None


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
    stage, _ = fetching()
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
