"""``Row``: a row of results that answers to column names, as ``sqlite3.Row`` does.

Not a tuple, on purpose: ``sqlite3.Row`` is none either, and programs rely on what ``isinstance`` and ``==`` say.
"""

# The helpers below the class are part of it.
# pyright: reportPrivateUsage=false
# What a program passes is checked, whatever the annotations promise.
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, overload

if TYPE_CHECKING:
    from typing import Self

    from veritydb.cursor import Cursor

cursors: list[type] = []
"""Cursor's class, put there by :mod:`veritydb.cursor`, which this module is below."""

_new = object.__new__


class Row:
    """A row with access by index, slice, and case-insensitive column name.

    Made by ``connection.row_factory = veritydb.Row``. Rows are equal if their column names and values are.
    """

    __slots__ = ("_description", "_values")

    _description: tuple[tuple[Any, ...], ...] | None
    _values: tuple[Any, ...]

    def __new__(cls, cursor: Cursor, data: tuple[Any, ...], /) -> Self:
        """Take ``data`` as a row of what ``cursor`` executed last."""
        if not issubclass(type(cursor), cursors[0]):
            raise TypeError(f"Row() argument 1 must be veritydb.Cursor, not {kind_of(cursor)}")
        if not isinstance(data, tuple):
            raise TypeError(f"Row() argument 2 must be tuple, not {kind_of(data)}")
        row = _new(cls)
        row._values = data
        row._description = cursor.description
        return row

    def keys(self) -> list[str]:
        """Return the names of the columns."""
        return [column[0] for column in self._description or ()]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    @overload
    def __getitem__(self, key: int | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...
    def __getitem__(self, key: int | str | slice, /) -> Any:
        if isinstance(key, str):
            return self._values[self._position(key)]
        if isinstance(key, slice):
            return self._values[key]
        if isinstance(key, int):
            try:
                return self._values[key]
            except IndexError:
                if key.bit_length() > 63:
                    raise IndexError("cannot fit 'int' into an index-sized integer") from None
                raise
        raise IndexError("Index must be int or string")

    def _position(self, name: str) -> int:
        description = self._description or ()
        known = _known.get(id(description))
        if known is None or known[0] is not description:
            known = _remember(description)
        positions = known[1]
        position = positions.get(name)
        if position is None and name.isascii():
            position = positions.get(name.lower())
        if position is None:
            raise IndexError("No item with that key")
        return position

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Row):
            return self._description == other._description and self._values == other._values
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._description) ^ hash(self._values)

    def __repr__(self) -> str:
        return f"<veritydb.Row object at {id(self):#x}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"cannot pickle {type_name(type(self))!r} object")


def rows(description: Description | None, many: Sequence[tuple[Any, ...]]) -> list[Row]:
    """Return each tuple of ``many`` as a Row, without the checks that one made by a program gets."""
    made: list[Row] = []
    for values in many:
        row = _new(Row)
        row._values = values
        row._description = description
        made.append(row)
    return made


Description: TypeAlias = "tuple[tuple[Any, ...], ...]"

_known: dict[int, tuple[Description, dict[str, int]]] = {}
"""Column positions by the identity of a description. Descriptions live as long as the plan of their statement."""
_KNOWN_MAX = 256


def _remember(description: Description) -> tuple[Description, dict[str, int]]:
    # The first column that fits wins, exactly or with case folded (for ASCII only, as SQLite folds names): a look-up
    # of the exact name and one of the folded name find it, if every name is entered both ways from the right.
    positions: dict[str, int] = {}
    for position in reversed(range(len(description))):
        name = description[position][0]
        if name.isascii():
            for other in [known for known in positions if known.isascii() and known.lower() == name.lower()]:
                positions[other] = position
            positions[name.lower()] = position
        positions[name] = position
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    entry = _known[id(description)] = (description, positions)
    return entry


def kind_of(value: object) -> str:
    """Return what an error message calls the type of an argument."""
    return "None" if value is None else type(value).__name__


def type_name(cls: type) -> str:
    """Return what a C type calls itself in messages: with its module if it is ours, bare for a program's subclass."""
    return f"veritydb.{cls.__name__}" if cls.__module__ == "veritydb" else cls.__name__


Row.__module__ = "veritydb"
Sequence.register(Row)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  typeshed hides it
