"""``veritydb.connect(cluster=…)``: real nodes, machines (folders) that write one stream, and what may go wrong."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

import veritydb
from tests.cluster.groups import PATIENCE, free_port
from tests.cluster.machines import KEY, begin, catch_up, reach_of, seen, texts
from veritydb import follower, kernel
from veritydb.cluster.client import RECORD_MAX, Client
from veritydb.cluster.config import Address, read_client_config
from veritydb.cluster.directory import Directory
from veritydb.cluster.group_log import GroupLog
from veritydb.cluster.reaching import reach
from veritydb.cluster.session import Session
from veritydb.errors import (
    ConfigurationError,
    ConflictError,
    GroupUnavailable,
    LogMismatch,
    OutcomeUnknown,
)


def test_the_group_has_what_was_committed(machines):
    with contextlib.closing(begin(machines)) as db:
        log = db._session.stream.log
        assert isinstance(log, GroupLog)
        assert reach_of(db).end(log.stream, timeout=PATIENCE) == (log.head.next_offset, log.head.hash)
        assert log.head.next_offset == db.last_offset + 1


def test_an_empty_folder_and_the_key_are_all_that_a_new_machine_needs(machines):
    with contextlib.closing(begin(machines)) as a, a:
        a.executemany("INSERT INTO notes (text) VALUES (?)", [(str(number),) for number in range(1000)])
    with contextlib.closing(machines.connect("new")) as db:
        assert len(texts(db)) == 1000


def test_an_unencrypted_stream_takes_no_key(machines, tmp_path):
    machines.connect("plain", stream=machines.stream + " plain", key=None).close()
    follower.stop_all()
    with pytest.raises(veritydb.NotEncrypted):
        machines.connect("b", stream=machines.stream + " plain")
    for machine in ("plain", "b"):
        (machines.path / machine).rename(tmp_path.parent / f"{machine} {os.urandom(3).hex()}")
    begin(machines).close()


def test_a_bare_statement_tries_again_by_itself(machines):
    begin(machines).close()
    writers = [machines.connect(machine, isolation_level=None, check_same_thread=False) for machine in "abcd"]
    failures = []

    def work(db, number):
        try:
            for at in range(15):
                db.execute("INSERT INTO notes (text) VALUES (?) RETURNING id", (f"{number} {at}",)).fetchone()
            db.executemany("INSERT INTO notes (text) VALUES (?)", [(f"{number} {at}",) for at in range(15, 20)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(writers, range(4), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    for db in writers:
        assert sorted(seen(db, 80)) == sorted(f"{number} {at}" for number in range(4) for at in range(20))
        db.close()


def work_in_process(folder, stream, path, number, count):
    db = veritydb.connect(path, key=KEY, cluster=folder, stream=stream, timeout=PATIENCE)
    done = 0
    while done < count:
        try:
            with db:
                (last,) = db.execute("SELECT count(*) FROM notes WHERE text LIKE ?", (f"{number} %",)).fetchone()
                assert last == done
                db.execute("INSERT INTO notes (text) VALUES (?)", (f"{number} {done}",))
            done += 1
        except (ConflictError, veritydb.StaleSnapshot):
            pass
        except veritydb.OperationalError as error:
            if "locked" not in str(error):
                raise
    db.close()


def test_eight_writers_of_one_stream_all_get_on(machines):
    """Two processes on each of four machines, with transactions that read what they depend on."""
    begin(machines).close()
    follower.stop_all()
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=work_in_process,
            args=(machines.cluster, machines.stream, machines.file("abcd"[number % 4]), number, 8),
        )
        for number in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with contextlib.closing(machines.connect("a")) as db:
        catch_up(db)
        assert sorted(texts(db)) == sorted(f"{number} {done}" for number in range(8) for done in range(8))


def test_schema_changes_travel(machines):
    with contextlib.closing(begin(machines)) as a, contextlib.closing(machines.connect("b")) as b:
        catch_up(b)
        assert texts(b) == []
        with a:
            a.execute("ALTER TABLE notes ADD COLUMN author TEXT")
            a.execute("INSERT INTO notes (text, author) VALUES ('x', 'dr.lee')")
        assert seen(b, 1) == ["x"]
        assert b.execute("SELECT author FROM notes").fetchone() == ("dr.lee",)


class Silent:
    """A client of the group whose answers are lost, after the group has acted on what was asked."""

    def __init__(self, client, *, resolves):
        self.client, self.resolves = client, resolves
        self.asked = []

    def append(self, record, *, timeout):
        self.asked.append(self.client.append(record, timeout=timeout))
        raise GroupUnavailable("the answer was lost")

    def resolve(self, *arguments, **options):
        if not self.resolves:
            raise GroupUnavailable("nobody answers")
        return self.client.resolve(*arguments, **options)

    def __getattr__(self, name):
        return getattr(self.client, name)


class Deaf(Silent):
    """A client whose appends never reach the group."""

    def append(self, record, *, timeout):
        self.asked.append(record)
        raise GroupUnavailable("nobody answers")


def without_answers(db, kind, **options):
    log = db._session.stream.log
    made = kind(log.client, **options)
    log.client = made
    return made


def test_an_answer_that_was_lost_is_asked_for_and_the_commit_succeeds(machines):
    with contextlib.closing(begin(machines)) as db:
        client = without_answers(db, Silent, resolves=True)
        with db:
            db.execute("INSERT INTO notes (text) VALUES ('x')")
        assert isinstance(client.asked[0], kernel.Appended)
        assert texts(db) == ["x"]
        assert db.last_offset == client.asked[0].next_offset - 1


def test_an_append_that_never_arrived_is_forbidden_and_rolled_back(machines):
    with contextlib.closing(begin(machines)) as db:
        client = without_answers(db, Deaf, resolves=True)
        db.execute("INSERT INTO notes (text) VALUES ('x')")
        with pytest.raises(GroupUnavailable):
            db.commit()
        assert texts(db) == []
        # It arrives after all: too late.
        assert isinstance(client.client.append(client.asked[0], timeout=PATIENCE), kernel.Forbidden)


@pytest.mark.parametrize("kind", [Silent, Deaf])
def test_while_nobody_answers_the_outcome_is_unknown_and_the_next_transaction_asks(machines, kind):
    with contextlib.closing(begin(machines)) as db:
        client = without_answers(db, kind, resolves=False)
        db.execute("INSERT INTO notes (text) VALUES ('x')")
        with pytest.raises(OutcomeUnknown):
            db.commit()
        with pytest.raises(OutcomeUnknown):
            db.execute("INSERT INTO notes (text) VALUES ('y')")
        assert not db.in_transaction or not db.rollback()
        db._session.stream.log.client = client.client
        with db:
            db.execute("INSERT INTO notes (text) VALUES ('z')")
        assert texts(db) == (["x", "z"] if kind is Silent else ["z"])


def test_the_death_of_the_primary_is_a_slow_commit(own_machines):
    nodes = own_machines.nodes
    with contextlib.closing(begin(own_machines)) as db:
        for number in range(3):
            session = Session(reach_of(db).group)
            session.read_head(db._session.stream.log.stream, timeout=PATIENCE)
            primary = session.primary
            session.close()
            nodes.kill(primary)
            with db:
                db.execute("INSERT INTO notes (text) VALUES (?)", (str(number),))
            nodes.start(primary)
        assert texts(db) == ["0", "1", "2"]


def test_a_commit_that_no_node_can_have_got_is_rolled_back_and_not_in_doubt(machines):
    begin(machines).close()
    with contextlib.closing(machines.connect("a", timeout=1.0)) as db:
        client = reach_of(db)
        nobody = Client(client.group._replace(members={1: Address("127.0.0.1", free_port())}))
        db._session.stream.log.client = nobody
        db.execute("INSERT INTO notes (text) VALUES ('x')")
        with pytest.raises(GroupUnavailable, match="could not be reached, the transaction was rolled back"):
            db.commit()
        assert not db.in_transaction
        assert texts(db) == []
        db._session.stream.log.client = client
        with db:
            db.execute("INSERT INTO notes (text) VALUES ('y')")
        assert texts(db) == ["y"]


def test_a_stream_that_a_connection_makes_is_listed_by_its_name(machines):
    begin(machines).close()
    directory = Directory.of(read_client_config(machines.nodes.folder / "admin"))
    try:
        assert machines.stream in [entry.name for entry in directory]
    finally:
        directory.close()


def test_without_a_quorum_nothing_commits_and_reading_goes_on(own_machines):
    nodes = own_machines.nodes
    with contextlib.closing(begin(own_machines)) as db:
        db.close()
        db = own_machines.connect("a", timeout=0.5)
        with db:
            db.execute("INSERT INTO notes (text) VALUES ('before')")
        for member in (1, 2):
            nodes.kill(member)
        db.execute("INSERT INTO notes (text) VALUES ('during')")
        with pytest.raises(OutcomeUnknown):
            db.commit()
        assert texts(db) == ["before"]
        for member in (1, 2):
            nodes.start(member)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with db:
                    db.execute("INSERT INTO notes (text) VALUES ('after')")
                break
            except veritydb.OperationalError:
                assert time.monotonic() < deadline
        assert texts(db)[-1] == "after"
        db.close()


def test_a_process_that_dies_between_the_groups_yes_and_its_file_loses_nothing(machines):
    begin(machines).close()
    follower.stop_all()
    script = """
