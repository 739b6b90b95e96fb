"""``manage.py dbshell``: a shell that goes through the log, and into encrypted files.

The ``sqlite3`` program could do neither: it cannot read an encrypted file, and what it writes into a plain one is in no
log, so that VerityDB would rightly refuse the file afterwards.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from django.db.backends.sqlite3 import client

from veritydb.keys import HEX_PREFIX, VARIABLE


class DatabaseClient(client.DatabaseClient):
    """Starts :mod:`veritydb.django.shell`."""

    executable_name = sys.executable

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        """Return the command line, and the environment that carries the key: others cannot see that of a process."""
        options: dict[str, Any] = settings_dict.get("OPTIONS", {})
        database = os.fspath(settings_dict["NAME"])
        arguments = [cls.executable_name, "-m", "veritydb.django.shell"]
        register = options.get("register")
        if isinstance(register, str):
            arguments += ["--register", register]
        environment: dict[str, str] | None = None
        if options.get("key_file") is not None:
            arguments += ["--key-file", os.fspath(options["key_file"])]
        elif options.get("key") is not None:
            environment = {VARIABLE: _text_of(options["key"], database)}
        return [*arguments, database, *parameters], environment


def _text_of(key: Any, database: str) -> str:
    if hasattr(key, "get_key"):
        key = key.get_key(database)
    elif callable(key):
        key = key(database)
    return key if isinstance(key, str) else f"{HEX_PREFIX}{key.hex()}"
