"""Whoever follows a log without its lock is told of what is durable, and of nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.logs import STREAM, commit, poke, segment_path
from veritydb.log import Log
from veritydb.log.lock import pack_marker
from veritydb.log.tailing import Tail

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log(folder: Path) -> Iterator[Log]:
    log = Log.create(folder, STREAM)
    yield log
    log.close()


@pytest.fixture
def tail(log: Log, folder: Path) -> Iterator[Tail]:
    tail = Tail(folder)
    yield tail
    tail.close()


def seen(tail: Tail) -> list[bytes]:
    return [record.tail for record in tail.advance(100)]


def test_what_was_acknowledged_is_seen_at_once(log: Log, tail: Tail) -> None:
    for content in (b"one", b"two"):
        commit(log, content)
        assert seen(tail) == [content]
        assert not tail.unsettled


def test_a_last_record_that_the_marker_does_not_reach_is_held_back(log: Log, tail: Tail, folder: Path) -> None:
    """Its writer died, or is still waiting for the disk."""
    commit(log, b"one")
    before = log.head
    commit(log, b"two")
    poke(folder / "marker", 0, pack_marker(before.segment, before.position))
    assert seen(tail) == [b"one"]
    assert tail.unsettled
    assert seen(tail) == []
    with contextlib.closing(Log.open(folder)):  # Whoever opens the log settles it.
        assert seen(tail) == [b"two"]
    assert not tail.unsettled


@pytest.mark.parametrize("marker", [b"", b"\1", bytes(16)], ids=["empty", "cut short", "unknown"])
def test_a_marker_that_names_no_place_vouches_for_nothing(log: Log, tail: Tail, folder: Path, marker: bytes) -> None:
    commit(log, b"one", b"two")
    (folder / "marker").write_bytes(marker)
    assert seen(tail) == [b"one"]  # A record stands behind it.
    assert tail.unsettled


def test_a_record_that_took_the_place_of_a_failed_one_is_not_taken_for_it(
    log: Log, tail: Tail, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the record and the look at the marker the first one was taken away."""
    commit(log, b"one")
    first = segment_path(folder).read_bytes()
    commit(log, b"two")
    real = tail._settled

    def settled(record: object) -> bool:
        segment_path(folder).write_bytes(first)
        return real(record)

    monkeypatch.setattr(tail, "_settled", settled)
    assert seen(tail) == [b"one"]
    assert tail.unsettled


def test_a_copy_without_a_marker_is_read_to_its_end(log: Log, folder: Path) -> None:
    commit(log, b"one")
    (folder / "marker").unlink()
    with contextlib.closing(Tail(folder)) as tail:
        assert seen(tail) == [b"one"]
