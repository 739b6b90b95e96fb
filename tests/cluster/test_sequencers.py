"""What a connection does is the same whoever gives its records their order: a group of nodes, or NATS."""

from __future__ import annotations

import contextlib

import pytest

from tests.cluster.machines import begin, catch_up, seen, texts
from veritydb import follower
from veritydb.errors import ConflictError, LogMismatch, WrongKey


@pytest.fixture(params=["machines", "in_nats"])
def agreed(request):
    return request.getfixturevalue(request.param)


def test_what_one_machine_commits_another_one_reads(agreed):
    a = begin(agreed)
    with a:
        a.execute("INSERT INTO notes (text) VALUES ('from a')")
    with contextlib.closing(a), contextlib.closing(agreed.connect("b")) as b:
        assert seen(b, 1) == ["from a"]
        with b:
            b.execute("INSERT INTO notes (text) VALUES ('from b')")
        assert seen(a, 2) == ["from a", "from b"]


def test_another_key_opens_nothing_and_leaves_nothing(agreed):
    begin(agreed).close()
    with pytest.raises(WrongKey):
        agreed.connect("b", key="another")
    assert not (agreed.path / "b" / "clinic.db-log").exists()


def test_who_is_late_gets_a_conflict_after_the_file_has_caught_up(agreed):
    a, b = begin(agreed), agreed.connect("b")
    with contextlib.closing(a), contextlib.closing(b):
        catch_up(b)
        b.execute("INSERT INTO notes (text) VALUES ('late')")  # Its transaction is open, and keeps the follower out.
        with a:
            a.execute("INSERT INTO notes (text) VALUES ('first')")
        with pytest.raises(ConflictError) as conflict:
            b.commit()
        assert conflict.value.next_offset == a.last_offset + 1
        assert conflict.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
        assert not b.in_transaction
        assert texts(b) == ["first"]
        with b:
            b.execute("INSERT INTO notes (text) VALUES ('again')")
        assert seen(a, 2) == ["first", "again"]


def test_a_copy_of_another_stream_is_refused(agreed):
    begin(agreed).close()
    follower.stop_all()
    with pytest.raises(LogMismatch, match="is a copy of stream"):
        agreed.connect("a", stream="another")
