"""Plants bugs into copies of the protocol, to see whether the simulator finds them.

A simulator that finds nothing proves something only if it would have found something. ``python -m
veritydb.simulation.planted`` hunts all of :mod:`~veritydb.simulation.bugs` and writes a table of what found them.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

from veritydb.simulation.bugs import BUGS
from veritydb.simulation.code import patched
from veritydb.simulation.run import simulate
from veritydb.simulation.scenario import draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veritydb.simulation.bugs import Planted
    from veritydb.simulation.run import Failure


class Catch(NamedTuple):
    """What found it."""

    name: str
    pitfall: str
    seeds: int
    """Runs until it was found; 0: it was not."""
    failure: Failure | None


def hunt(bug: Planted, seeds: Iterable[int]) -> Catch:
    """Run seeds on a copy with the bug until one of them fails."""
    code = patched(bug.replacements)
    for count, seed in enumerate(seeds, start=1):
        scenario = draw(seed)
        if bug.needs and bug.needs.isdisjoint(fault.kind for fault in scenario.faults):
            continue
        result = simulate(scenario, code)
        if result.failure is not None:
            return Catch(bug.name, bug.pitfall, count, result.failure)
    return Catch(bug.name, bug.pitfall, 0, None)


def table(catches: Iterable[Catch]) -> str:
    """Return what was found as a table in Markdown."""
    lines = ["| bug | pitfall | seeds | found by |", "|---|---|---|---|"]
    for catch in catches:
        found = catch.failure.rule if catch.failure is not None else "**not found**"
        lines.append(f"| {catch.name} | {catch.pitfall} | {catch.seeds or '-'} | {found} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Hunt bugs, and write the table. 1 if one was not found."""
    parser = argparse.ArgumentParser(prog="python -m veritydb.simulation.planted", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="give a bug up after so many (500)")
    parser.add_argument("--bug", metavar="TEXT", default="", help="only those with this in their names")
    told = parser.parse_args()
    catches: list[Catch] = []
    for bug in BUGS:
        if told.bug in bug.name:
            catches.append(hunt(bug, range(1, told.seeds + 1)))
            print(bug.name, catches[-1].seeds or "not found", file=sys.stderr, flush=True)
    if not catches:
        parser.error(f"no bug has {told.bug!r} in its name")
    print(table(catches), end="")
    return int(any(not catch.seeds for catch in catches))


if __name__ == "__main__":
    sys.exit(main())
