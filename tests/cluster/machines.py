"""Applications that share a stream, each on a machine of its own: a folder each."""

from __future__ import annotations

import contextlib
import time

import veritydb
from tests.cluster.groups import PATIENCE
from veritydb import follower, verify

KEY = "correct horse"


class Machines:
    """The machines of one test."""

    def __init__(self, path, nodes, stream, *, cluster=None):
        self.path, self.nodes, self.stream = path, nodes, stream
        self.cluster = cluster or nodes.folder / "client"

    def file(self, machine):
        folder = self.path / machine
        folder.mkdir(exist_ok=True)
        return folder / "clinic.db"

    def connect(self, machine="a", **options):
        options = {"key": KEY, "timeout": PATIENCE, "stream": self.stream, **options}
        return veritydb.connect(self.file(machine), **{"cluster": self.cluster, **options})

    def check(self):
        """Stop following; every machine's copy is whole, its file is what the copy says, and all agree."""
        follower.stop_all()
        ends = set()
        for folder in self.path.iterdir():
            if (folder / "clinic.db").exists():
                with contextlib.closing(self.connect(folder.name)) as db:
                    db.execute("SELECT 1")
                    catch_up(db)
                follower.stop_all()
                report = verify.verify(folder / "clinic.db", key=KEY)
                assert report.problems == []
                ends.add((report.chain.transactions, report.chain.head))
        assert len(ends) <= 1, ends


def catch_up(db):
    """Wait until the file has all that the group has."""
    session = db._session
    next_offset, _ = reach_of(db).end(session.stream.log.stream, timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while session.applied() < next_offset:
        assert time.monotonic() < deadline, f"at {session.applied()} of {next_offset}"
        time.sleep(0.005)


def reach_of(db):
    return db._session.stream.log.client


def begin(machines, machine="a"):
    db = machines.connect(machine)
    with db:
        db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    return db


def texts(db):
    return [text for (text,) in db.execute("SELECT text FROM notes ORDER BY id")]


def seen(db, count):
    deadline = time.monotonic() + PATIENCE
    while len(texts(db)) < count:
        assert time.monotonic() < deadline, texts(db)
        time.sleep(0.002)
    return texts(db)
