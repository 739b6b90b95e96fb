"""Seeds get to the rare branches of the protocol, with all checkers looking on."""

from __future__ import annotations

from veritydb.simulation.marks import MARKS, first_reached, marked, reached
from veritydb.simulation.run import simulate
from veritydb.simulation.scenario import draw

_SLICE = range(1, 9)
_CAMPAIGN = range(1, 151)


def test_seeds_reach_rare_branches(campaign: bool) -> None:
    """A few seeds reach most of the marks; the fixed ones, all of them."""
    first = first_reached(_CAMPAIGN if campaign else _SLICE)

    missing = [mark.name for mark in MARKS if mark.name not in first]
    assert not missing if campaign else len(first) >= len(MARKS) // 2, missing


def test_a_mark_changes_nothing() -> None:
    reached.clear()
    assert simulate(draw(3), marked()).trace == simulate(draw(3)).trace
    assert reached
