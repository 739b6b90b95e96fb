"""The guarded connection: reading only, and only what one may see, whatever the statement tries."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import veritydb
from tests.support.life import RAW
from veritydb import keys
from veritydb.sse.guarded import Guarded, Limits
from veritydb.sse.problems import Problem
from veritydb.sse.rights import EVERYTHING, Claim, Rights, Role, TableRule, bind
from veritydb.streams import keyring_of, log_folder
from veritydb.workshop import file_key_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WARD = Role(
    name="ward",
    tables={
        "patients": TableRule(columns=("id", "name", "ward"), rows=(("ward", Claim("ward")),)),
        "plain": TableRule(),
        "names": TableRule(),
        "found": TableRule(),
    },
)
RIGHTS = bind(WARD, {"ward": ["A", "C"]})


@pytest.fixture(scope="module", params=[RAW, None], ids=["encrypted", "plain"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes | None]:
    path = tmp_path_factory.mktemp("guarded") / "clinic.db"
    db = veritydb.connect(path, key=request.param, autocommit=True)
    db.executescript("""
        CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, ward TEXT, ssn TEXT);
        INSERT INTO patients VALUES (1, 'Jane', 'A', '111'), (2, 'Hidden', 'B', '222'), (3, 'Ali', 'C', '333');
        CREATE INDEX by_name ON patients (name);
        CREATE TABLE secrets (id INTEGER PRIMARY KEY, body TEXT);
        INSERT INTO secrets VALUES (1, 'the secret');
        CREATE TABLE plain (id INTEGER PRIMARY KEY, body TEXT);
        INSERT INTO plain VALUES (1, 'one'), (2, 'two');
        CREATE VIEW names AS SELECT name FROM inner_names;
        CREATE VIEW inner_names AS SELECT name, ssn FROM patients;
        CREATE VIRTUAL TABLE found USING fts5(body);
        INSERT INTO found VALUES ('hello world');
    """)
    db.close()
    secret = None if request.param is None else keys.normalise(request.param, str(path))
    return path, file_key_of(keyring_of(log_folder(path), secret, str(path)))


@contextlib.contextmanager
def opened(place: tuple[Path, bytes | None], rights: Rights = RIGHTS, **limits: Any) -> Iterator[Guarded]:
    with contextlib.closing(Guarded(str(place[0]), place[1], rights, Limits(**limits))) as guarded:
        yield guarded


def rows(place: tuple[Path, bytes | None], sql: str, parameters: Any = (), rights: Rights = RIGHTS) -> list[Any]:
    with opened(place, rights) as guarded:
        return guarded.run(sql, parameters).rows


def problem(place: tuple[Path, bytes | None], sql: str, rights: Rights = RIGHTS, **limits: Any) -> Problem:
    with opened(place, rights, **limits) as guarded, pytest.raises(Problem) as raised:
        guarded.run(sql)
    return raised.value


def test_granted_columns_of_granted_rows_are_there_and_nothing_else(place: Any) -> None:
    assert rows(place, "SELECT * FROM patients") == [[1, "Jane", "A"], [3, "Ali", "C"]]
    assert rows(place, "SELECT count(*) FROM patients") == [[2]]
    assert problem(place, "SELECT ssn FROM patients").detail == "no such column: ssn"
    assert rows(place, "SELECT p.id FROM plain JOIN patients p USING (id)") == [[1]]
    assert rows(place, "SELECT count(*) FROM plain") == [[2]]


def test_an_answer_knows_its_offset_and_its_columns_even_without_rows(place: Any) -> None:
    with opened(place) as guarded:
        answer = guarded.run("SELECT id, name AS who FROM patients WHERE id = ?", (99,))
    assert answer.columns == ("id", "who")
    assert answer.rows == []
    assert answer.offset == guarded.offset > 0


def test_everything_is_what_it_says(place: Any) -> None:
    assert rows(place, "SELECT ssn FROM patients ORDER BY id", rights=EVERYTHING) == [["111"], ["222"], ["333"]]
    assert problem(place, "SELECT * FROM names", EVERYTHING).kind == "unknown-name"  # A view has to be named.
    assert problem(place, "SELECT * FROM _veritydb_applied", EVERYTHING).kind == "unknown-name"
    assert problem(place, "SELECT * FROM found_data", EVERYTHING).kind == "unknown-name"


def test_a_granted_view_shows_what_it_says(place: Any) -> None:
    """Also through a view that is not granted itself."""
    assert rows(place, "SELECT count(*), min(name) FROM names") == [[3, "Ali"]]
    assert problem(place, "SELECT * FROM inner_names").kind == "unknown-name"


def test_full_text_search_works(place: Any) -> None:
    assert rows(place, "SELECT body FROM found WHERE body MATCH ?", ("hello",)) == [["hello world"]]


def test_a_claim_that_is_missing_shows_no_row(place: Any) -> None:
    for claims in ({}, {"ward": None}, {"ward": {"a": 1}}, {"ward": True}, {"ward": []}):
        assert rows(place, "SELECT count(*) FROM patients", rights=bind(WARD, claims)) == [[0]]


def test_a_filter_on_a_column_that_is_not_there_hides_the_table(place: Any) -> None:
    role = Role(name="r", tables={"patients": TableRule(rows=(("wrad", ("A",)),))})
    assert problem(place, "SELECT * FROM patients", bind(role, {})).kind == "unknown-name"


FORMS = [
    "SELECT * FROM {}",
    "SELECT id FROM {}",
    "SELECT nothing FROM {}",
    "SELECT count(*) FROM {}",
    "SELECT count(1, 2) FROM {}",
    "SELECT * FROM main.{}",
    "SELECT * FROM temp.{}",
    "SELECT * FROM {} NATURAL JOIN plain",
    "SELECT * FROM plain, {}",
    "SELECT * FROM {}(1)",
    "SELECT * FROM {} INDEXED BY i",
    "SELECT (SELECT body FROM {})",
    "SELECT * FROM plain WHERE id IN {}",
    "SELECT {}.id FROM plain",
    "WITH x AS (SELECT * FROM {}) SELECT * FROM x",
    "WITH x AS (SELECT 1) INSERT INTO {} VALUES (1, 2)",
    "WITH x AS (SELECT 1) UPDATE {} SET id = 1",
    "WITH x AS (SELECT 1) DELETE FROM {}",
    "WITH x AS (SELECT 1) REPLACE INTO {} VALUES (1, 2)",
    "SELECT 1 UNION SELECT id FROM {}",
    "DELETE FROM {}",
    "DROP TABLE {}",
    "DROP VIEW {}",
    "ALTER TABLE {} RENAME TO x",
    "CREATE INDEX i ON {} (id)",
    "CREATE TABLE {} (a)",
    "CREATE TRIGGER t AFTER INSERT ON {} BEGIN SELECT 1; END",
    "ANALYZE {}",
    "REINDEX {}",
    "PRAGMA table_info({})",
    "SELECT * FROM pragma_table_info('{}')",
    "EXPLAIN SELECT * FROM {}",
    "EXPLAIN QUERY PLAN SELECT * FROM {}",
    "VALUES (1), ((SELECT 1 FROM {}))",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("forbidden", ["secrets", "inner_names", "found_data", "_veritydb_applied"])
def test_what_is_forbidden_and_what_is_unknown_get_one_answer(place: Any, form: str, forbidden: str) -> None:
    """Names of one length, so that not even that differs."""
    unknown = "x" * len(forbidden)
    answers = []
    for name in (forbidden, unknown):
        body = problem(place, form.format(name)).body
        answers.append(str(body).replace(name, "NAME"))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("INSERT INTO plain VALUES (9, 'x')", "not-a-read"),
        ("WITH x AS (SELECT 1) DELETE FROM plain", "not-a-read"),
        ("  -- a comment\n /* another */ DELETE FROM plain", "not-a-read"),
        ("ATTACH ':memory:' AS other", "not-a-read"),
        ("PRAGMA query_only = 0", "not-a-read"),
        ("BEGIN", "not-a-read"),
        ("COMMIT", "not-a-read"),
        ("VACUUM INTO '/tmp/copy.db'", "not-a-read"),
        ("SELECT 1; DELETE FROM plain", "not-a-read"),
        ("SELECT 1; SELECT 2", "not-a-read"),
        ("EXPLAIN SELECT 1", "not-a-read"),
        ("", "not-a-read"),
        ("-- nothing", "not-a-read"),
        ("SELECT sqlite3mc_codec_data('raw_key')", "unknown-name"),
        ("WITH patients AS (SELECT sqlite3mc_codec_data('raw_key')) SELECT * FROM patients", "unknown-name"),
        ("WITH names AS (SELECT load_extension('x')) SELECT * FROM names", "unknown-name"),
        ("SELECT load_extension('x')", "unknown-name"),
        ("SELECT fts3_tokenizer('simple')", "unknown-name"),
        ("SELECT veritydb_admits(0, 'A')", "unknown-name"),
        ("SELECT * FROM sqlite_schema", "unknown-name"),
        ("SELECT * FROM sqlite_temp_schema", "unknown-name"),
        ("SELECT * FROM temp.sqlite_master", "unknown-name"),
        ("SELECT * FROM pragma_database_list", "unknown-name"),
        ("SELECT * FROM pragma_function_list", "unknown-name"),
        ("SELECT * FROM dbstat", "unknown-name"),
        ("SELECT * FROM veritydb_nowhere", "unknown-name"),
        ("SELECT", "bad-statement"),
        ("SELECT * FROM plain WHERE", "bad-statement"),
        ('SELECT "no_such" FROM plain', "bad-statement"),
        ("SELECT json('{')", "bad-statement"),
        ("SELECT zeroblob(100000000)", "too-large"),
        ("WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t", "too-slow"),
        ("SELECT " + "1," * 40_000 + "1", "too-large"),
    ],
)
def test_each_way_out_is_closed(place: Any, sql: str, kind: str) -> None:
    assert problem(place, sql, seconds=0.3).kind == kind
    assert rows(place, "SELECT count(*) FROM plain") == [[2]]


def test_explain_is_refused_before_its_first_step_too(place: Any) -> None:
    """Should it ever get past the look at how a statement begins."""
    with opened(place) as guarded:
        for sql in ("EXPLAIN SELECT 1", "EXPLAIN QUERY PLAN SELECT * FROM plain"):
            with pytest.raises(Problem) as raised:
                guarded._fetch(sql, ())
            assert raised.value.kind == "not-a-read"


def test_a_statement_that_knows_the_random_name_is_refused_unread(place: Any) -> None:
    """A common table expression with a view's name would otherwise read in the view's stead."""
    with opened(place) as guarded:
        alias = guarded._alias
        for sql in (
            f"SELECT * FROM {alias}.secrets",
            f"WITH patients AS (SELECT ssn FROM {alias}.patients) SELECT * FROM patients",
            f'SELECT * FROM "{alias.upper()}".secrets',
        ):
            with pytest.raises(Problem) as raised:
                guarded.run(sql)
            assert raised.value.kind == "unknown-name"


@pytest.mark.parametrize(
    "condition",
    [
        # Told by the index alone, which the planner asks first: before the row, and with it the ward, is looked at.
        "name > '' AND abs(CASE WHEN name = 'Hidden' THEN -9223372036854775808 ELSE 1 END) = 1",
        "abs(CASE WHEN name = 'Hidden' THEN -9223372036854775808 ELSE 1 END) = 1",
        "json_extract(CASE WHEN ward = 'B' THEN '{' ELSE '{}' END, '$') IS NOT NULL",
        "CAST(id AS TEXT) LIKE CASE WHEN id = 2 THEN replace(hex(zeroblob(2000)), '00', 'x') ELSE '%' END",
    ],
)
def test_hidden_rows_do_not_tell_by_failing(place: Any, condition: str) -> None:
    """The caller's condition never sees them: on a plain connection each of these fails, or would."""
    assert len(rows(place, f"SELECT * FROM patients WHERE {condition}")) == 2


