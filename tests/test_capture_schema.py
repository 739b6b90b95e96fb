"""Capture of schema statements: one event each, and rows told by the schema of their time."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from tests.support.captured import Make, alter, brief, rows, schema
from veritydb.events import Op
from veritydb.hooks.images import Kind


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIRTUAL TABLE f USING fts5(x)",
        "CREATE VIRTUAL TABLE f USING fts4(x)",
        "CREATE VIRTUAL TABLE f USING rtree(id, a, b)",
        "ALTER TABLE t RENAME TO other",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t ADD COLUMN c DEFAULT 1",
        "CREATE TABLE copy AS SELECT * FROM t",
        "DROP TABLE t",
    ],
)
def test_a_schema_statement_is_one_event_without_the_rows_that_replaying_it_makes(make: Make, sql: str) -> None:
    c = make("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 2)")
    c.begin()
    alter(c, sql)
    assert c.commit() == [schema(sql)]


def test_cascades_of_dropping_a_parent_come_before_the_schema_event(make: Make) -> None:
    c = make(
        "PRAGMA foreign_keys = 1; CREATE TABLE p(id INTEGER PRIMARY KEY);"
        "CREATE TABLE c(p REFERENCES p ON DELETE CASCADE); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1)"
    )
    c.begin()
    alter(c, "DROP TABLE p")
    assert brief(c.commit()) == [("DELETE", "p", [1]), ("DELETE", "c", [1]), schema("DROP TABLE p")]


def test_rows_are_told_by_the_schema_of_their_time(make: Make) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID")
    c.begin()
    c.do("INSERT INTO t VALUES (1)")
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(a)")
    c.do("INSERT INTO t VALUES (2)")
    assert c.commit() == [
        rows("t", Op.INSERT, None, None, [(1,)]),
        schema("DROP TABLE t"),
        schema("CREATE TABLE t(a)"),
        rows("t", Op.INSERT, [1], None, [(2,)]),
    ]


def test_a_schema_that_another_connection_changed_is_read_at_the_next_join(make: Make, tmp_path: Any) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY)", path=str(tmp_path / "s.db"))
    assert c.transact("INSERT INTO t VALUES (1)") == [rows("t", Op.INSERT, [1], None, [(1,)])]
    other = apsw.Connection(c.path)
    other.execute("DROP TABLE t; CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID")
    other.close()
    assert c.transact("INSERT INTO t VALUES (1)") == [rows("t", Op.INSERT, None, None, [(1,)])]


@pytest.mark.parametrize("other_changes", [False, True])
def test_a_schema_change_that_was_rolled_back_is_not_believed_afterwards(
    make: Make, tmp_path: Any, other_changes: bool
) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY, v)", path=str(tmp_path / "s.db"))
    version = c.db.pragma("schema_version")
    c.begin()
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID")
    c.cursor.execute("ROLLBACK")
    if other_changes:
        other = apsw.Connection(c.path)
        other.execute("CREATE TABLE one(a); CREATE TABLE two(a)")
        other.close()
    else:
        assert c.db.pragma("schema_version") == version
    assert c.transact("INSERT INTO t VALUES (1, 2)") == [rows("t", Op.INSERT, [1], None, [(1, 2)])]


def test_a_schema_change_that_a_savepoint_took_back_is_not_believed_afterwards(make: Make) -> None:
    c = make("CREATE TABLE t(k PRIMARY KEY, v)")
    c.begin()
    c.do("SAVEPOINT s")
    alter(c, "DROP TABLE t")
    alter(c, "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID")
    c.do("ROLLBACK TO s")
    c.do("INSERT INTO t VALUES (1, 2)")
    assert c.commit() == [rows("t", Op.INSERT, [1], None, [(1, 2)])]


def test_the_content_of_a_table_can_be_logged_as_inserts(make: Make) -> None:
    c = make("CREATE TABLE t(a); INSERT INTO t VALUES (1), ('x')")
    c.begin()
    alter(c, "CREATE TABLE copy AS SELECT * FROM t")
    c.capture.add_table("copy")
    assert brief(c.commit()) == [schema("CREATE TABLE copy AS SELECT * FROM t"), ("INSERT", "copy", [1, 2])]


def test_a_schema_statement_after_one_that_a_savepoint_took_back_finds_the_schema_read(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.begin()
    c.do("SAVEPOINT s")
    alter(c, "CREATE TABLE gone(a)")
    c.do("INSERT INTO gone VALUES (1)")
    c.do("ROLLBACK TO s")
    alter(c, "CREATE TABLE stays(a)")
    c.do("INSERT INTO stays VALUES (1)")
    assert brief(c.commit()) == [schema("CREATE TABLE stays(a)"), ("INSERT", "stays", [1])]


def test_a_table_that_a_statement_made_and_unmade_is_ignored_and_one_that_never_was_is_not_found(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.transact("INSERT INTO t VALUES (1)")
    catalog = c.capture.catalog
    ghost = catalog.meet("ghost")
    catalog.read(c.db.cursor())
    assert ghost.kind is Kind.IGNORED
    with pytest.raises(KeyError):
        catalog.find("ghost")
    assert catalog.find("T") is catalog.find("t")


def test_rows_by_which_a_virtual_table_makes_itself_are_part_of_its_statement(make: Make) -> None:
    c = make("CREATE TABLE t(a)")
    c.begin()
    alter(c, "CREATE VIRTUAL TABLE f USING fts5(x)")
    c.do("INSERT INTO t VALUES (1)")
    assert brief(c.commit()) == [schema("CREATE VIRTUAL TABLE f USING fts5(x)"), ("INSERT", "t", [1])]
