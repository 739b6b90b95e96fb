"""A small SQL shell, ``python -m veritydb.django.shell clinic.db``: what ``manage.py dbshell`` starts.

It opens the database as the project does, so encrypted files open, Django's functions are there, and what is typed is
in the log, under the name of whoever is logged in at the machine. Statements come from the arguments or from standard
input, and end with a semicolon. Of the ``sqlite3`` program's own commands there are those that one looks around with
(:data:`_HELP`).
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import veritydb
from veritydb.django import register as register_django
from veritydb.keys import VARIABLE, EnvKeyProvider, FileKeyProvider, KeyProvider
from veritydb.replay.registering import load
from veritydb.splitting import split

_HELP = """.tables          names of tables and views
.schema [TABLE]  the statements that made them
.help            this
.quit, .exit     leave, as the end of input does
SQL ends with a semicolon."""
_MADE = "name NOT LIKE 'sqlite~_%' ESCAPE '~' AND name NOT LIKE '~_veritydb~_%' ESCAPE '~'"
_TABLES = f"SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND {_MADE} ORDER BY name"
_SCHEMA = f"""
    SELECT sql || ';' FROM sqlite_schema WHERE sql NOT NULL AND {_MADE} AND (?1 = '' OR tbl_name = ?1 COLLATE NOCASE)
    ORDER BY tbl_name, rowid
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shell; return 1 if a statement failed and nobody was there to see it."""
    options = _options(arguments)
    key: KeyProvider | None = None
    if options.key_file:
        key = FileKeyProvider(options.key_file)
    elif os.environ.get(VARIABLE):
        key = EnvKeyProvider()
    try:
        connection = veritydb.connect(options.database, key=key, actor=_name(), isolation_level=None, uri=True)
    except veritydb.Error as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    with contextlib.closing(connection):
        register_django(connection)
        extra = load(options.register)
        if extra is not None:
            extra(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        with connection.reason("dbshell"):
            if options.sql:
                return int(not all(_run(connection, sql) for sql in options.sql))
            return _read(connection, interactive=sys.stdin.isatty())


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m veritydb.django.shell", description="A SQL shell over the log.")
    parser.add_argument("database", help="path or file: URI")
    parser.add_argument("sql", nargs="*", help="statements to run instead of those typed")
    parser.add_argument("--key-file", help=f"file that holds the key (otherwise the variable {VARIABLE})")
    parser.add_argument("--register", metavar="MODULE:FUNCTION", help="registers functions that the schema needs")
    return parser.parse_args(arguments)


def _name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""  # No name in the environment, none in the password database.


def _read(connection: veritydb.Connection, *, interactive: bool) -> int:
    if interactive:
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # Gives input() a history and arrow keys.
    failed, pending = False, ""
    while True:
        try:
            line = input(("   ...> " if pending else "veritydb> ") if interactive else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            print()
            pending = ""
            continue
        if not pending and line.lstrip().startswith("."):
            command, _, name = line.strip().partition(" ")
            if command in (".quit", ".exit"):
                break
            failed |= not _look(connection, command, name.strip())
            continue
        pending += line + "\n"
        if veritydb.complete_statement(pending):
            failed |= not _run(connection, pending)
            pending = ""
        elif not pending.strip():
            pending = ""
    if pending.strip():
        failed |= not _run(connection, pending)
    return int(failed and not interactive)


def _look(connection: veritydb.Connection, command: str, name: str) -> bool:
    if command == ".tables":
        found = connection.execute(_TABLES)
    elif command == ".schema":
        found = connection.execute(_SCHEMA, (name,))
    elif command == ".help":
        print(_HELP)
        return True
    else:
        print(f"Error: there is no {command}; .help tells what there is", file=sys.stderr)
        return False
    for (text,) in found:
        print(text)
    return True


def _run(connection: veritydb.Connection, sql: str) -> bool:
    """Run the statements of ``sql``, which may be several on one line, up to the first that fails."""
    try:
        for statement in split(sql):
            cursor = connection.execute(statement)
            if cursor.description is not None:
                _show([column[0] for column in cursor.description], cursor)
    except (veritydb.Error, veritydb.Warning) as error:
        print(f"Error: {error}", file=sys.stderr)
        return False
    return True


def _show(names: list[str], rows: Iterable[Sequence[Any]]) -> None:
    print("|".join(names))
    for row in rows:
        print("|".join("" if value is None else _text(value) for value in row))


def _text(value: Any) -> str:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.exit(main())
