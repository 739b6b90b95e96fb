"""Keys: what is accepted as one, how the key file keeps them, and that nothing else opens it."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from veritydb import keys
from veritydb.errors import ConfigurationError, KeyMissing, LogDamaged, NotEncrypted, OperationalError, WrongKey
from veritydb.keys import (
    KEY_FILE,
    DatabaseKey,
    EnvKeyProvider,
    FileKeyProvider,
    KeyProvider,
    Keyring,
    Secret,
    create_keys,
    export_text,
    load_keys,
    normalise,
    pack_keys,
    unpack_keys,
)
from veritydb.schemas import files

STREAM = bytes(range(16))
RAW = bytes(range(32))


@pytest.fixture(autouse=True)
def cheap_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least that a key file may ask for, so that the suite is quick."""
    monkeypatch.setattr(keys, "_SCRYPT_COST_LOG2", 14)


# --- What the user gives


def test_a_text_is_a_passphrase() -> None:
    assert normalise("correct horse") == Secret("scrypt", b"correct horse")


def test_raw_keys_are_bytes_or_hexadecimal_digits() -> None:
    assert (
        normalise(RAW) == normalise("hex:" + RAW.hex()) == normalise("hex:" + RAW.hex().upper()) == Secret("raw", RAW)
    )


def test_one_passphrase_typed_in_two_forms_of_unicode_is_one() -> None:
    assert normalise("Zoe\u0308") == normalise("Zo\u00eb")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "empty"),
        ("hex:", "64 hexadecimal"),
        ("hex:" + "0" * 63, "64 hexadecimal"),
        ("hex:" + "0" * 63 + "g", "64 hexadecimal"),
        ("hex:" + "00  " * 16, "64 hexadecimal"),
        ("hex:" + "0" * 65, "64 hexadecimal"),
        ("\ud800", "not valid Unicode"),
        (b"", "32 of them, not 0"),
        (b"short", "32 of them, not 5"),
        (b"x" * 33, "32 of them, not 33"),
        (17, "not int"),
        (lambda database: 17, "not int"),
        (lambda database: None, "not NoneType"),
    ],
)
def test_what_is_no_key_is_refused(key: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        normalise(key)


def test_a_refused_key_is_not_in_the_message() -> None:
    for key in ("hex:5ec2e7", b"5ec2e7"):
        with pytest.raises(ConfigurationError) as caught:
            normalise(key)
        assert "5ec2e7" not in str(caught.value)


def test_a_function_and_a_provider_are_asked_for_the_key_of_the_database() -> None:
    class Vault:
        def get_key(self, database: str) -> str:
            return f"the key of {database}"

    vault = Vault()
    assert isinstance(vault, KeyProvider)
    assert normalise(vault, "clinic.db") == normalise("the key of clinic.db")
    assert normalise(vault.get_key, "clinic.db") == normalise("the key of clinic.db")
    assert normalise(lambda database: RAW) == Secret("raw", RAW)


def test_nothing_secret_is_in_a_repr() -> None:
    key = DatabaseKey(1, b"secret" * 5 + b"!!")
    for value in (normalise("secret"), key, Keyring(STREAM, {1: key})):
        assert "secret" not in repr(value)


def test_the_environment_gives_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERITYDB_KEY", "from outside")
    monkeypatch.setenv("OTHER", "hex:" + RAW.hex())
    assert normalise(EnvKeyProvider()) == normalise("from outside")
    assert normalise(EnvKeyProvider("OTHER")) == normalise(RAW)


def test_an_unset_or_empty_variable_is_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyMissing, match=r"VERITYDB_KEY.*clinic\.db"):
        normalise(EnvKeyProvider(), "clinic.db")
    monkeypatch.setenv("VERITYDB_KEY", "")
    with pytest.raises(KeyMissing):
        normalise(EnvKeyProvider())


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"pass word ", b"pass word \n", b"pass word \r\n"])
def test_a_file_gives_a_key_without_its_line_end(tmp_path: Path, content: bytes) -> None:
    assert normalise(FileKeyProvider(secret_file(tmp_path, content))) == normalise("pass word ")


def test_a_file_gives_a_raw_key_as_digits(tmp_path: Path) -> None:
    assert normalise(FileKeyProvider(secret_file(tmp_path, b"hex:" + RAW.hex().encode()))) == normalise(RAW)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match="chmod 600"):
        normalise(FileKeyProvider(secret_file(tmp_path, b"x", mode)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"x" * 4097, "more than 4096"),
        (b"\xff" * 32, "hex: and 64 digits"),
        (b"one\ntwo", "more than one line"),
    ],
)
def test_a_file_that_is_no_line_of_text_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        normalise(FileKeyProvider(secret_file(tmp_path, content)))