def test_answers_are_bounded(place: Any) -> None:
    many = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t LIMIT 500) SELECT x FROM t"
    assert problem(place, many, rows_max=499).kind == "too-large"
    with opened(place, rows_max=500) as guarded:
        assert len(guarded.run(many).rows) == 500
    assert problem(place, many, bytes_max=1_000).kind == "too-large"
    sorts = (
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT hex(randomblob(500)) FROM t ORDER BY 1"
    )
    assert problem(place, sorts, memory_max=8 << 20, seconds=20).kind == "too-large"
    counts = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t"
    assert problem(place, counts, seconds=0.2).kind == "too-slow"


def test_values_that_json_lacks_say_what_they_are(place: Any) -> None:
    assert rows(place, "SELECT 9223372036854775807, -9007199254740991, x'c0ffee', 1e999, NULL, 'ä'") == [
        [{"int": "9223372036854775807"}, -9007199254740991, {"blob": "c0ffee"}, {"real": "inf"}, None, "ä"]
    ]
    assert problem(place, "SELECT CAST(x'ff' AS TEXT)").kind == "bad-statement"


@given(st.text(max_size=80))
def test_no_text_makes_it_fail_otherwise_than_with_a_problem(place: Any, sql: str) -> None:
    for text in (sql, f"SELECT {sql}", f"SELECT * FROM patients WHERE {sql}"):
        with opened(place, seconds=0.5) as guarded, contextlib.suppress(Problem):
            found = guarded.run(text)
            assert "Hidden" not in str(found.rows)
            assert "222" not in str(found.rows)
