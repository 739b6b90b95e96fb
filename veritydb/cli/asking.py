"""Where a key comes from: a file, the environment, a prompt. Never an argument, which every user of a machine sees."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from veritydb import keys
from veritydb.errors import ConfigurationError, KeyMissing
from veritydb.keys import EnvKeyProvider, FileKeyProvider, KeyProvider
from veritydb.streams import log_folder

SOURCE_VARIABLE = "VERITYDB_SOURCE_KEY"


def key_for(database: Path, key_file: Path | None) -> str | None:
    """Return the key of an existing ``database``; None if it needs none and none was given.

    Raises KeyMissing if it is encrypted, no key was given, and there is nobody to ask.
    """
    given = given_key(database, key_file, keys.VARIABLE)
    if given is not None or not encrypted(database):
        return given
    if not can_ask():
        raise KeyMissing(
            f"{database} is encrypted and no key was given: set {keys.VARIABLE}, use --key-file, or run this in a "
            "terminal; nothing was touched"
        )
    return ask(f"Key of {database.name}: ")


def given_key(database: Path, key_file: Path | None, variable: str) -> str | None:
    """Return the key that a file or the environment gives, the file first."""
    provider: KeyProvider | None = None
    if key_file is not None:
        provider = FileKeyProvider(key_file)
    elif os.environ.get(variable):
        provider = EnvKeyProvider(variable)
    return None if provider is None else str(provider.get_key(str(database)))


def encrypted(database: Path) -> bool:
    """Whether the log of ``database`` keeps keys (or the folder of a log that ``database`` is)."""
    return keys.exists(database if database.is_dir() else log_folder(database))


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(prompt: str) -> str:
    """Ask for a key without showing it."""
    key = getpass.getpass(prompt, stream=sys.stderr)
    if not key:
        raise KeyMissing("no key was entered; nothing was touched")
    return key


def ask_new(database: Path) -> str:
    """Ask twice for a key that does not exist yet: a slip of the finger would make the data unreadable."""
    if not can_ask():
        raise KeyMissing(
            f"--encrypt asks for a key and needs a terminal; without one, set {keys.VARIABLE} or use --key-file"
        )
    key = ask(f"New key of {database.name}: ")
    if ask("The same again: ") != key:
        raise ConfigurationError("the two keys differ; nothing was touched")
    return key
