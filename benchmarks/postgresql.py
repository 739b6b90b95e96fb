"""A PostgreSQL of one's own for a benchmark, where Debian's package and psycopg are there."""

from __future__ import annotations

import getpass
import glob
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def missing() -> str | None:
    """Return what is missing; None if it can be measured."""
    try:
        import psycopg as _  # noqa: F401  whether it is there
    except ImportError:
        return "psycopg (with libpq) is not installed"
    return None if glob.glob("/usr/lib/postgresql/*/bin/initdb") else "PostgreSQL is not installed"


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a server with its data below ``folder``, on a socket there and nowhere else; yield what to connect to."""
    home = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    place = folder / "postgresql"
    place.mkdir()
    # It refuses to run as root.
    root = os.geteuid() == 0
    user = "postgres" if root else getpass.getuser()
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": "/"}
    if root:
        shutil.chown(place, user)
        for each in [place, *place.parents][:-1]:
            each.chmod(each.stat().st_mode | 0o011)
        options |= {"user": user, "extra_groups": []}
    data = place / "data"
    subprocess.run([home / "initdb", "-D", data, "-A", "trust", "-U", user], check=True, **options)
    settings = f"-k {place} -c listen_addresses= -c wal_level=logical -c max_wal_senders=4"
    subprocess.run([home / "pg_ctl", "-D", data, "-w", "-o", settings, "start"], check=True, **options)
    try:
        yield f"host={place} user={user} dbname=postgres"
    finally:
        subprocess.run([home / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, **options)
