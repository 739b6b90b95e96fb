"""Images: what the hooks record of a run, and what everybody else takes for a list of tuples."""

from __future__ import annotations

import pytest

from veritydb.events import Images, Op, Rows

ROWS = [(1, "a", None), (2, "b", 2.5), (3, "c", b"x")]


@pytest.fixture
def images() -> Images:
    return Images([value for row in ROWS for value in row], 3)


def test_they_are_a_sequence_of_tuples(images: Images) -> None:
    assert list(images) == ROWS
    assert len(images) == 3
    assert [images[number] for number in (0, 2, -1, -3)] == [ROWS[0], ROWS[2], ROWS[2], ROWS[0]]
    assert images[1:] == ROWS[1:]
    assert images[::-1] == ROWS[::-1]
    assert (2, "b", 2.5) in images
    assert images.index((3, "c", b"x")) == 2


@pytest.mark.parametrize("number", [3, -4])
def test_there_is_no_row_behind_the_last(images: Images, number: int) -> None:
    with pytest.raises(IndexError):
        images[number]


def test_they_are_equal_to_what_holds_the_same(images: Images) -> None:
    assert images == ROWS
    assert images == ROWS
    assert images == Images(list(images.values), 3)
    assert images != ROWS[:2]
    assert images != Images([1, "a", None], 1)
    assert images != tuple(ROWS)  # As a list is not.
    assert repr(images) == repr(ROWS)
    assert Rows("t", Op.INSERT, None, None, None, images) == Rows("t", Op.INSERT, None, None, None, ROWS)


def test_a_column_is_every_value_of_it(images: Images) -> None:
    assert images.columns() == [[1, 2, 3], ["a", "b", "c"], [None, 2.5, b"x"]]


@pytest.mark.parametrize(("count", "width"), [(1, 0), (0, 0), (4, 3), (1, -1)])
def test_values_that_are_no_whole_rows_are_refused(count: int, width: int) -> None:
    with pytest.raises(ValueError, match="are no rows of"):
        Images([None] * count, width)
