"""Durable consumers: what is handed out, acked, given back, and taken over."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import veritydb
from tests.support.life import RAW
from veritydb.records import Writer
from veritydb.subscriptions import Message, TableUpdate

if TYPE_CHECKING:
    from tests.support.life import Life

WAIT = 20


@pytest.fixture
def db(life: Life) -> veritydb.Connection:
    """Visits to bill."""
    connection = life.connect(key=RAW)
    connection.executescript(
        "CREATE TABLE visits (id INTEGER PRIMARY KEY, patient TEXT); CREATE TABLE invoices (visit INT, note TEXT);"
    )
    return connection


def visit(db: veritydb.Connection, *numbers: int) -> None:
    with db:
        db.executemany("INSERT INTO visits VALUES (?, 'p')", [(number,) for number in numbers])


def ids(messages: list[Message]) -> list[Any]:
    return [message.update.row_id for message in messages if isinstance(message.update, TableUpdate)]


def bill(db: veritydb.Connection, message: Message) -> None:
    """Work and ack, in one transaction."""
    with db:
        assert isinstance(message.update, TableUpdate)
        db.execute("INSERT INTO invoices VALUES (?, '')", (message.update.row_id,))
        message.ack()


def invoices(db: veritydb.Connection) -> list[Any]:
    return [number for (number,) in db.execute("SELECT visit FROM invoices ORDER BY rowid")]


def test_each_update_is_handed_out_once_and_its_work_and_ack_are_one_transaction(db: veritydb.Connection) -> None:
    visit(db, 1)
    with db.consumer("billing", "visits") as billing:
        visit(db, 2, 3)
        db.execute("INSERT INTO invoices VALUES (0, 'other tables are not its business')")
        db.commit()
        messages = billing.fetch(10)
        assert ids(messages) == [2, 3]
        assert billing.fetch(10) == []
        for message in messages:
            bill(db, message)
        assert invoices(db) == [0, 2, 3]
        lag = billing.lag()
        assert (lag.waiting, lag.in_flight, lag.dead, lag.oldest) == (0, 0, 0, None)


def test_what_was_taken_by_a_fetch_that_failed_is_still_to_come(
    db: veritydb.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.consumer("billing", "visits") as billing:
        visit(db, 1, 2, 3)
        (first,) = billing.fetch(1)
        commit = Writer.commit

        def fails(*_: Any, **__: Any) -> None:
            raise veritydb.LogUnavailable("the disk is away")

        monkeypatch.setattr(Writer, "commit", fails)
        with pytest.raises(veritydb.LogUnavailable):
            billing.fetch(1)
        monkeypatch.setattr(Writer, "commit", commit)
        rest = billing.fetch(5)
        assert ids([first, *rest]) == [1, 2, 3]


def test_the_cursor_is_in_the_database_and_survives(life: Life, db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits") as billing:
        visit(db, 1, 2)
        bill(db, billing.fetch(1)[0])
    db.close()
    db = life.connect(key=RAW)
    with db.consumer("billing", "visits") as billing:
        assert ids(billing.fetch(5)) == [2]


def test_an_ack_that_is_rolled_back_did_not_happen(db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits", timeout=0.05) as billing:
        visit(db, 1)
        (message,) = billing.fetch()
        with pytest.raises(ZeroDivisionError), db:
            bill_note = message.update.offset // 0
            db.execute("INSERT INTO invoices VALUES (1, ?)", (bill_note,))
            message.ack()
        (again,) = billing.fetch(timeout=WAIT)
        assert (ids([again]), again.tries) == ([1], 2)
        bill(db, again)
        assert billing.lag().in_flight == 0


def test_what_is_not_acked_in_time_is_handed_to_another_and_the_first_can_no_longer_ack(
    life: Life, db: veritydb.Connection
) -> None:
    other_db = life.connect(key=RAW)
    with (
        db.consumer("billing", "visits", timeout=0.05) as slow,
        other_db.consumer("billing", "visits", timeout=60) as quick,
    ):
        visit(db, 1)
        (lost,) = slow.fetch()
        (mine,) = quick.fetch(timeout=WAIT)
        assert mine.tries == 2
        with pytest.raises(veritydb.LeaseLost) as error, db:
            db.execute("INSERT INTO invoices VALUES (1, 'twice')")
            lost.ack()
        assert error.value.offset == lost.update.offset
        bill(other_db, mine)
        assert invoices(db) == [1]
        with pytest.raises(veritydb.LeaseLost):
            mine.ack()


def test_workers_in_many_threads_share_the_work_and_each_update_is_billed_once(
    life: Life, db: veritydb.Connection
) -> None:
    with db.consumer("billing", "visits", since=-1):
        pass
    for number in range(0, 60, 3):
        visit(db, number, number + 1, number + 2)
    billed_by: dict[str, int] = {}

    def work() -> None:
        mine = veritydb.connect(life.folder / "life.db", key=RAW, timeout=60)
        try:
            with mine.consumer("billing", "visits") as billing:
                while messages := billing.fetch(4):
                    for message in messages:
                        bill(mine, message)
                    billed_by[billing.worker] = billed_by.get(billing.worker, 0) + len(messages)
        finally:
            mine.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(invoices(db)) == list(range(60))
    assert sum(billed_by.values()) == 60


def test_in_flight_is_limited_over_all_workers(db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits", in_flight_max=2) as billing:
        visit(db, 1, 2, 3)
        first = billing.fetch(10)
        assert ids(first) == [1, 2]
        assert billing.fetch(10) == []
        first[0].ack()
        assert ids(billing.fetch(10)) == [3]


def test_after_so_many_tries_an_update_is_a_dead_letter_until_somebody_revives_it(db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits", tries_max=2) as billing:
        visit(db, 1, 2)
        one, two = billing.fetch(2)
        two.ack()
        one.nack(ValueError("no such patient"))
        (again,) = billing.fetch()
        assert again.tries == 2
        again.nack("still not")
        assert billing.fetch() == []
        (dead,) = billing.dead_letters()
        assert (dead.update.cursor, dead.tries, dead.error) == (one.update.cursor, 2, "still not")
        assert billing.lag().dead == 1
        assert billing.revive(dead.update.cursor) == 1
        (revived,) = billing.fetch()
        assert revived.tries == 1
        revived.nack()
        billing.fetch()[0].nack()
        assert billing.discard() == 1
        assert billing.lag().dead == 0


def test_a_worker_that_only_vanishes_makes_a_dead_letter_too(db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits", tries_max=1, timeout=0.01) as billing:
        visit(db, 1)
        assert len(billing.fetch()) == 1
        time.sleep(0.02)
        assert billing.fetch() == []
        assert billing.dead_letters()[0].error == ""


def test_pause_stops_all_workers_and_resume_lets_them_go_on(life: Life, db: veritydb.Connection) -> None:
    other_db = life.connect(key=RAW)
    with db.consumer("billing", "visits") as one, other_db.consumer("billing", "visits") as two:
        one.pause()
        visit(db, 1)
        assert two.fetch() == one.fetch() == []
        assert one.lag().paused
        assert one.lag().waiting == 1
        two.resume()
        assert ids(one.fetch()) == [1]


def test_reset_goes_back_or_ahead_and_takes_what_is_in_flight_from_its_workers(db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits") as billing:
        visit(db, 1)
        visit(db, 2)
        (lost, _) = billing.fetch(2)
        billing.reset(-1)
        with pytest.raises(veritydb.LeaseLost):
            lost.ack()
        found = billing.fetch(10)
        assert ids(found) == [1, 2]
        billing.reset(db.last_offset)
        assert billing.fetch(10) == []
        with pytest.raises(veritydb.CursorAhead):
            billing.reset(1_000_000)


def test_fetch_waits_for_what_is_to_come(life: Life, db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits") as billing:
        program = (
            "import sys, veritydb\n"
            "db = veritydb.connect(sys.argv[1], key=bytes(range(32)))\n"
            "with db: db.execute(\"INSERT INTO visits VALUES (7, 'p')\")\n"
            "db.close()\n"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(life.folder / "life.db")]):
            assert ids(billing.fetch(timeout=60)) == [7]


def test_run_works_and_nacks_what_its_handler_refuses(db: veritydb.Connection) -> None:
    def handler(update: Any) -> None:
        db.execute("INSERT INTO invoices VALUES (?, '')", (update.row_id,))
        if update.row_id == 2:
            raise ValueError("two")

    with db.consumer("billing", "visits", tries_max=2) as billing:
        visit(db, 1, 2, 3)
        assert billing.run(handler, idle=0) == 2
        assert sorted(invoices(db)) == [1, 3]
        assert billing.dead_letters()[0].error == "ValueError: two"


def test_a_consumer_changes_nothing_that_a_program_counts(db: veritydb.Connection) -> None:
    with db.consumer("billing", "visits") as billing:
        visit(db, 41)
        before = db.total_changes
        (message,) = billing.fetch()
        db.execute("INSERT INTO invoices VALUES (41, '')")
        message.ack()
        assert db.execute("SELECT changes(), last_insert_rowid()").fetchone() == (1, 1)
        db.commit()
        assert db.total_changes == before + 1


@pytest.mark.parametrize("autocommit", [True, False])
def test_it_works_in_either_autocommit_mode(life: Life, autocommit: bool) -> None:
    db = life.connect("modes.db", autocommit=autocommit)
    db.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY)")
    db.commit()
    with db.consumer("c", "visits") as consumer:
        db.execute("INSERT INTO visits VALUES (1)")
        if not autocommit:
            with pytest.raises(veritydb.ProgrammingError, match="transaction of its own"):
                consumer.fetch()
        db.commit()
        (message,) = consumer.fetch()
        message.ack()
        db.commit()
        assert consumer.lag().in_flight == 0


def test_a_consumer_in_memory_works_too() -> None:
    db = veritydb.connect(":memory:")
    db.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, patient TEXT)")
    with db.consumer("c", "visits") as consumer:
        visit(db, 1, 2)
        assert ids(consumer.fetch(5)) == [1, 2]
    db.close()


def test_what_cannot_be_is_refused(db: veritydb.Connection) -> None:
    with pytest.raises(veritydb.UnknownTable):
        db.consumer("c", "nonsense")
    with pytest.raises(veritydb.ConfigurationError):
        db.consumer("")
    with pytest.raises(veritydb.CursorAhead):
        db.consumer("c", since=99)
    with db.consumer("c", "visits"), pytest.raises(veritydb.ConfigurationError, match="takes tables"):
        db.consumer("c", "invoices")
    for sql in (
        "DELETE FROM _veritydb_consumers",
        "UPDATE _veritydb_deliveries SET tries = 0",
        "DROP TABLE _veritydb_consumers",
    ):
        with pytest.raises(veritydb.StatementRefused):
            db.execute(sql)
    db.rollback()
