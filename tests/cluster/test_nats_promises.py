"""What is seen of a stream and its servers before anything is committed to it, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import logging
import threading
from dataclasses import replace

import nats as library
import pytest
from nats.js.api import DiscardPolicy, PersistMode, RetentionPolicy, StorageType, StreamConfig, StreamSource

import veritydb
from tests.cluster.machines import KEY
from veritydb.errors import ConfigurationError
from veritydb.nats.promises import look_up, stream_problem, sync_problem, version_problem

GOOD = StreamConfig(
    name="VERITYDB_clinic",
    subjects=["veritydb.clinic"],
    storage=StorageType.FILE,
    retention=RetentionPolicy.LIMITS,
    num_replicas=3,
    max_msgs=-1,
    max_bytes=-1,
    max_age=0,
    discard=DiscardPolicy.OLD,
)


def problem(**changed):
    return stream_problem(replace(GOOD, **changed), subject="veritydb.clinic", replicas=3)


def test_a_stream_that_keeps_everything_for_ever_in_files_of_enough_servers_is_a_log():
    assert problem() is None
    assert problem(num_replicas=5, max_bytes=1 << 40, discard=DiscardPolicy.NEW) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"storage": StorageType.MEMORY}, "memory"),
        ({"num_replicas": 1}, "1 servers keep it, and replicas=3"),
        ({"subjects": ["veritydb.clinic", "more"]}, "nothing else"),
        ({"subjects": ["veritydb.*"]}, "nothing else"),
        ({"mirror": StreamSource(name="x")}, "nothing else"),
        ({"sources": [StreamSource(name="x")]}, "nothing else"),
        ({"no_ack": True}, "no_ack"),
        ({"retention": RetentionPolicy.WORK_QUEUE}, "forgets"),
        ({"max_age": 60.0}, "forgets"),
        ({"allow_rollup_hdrs": True}, "forgets"),
        ({"max_msgs": 10}, "forgets"),
        ({"max_msgs_per_subject": 1}, "forgets"),
        ({"max_bytes": 1 << 20}, "forgets"),
        ({"persist_mode": PersistMode.ASYNC}, "not written"),
    ],
)
def test_a_stream_that_does_not_is_refused(changed, why):
    assert why in (problem(**changed) or "")


@pytest.mark.parametrize("version", ["2.10.0", "2.12.1", "3.0.0-beta", "v2.15.2", "<nats server v2.15.1>"])
def test_a_server_from_2_10_on_can_sync_before_it_acknowledges(version):
    assert version_problem(version) is None


@pytest.mark.parametrize("version", ["2.9.10", "1.0", "<nats server v2.9.10>", "0.0.0-unknown", "", "x"])
def test_an_older_one_cannot(version):
    assert "sync_interval came with 2.10" in (version_problem(version) or "")


@pytest.mark.parametrize(
    "answer", [{}, [], None, 5, {"config": {}}, {"config": {"sync_always": "yes"}}, {"config": [1]}]
)
def test_an_answer_that_does_not_say_always_is_none(answer):
    assert sync_problem(answer) is not None


class _Monitor(http.server.BaseHTTPRequestHandler):
    """Stands in for the monitoring of a server that is newer than Debian's."""

    answer = b""

    def do_GET(self):
        self.send_response(200 if self.path == "/jsz?config=1" else 404)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def monitor():
    server = http.server.HTTPServer(("127.0.0.1", 0), _Monitor)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_how_a_server_syncs_is_looked_up(monitor, monkeypatch):
    monkeypatch.setattr(_Monitor, "answer", json.dumps({"config": {"sync_always": True}}).encode())
    look_up([monitor])
    monkeypatch.setattr(_Monitor, "answer", json.dumps({"config": {"sync_interval": 120}}).encode())
    with pytest.raises(ConfigurationError, match="it is not configured with jetstream"):
        look_up([monitor])
    monkeypatch.setattr(_Monitor, "answer", b"{")
    with pytest.raises(ConfigurationError, match="it cannot be asked how it syncs"):
        look_up([monitor])
    with pytest.raises(ConfigurationError, match="it cannot be asked how it syncs"):
        look_up(["http://127.0.0.1:1"])


def test_the_real_server_does_not_sync_before_it_acknowledges_unless_it_is_told_to(nats):
    with pytest.raises(ConfigurationError, match="it is not configured with jetstream"):
        look_up([nats.monitor()])


def test_what_cannot_be_kept_is_refused_before_anything_is_written(nats, tmp_path, caplog):
    address = nats.address.replace("sync=interval", "sync=always")
    path = tmp_path / "clinic.db"
    with contextlib.ExitStack() as stack:
        if version_problem(nats.version()):
            stack.enter_context(
                pytest.raises(ConfigurationError, match=r"sync='always' is asked for, and the NATS serv")
            )
        with caplog.at_level(logging.WARNING):
            veritydb.connect(path, key=KEY, cluster=address, stream="always").close()
    assert (tmp_path / "clinic.db-log").exists() is ("cannot be seen" in caplog.text)
    with pytest.raises(ConfigurationError, match="sync='always' is asked for"):
        veritydb.connect(tmp_path / "b.db", key=KEY, cluster=f"{address}&monitors={nats.monitor()}", stream="always2")


def test_a_stream_that_somebody_else_has_made_otherwise_is_refused(nats, tmp_path):
    async def make():
        client = await library.connect(f"nats://127.0.0.1:{nats.ports[1]}")
        config = {"name": "VERITYDB_forgets", "subjects": ["veritydb.forgets"], "max_age": 60}
        await client.jetstream().add_stream(**config)
        await client.close()

    asyncio.run(make())
    with pytest.raises(ConfigurationError, match="stream VERITYDB_forgets in NATS cannot be a log: it forgets"):
        veritydb.connect(tmp_path / "clinic.db", key=KEY, cluster=nats.address, stream="forgets")
