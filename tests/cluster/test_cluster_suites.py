"""Slices of SQLAlchemy's and of Django's own tests pass over a cluster. ``make suites-cluster`` runs both further."""

from __future__ import annotations

import os

import pytest

from tests.cluster.suites import SUITE_FILE, disagreements, django_suite, sqlalchemy_suite
from tests.django import conformance

SQLALCHEMY = "InsertBehaviorTest or ReturningTest or RowFetchTest or CompositeForeignKeyDDL or LastrowidTest"
DJANGO = ["basic", "bulk_create", "transactions"]


def test_a_slice_of_sqlalchemys_suite_passes_over_a_cluster(nodes, tmp_path):
    stream = f"suite-{os.urandom(4).hex()}"
    result = sqlalchemy_suite(nodes, tmp_path / "run", stream, only=SQLALCHEMY)
    assert result.failed == {}
    assert len(result.passed) > 25
    assert result.compared > 0
    assert disagreements(nodes, tmp_path / "run" / SUITE_FILE, stream) == []


def test_a_slice_of_djangos_suite_passes_over_a_cluster(nodes, tmp_path, campaign):
    if not campaign and not (conformance.ROOT / "build" / "conformance").is_dir():
        pytest.skip("Django's sources are not here: part of the campaign, which fetches them")
    prefix = f"{os.urandom(4).hex()}-"
    outcome = django_suite(nodes, tmp_path / "run", prefix, DJANGO)
    assert outcome["failed"] == {}
    assert outcome["count"] > 200
    assert conformance.rebuilt(tmp_path / "run") == []
    assert disagreements(nodes, tmp_path / "run" / "test_default.db", f"{prefix}test_default") == []
