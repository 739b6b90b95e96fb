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


@contextmanager
def replicated(folder: Path) -> Iterator[str]:
    """Run a primary and two standbys, of which one has to have a commit on disk; yield what to connect to."""
    home = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    with server(folder) as told:
        place = folder / "postgresql"
        user = told.split("user=")[1].split()[0]
        options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": "/"}
        if os.geteuid() == 0:
            options |= {"user": user, "extra_groups": []}
        started: list[Path] = []
        try:
            for name in ("s1", "s2"):
                data, sockets = place / name, place / f"{name}-sockets"
                sockets.mkdir()
                if os.geteuid() == 0:
                    shutil.chown(sockets, user)
                source = f"{told.replace('dbname=postgres', '')} application_name={name}"
                subprocess.run(
                    [home / "pg_basebackup", "-D", data, "-R", "-d", source, "-X", "stream", "-c", "fast"],
                    check=True,
                    **options,
                )
                settings = f"-k {sockets} -c listen_addresses="
                subprocess.run([home / "pg_ctl", "-D", data, "-w", "-o", settings, "start"], check=True, **options)
                started.append(data)
            import psycopg

            with psycopg.connect(told, autocommit=True) as db:
                db.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (s1, s2)'")
                db.execute("SELECT pg_reload_conf()")
            yield told
        finally:
            for data in started:
                subprocess.run([home / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=False, **options)