def test_the_longest_key_file_is_taken(tmp_path: Path) -> None:
    assert normalise(FileKeyProvider(secret_file(tmp_path, b"x" * 4096))) == normalise("x" * 4096)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            normalise(FileKeyProvider(path))


def test_a_file_that_is_not_there_is_a_missing_key(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing, match="No such file"):
        normalise(FileKeyProvider(tmp_path / "secret"))


# --- Keys of a database


def test_file_and_data_keys_are_hkdf_of_the_database_key() -> None:
    """RFC 5869, written out: what it takes to open a file without this program."""

    def hkdf(salt: bytes, info: bytes) -> bytes:
        extracted = hmac.digest(salt or bytes(32), RAW, "sha256")
        return hmac.digest(extracted, info + b"\x01", "sha256")

    key = DatabaseKey(1, RAW)
    assert key.file_key() == hkdf(b"", b"veritydb file")
    assert key.data_key(b"s" * 32) == hkdf(b"s" * 32, b"veritydb data")


def test_the_newest_key_is_current() -> None:
    first, second = DatabaseKey(1, b"a" * 32), DatabaseKey(2, b"b" * 32)
    assert Keyring(STREAM, {2: second, 1: first}).current is second


def test_the_exported_text_is_the_raw_key_in_the_form_of_sqlcipher() -> None:
    keyring = Keyring(STREAM, {1: DatabaseKey(1, RAW)})
    assert export_text(keyring) == f"x'{DatabaseKey(1, RAW).file_key().hex()}'"
    assert len(export_text(keyring)) == 67


def test_an_ephemeral_key_is_another_one_each_time() -> None:
    assert Keyring.ephemeral().current.secret != Keyring.ephemeral().current.secret


# --- The key file


@pytest.mark.parametrize("key", ["correct horse", RAW])
def test_kept_keys_come_back_and_nothing_else_opens_them(tmp_path: Path, key: str | bytes) -> None:
    made = create_keys(tmp_path, STREAM, normalise(key))
    assert made.stream == STREAM
    assert keys.exists(tmp_path)
    assert load_keys(tmp_path, normalise(key)) == made
    other_raw = RAW[:31] + b"\xff"
    for other in ("correct Horse", other_raw, "hex:" + other_raw.hex()):
        with pytest.raises(WrongKey, match="nothing was touched"):
            load_keys(tmp_path, normalise(other))


def test_the_key_file_is_for_its_owner_and_holds_no_key(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = create_keys(tmp_path, STREAM, normalise("correct horse"))
    finally:
        os.umask(old)
    path = tmp_path / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_bytes()
    assert made.current.secret not in content
    assert made.current.file_key() not in content
    assert b"horse" not in content
    assert [each.name for each in tmp_path.iterdir()] == [KEY_FILE]


def test_two_databases_under_one_passphrase_have_nothing_in_common(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    first = create_keys(one, STREAM, normalise("same"))
    second = create_keys(two, bytes(16), normalise("same"))
    assert first.current.secret != second.current.secret


def test_keys_are_never_written_over(tmp_path: Path) -> None:
    made = create_keys(tmp_path, STREAM, normalise("first"))
    with pytest.raises(ConfigurationError, match="would be lost"):
        create_keys(tmp_path, STREAM, normalise("second"))
    assert load_keys(tmp_path, normalise("first")) == made


def test_no_key_file_means_not_encrypted(tmp_path: Path) -> None:
    assert not keys.exists(tmp_path)
    with pytest.raises(NotEncrypted):
        load_keys(tmp_path, normalise("x"))


def test_a_key_file_that_cannot_be_read_or_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="nothing was made"):
        create_keys(tmp_path / "nowhere", STREAM, normalise("x"))
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(OperationalError, match="cannot be read"):
        load_keys(tmp_path, normalise("x"))


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OperationalError, match="No space left"):
        create_keys(tmp_path, STREAM, normalise("x"))
    assert list(tmp_path.iterdir()) == []


def test_several_keys_are_kept_together() -> None:
    keyring = Keyring(STREAM, {number: DatabaseKey(number, os.urandom(32)) for number in (1, 2, 1 << 63)})
    secret = normalise(RAW)
    assert unpack_keys(pack_keys(keyring, secret), secret) == keyring


