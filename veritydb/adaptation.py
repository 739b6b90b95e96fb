"""Values of Python types that SQLite does not know: adapters on the way in, converters on the way out.

The registries are VerityDB's own (``veritydb.adapters``, ``veritydb.converters``), filled as :mod:`sqlite3` fills its:
dates and times. The cursor asks :func:`bindable` for every set of parameters, so the usual case, in which every value
is of a type that SQLite stores as it is, costs one C call and no loop in Python.

(The module is not called ``adapters``, because ``veritydb.adapters`` is the dictionary, as in :mod:`sqlite3`.)
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import apsw

from veritydb.deprecations import deprecated
from veritydb.errors import ProgrammingError

Adapter: TypeAlias = Callable[[Any], Any]
Converter: TypeAlias = Callable[[bytes], Any]
RowConverter: TypeAlias = Callable[[tuple[Any, ...]], tuple[Any, ...]]


class PrepareProtocol:
    """The protocol that ``__conform__`` is asked for: become something SQLite stores."""

    __slots__ = ()


adapters: dict[tuple[type, Any], Adapter] = {}
"""(type, protocol) → adapter. Change it through :func:`register_adapter`."""
converters: dict[str, Converter] = {}
"""Upper-case type name → converter. Change it through :func:`register_converter`."""

_stored = frozenset({int, float, str, bytes, bool, type(None)})
"""Types that are stored as they are. A type leaves it when somebody registers an adapter for it."""
_all_stored = _stored.issuperset
_is_sequence = frozenset({tuple, list}).issuperset
_TEXT_MAX = 2**31 - 1


def register_adapter(type: type, adapter: Adapter, /) -> None:  # noqa: A002  the name sqlite3 gives it
    """Let ``adapter(value)`` turn values of exactly ``type`` into something SQLite stores."""
    global _stored, _all_stored
    if type in _stored:
        _stored -= {type}
        _all_stored = _stored.issuperset
    adapters[(type, PrepareProtocol)] = adapter


def register_converter(typename: str, converter: Converter, /) -> None:
    """Let ``converter(bytes)`` read values of the SQL type ``typename`` (any case), under ``detect_types``."""
    converters[typename.upper()] = converter


_MISSING: Any = object()


def adapt(obj: Any, proto: Any = PrepareProtocol, alt: Any = _MISSING, /) -> Any:
    """Adapt ``obj`` to ``proto``: by a registered adapter, ``proto.__adapt__`` or ``obj.__conform__``.

    Without any of them ``alt`` is returned; without ``alt`` ProgrammingError("can't adapt") is raised.
    """
    key: Any = (type(obj), proto)
    adapter = adapters.get(key)
    if adapter is not None:
        return adapter(obj)
    for ask, given in ((getattr(proto, "__adapt__", None), obj), (getattr(obj, "__conform__", None), proto)):
        if ask is None:
            continue
        try:
            adapted = ask(given)
        except TypeError:
            continue
        if adapted is not None:
            return adapted
    if alt is not _MISSING:
        return alt
    raise ProgrammingError("can't adapt")


# On the way in --------------------------------------------------------------------------------------------------------


def bindable(parameters: Any) -> Any:
    """Return ``parameters`` with every value as SQLite takes it: a tuple, list or dict for APSW.

    Raises ProgrammingError for a set of parameters that is neither a sequence nor a mapping, or for a value that no
    adapter adapts; whatever an adapter raises goes through.
    """
    kind: Any = parameters.__class__
    if (kind is tuple or kind is list) and _all_stored(map(type, parameters)):
        return parameters
    if issubclass(kind, Mapping):
        if kind is dict and _all_stored(map(type, parameters.values())):
            return parameters
        return _Names(parameters)
    if not hasattr(parameters, "__getitem__"):
        raise ProgrammingError("parameters are of unsupported type")
    # By index and by the length at the start, as sqlite3 goes, because __conform__ may change the list on the way.
    return tuple([_value(parameters[position], position + 1) for position in range(len(parameters))])


def bindable_rows(rows: Iterable[Any]) -> Iterable[Any]:
    """Return ``rows`` for ``executemany``, each as :func:`bindable` would return it."""
    # Two passes in C over all rows; a generator cannot be looked through before it is used.
    if isinstance(rows, list | tuple) and _is_sequence(map(type, rows)):
        values: Iterable[Any] = chain.from_iterable(rows)
        if _all_stored(map(type, values)):
            return rows
    return _each(iter(rows))


def _each(rows: Iterator[Any]) -> Iterator[Any]:
    for row in rows:
        if row.__class__ is tuple and _all_stored(map(type, row)):
            yield row
        else:
            yield bindable(row)


class _Names(Mapping[str, Any]):
    """Named parameters, each adapted once, when SQLite asks for it: names that do not occur are never looked at."""

    __slots__ = ("_adapted", "_given")

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._adapted: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        adapted = self._adapted
        if name not in adapted:
            try:
                value = self._given[name]
            except LookupError:
                raise ProgrammingError(f"You did not supply a value for binding parameter :{name}.") from None
            adapted[name] = _value(value, len(adapted) + 1)
        return adapted[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


def _value(value: Any, position: int) -> Any:
    if type(value) in _stored:
        return value
    try:
        adapted = adapt(value, PrepareProtocol, value)
    except ProgrammingError:
        adapted = value
    if adapted is None or isinstance(adapted, float | int | str | bytes):
        return adapted
    try:
        memoryview(adapted)
    except TypeError as error:
        # The message ends in the type's name as C knows it ("not 'decimal.Decimal'"), which Python code cannot ask for.
        name = str(error).rpartition("not '")[2].rstrip("'")
        raise ProgrammingError(f"Error binding parameter {position}: type '{name}' is not supported") from None
    return adapted


# On the way out -------------------------------------------------------------------------------------------------------


def converter_names(
    columns: Sequence[tuple[str, str | None]], *, by_declaration: bool, by_name: bool
) -> list[tuple[str, ...]]:
    """Return by which names the converter of each column is looked up. ``columns`` are (name, declared type)."""
    found: list[tuple[str, ...]] = []
    for name, declared in columns:
        names: list[str] = []
        if by_name and "[" in name:
            end = name.find("]", name.index("["))
            if end >= 0:
                names.append(name[name.index("[") + 1 : end].upper())
        if by_declaration and declared:
            names.append(declared.split(" ", 1)[0].split("(", 1)[0].upper())
        found.append(tuple(names))
    return found


def converters_of(names: Iterable[tuple[str, ...]]) -> list[Converter | None] | None:
    """Return the converter of each column, as they are registered now, or None if no column has one."""
    some = False
    found: list[Converter | None] = []
    for each in names:
        converter = None
        for name in each:
            converter = converters.get(name)
            if converter is not None:
                some = True
                break
        found.append(converter)
    return found if some else None


def as_bytes(value: Any) -> bytes | None:
    """Return ``value`` as ``sqlite3_column_blob`` would: numbers as SQLite writes them in text."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float):
        return _real(value).encode()
    return str(value).encode()


