"""What a VerityDB URL may say, turned into arguments of :func:`veritydb.connect`; driven by the dialect.

::

    veritydb:///clinic.db                    a path from where the program runs
    veritydb:////var/lib/clinic.db           an absolute one
    veritydb://                              in memory
    veritydb://dr.lee:secret@/clinic.db      the user name is the actor, the password the key

A URL is printed, logged and kept in configuration files, and SQLAlchemy masks nothing in it but the password. So a
key had better come from ``key_file``, ``key_env`` or ``connect_args``; a ``key`` in the query string is moved to where
it is masked (:func:`masked`).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sqlalchemy.exc import ArgumentError

from veritydb.consistency import check
from veritydb.errors import ConfigurationError
from veritydb.keys import EnvKeyProvider, FileKeyProvider
from veritydb.streams import ON_MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import URL

_SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _switch(text: str) -> bool:
    return _SWITCHES[text.lower()]


def _seconds(text: str) -> float:
    seconds = float(text)
    if seconds != seconds:
        raise ValueError
    return seconds


def _one_of(*words: str) -> Callable[[str], str]:
    """Return a reader of one of ``words``, in capitals or not; it gives the word as it stands here."""
    known = {word.lower(): word for word in words}

    def read(text: str) -> str:
        return known[text.lower()]

    return read


def _function(text: str) -> Callable[[Any], None]:
    module, _, name = text.partition(":")
    found = getattr(import_module(module), name)
    if not callable(found):
        raise TypeError
    return found  # type: ignore[no-any-return]  # what it passes on has no type


_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "actor": (str, "text"),
    "cached_statements": (int, "a number"),
    "check_same_thread": (_switch, "true or false"),
    "cluster": (str, "a path or addresses"),
    "consistency": (check, "default, synchronized or eventual"),
    "detect_types": (int, "a number"),
    "isolation_level": (_one_of("DEFERRED", "IMMEDIATE", "EXCLUSIVE"), "DEFERRED, IMMEDIATE or EXCLUSIVE"),
    "key": (str, "text"),
    "key_env": (EnvKeyProvider, "the name of an environment variable"),
    "key_file": (FileKeyProvider, "a path"),
    "on_missing": (_one_of(*ON_MISSING), " or ".join(ON_MISSING)),
    "register": (_function, "module:function"),
    "stream": (str, "text"),
    "timeout": (_seconds, "a number of seconds"),
    "uri": (_switch, "true or false"),
}
"""How each option is read, and what it should have been, for the error."""

_KEYS = ("key", "key_env", "key_file")
_OF_SQLITE = frozenset({"cache", "immutable", "mode", "modeof", "nolock", "psow", "vfs"})
"""With ``uri=true``, what SQLite itself takes from a ``file:`` URI (https://sqlite.org/uri.html)."""


def connect_arguments(url: URL) -> tuple[str, dict[str, Any]]:
    """Return the database and the keyword arguments that ``url`` stands for; an ArgumentError names the option."""
    if url.host or url.port:
        raise ArgumentError(
            f"{url}: a VerityDB URL names no host; a path begins at the third slash, an absolute one at the fourth: "
            "veritydb:///clinic.db, veritydb:////var/lib/clinic.db"
        )
    options: dict[str, Any] = {}
    of_sqlite: dict[str, str] = {}
    for name, text in url.query.items():
        if not isinstance(text, str):
            raise ArgumentError(f"the URL option {name!r} is given {len(text)} times")
        if name in _OPTIONS:
            options[name] = _value(name, text)
        elif name in _OF_SQLITE:
            of_sqlite[name] = text
        else:
            known = ", ".join(sorted(_OPTIONS))
            raise ArgumentError(
                f"{name!r} is no option of a VerityDB URL; there are {known}, and with uri=true SQLite's"
            )
    if of_sqlite and not options.get("uri"):
        raise ArgumentError(
            f"the URL option {min(of_sqlite)!r} is one of SQLite's file: URIs; it needs uri=true beside it"
        )
    if of_sqlite and not (url.database or "").startswith("file:"):
        # SQLite would take the option for a part of the file's name.
        raise ArgumentError(
            f"the URL option {min(of_sqlite)!r} needs a database that is a file: URI: veritydb:///file:clinic.db?…"
        )
    _move_key(url, options)
    if url.username:
        options.setdefault("actor", url.username)
    return _database(url, of_sqlite, is_uri=bool(options.get("uri"))), options


def masked(url: URL) -> URL:
    """Return ``url`` with a key of its query string as its password, which SQLAlchemy prints as ``***``."""
    key = url.query.get("key")
    if not isinstance(key, str):
        return url
    return url.difference_update_query(["key"]).set(username=url.username or "", password=key)


def _value(name: str, text: str) -> Any:
    read, expected = _OPTIONS[name]
    try:
        return read(text)
    except (ValueError, KeyError, TypeError, ImportError, AttributeError, ConfigurationError) as error:
        raise ArgumentError(f"the URL option {name!r} should be {expected}, not {text!r}") from error


def _move_key(url: URL, options: dict[str, Any]) -> None:
    # The key may come in four ways, and veritydb.connect() knows one.
    given = [name for name in _KEYS if name in options]
    if url.password:
        given.append("password")
    if len(given) > 1:
        raise ArgumentError(f"the URL gives the key more than once: {', '.join(given)}")
    found = [options.pop(name) for name in _KEYS if name in options]
    if url.password:
        found.append(str(url.password))
    if found:
        options["key"] = found[0]


def _database(url: URL, of_sqlite: dict[str, str], *, is_uri: bool) -> str:
    database = url.database or ":memory:"
    if is_uri:
        # In the order of their names, so that one URL always makes one text.
        return database + (f"?{urlencode(sorted(of_sqlite.items()), quote_via=quote)}" if of_sqlite else "")
    return database if database == ":memory:" else os.path.abspath(database)
