"""Opening a database file through APSW, encrypted or not.

Everything that opens a projection comes through here (sessions, replay, adopt, verify), so that there is one place that
knows how SQLite3 Multiple Ciphers is told to read and write SQLCipher 4's format
(https://utelle.github.io/SQLite3MultipleCiphers/docs/ciphers/cipher_sqlcipher/).
"""

from __future__ import annotations

import hmac
from functools import lru_cache

import apsw

from veritydb.errors import ConfigurationError, KeyMissing, NotEncrypted, OperationalError, WrongKey

SQLITE_HEADER = b"SQLite format 3\0"
_CIPHER_VFS = "multipleciphers-"
"""How the names of SQLite3 Multiple Ciphers' VFSs begin; the name of the VFS below follows."""


def open_file(
    path: str,
    file_key: bytes | None,
    *,
    read_only: bool = False,
    create: bool = True,
    uri: bool = False,
    statement_cache: int = 128,
    vfs: str | None = None,
) -> apsw.Connection:
    """Open ``path``; with ``file_key`` (32 bytes) as a SQLCipher 4 database under that raw key.

    Nothing is read yet: a wrong key shows at the first statement, see :func:`check_key`.
    """
    if read_only:
        flags = apsw.SQLITE_OPEN_READONLY
    else:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    if uri:
        flags |= apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(path, flags=flags, vfs=vfs, statementcachesize=statement_cache)
    if file_key is not None:
        try:
            unlock(connection, file_key)
        except BaseException:
            connection.close(True)
            raise
    return connection


def unlock(connection: apsw.Connection, file_key: bytes, schema: str = "main") -> None:
    """Give ``connection`` the raw key of a SQLCipher 4 file.

    Raises ConfigurationError if the connection's VFS (``file:…?vfs=…``) is not one that encrypts.
    """
    vfs = connection.vfsname(schema) or ""
    if not vfs.startswith(_CIPHER_VFS):
        # Where another VFS stands before the one that encrypts, the pages of the WAL are written in clear.
        raise ConfigurationError(
            f"the VFS in use, {vfs}, writes in clear; with a key, name {_CIPHER_VFS}… and the VFS, which must not be "
            "one on top of SQLite's default; nothing was touched"
        )
    # Not kept among the connection's statements, for the key is in its text.
    connection.execute(_unlocking(file_key, schema), can_cache=False).fetchall()


@lru_cache(maxsize=64)
def _unlocking(file_key: bytes, schema: str) -> str:
    # The file's salt (its first 16 bytes) is not left to chance: of several connections to a file that is still empty,
    # each would choose its own, and all but the one that writes first could then not read it.
    salt = hmac.digest(file_key, b"veritydb salt", "sha256")[:16]
    key = f"x'{file_key.hex()}{salt.hex()}'"
    return f"PRAGMA {schema}.cipher = 'sqlcipher'; PRAGMA {schema}.legacy = 4; PRAGMA {schema}.key = \"{key}\""


def check_key(connection: apsw.Connection, path: str, *, keyed: bool) -> None:
    """Read the file's first page, or say which of the possible mistakes with keys this is."""
    try:
        connection.pragma("schema_version")
    except apsw.NotADBError as error:
        if not keyed:
            raise KeyMissing(
                f"{path} is encrypted or not a database, and no key was given; pass key=…; nothing was touched"
            ) from error
        if starts_plain(path):
            raise NotEncrypted(f"{path} is not encrypted, but a key was given; nothing was touched") from error
        raise WrongKey(f"the key does not open {path}; nothing was touched") from error
    except apsw.CantOpenError as error:
        raise OperationalError(f"unable to open database file {path}: {error}") from error


def starts_plain(path: str) -> bool:
    """Whether the file begins as an unencrypted SQLite database does.

    Read through SQLite's own VFS: a file that this process opened and closed itself would lose the POSIX locks that
    other connections of the process hold on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    try:
        file = apsw.VFSFile("", path, [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
    except (apsw.Error, OSError):
        return False
    try:
        return file.xRead(len(SQLITE_HEADER), 0) == SQLITE_HEADER
    except (apsw.Error, OSError):
        return False
    finally:
        file.xClose()
