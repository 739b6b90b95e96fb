"""Feeds over a cluster: what other machines commit arrives here, in the stream's order, each once."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

import veritydb
from tests.cluster.machines import KEY, begin, texts
from tests.support.asgi import Asgi
from tests.support.served import ALL_KEY, CONFIG
from veritydb import follower
from veritydb.sse import create_app, read_settings
from veritydb.subscriptions import TableUpdate, open_feed

WAIT = 30.0


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


def test_nobody_is_told_before_a_quorum_has_it(own_machines):
    nodes = own_machines.nodes
    begin(own_machines).close()
    with (
        contextlib.closing(own_machines.connect("a", timeout=0.5)) as a,
        contextlib.closing(own_machines.connect("b")) as b,
        a.subscribe("notes", images=True) as here,
        b.subscribe("notes", images=True) as there,
    ):
        for member in (1, 2):
            nodes.kill(member)
        a.execute("INSERT INTO notes (text) VALUES ('during')")
        with pytest.raises(veritydb.OutcomeUnknown):
            a.commit()
        assert (here.get(1.0), there.get(0.1)) == (None, None)
        for member in (1, 2):
            nodes.start(member)
        deadline = time.monotonic() + WAIT
        while True:
            try:
                write(a, "INSERT INTO notes (text) VALUES ('after')")
                break
            except veritydb.OperationalError:
                assert time.monotonic() < deadline
        # What became of the first one the group decides; all hear the same.
        wanted = texts(a)
        assert wanted in (["after"], ["during", "after"])
        for updates in (here, there):
            assert [update.after["text"] for update in changes(updates, len(wanted))] == wanted


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


# Served over HTTP


def test_a_server_of_a_copy_knows_what_is_agreed_and_who_is_there(own_machines, own_nodes, monkeypatch, tmp_path):
    with contextlib.closing(begin(own_machines)) as a:
        own_machines.connect("b").close()
        follower.stop_all()
        config = tmp_path / "server.toml"
        config.write_text(CONFIG, encoding="utf-8")
        monkeypatch.setenv("VERITYDB_CLUSTER", str(own_machines.cluster))
        app = create_app(own_machines.file("b"), key=KEY, settings=read_settings(config))
        with Asgi(app, service=app.state.service) as server:

            def status():
                return server.ask("GET", "/status", key=ALL_KEY).json()["quorum"]

            def read(**headers):
                body = {"sql": "SELECT text FROM notes ORDER BY id"}
                return server.ask("POST", "/query", json=body, key=ALL_KEY, headers=headers)

            for number in range(5):
                write(a, "INSERT INTO notes (text) VALUES (?)", (f"n{number}",))
                rows = read(**{"X-Read-Consistency": "synchronized"}).json()["rows"]
                assert rows == [[f"n{each}"] for each in range(number + 1)]
                assert read(**{"X-Read-After": str(a.last_offset)}).json()["rows"] == rows
            wanted = {"members": 3, "needed": 2, "reached": 3, "durable": a.last_offset, "stream": "clinic"}
            assert status() == wanted
            assert read(**{"X-Read-After": "1000"}).status_code == 400
            for member in (1, 2):
                own_nodes.kill(member)
            deadline = time.monotonic() + WAIT
            while (now := status())["reached"] >= now["needed"]:
                assert time.monotonic() < deadline
            assert now["reached"] == 1
            assert now["durable"] == a.last_offset
            assert read(**{"X-Read-Consistency": "synchronized"}).status_code == 503
            assert len(read(**{"X-Read-Consistency": "eventual"}).json()["rows"]) == 5
            for member in (1, 2):
                own_nodes.start(member)
