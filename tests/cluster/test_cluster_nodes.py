"""Real nodes: three processes, killed and started, over TLS, with disks of their own."""

from __future__ import annotations

import signal
import socket
import threading
import time

import pytest

from tests.cluster.groups import PATIENCE, Stream, cluster, free_port
from veritydb import kernel
from veritydb.cluster.certificates import context
from veritydb.cluster.config import Address
from veritydb.cluster.founding import found
from veritydb.cluster.session import GroupUnavailable, Session
from veritydb.vsr.wire import Keys


@pytest.fixture
def three(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        made.start_all()
        yield made


def hashes(log):
    try:
        return [record.hash for record in log.records()]
    finally:
        log.close()


def caught_up(made, member, stream):
    """Wait until a node has all that was acknowledged, and return its chain."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            found = hashes(made.log(member, stream.name))
        except Exception:  # It is being made, or written.
            found = []
        if len(found) >= len(stream.acknowledged):
            return found
        time.sleep(0.1)
    raise AssertionError(f"node {member} has {len(found)} of {len(stream.acknowledged)}: {made.output(member)[-2000:]}")


def test_what_is_acknowledged_survives_the_death_of_primaries_under_load(three):
    streams = [Stream(three.group()).create() for _ in range(3)]
    working = True
    failures: list[BaseException] = []

    def work(stream):
        try:
            while working:
                stream.append()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(1.5)
        primary = streams[0].session.primary
        three.kill(primary)
        before = sum(len(stream.acknowledged) for stream in streams)
        deadline = time.monotonic() + PATIENCE
        while sum(len(stream.acknowledged) for stream in streams) < before + 20 and not failures:
            assert time.monotonic() < deadline, "the group stands still"
            time.sleep(0.05)
        three.start(primary)
    working = False
    for thread in threads:
        thread.join()
    assert not failures, failures
    for stream in streams:
        assert stream.session.read_head(stream.name, timeout=PATIENCE) == (stream.next_offset, stream.hash)
        for member in (1, 2, 3):
            assert caught_up(three, member, stream) == stream.acknowledged
        stream.close()


def test_a_node_that_was_away_for_long_gets_a_snapshot_and_the_records(three):
    stream = Stream(three.group()).create()
    stream.append()
    absent = next(member for member in (1, 2, 3) if member != stream.session.primary)
    three.kill(absent)
    for _ in range(600):  # More than the journals hold.
        stream.append()
    three.start(absent)
    stream.append()
    assert caught_up(three, absent, stream) == stream.acknowledged
    stream.close()


def test_a_node_whose_streams_log_has_a_hole_cuts_it_and_gets_the_rest_from_the_group(three):
    """As a loss of power leaves it: pages of the middle never got to the disk, and some behind them did."""
    stream = Stream(three.group()).create()
    for _ in range(200):
        stream.append(300)
    harmed = next(member for member in (1, 2, 3) if member != stream.session.primary)
    caught_up(three, harmed, stream)
    three.kill(harmed)
    data = three.config(harmed).data
    (segment,) = (data / "streams" / stream.name.hex()).glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(bytes(4096))
    stream.append()
    three.start(harmed)
    stream.append()
    assert caught_up(three, harmed, stream) == stream.acknowledged
    assert "was cut at offset" in three.output(harmed)
    (aside,) = (data / "damaged").iterdir()
    assert aside.name == f"{stream.name.hex()}-0"

    for other in (1, 2, 3):  # It is as good as the others again: without one of these it carries on.
        if other != harmed:
            three.kill(other)
            break
    stream.append()
    stream.close()


def test_a_client_that_knows_one_member_finds_the_primary_wherever_it_is(three):
    """As one does whose client.toml is older than the members: it is told where they are by those it knows."""
    first = Stream(three.group()).create()
    first.append()
    primary = first.session.primary
    for member, address in three.config().members.items():
        session = Session(three.group()._replace(members={member: address}))
        assert session.read_head(first.name, timeout=PATIENCE) == (1, first.hash)
        assert session.primary == primary
        session.close()
    first.close()


def test_all_nodes_at_once_killed_lose_nothing(three):
    stream = Stream(three.group()).create()
    for _ in range(30):
        stream.append()
    for member in (1, 2, 3):
        three.kill(member)
    three.start_all()
    stream.append()
    assert stream.session.read_head(stream.name, timeout=PATIENCE) == (31, stream.hash)
    stream.close()


def test_a_stale_append_is_a_conflict_that_names_the_head(three):
    first = Stream(three.group()).create()
    second = Stream(three.group(), first.name)
    first.append()
    reply = second.session.send(kernel.encode_append((), second.record()), timeout=PATIENCE)
    assert reply == kernel.Conflict(1, first.hash)
    first.close()
    second.close()


def test_a_paused_node_does_not_hold_the_others_up(three):
    stream = Stream(three.group()).create()
    stream.append()
    paused = stream.session.primary
    three.nodes[paused].send_signal(signal.SIGSTOP)
    for _ in range(20):
        stream.append()
    three.nodes[paused].send_signal(signal.SIGCONT)
    stream.append()
    assert caught_up(three, paused, stream) == stream.acknowledged
    stream.close()


def test_a_node_stops_when_it_is_asked_to_and_goes_on_where_it_was(three):
    stream = Stream(three.group()).create()
    stream.append()
    for member in (1, 2, 3):
        assert three.stop(member) == 0
        three.start(member)
        stream.append()
    stream.close()


def test_one_node_alone_is_a_group(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        alone.start_all()
        stream = Stream(alone.group()).create()
        for _ in range(10):
            stream.append()
        alone.kill(1)
        alone.start(1)
        stream.append()
        assert caught_up(alone, 1, stream) == stream.acknowledged
        stream.close()


def test_who_is_not_of_the_cluster_is_not_heard(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        alone.start_all()
        stream = Stream(alone.group()).create()
        address = alone.config().address

        with socket.create_connection(address) as plain:  # No TLS.
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(PATIENCE)
            assert b"HTTP" not in plain.recv(100)

        found(tmp_path / "other", {1: Address("127.0.0.1", free_port())}, slots=64)
        strange = alone.group()._replace(
            tls=context(
                tmp_path / "other/client/authority.crt",
                tmp_path / "other/client/client.crt",
                tmp_path / "other/client/client.key",
                server=False,
            )
        )
        forged = alone.group()._replace(keys=Keys(client=bytes(32), peer=None))
        foreign = alone.group()._replace(cluster=bytes(16))
        for group in (strange, forged, foreign):
            session = Session(group)
            with pytest.raises(GroupUnavailable):
                session.read_head(stream.name, timeout=1.0)
            session.close()

        tls = alone.group().tls.wrap_socket(socket.create_connection(address))
        tls.sendall(b"garbage" * 100)
        tls.settimeout(PATIENCE)
        assert _hangs_up(tls)
        tls.close()
        stream.append()  # And nobody else has noticed.
        stream.close()


def _hangs_up(connection):
    try:
        return connection.recv(10) == b""
    except OSError:
        return True


def test_a_disk_of_another_cluster_or_in_use_and_a_taken_address_end_in_one_line(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        alone.start_all()
        Stream(alone.group()).create().close()
        first = alone.nodes[1]
        alone.start(1)
        assert alone.nodes[1].wait(timeout=PATIENCE) == 1
        alone.nodes[1] = first
        assert "cannot run" in alone.output(1)
        found(tmp_path / "other", {1: Address("127.0.0.1", free_port())}, slots=64)
        other = tmp_path / "other/node-1/node.toml"
        text = other.read_text()
        other.write_text(text.replace(text.splitlines()[0], f'cluster = "{"0" * 32}"'))
        alone.configs[1] = other
        alone.start(1)
        assert alone.nodes[1].wait(timeout=PATIENCE) == 1
        alone.nodes[1] = first
        assert "another cluster" in alone.output(1)


def test_a_client_that_cannot_reach_anybody_says_so(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        session = Session(alone.group())
        with pytest.raises(GroupUnavailable, match="no node of the group has answered in time"):
            session.read_head(bytes(16), timeout=0.3)
