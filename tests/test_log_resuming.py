"""A connection that finds file and log as its process left them opens no log before it writes; and finds all else."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import veritydb
from tests.support.life import RAW, Life
from tests.support.logs import STREAM, append, poke, segment_path
from veritydb.errors import LogDamaged, LogMismatch, LogUnavailable
from veritydb.log import Log, Place, resuming
from veritydb.log.lock import unpack_marker
from veritydb.log.record import FRAME_SIZE
from veritydb.log.resuming import ResumedLog

INSERT = "INSERT INTO t VALUES (?)"


@pytest.fixture
def path(life: Life) -> Path:
    """A database that this process has had open, with one row."""
    db = life.connect("clinic.db", key=RAW)
    db.execute("CREATE TABLE t (a)")
    db.execute(INSERT, ("first",))
    db.commit()
    db.close()
    return life.folder / "clinic.db"


def log_of(db: veritydb.Connection) -> object:
    session = db._session
    assert session is not None
    return session.stream.log


def rows(db: veritydb.Connection) -> list[str]:
    return [value for (value,) in db.execute("SELECT a FROM t ORDER BY rowid")]


def segment(path: Path) -> Path:
    return Path(f"{path}-log/00000000.seg")


def elsewhere(path: Path, program: str) -> None:
    """Run ``program`` in another process, so that this one's memory is out of date."""
    start = f"import os, veritydb\ndb = veritydb.connect({str(path)!r}, key=bytes(range(32)))\n"
    subprocess.run([sys.executable, "-c", start + program], check=True, cwd=Path(__file__).parents[1])


def test_a_connection_that_reads_opens_no_log(path: Path) -> None:
    db = veritydb.connect(path, key=RAW)
    assert rows(db) == ["first"]
    assert type(log_of(db)) is ResumedLog
    assert not [name for name in os.listdir("/proc/self/fd") if _points_to(name, f"{path}-log")]
    db.close()


def test_the_first_write_opens_it_and_the_next_connection_goes_on_from_there(path: Path) -> None:
    for number in range(3):
        db = veritydb.connect(path, key=RAW)
        assert type(log_of(db)) is ResumedLog
        db.execute(INSERT, (str(number),))
        assert type(log_of(db)) is Log
        db.commit()
        db.close()
    db = veritydb.connect(path, key=RAW)
    assert rows(db) == ["first", "0", "1", "2"]
    assert type(log_of(db)) is ResumedLog
    db.close()


def test_what_another_process_committed_is_there_and_read_from_the_log(path: Path) -> None:
    elsewhere(path, f"db.execute({INSERT!r}, ('second',)); db.commit(); db.close()")
    db = veritydb.connect(path, key=RAW)
    assert type(log_of(db)) is Log
    assert rows(db) == ["first", "second"]
    db.close()


def test_what_another_process_logged_and_did_not_commit_is_redone_at_open(path: Path, life: Life) -> None:
    before = path.read_bytes()
    elsewhere(path, f"db.execute({INSERT!r}, ('second',)); db.commit(); db.close()")
    with path.open("r+b") as file:  # As if it had died between log and file. The file is what this process remembers.
        file.write(before)
        file.truncate()
    db = life.connect("clinic.db", key=RAW)
    assert rows(db) == ["first", "second"]


def test_a_file_that_was_put_back_is_brought_to_the_end_of_the_log(path: Path, life: Life) -> None:
    before = path.read_bytes()
    db = life.connect("clinic.db", key=RAW)
    db.execute(INSERT, ("second",))
    db.commit()
    db.close()
    with path.open("r+b") as file:
        file.write(before)
        file.truncate()
    db = life.connect("clinic.db", key=RAW)
    assert rows(db) == ["first", "second"]


def test_a_transaction_of_another_process_is_seen_by_the_first_write(path: Path, life: Life) -> None:
    db = life.connect("clinic.db", key=RAW)
    assert type(log_of(db)) is ResumedLog
    elsewhere(path, f"db.execute({INSERT!r}, ('second',)); db.commit(); db.close()")
    db.execute(INSERT, ("third",))
    db.commit()
    assert rows(db) == ["first", "second", "third"]


def test_a_last_record_that_was_changed_in_place_is_noticed_at_open(path: Path, life: Life) -> None:
    seen = resuming._seen[f"{path}-log"]
    with segment(path).open("r+b") as file:
        file.seek(seen.place.position + seen.length - 20)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))  # Not a fixed one, which of 256 records would have there.
    life.forget(path)
    with pytest.raises((LogDamaged, LogMismatch)):
        veritydb.connect(path, key=RAW)


def test_a_log_that_was_replaced_by_its_copy_is_read_anew(path: Path) -> None:
    log = Path(f"{path}-log")
    shutil.copytree(log, log.with_suffix(".copy"))
    log.rename(log.with_suffix(".old"))
    log.with_suffix(".copy").rename(log)
    db = veritydb.connect(path, key=RAW)
    assert type(log_of(db)) is Log
    db.close()


