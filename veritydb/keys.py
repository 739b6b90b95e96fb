"""Keys: where they come from, and the file beside the log that keeps them wrapped.

A *secret* is what the user has: a passphrase or 32 random bytes. From it comes the master key, and the master key
unwraps the *database keys*, which are random and do not change with the passphrase; the key file holds them, bound to
its stream. From a database key come the key of the database file (SQLCipher's raw key, so nothing is stretched a second
time) and, in :mod:`veritydb.sealing`, the keys that seal log records. A record names the database key that sealed it.

Sessions drive this at connect; opening a second connection with the same passphrase must not cost the stretching again,
so a process remembers what it derived.

``cryptography`` is imported where a key is first used: a program that opens plain databases does not wait for it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, runtime_checkable

from blake3 import blake3

from veritydb import schemas
from veritydb.errors import (
    ConfigurationError,
    KeyMissing,
    LogDamaged,
    NotEncrypted,
    OperationalError,
    WrongKey,
)
from veritydb.messages import read_message
from veritydb.syncing import sync

if TYPE_CHECKING:
    from collections.abc import Callable

_K = TypeVar("_K")
_V = TypeVar("_V")

KEY_BYTES: Final = 32
KEY_FILE: Final = "keys"
"""Name of the key file in the log's folder."""
HEX_PREFIX: Final = "hex:"
VARIABLE: Final = "VERITYDB_KEY"

_MAGIC = b"VERITYKY"
_DIGEST_BYTES = 32
_KEY_FILE_BYTES_MAX = 64 * 1024
_SECRET_FILE_BYTES_MAX = 4096
_SALT_BYTES = 16
_NONCE_BYTES = 12
_STREAM_BYTES = 16
_SCRYPT_COST_LOG2 = 15
# What a key file may ask for: below, guessing is cheap; above, it would take the machine's memory (1 GiB at 20).
_SCRYPT_COSTS = range(14, 21)


# --- What the user gives ---------------------------------------------------------------------------------------------


@runtime_checkable
class KeyProvider(Protocol):
    """Whoever knows the key of a database: a vault, an environment variable, a file."""

    def get_key(self, database: str) -> str | bytes:
        """Return the key of ``database``, the path or URL it is opened by, in a form that :func:`normalise` takes."""
        ...


Key: TypeAlias = "str | bytes | KeyProvider | Callable[[str], str | bytes]"
"""What ``connect(key=…)`` takes."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A passphrase or a raw key, in one form."""

    derivation: str
    """``scrypt`` for a passphrase, ``raw`` for 32 bytes that are random already."""
    material: bytes = field(repr=False)


class EnvKeyProvider:
    """Takes the key from an environment variable."""

    def __init__(self, variable: str = VARIABLE) -> None:
        self.variable = variable

    def get_key(self, database: str) -> str:
        """Return the variable's value. Raises KeyMissing if it is unset or empty."""
        value = os.environ.get(self.variable)
        if not value:
            raise KeyMissing(f"the environment variable {self.variable} does not hold the key of {database}")
        return value


