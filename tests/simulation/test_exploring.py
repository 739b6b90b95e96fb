"""Bounded exhaustive exploration of the real ``step``."""

from __future__ import annotations

from veritydb.simulation.alone import clone
from veritydb.simulation.bugs import BUGS
from veritydb.simulation.code import patched
from veritydb.simulation.exploring import Explorer, Scope

_SLICE = 50_000
_CAMPAIGN = 2_000_000


def test_no_order_of_events_in_the_scope_breaks_a_promise(campaign: bool) -> None:
    """Three members, three values, three view changes, one crash, one rotten entry."""
    report = Explorer(Scope()).explore(_CAMPAIGN if campaign else _SLICE)

    assert report.violation is None, "\n".join(report.story)
    assert report.complete or report.states >= _SLICE


def test_no_order_of_events_that_is_drawn_by_lot_breaks_a_promise(campaign: bool) -> None:
    report = Explorer(Scope(), seed=1).explore(_CAMPAIGN if campaign else _SLICE)

    assert report.violation is None, "\n".join(report.story)


def test_a_small_scope_is_explored_to_its_end() -> None:
    report = Explorer(Scope(values=1, view_changes=0, crashes=0, faults=0, nudges=0)).explore(_SLICE)

    assert report.complete
    assert report.states > 50
    assert report.violation is None


def test_a_copy_of_a_member_steps_without_its_original() -> None:
    explorer = Explorer(Scope())
    state = explorer.settle(explorer.boot())
    before = [member.key for member in state.members]
    explorer.act(state, ("asked", 1, 1))

    assert [explorer.alone._named(member).key for member in state.members] == before
    assert clone(state.members[0].replica) is not state.members[0].replica


def test_the_exploration_finds_a_planted_bug() -> None:
    (bug,) = [bug for bug in BUGS if bug.name == "a member acknowledges while it changes the view"]
    report = Explorer(Scope(), patched(bug.replacements), seed=1).explore(_SLICE)

    assert report.violation is not None
    assert report.story
