"""Is the chain whole, and does the file equal its log?

The first question needs no key: every record commits to the bytes of the one before it. The second one does: the log
is replayed into a file of its own, encrypted as the database is, up to the offset that the file says it holds, and the
two are compared row by row. Both can be asked while others write. The command line and programs drive it.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from veritydb import applied, keys, opening
from veritydb.applied import AppliedIndex
from veritydb.errors import LogDamaged, LogMismatch, LogMissing, MissingFunction, ReplayMismatch
from veritydb.keys import Key
from veritydb.log.segment import Torn
from veritydb.log.store import Log
from veritydb.recovery import Recovery
from veritydb.replay.compare import differences
from veritydb.replay.rebuilding import rebuild
from veritydb.replay.registering import prepare
from veritydb.sealing import Opener
from veritydb.streams import keyring_of, log_folder, without_log
from veritydb.translation import translated
from veritydb.workshop import Progress, asked_once, file_key_of, folder_beside, open_to_read, silent

FOLDER_SUFFIX = "-verify-"

_MESSAGES_MAX = 20
_MISSING = re.compile(r"(no such|unknown) (function|collation sequence|module)", re.IGNORECASE)
_REPORT_EVERY = 64


@dataclass(slots=True, kw_only=True)
class Chain:
    """What the log says without a key."""

    folder: Path
    stream: bytes = b""
    records: int = 0
    transactions: int = 0
    size: int = 0
    """Bytes of all records that were found good."""
    segments: int = 0
    generation: int = 0
    head: bytes = bytes(32)
    """Chain hash of the last record that was found good."""
    first_time: int | None = None
    """Microseconds since 1970-01-01 UTC, of the first record, and"""
    last_time: int | None = None
    """of the last."""
    torn: Torn | None = None
    """A record at the end that was never finished, nor acknowledged; the next open takes it away and logs that."""
    damage: LogDamaged | None = None
    """The first place where bytes are not what was written."""
    expected_at: int | None = None
    """Where the hash that was to be in the chain is: the offset behind its record."""


@dataclass(slots=True, kw_only=True)
class Projection:
    """What the file says, and how it compares."""

    path: Path
    encrypted: bool = False
    next_offset: int = 0
    """Transactions that the file holds."""
    pending: int = 0
    """Transactions of the log that the file does not hold yet; the next open applies them."""


@dataclass(slots=True, kw_only=True)
class Verification:
    """The answer of :func:`verify`."""

    chain: Chain
    file: Projection | None = None
    """None if only the chain was asked for."""
    problems: list[str] = field(default_factory=list[str])
    """What was found besides damage of the log, a sentence each."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found. An unfinished record at the end is no problem: it was never acknowledged."""
        return self.chain.damage is None and not self.problems


