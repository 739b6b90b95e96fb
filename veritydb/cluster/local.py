"""The members of a cluster whose folders are on this machine, as processes that outlive whoever starts them.

Beside each ``node.toml`` are ``node.pid`` and ``node.log``. The pid file is locked by the node itself, which inherits
the lock from who starts it and has it until it ends, however it ends: so a number that is left over is known to be
nobody's, and two starts at once are one.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from veritydb.cluster.config import NodeConfig, read_config
from veritydb.errors import ConfigurationError, OperationalError

STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


class LocalMember:
    """One member's folder."""

    def __init__(self, config: Path) -> None:
        """Raises ConfigurationError."""
        self.path = config
        self.config: NodeConfig = read_config(config)
        self.member = self.config.member
        self.log = config.parent / "node.log"
        self._pid_file = config.parent / "node.pid"

    def pid(self) -> int | None:
        """Return the process that runs this member, if :meth:`start` has started one and it still runs."""
        try:
            fd = os.open(self._pid_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return None if _lock(fd) else int(os.read(fd, 32) or 0) or None
        finally:
            os.close(fd)

    def start(self) -> bool:
        """Start its process; False if it runs already. The process may still find that it cannot run."""
        with open(self.log, "ab") as log:
            process = self._spawn(log)
        if process is None:
            return False
        process.returncode = 0  # It is to outlive us: nobody waits for it.
        return True

    def run(self) -> subprocess.Popen[bytes] | None:
        """Start its process as the caller's own, which says what it says where he does; None if it runs already."""
        return self._spawn()

    def _spawn(self, log: IO[bytes] | None = None) -> subprocess.Popen[bytes] | None:
        fd = os.open(self._pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(fd):
                return None
            os.ftruncate(fd, 0)
            command = [sys.executable, "-m", "veritydb", "node", "run", "--config", str(self.path)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(fd,),
                start_new_session=log is not None,  # Then Control-C here is not meant for it.
            )
            os.pwrite(fd, f"{process.pid}\n".encode(), 0)
            return process
        finally:
            os.close(fd)

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Ask it to end, and wait until it has; False if it did not run. Raises OperationalError if it goes on."""
        pid = self.pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.pid() == pid:
            _reap(pid)
            if time.monotonic() > deadline:
                raise OperationalError(f"member {self.member} (process {pid}) has not ended after {seconds:g} s")
            time.sleep(_POLL_SECONDS)
        return True

    def last_words(self) -> str:
        """Return the last line of its log."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def members_in(folder: Path) -> list[LocalMember]:
    """Return the members whose folders are here. Raises ConfigurationError if there are none."""
    members = [LocalMember(path) for path in folder.glob("node-*/node.toml")]
    if not members:
        raise ConfigurationError(f"{folder} holds no cluster; veritydb cluster init {folder} makes one")
    return sorted(members, key=lambda one: one.member)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reap(pid: int) -> None:
    """If it is a child of ours, let it go: a long-lived program may start and stop members, too."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