def test_what_a_torn_write_left_behind_zeros_is_cut_before_the_first_write(path: Path, life: Life) -> None:
    end = resuming._seen[f"{path}-log"].head.position
    with segment(path).open("r+b") as file:
        file.seek(end + 4096)
        file.write(b"the second page of a record whose first did not reach the disk")
    db = life.connect("clinic.db", key=RAW)
    assert rows(db) == ["first"]
    db.execute(INSERT, ("second",))
    db.commit()
    with segment(path).open("rb") as file:
        assert b"the second page" not in file.read()


def test_an_append_that_was_interrupted_is_settled_by_the_first_write(path: Path, life: Life) -> None:
    marker = Path(f"{path}-log/marker")
    marker.write_bytes(b"\1")
    db = life.connect("clinic.db", key=RAW)
    assert rows(db) == ["first"]
    assert marker.read_bytes() == b"\1"
    db.execute(INSERT, ("second",))
    db.commit()
    assert unpack_marker(marker.read_bytes()) == (0, log_of(db).head.position)


def test_a_child_does_not_write_through_its_parents_connection(path: Path) -> None:
    db = veritydb.connect(path, key=RAW)
    log = log_of(db)
    assert isinstance(log, ResumedLog)
    child = os.fork()
    if child == 0:
        try:
            log.acquire(0)
        except LogUnavailable:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    db.execute(INSERT, ("second",))
    db.commit()
    db.close()


def test_a_log_that_could_not_be_opened_can_be_tried_again(path: Path, life: Life) -> None:
    log = Path(f"{path}-log")
    db = life.connect("clinic.db", key=RAW)
    log.rename(log.with_suffix(".away"))
    with pytest.raises(veritydb.Error, match="there is no log"):
        db.execute(INSERT, ("second",))
    db.rollback()
    log.with_suffix(".away").rename(log)
    db.execute(INSERT, ("second",))
    db.commit()
    assert rows(db) == ["first", "second"]


def test_a_closed_log_is_not_opened_any_more(path: Path) -> None:
    db = veritydb.connect(path, key=RAW)
    log = log_of(db)
    db.close()
    assert isinstance(log, ResumedLog)
    with pytest.raises(LogUnavailable, match="closed"):
        log.acquire()


def test_a_large_last_record_is_not_remembered(path: Path, life: Life) -> None:
    db = life.connect("clinic.db", key=RAW)
    db.execute(INSERT, ("x" * (3 * resuming.FRAME_MAX),))
    db.commit()
    db.close()
    db = life.connect("clinic.db", key=RAW)
    assert type(log_of(db)) is Log


def test_only_a_last_record_that_can_be_read_back_is_remembered(tmp_path: Path) -> None:
    with contextlib.closing(Log.create(tmp_path / "log", STREAM)) as log:
        log.acquire(1)
        first = log.place()
        append(log)
        last = log.place()
        append(log)
        log.release()
        head = log.head
    where = segment_path(log.folder)
    whole = where.read_bytes()

    def remembered(place: Place = last) -> bool:
        resuming._seen.pop(str(log.folder), None)
        resuming.remember(log.folder, STREAM, head, b"applied", place)
        return resuming.resumed(log.folder, b"applied") is not None

    assert remembered()
    assert not remembered(first), "two records are not one"
    poke(where, last.position + FRAME_SIZE - 2, b"\xff\xff")
    assert not remembered(), "its header is of a version that is none"
    where.write_bytes(whole[: last.position + FRAME_SIZE])
    assert not remembered(), "it is cut short"
    where.write_bytes(whole)
    assert remembered()
    where.unlink()
    assert resuming.resumed(log.folder, b"applied") is None
    assert not remembered()


def test_reading_a_log_that_was_remembered_opens_it(path: Path) -> None:
    db = veritydb.connect(path, key=RAW)
    log = log_of(db)
    assert isinstance(log, Log)
    assert len(list(log.records())) == log.head.next_offset + 1
    assert type(log) is Log
    db.close()


def test_a_log_that_is_damaged_or_unreadable_when_it_is_opened_at_last_is_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, life: Life
) -> None:
    db = life.connect("clinic.db", key=RAW)
    whole = segment(path).read_bytes()
    segment(path).write_bytes(bytes(len(whole)))
    with pytest.raises(LogDamaged):
        db.execute(INSERT, ("second",))
    db.rollback()
    segment(path).write_bytes(whole)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the disk says no")

    with monkeypatch.context() as patched:
        patched.setattr(resuming, "open_lock", fail)
        with pytest.raises(LogUnavailable, match="the disk says no"):
            db.execute(INSERT, ("second",))
    db.rollback()
    assert type(log_of(db)) is ResumedLog
    db.execute(INSERT, ("second",))
    db.commit()
    assert rows(db) == ["first", "second"]


def test_few_logs_are_remembered(path: Path, monkeypatch: pytest.MonkeyPatch, life: Life) -> None:
    monkeypatch.setattr(resuming, "SEEN_MAX", 2)
    for number in range(4):
        db = life.connect(f"{number}.db")
        db.execute("CREATE TABLE t (a)")
        db.commit()
        db.close()
        assert len(resuming._seen) <= 2 or number == 0


def _points_to(descriptor: str, what: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(what)
    except OSError:
        return False
