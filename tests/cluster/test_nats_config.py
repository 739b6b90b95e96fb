"""Addresses of NATS: what they say, what is wrong with them, and that no secret of theirs is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veritydb.cluster.reaching import shared_stream
from veritydb.errors import ConfigurationError
from veritydb.nats import NatsConfig
from veritydb.nats.config import read_address


def test_an_address_says_where_who_and_what_is_promised():
    config = read_address(
        "tls://app:se%40cret@a:4222,b,[::1]:4223/?replicas=5&sync=interval&monitors=http://a:8222,http://b:8222"
        "&domain=hub&authority=ca.pem",
        {},
    )
    assert config == NatsConfig(
        servers=("a:4222", "b:4222", "[::1]:4223"),
        replicas=5,
        sync="interval",
        monitors=("http://a:8222", "http://b:8222"),
        domain="hub",
        user="app",
        password="se@cret",
        tls=True,
        authority=Path("ca.pem"),
    )


def test_what_an_address_does_not_say_is_the_safer_thing():
    config = read_address("nats://a", {})
    assert (config.servers, config.replicas, config.sync, config.tls) == (("a:4222",), 3, "always", False)


def test_a_token_stands_where_a_user_would():
    assert read_address("nats://t0ken@a", {}).token == "t0ken"


def test_the_variable_names_credentials_for_addresses_that_have_none():
    environment = {"VERITYDB_CREDENTIALS": "/etc/app.creds"}
    assert read_address("nats://a", environment).credentials == Path("/etc/app.creds")
    assert read_address("nats://u:p@a", environment).credentials is None
    assert read_address("nats://a?nkey=seed", environment).credentials is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("nats://", "a NATS server is host:port"),
        ("nats://a:x", "a NATS server is host:port"),
        ("nats://a,,b", "a NATS server is host:port"),
        ("nats://a/b", "a NATS server is host:port"),
        ("nats://a?replicas=2.5", "replicas is a number from 1 to 5, not '2.5'"),
        ("nats://a?replicas=7", "replicas is a number from 1 to 5, not 7"),
        ("nats://a?sync=sometimes", "sync is one of always, interval, not 'sometimes'"),
        ("nats://a?monitors=a:8222", "a monitor is http://host:8222, not 'a:8222'"),
        ("nats://a?password=x", "there is no setting 'password' in the address of NATS a"),
        ("nats://a?colour=red", "there is no setting 'colour'"),
        ("nats://u:p@a?nkey=seed", "one way to say who one is"),
        ("nats://a?certificate=c.pem", "a client's certificate and its key go together"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_in_one_line(wrong, why):
    with pytest.raises(ConfigurationError) as error:
        read_address(wrong, {})
    assert str(error.value).startswith(why)
    assert "\n" not in str(error.value)


def test_nobody_is_no_configuration():
    with pytest.raises(ConfigurationError, match="names at least one server"):
        NatsConfig(servers=())


@given(st.text(), st.text(alphabet="abc:,@/?&=[]%#.0123456789\\ \n", max_size=30))
@example("", "[")
@example("", "a:4222?replicas=²")
@example("", "a?monitors=http://[")
def test_any_text_is_a_configuration_or_says_what_is_wrong(start, rest):
    try:
        read_address(f"nats://{start}{rest}", {})
    except ConfigurationError:
        pass


@given(
    st.text(alphabet="abc:,/?&=[]%#. ", max_size=20),
    st.sampled_from(["&sync=x", "?x=y", ":a", "[", "a:1:2", "?nkey=a"]),
)
def test_no_error_and_no_repr_shows_a_secret(host, rest):
    secret = "s3cretSauce"
    for address in (f"nats://app:{secret}@{host}{rest}", f"nats://{secret}@{host}{rest}"):
        try:
            config = read_address(address, {})
            shown = repr(config) + str(config)
        except ConfigurationError as error:
            shown = str(error)
        assert secret not in shown


def test_streams_of_one_address_share_no_connection_and_the_same_one_is_found_again(tmp_path):
    address = "nats://127.0.0.1:1"
    one = shared_stream(address, "clinic", "x.db")
    assert shared_stream(address, None, str(tmp_path / "clinic.db")).client is one.client
    other = shared_stream(address, "other", "x.db")
    assert other.client is not one.client
    assert other.stream != one.stream
    assert shared_stream(NatsConfig(servers=("127.0.0.1:1",)), "clinic", "x.db").client is one.client
