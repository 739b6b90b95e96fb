"""docs/guides/nodes.md is followed: first on one machine, then on three, which are folders here, with the unit's own
command, variables and folders in place of systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.groups import PATIENCE, Stream, free_port
from tests.cluster.test_cluster_health import get, ready, wait_for
from tests.test_guides import ROOT, blocks
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import SETTINGS, read_client_config, read_config
from veritydb.cluster.local import members_in

GUIDE = "docs/guides/nodes.md"
UNIT = ROOT / "examples/cluster/veritydb-node.service"


def commands(containing: str) -> list[str]:
    """Return the commands of the one block that has some text in it."""
    (block,) = [text for language, text in blocks(GUIDE) if language == "console" and containing in text]
    return [line[2:] for line in block.splitlines() if line.startswith(("$ ", "# "))]


def shell(line: str, folder: Path, **variables: str) -> str:
    """Type a command; it has to end well."""
    done = typed(line, folder, **variables)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def typed(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Type a command."""
    veritydb = f'veritydb() {{ "{sys.executable}" -m veritydb "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", veritydb + line],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )


def test_a_cluster_on_one_machine(tmp_path):
    init, start, status = commands("veritydb cluster start")
    ports = [free_port() for _ in range(3)]
    shell(init + "".join(f" --address 127.0.0.1:{port}" for port in ports), tmp_path)
    try:
        (block,) = [text for _, text in blocks(GUIDE) if "veritydb cluster start" in text]
        assert shell(start, tmp_path) in block
        wait_for(lambda: "health good" in typed(status, tmp_path).stdout)  # A busy machine may change views once more.
        shell("veritydb cluster stop cluster", tmp_path)
    finally:
        for one in members_in(tmp_path / "cluster"):
            pid = one.pid()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)


class Machine:
    """A folder that stands for a machine: its /etc and /var, and what systemd would run there."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.metrics = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def here(self, text: str) -> str:
        """Say a path of a machine as one of this folder."""
        for place in ("/etc/veritydb", "/var/lib/veritydb", "/etc/systemd/system"):
            text = text.replace(place, str(self.folder / place[1:]))
        return text

    def start(self) -> None:
        """Run what the unit says, and wait until it says that it has started."""
        unit = self.here((self.folder / "etc/systemd/system/veritydb-node.service").read_text())
        told = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
        told["VERITYDB_NODE_METRICS"] = f"127.0.0.1:{self.metrics}"
        assert "Type=notify" in unit
        (line,) = re.findall(r"^ExecStart=/usr/local/veritydb/bin/veritydb (.*)$", unit, re.MULTILINE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, open(self.folder / "out", "ab") as out:
            notify = self.folder / "notify"
            notify.unlink(missing_ok=True)
            manager.bind(str(notify))
            manager.settimeout(PATIENCE)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "veritydb", *line.split()],
                cwd=self.folder,
                env={**os.environ, **told, "NOTIFY_SOCKET": str(notify)},
                stderr=out,
            )
            assert manager.recv(100) == b"READY=1"

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(timeout=PATIENCE) == 0
        self.process = None


def test_a_cluster_on_three_machines(tmp_path):
    (init,) = commands("--address 10.0.0.1:7400")
    for address in ("10.0.0.1:7400", "10.0.1.1:7400", "10.0.2.1:7400"):
        assert address in init
        init = init.replace(address, f"127.0.0.1:{free_port()}")
    shell(init, tmp_path)
    shutil.copytree(tmp_path / "cluster/admin", tmp_path / "admin")
    shutil.copy(UNIT, tmp_path)
    machines = [Machine(tmp_path / f"machine-{number}", number) for number in (1, 2, 3)]
    try:
        for machine in machines:
            machine.folder.mkdir()
            shutil.move(tmp_path / f"cluster/node-{machine.number}", machine.folder)
            shutil.copy(UNIT, machine.folder)
            (machine.folder / "etc/systemd/system").mkdir(parents=True)
            for line in commands("useradd"):
                if line.startswith(("install", "cp")):
                    line = line.replace("-o veritydb -g veritydb", "").replace("node-N", f"node-{machine.number}")
                    shell(machine.here(line), machine.folder)
            machine.start()
            (_, look) = commands("systemctl enable")
            look = look.replace("http://127.0.0.1:7410", f"http://127.0.0.1:{machine.metrics}")
            if machine.number == 1:
                assert '"no_primary"' in shell(look, tmp_path)
        for machine in machines:
            wait_for(lambda machine=machine: get(machine.metrics, "/readyz")[0] == 200)
        status, as_json = commands("--json; echo $?")
        wait_for(lambda: "health good" in typed(status, tmp_path).stdout)  # A busy machine may change views once more.
        assert shell(as_json, tmp_path).endswith("}\n0\n")

        stream = Stream(group_of(read_client_config(tmp_path / "admin"))).create()
        stream.append()
        primary = ready(machines[0].metrics)["primary"]
        (_, until) = commands("until curl")
        for machine in sorted(machines, key=lambda one: one.number == primary):
            machine.stop()
            machine.start()
            shell(until.replace("127.0.0.1:7410", f"127.0.0.1:{machine.metrics}"), tmp_path)
            wait_for(lambda: "health good" in shell(f"{status} --once || true", tmp_path))
            stream.append(timeout=10.0)
        stream.close()

        (client,) = commands("cluster client")
        assert "then kill -HUP the node" in shell(client, tmp_path)
        for machine in machines:
            machine.stop()
    finally:
        for machine in machines:
            if machine.process is not None:
                machine.process.kill()
                machine.process.wait()


def test_the_unit_and_the_container_name_settings_that_there_are():
    unit = UNIT.read_text()
    container = (ROOT / "examples/cluster/Containerfile").read_text()
    named = set(re.findall(r"VERITYDB_NODE_([A-Z_]+)=", unit + container))
    assert named - {"CONFIG"} <= {name.upper() for name in SETTINGS}
    assert "DATA" in named
    (path,) = set(re.findall(r"/etc/veritydb/node\.toml", unit))
    assert path in container


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd to ask")
def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path / "veritydb-node.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/veritydb/bin/veritydb", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert str(unit.name) not in done.stderr, done.stderr


def test_what_the_guide_calls_a_folder_of_a_member_is_one(tmp_path):
    shell("veritydb cluster init cluster", tmp_path)
    for number in (1, 2, 3):
        config = read_config(tmp_path / f"cluster/node-{number}/node.toml")
        assert config.member == number
        for path in (config.secret_file, config.authority, config.certificate, config.key, config.rights_file):
            assert path is not None
            assert path.parent == tmp_path / f"cluster/node-{number}"
            assert path.suffix in (".crt", ".key", ".toml") or path.name == "secret"
    assert "authority.key" in {path.name for path in (tmp_path / "cluster").iterdir()}
