"""Sealing the parts of records, and opening them: AES-256-GCM, the record's header as associated data.

A :class:`Sealer` draws 32 random bytes, the salt, which its records carry; the data key comes from the database key and
the salt. So no two writers share a data key, and 96-bit nonces can be random: a counter would repeat after a failed
append, in a copied file, a forked process or a restored machine image. For the same reason nothing random is drawn in
advance.

Without a key both pass bytes through. But a log that has keys has no record without: who could write the file and not
the key could otherwise put in records of his own.
"""

from __future__ import annotations

import os
from os import urandom
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from veritydb.errors import KeyMissing, LogDamaged, WrongKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from veritydb.keys import DatabaseKey, Keyring

SALT_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

SEALS_MAX: Final = 1 << 32
"""Parts that one salt may seal: so many random nonces collide with a probability below 2^-32 (NIST SP 800-38D, 8.3)."""

_CIPHERS_MAX = 1024
_NO_SALT = bytes(SALT_BYTES)
_NO_NONCE = bytes(NONCE_BYTES)


class Sealer:
    """Seals what one writer appends."""

    __slots__ = ("__weakref__", "_encrypt", "_key", "_salt", "key_id", "left", "overhead")

    key_id: int
    """Names the database key; 0 if nothing is sealed."""
    overhead: int
    """Bytes by which sealed parts are longer."""
    left: int
    """Parts that this salt may still seal; between two records, :meth:`renew` if there are none."""

    def __init__(self, key: DatabaseKey | None) -> None:
        self._key = key
        self.left = SEALS_MAX
        self._encrypt: Callable[[bytes, bytes, bytes], bytes] | None = None
        self._salt = _NO_SALT
        if key is None:
            self.key_id = self.overhead = 0
        else:
            self.key_id = key.key_id
            self.overhead = TAG_BYTES

    @property
    def salt(self) -> bytes:
        """32 bytes that the record's header must carry; drawn when first needed, and anew in a forked child."""
        if self._encrypt is None:
            self.renew()
        return self._salt

    def renew(self) -> None:
        """Draw another salt, so that another key seals from now on. Not while a record is being made."""
        if self._key is not None:
            self._salt = urandom(SALT_BYTES)
            self._encrypt = _aes_gcm(self._key.data_key(self._salt)).encrypt
            self.left = SEALS_MAX
            _sealers.add(self)

    def draw(self) -> tuple[bytes, bytes]:
        """Return :attr:`salt` and the nonce for one :meth:`seal`, 12 bytes: the header that is sealed with has both."""
        if self._encrypt is not None:
            return self._salt, urandom(NONCE_BYTES)
        return self.salt, _NO_NONCE if self._key is None else urandom(NONCE_BYTES)

    def seal(self, plain: bytes, associated: bytes, nonce: bytes | None = None) -> tuple[bytes, bytes]:
        """Return nonce and sealed bytes of ``plain``, which will only open together with ``associated``."""
        encrypt = self._encrypt
        if encrypt is None:
            if self._key is None:
                return _NO_NONCE, plain
            self.renew()
            encrypt = self._encrypt
            assert encrypt is not None
        self.left -= 1
        if nonce is None:
            nonce = urandom(NONCE_BYTES)
        return nonce, encrypt(nonce, plain, associated)


class Opener:
    """Opens what the sealers of one database sealed."""

    __slots__ = ("_ciphers", "_keys")

    def __init__(self, keyring: Keyring | None) -> None:
        self._keys = {} if keyring is None else keyring.keys
        # By key id and salt: each process that wrote has its own.
        self._ciphers: dict[tuple[int, bytes], AESGCM] = {}

    def learn(self, keyring: Keyring) -> None:
        """Open with the keys of this keyring from now on; what was sealed with those of before is remembered."""
        self._keys = {**self._keys, **keyring.keys}

    def open(self, key_id: int, salt: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the plain bytes.

        Raises LogDamaged if any of the arguments is not what was sealed, KeyMissing or WrongKey without the key of that
        id.
        """
        if key_id == 0:
            if self._keys:
                raise LogDamaged("a record is not sealed, in a log whose records are; whoever wrote it had no key")
            return sealed
        cipher = self._ciphers.get((key_id, salt))
        if cipher is None:
            cipher = self._derive(key_id, salt)
        try:
            return cipher.decrypt(nonce, sealed, associated)
        except Exception as error:
            from cryptography.exceptions import InvalidTag

            # ValueError: a nonce of no possible length.
            if not isinstance(error, (InvalidTag, ValueError)):
                raise
            raise LogDamaged(
                "a sealed part of a record does not open: it or its header is not what was sealed"
            ) from error

    def _derive(self, key_id: int, salt: bytes) -> AESGCM:
        """Return the cipher of one writer and remember it. Records of one writer mostly stand together."""
        key = self._keys.get(key_id)
        if key is None:
            if not self._keys:
                raise KeyMissing(f"the record is sealed with key {key_id} and no key was given; pass key=…")
            raise WrongKey(f"the record is sealed with key {key_id}, which is not among the keys of this database")
        cipher = _aes_gcm(key.data_key(salt))
        if len(self._ciphers) >= _CIPHERS_MAX:
            self._ciphers.clear()
        self._ciphers[key_id, salt] = cipher
        return cipher


def _aes_gcm(key: bytes) -> AESGCM:
    # Imported here, for a database without a key does not need it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


# A forked child has its parent's sealers, and must not seal another record with the same data key: two processes would
# share one budget of random nonces, and a child of a restored image its parent's very state.
_sealers: WeakSet[Sealer] = WeakSet()


def _renew_all() -> None:
    for sealer in list(_sealers):
        sealer.renew()


os.register_at_fork(after_in_child=_renew_all)
