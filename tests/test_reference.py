"""The reference says what is so: its tables are compared with the code, and each of their rows is tried."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
import typer

import veritydb
from tests.support import files
from tests.support.cli import ROOT, command
from tests.support.life import RAW
from veritydb import refusals
from veritydb.cli.app import app
from veritydb.cli.exits import Exit
from veritydb.events import Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.life import Life

REFERENCE = ROOT / "docs" / "reference"


def section(document: str, title: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    text = (REFERENCE / document).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def first_cells(text: str) -> list[str]:
    """Return the first cell of each row of the tables in ``text``, without their heads."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [row.split(" | ")[0].removeprefix("| ").strip() for row in rows]
    return [
        cell
        for cell, below in zip(cells, [*rows[1:], ""], strict=True)
        if not cell.startswith("|--") and not below.startswith("|--")
    ]


def quoted(text: str) -> list[str]:
    """Return what is set as code in ``text``."""
    return re.findall(r"`([^`]+)`", text)


# statements.md: refused


def _backup(db: veritydb.Connection) -> None:
    source = veritydb.connect(":memory:")
    try:
        source.backup(db)
    finally:
        source.close()


REFUSED: dict[str, tuple[str | Callable[[veritydb.Connection], Any], ...]] = {
    "`PRAGMA writable_schema = ON`, and the `setconfig` for it": (
        "PRAGMA writable_schema = ON",
        lambda db: db.setconfig(veritydb.SQLITE_DBCONFIG_WRITABLE_SCHEMA, True),
    ),
    "`setconfig(SQLITE_DBCONFIG_RESET_DATABASE)`": (lambda db: db.setconfig(veritydb.SQLITE_DBCONFIG_RESET_DATABASE),),
    "`PRAGMA schema_version = N`": ("PRAGMA schema_version = 3",),
    "`PRAGMA key`, `rekey`, `cipher`, … ([all](#pragmas-of-ciphers))": (
        "PRAGMA key = 'x'",
        "PRAGMA rekey = 'x'",
        "PRAGMA cipher = 'aes256cbc'",
    ),
    "`PRAGMA journal_mode` other than `WAL` (files)": ("PRAGMA journal_mode = DELETE",),
    "`PRAGMA temp_store` other than `MEMORY` (encrypted)": ("PRAGMA temp_store = FILE", "PRAGMA temp_store = DEFAULT"),
    "`PRAGMA page_size` (encrypted)": ("PRAGMA page_size = 8192",),
    "`PRAGMA temp_store_directory`, `data_store_directory`": (
        "PRAGMA temp_store_directory = '/tmp'",
        "PRAGMA data_store_directory = '/tmp'",
    ),
    "writing into an attached database": ("INSERT INTO other.t VALUES (1)", "CREATE TABLE other.u (a)", "ANALYZE"),
    "`pragma_optimize` as a table; `merge=…` and `automerge=…` of an FTS3 table": ("SELECT * FROM pragma_optimize",),
    "names of tables, indexes, views, triggers that begin with `_veritydb_`": (
        "CREATE TABLE _veritydb_mine (a)",
        "CREATE INDEX _veritydb_mine ON t (a)",
        "CREATE VIEW _veritydb_mine AS SELECT 1",
        "CREATE TRIGGER _veritydb_mine AFTER INSERT ON t BEGIN SELECT 1; END",
    ),
    "`deserialize`, `backup` into a file's connection": (lambda db: db.deserialize(b""), _backup),
    "`load_extension`, `enable_load_extension(True)`": (
        lambda db: db.load_extension("x"),
        lambda db: db.enable_load_extension(True),
    ),
}


def test_the_table_of_what_is_refused_is_the_one_that_is_tried() -> None:
    """A row that is added to the page is tried here, or this fails."""
    assert first_cells(section("statements.md", "Refused")) == list(REFUSED)


@pytest.mark.parametrize("row", REFUSED)
def test_each_row_of_what_is_refused_is(row: str, life: Life, tmp_path: Path) -> None:
    """In an encrypted database; in one that is not, unless the row says "encrypted"; and nothing is logged."""
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t(a)")
    other.close()
    for key in (RAW, None):
        db = life.connect(f"{'plain' if key is None else 'sealed'}.db", key=key, isolation_level=None)
        db.execute("CREATE TABLE t(a)")
        db.execute("ATTACH ? AS other" + (" KEY ''" if key else ""), (str(tmp_path / "other.db"),))
        before = db.last_offset
        for statement in REFUSED[row]:
            if key is None and "(encrypted)" in row:
                db.execute(str(statement))
                continue
            with pytest.raises(veritydb.NotSupportedError):
                db.execute(statement) if isinstance(statement, str) else statement(db)
        assert db.last_offset == before


