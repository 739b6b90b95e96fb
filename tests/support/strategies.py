"""Random SQL: statements over one fixed schema that has a table for each way in which rows are kept.

All but rtree: a rollback leaves a read transaction of it behind, which the session extension on the twin then ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.support.sides import Blob, Many

if TYPE_CHECKING:
    from tests.support.sides import Step

SCHEMA: tuple[str, ...] = (
    "CREATE TABLE bag(a, b)",
    "CREATE TABLE keyed(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE, n CHECK(n IS NOT 13))",
    "CREATE TABLE composed(a TEXT, b INT, c, PRIMARY KEY(b, a)) WITHOUT ROWID",
    "CREATE TABLE nullable(k TEXT PRIMARY KEY, v REAL)",
    "CREATE TABLE computed(id INTEGER PRIMARY KEY, a, g AS (coalesce(a, 0) || '!'), s AS (typeof(a)) STORED)",
    "CREATE TABLE loose(a TEXT, b, g AS (b))",
    "CREATE TABLE exact(i INT, r REAL, t TEXT, x ANY) STRICT",
    "CREATE TABLE parent(id INTEGER PRIMARY KEY, code UNIQUE)",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent(code) ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE late(id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE log(what, x)",
    "CREATE TRIGGER ki AFTER INSERT ON keyed BEGIN INSERT INTO log VALUES ('new', new.k); END",
    "CREATE TRIGGER kd BEFORE DELETE ON keyed BEGIN UPDATE log SET what = 'gone' WHERE x IS old.k; END",
    "CREATE TRIGGER k5 AFTER INSERT ON keyed WHEN new.n = 5 BEGIN SELECT RAISE(ABORT, 'five'); END",
    "CREATE TRIGGER k6 AFTER INSERT ON keyed WHEN new.n = 6 BEGIN SELECT RAISE(FAIL, 'six'); END",
    "CREATE TRIGGER k7 BEFORE UPDATE ON keyed WHEN new.n = 4 BEGIN"
    " INSERT INTO log VALUES ('four', old.k); SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER k8 AFTER UPDATE ON keyed WHEN new.n = 3 BEGIN SELECT RAISE(ROLLBACK, 'three'); END",
    "CREATE VIRTUAL TABLE words USING fts5(x)",
    "CREATE TABLE blobs(id INTEGER PRIMARY KEY, b)",
    "CREATE TABLE shape(id INTEGER PRIMARY KEY, a)",
    "INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 3)",
    "INSERT INTO keyed(k, n) VALUES ('a', 1), ('b', 2)",
    "INSERT INTO composed VALUES ('a', 1, 1), ('b', 2, NULL)",
    "INSERT INTO blobs VALUES (1, zeroblob(8)), (2, x'00112233')",
    "INSERT INTO shape(a) VALUES (1), (2)",
)

COMPARED_WITH_SESSION = frozenset({"keyed", "composed", "nullable", "parent", "child", "late", "blobs"})
"""Tables whose net effect SQLite's session extension reports exactly: a primary key, no generated columns."""

# Mostly few values, so that keys collide; sometimes one that is stored in a way of its own.
_FEW = st.sampled_from((1, 2, 3, 4, 5, 6, 13, "a", "b", "c", None))
_RARE = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=True),
    st.text(max_size=6),
    st.binary(max_size=6),
    st.sampled_from((0.0, -0.0, 1.0, "1", b"1", "a\0b", "", b"", 2**63 - 1, -(2**63), float("inf"), "ü", "x" * 400)),
)
values = st.one_of(_FEW, _FEW, _FEW, _RARE)
# After the largest rowid SQLite draws rowids at random, and two databases would not draw the same.
_ids = st.sampled_from((1, 2, 3, 4, 5, 6, 7.0, "8", "a", b"1", 2.5, -1, None, None, None))
_small = st.integers(1, 6)

_TABLES = {
    "bag": ("a", "b"),
    "keyed": ("k", "n"),
    "composed": ("a", "b", "c"),
    "nullable": ("k", "v"),
    "computed": ("id", "a"),
    "loose": ("a", "b"),
    "exact": ("i", "r", "t", "x"),
    "parent": ("id", "code"),
    "child": ("id", "p"),
    "late": ("id", "p"),
    "words": ("x",),
    "shape": ("id", "a"),
}
_tables = st.sampled_from(tuple(_TABLES))
_modes = st.sampled_from(("", "", "", " OR ABORT", " OR FAIL", " OR IGNORE", " OR REPLACE", " OR ROLLBACK"))
_ordered = st.sampled_from(("", " WHERE rowid % 2", " WHERE rowid < 3", " WHERE rowid = 1"))


def _value(column: str) -> st.SearchStrategy[Any]:
    return _ids if column == "id" else values


@st.composite
def inserts(draw: st.DrawFn) -> Step:
    """INSERT of one to three rows, in any conflict mode."""
    table = draw(_tables)
    columns = _TABLES[table]
    count = draw(st.integers(1, 3))
    row = f"({', '.join('?' * len(columns))})"
    sql = f"INSERT{draw(_modes)} INTO {table}({', '.join(columns)}) VALUES {', '.join([row] * count)}"
    return sql, tuple(draw(_value(column)) for column in columns * count)


@st.composite
def many(draw: st.DrawFn) -> Step:
    """An ``executemany``, with the rows and the collisions that INSERT has."""
    table = draw(_tables)
    columns = _TABLES[table]
    rows = draw(st.lists(st.tuples(*map(_value, columns)), min_size=1, max_size=5))
    sql = f"INSERT{draw(_modes)} INTO {table}({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    return Many(sql, tuple(rows))


