"""The table of quorums, number by number: each is the one that the rules leave.

Mutation testing changes functions, and the table is none; so these tests do what it would do.
"""

from __future__ import annotations

from itertools import combinations

import pytest

from veritydb.vsr.quorums import MEMBERS_MAX, QUORUMS, Quorums


def meet(members: int, first: int, second: int) -> bool:
    """Whether every set of ``first`` members has one in common with every set of ``second``."""
    everyone = range(members)
    return all(
        set(one) & set(other) for one in combinations(everyone, first) for other in combinations(everyone, second)
    )


def prove(members: int, denying: int, replication: int) -> bool:
    """Whether so many that deny an op prove that no replication quorum has it."""
    return members - denying < replication


REPLICATION = {1: 1, 2: 2, 3: 2, 4: 2, 5: 3, 6: 3}
"""The one choice there is: half of the members, rounded up. Of two both, so that the loss of one loses nothing."""


def rules_broken(members: int, sizes: Quorums) -> list[str]:
    """Return which rules the sizes break. Each number is as small as they allow."""
    replication, view_change, nack, read = sizes
    if not all(1 <= size <= members for size in sizes):
        return ["a quorum is of members"]
    rules = {
        "half of the members have what is committed": replication == REPLICATION[members],
        "a view change hears of every op that was replicated": meet(members, replication, view_change),
        "and waits for nobody else": not meet(members, replication, view_change - 1),
        "denials prove that an op was not replicated": prove(members, nack, replication),
        "and no more are asked for": not prove(members, nack - 1, replication),
        "a read is answered by one whom every view change would ask": meet(members, read, view_change),
        "and waits for nobody else, either": not meet(members, read - 1, view_change),
    }
    return [rule for rule, holds in rules.items() if not holds]


@pytest.mark.parametrize("members", QUORUMS)
def test_the_sizes_are_those_that_the_rules_leave(members: int) -> None:
    assert rules_broken(members, QUORUMS[members]) == []


@pytest.mark.parametrize("members", QUORUMS)
@pytest.mark.parametrize("field", Quorums._fields)
@pytest.mark.parametrize("by", [-1, 1])
def test_every_other_number_would_break_a_rule(members: int, field: str, by: int) -> None:
    changed = QUORUMS[members]._replace(**{field: getattr(QUORUMS[members], field) + by})
    assert rules_broken(members, changed)


def test_there_are_groups_of_one_to_six() -> None:
    assert list(QUORUMS) == [1, 2, 3, 4, 5, 6]
    assert MEMBERS_MAX == 6
