"""Nodes whose disks become slow or full and whose clocks jump (:mod:`tests.chaos.node`), on a network that fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.chaos.links import Links
from tests.chaos.namespaces import Namespaces
from tests.cluster.groups import Cluster

SMALL = 96
"""MiB of the disk that becomes full."""


class SpoiledCluster(Cluster):
    """Three nodes. ``network`` is what can be cut between them."""

    def __init__(self, folder: Path, *, namespaces: bool) -> None:
        self._spaces = Namespaces((1, 2, 3)) if namespaces else None
        super().__init__(folder, addresses=self._spaces.addresses if self._spaces is not None else None)
        self.network: Links | Namespaces
        if self._spaces is not None:
            self.network = self._spaces
        else:
            self.network = Links({member: self.config(member).address for member in self.configs})
            self._rewire(self.network)
        self._mounted: Path | None = None

    def program(self, member: int) -> list[str]:
        inside = self._spaces.inside(member) if self._spaces is not None else []
        return [*inside, sys.executable, "-m", "tests.chaos.node", str(self.home(member))]

    def home(self, member: int) -> Path:
        """Return a member's folder."""
        return self.configs[member].parent

    def spoil(self, member: int, **how: float) -> None:
        """Have the syncs of a member take ``slow`` seconds longer, or its ``clock`` be so many wrong."""
        for name, value in how.items():
            (self.home(member) / name).write_text(str(value))

    def mount_small(self, member: int) -> bool:
        """Put a member's data on a disk of its own, in memory, which can become full. False: not permitted."""
        data, before = self.config(member).data, self.home(member) / "data.before"
        data.rename(before)
        data.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "none", str(data)]
        if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
            data.rmdir()
            before.rename(data)
            return False
        self._mounted = data
        subprocess.run(["cp", "-a", "--sparse=always", f"{before}/.", str(data)], check=True)
        shutil.rmtree(before)
        return True

    def fill(self) -> bool:
        """Fill that disk. False: there is none, or it is full."""
        if self._mounted is None or self._filler.exists():
            return False
        with open(self._filler, "wb") as file:
            while size := _free(self._mounted):
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                except OSError as error:
                    # The node has taken some of it meanwhile.
                    if error.errno != errno.ENOSPC:
                        raise
                else:
                    break
        return True

    def mend(self) -> None:
        """Mend everything, and start who has ended."""
        self.network.heal()
        if self._mounted is not None:
            self._filler.unlink(missing_ok=True)
        for member in self.configs:
            for name in ("slow", "clock"):
                (self.home(member) / name).unlink(missing_ok=True)
        self.start_ended()

    def start_ended(self) -> None:
        """Start those who have ended: by a kill, by themselves because a write failed, or because a clock was wrong."""
        for member in self.configs:
            node = self.nodes.get(member)
            if node is None or node.poll() is not None:
                self.start(member)

    def close(self) -> None:
        super().close()
        self.network.close()
        if self._mounted is not None:
            subprocess.run(["umount", "--lazy", str(self._mounted)], check=False)

    @property
    def _filler(self) -> Path:
        assert self._mounted is not None
        return self._mounted / "filler"

    def _rewire(self, links: Links) -> None:
        """Tell each member that the others are behind the cables."""
        for (source, target), link in links.links.items():
            path = self.configs[source]
            path.write_text(path.read_text().replace(f'{target} = "{link.target}"', f'{target} = "{link.address}"'))


def _free(folder: Path) -> int:
    """Return how many bytes a file in ``folder`` can get."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
