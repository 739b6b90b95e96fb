"""What an application's schema needs and SQLite does not have: functions, collations, virtual table modules.

A rebuild runs without the application, but an index on ``soundslike(name)`` has to be filled. So the application names
a function of its own, ``"clinic.db:register"``, which is called with something that takes what a connection takes::

    def register(connection):
        connection.create_function("soundslike", 1, soundslike, deterministic=True)
        connection.create_collation("german", compare_german)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

import apsw

from veritydb.errors import ConfigurationError

Register: TypeAlias = "str | Callable[[Any], object] | None"
"""``"module:function"``, or the function itself."""


class Registrar:
    """Takes functions and collations as :class:`veritydb.Connection` does, for a file that is only replayed on."""

    def __init__(self, db: apsw.Connection) -> None:
        self.apsw_connection = db
        """For what has no method here: virtual table modules, FTS5 tokenizers."""

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """Register a function for SQL; indexes and generated columns take only deterministic ones."""
        self.apsw_connection.create_scalar_function(name, func, narg, deterministic=deterministic)

    def create_collation(self, name: str, callable: Callable[[str, str], int] | None) -> None:  # noqa: A002  APSW's word, which callers may name
        """Register a collation."""
        self.apsw_connection.create_collation(name, callable)

    def create_aggregate(self, name: str, n_arg: int, aggregate_class: Callable[[], Any] | None) -> None:
        """Take an aggregate and leave it: nothing that is stored can depend on one."""

    def create_window_function(self, name: str, num_params: int, aggregate_class: Callable[[], Any] | None) -> None:
        """Take a window function and leave it, for the same reason."""

    def execute(self, sql: str, parameters: Any = (), /) -> apsw.Cursor:
        """Run a query: what there is to register may depend on what SQLite has already."""
        return self.apsw_connection.execute(sql, parameters)

    def enable_load_extension(self, enable: bool) -> None:
        """Allow or forbid :meth:`load_extension`."""
        self.apsw_connection.enable_load_extension(enable)

    def load_extension(self, name: str, *, entrypoint: str | None = None) -> None:
        """Load an extension that has functions, collations or modules of the schema."""
        self.apsw_connection.load_extension(name, entrypoint)


def load(register: Register) -> Callable[[Any], object] | None:
    """Return the function that ``register`` names. Raises ConfigurationError if there is none."""
    if register is None or not isinstance(register, str):
        return register
    module_name, _, function_name = register.partition(":")
    if not module_name or not function_name:
        raise ConfigurationError(f"register must be 'module:function', not {register!r}")
    try:
        found: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{register} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"{register} is not a function")
    return found  # type: ignore[no-any-return]  # what a module holds has no type


def prepare(db: apsw.Connection, register: Register) -> None:
    """Call what ``register`` names with a registrar for ``db``."""
    function = load(register)
    if function is not None:
        function(Registrar(db))
