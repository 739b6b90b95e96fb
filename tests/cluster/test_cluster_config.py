"""node.toml, client.toml and their files: each mistake is named, in one line."""

from __future__ import annotations

import re
import ssl

import pytest

from veritydb.cluster.certificates import context
from veritydb.cluster.clients import check_client_name, group_of
from veritydb.cluster.config import Address, parse_address, read_client_config, read_config, read_secret
from veritydb.cluster.founding import found
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
    assert config.address == Address("10.0.0.1", 7400)
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
    client = read_client_config(folder / "client")
    assert (client.cluster, client.members) == (config.cluster, config.members)
    assert read_client_config(folder / "client/client.toml") == client
    assert isinstance(group_of(client).tls, ssl.SSLContext)
    assert group_of(client).keys.peer is None
    assert group_of(client).keys.client == group_of(client, secret=config.secret_file).keys.client
    with pytest.raises(ConfigurationError, match="exists; nothing was changed"):
        found(folder, {1: parse_address("127.0.0.1:1")})


GOOD_CLIENT = """
cluster = "00112233445566778899aabbccddeeff"
client_key = "client.secret"
authority = "a.crt"
certificate = "c.crt"
key = "c.key"

[members]
1 = "10.0.0.1:7400"
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("cluster =", "clustre =", "no setting 'clustre'"),
        ('key = "c.key"', "", "'key' is missing"),
        ('"client.secret"', "3", "client_key must be a path"),
        ("0011", "", "cluster must be 32 hex digits"),
        ('"10.0.0.1:7400"', '"10.0.0.1"', "host:port"),
        ('1 = "10.0.0.1:7400"', "", "names 1 to"),
        ('key = "c.key"', 'key = "c.key"\nmember = 1', "no setting 'member'"),
        ('key = "c.key"', 'key = "c.key"\nregions = "eu"', "regions is a list of different names"),
        ('key = "c.key"', 'key = "c.key"\nregions = ["eu", "eu"]', "regions is a list of different names"),
    ],
)
def test_a_mistake_in_a_client_file_is_named(tmp_path, old, new, why):
    path = tmp_path / "client.toml"
    assert old in GOOD_CLIENT
    path.write_text(GOOD_CLIENT.replace(old, new))
    with pytest.raises(ConfigurationError, match=re.escape(why)) as raised:
        read_client_config(tmp_path)
    assert "client.toml" in str(raised.value)


def test_a_folder_that_is_no_clients_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"client\.toml cannot be read"):
        read_client_config(tmp_path)
    (tmp_path / "client.toml").write_text(GOOD_CLIENT)
    with pytest.raises(ConfigurationError, match="no certificate of an authority"):
        group_of(read_client_config(tmp_path))


@pytest.mark.parametrize("name", ["", "member-1", "a b", "-a", "a/b", "x" * 65, "ä"])
def test_a_client_whose_name_cannot_be_is_refused(name):
    with pytest.raises(ConfigurationError, match="client's name"):
        check_client_name(name)


def test_certificates_that_cannot_be_used_are_named(tmp_path):
    folder = tmp_path / "cluster"
    config = read_config(found(folder, {1: parse_address("127.0.0.1:1")}, slots=64)[0])
    (tmp_path / "none.crt").write_text("nothing")
    with pytest.raises(ConfigurationError, match="no certificate of an authority"):
        context(tmp_path / "none.crt", config.certificate, config.key, server=True)
    with pytest.raises(ConfigurationError, match="no certificate and its key"):
        context(config.authority, config.certificate, folder / "authority.key", server=True)
