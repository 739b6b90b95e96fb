"""What a caller may see: tables, columns, rows. Pure; the same rules for streams, for queries and for the past.

A *role* is what the configuration says (:mod:`veritydb.sse.settings` reads it). Bound to the claims of one caller it
becomes :class:`Rights`, a value: callers with equal rights see the same bytes, so what is pushed to them is made once.
A :class:`Lens` applies the rights on one table to the rows of that table, given the columns it has at the moment.

Two rules keep names from leaking. What is not granted does not exist: there is one answer for a table that is unknown
and for one that is forbidden. And ``"*"``, which grants all tables that are not named, never grants a view (it would
show what its tables hide) nor a table of SQLite's or of VerityDB's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from veritydb.events import Image, Value

Scalar: TypeAlias = "str | int | float"
"""What a row filter compares with: what TOML and a token can both say."""

EVERY_OTHER = "*"
_RESERVED = ("sqlite_", "_veritydb_")


@dataclass(frozen=True, slots=True)
class Claim:
    """Stands for what the caller's token says under a name; a token that does not say it sees no row."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRule:
    """What a role may see of one table."""

    columns: tuple[str, ...] | None = None
    """None: all there are."""
    rows: tuple[tuple[str, tuple[Scalar, ...] | Claim], ...] = ()
    """Conditions that all have to hold: a column is one of the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What the configuration grants under one name."""

    name: str
    tables: Mapping[str, TableRule] = field(default_factory=dict[str, TableRule])
    """By name in lower case; ``"*"`` for all tables that are not named."""
    query: bool = True
    """May ask SELECTs."""
    history: bool = True
    """May ask what was: earlier changes, and tables as of an offset."""
    actors: bool = True
    """Is told who changed something, and why."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one caller may see of one table."""

    columns: tuple[str, ...] | None
    """Lower case; None: all there are."""
    rows: tuple[tuple[str, frozenset[Scalar]], ...]

    @property
    def whole(self) -> bool:
        """Whether nothing of the table is hidden."""
        return self.columns is None and not self.rows


@dataclass(frozen=True, slots=True)
class Rights:
    """What one caller may see."""

    tables: tuple[tuple[str, Grant], ...]
    others: Grant | None
    query: bool
    history: bool
    actors: bool

    def of(self, table: str, *, view: bool = False) -> Grant | None:
        """Return the grant on a table or view; None if it does not exist for this caller."""
        name = table.lower()
        for granted, grant in self.tables:
            if granted == name:
                return grant
        if view or name.startswith(_RESERVED):
            return None
        return self.others


def bind(role: Role, claims: Mapping[str, Any]) -> Rights:
    """Return the rights of a caller with ``claims`` in ``role``."""
    tables = {name: _grant(rule, claims) for name, rule in role.tables.items()}
    others = tables.pop(EVERY_OTHER, None)
    return Rights(tuple(sorted(tables.items())), others, role.query, role.history, role.actors)


def _grant(rule: TableRule, claims: Mapping[str, Any]) -> Grant:
    columns = None if rule.columns is None else tuple(name.lower() for name in rule.columns)
    rows: list[tuple[str, frozenset[Scalar]]] = []
    for column, wanted in rule.rows:
        values = _claimed(claims.get(wanted.name)) if isinstance(wanted, Claim) else frozenset(wanted)
        rows.append((column.lower(), values))
    return Grant(columns, tuple(rows))


def _claimed(said: Any) -> frozenset[Scalar]:
    """Return the values of a claim; nothing for what cannot be compared with a column."""
    items = as_list(said)
    return frozenset(item for item in items if isinstance(item, (str, int, float)) and not isinstance(item, bool))


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, and what is none as the only item of one."""
    return value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]  TOML has no types


EVERYTHING = Rights((), Grant(None, ()), True, True, True)
"""All tables, all of each."""


class Lens:
    """Shows the rows of one table as one caller may see them."""

    __slots__ = ("_conditions", "_positions", "_shown", "columns", "whole")

    def __init__(self, grant: Grant, columns: Sequence[str]) -> None:
        folded = [name.lower() for name in columns]
        allowed = grant.columns
        self._positions = [n for n, name in enumerate(folded) if allowed is None or name in allowed]
        self.columns: tuple[str, ...] = tuple(columns[n] for n in self._positions)
        """Those that are shown."""
        self._shown = frozenset(folded[n] for n in self._positions)
        self.whole = len(self._positions) == len(folded)
        """Whether that is all of them."""
        self._conditions: list[tuple[int, frozenset[Scalar]]] = []
        for column, values in grant.rows:
            # A condition on a column that the table does not have (any more) holds for no row.
            position = folded.index(column) if column in folded else -1
            self._conditions.append((position, values if position >= 0 else frozenset()))

    def shows(self, column: str) -> bool:
        """Whether a column is shown."""
        return column.lower() in self._shown

    @property
    def filtered(self) -> bool:
        """Whether some rows are not shown."""
        return bool(self._conditions)

    def admits(self, image: Image) -> bool:
        """Whether a row is shown."""
        return all(admitted(image[position], values) for position, values in self._conditions)

    def project(self, image: Image) -> Image:
        """Return the values of a row that are shown."""
        return image if self.whole else tuple(image[position] for position in self._positions)


def admitted(value: Value, values: frozenset[Scalar]) -> bool:
    """Whether a value is one of those that a condition names: NULL and blobs never are, and 1 is not '1'."""
    return isinstance(value, (str, int, float)) and value in values
