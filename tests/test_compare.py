"""What differs between two databases is said in words that let one find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import apsw
import pytest

from veritydb.replay.compare import differences
from veritydb.replay.snapshot import describe

MAKE = """
CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE TABLE u(a); INSERT INTO u VALUES (0.0);
"""


@pytest.fixture
def make() -> Iterator[Callable[..., apsw.Connection]]:
    made: list[apsw.Connection] = []

    def make_one(*scripts: str, encoding: str = "UTF-8") -> apsw.Connection:
        db = apsw.Connection(":memory:")
        made.append(db)
        db.pragma("encoding", encoding)
        db.execute(";".join(scripts))
        return db

    yield make_one
    for db in made:
        db.close()


def test_nothing_is_said_of_equal_databases(make: Callable[..., apsw.Connection]) -> None:
    assert differences(make(MAKE), make(MAKE)) == []
    assert differences(make(), make()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE t SET a = 'zwei' WHERE id = 2", "table t (3 and 3 rows): row 2 is (2, 'two') and (2, 'zwei')"),
        ("DELETE FROM t WHERE id = 3", "table t (3 and 2 rows): row 3 is (3, 'three') and no row"),
        ("INSERT INTO t VALUES (0, NULL)", "table t (3 and 4 rows): row 1 is (1, 'one') and (0, None)"),
        ("UPDATE u SET rowid = 7", "table u (1 and 1 rows): row 1 is (1, 0.0) and (7, 0.0)"),
        ("UPDATE u SET a = 0", "table u (1 and 1 rows): row 1 is (1, 0.0) and (1, 0)"),
        ("UPDATE u SET a = -0.0", "table u (1 and 1 rows): row 1 is (1, 0.0) and (1, -0.0)"),
        ("PRAGMA user_version = 4", "user_version is 0 and 4"),
        ("CREATE INDEX i ON t(a)", "index i is missing and ('t', 'CREATE INDEX i ON t(a)')"),
        ("CREATE VIEW v AS SELECT 1", "view v is missing and ('v', 'CREATE VIEW v AS SELECT 1')"),
    ],
)
def test_each_difference_is_shown(change: str, said: str, make: Callable[..., apsw.Connection]) -> None:
    assert differences(make(MAKE), make(MAKE, change)) == [said]


def test_a_table_of_one_of_them_is_said_once_for_its_schema_and_once_for_its_rows(
    make: Callable[..., apsw.Connection],
) -> None:
    found = differences(make(MAKE), make(MAKE, "DROP TABLE u"))
    assert found == ["table u is ('u', 'CREATE TABLE u(a)') and missing", "table u with 1 rows is not in the second"]
    assert "table u with 1 rows is not in the first" in differences(make(MAKE, "DROP TABLE u"), make(MAKE))


def test_long_rows_are_shown_in_part(make: Callable[..., apsw.Connection]) -> None:
    (said,) = differences(make(MAKE), make(MAKE, f"UPDATE u SET a = '{'x' * 5000}'"))
    assert said.endswith("…")
    assert len(said) < 500


def test_invalid_text_is_compared_by_its_bytes(make: Callable[..., apsw.Connection]) -> None:
    one = make(MAKE, "UPDATE u SET a = CAST(x'ff' AS TEXT)")
    assert differences(one, make(MAKE, "UPDATE u SET a = CAST(x'ff' AS TEXT)")) == []
    assert differences(one, make(MAKE, "UPDATE u SET a = CAST(x'fe' AS TEXT)")) == [
        "table u (1 and 1 rows): row 1 is (1, 'FF') and (1, 'FE')"
    ]


def test_a_snapshot_taken_earlier_is_enough_to_tell_that_something_changed(
    make: Callable[..., apsw.Connection],
) -> None:
    db = make(MAKE)
    before = describe(db)
    assert differences(before, db) == []
    db.execute("UPDATE t SET a = 'x'")
    assert differences(before, db) == ["table t: its rows differ (3 and 3 rows)"]


def test_encodings_differ(make: Callable[..., apsw.Connection]) -> None:
    found = differences(make(MAKE), make(MAKE, encoding="UTF-16be"))
    assert found[0] == "encoding is 'UTF-8' and 'UTF-16be'"
