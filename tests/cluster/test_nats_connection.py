"""``veritydb.connect(cluster="nats://…")``: a real server, and machines (folders) that write one stream."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import threading

import nats as library
import pytest

import veritydb
from tests.cluster.machines import KEY, begin, reach_of, seen, texts
from tests.support.life import RAW
from tests.test_guides import NATS as GUIDE
from tests.test_guides import blocks
from veritydb import follower
from veritydb.errors import (
    ConfigurationError,
    NotSupportedError,
    TransactionTooLarge,
)
from veritydb.nats import NatsConfig, sequencer
from veritydb.nats.messages import MSG_ID


def test_what_goes_through_nats_is_rebuilt_from_the_copy(life, nats):
    db = life.connect(key=RAW, cluster=nats.address, stream=f"life-{os.urandom(4).hex()}")
    db.executescript("CREATE TABLE notes (id INTEGER PRIMARY KEY, text UNIQUE, size REAL, data BLOB);")
    with db:
        db.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", [(n, f"{n}", n / 3, bytes(n)) for n in range(300)])
    with db:
        db.execute("UPDATE notes SET text = text || '!' WHERE id % 3 = 0")
        db.execute("SAVEPOINT one")
        db.execute("DELETE FROM notes")
        db.execute("ROLLBACK TO one")
        db.execute("DELETE FROM notes WHERE id > 200")
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (201,)


def test_a_new_machine_reads_a_long_stream(in_nats, monkeypatch):
    monkeypatch.setattr(sequencer, "FETCH_BYTES", 8_000)  # So that it takes several questions.
    with contextlib.closing(begin(in_nats)) as a:
        for number in range(40):
            with a:
                a.execute("INSERT INTO notes (text) VALUES (?)", (str(number),))
    with contextlib.closing(in_nats.connect("new")) as db:
        assert texts(db) == [str(number) for number in range(40)]


def test_bare_statements_of_several_machines_all_get_through(in_nats):
    begin(in_nats).close()

    def write(machine):
        with contextlib.closing(in_nats.connect(machine, isolation_level=None)) as db:
            for number in range(10):
                db.execute("INSERT INTO notes (text) VALUES (?)", (f"{machine}{number}",))

    threads = [threading.Thread(target=write, args=(machine,)) for machine in "bcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with contextlib.closing(in_nats.connect("e")) as db:
        assert sorted(texts(db)) == sorted(f"{machine}{number}" for machine in "bcd" for number in range(10))


def test_a_forked_child_commits_through_a_connection_of_its_own(in_nats):
    db = begin(in_nats)

    def child():
        with contextlib.closing(in_nats.connect()) as mine, mine:
            mine.execute("INSERT INTO notes (text) VALUES ('from the child')")
        follower.stop_all()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    with contextlib.closing(db):
        assert seen(db, 1) == ["from the child"]


async def _raw_messages(nats, name):
    client = await library.connect(f"nats://127.0.0.1:{nats.ports[1]}")
    stream = client.jetstream()
    last = (await stream.stream_info(f"VERITYDB_{name}")).state.last_seq
    messages = [await stream.get_msg(f"VERITYDB_{name}", seq=number) for number in range(1, last + 1)]
    await client.close()
    return messages


def test_the_stream_has_the_records_of_the_copy_each_under_its_id_and_nothing_in_clear(in_nats, nats):
    with contextlib.closing(begin(in_nats)) as db:
        with db:
            db.execute("INSERT INTO notes (text) VALUES ('Erika Mustermann')")
        records = list(db._session.stream.log.records(0))
    messages = asyncio.run(_raw_messages(nats, in_nats.stream))
    assert [message.data for message in messages] == [each.header_bytes + each.tail for each in records]
    assert [message.headers[MSG_ID] for message in messages] == [each.header.id.hex() for each in records]
    stored = list((nats.folder / "1").rglob("*.blk"))
    assert stored
    assert not any(b"Mustermann" in path.read_bytes() or b"notes" in path.read_bytes() for path in stored)


def test_what_is_too_large_names_the_limit_and_is_rolled_back(in_nats):
    with contextlib.closing(begin(in_nats)) as db:
        with pytest.raises(TransactionTooLarge, match=r"1,048,064 go through NATS at once .*; it was rolled back"), db:
            db.execute("INSERT INTO notes (text) VALUES (hex(randomblob(600000)))")
        with db:
            db.execute("INSERT INTO notes (text) VALUES (hex(randomblob(500000)))")
        assert db.execute("SELECT count(*), max(length(text)) FROM notes").fetchone() == (1, 1_000_000)


def test_nothing_is_read_synchronized(in_nats):
    with pytest.raises(NotSupportedError, match="NATS has no question whose answer is sure to be the newest"):
        in_nats.connect(consistency="synchronized")
    with contextlib.closing(begin(in_nats)) as db, pytest.raises(NotSupportedError), db.read("synchronized"):
        db.execute("SELECT 1")


def test_the_guide_is_followed(nats, tmp_path, monkeypatch, capsys):
    (text,) = [text for language, text in blocks(GUIDE) if language == "python"]
    for machine in "ab":
        (tmp_path / machine).mkdir()
    monkeypatch.chdir(tmp_path)
    said = {}
    exec(text.replace("127.0.0.1:4222", f"127.0.0.1:{nats.ports[1]}"), said)
    said["db"].close()
    said["other"].close()
    follower.stop_all()
    assert capsys.readouterr().out == "[('seen at 8:00',)]\n"


def test_a_token_is_waited_for(in_nats):
    with contextlib.closing(begin(in_nats)) as a, contextlib.closing(in_nats.connect("b")) as b:
        with a:
            a.execute("INSERT INTO notes (text) VALUES ('seen')")
        b.read_after(a.token)
        assert texts(b) == ["seen"]


def test_the_variable_says_which_nats_it_is(in_nats, nats, monkeypatch):
    monkeypatch.setenv("VERITYDB_CLUSTER", nats.address)
    monkeypatch.setenv("VERITYDB_STREAM", in_nats.stream)
    with contextlib.closing(veritydb.connect(in_nats.file("a"), key=KEY)) as db:
        assert reach_of(db).name == in_nats.stream


@pytest.mark.parametrize("name", ["a.b", "a b", "", "ä", "x" * 65, "*", "a/b"])
def test_a_name_that_no_stream_of_nats_can_have_is_refused(tmp_path, name):
    config = NatsConfig(servers=("127.0.0.1:1",))
    with pytest.raises(ConfigurationError, match="a stream in NATS has a name of up to 64 of"):
        sequencer.NatsSequencer(config, name, bytes(16), bytes(16))


def test_where_no_server_is_connecting_fails_in_time(tmp_path):
    with pytest.raises(veritydb.GroupUnavailable, match="NATS has not answered in time"):
        veritydb.connect(tmp_path / "clinic.db", key=KEY, cluster="nats://127.0.0.1:1", timeout=0.3)
    assert not (tmp_path / "clinic.db-log").exists()
