"""Random transactions: the events say what SQLite's session extension says of a twin, and replay to the same rows.

The twin is a plain connection that runs the same statements with a session attached (on one connection the two hooks
would crash the process). Net effects are compared for the tables whose keys the extension can follow; the model in
``tests/support/captured.py`` replays every event strictly, so images, rowids and order are checked for all tables.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import net
from tests.support.captured import Captured, State
from veritydb.events import Clear

SCHEMA = """
    PRAGMA recursive_triggers = 1;
    PRAGMA foreign_keys = 1;
    CREATE TABLE p(id INTEGER PRIMARY KEY, k UNIQUE, n CHECK(n IS NOT 13));
    CREATE TABLE c(id INTEGER PRIMARY KEY AUTOINCREMENT, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, x UNIQUE);
    CREATE TABLE w(a INT, b INT, v REAL, PRIMARY KEY(a, b)) WITHOUT ROWID;
    CREATE TABLE log(what, x);
    CREATE TABLE v(id INTEGER PRIMARY KEY, a UNIQUE, g AS (coalesce(a, 0) || '!'));
    CREATE VIRTUAL TABLE f USING fts5(x);
    CREATE VIRTUAL TABLE g USING fts4(x);
    CREATE TRIGGER p_new AFTER INSERT ON p BEGIN
        INSERT INTO log VALUES ('new', new.k);
        INSERT INTO f(x) SELECT 'word ' || new.k WHERE new.n = 3;
        SELECT RAISE(FAIL, 'six') WHERE new.n = 6;
        SELECT RAISE(ABORT, 'seven') WHERE new.n = 7;
        SELECT RAISE(IGNORE) WHERE new.n = 8;
    END;
    CREATE TRIGGER p_gone BEFORE DELETE ON p BEGIN UPDATE log SET what = 'gone' WHERE x IS old.k; END;
    CREATE TRIGGER w_changed AFTER UPDATE ON w WHEN new.v = 3 BEGIN DELETE FROM w WHERE a = new.a; END;
    INSERT INTO p VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 4);
    INSERT INTO c(p, x) VALUES (1, 1), (1, 2), (2, 3);
    INSERT INTO w VALUES (1, 1, 1), (1, 2, 2), (2, 1, 4);
    INSERT INTO v(a) VALUES (1), (2), (3);
    INSERT INTO f VALUES ('first words'), ('more');
