"""A stream's id follows from the cluster and the name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veritydb.cluster.naming import name_problem, stream_id
from veritydb.errors import ConfigurationError

CLUSTER = bytes(range(16))


def test_a_name_has_the_same_id_for_ever():
    """Applications are told names and nodes have folders by id: this value never changes."""
    assert stream_id(CLUSTER, "clinic").hex() == "96927492f066b077b55c90549d3e8e19"


def test_a_name_is_another_stream_in_another_cluster():
    assert stream_id(CLUSTER, "clinic") != stream_id(bytes(16), "clinic")


def test_an_id_in_hex_is_itself():
    assert stream_id(CLUSTER, "00112233445566778899aabbccddeeff") == bytes.fromhex("00112233445566778899aabbccddeeff")


@pytest.mark.parametrize("name", ["", "x" * 65, "ä" * 33, " a", "a ", "a\n", "a*", "\u202ea", "e\u0301", "\ud800"])
def test_a_name_that_could_be_mistaken_is_refused(name):
    with pytest.raises(ConfigurationError, match="stream's name"):
        stream_id(CLUSTER, name)


@given(st.text(max_size=80))
def test_every_text_is_a_name_or_says_why_not(name):
    if name_problem(name) is None:
        assert len(stream_id(CLUSTER, name)) == 16
    else:
        with pytest.raises(ConfigurationError):
            stream_id(CLUSTER, name)
