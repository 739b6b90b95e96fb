"""Feeds over a cluster: what other machines commit arrives here, in the stream's order, each once."""

from __future__ import annotations

import contextlib
import threading

import veritydb
from tests.cluster.test_cluster_connection import KEY, begin, machines, nodes
from veritydb.subscriptions import TableUpdate, open_feed

WAIT = 30.0

__all__ = ["machines", "nodes"]


def changes(updates, count):
    found = []
    while len(found) < count:
        update = updates.get(WAIT)
        assert update is not None, f"nothing came after {found}"
        if isinstance(update, TableUpdate):
            found.append(update)
    return found


def write(db, sql, parameters=()):
    """Commit, as a program does that is not alone: whoever was second tries again."""
    while True:
        with contextlib.suppress(veritydb.ConflictError), db:
            db.execute(sql, parameters)
            return


def test_what_another_machine_commits_arrives_in_order_and_once(machines):
    with contextlib.closing(begin(machines)) as a, contextlib.closing(machines.connect("b")) as b:
        with b.subscribe("notes", since=-1, images=True) as there, a.subscribe("notes", since=-1, images=True) as here:
            for number in range(10):
                write(a, "INSERT INTO notes (text) VALUES (?)", (f"a{number}",))
                write(b, "INSERT INTO notes (text) VALUES (?)", (f"b{number}",))
            seen = [changes(updates, 20) for updates in (there, here)]
        wanted = [f"{name}{number}" for number in range(10) for name in "ab"]
        for found in seen:
            assert [update.after["text"] for update in found] == wanted
        assert [update.cursor for update in seen[0]] == [update.cursor for update in seen[1]], "one stream, one cursor"
        # So a cursor goes on at another machine.
        with a.subscribe("notes", since=str(seen[0][7].cursor), images=True) as on:
            assert [update.after["text"] for update in changes(on, 12)] == wanted[8:]


def test_a_feed_without_a_connection_is_told_by_the_machines_follower(machines):
    with (
        contextlib.closing(begin(machines)) as a,
        contextlib.closing(machines.connect("b")),
        open_feed(machines.file("b"), key=KEY) as feed,
        feed.subscribe("notes", images=True) as updates,
    ):
        write(a, "INSERT INTO notes (text) VALUES ('from a')")
        (update,) = changes(updates, 1)
        assert update.after == {"id": 1, "text": "from a"}


def test_workers_on_two_machines_share_a_consumer_and_bill_each_note_once(machines):
    with contextlib.closing(begin(machines)) as a:
        with a:
            a.execute("CREATE TABLE bills (note INT, worker TEXT)")
            a.executemany("INSERT INTO notes (text) VALUES (?)", (("x",) for _ in range(12)))
        with a.consumer("billing", "notes", since=-1, timeout=60):
            pass
        failed = []

        def work(machine):
            try:
                with contextlib.closing(machines.connect(machine)) as db, db.consumer("billing", "notes") as billing:

                    def bill(update):
                        db.execute("INSERT INTO bills VALUES (?, ?)", (update.row_id, machine))

                    billing.run(bill, batch=2, idle=3)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(machine,)) for machine in ("b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        with contextlib.closing(machines.connect("d")) as d:
            assert sorted(note for (note,) in d.execute("SELECT note FROM bills")) == list(range(1, 13))
