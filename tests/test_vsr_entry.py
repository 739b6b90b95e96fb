"""Ops as bytes: the header has one layout, and no changed byte goes unnoticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import CLUSTER, ROOT, chain
from veritydb.vsr.entry import BODY_MAX, HEADER_SIZE, BadEntry, Kind, make_entry, read_entry, read_header, root_entry

ENTRY = chain(2, body=b"what was agreed")[1]


def test_an_entry_is_read_as_it_was_made():
    assert read_entry(ENTRY.raw) == ENTRY
    assert read_entry(ENTRY.raw + b"more of the slot") == ENTRY
    assert read_header(ENTRY.raw[:HEADER_SIZE]) == ENTRY.header


def test_a_header_names_the_one_before():
    first, second = chain(2)
    assert first.header.parent == ROOT.header.checksum
    assert second.header.parent == first.header.checksum


def test_the_root_is_the_same_on_every_member_and_another_in_every_cluster():
    assert root_entry(CLUSTER) == ROOT
    assert root_entry(bytes(16)).header.checksum != ROOT.header.checksum


def test_a_trace_shows_the_op():
    assert repr(ENTRY.header).startswith("<op 2 view 1 NOOP ")


@given(st.integers(0, len(ENTRY.raw) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(at, change):
    raw = bytearray(ENTRY.raw)
    raw[at] ^= change
    with pytest.raises(BadEntry):
        read_entry(bytes(raw))


@given(st.integers(0, len(ENTRY.raw) - 1))
def test_no_missing_end_goes_unnoticed(length):
    with pytest.raises(BadEntry):
        read_entry(ENTRY.raw[:length])


@given(st.binary(max_size=300))
def test_other_bytes_are_no_entry(data):
    with pytest.raises(BadEntry):
        read_entry(data)


@pytest.mark.parametrize(
    "changes",
    [{"kind": 9}, {"op": 1 << 63}, {"view": 1 << 63}, {"commit": 8}, {"body": bytes(BODY_MAX + 1)}],
    ids=str,
)
def test_a_header_whose_checksum_fits_is_still_checked(changes):
    fields = {
        "kind": Kind.NOOP,
        "cluster": CLUSTER,
        "epoch": 0,
        "view": 1,
        "op": 7,
        "parent": bytes(16),
        "commit": 1,
        "timestamp": 5,
        "body": b"",
    } | changes
    with pytest.raises(BadEntry, match="out of range"):
        read_header(make_entry(**fields).header.raw)


def test_a_newer_format_is_named(monkeypatch):
    monkeypatch.setattr("veritydb.vsr.entry.VERSION", 2)
    raw = chain(1)[0].raw
    monkeypatch.undo()
    with pytest.raises(BadEntry, match="format 2; this program reads 1"):
        read_entry(raw)
