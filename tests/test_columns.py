"""Runs by column: every kind exact, mixed or not, and no count believed that has nothing to show for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import blobs, exact, image_lists, integers, raw_texts, reals, texts, values
from veritydb.columns import (
    BLOB,
    FREE_NULLS,
    INTEGER,
    NULL,
    RAW_TEXT,
    REAL,
    TEXT,
    read_column,
    read_columns,
    write_column,
    write_columns,
)
from veritydb.errors import LogDamaged
from veritydb.events import Image, RawText, Value
from veritydb.schemas import record


def stored(column: Sequence[Value], free: int = FREE_NULLS) -> tuple[bytes, int]:
    """Return the bytes of a column, and what is left of ``free``."""
    message = record.Column.new_message()
    left = write_column(message, column, free)
    return bytes(message.to_bytes()), left


def loaded(data: bytes, count: int, free: int = FREE_NULLS) -> tuple[list[Value], int]:
    """Read a column back."""
    with record.Column.from_bytes(data) as message:
        column, left = read_column(message, count, free)
        return list(islice(column, count + 1)), left


@given(st.lists(values, min_size=1, max_size=12))
def test_a_column_of_mixed_kinds_comes_back_exactly(column: list[Value]) -> None:
    assert exact(loaded(stored(column)[0], len(column))[0]) == exact(column)


@pytest.mark.parametrize("kind", [st.none(), integers, reals, texts, blobs, raw_texts], ids=str)
def test_a_column_of_one_kind_comes_back_exactly(kind: st.SearchStrategy[Value]) -> None:
    @given(st.lists(kind, min_size=1, max_size=12))
    def check(column: list[Value]) -> None:
        data, _ = stored(column)
        assert exact(loaded(data, len(column))[0]) == exact(column)
        with record.Column.from_bytes(data) as message:
            assert message.kinds == b""

    check()


@given(st.data(), st.integers(1, 6))
def test_rows_come_back_exactly(data: st.DataObject, count: int) -> None:
    images: list[Image] = data.draw(image_lists(count))
    message = record.Rows.new_message()
    free = write_columns(message, "after", images, 100)
    with record.Rows.from_bytes(message.to_bytes()) as rows:
        back, left = read_columns(rows.after, count, 100)
    assert exact(back) == exact(images)
    assert left == free


def test_a_row_of_two_thousand_columns_comes_back() -> None:
    images: list[Image] = [tuple(range(at, at + 2000)) for at in range(3)]
    message = record.Rows.new_message()
    write_columns(message, "before", images, 0)
    with record.Rows.from_bytes(message.to_bytes()) as rows:
        assert read_columns(rows.before, 3, 0)[0] == images


def test_lengths_of_text_count_characters_and_others_bytes() -> None:
    with record.Column.from_bytes(stored(["é😀", b"\xc3\xa9", RawText(b"\xff\xff\xff"), None, ""])[0]) as column:
        assert list(column.lengths) == [2, 2, 3, 0]
        assert column.text.decode() == "é😀"
        assert column.blob == b"\xc3\xa9\xff\xff\xff"
        assert column.kinds == bytes([TEXT, BLOB, RAW_TEXT, NULL, TEXT])


def test_nulls_cost_no_bytes_until_the_free_ones_are_used_up() -> None:
    column = [None] * 1000
    free_data, left = stored(column, 1500)
    assert left == 500
    paid_data, still = stored(column, left)
    assert still == left
    assert len(paid_data) - len(free_data) == 1000
    assert loaded(free_data, 1000, 1500) == (column, 500)
    assert loaded(paid_data, 1000, 500) == (column, 500)


def test_images_of_different_width_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_columns(record.Rows.new_message(), "after", [(1, 2), (3,)], 0)


def test_images_without_width_are_refused() -> None:
    with pytest.raises(ValueError, match="no columns"):
        write_columns(record.Rows.new_message(), "after", [(), ()], 0)


def test_what_is_no_value_of_sqlite_is_refused() -> None:
    for column in ([True], [True, 1]):
        with pytest.raises(KeyError):
            stored(column)


def forged(**parts: Any) -> bytes:
    message = record.Column.new_message()
    for name, value in parts.items():
        setattr(message, name, value)
    return bytes(message.to_bytes())


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"kind": NULL}, "claims 3 NULLs"),
        ({"kind": 6}, "unknown kind 6"),
        ({"kinds": bytes(2)}, "kinds of 2 of 3"),
        ({"kinds": bytes(4)}, "kinds of 4 of 3"),
        ({"kinds": bytes([0, 0, 9]), "lengths": [0]}, "unknown kind 9"),
        ({"kinds": bytes([0, 0, INTEGER])}, "more or fewer"),
        ({"kinds": bytes(3), "ints": [1]}, "more or fewer"),
        ({"kinds": bytes(3), "floats": [1.0]}, "more or fewer"),
        ({"kinds": bytes(3), "lengths": [0]}, "more or fewer"),
        ({"kinds": bytes(3), "text": b"x"}, "lengths of 0 in sum, and 1"),
        ({"kinds": bytes(3), "blob": b"x"}, "lengths of 0 in sum, and 1"),
        ({"kind": INTEGER, "ints": [1, 2]}, "2 of 3"),
        ({"kind": REAL, "floats": [1.0] * 4}, "4 of 3"),
        ({"kind": TEXT, "lengths": [1, 1], "text": b"ab"}, "2 of 3"),
        ({"kind": TEXT, "lengths": [1, 1, 2], "text": b"abc"}, "4 in sum, and 3"),
        ({"kind": TEXT, "lengths": [1, 1, 0], "text": b"abc"}, "2 in sum, and 3"),
        ({"kind": TEXT, "lengths": [1, 1, 1], "text": b"ab\xff"}, "not UTF-8"),
        ({"kind": BLOB, "lengths": [(1 << 32) - 1] * 3, "blob": b"abc"}, "in sum, and 3"),
        ({"kind": RAW_TEXT, "lengths": [1], "blob": b"a"}, "1 of 3"),
    ],
)
def test_a_column_that_does_not_come_out_even_is_damage(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(LogDamaged, match=says):
        loaded(forged(**parts), 3, 2)


def forge_rows(change: Callable[[Any], None]) -> bytes:
    message = record.Rows.new_message()
    change(message)
    return bytes(message.to_bytes())


def test_rows_without_columns_and_columns_without_rows_are_damage() -> None:
    with (
        record.Rows.from_bytes(forge_rows(lambda rows: rows.init("after", 1))) as rows,
        pytest.raises(LogDamaged, match="without rows"),
    ):
        read_columns(rows.after, 0, 0)
    with (
        record.Rows.from_bytes(forge_rows(lambda rows: None)) as rows,
        pytest.raises(LogDamaged, match="no columns"),
    ):
        read_columns(rows.after, 1, 0)
