"""What a program of the zoo is, and how the text files beside this module are read.

A program begins at ``### name``; ``[alone]`` after it says that its steps mean something only outside a transaction,
``[plain]`` that they do only without encryption. Then, one statement a line: its setup, a line ``---``, its steps. A
line ``for word in this | that`` before the setup makes one program for each of the choices, with ``$word`` replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.sides import Side, Step


@dataclass(frozen=True, slots=True)
class Program:
    """SQL to run: first ``setup``, bare, then ``steps`` in whatever way the test is about."""

    name: str
    setup: tuple[Step, ...]
    steps: tuple[Step, ...]
    prepare: Callable[[Side], None] | None = None
    """Registers functions or collations on both sides before anything runs."""
    register: str | None = None
    """``module:function`` that gives the rebuild what the schema needs."""
    alone: bool = False
    """The steps mean something only outside a transaction."""
    plain: bool = False
    """Means something only without encryption."""

    def __str__(self) -> str:
        return self.name


def read(path: Path) -> tuple[Program, ...]:
    """Return the programs of a text file."""
    text = path.read_text(encoding="utf-8")
    return tuple(program for section in text.split("### ")[1:] for program in _section(section))


def _section(section: str) -> Iterator[Program]:
    name, *lines = filter(None, section.split("\n"))
    choices: list[list[tuple[str, str]]] = []
    while lines[0].startswith("for "):
        word, _, values = lines.pop(0).removeprefix("for ").partition(" in ")
        choices.append([(word, value.strip()) for value in values.split("|")])
    for choice in product(*choices):

        def filled(line: str, choice: tuple[tuple[str, str], ...] = choice) -> str:
            for word, value in choice:
                line = line.replace(f"${word}", value)
            return line

        middle = lines.index("---")
        yield Program(
            filled(name).partition(" [")[0],
            tuple(map(filled, lines[:middle])),
            tuple(map(filled, lines[middle + 1 :])),
            alone="[alone]" in name,
            plain="[plain]" in name,
        )