"""
FOLLOWED = frozenset(("p", "c", "w"))
"""Tables that the session extension follows too."""

MANY = "WITH RECURSIVE r(x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM r WHERE x < 60) SELECT 'many', x FROM r"

values = st.sampled_from(
    ("1", "2", "3", "4", "6", "7", "8", "13", "'a'", "'b'", "NULL", "1.5", "x'ff'", "CAST(x'ff' AS TEXT)")
)
small = st.integers(1, 4)
modes = st.sampled_from(("", "", "", " OR FAIL", " OR IGNORE", " OR REPLACE", " OR ABORT", " OR ROLLBACK"))
columns = {
    "p": ("id", "k", "n"),
    "c": ("p", "x"),
    "w": ("a", "b", "v"),
    "log": ("what", "x"),
    "v": ("id", "a"),
    "f": ("x",),
    "g": ("x",),
}
tables = st.sampled_from(tuple(columns))
names = st.sampled_from(("one", "two"))


@st.composite
def inserts(draw: st.DrawFn) -> str:
    table = draw(tables)
    rows = draw(st.lists(st.tuples(*(values for _ in columns[table])), min_size=1, max_size=3))
    listed = ", ".join(f"({', '.join(row)})" for row in rows)
    return f"INSERT{draw(modes)} INTO {table}({', '.join(columns[table])}) VALUES {listed}"


@st.composite
def updates(draw: st.DrawFn) -> str:
    table = draw(tables)
    column = draw(st.sampled_from(columns[table]))
    value = draw(
        st.one_of(values, st.sampled_from(columns[table]), st.just(f"{column} + 1"), st.just(f"fails({column})"))
    )
    where = draw(st.one_of(st.just(""), st.builds(f" WHERE {columns[table][0]} = {{}}".format, values)))
    return f"UPDATE{draw(modes)} {table} SET {column} = {value}{where}"


@st.composite
def deletes(draw: st.DrawFn) -> str:
    table = draw(tables)
    where = draw(st.one_of(st.just(""), st.builds(f" WHERE {columns[table][0]} = {{}}".format, values)))
    return f"DELETE FROM {table}{where}"


statements = st.one_of(
    inserts(),
    inserts(),
    updates(),
    updates(),
    deletes(),
    st.builds("SAVEPOINT {}".format, names),
    st.builds("ROLLBACK TO {}".format, names),
    st.builds("RELEASE {}".format, names),
    st.builds("UPDATE p SET id = id + {}".format, small),
    st.builds("INSERT INTO p(k, n) VALUES ({}, 5) ON CONFLICT(k) DO UPDATE SET n = n + 1".format, values),
    st.just(f"INSERT INTO log SELECT sum(column1), 1 FROM (VALUES (1), ({2**63 - 1}), (1)) GROUP BY column1 > 1"),
    st.just("INSERT INTO f(f, rank) VALUES ('automerge', 8)"),
    st.just("INSERT INTO f(f) VALUES ('optimize')"),
    st.just("DELETE FROM sqlite_sequence"),
    st.just(f"INSERT INTO log {MANY}"),
)
transactions = st.lists(st.lists(statements, min_size=1, max_size=8), min_size=1, max_size=4)


class Twin:
    """The plain connection, with what its session recorded."""

    def __init__(self) -> None:
        self.db = apsw.Connection(":memory:")
        self.db.execute(SCHEMA).fetchall()
        register(self.db)
        self.keys = net.key_columns(self.db, FOLLOWED)

    def watch(self) -> None:
        self.session = apsw.Session(self.db, "main")
        self.session.attach(None)

    def net(self) -> Any:
        try:
            return net.of_changeset(self.session.changeset(), frozenset(self.keys))
        except UnicodeDecodeError:
            return None  # The extension hands out invalid text no better than the hook does.
        finally:
            self.session.close()


def register(db: apsw.Connection) -> None:
    """Offer a function that fails for some values."""

    def fails(value: Any) -> Any:
        if value in (3, "c"):
            raise ValueError(value)
        return value

    db.create_scalar_function("fails", fails)


def outcome(call: Any, *arguments: Any) -> str:
    """Return the name of the error, or that there was none; invalid text in a result is no error here."""
    try:
        call(*arguments)
    except Exception as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize("on_file", [False, True], ids=["memory", "file"])
@given(programs=transactions, rows_max=st.sampled_from((2, 10_000)))
@example(
    programs=[["INSERT INTO g VALUES ('a')", "INSERT INTO p VALUES (9, 'x', 6)", "UPDATE w SET v = 3"]], rows_max=2
)
@example(
    programs=[["INSERT INTO f VALUES ('a')", "SAVEPOINT one", "DELETE FROM f", "ROLLBACK TO one"]], rows_max=10_000
)
def test_events_are_what_happened(programs: list[list[str]], rows_max: int, on_file: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        c = Captured(str(Path(folder, "random.db")) if on_file else ":memory:", SCHEMA, rows_max=rows_max)
        twin = Twin()
        try:
            register(c.db)
            for program in programs:
                run(c, twin, program)
        finally:
            twin.db.close(True)
            c.close()


def run(c: Captured, twin: Twin, program: list[str]) -> None:
    """Run one transaction on both, and compare."""
    state = State(c.db)
    twin.watch()
    twin.db.execute("BEGIN")
    c.begin()
    for sql in program:
        assert outcome(c.do, sql) == outcome(lambda text: twin.db.execute(text).fetchall(), sql), sql
        assert c.db.get_autocommit() == twin.db.get_autocommit()
        if c.db.get_autocommit():
            break
    events = [] if c.db.get_autocommit() else c.commit()
    if not twin.db.get_autocommit():
        twin.db.execute("COMMIT")
    assert not c.capture.captured
    state.apply(events)
    life = State(c.db)
    assert not state.different(life)
    assert not life.different(State(twin.db))
    expected = twin.net()
    if expected is not None and not any(isinstance(event, Clear) for event in events):
        assert net.of_events(events, twin.keys) == expected