def test_the_pragmas_that_are_refused_are_those_on_the_page() -> None:
    """Of all that this SQLite has, and of those of its ciphers, with whatever value."""
    with apsw.Connection(":memory:") as db:
        known = {str(name) for (name,) in db.execute("PRAGMA pragma_list")}
    cells = [cell for cell in first_cells(section("statements.md", "Refused")) if "PRAGMA" in cell]
    tabled = {name.removeprefix("PRAGMA ").split(" ")[0] for cell in cells for name in quoted(cell)} - {
        "WAL",
        "MEMORY",
        "setconfig",
    }
    refused = {
        name
        for name in known | tabled | refusals._KEYS
        for value in ("ON", "1", "0", "DELETE", "FILE", "WAL", "x")
        for encrypted in (False, True)
        if refusals.of_pragma(name, value, None, encrypted=encrypted, in_memory=False) is not None
    }
    ciphers = section("statements.md", "Pragmas of ciphers").split(" SQLCipher's ")[0].split("SQLCipher's")[0]
    assert set(quoted(ciphers)) == refusals._KEYS
    assert tabled | refusals._KEYS == refused


def test_asking_a_pragma_is_not_refused(life: Life) -> None:
    """Without a value it changes nothing."""
    db = life.connect(key=RAW)
    for name in ("journal_mode", "page_size", "schema_version", "temp_store", "writable_schema"):
        assert db.execute(f"PRAGMA {name}").fetchone() is not None, name


# statements.md: logged by other means

LOGGED: dict[str, tuple[tuple[str, set[str]], ...]] = {
    "`CREATE`, `ALTER`, `DROP`": (
        ("CREATE INDEX i ON t (a)", {"Schema"}),
        ("ALTER TABLE t RENAME COLUMN a TO b", {"Schema"}),
        ("DROP TABLE t", {"Schema"}),
    ),
    "`CREATE TABLE … AS SELECT`": (("CREATE TABLE u AS SELECT a FROM t", {"Schema", "Rows"}),),
    "`CREATE VIRTUAL TABLE` (FTS, rtree)": (
        ("CREATE VIRTUAL TABLE f USING fts5(x)", {"Schema"}),
        ("INSERT INTO f VALUES ('hello')", {"Rows"}),
        ("CREATE VIRTUAL TABLE r USING rtree(id, a, b)", {"Schema"}),
        ("INSERT INTO r VALUES (1, 2, 3)", {"Rows"}),
    ),
    "tables with `VIRTUAL` generated columns, TEXT that is not valid UTF-8, UTF-16 databases": (
        ("INSERT INTO made (a) VALUES (5)", {"net Rows"}),
        ("INSERT INTO t (a) VALUES (CAST(x'ff' AS TEXT))", {"net Rows"}),
    ),
    "`SELECT optimize(t) FROM t` (FTS3, FTS4)": (
        ("CREATE VIRTUAL TABLE f USING fts4(x)", {"Schema"}),
        ("INSERT INTO f VALUES ('one')", {"Rows"}),
        ("INSERT INTO f VALUES ('two')", {"Rows"}),
        ("SELECT optimize(f) FROM f LIMIT 1", {"Rows"}),
    ),
    "`AUTOINCREMENT`": (("INSERT OR IGNORE INTO counted (id, a) VALUES (NULL, 1), (NULL, 1)", {"Rows", "Sequence"}),),
    "`ANALYZE`, `PRAGMA optimize`": (("ANALYZE", {"Clear", "Rows"}), ("PRAGMA optimize", set())),
    "`PRAGMA user_version`, `application_id`, `auto_vacuum`": (
        ("PRAGMA user_version = 3", {"Setting"}),
        ("PRAGMA application_id = 3", {"Setting"}),
        ("PRAGMA auto_vacuum = 2", {"Setting"}),
    ),
    "incremental blob writes": (("blob", {"BlobWrite"}),),
    "`VACUUM`": (("DELETE FROM t WHERE rowid = 1", {"Rows"}), ("VACUUM", {"Rows"})),
    "`VACUUM INTO`": (("VACUUM INTO 'copy.db'", set()),),
    "`REINDEX`, `PRAGMA incremental_vacuum`, `wal_checkpoint`": (
        ("REINDEX", set()),
        ("PRAGMA incremental_vacuum", set()),
        ("PRAGMA wal_checkpoint", set()),
    ),
    "temp tables": (("CREATE TEMP TABLE mine (a)", set()), ("INSERT INTO mine VALUES (1)", set())),
}


