"""``veritydb keys``: check a key, show the key that SQLCipher takes, make a new one."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from veritydb import keys
from veritydb.cli.asking import key_for
from veritydb.cli.options import Database, Json, KeyFile
from veritydb.cli.output import write_fields, write_json
from veritydb.errors import ConfigurationError, LogMissing, NotEncrypted
from veritydb.keys import Keyring
from veritydb.streams import keyring_of, log_folder, without_log

app = typer.Typer(help="Check a key, show the key that SQLCipher takes, make a new one.", no_args_is_help=True)


@app.command(epilog="veritydb keys check clinic.db --key-file clinic.key")
def check(database: Database, key_file: KeyFile = None, json: Json = False) -> None:
    """Say whether the key opens the database (exit code 3 if not). Nothing is opened or changed."""
    keyring = _keyring(database, key_file)
    if json:
        write_json({"database": str(database), "key_ids": sorted(keyring.keys), "current": keyring.current.key_id})
        return
    fields = {"the key opens": database, "database keys": ", ".join(map(str, sorted(keyring.keys)))}
    write_fields(fields, good=True)


@app.command(
    epilog=(
        "veritydb keys export clinic.db\n\n"
        "In SQLCipher: PRAGMA key = \"x'...'\"; with what this command writes between the double quotes."
    )
)
def export(database: Database, key_file: KeyFile = None, json: Json = False) -> None:
    """Write the raw key of the file, with which the real SQLCipher opens it. Whoever has it can read the file."""
    keyring = _keyring(database, key_file)
    text = keys.export_text(keyring)
    if json:
        write_json({"database": str(database), "cipher": "SQLCipher 4", "key": text})
        return
    if sys.stdout.isatty():
        sys.stderr.write("This key opens the database file; whoever sees it can read everything in it.\n")
    sys.stdout.write(text + "\n")


@app.command(epilog="veritydb keys generate clinic.key\n\nveritydb adopt clinic.db --key-file clinic.key")
def generate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file to make.", show_default=False)],
    json: Json = False,
) -> None:
    """Make a file with a new random key, readable by its owner only. Keep a copy: without it the data is gone."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{file} exists and may hold the key of a database; nothing was written") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"{keys.HEX_PREFIX}{secrets.token_hex(keys.KEY_BYTES)}\n")
        stream.flush()
        os.fsync(stream.fileno())
    if json:
        write_json({"made": str(file)})
    else:
        write_fields({"made": file})


def _keyring(database: Path, key_file: Path | None) -> Keyring:
    folder = log_folder(database)
    if not folder.is_dir():
        raise LogMissing(f"{without_log(folder)}; keys are kept in the log")
    key = key_for(database, key_file)
    keyring = keyring_of(folder, None if key is None else keys.normalise(key, str(database)), str(database))
    if keyring is None:
        raise NotEncrypted(f"{database} is not encrypted, so there is no key")
    return keyring
