"""What a node says of itself while it runs: over HTTP, on the wire, in its log; and what it says when it cannot run."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.groups import PATIENCE, SLOTS, Cluster, Stream, cluster, free_port
from veritydb.cluster.asking import StatusLine, Unanswered
from veritydb.cluster.certificates import Role, issue
from veritydb.cluster.config import Address, read_config, read_secret
from veritydb.cluster.founding import format_member, found, read_authority
from veritydb.cluster.status import State
from veritydb.version import VERSION


def run(made: Cluster, member: int, *flags: str, environment: dict[str, str] | None = None, program: str = "") -> None:
    """Start a node, with flags, variables, or a program of its own around it."""
    command = ["-c", program] if program else ["-m", "veritydb"]
    with open(made.folder / f"node-{member}.out", "ab") as out:
        made.nodes[member] = subprocess.Popen(
            [sys.executable, *command, "node", "run", "--config", str(made.configs[member]), *flags],
            stdout=out,
            stderr=out,
            env=None if environment is None else {**_plain_environment(), **environment},
        )


def _plain_environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("VERITYDB_")}


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Ask a node over HTTP, as soon as it listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def ready(port: int) -> dict:
    return json.loads(get(port, "/readyz")[1])


def states(port: int) -> set[str]:
    return {found["state"] for found in ready(port)["degraded"]}


def wait_for(what, *arguments):
    """Wait until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what(*arguments)):
        assert time.monotonic() < deadline, arguments
        time.sleep(0.05)
    return found


def ended(made: Cluster, member: int) -> str:
    """Return what a node said last, having ended with code 1."""
    assert made.nodes.pop(member).wait(timeout=PATIENCE) == 1, made.output(member)
    lines = made.output(member).splitlines()
    assert "Traceback" not in made.output(member)
    return lines[-1]


@pytest.fixture
def three(tmp_path):
    """Three nodes, each with a port for HTTP."""
    with cluster(tmp_path / "cluster") as made:
        ports = {member: free_port() for member in made.configs}
        for member, port in ports.items():
            run(made, member, "--metrics", f"127.0.0.1:{port}")
        yield made, ports


def test_nodes_become_ready_and_say_what_is_wrong_when_others_are_gone(three):
    made, ports = three
    stream = Stream(made.group()).create()
    stream.append()
    for port in ports.values():
        wait_for(lambda port=port: get(port, "/readyz")[0] == 200)
        code, body = get(port, "/healthz")
        assert (code, json.loads(body)["alive"]) == (200, True)
    told = ready(ports[1])
    assert told["members"] == [1, 2, 3]
    assert told["version"] == VERSION
    primary = told["primary"]
    assert ready(ports[primary])["clients"] == 1
    assert ready(ports[primary])["streams"] == 1

    backup, other = (member for member in ports if member != primary)
    made.kill(backup)
    wait_for(lambda: states(ports[primary]) == {"peer_unreachable"})
    assert get(ports[primary], "/readyz")[0] == 200  # Two are enough.
    made.kill(other)
    wait_for(lambda: {"no_quorum", "peer_unreachable"} <= states(ports[primary]))
    code, body = get(ports[primary], "/readyz")
    assert code == 503
    assert not json.loads(body)["ready"]
    assert get(ports[primary], "/healthz")[0] == 200  # It lives, and nothing is better for killing it.
    made.start(other)
    wait_for(lambda: get(ports[primary], "/readyz")[0] == 200)
    stream.close()


def test_a_backup_names_its_primary_when_it_hears_nothing_of_it(three):
    made, ports = three
    wait_for(lambda: all(get(port, "/readyz")[0] == 200 for port in ports.values()))
    primary = ready(ports[1])["primary"]
    backup = next(member for member in ports if member != primary)
    for member in ports:
        if member != backup:
            made.nodes[member].send_signal(signal.SIGSTOP)
    try:
        found = wait_for(lambda: states(ports[backup]) & {"primary_unreachable", "no_primary"})
        assert get(ports[backup], "/readyz")[0] == 503
        assert found
    finally:
        for member in ports:
            made.nodes[member].send_signal(signal.SIGCONT)
    wait_for(lambda: get(ports[backup], "/readyz")[0] == 200)