import os, sys, veritydb
from veritydb.cluster.group_log import GroupLog
decided = GroupLog._decided
def die(log, reply):
    os.kill(os.getpid(), 9)
db = veritydb.connect(sys.argv[1], key=sys.argv[2], cluster=sys.argv[3], stream=sys.argv[4], timeout=60)
GroupLog._decided = die
db.execute("INSERT INTO notes (text) VALUES ('committed, and never acknowledged')")
db.commit()
"""
    path = machines.file("a")
    arguments = [str(path), KEY, str(machines.cluster), machines.stream]
    assert subprocess.run([sys.executable, "-c", script, *arguments], check=False).returncode == -9
    with contextlib.closing(machines.connect("a")) as db:
        assert seen(db, 1) == ["committed, and never acknowledged"]


def test_after_a_fork_both_write(machines):
    db = begin(machines)
    with db:
        db.execute("INSERT INTO notes (text) VALUES ('before')")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = machines.connect("a")
            with own:
                own.execute("INSERT INTO notes (text) VALUES ('child')")
            own.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with db:
        db.execute("INSERT INTO notes (text) VALUES ('parent')")
    assert texts(db) == ["before", "child", "parent"]
    db.close()


def test_one_process_of_a_machine_follows(machines):
    with contextlib.closing(begin(machines)) as a:
        first = follower.follow(a._session, None, key=None, register=None)
        assert first is not None
        deadline = time.monotonic() + PATIENCE
        while not first.following:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with contextlib.closing(machines.connect("a")) as again:
            assert follower.follow(again._session, None, key=None, register=None) is first
        follower.stop_all()
        assert not first.thread.is_alive()


# Bad input


def test_who_follows_a_node_that_is_cut_off_finds_another(own_machines):
    """Before, such a node let it wait for ever, with nothing to say; and so did one that was behind."""
    nodes = own_machines.nodes
    config = read_client_config(own_machines.cluster)
    port = free_port()
    assert nodes.stop(1) == 0
    # It listens where only the client looks for it, and looks for the others where nobody is.
    flags = ["--listen", f"127.0.0.1:{port}", "--members", f"1=127.0.0.1:{port},2=127.0.0.1:1,3=127.0.0.1:2"]
    with contextlib.closing(begin(own_machines)) as a:
        nodes.start(1, *flags)
        at_one = config._replace(members={**config.members, 1: Address("127.0.0.1", port)})
        with contextlib.closing(own_machines.connect("b", cluster=at_one)) as b:
            for number in range(3):
                with a:
                    a.execute("INSERT INTO notes (text) VALUES (?)", (str(number),))
                b.read_after(a.token)
            assert texts(b) == ["0", "1", "2"]
            directory = Directory.of(read_client_config(nodes.folder / "admin"))
            directory.drop("clinic")
            directory.close()
            # Nor is it silence when there is no such stream any more.
            deadline = time.monotonic() + PATIENCE
            (following,) = [one for one in follower._followers.values() if one._path == str(own_machines.file("b"))]
            while "no such stream" not in (following.problem or ""):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(veritydb.OperationalError, match="no such stream"), b.read("synchronized"):
                b.execute("SELECT 1")
            with pytest.raises(veritydb.ConfigurationError, match="was dropped; its name is not used again"):
                own_machines.connect("c")
    follower.stop_all()
    for machine in ("a", "b", "c"):
        shutil.rmtree(own_machines.path / machine)


def test_a_copy_is_not_written_without_its_cluster(machines):
    begin(machines).close()
    follower.stop_all()
    path = machines.file("a")
    with pytest.raises(ConfigurationError, match="pass cluster="):
        veritydb.connect(path, key=KEY)
    with contextlib.closing(veritydb.connect(f"file:{path}?mode=ro", uri=True, key=KEY)) as db:
        assert texts(db) == []


def test_a_database_of_one_machine_is_not_shared_by_the_way(machines, tmp_path):
    begin(machines).close()
    with contextlib.closing(veritydb.connect(tmp_path / "alone.db", key=KEY)) as alone:
        alone.execute("CREATE TABLE t (x)")
    with pytest.raises(LogMismatch, match="of this machine alone"):
        veritydb.connect(tmp_path / "alone.db", key=KEY, cluster=machines.cluster)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "/nowhere/client.toml"}, "there is no /nowhere/client.toml"),
        ({"cluster": "127.0.0.1:1"}, "VERITYDB_CREDENTIALS must name the folder"),
        ({"cluster": 5}, "cluster is addresses"),
        ({"stream": "x"}, "say which with cluster="),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        veritydb.connect(tmp_path / "x.db", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_stream_has_and_a_database_without_a_file(nodes, tmp_path):
    with pytest.raises(ConfigurationError, match="name"):
        veritydb.connect(tmp_path / "x.db", cluster=nodes.folder / "client", stream="*")
    with pytest.raises(ConfigurationError, match="in memory"):
        veritydb.connect(":memory:", cluster=nodes.folder / "client", stream="x")


def test_the_environment_says_it_for_programs_that_do_not(machines, monkeypatch):
    addresses = ",".join(str(address) for address in reach(machines.cluster).group.members.values())
    monkeypatch.setenv("VERITYDB_CLUSTER", addresses)
    monkeypatch.setenv("VERITYDB_CREDENTIALS", str(machines.cluster))
    monkeypatch.setenv("VERITYDB_STREAM", machines.stream)
    with contextlib.closing(veritydb.connect(machines.file("a"), key=KEY)) as db, db:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    monkeypatch.undo()


def test_a_transaction_that_no_op_can_hold_is_refused_whole(machines):
    with contextlib.closing(begin(machines)) as db:
        db.execute("INSERT INTO notes (text) VALUES (hex(randomblob(5000000)))")
        with pytest.raises(veritydb.TransactionTooLarge, match="it was rolled back, do it in parts") as raised:
            db.commit()
        assert raised.value.limit == RECORD_MAX
        assert raised.value.size > 10_000_000
        assert texts(db) == []
        with db:
            db.execute("INSERT INTO notes (text) VALUES ('small')")
        assert texts(db) == ["small"]
