"""Runs of the whole simulation: fixed seeds, fresh ones, and what makes them worth anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from veritydb.simulation.campaign import NOTHING, Total, add, run_seeds
from veritydb.simulation.run import Run, simulate
from veritydb.simulation.scenario import Scenario, draw
from veritydb.vsr.core import Status
from veritydb.vsr.quorums import QUORUMS

_CHECKOUT = Path(__file__).parents[2]
_FIXED = 150
_FRESH = 50
_PARTS = 10
"""The fixed seeds are cut into so many tests, which run side by side."""


def total_of(seeds: range) -> Total:
    total = NOTHING
    for result, cpu in run_seeds(seeds):
        total = add(total, result, cpu)
    return total


def broken(total: Total) -> list[str]:
    return [f"veritydb simulate --seed {result.seed}: {result.failure}" for result in total.failures]


@pytest.mark.parametrize("part", range(_PARTS))
def test_every_promise_holds_in_the_fixed_seeds(part: int) -> None:
    size = _FIXED // _PARTS
    total = total_of(range(1 + part * size, 1 + (part + 1) * size))

    assert not broken(total)
    assert total.useful >= size * 3 // 4, "too many runs commit too little, or too little goes wrong in them"


@pytest.mark.parametrize("seed", [200_815, 202_683, 300_836, 301_477, 301_778, 301_959, 301_991, 1_000_010, 1_000_037])
def test_what_a_seed_has_found_it_finds_no_more(seed: int) -> None:
    """Seeds of campaigns, beyond the fixed ones; docs/internals/simulation.md tells what each was."""
    result = simulate(draw(seed))
    assert result.failure is None


def test_every_promise_holds_in_fresh_seeds(campaign: bool) -> None:
    first = int.from_bytes(os.urandom(5), "little")
    total = total_of(range(first, first + (_FRESH * 20 if campaign else _FRESH)))

    assert not broken(total)


def test_a_run_without_faults_commits_and_ends() -> None:
    result = simulate(Scenario(seed=1, chaos=2_000_000, chaos_max=4_000_000))

    assert result.failure is None
    assert result.ops > 50
    assert result.answers > 50


def test_a_group_of_one_works() -> None:
    result = simulate(Scenario(seed=2, members=1, chaos=1_000_000, chaos_max=2_000_000))

    assert result.failure is None
    assert result.ops > 20


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_is_the_same_run_every_time(seed: int) -> None:
    assert simulate(draw(seed)) == simulate(draw(seed))


_KEPT = Path(__file__).parent / "traces.txt"
_TRACES = "from veritydb.simulation.scenario import draw; from veritydb.simulation.run import simulate; " + (
    "print(*(simulate(draw(seed)).trace for seed in (3, 5, 12)))"
)


def test_a_seed_is_the_same_run_under_any_hash_seed_and_python(request: pytest.FixtureRequest) -> None:
    """Nothing iterates over a set or relies on ``hash()``: what a member does next must not depend on the process.

    The traces are kept in a file (written anew with ``--rewrite-transcripts``), so that each Python this runs on is
    compared with all others that it has run on: 3.11.7, 3.12.1, 3.13.0 by 2026-11-30.
    """
    traces = {
        subprocess.run(
            [sys.executable, "-c", _TRACES],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            cwd=_CHECKOUT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in (0, 1, 4_294_967_295)
    }

    assert len(traces) == 1
    assert traces == {" ".join(simulate(draw(seed)).trace for seed in (3, 5, 12)) + "\n"}
    if request.config.getoption("--rewrite-transcripts"):
        _KEPT.write_text(traces.pop())
    else:
        assert traces == {_KEPT.read_text()}


def test_a_disk_that_loses_more_than_is_promised_breaks_no_promise_silently() -> None:
    """Beyond the promise a group may stop. It may not go on with another history."""
    for seed in range(1, 9):
        scenario = draw(seed)
        if scenario.members > 1:
            result = simulate(scenario._replace(beyond=True))
            assert result.failure is None, f"seed {seed}: {result.failure}"


def test_a_group_that_lost_more_than_is_promised_stands_still_and_says_why() -> None:
    """Of seeds in which it stands still, with all members alive or waiting to be; nobody is left wondering."""
    stood: list[int] = []
    for seed in range(1, 60):
        scenario = draw(seed)
        if scenario.members == 1:
            continue
        run = Run(scenario._replace(beyond=True))
        result = run.run()
        assert result.failure is None, f"seed {seed}"
        if result.ops < scenario.target:
            stood.append(seed)
            members = run.world.people.members
            loud = sum(_says_why(run.world.nodes[member]) for member in members)
            assert len(members) - loud < max(QUORUMS[len(members)][:2]), f"seed {seed}: a quorum, and nothing wrong"
        if len(stood) == 4:
            return
    raise AssertionError(f"only {stood} stood still")


def _says_why(node: Any) -> bool:
    replica = node.replica
    if replica is None:
        return node.refused is not None
    known = replica.halted, replica.stuck, replica.awaited
    return known != (None, None, None) or replica.status is Status.RECOVERING_HEAD
