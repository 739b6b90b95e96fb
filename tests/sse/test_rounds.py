"""Many streams, sent to in rounds: some alike, some not, some that read slowly; each gets what is its own once."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import veritydb
from tests.support.cli import KEY
from tests.support.served import EventStream, Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sse.conftest import Clinic

COMMITS = 300
VIEWS = ("images=1", "tables=patients&images=1", "tables=secrets", "actions=update&images=1")


def expected(view: str) -> list[str]:
    """What a stream of a view is told of :func:`write`, as the cursors' offsets from the first commit."""
    wanted = {
        "images=1": lambda number: True,
        "tables=patients&images=1": lambda number: number % 3 != 0,
        "tables=secrets": lambda number: number % 3 == 0,
        "actions=update&images=1": lambda number: number % 3 == 2,
    }[view]
    return [str(number) for number in range(COMMITS) if wanted(number)]


def write(path: Path) -> None:
    """Commit in bursts, so that rounds overtake commits and commits rounds."""
    with contextlib.closing(veritydb.connect(path, key=KEY, autocommit=True)) as db:
        for number in range(COMMITS):
            if number % 3 == 0:
                db.execute("INSERT INTO secrets (body) VALUES (?)", (str(number),))
            elif number % 3 == 1:
                db.execute("INSERT INTO patients (name) VALUES (?)", (str(number),))
            else:
                db.execute("UPDATE patients SET name = ? WHERE id = (SELECT max(id) FROM patients)", (str(number),))
            if number % 20 == 0:
                time.sleep(0.03)


def test_every_stream_of_many_gets_each_change_once_and_in_order(clinic: Clinic, server: Server) -> None:
    first = clinic.db.last_offset + 1
    with contextlib.ExitStack() as stack:
        streams: list[tuple[str, EventStream]] = []
        for number in range(32):
            view = VIEWS[number % len(VIEWS)]
            stream = stack.enter_context(server.events(view))
            stream.take(1, "ready")
            streams.append((view, stream))
        told: list[list[str]] = [[] for _ in streams]

        def read(number: int) -> None:
            view, stream = streams[number]
            wanted = len(expected(view))
            while len(told[number]) < wanted:
                told[number] += [str(event.place[0] - first) for event in stream.take(1)]
                if number % 8 == 7:
                    time.sleep(0.002)  # Comes out of step with its likes.

        readers = [threading.Thread(target=read, args=(number,)) for number in range(len(streams))]
        for reader in readers:
            reader.start()
        write(clinic.path)
        for reader in readers:
            reader.join()
        # And nothing once more: what comes next is what is committed next.
        clinic.db.execute("INSERT INTO patients (name) VALUES ('the end')")
        clinic.db.execute("UPDATE patients SET name = 'of all' WHERE name = 'the end'")
        clinic.db.execute("INSERT INTO secrets (body) VALUES ('the end')")
        for number, (view, stream) in enumerate(streams):
            assert told[number] == expected(view)
            after = stream.take(1)[0]
            assert after.place[0] >= first + COMMITS, view
