"""``Row`` answers as ``sqlite3.Row`` does, and costs little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import veritydb
from tests.support.twins import See, same
from veritydb import row as rows_of_names

QUERY = "SELECT 1 AS a, 'two' AS B, NULL AS c, 4 AS a, 5 AS \u00c4, 6 AS 'x y [z]'"


@pytest.fixture
def row() -> Any:
    con = veritydb.connect(":memory:")
    con.row_factory = veritydb.Row
    made = con.execute(QUERY).fetchone()
    con.close()
    return made


def test_columns_are_found_by_name_and_place_as_sqlite3_finds_them(tmp_path: Path) -> None:
    keys: tuple[Any, ...] = ("a", "A", "b", "B", "c", "\u00c4", "\u00e4", "x y [z]", "x y", "", "nothing")
    places: tuple[Any, ...] = (
        0,
        5,
        6,
        -1,
        -6,
        -7,
        True,
        2**70,
        -(2**70),
        1.0,
        None,
        b"a",
        slice(1, 3),
        slice(None, None, -2),
    )

    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:"))
        con.row_factory = db.Row
        row = con.execute(QUERY).fetchone()
        for key in keys + places:
            see(lambda key=key: row[key])
        see([row.keys(), len(row), list(row), tuple(row), dict(row), list(reversed(row)), 4 in row])
        see([repr(row).split(" at ")[0], bool(row), isinstance(row, tuple)])

    same(tmp_path, program)


def test_the_first_of_several_columns_that_fit_wins(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:"))
        con.row_factory = db.Row
        for names in ("x X", "X x", "Xx xX XX", "aB b Ab"):
            columns = ", ".join(f'{number} AS "{name}"' for number, name in enumerate(names.split()))
            row = con.execute(f"SELECT {columns}").fetchone()
            for name in ("x", "X", "xx", "xX", "Xx", "XX", "ab", "AB", "Ab", "aB"):
                see(lambda row=row, name=name: row[name])

    same(tmp_path, program)


def test_rows_are_equal_if_names_and_values_are(tmp_path: Path) -> None:
    def program(db: Any, see: See) -> None:
        con = see.opened(db.connect(":memory:"))
        con.row_factory = db.Row
        one, two, three, four = (
            con.execute(f"SELECT {columns}").fetchone() for columns in ("1 AS a", "1 AS a", "2 AS a", "1 AS b")
        )
        see([one == two, one != two, hash(one) == hash(two), one == three, one == four, one == (1,), one == object()])
        see(lambda: one < two)
        see(lambda: one + two)
        see(lambda: {one: 1}[two])

    same(tmp_path, program)


def test_it_is_a_sequence_and_no_tuple(row: Any) -> None:
    assert isinstance(row, Sequence)
    assert not isinstance(row, tuple)
    with pytest.raises(AttributeError):
        row.novel = 1


def test_rows_made_many_at_a_time_are_the_same_as_rows_made_one_by_one() -> None:
    con = veritydb.connect(":memory:")
    con.row_factory = veritydb.Row
    together = con.execute("SELECT 1 AS a UNION ALL SELECT 2").fetchall()
    singly = list(con.execute("SELECT 1 AS a UNION ALL SELECT 2"))
    assert together == singly
    assert [type(each) for each in together] == [veritydb.Row, veritydb.Row]
    con.close()


def test_a_subclass_may_be_the_factory() -> None:
    class Named(veritydb.Row):
        def __getattr__(self, name: str) -> Any:
            return self[name]

    con = veritydb.connect(":memory:")
    con.row_factory = Named
    assert [each.name for each in con.execute("SELECT 'n' AS name")] == ["n"]
    assert con.execute("SELECT 'n' AS name").fetchall()[0].name == "n"
    con.close()


def test_names_that_were_stripped_for_their_type_are_what_a_row_knows() -> None:
    con = veritydb.connect(":memory:", detect_types=veritydb.PARSE_COLNAMES)
    con.row_factory = veritydb.Row
    row = con.execute('SELECT 5 AS "n [integer]"').fetchone()
    assert row.keys() == ["n"]
    assert row["n"] == 5
    con.close()


def test_what_is_remembered_of_descriptions_is_bounded() -> None:
    con = veritydb.connect(":memory:")
    con.row_factory = veritydb.Row
    for number in range(600):
        assert con.execute(f"SELECT {number} AS n{number}").fetchone()[f"N{number}"] == number
    assert len(rows_of_names._known) <= rows_of_names._KNOWN_MAX
    con.close()
