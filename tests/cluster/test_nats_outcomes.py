"""What becomes of a commit whose answer does not come: servers that stop, die, lose the answer, or what they had."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import threading
import time

import pytest

import veritydb
from tests.cluster.groups import PATIENCE, free_port
from tests.cluster.machines import KEY, Machines, begin, seen, texts
from tests.cluster.nats_servers import needed, servers
from veritydb import follower, kernel
from veritydb.chain import HEADER_SIZE, ZERO_HASH, Kind, chain_hash, pack_header, unpack_header
from veritydb.errors import ConfigurationError, GroupUnavailable, LogMismatch, LogUnavailable, OutcomeUnknown
from veritydb.nats import sequencer
from veritydb.nats.config import read_address
from veritydb.nats.link import Link
from veritydb.nats.sequencer import NatsSequencer

pytestmark = needed


@pytest.fixture
def server(tmp_path):
    with servers(tmp_path / "server") as made:
        yield made


@pytest.fixture
def machines(tmp_path, server, monkeypatch):
    monkeypatch.setattr("veritydb.cluster.group_log.RESOLVE_SECONDS", 0.3)
    (tmp_path / "machines").mkdir()
    made = Machines(tmp_path / "machines", server, "clinic", cluster=server.address)
    yield made
    made.check()


def commit(db, text):
    with db:
        db.execute("INSERT INTO notes (text) VALUES (?)", (text,))


def commit_when_it_can_be_told(db, text):
    """The same, of a connection that does not know what became of its last one, on a machine that may be slow."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")  # Which settles what became of the last one.
            if text not in texts(db):
                db.execute("INSERT INTO notes (text) VALUES (?)", (text,))
            return db.commit()
        except (OutcomeUnknown, GroupUnavailable):
            assert time.monotonic() < deadline


def test_what_arrives_late_is_committed_and_the_next_transaction_finds_it(machines, server):
    with contextlib.closing(begin(machines)) as db, contextlib.closing(machines.connect("b")) as other:
        with contextlib.closing(machines.connect(timeout=0.3)) as hasty:
            commit(db, "before")
            server.pause()
            with pytest.raises(OutcomeUnknown, match="whether the transaction is committed cannot be told now"):
                commit(hasty, "late")  # It waits in the server's socket.
            server.resume()
            seen(other, 2)
            commit_when_it_can_be_told(hasty, "after")
        assert seen(db, 3) == seen(other, 3) == ["before", "late", "after"]


def test_what_never_arrived_is_given_up_and_everybody_goes_on(machines, server):
    with contextlib.closing(begin(machines)) as db, contextlib.closing(machines.connect("b")) as other:
        with contextlib.closing(machines.connect(timeout=0.3)) as hasty:
            commit(db, "before")
            server.pause()
            with pytest.raises(OutcomeUnknown):
                commit(hasty, "lost")
            server.kill()
            server.start_all()
            commit_when_it_can_be_told(hasty, "after")
            commit(db, "and after")
        assert seen(db, 3) == seen(other, 3) == ["before", "after", "and after"]
    with contextlib.closing(machines.connect("new")) as new:
        assert texts(new) == ["before", "after", "and after"]


def test_what_nobody_can_have_been_asked_is_rolled_back_and_not_in_doubt(machines, server):
    with contextlib.closing(begin(machines)) as db, contextlib.closing(machines.connect(timeout=0.3)) as hasty:
        commit(db, "before")
        server.kill()
        time.sleep(0.1)  # Until the connection is known to be gone.
        with pytest.raises(GroupUnavailable, match="could not be reached, the transaction was rolled back"):
            commit(hasty, "lost")
        server.start_all()
        commit(db, "after")
        assert texts(db) == ["before", "after"]


def test_nothing_is_committed_without_an_acknowledgement(machines, server):
    with contextlib.closing(begin(machines)), contextlib.closing(machines.connect(timeout=0.3)) as hasty:
        server.pause()
        with pytest.raises(OutcomeUnknown):
            commit(hasty, "not yet")
        assert texts(hasty) == []
        server.resume()


