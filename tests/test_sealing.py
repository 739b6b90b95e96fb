"""Sealed parts open to whoever has the key, only whole, and only under their own header."""

from __future__ import annotations

import os
import signal

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veritydb import sealing
from veritydb.errors import KeyMissing, LogDamaged, WrongKey
from veritydb.keys import DatabaseKey, Keyring
from veritydb.sealing import NONCE_BYTES, SALT_BYTES, SEALS_MAX, TAG_BYTES, Opener, Sealer

KEYS = Keyring(bytes(16), {1: DatabaseKey(1, b"k" * 32)})
PLAIN = b"Ada Lovelace, 1815"
HEADER = bytes(range(208))


def test_what_is_sealed_opens() -> None:
    sealer = Sealer(KEYS.current)
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    assert PLAIN not in sealed
    assert len(sealed) == len(PLAIN) + sealer.overhead == len(PLAIN) + TAG_BYTES
    assert Opener(KEYS).open(sealer.key_id, sealer.salt, nonce, sealed, HEADER) == PLAIN


def test_a_nonce_that_was_drawn_before_is_used() -> None:
    """The header carries it, and the header must be whole before anything is sealed with it."""
    sealer = Sealer(KEYS.current)
    salt, nonce = sealer.draw()
    assert salt == sealer.salt
    assert len(nonce) == NONCE_BYTES
    assert sealer.draw()[0] == salt
    assert sealer.draw()[1] != nonce
    used, sealed = sealer.seal(PLAIN, HEADER, nonce)
    assert used == nonce
    assert Opener(KEYS).open(1, sealer.salt, nonce, sealed, HEADER) == PLAIN


def test_the_cipher_is_aes_256_gcm_under_a_key_of_the_salt() -> None:
    """So that another program can open it from the documents alone."""
    sealer = Sealer(KEYS.current)
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    assert AESGCM(KEYS.current.data_key(sealer.salt)).decrypt(nonce, sealed, HEADER) == PLAIN


@pytest.mark.parametrize("which", ["salt", "nonce", "sealed", "associated"])
def test_any_changed_bit_is_found(which: str) -> None:
    sealer = Sealer(KEYS.current)
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    opener = Opener(KEYS)
    arguments = {"salt": sealer.salt, "nonce": nonce, "sealed": sealed, "associated": HEADER}
    for bit in range(8 * len(arguments[which])):
        changed = bytearray(arguments[which])
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogDamaged):
            opener.open(1, **{**arguments, which: bytes(changed)})


@pytest.mark.parametrize("which", ["nonce", "sealed", "associated"])
def test_what_is_cut_short_or_too_long_is_found(which: str) -> None:
    sealer = Sealer(KEYS.current)
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    opener = Opener(KEYS)
    arguments = {"salt": sealer.salt, "nonce": nonce, "sealed": sealed, "associated": HEADER}
    whole = arguments[which]
    for changed in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        with pytest.raises(LogDamaged):
            opener.open(1, **{**arguments, which: changed})


def test_the_same_plain_bytes_never_look_the_same() -> None:
    sealer = Sealer(KEYS.current)
    assert len({sealer.seal(PLAIN, HEADER) for _ in range(100)}) == 100


def test_each_sealer_has_a_salt_of_its_own() -> None:
    salts = {Sealer(KEYS.current).salt for _ in range(10)}
    assert len(salts) == 10
    assert {len(salt) for salt in salts} == {SALT_BYTES}


def test_another_database_key_does_not_open() -> None:
    sealer = Sealer(KEYS.current)
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    with pytest.raises(LogDamaged):
        Opener(Keyring.ephemeral()).open(1, sealer.salt, nonce, sealed, HEADER)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(WrongKey, match="key 7"):
        Opener(KEYS).open(7, bytes(32), bytes(12), bytes(20), b"")
    with pytest.raises(KeyMissing, match="key 7"):
        Opener(None).open(7, bytes(32), bytes(12), bytes(20), b"")


def test_without_a_key_bytes_pass_through() -> None:
    sealer = Sealer(None)
    assert (sealer.key_id, sealer.overhead, *sealer.draw()) == (0, 0, bytes(32), bytes(12))
    sealer.renew()
    assert sealer.salt == bytes(32)
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    assert (nonce, sealed) == (bytes(12), PLAIN)
    assert Opener(None).open(0, sealer.salt, nonce, sealed, HEADER) == PLAIN


def test_a_record_that_is_not_sealed_does_not_pass_where_others_are() -> None:
    """Else who can write the file needs no key to add to the log."""
    with pytest.raises(LogDamaged, match="not sealed"):
        Opener(KEYS).open(0, bytes(32), bytes(12), PLAIN, HEADER)


def test_a_sealer_counts_what_its_salt_may_still_seal() -> None:
    sealer = Sealer(KEYS.current)
    salt = sealer.salt
    sealer.seal(PLAIN, HEADER)
    assert sealer.left == SEALS_MAX - 1
    sealer.left = 0
    sealer.renew()
    assert sealer.left == SEALS_MAX
    assert sealer.salt != salt
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    assert Opener(KEYS).open(1, sealer.salt, nonce, sealed, HEADER) == PLAIN


def test_many_writers_are_opened_with_few_ciphers_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_CIPHERS_MAX", 3)
    opener = Opener(KEYS)
    sealers = [Sealer(KEYS.current) for _ in range(10)]
    for sealer in sealers * 2:
        nonce, sealed = sealer.seal(PLAIN, HEADER)
        assert opener.open(1, sealer.salt, nonce, sealed, HEADER) == PLAIN
        assert len(opener._ciphers) <= 3


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_seals_with_another_key() -> None:
    """The parent's salt in a child would make two writers of one."""
    sealer = Sealer(KEYS.current)
    plain = Sealer(None)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # The child reports and is gone, whatever happens: it must not go on with the test run.
        try:
            nonce, sealed = sealer.seal(PLAIN, HEADER)
            os.write(writing, sealer.salt + plain.salt + nonce + sealed)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    salt, zero, nonce, sealed = told[:32], told[32:64], told[64:76], told[76:]
    assert salt != sealer.salt
    assert zero == bytes(32)
    opener = Opener(KEYS)
    assert opener.open(1, salt, nonce, sealed, HEADER) == PLAIN
    with pytest.raises(LogDamaged):
        opener.open(1, sealer.salt, nonce, sealed, HEADER)
    # The parent goes on as before.
    nonce, sealed = sealer.seal(PLAIN, HEADER)
    assert opener.open(1, sealer.salt, nonce, sealed, HEADER) == PLAIN


def test_sealers_that_are_gone_are_not_kept() -> None:
    before = len(sealing._sealers)
    sealer = Sealer(KEYS.current)
    sealer.seal(PLAIN, HEADER)
    assert len(sealing._sealers) == before + 1
    del sealer
    assert len(sealing._sealers) == before
