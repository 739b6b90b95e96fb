"""What is wrong with a node has one name, follows from what it observes, and says whether the node is ready."""

from __future__ import annotations

import json

import pytest

from veritydb.cluster.status import (
    OVERDUE_SECONDS,
    SILENT_SECONDS,
    Limits,
    Observed,
    Peer,
    State,
    clocks_off,
    is_outvoted,
    judge,
)

LIMITS = Limits(clock_seconds=5.0, disk_free=100 << 20)
HEARD = Peer(heard_seconds=0.1, clock_seconds=0.01, clock_uncertainty=0.001, version="1")
SILENT = HEARD._replace(heard_seconds=SILENT_SECONDS + 0.1)
GOOD = Observed(
    cluster="00",
    member=1,
    version="1",
    time=1.0,
    uptime=9.0,
    phase="running",
    status="normal",
    epoch=0,
    view=1,
    primary=2,
    members=(1, 2, 3),
    quorum=2,
    suspects=False,
    op=10,
    commit=10,
    commit_group=10,
    checkpoint=0,
    journal_used=10,
    journal_size=1032,
    overdue_seconds=0.0,
    stuck=None,
    awaited=None,
    streams=1,
    sessions=1,
    records_missing=0,
    records_waiting=0,
    disk_free=1 << 40,
    disk_size=1 << 41,
    clients=0,
    connections=4,
    peers={2: HEARD, 3: HEARD},
)
AS_PRIMARY = {"primary": 1}


def far(seconds, uncertainty=0.0):
    return HEARD._replace(clock_seconds=seconds, clock_uncertainty=uncertainty)


def states(seen):
    return {found.state for found in judge(seen, LIMITS).degraded}


def test_nothing_is_wrong_with_a_node_that_is_well():
    status = judge(GOOD, LIMITS)
    assert status.degraded == ()
    assert status.is_ready
    assert judge(GOOD._replace(**AS_PRIMARY), LIMITS).is_ready


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"phase": "halted: a write to disk failed"}, {State.HALTED}),
        ({"phase": "stopping"}, {State.STOPPING}),
        ({"phase": "starting"}, {State.STARTING}),
        ({"stuck": 7}, {State.LOG_LOST}),
        ({"awaited": 7}, {State.LOG_AWAITED}),
        ({"status": "view_change", "primary": None}, {State.NO_PRIMARY}),
        ({"status": "recovering_head", "primary": None}, {State.NO_PRIMARY}),
        ({"suspects": True}, {State.PRIMARY_UNREACHABLE}),
        ({"peers": {2: SILENT, 3: HEARD}}, {State.PRIMARY_UNREACHABLE, State.PEER_UNREACHABLE}),
        ({"peers": {2: HEARD, 3: SILENT}}, {State.PEER_UNREACHABLE}),
        ({"peers": {2: HEARD}}, {State.PEER_UNREACHABLE}),
        ({"peers": {2: HEARD, 3: SILENT}, **AS_PRIMARY}, {State.PEER_UNREACHABLE}),
        ({"peers": {2: SILENT, 3: SILENT}, **AS_PRIMARY}, {State.NO_QUORUM, State.PEER_UNREACHABLE}),
        ({"members": (2, 3, 4), "peers": {2: HEARD, 3: HEARD, 4: HEARD}}, {State.NOT_A_MEMBER}),
        ({"commit_group": 10 + LIMITS.behind_ops}, set()),
        ({"commit_group": 11 + LIMITS.behind_ops}, {State.BEHIND}),
        ({"records_missing": 1}, {State.RECORDS_MISSING}),
        ({"records_unknown": True}, {State.RECORDS_MISSING}),
        ({"overdue_seconds": OVERDUE_SECONDS}, set()),
        ({"overdue_seconds": OVERDUE_SECONDS + 1}, {State.JOURNAL_NEARLY_FULL}),
        ({"disk_free": (100 << 20) - 1}, {State.DISK_NEARLY_FULL}),
        ({"disk_free": 0, "disk_size": 0}, set()),  # Nobody has looked yet.
        ({"peers": {2: far(9.0), 3: HEARD}}, {State.CLOCKS_DISAGREE}),
        ({"peers": {2: far(-9.0), 3: far(-9.0)}}, {State.CLOCK_OFF}),
        ({"peers": {2: far(9.0), 3: far(-9.0)}}, {State.CLOCKS_DISAGREE}),
        ({"peers": {2: far(9.0, 5.0), 3: far(9.0, 5.0)}}, set()),  # It may have been the network.
        ({"peers": {2: HEARD._replace(version="2"), 3: HEARD}}, {State.VERSIONS_DIFFER}),
    ],
)
def test_each_thing_that_is_wrong_has_its_name(change, expected):
    assert states(GOOD._replace(**change)) == expected


def test_a_node_is_ready_unless_something_that_is_wrong_says_otherwise():
    for state in State:
        assert state.is_ready == (
            state in (State.DISK_NEARLY_FULL, State.PEER_UNREACHABLE, State.CLOCKS_DISAGREE, State.VERSIONS_DIFFER)
        )
    assert judge(GOOD._replace(disk_free=1), LIMITS).is_ready
    assert not judge(GOOD._replace(records_missing=1), LIMITS).is_ready


def test_one_alone_needs_nobody():
    alone = GOOD._replace(members=(1,), primary=1, quorum=1, peers={})
    assert states(alone) == set()


def test_a_clock_is_outvoted_by_more_than_half_of_all_members_who_agree():
    assert is_outvoted({2: 9.0, 3: 10.0}, 3, 5.0)
    assert not is_outvoted({2: 9.0}, 3, 5.0)
    assert not is_outvoted({2: 9.0, 3: 10.0}, 5, 5.0)
    assert is_outvoted({2: 9.0, 3: 10.0, 4: 11.0}, 5, 5.0)
    assert not is_outvoted({}, 1, 5.0)
    assert clocks_off({2: far(-6.0), 3: far(4.0)}, 5.0) == {2: -6.0}


def test_the_document_is_json_that_has_every_fact_and_every_name():
    status = judge(GOOD._replace(disk_free=1, records_missing=2), LIMITS)
    told = json.loads(status.encode())
    assert set(told) == {*Observed._fields, "lag", "ready", "degraded"}
    assert told["ready"] is False
    assert told["peers"]["2"]["clock_seconds"] == 0.01
    assert [(found["state"], found["ready"]) for found in told["degraded"]] == [
        ("records_missing", False),
        ("disk_nearly_full", True),
    ]
