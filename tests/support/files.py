"""Database files and logs, opened past the product's connections, to see what is really in them."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from veritydb import keys, opening
from veritydb.log.store import Log
from veritydb.records import Reader
from veritydb.sealing import Opener
from veritydb.streams import log_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import apsw

    from veritydb.records import Transaction


class Registrar:
    """What a ``register="module:function"`` is called with, for a connection of APSW."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def create_function(self, name: str, narg: int, func: Callable[..., Any], *, deterministic: bool = False) -> None:
        self._db.create_scalar_function(name, func, narg, deterministic=deterministic)

    def create_collation(self, name: str, compare: Callable[[str, str], int]) -> None:
        self._db.create_collation(name, compare)


def keyring(path: Path, key: Any) -> keys.Keyring | None:
    """Return the keys of the database at ``path``; None without a key."""
    return None if key is None else keys.load_keys(log_folder(path), keys.normalise(key))


@contextlib.contextmanager
def opened(path: Path, key: Any = None, register: str | None = None) -> Iterator[apsw.Connection]:
    """Open a database file with nothing of VerityDB around it. A rebuilt file has the key of the file it is of."""
    original = path.with_name(path.name.partition(".rebuilt-")[0])
    ring = keyring(original, key)
    file_key = None if ring is None else ring.current.file_key()
    db = opening.open_file(str(path), file_key, create=False)
    try:
        if register is not None:
            module, _, name = register.partition(":")
            getattr(import_module(module), name)(Registrar(db))
        yield db
    finally:
        db.close(True)


@contextlib.contextmanager
def opened_log(path: Path) -> Iterator[Log]:
    """Open the log of the database at ``path``, only to read it, and without waiting for an open transaction."""
    log = Log.open(log_folder(path), read_only=True, patience=0)
    try:
        yield log
    finally:
        log.close()


def transactions(path: Path, key: Any = None, start: int = 0) -> list[Transaction]:
    """Return the transactions of the log from offset ``start`` on, with their events read."""
    found: list[Transaction] = []
    with opened_log(path) as log:
        for transaction in Reader(log, Opener(keyring(path, key))).transactions(start):
            transaction.events = iter(list(transaction.events))
            found.append(transaction)
    return found


def chain_is_whole(path: Path) -> bool:
    """Whether every record verifies against the one before it, up to the head. Raises LogDamaged where one does not."""
    with opened_log(path) as log:
        last, offset = bytes(32), 0
        for record in log.records():
            assert record.header.prev_hash == last
            assert record.header.first_offset == offset
            last, offset = record.hash, offset + record.header.transaction_count
        return log.torn is None and log.head.hash == last and log.head.next_offset == offset
