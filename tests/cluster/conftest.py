"""Three nodes that all tests of a process use, and leave running; or three of one's own, to stop some."""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster.groups import SLOTS, cluster, free_port
from tests.cluster.machines import Machines
from tests.cluster.nats_servers import BINARY, servers
from veritydb.cluster.config import Address
from veritydb.cluster.founding import found
from veritydb.cluster.local import members_in


@pytest.fixture(scope="session")
def nodes(tmp_path_factory):
    """Three nodes that all tests use, and leave running."""
    with cluster(tmp_path_factory.mktemp("nodes") / "cluster") as made:
        made.start_all()
        made.wait_until_it_answers()
        yield made


@pytest.fixture
def own_nodes(tmp_path):
    """Three nodes for a test that stops some."""
    with cluster(tmp_path / "cluster") as made:
        made.start_all()
        made.wait_until_it_answers()
        yield made


@pytest.fixture
def machines(tmp_path, nodes, request):
    made = Machines(tmp_path, nodes, f"clinic {os.urandom(4).hex()}")
    yield made
    made.check()


@pytest.fixture
def own_machines(tmp_path, own_nodes):
    made = Machines(tmp_path, own_nodes, "clinic")
    yield made
    made.check()


@pytest.fixture(scope="session")
def nats(tmp_path_factory):
    """One NATS server that all tests use, and leave running."""
    if BINARY is None:
        pytest.skip("nats-server is not installed (apt-get install nats-server)")
    with servers(tmp_path_factory.mktemp("nats") / "server") as made:
        yield made


@pytest.fixture
def in_nats(tmp_path, nats):
    made = Machines(tmp_path, nats, f"clinic-{os.urandom(4).hex()}", cluster=nats.address)
    yield made
    made.check()


@pytest.fixture
def folder(tmp_path):
    """The folder of a cluster that does not run yet; its members have ended when the test has."""
    where = tmp_path / "cluster"
    found(where, {number: Address("127.0.0.1", free_port()) for number in (1, 2, 3)}, slots=SLOTS)
    yield where
    for one in members_in(where):
        pid = one.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
