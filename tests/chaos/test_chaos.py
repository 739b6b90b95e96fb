"""One short run of chaos, and the judge of histories judged by histories whose verdict is known."""

from __future__ import annotations

import pytest

from tests.chaos.history import Done, problems
from tests.chaos.run import chaos

SECONDS = 10.0


def test_chaos_leaves_one_order_that_explains_everything(tmp_path):
    report = chaos(20_261_130, SECONDS, tmp_path)
    assert report.problems == []
    assert report.outcomes["committed"] > 20
    assert sum(report.faults.values()) > 2


LOG = [(), ((1, 10),), ((1, 11),), ((2, 20),)]


MIXED = [(("register 0", 5), ("set", 9)), (("register 0", 6), ("set", 7))]
"""What two transactions write to a register and to a set."""


def done(began, ended, outcome, read, appended=(), offset=None):
    return Done(1, began, ended, outcome, read, tuple(appended), offset)


GOOD = [
    done(0.0, 1.0, "committed", {1: ()}, [(1, 10)], 1),
    done(2.0, 3.0, "committed", {1: (10,)}, [(1, 11)], 2),
    done(2.5, 3.5, "read", {1: (10,), 2: ()}),
    done(2.5, 3.6, "read", {1: (10, 11), 2: (20,)}),
    done(2.0, 9.0, "unknown", {}, [(2, 20)]),
    done(4.0, 5.0, "rolled back", {}, [(1, 12)]),
    done(4.0, 5.0, "unknown", {}, [(1, 13)]),
]
BAD = {
    "an acknowledged transaction is not there": done(6.0, 7.0, "committed", {}, [(1, 99)], 4),
    "it is acknowledged at another place": done(6.0, 7.0, "committed", {1: ()}, [(1, 10)], 3),
    "what was rolled back is there": done(6.0, 7.0, "rolled back", {}, [(1, 11)]),
    "half of it is there": done(6.0, 7.0, "unknown", {}, [(2, 20), (1, 98)]),
    "it read what was not there": done(2.0, 3.0, "committed", {1: (10, 77)}, [(1, 11)], 2),
    "it wrote over what it had not seen": done(2.0, 3.0, "committed", {1: ()}, [(1, 11)], 2),
    "it began after a later one": done(6.0, 7.0, "committed", {1: (), 2: ()}, [(1, 10)], 1),
    "a read saw less than had been acknowledged": done(6.0, 7.0, "read", {1: (10,), 2: ()}),
    "a read saw what never was": done(6.0, 7.0, "read", {1: (11, 10), 2: (20,)}),
    "a read saw two states at once": done(2.5, 9.0, "read", {1: (10,), 2: (20,)}),
    "a read saw less than a read before it": done(3.7, 9.0, "read", {1: (10, 11), 2: ()}),
}


def test_what_can_be_explained_is_not_complained_of():
    assert problems(GOOD, LOG) == []


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_explained_is_found(what):
    assert problems([*GOOD, BAD[what]], LOG)
    assert len(problems([*GOOD, BAD[what]], LOG)) < 4


def test_a_register_holds_what_was_written_last_and_a_set_all_of_it():
    good = [
        done(0.0, 1.0, "committed", {"register 0": (), "set": ()}, MIXED[0], 0),
        done(2.0, 3.0, "committed", {"register 0": (5,), "set": (9,)}, MIXED[1], 1),
        done(4.0, 5.0, "read", {"register 0": (6,), "set": (7, 9)}),
    ]
    assert problems(good, MIXED) == []
    for stale in ({"register 0": (5,)}, {"register 0": (5, 6)}, {"set": (9,)}, {"set": (9, 7)}, {"set": ()}):
        assert problems([*good, done(4.0, 5.0, "read", stale)], MIXED)
