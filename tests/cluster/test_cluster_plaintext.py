"""Nothing of a row reaches the nodes in clear: not on the wire, not in their files, not in their memory.

Every connection, between nodes and from clients, goes through a relay of this test, which keeps all bytes; the nodes'
memory is read as the kernel shows it (``/proc/PID/mem``). So that a search which finds nothing means something, the
same search has to find what is there: in this process, and in nodes that keep a stream without a key.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import veritydb
from tests.chaos.links import Links
from tests.cluster.groups import Cluster, cluster
from veritydb import follower

CLIENTS = 0
"""Who dials, if it is no member."""
SEALED = "c0nf1d3ntial"
OPEN = "pl41nly-v1s1ble"
"""What the rows hold: in a stream with a key, and in one without."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def forms(mark: str) -> tuple[bytes, ...]:
    """Return how a text may lie in memory: as bytes of UTF-8, as Python keeps wider texts, in hex."""
    texts = [mark.encode(name) for name in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")]
    return (*texts, mark.encode().hex().encode())


@contextlib.contextmanager
def tapped(folder: Path) -> Iterator[tuple[Cluster, bytearray]]:
    """Run three nodes; give them, and all that is said to them and among them."""
    wire = bytearray()
    with cluster(folder) as made:
        addresses = {member: made.config(member).address for member in made.configs}
        links = Links(addresses, sources=(CLIENTS, *addresses))
        for link in links.links.values():
            link.heard = wire.extend
        for (source, target), link in links.links.items():
            paths = [folder / "client" / "client.toml"] if source == CLIENTS else [made.configs[source]]
            for path in paths:
                old, new = f'{target} = "{link.target}"', f'{target} = "{link.address}"'
                assert old in path.read_text()
                path.write_text(path.read_text().replace(old, new))
        try:
            made.start_all()
            made.wait_until_it_answers()
            yield made, wire
            follower.stop_all()
        finally:
            made.close()
            links.close()


def memory(pid: int) -> Iterator[bytes]:
    """Yield what a process has in memory that it can write to."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as all_of_it:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found is None or "[vvar" in line:
                continue
            start, end = (int(each, 16) for each in found.groups())
            with contextlib.suppress(OSError):  # Gone meanwhile.
                all_of_it.seek(start)
                yield all_of_it.read(end - start)


def in_memory(pid: int, mark: str) -> bool:
    return any(form in part for part in memory(pid) for form in forms(mark))


def in_files(folder: Path, mark: str) -> list[str]:
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file()
        for content in (b"".join(written(path)),)
        if any(form in content for form in forms(mark))
    ]


def written(path: Path) -> Iterator[bytes]:
    """Yield what a file holds but for its holes: a journal is a gigabyte that is hardly used."""
    with open(path, "rb", buffering=0) as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            file.seek(start)
            yield file.read(end - start)


def work(db: veritydb.Connection, mark: str) -> None:
    """Put a mark wherever a transaction has room for something."""
    with db:
        db.execute(f'CREATE TABLE "{mark}" (id INTEGER PRIMARY KEY, "{mark}1" TEXT, photo BLOB)')
    for number in range(20):
        with db, db.reason(f"because of {mark}"):
            db.execute(f'INSERT INTO "{mark}" VALUES (NULL, ?, ?)', (f"{mark} {number}", f"{mark} blob".encode()))
    with db:
        db.executemany(
            f'INSERT INTO "{mark}" VALUES (NULL, ?, NULL)', [(f"{mark} {number}",) for number in range(3000)]
        )
        db.execute(f'UPDATE "{mark}" SET "{mark}1" = "{mark}1" || ? WHERE id < 100', (mark,))


def test_nothing_of_a_row_is_on_the_wire_in_a_nodes_files_or_in_its_memory(tmp_path: Path) -> None:
    with tapped(tmp_path / "cluster") as (nodes, wire):
        folders = [path.parent for path in nodes.configs.values()]
        pids = [node.pid for node in nodes.nodes.values()]
        (tmp_path / "a").mkdir()
        client = nodes.folder / "client"
        with contextlib.closing(
            veritydb.connect(tmp_path / "a/sealed.db", key="correct horse", cluster=client, actor=SEALED, timeout=60)
        ) as db:
            work(db, SEALED)
            assert in_memory(os.getpid(), SEALED)
            assert len(wire) > 200_000
            assert not any(in_memory(pid, SEALED) for pid in pids)
            # Another machine gets all of it from the nodes, through the nodes' memory.
            (tmp_path / "b").mkdir()
            with contextlib.closing(
                veritydb.connect(tmp_path / "b/sealed.db", key="correct horse", cluster=client, timeout=60)
            ) as other:
                assert other.execute(f'SELECT count(*) FROM "{SEALED}"').fetchone() == (3020,)
            assert not any(in_memory(pid, SEALED) for pid in pids)
        with contextlib.closing(veritydb.connect(tmp_path / "a/open.db", cluster=client, timeout=60)) as db:
            work(db, OPEN)
            assert any(in_memory(pid, OPEN) for pid in pids), "this search would find nothing"
        member = next(iter(nodes.nodes))
        nodes.kill(member)
        nodes.start(member)
        nodes.wait_until_it_answers()
        assert not any(in_memory(node.pid, SEALED) for node in nodes.nodes.values())
        for mark in (SEALED, OPEN):
            assert not any(form in wire for form in forms(mark))
    assert [name for folder in folders for name in in_files(folder, SEALED)] == []
    assert [name for folder in folders for name in in_files(folder, OPEN)] != [], "this search would find nothing"
    assert in_files(tmp_path / "a", SEALED) == []
