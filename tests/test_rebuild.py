"""A file made from its log alone: complete, as of any moment, encrypted as before, or not made at all."""

from __future__ import annotations

import os
import secrets
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from veritydb import applied, keys, opening, records, streams
from veritydb.codec import Piece, encode_part
from veritydb.errors import ConfigurationError, KeyMissing, LogMissing, MissingFunction, ReplayMismatch, WrongKey
from veritydb.events import Event, Genesis, Op, Rows, Schema, Setting
from veritydb.log import Log
from veritydb.records import Reader, Spilled, Writer
from veritydb.replay import Rebuilt, rebuild
from veritydb.replay.redo import redo
from veritydb.replay.registering import Registrar
from veritydb.sealing import Opener, Sealer

KEY = bytes(range(32))
TABLE = Schema("CREATE TABLE t(id INTEGER PRIMARY KEY, a)", False, True, b"")


def backwards(text: str) -> str:
    return text[::-1]


def register(connection: Any) -> None:
    """What the schema of the tests needs; named by them as an application would."""
    connection.create_function("backwards", 1, backwards, deterministic=True)
    connection.create_collation("mine", lambda one, two: (one > two) - (one < two))


def insert(*rows: tuple[Any, ...]) -> Rows:
    return Rows("t", Op.INSERT, [row[0] for row in rows], None, None, list(rows))


class Made:
    """A log that a test fills by hand; there is no database file beside it."""

    def __init__(self, folder: Path, key: bytes | None = None) -> None:
        self.path = folder / "made.db"
        self.key = key
        self.folder = streams.log_folder(self.path)
        secret = None if key is None else keys.normalise(key)
        streams.create_log(self.folder, secret)
        self.keyring = None if secret is None else keys.load_keys(self.folder, secret)
        self.log = Log.open(self.folder)
        self.sealer = Sealer(None if self.keyring is None else self.keyring.current)
        self.writer = Writer(self.log, self.sealer)
        self.file_key = None if self.keyring is None else self.keyring.current.file_key()
        self.ids: list[bytes] = []
        self.under_lock(lambda: self.writer.note([Genesis("UTF-8", 4096, 0, "test")]))

    def under_lock(self, call: Callable[[], object]) -> None:
        self.log.acquire()
        try:
            self.log.place()
            call()
        finally:
            self.log.release()

    def commit(self, *events: Event) -> None:
        """Append one transaction."""
        identity = secrets.token_bytes(16)
        self.ids.append(identity)
        body = records.one_transaction(identity, "somebody", "", events)
        self.under_lock(lambda: self.writer.commit(identity, body))

    def commit_large(self, runs: Iterable[Rows]) -> None:
        """Append one transaction whose events are spilled as they come."""
        identity = secrets.token_bytes(16)
        spilled = Spilled(self.folder, self.sealer, Opener(self.keyring), identity)
        with closing(spilled):
            for run in runs:
                spilled.add([run])
            body = encode_part([Piece(identity, "", "", [], False)])
            self.under_lock(lambda: self.writer.commit(identity, body, spilled))

    def rebuild(self, name: str = "rebuilt.db", **options: Any) -> Rebuilt:
        """Rebuild into the test's folder."""
        options.setdefault("key", self.key)
        return rebuild(self.path, self.path.with_name(name), **options)

    def opened(self, path: Path) -> closing[apsw.Connection]:
        """Open a rebuilt file."""
        return closing(opening.open_file(str(path), self.file_key, create=False))

    def rows(self, path: Path, sql: str = "SELECT * FROM t") -> list[Any]:
        """Read from a rebuilt file."""
        with self.opened(path) as db:
            return db.execute(sql).fetchall()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path)
    yield made
    made.log.close()


def leftovers(made: Made) -> list[str]:
    return [name for name in os.listdir(made.path.parent) if not name.endswith("-log")]


def test_a_rebuilt_file_says_where_it_is(made: Made) -> None:
    made.commit(TABLE)
    made.commit(insert((1, "x")), Setting("user_version", 3))
    done = made.rebuild()
    assert (done.transactions, done.offset, done.path) == (2, 1, made.path.with_name("rebuilt.db"))
    with made.opened(done.path) as db:
        assert db.execute("SELECT * FROM t").fetchall() == [(1, "x")]
        assert db.pragma("user_version") == 3
        index = applied.read(db.cursor())
    last = list(made.log.records(1))[-1]
    assert index == applied.AppliedIndex(
        made.log.stream, 2, made.ids[1], last.header.prev_hash, last.place.segment, last.place.position
    )
    assert leftovers(made) == ["rebuilt.db"]


def test_an_empty_log_makes_an_empty_database(made: Made) -> None:
    done = made.rebuild()
    assert (done.transactions, done.offset) == (0, None)
    assert made.rows(done.path, "SELECT name FROM sqlite_schema") == [(applied.TABLE,)]


def test_the_folder_of_a_log_is_enough(made: Made) -> None:
    made.commit(TABLE)
    target = made.path.with_name("elsewhere.db")
    assert rebuild(made.folder, target).transactions == 1
    assert made.rows(target) == []


