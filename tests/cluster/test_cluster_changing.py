"""Members come, go, and lose their disks: by the commands, on real processes, while clients append."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time

import pytest

from tests.cluster.groups import PATIENCE, SLOTS, Stream, free_port, group
from tests.cluster.test_cluster_health import wait_for
from tests.cluster.test_cluster_processes import command
from veritydb.cluster.changing import address_books, set_address, with_address
from veritydb.cluster.config import Address, read_config
from veritydb.cluster.local import members_in
from veritydb.cluster.status import SILENT_SECONDS
from veritydb.errors import ConfigurationError
from veritydb.log import Log


def status(folder, code=0):
    return json.loads(command("status", folder, "--json", code=code))


def wait_until_good(folder):
    """Return the status, once every member is ready and hears all the others."""
    deadline = time.monotonic() + PATIENCE
    while (told := look(folder))["health"] != "good" or any(each["why"] for each in told["members"]):
        assert time.monotonic() < deadline, told
    return told


def look(folder):
    done = subprocess.run(
        [sys.executable, "-m", "veritydb", "cluster", "status", folder, "--json"], capture_output=True, check=False
    )
    return json.loads(done.stdout)


def in_office(folder, code=0):
    return [one["member"] for one in status(folder, code)["members"] if one["counts"]]


def kept(folder, member, stream):
    """The chain of a stream as a member has it now."""
    log = Log.open(folder / f"node-{member}/data/streams" / stream.name.hex(), read_only=True)
    with contextlib.closing(log):
        return [record.hash for record in log.records()]


@contextlib.contextmanager
def appending(stream):
    """A client that appends all the while, and fails the test if one append fails."""
    working, failures = True, []

    def work():
        try:
            while working:
                stream.append()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        working = False
        thread.join()
    assert not failures, failures


def test_a_member_is_added_and_another_removed_while_a_client_appends(folder):
    command("start", folder)
    stream = Stream(group(folder)).create()
    for _ in range(3 * SLOTS // 2):  # More than the journals hold: who comes gets a snapshot.
        stream.append()
    address = f"127.0.0.1:{free_port()}"
    with appending(stream):
        added = json.loads(command("add", folder, "--address", address, "--json"))
        assert added["member"] == 4
        assert in_office(folder) == [1, 2, 3, 4]
        primary = status(folder)["primary"]
        leaving = next(member for member in (1, 2, 3) if member != primary)
        assert "out of office" in command("remove", folder, leaving)
    stays = [member for member in (1, 2, 3, 4) if member != leaving]
    assert in_office(folder) == stays
    assert members_in(folder)[leaving - 1].pid() is None
    wait_for(lambda: len(kept(folder, 4, stream)) == len(stream.acknowledged))
    assert kept(folder, 4, stream) == stream.acknowledged
    for path in address_books(folder):
        if path.parent.name != f"node-{leaving}":
            text = path.read_text()
            assert f'4 = "{address}"' in text
            assert f"\n{leaving} = " not in text
    # Who was there before it hears it, and knows who is gone.
    told = wait_until_good(folder)
    assert [sorted(each["status"]["peers"]) for each in told["members"]] == [
        [str(other) for other in stays if other != member] for member in stays
    ]
    # The new one is needed now: of three, another one goes.
    absent = next(member for member in stays if member not in (4, told["primary"]))
    command("stop", folder, "--member", absent)
    # Before, the primary took the new one for silent, too, and said that there was no quorum.
    for _ in range(2):
        assert status(folder, code=1)["health"] == "degraded"
        time.sleep(SILENT_SECONDS)
    fresh = Stream(group(folder), stream.name)
    fresh.next_offset, fresh.hash = stream.next_offset, stream.hash
    fresh.append()
    fresh.close()
    stream.close()


def test_a_member_whose_disk_is_gone_gets_a_new_one_by_the_documented_command(folder):
    command("start", folder)
    stream = Stream(group(folder)).create()
    for _ in range(20):
        stream.append()
    lost = next(member for member in (1, 2, 3) if member != stream.session.primary)
    assert "runs; stop it first" in command("replace-disk", folder, lost, code=1)
    command("stop", folder, "--member", lost)
    shutil.rmtree(folder / f"node-{lost}/data")
    with appending(stream):
        assert "has a new disk" in command("replace-disk", folder, lost)
        assert status(folder)["health"] == "good"
    wait_for(lambda: len(kept(folder, lost, stream)) == len(stream.acknowledged))
    assert kept(folder, lost, stream) == stream.acknowledged
    # It counts: of three, another one goes.
    other = next(member for member in (1, 2, 3) if member not in (lost, status(folder)["primary"]))
    command("stop", folder, "--member", other)
    stream.append()
    stream.close()


def test_what_cannot_be_is_refused_before_anything_is_changed(folder):
    assert "has no primary" in command("add", folder, "--address", f"127.0.0.1:{free_port()}", code=1)
    command("start", folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.toml")}
    taken = read_config(folder / "node-2/node.toml").address
    assert "is a member's already" in command("add", folder, "--address", str(taken), code=2)
    assert "host:port" in command("add", folder, "--address", "nowhere", code=2)
    assert "there is no member 9" in command("remove", folder, 9, code=2)
    assert {path: path.read_bytes() for path in folder.rglob("*.toml")} == before


ADDRESS = Address("10.0.0.4", 7400)
TEXT = 'cluster = "x"\n\n[members]\n1 = "a:1"  # one\n2 = "b:2"\n'


def test_an_address_is_written_into_members_and_taken_out():
    added = with_address(TEXT, 4, ADDRESS)
    assert added == TEXT + '4 = "10.0.0.4:7400"\n'
    assert with_address(added, 4, None) == TEXT
    assert with_address(TEXT, 1, None) == TEXT.replace('1 = "a:1"  # one\n', "")
    assert with_address(TEXT.rstrip("\n"), 4, ADDRESS) == added
    behind = TEXT + "\n[other]\n4 = 1\n"
    assert with_address(behind, 4, ADDRESS) == TEXT + '4 = "10.0.0.4:7400"\n\n[other]\n4 = 1\n'


def test_a_file_of_another_form_is_left_alone_and_named(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('members = {1 = "a:1"}\n')
    assert not set_address(path, 1, Address("a", 1))
    with pytest.raises(ConfigurationError, match="by hand"):
        set_address(path, 4, ADDRESS)
    assert path.read_text() == 'members = {1 = "a:1"}\n'