def test_metrics_are_what_prometheus_reads_and_count_what_happens(three):
    made, ports = three
    stream = Stream(made.group()).create()
    for _ in range(20):
        stream.append()
    wait_for(lambda: get(ports[stream.session.primary], "/readyz")[0] == 200)
    code, text = get(ports[stream.session.primary], "/metrics")
    assert code == 200
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values[("veritydb_node_ready",)] == 1
    assert values[("veritydb_node_primary",)] == 1
    assert values[("veritydb_node_commit_op",)] >= 1
    assert values[("veritydb_node_request_seconds_count",)] >= 20
    assert values[("veritydb_node_flush_seconds_count",)] >= 20
    assert values[("veritydb_node_events_total", "committed ops")] >= 1
    assert values[("veritydb_node_process_resident_memory_bytes",)] > 1 << 20
    assert {labels[0] for name, *labels in values if name == "veritydb_node_degraded"} == {
        state.label for state in State
    }
    with socket.create_connection(made.config(stream.session.primary).address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.recv(100)
    wait_for(lambda: "refused: not TLS" in get(ports[stream.session.primary], "/metrics")[1])
    stream.close()


def test_only_what_there_is_can_be_asked_over_http(three):
    _, ports = three
    assert get(ports[1], "/")[0] == 404
    assert get(ports[1], "/metrics", "POST")[0] == 405
    assert get(ports[1], "/healthz", "HEAD") == (200, "")
    with socket.create_connection(("127.0.0.1", ports[1])) as garbage:
        garbage.sendall(b"\0" * 100_000)
        garbage.settimeout(PATIENCE)
        assert b"200" not in garbage.recv(1000)
    assert get(ports[1], "/healthz")[0] == 200


def test_a_node_says_how_it_is_on_the_wire_too(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        alone.start_all()
        Stream(alone.group()).create().close()

        async def ask():
            line = StatusLine(alone.group(), 1)
            first = await line.ask(PATIENCE)
            second = await line.ask(PATIENCE)
            await line.close()
            return first, second

        first, second = anyio.run(ask)
        assert first.document["ready"]
        assert first.document["streams"] == 1
        assert abs(first.clock_seconds) <= first.seconds  # It is this machine's clock.
        assert second.document["uptime"] > first.document["uptime"]

        alone.kill(1)
        with pytest.raises(Unanswered):
            anyio.run(ask)


def test_a_disk_that_fills_up_is_told_and_the_node_goes_on(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        port = free_port()
        run(alone, 1, "--metrics", f"127.0.0.1:{port}", "--disk-reserve", str(1 << 39))
        wait_for(lambda: states(port) == {"disk_nearly_full"})
        assert get(port, "/readyz")[0] == 200
        wait_for(lambda: 'degraded state=disk_nearly_full why="' in alone.output(1))


def test_flags_stand_over_variables_and_variables_over_the_file(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        ports = free_port(), free_port()
        environment = {"VERITYDB_NODE_METRICS": f"127.0.0.1:{ports[0]}", "VERITYDB_NODE_LOG_FORMAT": "json"}
        run(alone, 1, environment=environment)
        wait_for(lambda: get(ports[0], "/readyz")[0] == 200)
        assert json.loads(alone.output(1).splitlines()[0])["message"] == "listening"
        assert alone.stop(1) == 0
        run(alone, 1, "--metrics", f"127.0.0.1:{ports[1]}", "--log-format", "text", environment=environment)
        wait_for(lambda: get(ports[1], "/readyz")[0] == 200)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ports[0]))


def test_a_node_needs_no_file(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        config = alone.config()
        environment = {
            "VERITYDB_NODE_CLUSTER": config.cluster.hex(),
            "VERITYDB_NODE_MEMBER": "1",
            "VERITYDB_NODE_MEMBERS": f"1={config.address}",
            "VERITYDB_NODE_SLOTS": str(SLOTS),
        } | {
            f"VERITYDB_NODE_{name.upper()}": str(getattr(config, name))
            for name in ("data", "secret_file", "authority", "certificate", "key", "rights_file")
        }
        with open(tmp_path / "cluster/node-1.out", "ab") as out:
            alone.nodes[1] = subprocess.Popen(
                [sys.executable, "-m", "veritydb", "node", "run"],
                stderr=out,
                env={**_plain_environment(), **environment},
            )
        stream = Stream(alone.group()).create()
        stream.append()
        stream.close()


@pytest.mark.parametrize(
    ("flags", "environment", "why"),
    [
        (("--slots", "3"), {}, "--slots: slots is a number from 64 to 65536, not 3"),
        (("--slots", "many"), {}, "--slots: slots is a number, not 'many'"),
        (("--metrics", "here"), {}, "--metrics: an address is host:port, not 'here'"),
        (("--members", "1"), {}, "--members: members are named as 1=host:port,2=host:port"),
        (("--log-level", "loud"), {}, "--log-level: log_level is one of debug, info, warning, error, not 'loud'"),
        ((), {"VERITYDB_NODE_SLOTS": "3"}, "VERITYDB_NODE_SLOTS: slots is a number from 64 to 65536, not 3"),
        ((), {"VERITYDB_NODE_SLOT": "3"}, "VERITYDB_NODE_SLOT: there is no setting 'slot'; known are "),
        (("--member", "7"), {}, "member = 7 is none of the members 1"),
    ],
)
def test_a_mistake_is_told_with_the_way_it_came(tmp_path, flags, environment, why):
    with cluster(tmp_path / "cluster", 1) as alone:
        run(alone, 1, *flags, environment=environment)
        assert alone.nodes.pop(1).wait(timeout=PATIENCE) != 0
        (line,) = alone.output(1).splitlines()
        assert why in line


def test_an_unknown_key_in_the_file_ends_in_one_line(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        path = alone.configs[1]
        path.write_text("metricks = 1\n" + path.read_text())
        alone.start(1)
        assert alone.nodes.pop(1).wait(timeout=PATIENCE) != 0
        (line,) = alone.output(1).splitlines()
        assert f"{path}: there is no setting 'metricks'; known are " in line


def test_an_address_that_is_taken_ends_in_one_line(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run(alone, 1, "--metrics", f"127.0.0.1:{port}")
        assert f"node 1 cannot run: 127.0.0.1:{port} is taken: another process listens there" in ended(alone, 1)
        run(alone, 1, "--listen", f"127.0.0.1:{port}")
        assert f"node 1 cannot run: 127.0.0.1:{port} is taken: another process listens there" in ended(alone, 1)
        run(alone, 1, "--listen", "192.0.2.1:7400")
        assert "192.0.2.1:7400 cannot be listened on: Cannot assign requested address" in ended(alone, 1)
        run(alone, 1, "--listen", f"127.0.0.1:{port}", "--log-format", "json")
        told = json.loads(ended(alone, 1))
        assert told["level"] == "critical"
        assert "is taken" in told["why"]


def test_data_of_another_cluster_or_member_ends_in_one_line(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        found(tmp_path / "other", {1: Address("127.0.0.1", free_port())}, slots=SLOTS)
        run(alone, 1, "--data", str(tmp_path / "other/node-1/data"))
        assert "node 1 cannot run: the files are of another cluster or member" in ended(alone, 1)
        run(alone, 1, "--data", str(tmp_path / "nowhere"))
        assert f"node 1 cannot run: there is no member's disk in {tmp_path / 'nowhere'}" in ended(alone, 1)
        run(alone, 1)
        wait_for(lambda: "listening" in alone.output(1))
        first = alone.nodes[1]
        run(alone, 1)
        assert f"node 1 cannot run: another process uses {alone.config().data}/replica" in ended(alone, 1)
        alone.nodes[1] = first


def test_a_journal_of_another_size_ends_in_one_line(tmp_path):
    """Before, a node looked for its ops at other places than they were written to, and took part."""
    with cluster(tmp_path / "cluster") as made:
        for slots in (SLOTS // 2, SLOTS * 2):
            run(made, 3, "--slots", str(slots))
            assert re.search(rf"slots = {slots}, and the disk in \S+ was made with {SLOTS}", ended(made, 3))
        port = free_port()
        run(made, 1, "--metrics", f"127.0.0.1:{port}")
        run(made, 2)
        wait_for(lambda: get(port, "/readyz")[0] == 200)
        shutil.rmtree(made.config(3).data / "replica")
        config = made.config(3)
        format_member(config.data / "replica", config.cluster, 3, (1, 2, 3), slots=2 * SLOTS)
        run(made, 3, "--slots", str(2 * SLOTS))
        assert f"slots = {2 * SLOTS} here and {SLOTS} at member " in ended(made, 3)


def test_a_certificate_that_the_others_would_not_take_ends_in_one_line(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone:
        found(tmp_path / "other", {1: Address("127.0.0.1", free_port())}, slots=SLOTS)
        mine, other = alone.folder, tmp_path / "other"
        long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=5000)
        old = issue(read_authority(mine), "member-1", long_ago, role=Role.MEMBER)
        (mine / "old.crt").write_bytes(old.certificate)
        (mine / "old.key").write_bytes(old.key)
        for certificate, key, why in (
            (other / "node-1/member-1.crt", other / "node-1/member-1.key", "certificate signature failure"),
            (mine / "client/client.crt", mine / "client/client.key", "unsuitable certificate purpose"),
            (mine / "old.crt", mine / "old.key", "certificate has expired"),
        ):
            run(alone, 1, "--certificate", str(certificate), "--key", str(key))
            line = ended(alone, 1)
            assert f"node 1 cannot run: the other members would not take {certificate}: " in line
            assert why in line or "unable to get local issuer" in line


_WRONG_CLOCK = """
import sys, time
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + {seconds}
time.time_ns = lambda: right_ns() + {seconds} * 10**9
from veritydb.cli import main
main()
"""


def test_a_node_whose_clock_is_far_off_does_not_start(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        port = free_port()
        run(made, 1, "--metrics", f"127.0.0.1:{port}")
        run(made, 2)
        wait_for(lambda: get(port, "/readyz")[0] == 200)
        for seconds, what in ((3600, "ahead of"), (-3600, "behind")):
            run(made, 3, program=_WRONG_CLOCK.format(seconds=seconds))
            line = ended(made, 3)
            assert re.search(
                rf"node 3 cannot run: this machine's clock is 3[56]\d\d\.\d s {what} those of 2 other members; "
                r"clock_limit is 5 s",
                line,
            )
        run(made, 3, "--clock-limit", "7200", program=_WRONG_CLOCK.format(seconds=3600))
        wait_for(lambda: "peer_unreachable" not in states(port))


def test_two_clocks_that_disagree_are_told_and_nobody_is_kept_out(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        port = free_port()
        run(made, 1, "--metrics", f"127.0.0.1:{port}")
        wait_for(lambda: get(port, "/healthz")[0] == 200)
        run(made, 2, program=_WRONG_CLOCK.format(seconds=3600))
        wait_for(lambda: states(port) == {"clocks_disagree", "peer_unreachable"})
        assert get(port, "/readyz")[0] == 200


def test_a_second_process_as_the_same_member_does_not_start(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        port = free_port()
        run(made, 1, "--metrics", f"127.0.0.1:{port}")
        run(made, 2)
        run(made, 3)
        wait_for(lambda: get(port, "/readyz")[0] == 200)
        third = made.nodes[3]
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "cluster/node-3", copy)
        run(made, 3, "--data", str(copy / "data"), "--listen", f"127.0.0.1:{free_port()}")
        line = ended(made, 3)
        made.nodes[3] = third
        assert re.search(r"node 3 cannot run: another process runs as member 3: member \d hears it now", line)
        assert third.poll() is None


_NEXT_VERSION = """
from veritydb.vsr import wire
wire.VERSION = 2
from veritydb.cli import main
main()
"""


def test_a_node_that_speaks_another_version_of_the_protocol_ends_and_the_others_go_on(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        port = free_port()
        run(made, 1, "--metrics", f"127.0.0.1:{port}")
        run(made, 2)
        wait_for(lambda: get(port, "/readyz")[0] == 200)
        run(made, 3, program=_NEXT_VERSION)
        line = ended(made, 3)
        assert "the other members speak another version of the protocol" in line
        assert "(1; this program reads 2)" in line
        assert get(port, "/readyz")[0] == 200


def test_no_secret_is_in_any_log(tmp_path):
    with cluster(tmp_path / "cluster") as made:
        for member in made.configs:
            run(made, member, "--log-level", "debug", "--log-format", "json")
        stream = Stream(made.group()).create()
        body = b"Mrs Example, 1970"
        stream.append()
        wait_for(lambda: "listening" in made.output(1))
        with socket.create_connection(made.config().address) as stranger:
            stranger.sendall(b"GET /?key=hunter2 HTTP/1.1\r\n\r\n" + body)
            stranger.recv(100)
        for member in made.configs:
            assert made.stop(member) == 0
            output = made.output(member)
            for line in output.splitlines():
                assert json.loads(line)["member"] == member
            config = read_config(made.configs[member])
            for secret in (
                read_secret(config.secret_file).hex(),
                read_secret(made.folder / "client/client.secret").hex(),
                config.key.read_text().splitlines()[1],
                "hunter2",
                "Example",
            ):
                assert secret not in output
        stream.close()


def test_a_primary_that_is_asked_to_stop_hands_over_first(three):
    made, ports = three
    stream = Stream(made.group()).create()
    stream.append()
    wait_for(lambda: all(get(port, "/readyz")[0] == 200 for port in ports.values()))
    primary = stream.session.primary
    assert made.stop(primary) == 0
    assert "stepped down" in made.output(primary)
    stream.append()
    others = [member for member in ports if member != primary]
    assert {ready(ports[member])["primary"] for member in others} <= set(others)
    stream.close()


def test_a_service_manager_is_told_when_the_node_listens(tmp_path):
    with cluster(tmp_path / "cluster", 1) as alone, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        run(alone, 1, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(100) == b"READY=1"
        socket.create_connection(alone.config().address).close()
