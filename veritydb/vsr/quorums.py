"""How many members it takes; tabulated, because a formula that is nearly right is the oldest bug of this field.

Two sets that decide about one log must meet: one that replicated an op and one that changes the view
(``replication + view_change > members``); and as many nacks as prove that no replication quorum can have had an op
(``nack = members - replication + 1``). Callers compare these with the sizes of *sets of member ids*, never with
counts of messages: a network may deliver one message twice.
"""

from __future__ import annotations

from typing import NamedTuple


class Quorums(NamedTuple):
    """Sizes for one number of members."""

    replication: int
    """Members that have an op on disk before it is committed."""
    view_change: int
    """Members that left a view before the next one may choose its log."""
    nack: int
    """Members that never acknowledged an op, which proves that it was never committed."""
    read: int
    """Members of the current view whose answer proves that no later view has started: it meets every view change."""


QUORUMS = {
    1: Quorums(1, 1, 1, 1),
    2: Quorums(2, 1, 1, 2),
    3: Quorums(2, 2, 2, 2),
    4: Quorums(2, 3, 3, 2),
    5: Quorums(3, 3, 3, 3),
    6: Quorums(3, 4, 4, 3),
}
MEMBERS_MAX = max(QUORUMS)