class FileKeyProvider:
    """Takes the key from the first line of a text file that only its owner may read (``chmod 600``)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def get_key(self, database: str) -> str:
        """Return the file's text without its line end. Raises KeyMissing or ConfigurationError."""
        try:
            # Not to wait for the writer of a pipe: what is no regular file is refused below.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KeyMissing(f"the key of {database} cannot be read from {self.path}: {error.strerror}") from error
        try:
            # Asked of the open file, so that no other file can take its place in between.
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{self.path} is not a regular file and cannot hold a key")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise ConfigurationError(f"{self.path} holds a key and others may use it; run chmod 600 on it")
            content = os.read(descriptor, _SECRET_FILE_BYTES_MAX + 1)
        except OSError as error:
            raise KeyMissing(f"the key of {database} cannot be read from {self.path}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if len(content) > _SECRET_FILE_BYTES_MAX:
            raise ConfigurationError(
                f"{self.path} has more than {_SECRET_FILE_BYTES_MAX} bytes; a key file is one line"
            )
        try:
            text = content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{self.path} is not text; write a raw key as hex: and 64 digits") from error
        if not text:
            raise ConfigurationError(f"{self.path} is empty; it should hold the key of {database}")
        if "\n" in text:
            raise ConfigurationError(f"{self.path} has more than one line; a key file is one line")
        return text


def normalise(key: Key, database: str = "") -> Secret:
    """Return the secret that ``key`` stands for.

    ``key`` is a passphrase; or ``hex:`` and 64 hexadecimal digits, or 32 bytes, which are a raw key; or a KeyProvider
    or a function that is asked for the key of ``database``. Raises ConfigurationError for anything else.
    """
    given: object = key
    if isinstance(key, str | bytes):  # The usual case, and much the cheapest to recognise.
        pass
    elif isinstance(key, KeyProvider):
        given = key.get_key(database)
    elif callable(key):
        given = key(database)
    if isinstance(given, str):
        return _from_text(given)
    if isinstance(given, bytes | bytearray | memoryview):
        raw = bytes(given)
        if len(raw) != KEY_BYTES:
            raise ConfigurationError(
                f"a key given as bytes has {KEY_BYTES} of them, not {len(raw)}; a passphrase is a str"
            )
        return Secret("raw", raw)
    raise ConfigurationError(f"a key is a str, {KEY_BYTES} bytes or a KeyProvider, not {type(given).__name__}")


def _from_text(text: str) -> Secret:
    if not text:
        raise ConfigurationError("the key is empty; without a key, pass None")
    if text.startswith(HEX_PREFIX):
        digits = text[len(HEX_PREFIX) :]
        # fromhex alone would take blanks between the digits.
        if len(digits) == 2 * KEY_BYTES and digits.isalnum():
            try:
                return Secret("raw", bytes.fromhex(digits))
            except ValueError:
                pass
        raise ConfigurationError(f"{HEX_PREFIX} is followed by {2 * KEY_BYTES} hexadecimal digits; nothing was touched")
    try:
        # One passphrase typed on two systems may come in two forms (RFC 8265, section 4.2.2).
        return Secret("scrypt", unicodedata.normalize("NFC", text).encode())
    except UnicodeEncodeError as error:
        raise ConfigurationError("the key is not valid Unicode text; nothing was touched") from error


# --- Keys of a database ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatabaseKey:
    """A key of one database, from which the keys of its file and its records come."""

    key_id: int
    """From 1; 0 stands for no key."""
    secret: bytes = field(repr=False)

    def file_key(self) -> bytes:
        """Return the 32 bytes that SQLCipher gets as raw key of the database file."""
        return _file_key(self.secret)

    def data_key(self, salt: bytes) -> bytes:
        """Return the 32 bytes that seal the records of the writer who drew ``salt``."""
        return _hkdf(self.secret, salt, b"veritydb data")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one encrypted database; at least one."""

    stream: bytes
    """Which they belong to, 16 bytes."""
    keys: dict[int, DatabaseKey] = field(repr=False)
    """By id."""

    @property
    def current(self) -> DatabaseKey:
        """The key that new records are sealed with, which is the newest."""
        return self.keys[max(self.keys)]

    @classmethod
    def ephemeral(cls, stream: bytes = bytes(_STREAM_BYTES)) -> Keyring:
        """Return a keyring with a fresh key that is kept nowhere (databases in memory)."""
        return cls(stream, {1: DatabaseKey(1, os.urandom(KEY_BYTES))})


def export_text(keyring: Keyring) -> str:
    """Return the raw key of the database file as SQLCipher takes it, in ``PRAGMA key = "x'…'"``: the ``x'…'``."""
    return f"x'{keyring.current.file_key().hex()}'"


# --- The key file ----------------------------------------------------------------------------------------------------


def exists(folder: str | os.PathLike[str]) -> bool:
    """Whether the log in ``folder`` keeps keys, so that its database is encrypted."""
    return os.path.exists(f"{os.fspath(folder)}/{KEY_FILE}")


def load_keys(folder: str | os.PathLike[str], secret: Secret) -> Keyring:
    """Return the keys that the log in ``folder`` keeps.

    Raises WrongKey, NotEncrypted if there are none, LogDamaged for a key file that is not what was written, and
    OperationalError if it cannot be read.
    """
    path = f"{os.fspath(folder)}/{KEY_FILE}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.read(descriptor, _KEY_FILE_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise NotEncrypted(f"a key was given and there is no {path}; nothing was touched") from error
    except OSError as error:
        raise OperationalError(f"the keys cannot be read from {path}: {error.strerror}; nothing was touched") from error
    # By what the file says and not by its name or times: a file that was replaced is another one.
    opened = (content, secret.derivation, hashlib.sha256(secret.material).digest())
    keyring = _keyrings.get(opened)
    if keyring is None:
        keyring = unpack_keys(content, secret, path)
        with _stretching:
            _remember(_keyrings, opened, keyring)
    return keyring


def create_keys(folder: str | os.PathLike[str], stream: bytes, secret: Secret) -> Keyring:
    """Make a database key for ``stream`` (16 bytes) and keep it in ``folder``, wrapped under ``secret``.

    Durable when this returns. Raises ConfigurationError if there are keys already, OperationalError if it cannot be
    written.
    """
    folder = Path(folder)
    path = folder / KEY_FILE
    if path.exists():
        raise ConfigurationError(f"{path} exists and would be lost; nothing was touched")
    keyring = Keyring.ephemeral(stream)
    try:
        _write_durably(path, pack_keys(keyring, secret))
    except OSError as error:
        raise OperationalError(f"the keys cannot be written to {path}: {error.strerror}; nothing was made") from error
    return keyring


def pack_keys(keyring: Keyring, secret: Secret) -> bytes:
    """Return the bytes of a key file: magic, Cap'n Proto ``KeyFile``, BLAKE3 of both."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    message: Any = schemas.files.KeyFile.new_message()
    cost = _SCRYPT_COST_LOG2 if secret.derivation == "scrypt" else 0
    for wrapped, key in zip(message.init("keys", len(keyring.keys)), keyring.keys.values(), strict=True):
        salt = os.urandom(_SALT_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        master = _master_key(secret, salt, cost)
        wrapped.keyId = key.key_id
        wrapped.derivation = secret.derivation
        wrapped.salt = salt
        wrapped.costLog2 = cost
        wrapped.nonce = nonce
        wrapped.wrapped = AESGCM(master).encrypt(nonce, key.secret, _associated_data(keyring.stream, key.key_id))
        wrapped.streamHigh = int.from_bytes(keyring.stream[:8], "little")
        wrapped.streamLow = int.from_bytes(keyring.stream[8:], "little")
    content = _MAGIC + bytes(message.to_bytes())
    return content + blake3(content).digest()


def unpack_keys(content: bytes, secret: Secret, name: str = KEY_FILE) -> Keyring:
    """Return the keys in the key file ``content``; ``name`` is for messages.

    Raises WrongKey if ``secret`` does not unwrap them, LogDamaged if this is not what :func:`pack_keys` made.
    """
    if (
        not content.startswith(_MAGIC)
        or len(content) > _KEY_FILE_BYTES_MAX
        or blake3(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]
    ):
        raise _damaged(name)
    body = content[len(_MAGIC) : -_DIGEST_BYTES]
    wrapped = read_message(
        schemas.files.KeyFile, body, name, lambda message: [_read_wrapped(each, name) for each in message.keys]
    )
    streams = {each.stream for each in wrapped}
    if len(streams) != 1:
        raise _damaged(name)
    return Keyring(streams.pop(), {each.key_id: each.unwrap(secret, name) for each in wrapped})


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """One entry of a key file, checked."""

    key_id: int
    derivation: str
    salt: bytes
    cost_log2: int
    nonce: bytes
    wrapped: bytes = field(repr=False)
    stream: bytes

    def unwrap(self, secret: Secret, name: str) -> DatabaseKey:
        """Return the database key, or raise WrongKey."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if secret.derivation != self.derivation:
            kind = "a passphrase" if self.derivation == "scrypt" else "a raw key"
            raise WrongKey(f"{name} was made with {kind}, and the key given is none; nothing was touched")
        master = _master_key(secret, self.salt, self.cost_log2)
        try:
            plain = AESGCM(master).decrypt(self.nonce, self.wrapped, _associated_data(self.stream, self.key_id))
        except InvalidTag as error:
            raise WrongKey(f"the key does not open {name}; nothing was touched") from error
        return DatabaseKey(self.key_id, plain)


def _read_wrapped(wrapped: Any, name: str) -> _Wrapped:
    """Check one entry, before any of it is used for computing."""
    stream = wrapped.streamHigh.to_bytes(8, "little") + wrapped.streamLow.to_bytes(8, "little")
    entry = _Wrapped(
        wrapped.keyId,
        wrapped.derivation,
        wrapped.salt,
        wrapped.costLog2,
        wrapped.nonce,
        wrapped.wrapped,
        stream,
    )
    stretched = entry.derivation == "scrypt" and entry.cost_log2 in _SCRYPT_COSTS
    if (
        not (stretched or (entry.derivation == "raw" and entry.cost_log2 == 0))
        or entry.key_id == 0
        or len(entry.salt) != _SALT_BYTES
        or len(entry.nonce) != _NONCE_BYTES
        or len(entry.wrapped) != KEY_BYTES + 16
    ):
        raise _damaged(name)
    return entry


def _damaged(name: str) -> LogDamaged:
    return LogDamaged(f"{name} is not what was written; restore it from a backup", segment=KEY_FILE)


def _associated_data(stream: bytes, key_id: int) -> bytes:
    """Return what a wrapped key is bound to, so that an entry of another file cannot take its place."""
    return stream + key_id.to_bytes(8, "little")


def _write_durably(path: Path, content: bytes) -> None:
    """Write a whole file under its name, or nothing."""
    temporary = path.with_name(f"{path.name}-{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


# --- Derivation ------------------------------------------------------------------------------------------------------

# What a process remembers, for programs that open a connection for each request. It opens few databases. None of it
# holds the secret itself; docs/reference/keys.md says what that means for who can read a process's memory.
_REMEMBERED_MAX = 64
# Master keys by (digest of the passphrase, salt, cost).
_stretched: dict[tuple[bytes, bytes, int], bytes] = {}
# Keyrings by (content of the key file, derivation, digest of the secret).
_keyrings: dict[tuple[bytes, str, bytes], Keyring] = {}
_stretching = threading.Lock()


def _forget_lock() -> None:
    """Replace the lock in a forked child: the thread that may have held it does not exist there."""
    global _stretching
    _stretching = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)


def _master_key(secret: Secret, salt: bytes, cost_log2: int) -> bytes:
    if secret.derivation == "raw":
        return _hkdf(secret.material, salt, b"veritydb master")
    cached = (hashlib.sha256(secret.material).digest(), salt, cost_log2)
    # Held while deriving: of many threads that connect at once, one does the work.
    with _stretching:
        master = _stretched.get(cached)
        if master is None:
            cost = 1 << cost_log2
            master = hashlib.scrypt(
                secret.material, salt=salt, n=cost, r=8, p=1, maxmem=2 * 128 * 8 * cost, dklen=KEY_BYTES
            )
            _remember(_stretched, cached, master)
    return master


def _remember(where: dict[_K, _V], key: _K, value: _V) -> None:
    """Keep ``value``, and not too many of its kind. ``_stretching`` is held."""
    if len(where) >= _REMEMBERED_MAX:
        del where[next(iter(where))]
    where[key] = value


@lru_cache(maxsize=_REMEMBERED_MAX)
def _file_key(secret: bytes) -> bytes:
    return _hkdf(secret, b"", b"veritydb file")


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)
