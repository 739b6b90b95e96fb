"""Streams are listed, created and dropped: from the command line, on real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.cluster.groups import PATIENCE, Stream, cluster
from veritydb import NotPermitted, kernel
from veritydb.cluster.config import read_client_config
from veritydb.cluster.directory import Directory, Place
from veritydb.cluster.naming import stream_id
from veritydb.errors import ConfigurationError
from veritydb.log import Log


@pytest.fixture
def three(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        made.start_all()
        yield made


def streams(made, *arguments, as_="admin", good=True):
    ended = subprocess.run(
        [sys.executable, "-m", "veritydb", "streams", *arguments, "--cluster", made.folder / as_, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.returncode == 0) == good, ended
    return json.loads(ended.stdout if good else ended.stderr)


def wait_for(truth):
    deadline = time.monotonic() + PATIENCE
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_stream_is_created_listed_written_and_dropped(three):
    group = three.group()
    clinic = stream_id(group.cluster, "clinic")
    made = streams(three, "create", "clinic", "--class", "phi", "--region", "eu-1", as_="client")
    assert made == {"name": "clinic", "id": clinic.hex(), "class": "phi", "region": "eu-1", "existed": False}
    assert streams(three, "create", "clinic", "--class", "phi", "--region", "eu-1", as_="client")["existed"]
    other = streams(three, "create", "clinic", "--class", "phi", "--region", "eu-2", as_="client", good=False)
    assert "another placement" in other["message"]

    stream = Stream(group, clinic)
    for _ in range(3):
        stream.append()
    (listed,) = streams(three, "list", as_="client")["streams"]
    assert (listed["name"], listed["transactions"], listed["region"]) == ("clinic", 3, "eu-1")
    assert listed["hash"] == stream.hash.hex()
    assert listed["dropped"] is None

    refused = streams(three, "drop", "clinic", "--yes", as_="client", good=False)
    assert refused["error"] == "NotPermitted"
    assert streams(three, "drop", "clinic", "--yes") == {"name": "clinic", "id": clinic.hex(), "transactions": 3}
    reply = stream.session.send(kernel.encode_append((), stream.record()), timeout=PATIENCE)
    assert reply == kernel.Refused(kernel.Refusal.STREAM_DROPPED)
    assert stream.session.read_head(clinic, timeout=PATIENCE) is None
    assert streams(three, "list")["streams"] == []
    (listed,) = streams(three, "list", "--all")["streams"]
    assert listed["dropped"]
    assert "not used again" in streams(three, "create", "clinic", "--class", "non-phi", good=False)["message"]
    assert "no stream other" in streams(three, "drop", "other", "--yes", good=False)["message"]
    stream.close()

    for member in three.configs:
        folder = three.config(member).data
        wait_for((folder / "dropped" / clinic.hex()).is_dir)
        log = Log.open(folder / "dropped" / clinic.hex(), read_only=True)
        assert [record.hash for record in log.records()] == stream.acknowledged
        log.close()
        assert not (folder / "streams" / clinic.hex()).exists()


def test_a_node_that_was_away_when_a_stream_was_dropped_sets_it_aside_too(three):
    """By a snapshot: it never hears of the op that dropped it. And it does not wait for records nobody has any more."""
    streams_ = [Stream(three.group()).create() for _ in range(2)]
    gone, stays = streams_
    gone.append()
    absent = next(member for member in (1, 2, 3) if member != gone.session.primary)
    wait_for((three.config(absent).data / "streams" / gone.name.hex() / "marker").exists)
    three.kill(absent)
    admin = Directory.of(read_client_config(three.folder / "admin"))
    for _ in range(10):
        gone.append()
    assert admin.drop(gone.name.hex()).next_offset == 11
    for _ in range(600):  # More than the journals hold.
        stays.append()
    three.start(absent)
    folder = three.config(absent).data
    deadline = time.monotonic() + PATIENCE
    while not (folder / "dropped" / gone.name.hex()).is_dir():
        assert time.monotonic() < deadline, three.output(absent)
        stays.append()
        time.sleep(0.05)
    log = Log.open(folder / "dropped" / gone.name.hex(), read_only=True)
    kept = [record.hash for record in log.records()]
    log.close()
    assert kept == gone.acknowledged[: len(kept)]
    for member in (1, 2, 3):  # One at a time: each goes on without its predecessor's memory.
        assert three.stop(member) == 0
        three.start(member)
        stays.append()
    admin.close()
    for stream in streams_:
        stream.close()


def test_streams_are_listed_page_by_page_and_by_their_names_only_if_those_are_theirs(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        alone.start_all()
        directory = Directory.of(read_client_config(alone.folder / "client"))
        for number in range(40):
            directory.create(f"clinic-{number}", kernel.Placement(kernel.DataClass.NON_PHI, ""))
        directory.create("00112233445566778899aabbccddeeff", kernel.Placement(kernel.DataClass.NON_PHI, ""))
        (place,) = directory._places
        pretender = kernel.CreateStream(bytes([9]) * 16, kernel.Placement(kernel.DataClass.NON_PHI, ""), "clinic-1")
        assert isinstance(place.session.command(pretender, timeout=PATIENCE), kernel.Created)
        names = [entry.name for entry in directory]
        assert names == [f"clinic-{number}" for number in range(40)] + [None, None]
        assert directory.find("clinic-7").name == "clinic-7"
        assert directory.find("clinic-40") is None
        with pytest.raises(NotPermitted):
            directory.drop("clinic-1")
        directory.close()


def test_a_stream_goes_where_its_region_is():
    anywhere = Place(bytes(16), None, frozenset())
    europe = Place(bytes(16), None, frozenset({"eu-1", "eu-2"}))
    phi = kernel.Placement(kernel.DataClass.PHI, "eu-2")
    assert Directory([anywhere]).place_for(phi) is anywhere
    assert Directory([europe]).place_for(phi) is europe
    america = Place(bytes(16), None, frozenset({"us-1"}))
    assert Directory([america, europe]).place_for(phi) is europe
    assert Directory([america, europe]).place_for(kernel.Placement(kernel.DataClass.NON_PHI, "")) is america
    with pytest.raises(ConfigurationError, match=r"no group keeps data in 'ap-1', only in eu-1, eu-2"):
        Directory([europe]).place_for(phi._replace(region="ap-1"))
    with pytest.raises(ConfigurationError, match="must name the region"):
        Directory([europe]).place_for(phi._replace(region=""))


def test_without_a_cluster_one_line_says_so(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "veritydb", "streams", "list", "--cluster", tmp_path / "none"],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 2
    assert "there is no client's folder" in ended.stderr
