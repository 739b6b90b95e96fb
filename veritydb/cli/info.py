"""``veritydb info``: what a database is, without reading through it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import typer

from veritydb import applied, keys
from veritydb.cli.asking import encrypted, given_key
from veritydb.cli.options import Database, Json, KeyFile
from veritydb.cli.output import count_text, size_text, time_text, write_fields, write_json
from veritydb.errors import ConfigurationError
from veritydb.log.store import Log
from veritydb.streams import keyring_of, log_folder, without_log
from veritydb.workshop import file_key_of, open_to_read


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("info", epilog="veritydb info clinic.db\n\nveritydb info clinic.db --json | jq .head_hash")(info)


def info(database: Database, key_file: KeyFile = None, json: Json = False) -> None:
    """Say what a database is: its stream, its log, how far file and log are, the hash of the chain's head.

    Nothing is checked (that is what verify does). Without a key, what an encrypted file itself says is left out.
    """
    facts = _facts(database, given_key(database, key_file, keys.VARIABLE))
    if json:
        write_json(facts)
        return
    pending = facts["pending"]
    write_fields(
        {
            "database": facts["database"],
            "file": "missing; the next open makes it from the log" if facts["file_bytes"] is None
            else size_text(facts["file_bytes"]),
            "encrypted": "yes (SQLCipher 4)" if facts["encrypted"] else "no",
            "stream": facts["stream"],
            "transactions": f"{facts['transactions']:,}",
            "in the file": None if facts["applied"] is None
            else f"{facts['applied']:,}" + _pending_text(pending),
            "last": facts["last_time"],
            "generation": facts["generation"],
            "log": f"{facts['log']} ({size_text(facts['log_bytes'])} in {count_text(facts['segments'], 'segment')})",
            "head hash": facts["head_hash"],
            "unfinished record": facts["torn"],
        }
    )  # fmt: skip


def _pending_text(pending: int) -> str:
    if pending < 0:
        return f", {-pending:,} more than the log: the log was damaged, cut or replaced"
    return f", {pending:,} to be applied at the next open" if pending else ""


def _facts(database: Path, key: str | None) -> dict[str, Any]:
    folder = log_folder(database)
    if not folder.is_dir():
        if not database.exists():
            raise ConfigurationError(f"there is no database {database}")
        if database.is_dir():
            raise ConfigurationError(f"{database} is a folder, not a database")
        raise without_log(folder)
    is_encrypted = encrypted(database)
    secret = None if key is None else keys.normalise(key, str(database))
    keyring = None if secret is None and is_encrypted else keyring_of(folder, secret, str(database))
    index = None
    if database.exists() and (keyring is not None or not is_encrypted):
        with open_to_read(database, file_key_of(keyring)) as db:
            index = applied.read(db.cursor())
    with contextlib.closing(Log.open(folder, read_only=True)) as log:
        head, torn = log.head, log.torn
        stream = log.stream
    segments = list(folder.glob("*.seg"))
    return {
        "database": str(database),
        "file_bytes": database.stat().st_size if database.exists() else None,
        "encrypted": is_encrypted,
        "stream": stream.hex(),
        "transactions": head.next_offset,
        "last_offset": head.next_offset - 1 if head.next_offset else None,
        "applied": None if index is None else index.next_offset,
        "pending": None if index is None else head.next_offset - index.next_offset,
        "last_time": time_text(head.timestamp) if head.timestamp else None,
        "generation": head.generation,
        "log": str(folder),
        "log_bytes": sum(segment.stat().st_size for segment in segments),
        "segments": len(segments),
        "head_hash": head.hash.hex(),
        "torn": None if torn is None else f"segment {torn.segment}, byte {torn.position}: {torn.why}",
    }
