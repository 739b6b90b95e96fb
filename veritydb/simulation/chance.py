"""All randomness of the simulation: SplitMix64, in integers, so that a seed means the same on every Python.

``random`` promises that only for some of its methods, and its floats tempt one to compare. One seed is split by name
into independent streams (network, disk of member 1, workload, ...): a run with one kind of fault removed keeps the
other streams as they were, which is what makes shrinking a failing seed possible.

Sebastiano Vigna's SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>) passes BigCrush and needs one addition and two
multiplications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

T = TypeVar("T")
_MASK = (1 << 64) - 1
MILLION = 1_000_000
"""Chances are given in parts per million."""


class Chance:
    """One stream of numbers."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def split(self, name: str) -> Chance:
        """Return a stream of its own for ``name``; this one does not move."""
        state = self._state
        for byte in name.encode():
            state = ((state ^ byte) * 0x100000001B3) & _MASK  # FNV-1a
        child = Chance(state)
        child.bits()
        return child

    def bits(self) -> int:
        """Return 64 bits."""
        self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, limit: int) -> int:
        """Return 0 .. ``limit`` - 1."""
        return (self.bits() * limit) >> 64

    def between(self, low: int, high: int) -> int:
        """Return ``low`` .. ``high``, both possible."""
        return low + ((self.bits() * (high - low + 1)) >> 64)

    def happens(self, per_million: int) -> bool:
        """Whether something of this likelihood happens now. Draws nothing if it never does."""
        return per_million > 0 and (self.bits() * MILLION) >> 64 < per_million

    def heavy(self, low: int, scale: int) -> int:
        """Return ``low`` and more: mostly less than ``scale`` more, but with half the chance twice as much, and so on.

        A tail without a mean (Pareto's, exponent 1), cut at 1,024 times ``scale``: what queues of real networks do.
        """
        bits = self.bits()
        zeros = ((bits & 1023) | 1024) & -((bits & 1023) | 1024)  # 1, 2, 4 ... 1024, each half as likely
        return low + (((bits >> 10) * scale * zeros) >> 54)

    def pick(self, items: Sequence[T]) -> T:
        """Return one of ``items``."""
        return items[(self.bits() * len(items)) >> 64]

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Put ``items`` in any order."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def octets(self, count: int) -> bytes:
        """Return ``count`` bytes."""
        return b"".join(self.bits().to_bytes(8, "little") for _ in range((count + 7) // 8))[:count]
