"""The SQL made for a table, read as text: what matters is which row it addresses and which columns it writes."""

from __future__ import annotations

import pytest

from veritydb.events import RawText
from veritydb.replay.statements import Column, Shape, Statements, quoted, raw_parameters, rowid_name


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, generated=name.startswith("g")) for name in names)


def shape(*names: str, alias: int | None = None, key: tuple[tuple[int, str], ...] = (), shadow: bool = False) -> Shape:
    hiding = frozenset(name.lower() for name in names)
    return Shape(table="t", columns=columns(*names), hiding=hiding, alias=alias, key=key, shadow=shadow)


def test_an_ordinary_table_is_addressed_by_its_rowid() -> None:
    made = Statements(shape("a", "b"))
    assert made.insert == 'INSERT OR ABORT INTO main."t"(rowid,"a","b") VALUES(?1,?2,?3)'
    assert made.update == 'UPDATE OR ABORT main."t" SET "a"=?2,"b"=?3 WHERE rowid=?1'
    assert made.delete == 'DELETE FROM main."t" WHERE rowid=?1'
    assert list(made.insert_bindings([7, 8], [("x", 1), ("y", 2)])) == [(7, "x", 1), (8, "y", 2)]
    assert list(made.update_bindings([7], [("x", 1)], [("z", 3)])) == [(7, "z", 3)]
    assert list(made.delete_bindings([7], [("x", 1)])) == [(7,)]


def test_the_integer_primary_key_is_the_rowid_and_images_go_through_untouched() -> None:
    made = Statements(shape("a", "id", alias=1))
    assert made.insert == 'INSERT OR ABORT INTO main."t"("a","id") VALUES(?1,?2)'
    assert made.update == 'UPDATE OR ABORT main."t" SET "a"=?1 WHERE "id"=?2'
    assert made.delete == 'DELETE FROM main."t" WHERE "id"=?1'
    images = [("x", 7)]
    assert made.insert_bindings([7], images) is images
    assert made.update_bindings([7], [("w", 7)], images) is images


def test_an_update_of_nothing_but_the_key_still_sets_something() -> None:
    assert Statements(shape("id", alias=0)).update == 'UPDATE OR ABORT main."t" SET "id"=?1 WHERE "id"=?1'


def test_without_a_rowid_the_key_is_compared_under_its_own_collation() -> None:
    made = Statements(shape("a", "k", "j", key=((1, "NOCASE"), (2, "my coll"))))
    assert made.insert == 'INSERT OR ABORT INTO main."t"("a","k","j") VALUES(?1,?2,?3)'
    key = '"k" COLLATE "NOCASE"=?{} AND "j" COLLATE "my coll"=?{}'
    assert made.update == 'UPDATE OR ABORT main."t" SET "a"=?1,"k"=?2,"j"=?3 WHERE ' + key.format(4, 5)
    assert made.delete == 'DELETE FROM main."t" WHERE ' + key.format(1, 2)
    before, after = [("x", "k", 1)], [("y", "K", 2)]
    assert list(made.update_bindings(None, before, after)) == [("y", "K", 2, "k", 1)]
    assert list(made.delete_bindings(None, before)) == [("k", 1)]


@pytest.mark.parametrize("names", [("g", "a", "b"), ("a", "g", "b"), ("a", "b", "g"), ("g1", "a", "g2")])
def test_generated_columns_are_left_to_sqlite(names: tuple[str, ...]) -> None:
    made = Statements(shape(*names))
    assert '"g' not in made.insert + made.update
    image = tuple(f"value of {name}" for name in names)
    expected = tuple(value for name, value in zip(names, image, strict=True) if not name.startswith("g"))
    assert list(made.insert_bindings([7], [image])) == [(7, *expected)]


def test_a_generated_column_may_be_part_of_the_key() -> None:
    made = Statements(shape("a", "g", key=((1, "BINARY"),)))
    assert made.update == 'UPDATE OR ABORT main."t" SET "a"=?1 WHERE "g" COLLATE "BINARY"=?2'
    assert list(made.update_bindings(None, [("a", "g")], [("b", "h")])) == [("b", "g")]


@pytest.mark.parametrize(
    ("names", "name"),
    [(("a",), "rowid"), (("RowID",), "_rowid_"), (("rowid", "_ROWID_"), "oid"), (("rowid", "oid", "_rowid_"), None)],
)
def test_the_rowid_goes_by_a_name_that_no_column_hides(names: tuple[str, ...], name: str | None) -> None:
    assert rowid_name(shape(*names)) == name


def test_a_hidden_rowid_still_goes_by_its_column() -> None:
    assert rowid_name(shape("rowid", "oid", "_rowid_", "id", alias=3)) == '"id"'


def test_rows_of_a_shadow_table_take_the_place_of_those_that_were_made_with_it() -> None:
    assert Statements(shape("a", shadow=True)).insert.startswith("INSERT OR REPLACE INTO")


def test_text_in_a_blobs_clothes_is_cast_where_it_stands() -> None:
    made = Statements(shape("a", "b"))
    binding = (7, "fine", RawText(b"\xff"))
    assert raw_parameters(binding) == [3]
    assert made.insert_sql([3]).endswith("VALUES(?1,?2,CAST(?3 AS TEXT))")
    assert 'SET "a"=?2,"b"=CAST(?3 AS TEXT) WHERE' in made.update_sql([3])
    keyed = Statements(shape("k", "v", key=((0, "BINARY"),)))
    assert keyed.update_sql([2, 3]).endswith('"v"=CAST(?2 AS TEXT) WHERE "k" COLLATE "BINARY"=CAST(?3 AS TEXT)')
    assert keyed.delete_sql([1]).endswith('"k" COLLATE "BINARY"=CAST(?1 AS TEXT)')


def test_a_quotation_mark_in_a_name_is_doubled() -> None:
    assert quoted('we"ird') == '"we""ird"'
