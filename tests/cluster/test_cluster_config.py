"""node.toml and its files: each mistake is named, in one line."""

from __future__ import annotations

import re
import ssl

import pytest

from veritydb.cluster.certificates import context
from veritydb.cluster.config import Address, parse_address, read_config, read_secret
from veritydb.cluster.founding import found, group_of
from veritydb.errors import ConfigurationError

GOOD = """
cluster = "00112233445566778899aabbccddeeff"
member = 1
data = "data"
secret_file = "secret"
authority = "a.crt"
certificate = "m.crt"
key = "m.key"

[members]
1 = "10.0.0.1:7400"
2 = "[::1]:7401"
"""


def read(tmp_path, text):
    path = tmp_path / "node.toml"
    path.write_text(text)
    return read_config(path)


def test_a_good_file_is_read(tmp_path):
    config = read(tmp_path, GOOD)
    assert config.cluster.hex() == "00112233445566778899aabbccddeeff"
    assert config.listen == Address("10.0.0.1", 7400)
    assert str(config.members[2]) == "[::1]:7401"
    assert config.data == tmp_path / "data"
    assert config.options.slots == 4096
    assert read(tmp_path, "slots = 128" + GOOD).options.checkpoint_interval == 32


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("member = 1", "member = 9", "none of the members 1, 2"),
        ("member = 1", 'member = "1"', "none of the members"),
        ("member = 1", "membre = 1", "no setting 'membre'"),
        ("member = 1", "", "'member' is missing"),
        ('data = "data"', "data = 7", "data must be a path"),
        ("00112233445566778899aabbccddeeff", "0011", "cluster must be 32 hex digits"),
        ("00112233445566778899aabbccddeeff", "zz112233445566778899aabbccddeeff", "cluster must be 32 hex digits"),
        ('"10.0.0.1:7400"', '"[::1]:7401"', "two members have one address"),
        ('"10.0.0.1:7400"', '"10.0.0.1"', "host:port"),
        ('"10.0.0.1:7400"', '"10.0.0.1:70000"', "host:port"),
        ('"10.0.0.1:7400"', "7400", "host:port"),
        ("2 = ", "zwei = ", "named by a number"),
        ("2 = ", "01 = ", "named twice"),
        ("[members]", "[membres]", "no setting 'membres'"),
        ("[members]", "[members.x]", "named by a number"),
        ("member = 1", "member = 1\nslots = 3", "slots is a number from 64"),
        ("member = 1", "member = ", "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, why):
    assert old in GOOD
    with pytest.raises(ConfigurationError, match=re.escape(why)) as raised:
        read(tmp_path, GOOD.replace(old, new))
    assert "node.toml" in str(raised.value)
    assert "\n" not in str(raised.value) or "cannot be read" in why


def test_members_that_are_no_table_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="names 1 to"):
        read(tmp_path, "members = 3\n" + GOOD.split("[members]")[0])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no\.toml cannot be read"):
        read_config(tmp_path / "no.toml")


def test_a_secret_that_others_may_read_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("ab" * 32 + "\n")
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_secret(secret)
    secret.chmod(0o600)
    assert read_secret(secret) == b"\xab" * 32
    secret.write_text("ab")
    with pytest.raises(ConfigurationError, match="64 hex digits"):
        read_secret(secret)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_secret(tmp_path / "none")


def test_a_cluster_is_made_once_and_its_files_are_its_owners(tmp_path):
    folder = tmp_path / "cluster"
    paths = found(folder, {1: parse_address("127.0.0.1:1")}, slots=64)
    config = read_config(paths[0])
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert read_secret(config.secret_file)
    context(config.authority, config.certificate, config.key, server=True)
    assert isinstance(group_of(config, folder / "client").tls, ssl.SSLContext)
    with pytest.raises(ConfigurationError, match="exists; nothing was changed"):
        found(folder, {1: parse_address("127.0.0.1:1")})
    with pytest.raises(ConfigurationError, match="client_key"):
        group_of(config, folder)


def test_certificates_that_cannot_be_used_are_named(tmp_path):
    folder = tmp_path / "cluster"
    config = read_config(found(folder, {1: parse_address("127.0.0.1:1")}, slots=64)[0])
    (tmp_path / "none.crt").write_text("nothing")
    with pytest.raises(ConfigurationError, match="no certificate of an authority"):
        context(tmp_path / "none.crt", config.certificate, config.key, server=True)
    with pytest.raises(ConfigurationError, match="no certificate and its key"):
        context(config.authority, config.certificate, folder / "authority.key", server=True)
