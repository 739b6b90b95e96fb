"""Two databases with the same content have the same snapshot, whatever their pages look like; others have not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from veritydb import applied
from veritydb.errors import MissingFunction
from veritydb.replay.digest import SIZE, schema_digest
from veritydb.replay.snapshot import describe, rows_of


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    yield connection
    connection.close()


def test_where_rows_lie_in_the_file_does_not_show(db: apsw.Connection, tmp_path: Path) -> None:
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t(a)")
    db.executemany("INSERT INTO t VALUES (?, ?)", [(number, f"row {number}") for number in range(2500)])
    db.execute("DELETE FROM t WHERE id % 2; ")
    before = describe(db)
    assert before.tables["t"].count == 1250
    db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    copy = apsw.Connection(str(tmp_path / "copy.db"))
    assert describe(copy) == before
    copy.close()


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO t VALUES (3, 'c')",
        "DELETE FROM t WHERE id = 2",
        "UPDATE t SET a = 1.0 WHERE id = 1",
        "UPDATE t SET a = '1' WHERE id = 1",
        "UPDATE t SET a = x'31' WHERE id = 1",
        "UPDATE t SET id = 5 WHERE id = 2",
        "UPDATE u SET rowid = 2",
        "CREATE INDEX i ON t(a)",
        "DROP TABLE u",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 1",
        "INSERT INTO s VALUES (NULL)",
        "INSERT INTO f VALUES ('x')",
    ],
)
def test_any_change_shows(change: str, db: apsw.Connection) -> None:
    db.execute(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1), (2, 'b');"
        "CREATE TABLE u(a); INSERT INTO u VALUES ('same');"
        "CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT);"
        "CREATE VIRTUAL TABLE f USING fts5(x)"
    )
    before = describe(db)
    db.execute(change)
    assert describe(db) != before


def test_the_row_that_says_where_the_file_is_does_not_count(db: apsw.Connection) -> None:
    before, digest = describe(db), schema_digest(db)
    applied.write(db.cursor(), applied.first(bytes(16)))
    assert describe(db) == before
    assert schema_digest(db) == digest


def test_an_empty_statistics_table_is_no_content(db: apsw.Connection) -> None:
    db.execute("CREATE TABLE t(a); CREATE INDEX i ON t(a)")
    before, digest = describe(db), schema_digest(db)
    db.execute("ANALYZE")
    assert describe(db) == before
    db.execute("INSERT INTO t VALUES (1); ANALYZE")
    assert set(describe(db).tables) == {"t", "sqlite_stat1", "sqlite_stat4"}
    assert schema_digest(db) == digest


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_text_that_is_no_text_is_told_by_its_bytes(encoding: str, db: apsw.Connection) -> None:
    db.pragma("encoding", encoding)
    db.execute("CREATE TABLE t(a); INSERT INTO t VALUES ('fine'), (CAST(x'00d84100' AS TEXT)), (CAST(x'ff' AS TEXT))")
    before = describe(db)
    assert before.tables["t"].exact
    db.execute("UPDATE t SET a = CAST(x'01d84100' AS TEXT) WHERE rowid = 2")
    assert describe(db) != before
    fine = "fine".encode("utf-8" if encoding == "UTF-8" else "utf-16-le").hex().upper()
    assert next(rows_of(db, "t", exact=True)) == (1, fine)


def test_rows_come_in_the_order_of_their_keys(db: apsw.Connection) -> None:
    db.pragma("reverse_unordered_selects", 1)
    db.execute(
        "CREATE TABLE t(a UNIQUE); INSERT INTO t(rowid, a) VALUES (2, 'a'), (1, 'z');"
        "CREATE TABLE w(v UNIQUE, k PRIMARY KEY) WITHOUT ROWID; INSERT INTO w VALUES (1, 'z'), (2, 'a')"
    )
    assert list(rows_of(db, "t", exact=False)) == [(1, "z"), (2, "a")]
    db.pragma("reverse_unordered_selects", 0)
    assert list(rows_of(db, "w", exact=False)) == [(2, "a"), (1, "z")]


def test_2000_columns_are_read_with_their_rowid(db: apsw.Connection) -> None:
    names = ",".join(f"c{number}" for number in range(2000))
    db.execute(f"CREATE TABLE t({names}); INSERT INTO t(rowid, c0) VALUES (9, 'first'), (4, 'second')")
    assert [(row[:2], len(row)) for row in rows_of(db, "t", exact=False)] == [
        ((4, "second"), 2001),
        ((9, "first"), 2001),
    ]
    assert [row[:2] for row in rows_of(db, "t", exact=True)] == [
        (4, b"second".hex().upper()),
        (9, b"first".hex().upper()),
    ]


def test_a_collation_is_needed_only_where_it_orders_the_rows_themselves(tmp_path: Path) -> None:
    path = str(tmp_path / "collated.db")
    maker = apsw.Connection(path)
    maker.create_collation("mine", lambda one, two: (one > two) - (one < two))
    maker.execute("CREATE TABLE t(k TEXT COLLATE mine PRIMARY KEY); INSERT INTO t VALUES ('b'), ('a')")
    known = describe(maker)
    reader = apsw.Connection(path)
    assert describe(reader) == known
    maker.execute("CREATE TABLE w(k TEXT COLLATE mine PRIMARY KEY) WITHOUT ROWID; INSERT INTO w VALUES ('b'), ('a')")
    maker.close()
    with pytest.raises(MissingFunction, match="w cannot be read"):
        describe(reader)
    reader.close()


def test_the_digest_of_a_schema_does_not_depend_on_the_order_of_making(db: apsw.Connection) -> None:
    statements = ["CREATE TABLE a(x)", "CREATE VIEW v AS SELECT 1", "CREATE TABLE b(x)"]
    db.execute(";".join(statements))
    other = apsw.Connection(":memory:")
    other.execute(";".join(reversed(statements)))
    digest = schema_digest(db)
    assert len(digest) == SIZE
    assert schema_digest(other) == digest
    other.execute("CREATE TRIGGER g AFTER INSERT ON a BEGIN SELECT 1; END")
    assert schema_digest(other) != digest
    other.close()
