"""Hundreds of streams on one group: their appends share ops, and so prepares and flushes. Counted, not timed."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.cluster.groups import PATIENCE, Stream, cluster
from tests.cluster.test_cluster_health import wait_for
from veritydb import kernel
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import options_for, read_client_config

TENANTS = 200
WRITERS = 50


@pytest.fixture
def three(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        made.start_all()
        yield made


def status(made):
    ended = subprocess.run(
        [sys.executable, "-m", "veritydb", "cluster", "status", made.folder, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return json.loads(ended.stdout)


def test_appends_of_different_streams_share_ops(three):
    """All writers ask at the same moment: the primary, which was stopped for that moment, finds them all waiting."""
    group = three.group()
    first = Stream(group)
    names = [secrets.token_bytes(16) for _ in range(TENANTS)]
    for name in names:
        created = first.session.command(
            kernel.CreateStream(name, kernel.Placement(kernel.DataClass.NON_PHI, "")), timeout=PATIENCE
        )
        assert isinstance(created, kernel.Created)
    streams = [Stream(group, name) for name in names]
    writers = [streams[at::WRITERS] for at in range(WRITERS)]
    for tenants in writers:
        session = tenants[0].session
        for each in tenants[1:]:
            each.session.close()
            each.session = session  # A program with a few tenants has one connection for them.
        tenants[0].append()  # It is connected, and knows the primary.

    before = status(three)
    primary = before["primary"]
    rounds = TENANTS // WRITERS - 1
    failures: list[BaseException] = []

    def write(stream):
        try:
            stream.append()
        except BaseException as error:
            failures.append(error)

    for at in range(1, rounds + 1):
        three.nodes[primary].send_signal(signal.SIGSTOP)
        threads = [threading.Thread(target=write, args=(tenants[at],)) for tenants in writers]
        for thread in threads:
            thread.start()
        time.sleep(0.03)  # Less than any of them waits before it asks another node.
        three.nodes[primary].send_signal(signal.SIGCONT)
        for thread in threads:
            thread.join()
    assert not failures, failures
    after = status(three)
    appends = rounds * WRITERS
    ops = after["commit"] - before["commit"]
    assert ops < appends / 2, f"{appends} appends of different streams took {ops} ops"
    for stream in streams:
        assert first.session.read_head(stream.name, timeout=PATIENCE) == (1, stream.hash)
    first.session.close()
    for tenants in writers:
        tenants[0].session.close()


def test_a_node_that_was_off_for_a_day_catches_up_without_stopping_the_others(three):
    """A day of a small journal: the others go around it four times, and keep no more than it holds."""
    config = three.config()
    options = options_for(config.slots)
    busy = Stream(group_of(read_client_config(three.folder / "client"))).create()
    quiet = Stream(three.group()).create()
    quiet.append()
    absent = next(member for member in (1, 2, 3) if member != busy.session.primary)
    size = {member: (three.config(member).data / "replica/entries").stat().st_size for member in (1, 2, 3)}
    assert three.stop(absent) == 0
    for _ in range(4 * config.slots):
        busy.append(20)
    seen = status(three)
    for one in seen["members"]:
        if one["member"] != absent:
            own = one["status"]
            assert own["checkpoint"] > 3 * config.slots, "journals are compacted behind checkpoints"
            assert own["commit"] - own["checkpoint"] <= options.slots
            replica = three.config(one["member"]).data / "replica"
            assert (replica / "entries").stat().st_size == size[one["member"]]
            assert len(list((replica / "snapshots").iterdir())) <= 3

    begun = len(busy.acknowledged)
    three.start(absent)
    while not _has_all(three, absent, quiet) or not _has(three, absent, busy, begun):
        busy.append(20)  # The others are not stopped: each of these is acknowledged within the time-out.
    assert len(busy.acknowledged) > begun
    wait_for(lambda: _has_all(three, absent, busy))
    wait_for(lambda: status(three)["health"] == "good")
    busy.close()
    quiet.close()


def _has_all(made, member, stream):
    return _has(made, member, stream, len(stream.acknowledged))


def _has(made, member, stream, count):
    try:
        log = made.log(member, stream.name)
    except Exception:  # It is being made, or written.
        return False
    try:
        hashes = [record.hash for record in log.records()]
    finally:
        log.close()
    assert hashes == stream.acknowledged[: len(hashes)]
    return len(hashes) >= count
