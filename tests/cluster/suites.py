"""SQLAlchemy's and Django's own tests over a cluster: every commit of theirs is agreed by two of three nodes.

``python -m tests.cluster.suites`` (``make suites-cluster``) starts three nodes and runs ``sqlalchemy.testing.suite``,
as it is installed, and the labels of Django's suite that :mod:`tests.django.conformance` runs over a file, beside the
same labels on Django's own SQLite backend. Afterwards each database is rebuilt from its copy of the stream, and the
copy has to end where the group says that the stream ends. :mod:`tests.cluster.test_cluster_suites` runs a slice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster.groups import PATIENCE, Cluster, cluster
from tests.django import conformance
from tests.sqlalchemy.suites import KEY, Result, run_installed
from tests.support.files import opened_log
from veritydb.cluster.naming import stream_id
from veritydb.cluster.session import Session

CLUSTERED = "tests.django.clustered"
SUITE_FILE = "suite_veritydb.db"
"""What SQLAlchemy makes of a ``suite.db`` in its URL."""


def sqlalchemy_suite(nodes: Cluster, folder: Path, stream: str, *, only: str = "") -> Result:
    """Run the suite of the installed SQLAlchemy on one stream; ``only`` is what pytest's ``-k`` takes."""
    url = f"sqlite+veritydb:///suite.db?key={KEY}&timeout=5&cluster={nodes.folder / 'client'}&stream={stream}"
    return run_installed(folder, url, key=KEY, only=only)


def django_suite(nodes: Cluster, folder: Path, prefix: str, labels: list[str]) -> dict[str, Any]:
    """Run labels of Django's suite; the stream of a file is called ``prefix`` and the file's name."""
    sources = conformance.source(conformance.ROOT / "build" / "conformance")
    client = str(nodes.folder / "client")
    return conformance.run(sources, CLUSTERED, folder, labels, CONFORMANCE_CLUSTER=client, CONFORMANCE_PREFIX=prefix)


def disagreements(nodes: Cluster, path: Path, stream: str) -> list[str]:
    """Return a line if the copy beside ``path`` does not end where the group says that the stream does."""
    group = nodes.group()
    session = Session(group)
    agreed = session.read_head(stream_id(group.cluster, stream), timeout=PATIENCE)
    session.close()
    with opened_log(path) as log:
        here = log.head.next_offset, log.head.hash
    if agreed is None:
        return [f"the cluster has no stream {stream!r}"]
    return [] if agreed == here else [f"{path.name} ends at {here[0]}, the stream at {agreed[0]}"]


def main() -> int:
    """Print what passes and what differs; return 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slice", action="store_true", help="of Django's suite only what fits into a minute")
    options = parser.parse_args()
    labels = list(conformance.SLICE if options.slice else conformance.LABELS)
    with tempfile.TemporaryDirectory(prefix="suites-cluster-") as name, cluster(Path(name) / "nodes") as nodes:
        folder = Path(name)
        nodes.start_all()
        nodes.wait_until_it_answers()
        problems = [*_sqlalchemy(nodes, folder / "sqlalchemy"), *_django(nodes, folder, labels)]
    for problem in problems:
        print(problem)
    return int(bool(problems))


def _sqlalchemy(nodes: Cluster, folder: Path) -> list[str]:
    began = time.monotonic()
    result = sqlalchemy_suite(nodes, folder, "suite")
    print(
        f"SQLAlchemy: {len(result.passed)} passed, {len(result.skipped)} skipped, {len(result.failed)} failed, "
        f"{len(result.refused)} refused on purpose, {result.compared} databases rebuilt and compared, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    found = [f"{test}\n{text[-2000:]}" for test, text in sorted(result.failed.items())]
    return found + disagreements(nodes, folder / SUITE_FILE, "suite")


def _django(nodes: Cluster, folder: Path, labels: list[str]) -> list[str]:
    sources = conformance.source(conformance.ROOT / "build" / "conformance")
    standard = conformance.run(sources, conformance.STANDARD, folder / "standard", labels)
    ours = django_suite(nodes, folder / "django", "", labels)
    print(
        f"Django, {' '.join(labels)}: {ours['count']} tests, {len(ours['failed'])} fail, "
        f"{len(ours['skipped'])} skipped, {ours['seconds']:.0f} s (its own backend: {standard['count']}, "
        f"{len(standard['failed'])}, {len(standard['skipped'])}, {standard['seconds']:.0f} s)",
        flush=True,
    )
    problems = [*conformance.compared(standard, ours), *conformance.rebuilt(folder / "django")]
    for path in sorted((folder / "django").glob("*.db")):
        problems += disagreements(nodes, path, path.stem)
    return problems


if __name__ == "__main__":
    sys.exit(main())