def _real(value: float) -> str:
    # How many digits, and where the exponent begins, depends on SQLite's version; so SQLite writes it.
    global _sqlite
    if _sqlite is None:
        _sqlite = apsw.Connection(":memory:")
    return str(_sqlite.execute("SELECT CAST(? AS TEXT)", (value,)).get)


_sqlite: apsw.Connection | None = None


# What sqlite3 registers by itself -------------------------------------------------------------------------------------


def _deprecated(what: str) -> None:
    deprecated(
        f"The default {what} is deprecated as of Python 3.12; "
        "see the sqlite3 documentation for suggested replacement recipes"
    )


def _adapt_date(value: datetime.date) -> str:
    _deprecated("date adapter")
    return value.isoformat()


def _adapt_datetime(value: datetime.datetime) -> str:
    _deprecated("datetime adapter")
    return value.isoformat(" ")


def _convert_date(value: bytes) -> datetime.date:
    _deprecated("date converter")
    return datetime.date(*map(int, value.split(b"-")))


def _convert_timestamp(value: bytes) -> datetime.datetime:
    _deprecated("timestamp converter")
    date, time = value.split(b" ")
    year, month, day = map(int, date.split(b"-"))
    clock, _, fraction = time.partition(b".")
    hours, minutes, seconds = map(int, clock.split(b":"))
    # "456" means 456000 microseconds, and digits beyond the sixth are cut.
    microseconds = int(f"{fraction.decode():0<6.6}") if fraction else 0
    return datetime.datetime(year, month, day, hours, minutes, seconds, microseconds)


register_adapter(datetime.date, _adapt_date)
register_adapter(datetime.datetime, _adapt_datetime)
register_converter("date", _convert_date)
register_converter("timestamp", _convert_timestamp)

PrepareProtocol.__module__ = "veritydb"
