"""All 64 sets of cut links between three members, with and without a crash."""

from __future__ import annotations

import pytest

from veritydb.simulation.bugs import BUGS
from veritydb.simulation.code import patched
from veritydb.simulation.links import LINKS, MASKS, can_talk, cut_links, run_links


@pytest.mark.parametrize("crashed", [None, 0, 1, 2])
def test_those_who_can_talk_commit_and_all_agree_when_the_links_are_mended(crashed: int | None, campaign: bool) -> None:
    problems: list[str] = []
    for mask in MASKS:
        for seed in range(1, 11 if campaign else 2):
            outcome = run_links(mask, crashed, seed=seed)
            if outcome.problem is not None:
                problems.append(f"cut {outcome.cut}, seed {seed}: {outcome.problem}")

    assert problems == []


def test_there_are_64_sets_and_in_37_of_them_somebody_can_talk() -> None:
    assert len({frozenset(cut_links(mask)) for mask in MASKS}) == 64
    assert cut_links(63) == list(LINKS)
    # None of three pairs is whole in 3 * 3 * 3 sets: each pair has lost one direction, or the other, or both.
    assert sum(map(can_talk, MASKS)) == 64 - 27


def test_a_set_in_which_nobody_can_talk_commits_nothing_and_is_no_problem() -> None:
    outcome = run_links(63)
    assert not outcome.can_talk
    assert outcome.progress == 0
    assert outcome.problem is None


def test_a_primary_that_never_falls_silent_is_caught() -> None:
    (bug,) = [bug for bug in BUGS if bug.name == "a primary that is not heard of never falls silent"]
    code = patched(bug.replacements)

    assert any(run_links(mask, code=code).problem == "those who can talk commit nothing" for mask in MASKS)
