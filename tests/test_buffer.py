"""The change buffer: runs, marks, truncation, and parts that go out and come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.captured import Parts
from veritydb.errors import CaptureError
from veritydb.events import Clear, Event, Op, Rows, Schema, Setting
from veritydb.few_rows import FEW
from veritydb.hooks.buffer import DELETE, INSERT, UPDATE, ChangeBuffer, Mark
from veritydb.hooks.images import Kind, Table, has_real_affinity, mend_short_rows

T, U = Table("t"), Table("u")


def keyed(name: str) -> Table:
    table = Table(name)
    table.without_rowid = True
    return table


def put(
    buffer: ChangeBuffer, table: Table, code: int, rowid: int, value: object = 0, rowid_after: int | None = None
) -> None:
    """Append a row as the hook does."""
    if buffer.name != table.name or buffer.code != code:
        buffer.begin_run(table, code)
    if code != INSERT:
        buffer.add_before((value,))
    if code != DELETE:
        buffer.add_after((value,))
    if code == UPDATE:
        buffer.add_rowid_after(rowid if rowid_after is None else rowid_after)
    buffer.add_rowid(rowid)
    if len(buffer.rowids) >= buffer.check_at:
        buffer.look()


def everything(buffer: ChangeBuffer, parts: Parts) -> list[Event]:
    return [event for part in parts.parts for event in part] + buffer.events()


def insert(table: str, *rowids: int) -> Rows:
    return Rows(table, Op.INSERT, list(rowids), None, None, [(0,) for _ in rowids])


def test_consecutive_changes_of_one_kind_to_one_table_are_one_run() -> None:
    buffer = ChangeBuffer()
    for table, code, rowid in [(T, INSERT, 1), (T, INSERT, 2), (U, INSERT, 1), (T, INSERT, 3), (T, DELETE, 3)]:
        put(buffer, table, code, rowid)
    assert buffer.events() == [
        insert("t", 1, 2),
        insert("u", 1),
        insert("t", 3),
        Rows("t", Op.DELETE, [3], None, [(0,)], None),
    ]


def test_an_update_names_new_rowids_only_if_one_changed() -> None:
    buffer = ChangeBuffer()
    put(buffer, T, UPDATE, 1)
    put(buffer, U, UPDATE, 1)
    put(buffer, U, UPDATE, 2, rowid_after=5)
    assert buffer.events() == [
        Rows("t", Op.UPDATE, [1], None, [(0,)], [(0,)]),
        Rows("u", Op.UPDATE, [1, 2], [1, 5], [(0,), (0,)], [(0,), (0,)]),
    ]


def test_a_table_without_rowid_has_none_in_its_runs() -> None:
    buffer = ChangeBuffer()
    put(buffer, keyed("k"), INSERT, 0)
    put(buffer, keyed("k"), UPDATE, 0)
    assert [(event.rowids, event.rowids_after) for event in buffer.events() if isinstance(event, Rows)] == [
        (None, None)
    ] * 2
    buffer.clear()
    put(buffer, keyed("k"), INSERT, 0)
    assert buffer.few() == [(Op.INSERT, "k", None, None, None, [0])]


def test_truncation_cuts_the_run_in_which_the_mark_lies() -> None:
    buffer = ChangeBuffer()
    put(buffer, T, INSERT, 1)
    mark = buffer.mark()
    put(buffer, T, INSERT, 2)
    put(buffer, U, INSERT, 1)
    buffer.truncate(mark)
    put(buffer, T, INSERT, 3)
    assert [event.rowids for event in buffer.events() if isinstance(event, Rows)] == [[1, 3]]


def test_truncation_to_the_beginning_leaves_nothing() -> None:
    buffer = ChangeBuffer()
    mark = buffer.mark()
    buffer.add(Setting("user_version", 1))
    put(buffer, T, INSERT, 1)
    buffer.truncate(mark)
    assert not buffer.any()
    assert len(buffer) == 0
    assert buffer.events() == []


def test_events_stand_between_the_rows_where_they_were_added() -> None:
    buffer = ChangeBuffer()
    put(buffer, T, INSERT, 1)
    buffer.add(Setting("user_version", 1))
    mark = buffer.mark()
    put(buffer, T, INSERT, 2)
    assert buffer.events() == [insert("t", 1), Setting("user_version", 1), insert("t", 2)]
    buffer.truncate(mark)
    assert buffer.events() == [insert("t", 1), Setting("user_version", 1)]


def test_an_added_run_is_kept_whole_by_a_mark_behind_it() -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts)
    buffer.add(insert("t", 1, 2, 3))
    mark = buffer.mark()
    put(buffer, T, INSERT, 4)
    buffer.spill()
    buffer.truncate(mark)
    assert everything(buffer, parts) == [insert("t", 1, 2, 3)]


def test_few_rows_are_told_without_events_and_anything_else_is_not() -> None:
    buffer = ChangeBuffer()
    assert buffer.few() is None
    put(buffer, T, UPDATE, 1, "x", 2)
    assert buffer.few() == [(Op.UPDATE, "t", 1, 2, ["x"], ["x"])]
    put(buffer, T, UPDATE, 3, "y")
    put(buffer, T, DELETE, 7, 1.5)
    assert buffer.few() == [
        (Op.UPDATE, "t", 1, 2, ["x"], ["x"]),
        (Op.UPDATE, "t", 3, 3, ["y"], ["y"]),
        (Op.DELETE, "t", 7, None, [1.5], None),
    ]
    for rowid in range(FEW - 3):
        put(buffer, U, INSERT, rowid)
    few = buffer.few()
    assert few is not None
    assert len(few) == FEW
    put(buffer, U, INSERT, 99)
    assert buffer.few() is None
    buffer.clear()
    put(buffer, T, INSERT, 1)
    buffer.add(Setting("user_version", 1))
    assert buffer.few() is None


def test_an_emptied_run_is_no_row() -> None:
    buffer = ChangeBuffer()
    put(buffer, T, INSERT, 1)
    mark = buffer.mark()
    buffer.end_run()
    put(buffer, T, INSERT, 2)
    buffer.drop_runs(mark, lambda _: True)
    assert buffer.few() == [(Op.INSERT, "t", 1, None, None, [0])]
    buffer.drop_runs((0, -1), lambda _: True)
    assert buffer.few() is None


def test_short_rows_are_mended_in_runs_and_in_few_rows() -> None:
    table = Table("t")
    table.real_columns = (0,)
    buffer = ChangeBuffer()
    put(buffer, table, DELETE, 1, 7)
    put(buffer, table, DELETE, 2, 7)
    put(buffer, table, UPDATE, 3, 7)
    few = buffer.few()
    assert few is not None
    for _, _, _, _, before, _ in few:
        assert before is not None
        assert type(before[0]) is float
    event = buffer.events()[0]
    assert isinstance(event, Rows)
    assert event.before is not None
    assert type(event.before[0][0]) is float


def test_only_integers_of_the_named_columns_are_mended() -> None:
    values = [1, 1, None, "x", 2.5, 1]
    mended = mend_short_rows(values, 3, (1,))
    assert mended == values
    assert [type(value) for value in mended] == [int, float, type(None), str, float, int]
    assert type(values[1]) is int  # The run itself is not touched: it may still be cut, and mended again.


@pytest.mark.parametrize(
    ("declared", "real"),
    [
        ("REAL", True),
        ("double precision", True),
        ("FLOAT(8)", True),
        ("POINT", False),
        ("CHARREAL", False),
        ("", False),
        ("NUMERIC", False),
    ],
)
def test_real_affinity_follows_the_rules_in_their_order(declared: str, real: bool) -> None:
    assert has_real_affinity(declared) is real


def test_too_many_rows_go_to_the_overflow_in_parts_in_order() -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts, rows_max=100)
    for rowid in range(1000):
        put(buffer, T, INSERT, rowid)
    assert len(parts.parts) >= 5
    rowids = [rowid for event in everything(buffer, parts) if isinstance(event, Rows) for rowid in event.rowids or []]
    assert rowids == list(range(1000))
    assert buffer.spilled_count == parts.count
    assert buffer.any()
    assert buffer.few() is None


def test_large_values_go_to_the_overflow_before_there_are_many() -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts, bytes_max=1_000_000)
    for rowid in range(200):
        put(buffer, T, INSERT, rowid, b"x" * 50_000)
    assert parts.count >= 8
    assert all(len(event) <= 40 for part in parts.parts for event in part if isinstance(event, Rows))


def test_many_short_runs_go_to_the_overflow_too() -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts, bytes_max=100_000)
    for rowid in range(500):
        put(buffer, T, INSERT, rowid, "x" * 1000)
        put(buffer, U, INSERT, rowid)
    assert parts.count >= 4


def test_what_is_in_memory_is_estimated_within_a_factor_of_two() -> None:
    buffer = ChangeBuffer()
    for rowid in range(1000):
        put(buffer, T, INSERT, rowid, "x" * 200)
    assert 200_000 < buffer.approximate_bytes < 400_000
    buffer.clear()
    assert buffer.approximate_bytes == 0


def test_truncation_reaches_into_a_part_and_brings_it_back() -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts)
    marks: list[Mark] = []
    for rowid in range(10):
        marks.append(buffer.mark())
        put(buffer, T, INSERT, rowid)
        put(buffer, U, UPDATE, rowid, rowid_after=rowid + 1)
        if rowid % 3 == 2:
            buffer.spill()
    assert parts.count == 3
    buffer.truncate(marks[4])
    assert parts.count == 1
    assert [event.rowids for event in everything(buffer, parts) if isinstance(event, Rows)] == [
        [n] for n in (0, 0, 1, 1, 2, 2, 3, 3)
    ]
    buffer.truncate(marks[0])
    assert parts.count == 0
    assert not buffer.any()


def test_emptied_runs_are_not_handed_out_but_marks_count_them() -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts)
    start = buffer.mark()
    put(buffer, T, INSERT, 1)
    put(buffer, U, INSERT, 1)
    after_u = buffer.mark()
    put(buffer, T, DELETE, 1)
    buffer.drop_runs(start, lambda run: run.table is T)
    assert buffer.events() == [insert("u", 1)]
    buffer.spill()
    assert parts.parts == [[insert("u", 1)]]
    buffer.truncate(after_u)
    assert everything(buffer, parts) == [insert("u", 1)]
    assert buffer.mark() == after_u


def test_rows_of_a_table_that_is_not_known_yet_are_not_spilled() -> None:
    buffer = ChangeBuffer(Parts())
    put(buffer, Table("new", resolved=False), INSERT, 1)
    with pytest.raises(CaptureError):
        buffer.spill()


def test_rows_of_an_ignored_table_are_no_events() -> None:
    buffer = ChangeBuffer()
    put(buffer, Table("gone", Kind.IGNORED), INSERT, 1)
    assert buffer.events() == []
    assert buffer.few() is None


def test_the_overflow_is_remembered_by_table_and_schema_statement() -> None:
    buffer = ChangeBuffer(Parts())
    put(buffer, T, INSERT, 1)
    buffer.add(Clear("c"))
    buffer.add(Schema("CREATE TABLE x(a)", False, False, b""))
    buffer.spill()
    assert buffer.spilled_tables == {"t", "c"}
    assert buffer.spilled_schema
    buffer.clear()
    assert not buffer.spilled_tables
    assert not buffer.spilled_schema


_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("row"), st.sampled_from((T, U)), st.sampled_from((INSERT, UPDATE, DELETE)), st.integers(1, 30)
        ),
        st.tuples(st.just("add"), st.integers(0, 9)),
        st.tuples(st.just("mark")),
        st.tuples(st.just("back"), st.integers(0, 9)),
        st.tuples(st.just("spill")),
        st.tuples(st.just("end")),
    ),
    max_size=60,
)


@given(steps=_steps, rows_max=st.sampled_from((1, 4, 20, 10_000)))
def test_marks_and_parts_agree_with_a_list_of_rows(steps: list[tuple[object, ...]], rows_max: int) -> None:
    parts = Parts()
    buffer = ChangeBuffer(parts, rows_max=rows_max)
    model: list[object] = []
    marks: list[tuple[Mark, int]] = []
    number = 0
    for step in steps:
        match step:
            case ("row", Table() as table, int(code), int(count)):
                for _ in range(count):
                    number += 1
                    put(buffer, table, code, number)
                    model.append((table.name, code, number))
            case ("add", int(value)):
                buffer.add(Setting("user_version", value))
                model.append(value)
            case ("mark",):
                marks.append((buffer.mark(), len(model)))
            case ("back", int(which)) if marks:
                del marks[which % len(marks) + 1 :]
                mark, length = marks[-1]
                buffer.truncate(mark)
                del model[length:]
            case ("spill",):
                buffer.spill()
            case _:
                buffer.end_run()
        assert buffer.any() == bool(model)
    codes = {Op.INSERT: INSERT, Op.UPDATE: UPDATE, Op.DELETE: DELETE}
    found: list[object] = []
    for event in everything(buffer, parts):
        if isinstance(event, Rows):
            found.extend((event.table, codes[event.op], rowid) for rowid in event.rowids or [])
        elif isinstance(event, Setting):
            found.append(event.value)
    assert found == model
