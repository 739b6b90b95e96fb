"""Three nodes that all tests of a process use, and leave running; or three of one's own, to stop some."""

from __future__ import annotations

import os

import pytest

from tests.cluster.groups import cluster
from tests.cluster.machines import Machines


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
