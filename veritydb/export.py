"""A plain SQLite file with the content of a VerityDB database, for everything that knows nothing of VerityDB.

The command line and programs drive it. SQLite copies the database itself (``VACUUM INTO``, which keeps rowids), so what
comes out does not depend on the log, and can be made while others write.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from veritydb import applied, keys, opening
from veritydb.errors import ConfigurationError, LogMissing, NotAdopted, OperationalError
from veritydb.keys import Key
from veritydb.replay.registering import prepare
from veritydb.streams import keyring_of, log_folder, without_log
from veritydb.syncing import sync
from veritydb.translation import translated
from veritydb.workshop import Progress, asked_once, file_key_of, folder_beside, open_to_read, silent

FOLDER_SUFFIX = "-export-"

_STEPS_BETWEEN_REPORTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What :func:`export` made."""

    path: Path
    next_offset: int
    """Transactions of the log that the content is the result of."""
    bytes: int
    seconds: float


def export(
    database: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    key: Key | None = None,
    register: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the content of ``database``, as of its last commit, into ``target``, a plain SQLite file: *not encrypted*.

    Schema, rows, rowids, sequences and header fields are kept; the table in which VerityDB notes the offset is left
    out. ``target`` appears whole and durable, or not at all. Raises ConfigurationError if it exists, KeyMissing,
    WrongKey, NotEncrypted, NotAdopted, LogMissing, OperationalError.
    """
    began = time.monotonic()
    path, place = Path(os.path.realpath(database)), Path(os.path.realpath(target))
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}")
    if place.exists():
        raise ConfigurationError(f"{place} exists; nothing was written")
    log = log_folder(path)
    if not log.is_dir() and path.stat().st_size and not opening.starts_plain(str(path)):
        raise LogMissing(f"{without_log(log)}; the key that the file needs is kept there. Nothing was written")
    key = asked_once(key, str(path))
    keyring = keyring_of(log, None if key is None else keys.normalise(key, str(path)), str(path))
    with folder_beside(place, FOLDER_SUFFIX) as folder:
        made = folder / place.name
        try:
            with open_to_read(path, file_key_of(keyring), uri=True) as db:
                prepare(db, register)
                _copy(db, made, progress or silent)
            next_offset = _without_applied_index(made, path)
        except apsw.Error as error:
            raise translated(error) from error
        sync(made)
        _move(made, place)
    sync(place.parent)
    return Exported(path=place, next_offset=next_offset, bytes=place.stat().st_size, seconds=time.monotonic() - began)


def _copy(db: apsw.Connection, made: Path, progress: Progress) -> None:
    total = db.pragma("page_count") * db.pragma("page_size")

    def report() -> bool:
        with contextlib.suppress(OSError):
            progress("copying", min(made.stat().st_size, total), total)
        return False

    db.set_progress_handler(report, _STEPS_BETWEEN_REPORTS)
    # The empty key is what makes the copy a plain file; the original keeps room for SQLCipher's tags on every page.
    db.execute("VACUUM INTO ?", (f"file:{quote(str(made))}?key=&reserve=0",))
    progress("copying", total, total)


def _without_applied_index(made: Path, path: Path) -> int:
    """Drop our own table from the copy; return the offset it told."""
    with contextlib.closing(opening.open_file(str(made), None, create=False)) as copy:
        index = applied.read(copy.cursor())
        if index is None:
            raise NotAdopted(f"{path} is no VerityDB database: it has no table {applied.TABLE}; nothing was written")
        copy.pragma("journal_mode", "off")
        copy.execute(f"DROP TABLE {applied.TABLE}")
        copy.pragma("journal_mode", "delete")
        return index.next_offset


def _move(made: Path, place: Path) -> None:
    try:
        os.link(made, place)  # Unlike a rename, it refuses a file that came in the meantime.
    except FileExistsError:
        raise ConfigurationError(f"{place} exists; nothing was written") from None
    except OSError as error:
        if place.exists():
            raise OperationalError(f"{place} cannot be written: {error.strerror}") from error
        made.rename(place)  # A file system without hard links.
