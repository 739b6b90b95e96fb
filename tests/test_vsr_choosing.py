"""Which log a new view gets: the newest view's, less what provably was never committed."""

from __future__ import annotations

from tests.support.members import ROOT, chain, following, join
from veritydb.vsr.choosing import Chosen, Fork, Stuck, Wait, choose_log, header_at
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


def is_exactly(choice, kind, op):
    """Named tuples of one op are equal whatever they are called."""
    return type(choice) is kind and choice.op == op


def test_waiting_is_for_those_who_have_not_spoken_and_when_all_have_nobody_guesses():
    first, second = join(0, A[:3], commit=1, present="xx."), join(1, A[:2], commit=1)
    third = join(2, A[:3], commit=1, present="xx.")
    assert is_exactly(choose(first, second), Wait, 3)
    assert is_exactly(choose(first, second, third), Stuck, 3)
    assert is_exactly(
        choose(join(0, A[:3], commit=1), join(1, [*A[:2], following(A[1], body=b"x")], commit=1)), Fork, 3
    )


def test_five_are_stuck_only_when_five_have_spoken():
    lost = [join(member, A[:3], commit=1, present="xx.") for member in range(5)]
    assert is_exactly(choose(*lost[:3], members=5), Wait, 3)
    assert is_exactly(choose(*lost[:4], members=5), Wait, 3)
    assert is_exactly(choose(*lost, members=5), Stuck, 3)


def test_what_is_kept_of_a_log_that_is_cut_is_all_from_the_floor_to_its_new_head():
    choice = choose(join(0, A[:4], commit=1, nack="...x"), join(1, A[:3], commit=1))
    assert choice == Chosen(1, 3, 1, {op: A[op - 1].header for op in (1, 2, 3)})
    assert type(choice) is Chosen


def test_nothing_below_the_floor_is_chosen():
    """One member lists more than the other; what it lists below is committed and needs no choice."""
    choice = choose(join(0, A[:4], commit=0), join(1, A[:4], commit=3))
    assert choice == Chosen(1, 4, 3, {3: A[2].header, 4: A[3].header})
    cut = choose(join(0, A[:4], commit=0, nack="...x"), join(1, A[:3], commit=2))
    assert cut == Chosen(1, 3, 2, {2: A[1].header, 3: A[2].header})


def test_each_way_of_knowing_what_is_committed_counts_alone():
    mine = join(0, A[:4], commit=0, nack="..xx")
    other = join(1, A[:2], commit=0)
    assert heads(choose(mine, other)) == (2, 0)
    assert choose(mine._replace(commit_min=4), other) == Chosen(1, 4, 4, {4: A[3].header})
    assert choose(mine._replace(commit_max=4), other) == Chosen(1, 4, 4, {4: A[3].header})
    listed = join(0, A[:4], commit=4, nack="..xx")._replace(commit_min=0, commit_max=0)
    assert choose(listed, other) == Chosen(1, 4, 4, {4: A[3].header}), "what is listed begins with what is committed"


def test_an_empty_log_of_which_nothing_is_known_to_be_committed_has_its_floor_at_its_beginning():
    assert choose(join(0, [], commit=0), join(1, [], commit=0)) == Chosen(1, 0, 0, {0: ROOT.header})


def test_a_header_that_only_the_next_one_names_is_denied_by_who_has_another():
    """Nobody of the newest view knows the header of op 2; op 3 says what it must be, and the older log has another."""
    newer = join(0, A[:3], log_view=2, commit=1, present="x.x", nack="...", unknown=(2,))
    other = join(1, [A[0], following(A[0], view=9)], log_view=1, commit=1)
    assert is_exactly(choose(newer, other), Wait, 2)
    third = join(2, [A[0], following(A[0], view=8)], log_view=1, commit=1)
    assert heads(choose(newer, other, third)) == (1, 1)


def test_an_unknown_header_is_denied_by_an_older_log_and_by_none_of_its_own_view():
    newer = join(0, A[:2], log_view=2, commit=1, present="x.", nack="..", unknown=(2,))
    older = join(1, A[:2], log_view=1, commit=1)
    assert is_exactly(choose(newer, older), Wait, 2)
    assert heads(choose(newer, older, join(2, A[:2], log_view=1, commit=1))) == (1, 1)
    same = join(1, A[:2], log_view=2, commit=1, present="x.", nack="..", unknown=(2,))
    assert is_exactly(choose(newer, same), Wait, 2)
    assert is_exactly(choose(newer, same, join(2, A[:2], log_view=1, commit=1)), Stuck, 2)


def test_who_did_not_say_what_it_has_denies_nothing():
    """Member 1 has compacted: it lists op 3 only, and op 2 may well be there."""
    mine = join(0, A[:3], commit=0, present="...", nack=".x.")
    other = join(1, A[:3], commit=0)
    listed = other._replace(suffix=other.suffix._replace(headers=other.suffix.headers[:1], present=1), commit_max=0)
    assert heads(choose(mine, listed)) == (3, 3)


def test_a_member_is_asked_only_for_ops_that_it_lists():
    one = join(0, A[:3], commit=3)
    assert header_at(one, 3) == A[2].header
    assert header_at(one, 2) is None
    assert header_at(one, 4) is None


def test_an_older_log_that_has_the_same_op_does_not_deny_it():
    newer = join(0, A[:3], log_view=2, commit=1)
    older = [join(member, A[:3], log_view=1, commit=1) for member in (1, 2)]
    assert heads(choose(newer, *older)) == (3, 1)


def test_nothing_is_taken_to_be_committed_because_nobody_knows_a_header():
    mine = join(0, A[:1], commit=0, present=".", unknown=(1,))
    assert is_exactly(choose(mine, join(1, A[:1], commit=0, present=".", unknown=(1,))), Wait, 1)
