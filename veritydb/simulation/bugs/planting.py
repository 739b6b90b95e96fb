"""A bug as a value: a name, and texts that become others."""

from __future__ import annotations

from typing import NamedTuple

from veritydb.simulation.code import Replacement


class Planted(NamedTuple):
    """A bug."""

    name: str
    """What is wrong, in a few words."""
    pitfall: str
    """Its number among the pitfalls of ``docs/internals/vsr.md``, or empty."""
    replacements: tuple[Replacement, ...]
    needs: frozenset[str] = frozenset()
    """Kinds of fault without one of which it cannot show: seeds that have none of them are counted, and not run."""
    quick: bool = False
    """Whether a dozen seeds are enough to find it: then the usual run of the tests looks for it."""


def in_module(module: str, old: str, new: str) -> Replacement:
    """Return a replacement in a module of :mod:`veritydb`."""
    return Replacement(f"veritydb.{module}", old, new)
