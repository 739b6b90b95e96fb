"""The simulator finds bugs: those that are planted into copies of the protocol."""

from __future__ import annotations

import pytest

from veritydb.simulation.bugs import BUGS, Planted
from veritydb.simulation.code import NotThere, Replacement, installed, patched
from veritydb.simulation.planted import hunt
from veritydb.simulation.run import simulate
from veritydb.simulation.scenario import draw

_QUICK = 12
"""Seeds in the usual run of the tests; the campaign takes as many as the table says."""


def test_there_are_at_least_forty_of_them_and_no_two_are_one() -> None:
    assert len(BUGS) >= 40
    assert len({bug.name for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fits_the_code(bug: Planted) -> None:
    patched(bug.replacements)


def test_a_replacement_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(NotThere, match="0 times"):
        patched([Replacement("veritydb.vsr.normal", "what is not there", "")])
    with pytest.raises(NotThere, match="times"):
        patched([Replacement("veritydb.vsr.normal", "self", "")])


def test_planting_leaves_the_installed_code_as_it_is() -> None:
    before = installed()
    copy = patched(BUGS[0].replacements)

    assert installed() is before
    assert copy.replica.Replica is not before.replica.Replica
    assert before.replica is __import__("veritydb.vsr.replica", fromlist=["Replica"])
    assert simulate(draw(3)).failure is None


def test_a_copy_is_whole_its_replicas_use_its_own_kernel() -> None:
    """They did not: ``from veritydb import kernel`` gave each copy the installed one, and no bug of it was found."""
    copy = patched([Replacement("veritydb.kernel.machine", "class _Work", "class Planted:\n    pass\n\n\nclass _Work")])

    assert copy.core.kernel is copy.kernel
    assert hasattr(copy.kernel.machine, "Planted")
    assert installed().core.kernel is installed().kernel is __import__("veritydb.kernel", fromlist=["kernel"])
    assert not hasattr(installed().kernel.machine, "Planted")


QUICKLY_CAUGHT = [bug for bug in BUGS if bug.quick]


@pytest.mark.parametrize("bug", QUICKLY_CAUGHT, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Planted) -> None:
    assert hunt(bug, range(1, _QUICK + 1)).seeds
