"""A network for nodes, of the kernel's: each in a network namespace of its own, with a bridge between them.

What :class:`~tests.chaos.links.Links` does with relays, packet filters do here: packets vanish in one direction, with
their acknowledgements, and nobody hangs up. It takes root and iptables; :func:`permitted` says whether it can be had.
The run that uses it is itself in a namespace (``unshare --net``), so nothing of it is seen outside or stays behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable

from veritydb.cluster.config import Address

_NET = "10.77.0"
_PORT = 7400

Pairs = Iterable[tuple[int, int]]

# The kernel takes a namespace and its links away some time after its last process has ended: no name is used twice.
_numbers = itertools.count()


def permitted() -> bool:
    """Whether namespaces, links and packet filters can be made."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "nsenter", "ip", "iptables")):
        return False
    script = "ip link add try type bridge && ip link add t1 type veth peer name t2 && iptables -A INPUT -j DROP"
    return subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, check=False).returncode == 0


class Namespaces:
    """A namespace for each member."""

    def __init__(self, members: Iterable[int]) -> None:
        self.addresses = {member: Address(f"{_NET}.{member}", _PORT) for member in members}
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._number = next(_numbers)
        self._bridge = f"nodes{self._number}"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        bridge = self._bridge
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "address", "add", f"{_NET}.254/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for member in self.addresses:
            # A namespace lives as long as somebody is in it; the node comes and goes.
            holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo here; exec sleep infinity"], stdout=-1)
            self._holders[member] = holder
            assert holder.stdout is not None
            holder.stdout.readline()
            link, end = f"n{self._number}node{member}", f"n{self._number}end{member}"
            _run("ip", "link", "add", link, "type", "veth", "peer", "name", end)
            _run("ip", "link", "set", end, "netns", str(holder.pid))
            _run("ip", "link", "set", link, "master", bridge, "up")
            self._in(member, "ip", "address", "add", f"{_NET}.{member}/24", "dev", end)
            self._in(member, "ip", "link", "set", end, "up")
            self._in(member, "ip", "link", "set", "lo", "up")

    def inside(self, member: int) -> list[str]:
        """Return what a command begins with that runs where the member is."""
        return ["nsenter", f"--net=/proc/{self._holders[member].pid}/ns/net"]

    def cut(self, pairs: Pairs) -> None:
        """Have everything refused in these directions."""
        self._filter(pairs, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")

    def stop(self, pairs: Pairs) -> None:
        """Let what goes in these directions get lost."""
        self._filter(pairs, "-j", "DROP")

    def slow(self, pairs: Pairs, seconds: float) -> None:
        """Let every tenth packet get lost, which TCP makes up for in time: not every kernel has queues that delay."""
        self._filter(pairs, "-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP")

    def heal(self) -> None:
        """Mend everything."""
        for member in self.addresses:
            self._in(member, "iptables", "-F", "INPUT")

    def close(self) -> None:
        """End all of it."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()
            if holder.stdout is not None:
                holder.stdout.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "link", "delete", self._bridge)

    def _filter(self, pairs: Pairs, *rule: str) -> None:
        for source, target in pairs:
            self._in(target, "iptables", "-A", "INPUT", "-s", self.addresses[source].host, *rule)

    def _in(self, member: int, *command: str) -> None:
        _run(*self.inside(member), *command)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