class Deaf:
    """A relay to a server that swallows answers to appends, as often as it is told, and hangs up then."""

    def __init__(self, port):
        self.port = free_port()
        self.swallow = 0
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._open = [self._listening]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                threading.Thread(target=self._relay, args=(client, server), daemon=True).start()
                threading.Thread(target=self._relay, args=(server, client), daemon=True).start()

    def _relay(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.swallow and b'"seq":' in data and b'"stream":"VERITYDB' in data and b"message" not in data:
                    self.swallow -= 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def relay(nats):
    made = Deaf(nats.ports[1])
    yield made
    made.close()


def record(stream, base=0, prev_hash=ZERO_HASH, *, count=1):
    identity, kind = secrets.token_bytes(16), Kind.DATA if count else Kind.GENERATION
    sealed = (0, bytes(32), bytes(12), bytes(32), 0, 100, 0, 0)
    return pack_header(stream, base, 1, prev_hash, identity, *sealed, count, kind) + secrets.token_bytes(100)


@pytest.fixture
def asking(nats):
    """Make sequencers of one stream that is new."""
    name, stream, made = f"raw-{secrets.token_hex(4)}", secrets.token_bytes(16), []

    def make(address=nats.address, **more):
        made.append(NatsSequencer(read_address(address, {}), name, bytes(16), stream))
        return made[-1]

    make().create(stream, name, timeout=PATIENCE)
    yield make
    for each in made:
        each.close()


def through(relay, nats):
    return nats.address.replace(str(nats.ports[1]), str(relay.port))


@pytest.mark.parametrize("header", ["both", "no id"])
def test_an_append_whose_answer_is_lost_is_stored_once(asking, relay, nats, header, monkeypatch):
    if header == "no id":  # As when the server's window of duplicates is over.
        monkeypatch.setattr(sequencer, "MSG_ID", "Verity-Nothing")
    one = asking(through(relay, nats))
    first = record(one.stream)
    relay.swallow = 1
    appended = kernel.Appended(0, 1, chain_hash(ZERO_HASH, first))
    assert one.append(first, timeout=PATIENCE) == appended
    assert relay.swallow == 0
    assert one.fetch(one.stream, 0, timeout=PATIENCE).records == (first,)
    second = record(one.stream, 1, appended.hash)
    assert isinstance(one.append(second, timeout=PATIENCE), kernel.Appended)
    assert asking().fetch(one.stream, 0, timeout=PATIENCE) == (2, (first, second))


def test_of_two_that_build_on_the_same_record_one_is_stored(asking):
    one, other = asking(), asking()
    first, rival = record(one.stream), record(one.stream)
    assert isinstance(one.append(first, timeout=PATIENCE), kernel.Appended)
    digest = chain_hash(ZERO_HASH, first)
    assert other.append(rival, timeout=PATIENCE) == kernel.Conflict(1, digest)
    assert other.fetch(one.stream, 0, timeout=PATIENCE).records == (first,)
    assert other.end(one.stream, timeout=PATIENCE) == (1, digest)


def test_what_was_resolved_as_not_committed_is_never_stored(asking):
    one, other = asking(), asking()
    first = record(one.stream)
    one.append(first, timeout=PATIENCE)
    digest = chain_hash(ZERO_HASH, first)
    late, rival = record(one.stream, 1, digest), record(one.stream, 1, digest)
    id_ = unpack_header(late[:HEADER_SIZE]).id
    for _ in range(2):
        assert other.resolve(one.stream, id_, 1, timeout=PATIENCE) == kernel.Forbidden(id_)
    assert one.append(late, timeout=PATIENCE) == kernel.Forbidden(id_)
    # The tombstone is in nobody else's way.
    assert isinstance(one.append(rival, timeout=PATIENCE), kernel.Appended)
    assert one.resolve(one.stream, id_, 1, timeout=PATIENCE) == kernel.Forbidden(id_)
    id_ = unpack_header(rival[:HEADER_SIZE]).id
    assert isinstance(asking().resolve(one.stream, id_, 1, timeout=PATIENCE), kernel.Known)
    assert asking().fetch(one.stream, 0, timeout=PATIENCE).records == (first, rival)


def test_the_place_of_any_record_is_found_among_notes_and_tombstones(asking):
    one, digest, base, ends = asking(), ZERO_HASH, 0, [(0, ZERO_HASH)]
    for number in range(12):
        if number % 3 == 1:
            one.resolve(one.stream, secrets.token_bytes(16), base, timeout=PATIENCE)
        # Every fourth is a note, which has no transaction.
        each = record(one.stream, base, digest, count=int(number % 4 != 2))
        reply = one.append(each, timeout=PATIENCE)
        assert isinstance(reply, kernel.Appended)
        digest, base = reply.hash, reply.next_offset
        ends.append((base, digest))
    for number, (offset, last) in enumerate(ends):
        read = asking().fetch(one.stream, offset, last, timeout=PATIENCE).records
        assert len(read) == 12 - number


def test_a_stream_that_has_lost_what_it_acknowledged_is_noticed_and_the_copy_kept(tmp_path, server, monkeypatch):
    monkeypatch.setattr(sequencer, "BEHIND_SECONDS", 0.1)
    machines = Machines(tmp_path / "machines", server, "clinic", cluster=server.address)
    machines.path.mkdir()
    with contextlib.closing(begin(machines)) as db:
        commit(db, "acknowledged")
    follower.stop_all()
    server.kill()
    shutil.rmtree(server.folder / "1")
    server.start_all()
    with contextlib.closing(machines.connect()) as db:
        with pytest.raises(LogMismatch, match="there is no stream VERITYDB_clinic"):
            commit(db, "next")
        assert texts(db) == ["acknowledged"]
        reach = db._session.stream.log.client
        reach.create(reach.stream, reach.name, timeout=PATIENCE)
        with pytest.raises(LogMismatch, match=r"NATS has lost it, or this is another NATS\. Nothing was written; keep"):
            commit(db, "next")
        assert texts(db) == ["acknowledged"]
    follower.stop_all()


def test_a_full_stream_rolls_back(machines, server):
    import asyncio

    import nats as library
    from nats.js.api import DiscardPolicy

    async def fill():
        client = await library.connect(f"nats://127.0.0.1:{server.ports[1]}")
        stream = client.jetstream()
        config = (await stream.stream_info("VERITYDB_clinic")).config
        config.max_bytes, config.discard = 20_000, DiscardPolicy.NEW
        await stream.update_stream(config)
        await client.close()

    with contextlib.closing(begin(machines)) as db:
        asyncio.run(fill())
        commit(db, "small")
        with pytest.raises(
            LogUnavailable, match=r"NATS refused the transaction \(.*maximum bytes.*\); it was rolled back"
        ):
            commit(db, "x" * 100_000)
        commit(db, "small, too")
        assert texts(db) == ["small", "small, too"]


def test_a_connection_that_is_closed_late_does_not_break_the_one_after_it(server):
    link = Link(read_address(server.address, {}))

    def connected():
        return link.connected(time.monotonic() + PATIENCE)

    late = link.wait(connected, PATIENCE)
    link._client = None  # It was given up, and the library has not yet said that it is closed.
    assert link.wait(connected, PATIENCE) is not late
    link.wait(late.close, PATIENCE)

    def question():
        return link.ask(lambda client, _: client.jetstream().account_info(), subject="", deadline=time.monotonic() + 3)

    assert link.wait(question, PATIENCE).streams == 0
    link.close()


def test_a_cluster_whose_leader_is_killed_goes_on_and_loses_nothing(tmp_path):
    with servers(tmp_path / "three", 3) as three:
        machines = Machines(tmp_path / "machines", three, "clinic", cluster=three.address)
        machines.path.mkdir()
        with contextlib.closing(begin(machines)) as db, contextlib.closing(machines.connect("b")) as other:
            for number in range(5):
                commit(db, f"{number}")
            three.kill(three.leader("VERITYDB_clinic"))
            for number in range(5, 10):
                commit(db, f"{number}")
            assert seen(db, 10) == seen(other, 10) == [f"{number}" for number in range(10)]
        machines.check()


def test_replicas_that_there_cannot_be_are_refused_before_anything_is_written(server, tmp_path):
    address = server.address.replace("replicas=1", "replicas=3")
    with pytest.raises(ConfigurationError, match="does not make a stream that 3 servers keep: replicas > 1 not supp"):
        veritydb.connect(tmp_path / "clinic.db", key=KEY, cluster=address)
    assert not (tmp_path / "clinic.db-log").exists()
