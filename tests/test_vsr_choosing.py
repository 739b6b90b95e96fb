"""Which log a new view gets: the newest view's, less what provably was never committed."""

from __future__ import annotations

from tests.support.members import ROOT, chain, following, join
from veritydb.vsr.choosing import Chosen, Fork, Stuck, Wait, choose_log
from veritydb.vsr.quorums import QUORUMS

A = chain(6)


def choose(*joins, members=3, pipeline_max=4):
    return choose_log(
        {one.src: one for one in joins}, members=members, quorums=QUORUMS[members], pipeline_max=pipeline_max
    )


def heads(choice):
    assert isinstance(choice, Chosen), choice
    return choice.head, choice.floor


def test_the_newest_view_wins_over_the_longest_log():
    other = chain(2, view=3)
    choice = choose(join(0, A, log_view=1, commit=2, present="xxxxxx"), join(1, other, log_view=3, commit=2))
    assert heads(choice) == (2, 2)
    assert choice.headers[2] == other[1].header
    assert choice.log_view == 3


def test_what_a_quorum_may_have_is_kept_though_one_member_lacks_it():
    assert heads(choose(join(0, A[:3], commit=1), join(1, A[:2], commit=1))) == (3, 1)


def test_what_two_of_three_never_had_is_dropped():
    third = join(2, A[:2], commit=1)
    assert heads(choose(join(0, A[:3], commit=1, nack="..x"), join(1, A[:2], commit=1))) == (2, 1)
    assert heads(choose(join(0, A[:3], commit=1), join(1, A[:2], commit=1), third)) == (2, 1)


def test_one_denial_is_not_enough():
    assert heads(choose(join(0, A[:3], commit=1), join(1, A[:3], commit=1, present="xx.", nack="..x"))) == (3, 1)


def test_an_op_that_nobody_here_has_is_waited_for_and_never_guessed():
    first, second = join(0, A[:3], commit=1, present="xx."), join(1, A[:2], commit=1)
    assert choose(first, second) == Wait(3)
    third = join(2, A[:3], commit=1, present="xx.")
    assert choose(first, second, third) == Stuck(3)


def test_an_op_whose_header_is_lost_is_taken_from_an_older_log_if_the_next_header_names_it():
    newer = join(0, A[:3], log_view=2, commit=1, present="x.x", unknown=(2,))
    assert heads(choose(newer, join(1, A[:3], log_view=1, commit=1))) == (3, 1)


def test_an_op_whose_header_is_lost_and_that_an_older_log_denies_is_dropped():
    newer = join(0, A[:3], log_view=2, commit=1, present="x.x", nack=".x.", unknown=(2,))
    other = [*A[:1], following(A[0], view=9)]
    assert heads(choose(newer, join(1, other, log_view=1, commit=1))) == (1, 1)


def test_an_unknown_header_at_the_head_is_denied_by_an_older_log_that_has_another():
    newer = join(0, A[:2], log_view=2, commit=1, present="x.", nack=".x", unknown=(2,))
    assert heads(choose(newer, join(1, A[:2], log_view=1, commit=1))) == (1, 1)


def test_two_logs_of_one_view_are_a_fork():
    other = [*A[:2], following(A[1], body=b"another")]
    assert choose(join(0, A[:3], commit=1), join(1, other, commit=1)) == Fork(3)


def test_a_log_whose_headers_do_not_connect_is_a_fork():
    crooked = [*A[:2], following(following(A[0], body=b"another"))]
    assert choose(join(0, crooked, commit=1), join(1, A[:2], commit=1)) == Fork(2)


def test_a_committed_op_that_no_newest_log_has_is_a_fork():
    assert choose(join(0, A[:1], log_view=2), join(1, A[:3], log_view=1, commit=3)) == Fork(3)


def test_what_lies_a_pipeline_below_a_head_is_committed():
    longest = join(0, A, commit=0)
    assert heads(choose(longest, join(1, A[:2], commit=0))) == (6, 2)


def test_one_member_alone_goes_on_with_its_own():
    assert heads(choose(join(0, A[:3], commit=2), members=1)) == (3, 2)
    assert ROOT.header.op == 0


def test_what_the_newest_header_says_is_committed_is_not_dropped():
    last = following(A[1], commit=2)
    mine = join(0, [*A[:2], last], commit=0, nack="..x")
    assert heads(choose(mine, join(1, A[:2], commit=0))) == (2, 2)