@pytest.mark.parametrize("kind", [int, str])
def test_a_file_can_be_made_as_of_an_offset(kind: type, made: Made) -> None:
    made.commit(TABLE)
    for number in range(1, 6):
        made.commit(insert((number, "x")))
    for offset in range(6):
        done = made.rebuild(f"at{offset}", at=kind(offset))
        assert done.offset == offset
        assert len(made.rows(done.path)) == offset


def test_a_file_can_be_made_as_of_a_time(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [datetime(2024, 2, 29, 12, 0, second, 250_000, tzinfo=UTC) for second in range(4)]
    events: list[Event] = [TABLE, insert((1, "a")), insert((2, "b")), insert((3, "c"))]
    start = max(moments[0].timestamp(), made.log.head.timestamp / 1e6 + 1)
    shift = int((start - moments[0].timestamp()) * 1e6) * 1000
    for moment, event in zip(moments, events, strict=True):
        now = int(moment.timestamp()) * 1_000_000_000 + 250_000_000 + shift
        monkeypatch.setattr(records.time, "time_ns", lambda now=now: now)
        made.commit(event)
    stamps = [record.header.timestamp for record in made.log.records() if record.header.transaction_count]
    for count, stamp in enumerate(stamps):
        moment = datetime.fromtimestamp(stamp // 1_000_000, tz=UTC).replace(microsecond=stamp % 1_000_000)
        for name, at in (
            (f"a{count}", moment.isoformat()),
            (f"b{count}", moment),
            (f"c{count}", moment.replace(tzinfo=None)),
        ):
            done = made.rebuild(name, at=at)
            assert done.offset == count
            assert len(made.rows(done.path)) == count
    assert made.rebuild("before", at="1999-01-01").offset is None
    assert made.rebuild("after", at="2999-01-01T00:00:00+02:00").offset == 3


@pytest.mark.parametrize("at", [7, "7", -1, "-1", "yesterday", ""])
def test_what_is_not_in_the_log_cannot_be_asked_for(at: Any, made: Made) -> None:
    made.commit(TABLE)
    with pytest.raises(ConfigurationError, match=r"offset|ISO 8601"):
        made.rebuild(at=at)
    assert leftovers(made) == []


def test_a_file_that_exists_is_not_touched(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    target = made.path.with_name("rebuilt.db")
    target.write_bytes(b"precious")
    with pytest.raises(ConfigurationError, match="exists"):
        made.rebuild()
    monkeypatch.setattr(Path, "exists", lambda self: False)  # It comes while the rebuild is at work.
    with pytest.raises(ConfigurationError, match="exists"):
        made.rebuild()
    assert target.read_bytes() == b"precious"
    assert leftovers(made) == ["rebuilt.db"]


def test_without_a_log_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(LogMissing):
        rebuild(tmp_path / "nothing.db", tmp_path / "rebuilt.db")
    assert os.listdir(tmp_path) == []


def test_a_log_that_does_not_apply_leaves_no_file(made: Made) -> None:
    made.commit(TABLE, insert((1, "x")))
    made.commit(Rows("t", Op.DELETE, [2], None, [(2, "y")], None))
    with pytest.raises(ReplayMismatch, match="rowid 2"):
        made.rebuild()
    assert leftovers(made) == []


def test_an_encrypted_log_makes_a_file_under_the_same_key(tmp_path: Path) -> None:
    made = Made(tmp_path, KEY)
    with closing(made.log):
        made.commit(TABLE)
        made.commit(insert((1, "a secret nobody should read")))
        done = made.rebuild()
        assert made.rows(done.path) == [(1, "a secret nobody should read")]
        content = done.path.read_bytes()
        assert b"SQLite format 3" not in content
        assert b"secret nobody" not in content
        with pytest.raises(KeyMissing):
            made.rebuild("no", key=None)
        with pytest.raises(WrongKey):
            made.rebuild("no", key=bytes(32))
    assert leftovers(made) == ["rebuilt.db"]


def test_header_fields_of_the_first_record_are_chosen_before_the_first_table(tmp_path: Path) -> None:
    made = Made(tmp_path)
    with closing(made.log):
        made.under_lock(lambda: made.writer.note([Genesis("UTF-16le", 8192, 2, "test")]))
        made.commit(TABLE)
        with made.opened(made.rebuild().path) as db:
            assert [db.pragma(name) for name in ("encoding", "page_size", "auto_vacuum")] == ["UTF-16le", 8192, 2]


@pytest.mark.parametrize("mode", [1, 2])
def test_a_mode_of_auto_vacuum_that_only_vacuum_can_set_is_there_from_the_start(mode: int, made: Made) -> None:
    made.commit(Schema("CREATE TABLE t(a)", False, True, b""), Rows("t", Op.INSERT, [5], None, None, [("x",)]))
    made.commit(Setting("auto_vacuum", 3 - mode), Setting("auto_vacuum", mode))
    with made.opened(made.rebuild().path) as db:
        assert db.pragma("auto_vacuum") == mode
        assert db.execute("SELECT rowid, a FROM t").fetchall() == [(5, "x")]


def test_progress_is_told_and_ends_at_the_end(made: Made) -> None:
    made.commit(TABLE)
    for number in range(600):
        made.commit(insert((number, "x")))
    told: list[tuple[int, int]] = []
    made.rebuild(progress=lambda done, total: told.append((done, total)))
    assert told == [(256, 601), (512, 601), (601, 601)]
    told.clear()
    made.rebuild("at", at=299, progress=lambda done, total: told.append((done, total)))
    assert told == [(256, 300), (300, 300)]


def test_functions_are_registered_by_name(made: Made) -> None:
    made.commit(
        Schema("CREATE TABLE t(id INTEGER PRIMARY KEY, a COLLATE mine UNIQUE)", False, True, b""),
        Schema("CREATE INDEX i ON t(backwards(a))", False, True, b""),
        insert((1, "abc")),
    )
    with pytest.raises(MissingFunction, match="mine"):
        made.rebuild()
    assert leftovers(made) == []
    done = made.rebuild(register=f"{__name__}:register")
    with made.opened(done.path) as db:
        register(Registrar(db))
        assert db.execute("SELECT id FROM t WHERE backwards(a) = 'cba'").get == 1
    assert made.rebuild("again", register=register).transactions == 1


@pytest.mark.parametrize(
    "name", ["nothing", ":register", "veritydb.nowhere:register", f"{__name__}:nothing", f"{__name__}:KEY"]
)
def test_a_registration_that_cannot_be_found_is_a_mistake_in_the_call(name: str, made: Made) -> None:
    with pytest.raises(ConfigurationError, match=r"register|import|function"):
        made.rebuild(register=name)
    assert leftovers(made) == []


def test_a_large_transaction_is_never_held_whole(tmp_path: Path) -> None:
    made = Made(tmp_path)
    with closing(made.log):
        made.commit(TABLE)
        size, runs = 2000, 60
        text = "some text of ordinary length "
        made.commit_large(
            insert(*[(run * size + number, f"{text}{number}") for number in range(size)]) for run in range(runs)
        )
        tracemalloc.start()
        try:
            done = made.rebuild()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert made.rows(done.path, "SELECT count(*), max(id) FROM t") == [(size * runs, size * runs - 1)]
        assert peak < 12 << 20  # All of it would be 20 MiB and more.


def test_redo_catches_up_and_writes_the_index_in_the_same_transaction(made: Made) -> None:
    made.commit(TABLE)
    done = made.rebuild()
    made.commit(insert((1, "x"), (2, "y")))
    made.commit(Rows("t", Op.DELETE, [1], None, [(1, "x")], None))
    with made.opened(done.path) as db:
        db.pragma("foreign_keys", 1)
        before = applied.read(db.cursor())
        assert before is not None
        reader = Reader(made.log, Opener(None))
        db.execute("BEGIN IMMEDIATE")
        redo(db, reader, before)
        db.execute("ROLLBACK")
        assert db.execute("SELECT * FROM t").fetchall() == []
        assert applied.read(db.cursor()) == before
        db.execute("BEGIN IMMEDIATE")
        index = redo(db, reader, before)
        db.execute("COMMIT")
        assert db.execute("SELECT * FROM t").fetchall() == [(2, "y")]
        assert applied.read(db.cursor()) == index
        assert index.next_offset == 3
        assert db.pragma("foreign_keys") == 1


def test_redo_on_an_open_full_text_index_is_seen_by_it(made: Made) -> None:
    create = "CREATE VIRTUAL TABLE f USING fts5(a)"
    with closing(apsw.Connection(":memory:")) as live:
        seen: list[Event] = []

        def row(u: apsw.PreUpdate) -> None:
            # f_config and f_idx are WITHOUT ROWID.
            rowids = None if u.table_name in ("f_config", "f_idx") else [u.rowid]
            before, after = ([u.old] if u.op != "INSERT" else None), ([u.new] if u.op != "DELETE" else None)
            seen.append(Rows(u.table_name, Op[u.op], rowids, None, before, after))

        live.preupdate_hook(row)
        live.execute(create)
        live.execute("INSERT INTO f VALUES ('first')")
        made.commit(Schema(create, False, True, b""), *seen)
        done = made.rebuild()
        with made.opened(done.path) as db:
            assert db.execute("SELECT rowid FROM f('first')").fetchall() == [(1,)]
            seen.clear()
            live.execute("INSERT INTO f VALUES ('second first')")
            made.commit(*seen)
            index = applied.read(db.cursor())
            assert index is not None
            db.execute("BEGIN IMMEDIATE")
            redo(db, Reader(made.log, Opener(None)), index)
            db.execute("COMMIT")
            assert db.execute("SELECT rowid FROM f('first') ORDER BY 1").fetchall() == [(1,), (2,)]
            db.execute("INSERT INTO f VALUES ('third first')")
            assert db.execute("SELECT rowid FROM f('first') ORDER BY 1").fetchall() == [(1,), (2,), (3,)]
            assert db.execute("INSERT INTO f(f) VALUES ('integrity-check')").fetchall() == []
