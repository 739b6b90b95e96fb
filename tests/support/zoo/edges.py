"""Programs that text alone cannot say: parameters at the edges of storage classes, blob handles, own functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tests.support.sides import Blob, Many, RaisedInFunction
from tests.support.zoo.program import Program

if TYPE_CHECKING:
    from tests.support.sides import Side, Step

VALUES: tuple[Any, ...] = (
    *(None, 0, 1, -1, 127, 128, -128, -129, 2**15, 2**23, 2**31, 2**47, 2**62, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, -1.7976931348623157e308, math.inf, -math.inf, math.nan, 2.0**53, 2.0**63),
    *("", "a", "a\0b", "\0", "ü", "\u0800", "\U0001f600", "1", "1.0", "1e5", " 7 ", "0x10", "inf"),
    *(b"", b"\0", b"abc", bytes(range(256)), "x" * 300, b"y" * 70_000, "\u20ac" * 5_000),
)
"""One of each kind that SQLite stores in its own way."""

_KINDS = "CREATE TABLE t(id INTEGER PRIMARY KEY, none, i INTEGER, r REAL, t TEXT, n NUMERIC, b BLOB)"
_STRICT = "CREATE TABLE t(id INTEGER PRIMARY KEY, i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT"
_REGISTER = "tests.support.zoo.edges:register"


def _backwards(a: str, b: str) -> int:
    return (a < b) - (a > b)


def _twice(value: object) -> object:
    return None if value is None else f"{value}{value}"


def _fail_at_three(value: int) -> int:
    if value == 3:
        raise RaisedInFunction
    return value


def _registered(side: Side) -> None:
    side.collation("backwards", _backwards)
    side.function("twice", 1, _twice, pure=True)


def _raising(side: Side) -> None:
    side.function("fail_at_three", 1, _fail_at_three)


def register(connection: Any) -> None:
    """Give a rebuild what the programs below have in their schema."""
    connection.create_function("twice", 1, _twice, deterministic=True)
    connection.create_collation("backwards", _backwards)


def _one_by_one(sql: str) -> tuple[Step, ...]:
    return tuple((sql, (value,) * sql.count("?")) for value in VALUES)


def _utf16(encoding: str) -> Program:
    return Program(
        f"a database in {encoding}",
        (
            f"PRAGMA encoding = '{encoding}'",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b)",
            "CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID",
            "CREATE TABLE h(a)",
        ),
        (
            ("INSERT INTO t VALUES (1, ?, ?)", ("ü\U0001f600", "a\0b")),
            "INSERT INTO t(a) VALUES (CAST(x'00d84100' AS TEXT)), ('plain')",
            "UPDATE t SET a = a || '!' WHERE id <> 2",
            "INSERT INTO w VALUES ('k', 1), (CAST(x'00dc' AS TEXT), 2)",
            "UPDATE w SET v = 3",
            "UPDATE t SET id = 20 WHERE id = 2",
            "DELETE FROM w WHERE k = 'k'",
            "INSERT INTO h VALUES ('x'), (CAST(x'00d8' AS TEXT))",
            "DELETE FROM t WHERE id = 20",
            "PRAGMA encoding",
        ),
    )


_PARAMETERS = (
    Program(
        "insert with parameters",
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)",),
        (("INSERT INTO t VALUES (?, ?, ?)", (5, "p", b"\0q")), ("INSERT INTO t(a) VALUES (:a)", {"a": 3})),
    ),
    Program(
        "executemany",
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)",),
        (
            Many("INSERT INTO t(a, b) VALUES (?, ?)", tuple((i, str(i)) for i in range(20))),
            Many("UPDATE t SET b = ? WHERE a = ?", (("x", 3), ("y", 4), ("z", 999))),
            Many("DELETE FROM t WHERE a = ?", ((1,), (2,))),
        ),
    ),
    Program(
        "executemany that fails in the middle",
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT)",
            "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
        ),
        (Many("INSERT INTO t(k, n) VALUES (?, ?)", (("d", 1), ("e", 2), ("a", 3), ("f", 4))),),
    ),
    Program(
        "statements that hide behind comments and semicolons",
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)"),
        (
            "/* c */ INSERT INTO t(a) VALUES (1)",
            "-- c\nDELETE FROM t WHERE id = 1",
            ";UPDATE t SET b = 5",
            "\ufeffINSERT INTO t(a) VALUES (2)",
            "  ; ; DELETE FROM t WHERE id = 2",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN QUERY PLAN UPDATE t SET a = 1 WHERE id = 2",
            "VALUES (1), (2)",
            "SELECT 1 -- DELETE FROM t",
            "CREATE  TABLE\tu -- comment\n(a /* c */, b\n) ;",
            "INSERT INTO u VALUES (1, 2)",
            "SELECT sql FROM sqlite_schema WHERE name = 'u'",
        ),
    ),
    Program(
        "strict",
        (_STRICT,),
        (
            ("INSERT INTO t VALUES (1, 2, 3, 'x', ?, '007')", (b"b",)),
            "INSERT INTO t(i) VALUES ('no')",
            "INSERT INTO t(i, r, t) VALUES ('5', '6.5', 7)",
            "UPDATE t SET a = 1.0, r = 4",
            "UPDATE t SET b = 'text'",
            "CREATE TABLE bad(x MONEY) STRICT",
        ),
    ),
    Program(
        "auto_vacuum",
        ("PRAGMA auto_vacuum = FULL", "CREATE TABLE t(a)"),
        (
            "PRAGMA auto_vacuum",
            Many("INSERT INTO t VALUES (?)", (("x" * 900,),) * 40),
            "DELETE FROM t WHERE rowid > 5",
            "PRAGMA auto_vacuum = INCREMENTAL",
            "PRAGMA auto_vacuum",
            "DELETE FROM t",
            "PRAGMA incremental_vacuum",
        ),
    ),
    Program(
        "many rows undone and done again",
        ("CREATE TABLE t(a)",),
        (
            "SAVEPOINT s",
            Many("INSERT INTO t VALUES (?)", tuple((i,) for i in range(200))),
            "ROLLBACK TO s",
            Many("INSERT INTO t VALUES (?)", tuple((-i,) for i in range(100))),
            "SAVEPOINT r",
            "DELETE FROM t",
            "ROLLBACK TO r",
            "RELEASE s",
            "SELECT count(*), min(a) FROM t",
        ),
    ),
    Program(
        "two thousand columns",
        ("CREATE TABLE t({})".format(", ".join(f"c{i}" for i in range(2000))),),
        (
            "INSERT INTO t VALUES ({})".format(", ".join(str(i % 7) for i in range(2000))),
            "INSERT INTO t(rowid, c0, c1999) VALUES (50, 1, 2)",
            "UPDATE t SET c5 = 'x', c1998 = NULL",
            "UPDATE t SET rowid = 60 WHERE rowid = 50",
            "DELETE FROM t WHERE rowid = 1",
        ),
    ),
)

_VALUES = (
    Program(
        "all values as a run of inserts",
        (_KINDS,),
        (
            Many("INSERT INTO t(none, i, r, t, n, b) VALUES (?, ?, ?, ?, ?, ?)", tuple((v,) * 6 for v in VALUES)),
            "UPDATE t SET none = n, n = none",
            "DELETE FROM t WHERE id % 3 = 0",
        ),
    ),
    Program(
        "all values one by one",
        (_KINDS,),
        (
            *_one_by_one("INSERT INTO t(none, i, r, t, n, b) VALUES (?, ?, ?, ?, ?, ?)"),
            *_one_by_one("UPDATE t SET none = ? WHERE id = 3"),
        ),
    ),
    Program(
        "all values as keys",
        ("CREATE TABLE k(none, r REAL, t TEXT, PRIMARY KEY(none, r, t)) WITHOUT ROWID",),
        (
            *_one_by_one("INSERT OR REPLACE INTO k VALUES (coalesce(?, 'null'), coalesce(?, 0), coalesce(?, ''))"),
            "UPDATE k SET t = t || '.'",
            "DELETE FROM k WHERE typeof(none) = 'text'",
        ),
    ),
    Program(
        "all values in a table with virtual columns",
        ("CREATE TABLE t(none, r REAL, t TEXT, g AS (none))",),
        (
            Many("INSERT INTO t VALUES (?, ?, ?)", tuple((v,) * 3 for v in VALUES)),
            "UPDATE t SET none = r",
            "DELETE FROM t WHERE rowid % 2",
        ),
    ),
    Program(
        "negative zero",
        ("CREATE TABLE t(a, r REAL, n NUMERIC)",),
        (
            ("INSERT INTO t VALUES (?, ?, ?)", (-0.0, -0.0, -0.0)),
            "UPDATE t SET a = 0.0",
            ("UPDATE t SET a = ?", (-0.0,)),
            "SELECT * FROM t",
        ),
    ),
    _utf16("UTF-16le"),
    _utf16("UTF-16be"),
)

_BLOBS = (
    Program(
        "incremental blob writes",
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, b, c TEXT)",
            "INSERT INTO t VALUES (1, zeroblob(10), 'text'), (2, x'0102030405', 'other')",
        ),
        (
            Blob("t", "b", 1, 3, b"abc"),
            Blob("t", "b", 2, 0, b"\xff"),
            Blob("t", "c", 1, 1, b"EX"),
            Blob("t", "b", 1, 3, b"ABC"),
            "UPDATE t SET b = b || x'00' WHERE id = 1",
            Blob("t", "b", 1, 0, b"Q"),
            "DELETE FROM t WHERE id = 2",
        ),
    ),
    Program(
        "blob writes that make text invalid",
        ("CREATE TABLE t(a TEXT)", "INSERT INTO t VALUES ('text'), ('more')"),
        (Blob("t", "a", 1, 1, b"\xff"), "UPDATE t SET a = a || '!'", Blob("t", "a", 1, 1, b"e"), "DELETE FROM t"),
    ),
    Program(
        "blob writes into a row of this transaction",
        ("CREATE TABLE t(b)",),
        ("INSERT INTO t VALUES (zeroblob(6))", Blob("t", "b", 1, 0, b"abcdef"), "SELECT * FROM t"),
    ),
    Program(
        "blob writes that are refused",
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, b, g AS (1))",
            "CREATE TABLE u(b)",
            "CREATE INDEX i ON u(b)",
            "CREATE TABLE w(b PRIMARY KEY) WITHOUT ROWID",
            "CREATE TABLE n(b)",
            "INSERT INTO t VALUES (1, x'0000')",
            "INSERT INTO u VALUES (x'0000')",
            "INSERT INTO n VALUES (5), (NULL)",
        ),
        (
            Blob("t", "b", 1, 0, b"x"),
            Blob("u", "b", 1, 0, b"x"),
            Blob("w", "b", 1, 0, b"x"),
            Blob("n", "b", 1, 0, b"x"),
            Blob("n", "b", 2, 0, b"x"),
            Blob("n", "b", 99, 0, b"x"),
            Blob("n", "nope", 1, 0, b"x"),
            Blob("nope", "b", 1, 0, b"x"),
        ),
    ),
    Program(
        "blob writes in savepoints",
        ("CREATE TABLE t(b)", "INSERT INTO t VALUES (x'000000')"),
        (
            "SAVEPOINT s",
            Blob("t", "b", 1, 0, b"A"),
            "ROLLBACK TO s",
            Blob("t", "b", 1, 1, b"B"),
            "SAVEPOINT r",
            Blob("t", "b", 1, 2, b"C"),
            "RELEASE r",
            "RELEASE s",
            "SELECT * FROM t",
        ),
    ),
)

_FUNCTIONS = (
    Program(
        "registered functions and collations in the schema",
        (
            "CREATE TABLE t(a TEXT COLLATE backwards PRIMARY KEY, b, g AS (twice(b)) STORED)",
            "CREATE INDEX i ON t(twice(a)) WHERE twice(b) IS NOT NULL",
            "CREATE TABLE w(k TEXT COLLATE backwards PRIMARY KEY, v) WITHOUT ROWID",
        ),
        (
            "INSERT INTO t(a, b) VALUES ('a', 1), ('b', NULL), ('c', 'x')",
            "UPDATE t SET b = twice(a)",
            "INSERT INTO w VALUES ('x', 1), ('y', 2), ('z', 3)",
            "UPDATE w SET k = k || 'k'",
            "DELETE FROM w WHERE k > 'yk'",
            "SELECT a, g FROM t ORDER BY a",
        ),
        prepare=_registered,
        register=_REGISTER,
    ),
    Program(
        "a function that raises in the third row",
        (
            "CREATE TABLE s(a)",
            "CREATE TABLE t(a)",
            "CREATE TABLE u(a UNIQUE)",
            "INSERT INTO s VALUES (1), (2), (3), (4)",
        ),
        (
            "INSERT INTO t SELECT fail_at_three(a) FROM s",
            "INSERT OR FAIL INTO u SELECT fail_at_three(a) FROM s",
            "UPDATE s SET a = fail_at_three(a) * 10",
            "INSERT INTO t VALUES (1)",
            "SELECT * FROM t",
            "SELECT * FROM u",
        ),
        prepare=_raising,
    ),
    Program(
        "a function that raises in a trigger",
        ("CREATE TABLE t(a)", "CREATE TABLE log(a)"),
        (
            "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN"
            " INSERT INTO log VALUES (new.a); INSERT INTO log VALUES (fail_at_three(new.a)); END",
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t VALUES (2), (3), (4)",
            "INSERT OR FAIL INTO t VALUES (5), (3)",
            "INSERT INTO t VALUES (6)",
            "SELECT * FROM log",
        ),
        prepare=_raising,
    ),
)

EDGES: tuple[Program, ...] = (*_PARAMETERS, *_VALUES, *_BLOBS, *_FUNCTIONS)
