"""Limits bind the program's statements as they do in SQLite, and not what VerityDB does beside them.

The limit of a program's steps (VDBE_OP) is not compared: where row changes are reported, a statement has more of them.
"""

from __future__ import annotations

import apsw
import pytest

import veritydb
from tests.support.life import RAW, Life
from tests.support.sides import Ours, Plain, Step, assert_alike
from tests.support.strategies import _SPECIAL, SCHEMA

LIMITS = {
    "LENGTH": (1000, 10_000),  # With less than its index needs FTS5 breaks that, in SQLite too.
    "SQL_LENGTH": (60, 100),
    "COLUMN": (3, 5),
    "EXPR_DEPTH": (1, 2, 4),
    "COMPOUND_SELECT": (1, 2),
    "FUNCTION_ARG": (0, 1, 2),
    "ATTACHED": (0,),
    "LIKE_PATTERN_LENGTH": (1,),
    "VARIABLE_NUMBER": (1, 2),
    "TRIGGER_DEPTH": (0, 1),
}
STRICT = {
    # https://www.sqlite.org/security.html, 1.
    "LENGTH": 1_000_000,
    "SQL_LENGTH": 100_000,
    "COLUMN": 100,
    "EXPR_DEPTH": 10,
    "COMPOUND_SELECT": 3,
    "VDBE_OP": 25_000,
    "FUNCTION_ARG": 8,
    "ATTACHED": 0,
    "LIKE_PATTERN_LENGTH": 50,
    "VARIABLE_NUMBER": 10,
    "TRIGGER_DEPTH": 10,
}
ROWS: tuple[Step, ...] = (
    ("INSERT INTO keyed(k, n) VALUES (?, ?)", ("c", 1)),
    ("INSERT OR REPLACE INTO keyed(k, n) VALUES (?, ?)", ("c", 2)),
    ("INSERT INTO computed(a) VALUES (?)", (1,)),
    ("UPDATE composed SET c = ?", ("changed",)),
    ("UPDATE parent SET code = ? WHERE id = 1", ("z",)),
    "DELETE FROM parent WHERE id = 2",
    "SAVEPOINT a",
    ("INSERT INTO bag VALUES (?, ?)", (1, 2)),
    "ROLLBACK TO a",
    "RELEASE a",
)
# SQLite's VACUUM consists of statements that limits bind; ours of the program's one.
STEPS = [*ROWS, *(step for step in _SPECIAL if step != "VACUUM"), *ROWS]


def code(name: str) -> int:
    return int(getattr(apsw, f"SQLITE_LIMIT_{name}"))


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_allows_and_forbids_what_it_does_in_sqlite(life: Life, name: str) -> None:
    for number, limit in enumerate(LIMITS[name]):
        connection = life.connect(f"{number}.db", isolation_level=None)
        ours, plain = Ours(connection), Plain(str(life.folder / f"plain-{number}.db"))
        try:
            for step in SCHEMA:
                assert_alike(ours.run(step), plain.run(step), f"{step!r}")
            connection.setlimit(code(name), limit)
            plain.db.limit(code(name), limit)
            assert connection.getlimit(code(name)) == plain.db.limit(code(name), -1)
            for step in STEPS:
                if name == "SQL_LENGTH" and len(step[0] if isinstance(step, tuple) else str(step)) > limit:
                    continue  # sqlite3 has words of its own for that.
                expected, seen = plain.run(step), ours.run(step)
                if expected.failure and expected.failure.code in (apsw.SQLITE_NOMEM, apsw.SQLITE_CORRUPT):
                    break  # SQLite cannot read its own schema any more.
                assert_alike(seen, expected, f"{name} = {limit}: {step!r}")
            assert connection.getlimit(code(name)) == plain.db.limit(code(name), -1)
        finally:
            plain.close()


def test_the_limits_that_sqlite_advises_for_the_sql_of_strangers_hinder_nothing_of_ours(life: Life) -> None:
    db = life.connect(key=RAW, isolation_level=None)
    for name, limit in STRICT.items():
        db.setlimit(code(name), limit)
    columns = ", ".join(f"c{number}" for number in range(90))
    db.execute(f"CREATE TABLE wide({columns}, v AS (c0 || c1))")
    db.execute("INSERT INTO wide(c0, c1) VALUES (?, ?)", (1, 2))
    db.execute("CREATE TABLE copy AS SELECT * FROM wide")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(x)")
    db.execute("INSERT INTO words VALUES ('some words')")
    db.execute("ANALYZE")
    db.execute("VACUUM")
    with pytest.raises(veritydb.OperationalError, match="too many columns"):
        db.execute(f"SELECT {columns}, {columns}")
    with db:
        db.execute("BEGIN")
        db.executemany("INSERT INTO wide(c0) VALUES (?)", [(number,) for number in range(100)])
    assert [db.getlimit(code(name)) for name in STRICT] == list(STRICT.values())


def test_a_limit_may_be_raised_again(life: Life) -> None:
    db = life.connect(isolation_level=None)
    db.execute("CREATE TABLE t(a)")
    before = db.setlimit(code("LENGTH"), 100)
    with pytest.raises(veritydb.DataError):
        db.execute("INSERT INTO t VALUES (zeroblob(200))")
    assert db.setlimit(code("LENGTH"), before) == 100
    db.execute("INSERT INTO t VALUES (zeroblob(200))")
    assert db.getlimit(code("LENGTH")) == before
