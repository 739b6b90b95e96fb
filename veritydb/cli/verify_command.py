"""``veritydb verify``: is the chain whole, and does the file equal its log?"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from veritydb.chain import ZERO_HASH
from veritydb.cli.asking import key_for
from veritydb.cli.exits import Exit
from veritydb.cli.options import Database, Json, KeyFile, Register
from veritydb.cli.output import count_text, printable, progress_bar, size_text, time_text, write_fields, write_json
from veritydb.errors import ConfigurationError
from veritydb.verify import Verification, verify


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "verify",
        epilog=(
            "veritydb verify clinic.db\n\n"
            "veritydb verify clinic.db --chain-only          needs no key\n\n"
            "veritydb verify clinic.db --expect 5f0c...      the chain still holds the head that was noted down\n\n"
            "Exit codes: 0 all is good, 1 the file is not what its log makes of it, 4 the log is damaged."
        ),
    )(verify_command)


def verify_command(
    database: Database,
    key_file: KeyFile = None,
    chain_only: Annotated[
        bool, typer.Option("--chain-only", help="Check only the log's hash chain, which needs no key.")
    ] = False,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="HASH", help="A head hash noted down before, which the chain must contain."),
    ] = None,
    register: Register = None,
    json: Json = False,
) -> None:
    """Check that the chain is whole, and that the file is exactly what its log makes of it.

    The log is read from its first byte and every hash computed again. Then it is replayed into a temporary file beside
    the database, encrypted like it, and the two are compared: schema, every row, row ids, storage classes, bytes.
    """
    expected = None if expect is None else _hash(expect)
    key = None if chain_only or database.is_dir() else key_for(database, key_file)
    with progress_bar() as progress:
        found = verify(database, key=key, chain_only=chain_only, expect=expected, register=register, progress=progress)
    if json:
        write_json(_document(found))
    else:
        _show(found, expect)
    if found.chain.damage is not None:
        raise typer.Exit(Exit.LOG)
    if not found.ok:
        raise typer.Exit(Exit.PROBLEM)


def _hash(text: str) -> bytes:
    """Return a whole hash: a part of one, or none, is in no chain, which would be told as a log that was cut."""
    with contextlib.suppress(ValueError):
        found = bytes.fromhex(text)
        if len(found) == len(ZERO_HASH):
            return found
    raise ConfigurationError(f"--expect takes a hash of 64 hexadecimal digits, not {text!r}")


def _show(found: Verification, expect: str | None) -> None:
    chain, file, damage = found.chain, found.file, found.chain.damage
    if damage is not None:
        verdict = "the log is DAMAGED"
    elif found.problems:
        verdict = "PROBLEMS were found"
    else:
        verdict = "good: the chain is whole" + (
            ", and the file is what its log makes of it" if file is not None else ""
        )
    fields: dict[str, object] = {
        "verdict": verdict,
        "chain": f"{count_text(chain.transactions, 'transaction')} in {count_text(chain.records, 'record')}, "
        f"{size_text(chain.size)} in {count_text(chain.segments, 'segment')}",
        "head hash": chain.head.hex(),
    }
    if chain.first_time is not None and chain.last_time is not None:
        fields["time"] = f"{time_text(chain.first_time)} to {time_text(chain.last_time)}"
    if expect is not None and chain.expected_at is not None:
        fields["expected hash"] = f"in the chain, before offset {chain.expected_at}"
    if chain.torn is not None:
        fields["unfinished"] = (
            f"a record at the end, never acknowledged (segment {chain.torn.segment}, byte {chain.torn.position}); "
            "the next open takes it away and says so in the log"
        )
    if file is not None:
        behind = f", {count_text(file.pending, 'transaction')} behind its log" if file.pending else ""
        fields["file"] = f"{file.path}, {count_text(file.next_offset, 'transaction')}{behind}"
    write_fields(fields, good=found.ok)
    if damage is not None:
        typer.echo(printable(f"damage: {damage}"))
        typer.echo(
            printable(f"        segment {damage.segment or '?'}, byte {damage.position}, offset {damage.offset}")
        )
    for problem in found.problems:
        typer.echo(printable(f"problem: {problem}"))


def _document(found: Verification) -> dict[str, Any]:
    chain, file, damage, torn = found.chain, found.file, found.chain.damage, found.chain.torn
    return {
        "ok": found.ok,
        "chain": {
            "folder": str(chain.folder),
            "stream": chain.stream.hex(),
            "transactions": chain.transactions,
            "records": chain.records,
            "bytes": chain.size,
            "segments": chain.segments,
            "generation": chain.generation,
            "head_hash": chain.head.hex(),
            "first_time": None if chain.first_time is None else time_text(chain.first_time, exact=True),
            "last_time": None if chain.last_time is None else time_text(chain.last_time, exact=True),
            "expected_before_offset": chain.expected_at,
            "torn": None if torn is None
            else {"segment": torn.segment, "position": torn.position, "length": torn.length, "why": torn.why},
            "damage": None if damage is None
            else {
                "segment": damage.segment,
                "position": damage.position,
                "offset": damage.offset,
                "message": str(damage),
            },
        },
        "file": None if file is None
        else {
            "path": str(file.path),
            "encrypted": file.encrypted,
            "transactions": file.next_offset,
            "pending": file.pending,
        },
        "problems": found.problems,
    }  # fmt: skip
