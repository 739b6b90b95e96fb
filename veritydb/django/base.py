"""The connection that Django sees: its SQLite backend, with VerityDB where that has ``sqlite3``.

Django imports this module and looks for ``DatabaseWrapper``. Options beyond those of Django's SQLite backend:

``key``         passphrase, raw key or key provider, as for :func:`veritydb.connect`
``key_file``    a file that holds the key
``cluster``     where a cluster's nodes are, ``stream`` and ``consistency``: as for :func:`veritydb.connect`
``actor``       who makes the transactions when nobody is said to act (:mod:`veritydb.django.acting`)
``on_missing``  "rebuild" or "new", as for :func:`veritydb.connect`
``register``    ``"module:function"`` or a function, called with each new connection to register what the schema
                needs beyond Django's own functions
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

import datetime
import decimal
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.sqlite3 import base
from django.utils.asyncio import async_unsafe
from django.utils.dateparse import parse_date, parse_datetime, parse_time

import veritydb
from veritydb.django import register, signals
from veritydb.django.client import DatabaseClient
from veritydb.django.connecting import Connection, DjangoCursor
from veritydb.django.creation import DatabaseCreation
from veritydb.django.features import DatabaseFeatures
from veritydb.django.introspection import DatabaseIntrospection
from veritydb.django.operations import DatabaseOperations
from veritydb.django.schema import DatabaseSchemaEditor
from veritydb.replay.registering import Register, load
from veritydb.streams import ON_MISSING

Database = veritydb

# Django tells the standard module how its columns are read and its values written; ours has registries of its own.
Database.register_converter("bool", b"1".__eq__)
Database.register_converter("date", base.decoder(parse_date))
Database.register_converter("time", base.decoder(parse_time))
Database.register_converter("datetime", base.decoder(parse_datetime))
Database.register_converter("timestamp", base.decoder(parse_datetime))
Database.register_adapter(decimal.Decimal, str)
Database.register_adapter(datetime.date, base.adapt_date)
Database.register_adapter(datetime.datetime, base.adapt_datetime)

_OPTIONS = frozenset(
    (
        *("timeout", "detect_types", "isolation_level", "check_same_thread", "factory", "cached_statements", "uri"),
        *("autocommit", "transaction_mode", "init_command"),
        *("key", "key_file", "actor", "on_missing", "register", "cluster", "stream", "consistency"),
    )
)


class DatabaseWrapper(base.DatabaseWrapper):
    """One connection of Django's."""

    Database = Database
    SchemaEditorClass = DatabaseSchemaEditor
    client_class = DatabaseClient
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    introspection_class = DatabaseIntrospection
    ops_class = DatabaseOperations

    def get_connection_params(self) -> dict[str, Any]:
        """Return what :meth:`get_new_connection` opens. Raises ImproperlyConfigured, naming the option."""
        where = f"settings.DATABASES[{self.alias!r}]['OPTIONS']"
        unknown = sorted(self.settings_dict["OPTIONS"].keys() - _OPTIONS)
        if unknown:
            raise ImproperlyConfigured(f"{where} has no option {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}")
        params: dict[str, Any] = super().get_connection_params()
        key_file = params.pop("key_file", None)
        if key_file is not None:
            if params.get("key") is not None:
                raise ImproperlyConfigured(f"{where} has both 'key' and 'key_file'; one of them is enough")
            params["key"] = veritydb.FileKeyProvider(key_file)
        if params.get("on_missing", "rebuild") not in ON_MISSING:
            raise ImproperlyConfigured(f"{where}['on_missing'] must be one of {', '.join(ON_MISSING)}")
        if not issubclass(params.setdefault("factory", Connection), Connection):
            raise ImproperlyConfigured(f"{where}['factory'] does not inherit from {Connection.__module__}.Connection")
        return params

    @async_unsafe
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Open a connection and give it Django's functions."""
        extra: Register = conn_params.get("register")
        connection: Any = Database.connect(**{**conn_params, "register": partial(_register, extra=extra)})
        connection.setconfig(Database.SQLITE_DBCONFIG_ENABLE_FKEY, True)  # A pragma would have to be planned.
        for command in self.init_commands:
            if command := command.strip():
                connection.execute(command)
        connection.ready = True
        signals.watch(connection, self.alias)
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor that takes Django's placeholders."""
        connection: Any = self.connection
        return connection.cursor(factory=DjangoCursor)

    def is_usable(self) -> bool:
        """Whether the connection may be kept for the next request."""
        return not getattr(self.connection, "broken", False)


def _register(connection: Any, *, extra: Register) -> None:
    register(connection)
    function = load(extra)
    if function is not None:
        function(connection)
