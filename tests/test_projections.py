"""Projections by the user: a handler and its checkpoint, in one transaction."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from veritydb.records import Writer
from veritydb.subscriptions import Progress, Projection, TableUpdate, latest_by_id, timeline

if TYPE_CHECKING:
    from tests.support.life import Life


@pytest.fixture
def db(life: Life) -> veritydb.Connection:
    """Visits, and a table that counts them."""
    connection = life.connect(actor="dr.lee")
    connection.executescript(
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, patient TEXT);"
        "CREATE TABLE counts (patient TEXT PRIMARY KEY, visits INT);"
    )
    return connection


def counting(db: veritydb.Connection, **options: Any) -> Projection:
    @db.projection("counts", "visits", "insert", writes="counts", **options)
    def count(update: Any, db: Any) -> None:
        db.execute(
            "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET visits = visits + 1", (update.after["patient"],)
        )

    return count


def visit(db: veritydb.Connection, *patients: str) -> None:
    with db:
        db.executemany("INSERT INTO visits(patient) VALUES (?)", [(patient,) for patient in patients])


def counts(db: veritydb.Connection) -> dict[str, int]:
    return dict(db.execute("SELECT patient, visits FROM counts"))


def test_each_update_takes_effect_once_from_the_first_transaction_on(db: veritydb.Connection) -> None:
    visit(db, "a", "b", "a")
    with counting(db, batch=2) as projection:
        assert projection.run_once() == 2
        assert projection.progress().lag > 0
        assert projection.run_until_idle() == 1
        assert counts(db) == {"a": 2, "b": 1}
        visit(db, "a")
        assert projection.run_until_idle() == 1
        assert projection.run_until_idle() == 0
        assert counts(db) == {"a": 3, "b": 1}
        assert projection.progress().lag == 0
    with counting(db) as projection:
        assert projection.run_until_idle() == 0, "the checkpoint is in the database"


def test_what_the_handler_raises_rolls_the_batch_back_and_is_told_where(db: veritydb.Connection) -> None:
    @db.projection("p", "visits", writes="counts")
    def fails(update: Any, db: Any) -> None:
        db.execute("INSERT INTO counts VALUES (?, 1)", (update.after["patient"],))
        if update.after["patient"] == "bad":
            raise ValueError("bad patient")

    visit(db, "good", "bad")
    with fails, pytest.raises(ValueError, match="bad patient") as error:
        fails.run_until_idle()
    assert "projection 'p', at 2.1@" in error.value.__notes__[0]
    assert counts(db) == {}
    assert not db.in_transaction


def test_what_was_read_for_a_batch_that_did_not_commit_is_still_to_come(
    db: veritydb.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit(db, "a", "b", "a")
    with counting(db) as projection:
        commit = Writer.commit

        def fails(*_: Any, **__: Any) -> None:
            raise veritydb.LogUnavailable("the disk is away")

        monkeypatch.setattr(Writer, "commit", fails)
        with pytest.raises(veritydb.LogUnavailable):
            projection.run_once()
        monkeypatch.setattr(Writer, "commit", commit)
        assert projection.run_until_idle() == 3
        assert counts(db) == {"a": 2, "b": 1}


def test_a_projection_does_not_see_its_own_work(db: veritydb.Connection) -> None:
    @db.projection("echo", writes="visits")
    def echo(update: Any, db: Any) -> None:
        if update.table == "visits":
            db.execute("INSERT INTO visits(patient) VALUES (?)", (update.after["patient"] + "!",))

    visit(db, "a")
    with echo:
        assert echo.run_until_idle() == 1
        assert [name for (name,) in db.execute("SELECT patient FROM visits")] == ["a", "a!"]


def test_rebuild_empties_what_it_writes_and_reports_its_progress(db: veritydb.Connection) -> None:
    for patient in "abcab":
        visit(db, patient)
    seen: list[Progress] = []
    with counting(db, batch=2) as projection:
        projection.run_until_idle()
        with db:
            db.execute("UPDATE counts SET visits = 99")
        assert projection.rebuild(seen.append) == 5
        assert counts(db) == {"a": 2, "b": 2, "c": 1}
    assert seen[0].rebuilding
    assert not seen[-1].rebuilding
    assert [each.offset for each in seen] == sorted(each.offset for each in seen)
    with pytest.raises(veritydb.ProgrammingError, match="writes"), db.projection("q")(lambda update, db: None) as empty:
        empty.rebuild()


def test_two_that_run_the_same_projection_do_not_disturb_each_other(life: Life, db: veritydb.Connection) -> None:
    for number in range(40):
        visit(db, f"p{number % 4}")

    def run() -> None:
        mine = veritydb.connect(life.folder / "life.db", timeout=60)
        with counting(mine, batch=3) as projection:
            while projection.progress().lag > 0:
                projection.run_once()
        mine.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert counts(db) == {f"p{number}": 10 for number in range(4)}


def test_run_goes_on_until_it_is_stopped(life: Life, db: veritydb.Connection) -> None:
    stop = threading.Event()
    done = threading.Event()

    def run() -> None:
        mine = veritydb.connect(life.folder / "life.db", timeout=60)

        @mine.projection("p", "visits", writes="counts")
        def handler(update: Any, db: Any) -> None:
            db.execute("INSERT INTO counts VALUES (?, 1)", (update.after["patient"],))
            if update.after["patient"] == "last":
                done.set()

        with handler:
            handler.run(stop, pause=0.05)
        mine.close()

    thread = threading.Thread(target=run)
    thread.start()
    visit(db, "first")
    visit(db, "last")
    assert done.wait(60)
    stop.set()
    thread.join(60)
    assert set(counts(db)) == {"first", "last"}


def test_latest_by_id_keeps_the_last_row_of_each(db: veritydb.Connection) -> None:
    db.execute("CREATE TABLE latest (id PRIMARY KEY, row TEXT, deleted INT, offset INT, at INT)")
    handler, options = latest_by_id("latest", "visits")
    visit(db, "a", "b")
    with db:
        db.execute("UPDATE visits SET patient = 'B' WHERE id = 2")
        db.execute("DELETE FROM visits WHERE id = 1")
        db.execute("UPDATE visits SET id = 9 WHERE id = 2")
    with db.projection("latest", **options)(handler) as projection:
        projection.run_until_idle()
    rows = db.execute("SELECT id, row, deleted FROM latest ORDER BY id").fetchall()
    assert rows == [
        (1, json.dumps({"id": 1, "patient": "a"}), 1),
        (2, None, 1),
        (9, json.dumps({"id": 9, "patient": "B"}), 0),
    ]


def test_timeline_tells_every_change_with_who_and_what(db: veritydb.Connection) -> None:
    db.execute(
        "CREATE TABLE story (offset INT, number INT, at INT, actor TEXT, reason TEXT, source TEXT, id, action TEXT, "
        "changes TEXT)"
    )
    handler, options = timeline("story", ["visits"])
    visit(db, "a")
    with db, db.reason("typo"):
        db.execute("UPDATE visits SET patient = 'A'")
    with db.projection("story", **options)(handler) as projection:
        projection.run_until_idle()
        projection.rebuild()
    found = db.execute("SELECT actor, reason, source, id, action, changes FROM story").fetchall()
    assert found == [
        ("dr.lee", "", "visits", 1, "insert", json.dumps({"id": [None, 1], "patient": [None, "a"]})),
        ("dr.lee", "typo", "visits", 1, "update", json.dumps({"patient": ["a", "A"]})),
    ]


def test_on_commit_is_called_after_each_commit_of_its_connection(life: Life, db: veritydb.Connection) -> None:
    seen: list[Any] = []

    def note(committed: Any) -> None:
        assert not db.in_transaction
        count = db.execute("SELECT count(*) FROM visits").fetchone()[0]
        updates = [each.row_id for each in committed.updates() if isinstance(each, TableUpdate)]
        seen.append((committed.offset, count, updates))

    cancel = db.on_commit(note)
    visit(db, "a", "b")
    with db:
        db.execute("INSERT INTO visits(patient) VALUES ('rolled back')")
        db.rollback()
    other = life.connect()
    visit(other, "c")
    cursor = db.execute("INSERT INTO visits(patient) VALUES ('d')")
    db.commit()
    assert cursor.lastrowid == 4
    assert seen == [(2, 2, [1, 2]), (4, 4, [4])]
    cancel()
    visit(db, "e")
    assert len(seen) == 2


def test_a_callback_that_raises_does_not_undo_and_one_that_commits_is_called_again_afterwards(
    db: veritydb.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def fails(committed: Any) -> None:
        raise LookupError

    def commits(committed: Any) -> None:
        seen.append(committed.offset)
        if len(seen) == 1:
            visit(db, "from the callback")
        seen.append(-committed.offset)

    db.on_commit(fails)
    db.on_commit(commits)
    visit(db, "a")
    assert seen == [2, -2, 3, -3]
    assert [record.name for record in caplog.records] == ["veritydb.subscriptions"] * 2
