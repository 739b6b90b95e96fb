"""Rare branches of the protocol, and whether seeds get there.

That every branch is tested says that somebody thought of it. That a seed has been there says that it was met in the
middle of everything else, with the checkers looking on. Production code has no switch for this: like a bug that is
planted, a mark is a text that occurs once, before which a fresh copy of the code says that it was reached.

``python -m veritydb.simulation.marks`` writes which seed reached which, first.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from veritydb.simulation.code import Replacement, patched
from veritydb.simulation.run import simulate
from veritydb.simulation.scenario import draw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veritydb.simulation.code import Code


class Mark(NamedTuple):
    """A branch that is seldom taken."""

    name: str
    module: str
    text: str
    """A statement that occurs once in the module."""


MARKS = (
    Mark("a superblock found in two copies is written again", "storing", "data = encode(self.durable_block)"),
    Mark("a snapshot ends where its op's header is unknown", "core", "self.headers[op] = header  # A snapshot came"),
    Mark("an op's old header is taken back first", "storing", "token = self._write(Zone.HEADER, slot, blank(slot))"),
    Mark("what was being written is not of the log any more", "storing", "self._free_slot(self._slot(written.op))"),
    Mark("an op is committed before it is durable here", "storing", "return\n            if entry is None:"),
    Mark("a committed op is read from disk to be applied", "storing", "self._recall(op)\n                return"),
    Mark("a primary falls silent: nobody acknowledges", "replica", "self._abdicating = True\n"),
    Mark("a primary falls silent: nobody is heard", "normal", "self._abdicating = True\n        elif"),
    Mark("a silent primary goes on", "normal", "self._abdicating = False  # With ops"),
    Mark("an op that was kept aside follows", "normal", "self._take(following.entry)"),
    Mark("an op comes before the one before it", "normal", "self._ahead[op] = message"),
    Mark("an op that is sent again is acknowledged again", "normal", "self._acknowledge(op)  # It was lost"),
    Mark("an op that is sent again fills a gap", "normal", "self._keep(message.entry)\n        elif"),
    Mark("an old heartbeat comes", "normal", "return  # An old one: it says nothing"),
    Mark("an entry is read for another member", "repair", "self._read_entry(message.src, message.op, "),
    Mark("an entry is found to have rotted", "repair", "self.durable[slot] = None\n            self.faulty.add"),
    Mark("a snapshot is given to who began it before", "repair", "snapshot = before[1]"),
    Mark("a snapshot is fetched because nobody answers", "repair", "return True  # They may have it"),
    Mark("headers come in more than one piece", "repair", 'self._start_timer("repair", 1)  # All of it'),
    Mark("a silent primary wants to leave, too", "view_change", "self.exit_votes.add(self.member)  # A primary"),
    Mark("a primary-to-be leaves the view to another", "view_change", "return\n        choice = choose_log("),
    Mark("a primary-to-be gives up a view", "view_change", "self._enter_view_change(self.view + 1)\n\n    def _knows"),
    Mark("a view's log is cut by proof", "choosing", "kept = {kept: headers[kept]"),
    Mark("a primary-to-be waits for another member", "choosing", "return Wait(op) if"),
    Mark("a snapshot is installed with a log's end", "view_change", "assert self._next_snapshot is not None"),
    Mark("a torn append is cut", "recovery", "limit = first\n"),
    Mark("a bad entry is not taken for a torn one", "recovery", "faulty.update(slot.number for slot in torn)"),
    Mark("a slot's op was given up by a view change", "recovery", "faulty.discard(slot.number)"),
    Mark("an entry is in another's place", "recovery", "entry = None  # Misdirected"),
)  # fmt: skip

reached: set[str] = set()
"""Names of marks, since it was last cleared."""


def reach(name: str) -> None:
    """Say that a branch was taken."""
    reached.add(name)


def marked() -> Code:
    """Return a copy of the protocol that says which marks it reaches. Raises NotThere if a text is not there once."""
    here = f'__import__("{__name__}", fromlist=["reach"]).reach'
    return patched(
        [Replacement(f"veritydb.vsr.{mark.module}", mark.text, f"{here}({mark.name!r}); {mark.text}") for mark in MARKS]
    )


def first_reached(seeds: Iterable[int]) -> dict[str, int]:
    """Return the first seed that reached each mark, until all are; those that none has reached are missing."""
    code = marked()
    first: dict[str, int] = {}
    for seed in seeds:
        reached.clear()
        simulate(draw(seed), code)
        for name in reached:
            first.setdefault(name, seed)
        if len(first) == len(MARKS):
            break
    return first


def main(arguments: list[str]) -> int:
    """Write the marks and the first of so many seeds that reached each. 1 if one was not reached."""
    limit = int(arguments[0]) if arguments else 150
    first = first_reached(range(1, limit + 1))
    for mark in MARKS:
        print(f"| {mark.name} | {first.get(mark.name, '-')} |")
    return int(len(first) < len(MARKS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