@st.composite
def updates(draw: st.DrawFn) -> Step:
    """UPDATE of a column, of the rowid, or of a column from another."""
    table = draw(_tables)
    column = draw(st.sampled_from(_TABLES[table]))
    where = "" if table == "composed" else draw(_ordered)
    kind = draw(st.integers(0, 5))
    if kind == 0 and table not in ("composed", "words"):
        return f"UPDATE{draw(_modes)} {table} SET rowid = rowid + ?{where}", (draw(_small),)
    if kind == 1:
        return f"UPDATE{draw(_modes)} {table} SET {column} = {draw(st.sampled_from(_TABLES[table]))}{where}", ()
    return f"UPDATE{draw(_modes)} {table} SET {column} = ?{where}", (draw(_value(column)),)


@st.composite
def deletes(draw: st.DrawFn) -> Step:
    """DELETE, sometimes of everything."""
    table = draw(_tables)
    column = draw(st.sampled_from(_TABLES[table]))
    if draw(st.integers(0, 4)) == 0:
        return f"DELETE FROM {table}", ()
    return f"DELETE FROM {table} WHERE {column} IS ?", (draw(values),)


@st.composite
def upserts(draw: st.DrawFn) -> Step:
    """INSERT … ON CONFLICT, also without a row to insert."""
    action = draw(st.sampled_from(("NOTHING", "UPDATE SET n = excluded.n", "UPDATE SET k = excluded.n, n = keyed.n")))
    returning = draw(st.sampled_from(("", " RETURNING id, k, n")))
    sql = f"INSERT INTO keyed(k, n) VALUES (?, ?), (?, ?) ON CONFLICT(k) DO {action}{returning}"
    return sql, tuple(draw(values) for _ in range(4))


_SPECIAL: tuple[Step, ...] = (
    "INSERT INTO bag SELECT k, n FROM keyed",
    "INSERT INTO bag DEFAULT VALUES",
    "INSERT INTO bag SELECT k, count(*) FROM keyed WHERE changes() < 3",
    "INSERT INTO loose(a, b) VALUES (CAST(x'ff41' AS TEXT), 1), ('fine', 2), (CAST(x'c3' AS TEXT), 3)",
    "UPDATE loose SET b = b + 1 WHERE a IS NOT 'fine'",
    "UPDATE keyed SET id = 100 - id",
    "UPDATE OR REPLACE keyed SET id = 1 WHERE id > 2",
    "UPDATE parent SET code = code || code",
    "REPLACE INTO parent VALUES (1, 'a'), (2, 'c')",
    "DELETE FROM sqlite_sequence",
    "UPDATE sqlite_sequence SET seq = seq + 10",
    "INSERT INTO words VALUES ('some words to find'), ('and more words')",
    "INSERT INTO words(words) VALUES ('optimize')",
    "SELECT rowid FROM words('words OR a')",
    "SELECT count(*), total(a), group_concat(typeof(b)) FROM bag",
    "SELECT id, k, n FROM keyed ORDER BY id LIMIT 3",
    "SELECT last_insert_rowid(), changes()",
    Blob("blobs", "b", 1, 2, b"XY"),
    Blob("blobs", "b", 2, 0, b"\xff"),
    "UPDATE blobs SET b = zeroblob(6) WHERE id = 2",
    "ALTER TABLE shape ADD COLUMN r REAL DEFAULT 7",
    "ALTER TABLE shape ADD COLUMN t TEXT DEFAULT 'x'",
    "ALTER TABLE shape DROP COLUMN r",
    "ALTER TABLE shape RENAME COLUMN t TO r",
    "UPDATE shape SET a = coalesce(a, 0) + 1",
    "CREATE TABLE extra(a INTEGER PRIMARY KEY AUTOINCREMENT, b)",
    "CREATE TABLE extra AS SELECT * FROM bag",
    "INSERT INTO extra(b) SELECT b FROM bag",
    "DROP TABLE extra",
    "ALTER TABLE extra RENAME TO other",
    "DROP TABLE IF EXISTS other",
    "CREATE UNIQUE INDEX bag_b ON bag(b)",
    "CREATE INDEX IF NOT EXISTS bag_a ON bag(lower(a)) WHERE b IS NOT NULL",
    "DROP INDEX IF EXISTS bag_b",
    "DROP INDEX bag_a",
    "CREATE VIEW seen AS SELECT a FROM bag",
    "DROP VIEW seen",
    "CREATE TRIGGER extra_trigger AFTER DELETE ON bag BEGIN INSERT INTO log VALUES ('bag', old.a); END",
    "DROP TRIGGER extra_trigger",
    "CREATE TEMP TABLE mine(a)",
    "INSERT INTO mine VALUES (1), (2)",
    "DROP TABLE mine",
    "PRAGMA user_version = 5",
    "PRAGMA application_id = 77",
    "PRAGMA user_version",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "INSERT INTO nowhere VALUES (1)",
    "SELEC",
    "INSERT INTO bag SELECT sum(column1) FROM (VALUES (1), (9223372036854775807), (1)) GROUP BY column1 > 1",
)
special = st.sampled_from(_SPECIAL)

statements = st.one_of(inserts(), inserts(), updates(), updates(), deletes(), upserts(), many(), special, special)
"""Any statement but those that begin or end transactions."""