def test_any_changed_bit_of_the_key_file_is_found() -> None:
    secret = normalise(RAW)
    content = pack_keys(Keyring.ephemeral(STREAM), secret)
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogDamaged, match="restore it"):
            unpack_keys(bytes(changed), secret)


def test_a_key_file_cut_anywhere_is_damage() -> None:
    secret = normalise(RAW)
    content = pack_keys(Keyring.ephemeral(STREAM), secret)
    for length in range(len(content)):
        with pytest.raises(LogDamaged):
            unpack_keys(content[:length], secret)
    with pytest.raises(LogDamaged):
        unpack_keys(content + b"\0" * 70_000, secret)


def resealed(**changes: Any) -> bytes:
    """Return a key file with fields of its entry changed, and the digest made right again."""
    content = pack_keys(Keyring(STREAM, {1: DatabaseKey(1, RAW)}), normalise("x"))
    with files.KeyFile.from_bytes(content[8:-32]) as reader:
        message = reader.as_builder()
    for name, value in changes.items():
        setattr(message.keys[0], name, value)
    body = content[:8] + message.to_bytes()
    return bytes(body + blake3(body).digest())


@pytest.mark.parametrize(
    "changes", [{"streamHigh": 1}, {"streamLow": 1}, {"keyId": 2}, {"salt": b"s" * 16}, {"nonce": b"n" * 12}]
)
def test_an_entry_taken_from_another_file_does_not_open(changes: dict[str, Any]) -> None:
    """The digest needs no key, so anyone can make it right; what is bound to the key, nobody can."""
    with pytest.raises(WrongKey):
        unpack_keys(resealed(**changes), normalise("x"))


@pytest.mark.parametrize(
    "changes",
    [
        {"costLog2": 0},
        {"costLog2": 13},
        {"costLog2": 21},
        {"costLog2": 255},
        {"derivation": "raw"},
        {"derivation": "md5"},
        {"salt": b""},
        {"nonce": b"n" * 13},
        {"wrapped": b"w" * 47},
        {"keyId": 0},
    ],
    ids=repr,
)
def test_an_entry_that_asks_for_what_cannot_be_is_damage(changes: dict[str, Any]) -> None:
    with pytest.raises(LogDamaged) as caught:
        unpack_keys(resealed(**changes), normalise("x"))
    assert caught.value.segment == KEY_FILE


def test_no_entry_and_entries_of_two_streams_are_damage() -> None:
    for count in (0, 2):
        message = files.KeyFile.new_message()
        for number, entry in enumerate(message.init("keys", count)):
            entry.keyId = number + 1
            entry.derivation = "raw"
            entry.salt, entry.nonce, entry.wrapped = bytes(16), bytes(12), bytes(48)
            entry.streamLow = number
        body = b"VERITYKY" + message.to_bytes()
        with pytest.raises(LogDamaged):
            unpack_keys(bytes(body + blake3(body).digest()), normalise(RAW))


# --- Stretching


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the costs of the stretchings from now on."""
    costs: list[int] = []
    scrypt = hashlib.scrypt

    def counting(password: bytes, **arguments: Any) -> bytes:
        costs.append(arguments["n"])
        return scrypt(password, **arguments)

    monkeypatch.setattr(hashlib, "scrypt", counting)
    return costs


def test_a_passphrase_is_stretched_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = counted(monkeypatch)
    create_keys(tmp_path, STREAM, normalise("correct horse"))
    threads = [threading.Thread(target=load_keys, args=(tmp_path, normalise("correct horse"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert costs == [1 << 14]
    with pytest.raises(WrongKey):
        load_keys(tmp_path, normalise("wrong horse"))
    assert costs == [1 << 14] * 2


def test_few_stretched_keys_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_stretched", {})
    monkeypatch.setattr(keys, "_REMEMBERED_MAX", 2)
    content = pack_keys(Keyring.ephemeral(STREAM), normalise("0"))
    for wrong in ("1", "2", "3"):
        with pytest.raises(WrongKey):
            unpack_keys(content, normalise(wrong))
        assert len(keys._stretched) <= 2


def test_a_raw_key_is_not_stretched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = counted(monkeypatch)
    create_keys(tmp_path, STREAM, normalise(RAW))
    load_keys(tmp_path, normalise(RAW))
    assert costs == []


def test_the_cost_of_stretching_is_what_the_document_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert keys._SCRYPT_COST_LOG2 == 15
    assert keys._SCRYPT_COST_LOG2 in keys._SCRYPT_COSTS
