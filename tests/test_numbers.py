"""Lists of numbers that are handed over as bytes are those that Cap'n Proto would have made number by number."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veritydb import numbers, schemas
from veritydb.columns import read_column, write_column
from veritydb.numbers import LONG, SHORT, set_floats, set_ints, set_lengths

if TYPE_CHECKING:
    from collections.abc import Callable

INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=64)
LENGTHS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("setter", "field", "of"),
    [(set_ints, "ints", INTS), (set_floats, "floats", FLOATS), (set_lengths, "lengths", LENGTHS)],
)
@given(data=st.data(), count=st.sampled_from([0, 1, SHORT - 1, SHORT, SHORT + 1, 300]))
def test_both_ways_make_the_same_bytes(setter: Callable[..., None], field: str, of: Any, data: Any, count: int) -> None:
    some = data.draw(st.lists(of, min_size=1, max_size=7))
    values = (some * count)[:count]
    message, plain = schemas.record.Column.new_message(), schemas.record.Column.new_message()
    setter(message, field, values)
    setattr(plain, field, values)
    assert message.to_bytes() == plain.to_bytes()


@pytest.mark.parametrize("field", ["rowids", "rowidsAfter"])
def test_rowids_are_set_the_same_way(field: str) -> None:
    rows = schemas.record.Rows.new_message()
    set_ints(rows, field, range(1000))
    assert list(getattr(rows, field)) == list(range(1000))


def test_a_list_beyond_the_limit_goes_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "LONG", 200)
    monkeypatch.setattr(numbers, "_column", None)
    for setter, field in ((set_ints, "ints"), (set_floats, "floats"), (set_lengths, "lengths")):
        column = schemas.record.Column.new_message()
        setter(column, field, list(range(201)))
        assert list(getattr(column, field)) == list(range(201))


def test_the_longest_list_is_one_that_can_be_read() -> None:
    column = schemas.record.Column.new_message()
    set_floats(column, "floats", array("d", [0.5]) * LONG)
    assert len(column.floats) == LONG


def test_numbers_are_turned_round_where_memory_has_the_other_order(monkeypatch: pytest.MonkeyPatch) -> None:
    other = array("q", range(SHORT))
    other.byteswap()
    monkeypatch.setattr(numbers.sys, "byteorder", "big")
    column = schemas.record.Column.new_message()
    set_ints(column, "ints", other)
    assert list(column.ints) == list(range(SHORT))


@pytest.mark.parametrize("values", [[2**63] * SHORT, [-(2**63) - 1] * 3])
def test_a_number_of_more_than_64_bits_is_refused(values: list[int]) -> None:
    with pytest.raises(Exception, match=r"too large|too big|out of|range|convert"):
        set_ints(schemas.record.Column.new_message(), "ints", values)


@pytest.mark.parametrize("value", [7, 1.5, "text", b"blob"])
def test_a_long_column_comes_back(value: Any) -> None:
    column = schemas.record.Column.new_message()
    write_column(column, [value] * 1000, 0)
    with schemas.record.Column.from_bytes(column.to_bytes()) as read:
        values, _ = read_column(read, 1000, 0)
        assert list(values) == [value] * 1000