def test_the_table_of_what_is_logged_is_the_one_that_is_tried() -> None:
    """A row that is added to the page is tried here, or this fails."""
    assert first_cells(section("statements.md", "Logged by other means than the row hook")) == list(LOGGED)


@pytest.mark.parametrize("row", LOGGED)
def test_each_row_of_what_is_logged_is(row: str, life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By these events; and at the end the log makes the same database."""
    monkeypatch.chdir(tmp_path)
    db = life.connect(isolation_level=None)
    db.executescript("""
        CREATE TABLE t (a);
        INSERT INTO t VALUES (x'0000'), ('b'), ('c');
        CREATE TABLE made (a, twice AS (a * 2) VIRTUAL);
        CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a UNIQUE);
    """)
    offset = db.last_offset
    assert offset is not None
    for sql, expected in LOGGED[row]:
        if sql == "blob":
            with db.blobopen("t", "a", 1) as blob:
                blob.write(b"x")
        else:
            db.execute(sql).fetchall()
        found = files.transactions(tmp_path / "life.db", start=offset + 1)
        offset += len(found)
        kinds = {
            ("net " if isinstance(event, Rows) and event.net else "") + type(event).__name__
            for transaction in found
            for event in transaction.events
        }
        assert kinds == expected, sql


# differences.md


def test_an_image_of_a_file_can_be_put_into_memory_and_begins_a_log_there(life: Life) -> None:
    """Although it says that it is in WAL mode, which nothing in memory can be."""
    db = life.connect(key=RAW)
    db.executescript("CREATE TABLE t(a); INSERT INTO t VALUES (5)")
    image = db.serialize()
    assert image.startswith(b"SQLite format 3")
    memory = veritydb.connect(":memory:")
    memory.deserialize(image)
    assert memory.execute("SELECT a FROM t").fetchall() == [(5,)]
    assert memory.last_offset == 0, "the content is the first transaction"
    memory.close()


# cli.md


def _commands() -> dict[str, Any]:
    return typer.main.get_command(app).commands


def _leaves(commands: dict[str, Any], before: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, one in commands.items():
        inner = getattr(one, "commands", None)
        found += [(f"{before} {name}", one)] if inner is None else _leaves(inner, f"{before} {name}")
    return found


def test_the_help_of_each_command_ends_with_examples_each_a_paragraph_of_its_own() -> None:
    """In the middle of the help they ran together into one paragraph."""
    for words, one in _leaves(_commands(), "veritydb"):
        paragraphs = (one.epilog or "").split("\n\n")
        assert [each for each in paragraphs if each.startswith(words)], words
        assert "\n" not in "".join(paragraphs), words
        assert f"{words} " not in one.help, words


def test_the_page_of_the_command_line_lists_the_commands() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    listed = re.findall(r"^veritydb (\w+) ", text, re.MULTILINE)
    assert listed == [
        *("info", "log", "tail", "verify", "replay", "adopt", "export", "run", "serve", "simulate"),
        *("keys", "node", "cluster", "streams", "consumers"),
    ]
    assert set(listed) == set(_commands())


def test_each_option_of_the_command_line_is_on_its_page() -> None:
    """And no option is there that does not exist."""
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "guides" / "adopt.md").read_text(encoding="utf-8")  # The page of `adopt` is its guide.
    there = {"--help", "--version", "--install-completion", "--json", "--key-file"}
    for name, one in _commands().items():
        parameters = [*one.params, *(each for inner in getattr(one, "commands", {}).values() for each in inner.params)]
        options = {option for parameter in parameters for option in parameter.opts if option.startswith("--")}
        own = options - {"--help", "--json", "--key-file"}
        page = section("cli.md", name) + (guide if name == "adopt" else "")
        missing = {option for option in own if option not in page and not (name == "export" and option == "--register")}
        assert not missing, (name, missing)
        there |= options
    written = {option for option in re.findall(r"--[a-z][a-z-]*", text) if option not in there}
    assert written == set()


def test_the_exit_codes_on_the_page_are_those_of_the_program() -> None:
    assert [int(cell) for cell in first_cells(section("cli.md", "Exit codes"))] == sorted(Exit)


def test_the_fields_of_info_are_those_on_the_page(life: Life, tmp_path: Path) -> None:
    life.connect().execute("CREATE TABLE t(a)")
    (line,) = re.findall(r"JSON: (.*?);", section("cli.md", "info"), re.DOTALL)
    assert quoted(line) == list(command("info", tmp_path / "life.db", "--json").json)


def test_the_fields_of_log_are_those_on_the_page(life: Life, tmp_path: Path) -> None:
    life.connect().execute("CREATE TABLE t(a)")
    (text,) = re.findall(r"JSON, an object a line: (.*?)\. Values", section("cli.md", "log"), re.DOTALL)
    (line,) = command("log", tmp_path / "life.db", "--changes", "--json").lines
    assert quoted(text.replace("`--changes`", "")) == list(line)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["log", "--nope"], Exit.USAGE),
        (["info", "nofile"], Exit.USAGE),
        (["export", "life.db", "foreign.db"], Exit.USAGE),
        (["log", "life.db", "--since", "nonsense"], Exit.USAGE),
        (["info", "life.db", "--key-file", "nofile"], Exit.KEY),
        (["verify", "life.db", "--key-file", "key"], Exit.KEY),
        (["log", "nofile"], Exit.LOG),
        (["verify", "foreign.db"], Exit.LOG),
        (["replay", "foreign.db", "new.db"], Exit.LOG),
        (["keys", "check", "foreign.db"], Exit.LOG),
        (["info", "foreign.db"], Exit.NOT_ADOPTED),
        (["export", "foreign.db", "new.db"], Exit.NOT_ADOPTED),
        (["info", "life.db"], Exit.OK),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_ends_with_the_code_that_the_page_says(
    arguments: list[str], code: Exit, life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    life.connect().execute("CREATE TABLE t(a)")
    foreign = sqlite3.connect("foreign.db")
    foreign.execute("CREATE TABLE t(a)")
    foreign.close()
    Path("key").touch(0o600)
    Path("key").write_text("correct horse")
    assert command(*arguments).code == code


# keys.md


class _Vault:
    def get_key(self, database: str) -> str:
        assert database.endswith("sealed.db")
        return "hex:" + RAW.hex()


@pytest.mark.parametrize(
    "key", [RAW, "hex:" + RAW.hex(), _Vault(), lambda _: RAW], ids=["bytes", "hex", "provider", "function"]
)
def test_a_key_may_be_given_in_each_way_that_the_page_lists(key: Any, life: Life, tmp_path: Path) -> None:
    """The same raw key each time; a passphrase is tried below."""
    life.connect("sealed.db", key=RAW).execute("CREATE TABLE t(a)")
    db = veritydb.connect(tmp_path / "sealed.db", key=key)
    assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    db.close()


@pytest.mark.parametrize("key", ["", b"short", "hex:zz", "hex:" + "5" * 63, 5], ids=repr)
def test_what_is_no_key_is_said_to_be_none_without_being_repeated(key: Any, tmp_path: Path) -> None:
    with pytest.raises(veritydb.ConfigurationError) as caught:
        veritydb.connect(tmp_path / "new.db", key=key)
    assert "5555" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("made", "given", "error"),
    [
        (RAW, None, veritydb.KeyMissing),
        (RAW, b"x" * 32, veritydb.WrongKey),
        (RAW, "a passphrase", veritydb.WrongKey),
        ("a passphrase", RAW, veritydb.WrongKey),
        (None, RAW, veritydb.NotEncrypted),
    ],
)
def test_keys_and_files_that_do_not_fit_give_the_errors_of_the_page(
    made: Any, given: Any, error: type[Exception], life: Life, tmp_path: Path
) -> None:
    life.connect(key=made).execute("CREATE TABLE t(a)")
    with pytest.raises(error):
        veritydb.connect(tmp_path / "life.db", key=given)


def test_a_passphrase_is_the_same_however_its_accents_were_typed(life: Life, tmp_path: Path) -> None:
    life.connect(key="caf\u00e9").execute("CREATE TABLE t(a)")
    veritydb.connect(tmp_path / "life.db", key="cafe\u0301").close()


# All pages


def test_no_document_tells_of_the_place_where_it_was_written() -> None:
    """Paths of one machine, and how the work was divided there, mean nothing to a reader."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    for page in pages:
        found = re.findall(r"/work/|/root/|/tmp/|/opt/|\bTODO\b|\bhelpers?\b", page.read_text(encoding="utf-8"))
        assert not found, (page, found)
