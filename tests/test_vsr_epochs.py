"""What a member does with words of another epoch, and of an end of its own that it has missed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.members import POINT, chain
from tests.support.stage import Stage
from veritydb.vsr.core import ProtocolError, Status
from veritydb.vsr.effects import StepDown
from veritydb.vsr.entry import Header, Kind
from veritydb.vsr.messages import Checkpoint, CommitAck, ExitView, GetView, NewEpoch, Ping, Reconfigure, StartView

PEOPLE = b"people".ljust(16, b".")


def group(*lines: str, members: str = "3 learner 3", options: str = "") -> Stage:
    """Return a group in view 1, whose primary is 1, after the lines of a script."""
    stage = Stage()
    if options:
        stage.command(f"options {options}")
    stage.play(f"group {members}", "quiet writes", *lines)
    return stage


def grown(*lines: str, options: str = "") -> Stage:
    """Return a group in epoch 1, view 2, with member 3 as the fourth; its primary is 2."""
    return group("pass 12", "members 1 0 1 2 3", "pass 30", *lines, options=options)


# ---- asking for other members


def test_members_are_not_changed_before_a_view_has_committed_something() -> None:
    stage = group("pass 12")
    replica = stage.replicas[1]
    replica.view_committed = False
    assert stage.hear(1, Reconfigure(PEOPLE, 1, (0, 1, 2, 3), 0)) == []


@pytest.mark.parametrize("members", [(), tuple(range(10)), (0, 1, 2, 2)])
def test_a_group_that_cannot_be_is_refused(members: tuple[int, ...]) -> None:
    told = group("pass 12").hear(1, Reconfigure(PEOPLE, 1, members, 0))
    assert "different members" in told[0]


def test_a_learner_that_is_far_behind_is_not_taken_yet() -> None:
    stage = group("pass 12", "cut 1->3")
    stage.play(*[line for number in range(10) for line in (f"ask 1 {number}", "pass 3")])
    told = stage.hear(1, Reconfigure(PEOPLE, 1, (0, 1, 2, 3), 0))
    assert "ask again when it has caught up" in told[0]


def test_no_more_learners_are_remembered_than_there_is_room_for() -> None:
    stage = group("pass 12", options="learners_max=1")
    assert "StartView" in stage.hear(1, GetView(0, 1, 9, 0))[0], "it is answered all the same"
    assert set(stage.replicas[1]._learners) == {3}


# ---- words of another epoch


def test_a_primary_answers_who_is_behind_with_its_own_log() -> None:
    stage = grown()
    stage.replicas[2].epoch = 2
    stage.replicas[2].durable_block = stage.replicas[2].durable_block._replace(epoch=2)
    assert "StartView" in stage.hear(2, CommitAck(1, 2, 0, 5))[0]


def test_who_is_behind_and_asks_is_asked_back() -> None:
    stage = group("pass 12")
    assert "GetView" in stage.hear(0, ExitView(1, 2, 2))[0]


def test_a_later_view_of_an_earlier_epoch_is_left_for_one_above_it() -> None:
    stage = grown()
    stage.hear(0, ExitView(0, 9, 2))
    assert stage.replicas[0].view == 9


def test_the_end_of_an_epoch_that_is_over_here_too_says_nothing() -> None:
    stage = grown()
    end = stage.replicas[0]._ended[0]
    assert stage.hear(0, end) == []


def test_an_end_below_the_checkpoint_is_told_by_the_checkpoint() -> None:
    stage = grown(options="checkpoint_interval=5 slots=24")
    stage.play(*[line for number in range(8) for line in (f"ask 2 {number}", "pass 3")])
    replica = stage.replicas[0]
    last = next(iter(replica._ended.values())).headers[0]
    assert replica.checkpoint.op > last.op
    told = stage.hear(0, ExitView(0, 1, 7))
    assert told == [f"0 -> 7  NewEpoch 1 is over: {replica.checkpoint.op}@2"]
    assert not replica._ended


def test_nothing_is_told_where_nothing_is_left_that_proves_it() -> None:
    stage = grown()
    replica = stage.replicas[0]
    replica._ended.clear()
    assert stage.hear(0, ExitView(0, 1, 7)) == [], "the checkpoint is of the epoch before"


# ---- the end of one's own epoch


def _end(stage: Stage, **more: Any) -> NewEpoch:
    """Return what member 1 of a group that has grown would tell of the end of epoch 0."""
    end: NewEpoch = stage.replicas[1]._ended[0]
    return end._replace(**more)


def _missed() -> Stage:
    """Return a group that has grown while member 0 heard nothing."""
    return group("pass 12", "cut 0->1 0->2 1->0 2->0 0->3 3->0", "members 1 0 1 2 3", "pass 30")


def test_an_end_that_is_none_is_not_believed() -> None:
    stage = _missed()
    end = _end(stage)
    strangers = tuple(entry.header for entry in reversed(chain(3, view=1)))
    wrong_kind: tuple[Header, ...] = (end.headers[0]._replace(kind=Kind.NOOP), *end.headers[1:])
    for headers in ((), (end.headers[0], end.headers[0]), strangers, wrong_kind):
        assert stage.hear(0, end._replace(headers=headers)) == []
        assert stage.hear(0, end._replace(epoch=1, headers=headers[:0])) == []
    assert stage.replicas[0].epoch == 0


def test_an_end_that_is_far_away_is_reached_by_a_snapshot() -> None:
    stage = _missed()
    far = Checkpoint(40, bytes(16), bytes(16), 100)
    told = stage.hear(0, _end(stage, checkpoint=far))
    assert any("GetSnapshot" in line for line in told)
    assert stage.replicas[0]._guide == 1


def test_of_a_later_epoch_only_a_checkpoint_ahead_of_here_is_of_use() -> None:
    stage = _missed()
    end = _end(stage, epoch=3)
    assert stage.hear(0, end._replace(checkpoint=POINT)) == []
    assert stage.replicas[0]._fetching is None
    ahead = Checkpoint(end.headers[0].op, bytes(16), bytes(16), 100)
    assert any("GetSnapshot" in line for line in stage.hear(0, end._replace(checkpoint=ahead)))


def test_an_end_that_is_known_is_only_applied() -> None:
    stage = group("pass 12", "members 1 0 1 2 3", "deliver 1->0")
    replica = stage.replicas[0]
    assert replica.headers[replica.head].kind is Kind.RECONFIGURE
    last = replica.headers[replica.head]
    end = NewEpoch(0, 2, 1, (last, replica.headers[last.op - 1]), POINT, (0, 1, 2, 3))
    stage.hear(0, end)
    assert replica.epoch == 1


def test_who_is_unsure_of_its_end_learns_that_an_epoch_ended_here() -> None:
    stage = group("pass 12", "members 1 0 1 2 3", "deliver 1->0")
    replica = stage.replicas[0]
    replica.status, replica.head_uncertain = Status.RECOVERING_HEAD, True
    replica.commit_max = replica.head
    replica._apply()
    assert replica.epoch == 1
    assert not replica.head_uncertain
    assert replica.status is Status.VIEW_CHANGE


def test_a_member_draws_on_whoever_told_it_of_a_later_epoch() -> None:
    replica = group("pass 12").replicas[0]
    replica._guide = 7
    assert {replica._peer() for _ in range(60)} == {1, 2, 7}


# ---- other corners


def test_a_primary_that_is_asked_to_leaves_its_view_and_nobody_else_does() -> None:
    stage = group(members="3")
    assert stage.happen(0, StepDown()) == []
    told = stage.happen(1, StepDown())
    assert stage.replicas[1].view == 2
    assert any("JoinView 2" in line for line in told)


def test_a_group_of_one_has_nobody_to_step_down_for() -> None:
    stage = group(members="1")
    assert stage.happen(0, StepDown()) == []


def test_a_view_change_that_does_not_go_up_is_an_error() -> None:
    stage = group(members="3")
    with pytest.raises(ProtocolError, match="must go up"):
        stage.replicas[0]._enter_view_change(1)


def test_nothing_is_proposed_again_when_all_is_committed() -> None:
    replica = group(members="3").replicas[1]
    replica._resend_prepares()
    assert not replica._out
    assert "prepare_retry" not in replica._timers


def test_a_view_that_was_left_before_it_was_durable_is_not_joined() -> None:
    stage = group("hold 0", members="3")
    stage.hear(0, ExitView(0, 2, 2))
    stage.hear(0, ExitView(0, 3, 2))
    assert stage.replicas[0].view == 3
    assert stage.play("finish 0 1") == [], "the superblock of view 2"
    assert any("JoinView 3" in line for line in stage.play("finish 0 1"))


def test_who_waits_for_a_snapshot_does_not_join() -> None:
    stage = group(members="3")
    replica = stage.replicas[0]
    far = Checkpoint(40, bytes(16), bytes(16), 100)
    headers = tuple(entry.header for entry in reversed(chain(50, view=4)))[:2]
    stage.hear(0, StartView(0, 4, 1, headers[0].op, headers[0].op, headers, far, 0, (0, 1, 2)))
    assert replica._sync is not None
    assert not any("JoinView" in line for line in stage.play("pass 12"))


def test_a_primary_to_be_does_not_take_a_log_of_its_own_view_from_others() -> None:
    stage = group(members="3")
    replica = stage.replicas[2]
    stage.hear(2, ExitView(0, 2, 0))
    replica.elected, replica.log_view = True, 2
    start = StartView(0, 2, 0, 1, 1, (replica.headers[1],), POINT, 0, (0, 1, 2))
    assert stage.hear(2, start) == []
    assert replica.view == 2
    assert replica.elected


def test_who_is_in_no_view_change_does_not_join_and_knows_nothing_of_views_to_come() -> None:
    stage = group(members="3")
    stage.replicas[0]._send_join()
    assert not stage.replicas[0]._out
    assert stage.hear(0, GetView(0, 9, 2, 0)) == []


# ---- a snapshot instead of what nobody has any more


def test_a_fetched_snapshot_that_gave_way_to_an_own_checkpoint_is_forgotten_if_nobody_needs_it() -> None:
    replica = group(members="3").replicas[0]
    assert replica._sync is None
    replica._snapshot_written(bytes(16))
    assert not replica._get_view_due


def test_who_is_two_epochs_behind_is_told_of_the_last_end() -> None:
    stage = grown("members 2 0 1 2", "pass 40")
    replica = stage.replicas[0]
    assert replica.epoch == 2
    del replica._ended[0]
    backup = next(one for one in (0, 1, 2) if not stage.replicas[one].is_primary)
    stage.replicas[backup]._ended.pop(0, None)
    told = stage.hear(backup, ExitView(0, 1, 7))
    assert "NewEpoch 2 is over" in told[0]


# ---- views of which somebody speaks who has no say in them


def test_who_waits_for_a_view_still_asks_for_what_it_misses_of_the_one_that_runs() -> None:
    stage = group("pass 12")
    replica = stage.replicas[0]
    stage.hear(0, Ping(0, 5, 2, 5, 1, 1, POINT, 1))
    assert replica._wanted_view == 5
    replica._fall_behind()
    assert stage.play("expire 0 getview_resend") == ["0 -> 2  GetView 5", "0 -> 1  GetView 1"]
