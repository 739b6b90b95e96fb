"""When a record may be told: not before whoever opens the file sees what it says."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

import veritydb
from veritydb.publishing import Topic
from veritydb.streams import log_folder
from veritydb.subscriptions import source as sources
from veritydb.subscriptions.source import FileSource, Projection

if TYPE_CHECKING:
    from pathlib import Path


class Lagging:
    """A source beside a file that its log is one transaction ahead of, as after a writer's death between the two."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        with veritydb.connect(path, autocommit=True) as db:
            db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        db.close()
        before = path.with_name("before.db")
        shutil.copy(path, before)
        self.source = FileSource(log_folder(path), Projection(str(path), None), lambda _: Topic(), lambda: self.now)
        db = veritydb.connect(path, autocommit=True)
        db.execute("INSERT INTO t VALUES (7)")
        db.close()
        os.replace(before, path)

    def told(self) -> list[int]:
        return [record.header.first_offset for record in self.source.advance(10)]


@pytest.fixture
def lagging(tmp_path: Path) -> Lagging:
    return Lagging(tmp_path / "clinic.db")


def test_a_record_is_told_when_the_file_has_it_and_not_before(lagging: Lagging) -> None:
    assert lagging.told() == []
    lagging.now = 0.9 * sources.PATIENCE
    assert lagging.told() == []
    assert lagging.source.soon is not None, "nothing else will say that the file has caught up"
    veritydb.connect(lagging.path).close()  # Which takes the file to where its log is.
    assert lagging.told() == [1]
    assert lagging.told() == []
    lagging.source.close()


def test_a_record_is_told_after_a_while_though_nobody_takes_the_file_there(lagging: Lagging) -> None:
    """It is committed, and its writer may be dead; the file follows at its next open."""
    assert lagging.told() == []
    lagging.now = 1.1 * sources.PATIENCE
    assert lagging.told() == [1]
    lagging.source.close()