def verify(
    database: str | os.PathLike[str],
    *,
    key: Key | None = None,
    chain_only: bool = False,
    expect: bytes | None = None,
    register: str | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check the log of ``database``, and the file against it unless ``chain_only`` (which needs no key).

    ``database`` may also be the folder of a log, of which only the chain can be checked. ``expect`` is a chain hash
    that was noted down before: a log that was cut or replaced as a whole does not contain it. ``register`` names what
    the schema needs. Raises LogMissing, KeyMissing, WrongKey, NotEncrypted, MissingFunction; what is wrong with the
    database is in the answer.
    """
    progress = progress or silent
    path = Path(os.path.realpath(database))
    if path.is_dir():
        return _verify_chain(path, expect, progress)
    folder = log_folder(path)
    if not folder.is_dir():
        raise LogMissing(str(without_log(folder)))
    if chain_only:
        return _verify_chain(folder, expect, progress)
    key = asked_once(key, str(path))
    # A wrong key is not a finding: it is said before the long work.
    keyring = keyring_of(folder, None if key is None else keys.normalise(key, str(path)), str(path))
    result = _verify_chain(folder, expect, progress)
    result.file = Projection(path=path, encrypted=keyring is not None)
    if not path.exists():
        result.problems.append(f"there is no file {path}; the next open makes it again from the log")
        return result
    try:
        _verify_file(result, result.file, keyring, key, register, progress)
    except LogDamaged as error:
        result.chain.damage, result.chain.torn = result.chain.damage or error, None
    except (LogMismatch, ReplayMismatch) as error:
        result.problems.append(str(error))
    except apsw.CorruptError as error:
        result.problems.append(f"the file is damaged: {error}")
    except apsw.SQLError as error:
        if _MISSING.search(str(error)):
            raise MissingFunction(
                f"the schema needs what is not registered: {error}; register it (register=…, or --register)"
            ) from error
        raise translated(error) from error
    except apsw.Error as error:
        raise translated(error) from error
    return result


# The chain


def _verify_chain(folder: Path, expect: bytes | None, progress: Progress) -> Verification:
    chain = Chain(folder=folder)
    result = Verification(chain=chain)
    total = sum(file.stat().st_size for file in folder.glob("*.seg"))
    try:
        with contextlib.closing(Log.open(folder, read_only=True)) as log:
            chain.stream = log.stream
            chain.torn = log.torn
            for record in log.records(0):
                header = record.header
                chain.records += 1
                chain.transactions += header.transaction_count
                chain.size += record.end - record.place.position
                chain.segments = record.place.segment + 1
                chain.generation = header.generation
                chain.head = record.hash
                chain.last_time = header.timestamp
                if chain.first_time is None:
                    chain.first_time = header.timestamp
                if record.hash == expect:
                    chain.expected_at = header.first_offset + header.transaction_count
                if chain.records % _REPORT_EVERY == 1:
                    progress("reading the chain", min(chain.size, total), total)
        progress("reading the chain", total, total)
    except LogDamaged as error:
        chain.damage = error
    if expect is not None and chain.expected_at is None and chain.damage is None:
        result.problems.append(
            f"no record of the log has the hash {expect.hex()}: the log was cut, or replaced as a whole"
        )
    return result


# The file


def _verify_file(
    result: Verification,
    file: Projection,
    keyring: keys.Keyring | None,
    key: Key | None,
    register: str | None,
    progress: Progress,
) -> None:
    path, chain = file.path, result.chain
    file_key = file_key_of(keyring)
    with open_to_read(path, file_key) as db:
        prepare(db, register)
        # One moment of the file, whatever others write meanwhile. The log is read after it, so it is not behind.
        db.execute("BEGIN")
        index = applied.read(db.cursor())
        if index is None:
            if db.execute("SELECT 1 FROM main.sqlite_schema").fetchone() is not None:
                result.problems.append(f"{path} has content that is not in its log")
                return
            index = applied.first(chain.stream)  # Opened once, and never written to.
        file.next_offset = index.next_offset
        _check_integrity(db, result, progress)
        if chain.damage is not None:
            return
        # What the file holds was acknowledged, so a last record that holds it and does not verify is no unfinished one.
        with contextlib.closing(Log.open(chain.folder, read_only=True, floor=index.next_offset)) as log:
            Recovery(str(path), Opener(keyring), register=None).check(log, index)
            file.pending = log.head.next_offset - index.next_offset
        result.problems.extend(_compare(db, path, chain.folder, index, key, register, file_key, progress))


def _check_integrity(db: apsw.Connection, result: Verification, progress: Progress) -> None:
    progress("checking the file", 0, 1)
    for (message,) in db.execute(f"PRAGMA integrity_check({_MESSAGES_MAX})"):
        if message != "ok":
            result.problems.append(f"the file is damaged: {message}")
    progress("checking the file", 1, 1)


def _compare(
    db: apsw.Connection,
    path: Path,
    source: Path,
    index: AppliedIndex,
    key: Key | None,
    register: str | None,
    file_key: bytes | None,
    progress: Progress,
) -> list[str]:
    """Replay the log up to where the file is, and say in what the two differ."""
    with folder_beside(path, FOLDER_SUFFIX) as folder:
        rebuilt = folder / path.name
        if index.next_offset:
            progress("replaying the log", 0, index.next_offset)
            rebuild(
                source,
                rebuilt,
                key=key,
                at=index.next_offset - 1,
                register=register,
                progress=lambda done, total: progress("replaying the log", done, total),
            )
        progress("comparing", 0, 1)
        with contextlib.closing(opening.open_file(str(rebuilt), file_key)) as other:
            if not index.next_offset:
                for name in ("encoding", "auto_vacuum"):  # What a file without transactions may have been given.
                    other.pragma(name, db.pragma(name))
            found = differences(db, other)
        progress("comparing", 1, 1)
    return [f"the file (first) is not what its log makes of it (second): {difference}" for difference in found]
