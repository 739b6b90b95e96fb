"""Every set of directed links of three members that may be cut, with and without a crash.

Between three members there are six links, each one direction of a pair, and so 64 sets of cut ones. Half-open networks
are what sank others (Cloudflare's etcd in 2020; "Raft does not guarantee liveness in the face of network faults"): a
member that is heard and does not hear, or the other way round, must neither stop those who can talk nor make them
change their primary for ever.

In each run a group works, the links are cut, perhaps a member crashes and comes back; clients can reach everybody. Then
it is asked whether those who *can talk*, two members at least with both directions between them, go on committing; all
the while the checkers look; and when the links are mended, everybody must agree and take new work.

``python -m veritydb.simulation.links`` tries all of them and prints a table.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from typing import NamedTuple

from veritydb.simulation.code import Code
from veritydb.simulation.run import Result, Run
from veritydb.simulation.scenario import SECOND, Scenario

LINKS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1))
MASKS = range(1 << len(LINKS))
BEFORE = 1 * SECOND
"""In which all is well."""
SETTLE = 6 * SECOND
"""From the cut on: so long those who can talk may need to agree on a primary."""
LOOK = 6 * SECOND
"""So long it is looked whether they commit."""
DOWN = 2 * SECOND
"""From a crash to the start."""


class Outcome(NamedTuple):
    """What came of one set of cut links."""

    mask: int
    crashed: int | None
    can_talk: bool
    progress: int
    """Ops that were committed while it was looked."""
    views: int
    """Views that were begun meanwhile."""
    result: Result

    @property
    def cut(self) -> str:
        """The links, in words."""
        return " ".join(f"{src}→{dst}" for src, dst in cut_links(self.mask)) or "none"

    @property
    def problem(self) -> str | None:
        """What is not as it should be."""
        if self.result.failure is not None:
            return str(self.result.failure)
        if self.can_talk and not self.progress:
            return "those who can talk commit nothing"
        return None


def cut_links(mask: int) -> list[tuple[int, int]]:
    """Return the links that a mask cuts: bit i is ``LINKS[i]``."""
    return [link for bit, link in enumerate(LINKS) if mask >> bit & 1]


def can_talk(mask: int) -> bool:
    """Whether two members have both directions between them."""
    cut = set(cut_links(mask))
    return any((a, b) not in cut and (b, a) not in cut for a, b in combinations(range(3), 2))


class _LinkRun(Run):
    """A run whose only fault are cut links, and a crash."""

    def __init__(self, mask: int, crashed: int | None, seed: int, code: Code | None) -> None:
        super().__init__(Scenario(seed=seed, clients=3, streams=2, think=100_000, target=0), code)
        self.mask = mask
        self.crashed = crashed
        self.progress = self.views = 0

    def _chaos(self) -> None:
        world, checkers = self.world, self.checkers
        for member in world.nodes:
            world.start(member)
        self.clients.begin()
        world.run(BEFORE)
        world.network.cut(cut_links(self.mask))
        if self.crashed is not None:
            node = world.nodes[self.crashed]
            world.crash(self.crashed)
            world.after(DOWN, world.revive, self.crashed, node.incarnation)
        world.run(BEFORE + SETTLE)
        ops, view = checkers.commit_max, self._view()
        world.run(BEFORE + SETTLE + LOOK)
        self.progress, self.views = checkers.commit_max - ops, self._view() - view

    def _view(self) -> int:
        return max(int(node.replica.view) for node in self.world.nodes.values() if node.replica is not None)

    def _choose_core(self) -> tuple[int, ...]:
        return tuple(sorted(self.world.nodes))  # Everybody: the links are mended.


def run_links(mask: int, crashed: int | None = None, *, seed: int = 1, code: Code | None = None) -> Outcome:
    """Cut the links of ``mask``, and crash a member or none."""
    run = _LinkRun(mask, crashed, seed, code)
    result = run.run()
    return Outcome(mask, crashed, can_talk(mask), run.progress, run.views, result)


def main(arguments: list[str]) -> int:
    """Try every set of cut links, without a crash and with one of each member. 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m veritydb.simulation.links", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="so many runs of each")
    chosen = parser.parse_args(arguments)
    problems = 0
    print("cut | crashed | can talk | committed | views")
    for mask in MASKS:
        for crashed in (None, 0, 1, 2):
            for seed in range(1, chosen.seeds + 1):
                outcome = run_links(mask, crashed, seed=seed)
                problems += outcome.problem is not None
                print(
                    f"{outcome.cut} | {'-' if crashed is None else crashed} | {'yes' if outcome.can_talk else 'no'} | "
                    f"{outcome.progress} | {outcome.views}" + (f" | {outcome.problem}" if outcome.problem else ""),
                    flush=True,
                )
    print(f"{problems} problems")
    return int(bool(problems))


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
