"""A copy of a cluster's stream, served: kept current by a connection of the server's own, and asked about.

The log beside such a database is this machine's copy. What brings it what others commit is the follower of an open
connection, so the server keeps one. How far the stream is, and who is there, the nodes are asked; a server without the
cluster at hand serves the copy as it is, and says so.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from veritydb.connection import Connection
from veritydb.errors import ConfigurationError, GroupUnavailable
from veritydb.sse.health import LocalQuorum, Quorum
from veritydb.streams import SHARED_FILE

SECONDS = 2.0
"""For the cluster to say how far it is."""
CONNECT_SECONDS = 0.5
"""For a node to take a connection."""
FRESH_SECONDS = 2.0
"""For which it is remembered which nodes did."""


class Clustered:
    """The quorum of a shared stream, and what keeps its copy here current. Thread-safe; :meth:`close` it."""

    def __init__(self, path: Path, folder: Path, cluster: str, key: Any, register: Any = None) -> None:
        """Raises ConfigurationError, GroupUnavailable, LogMismatch, KeyProblem."""
        # Not above: most servers have no cluster, and not the packages that one needs.
        try:
            from veritydb.cluster.client import Client
            from veritydb.cluster.reaching import shared_stream
        except ImportError as error:
            raise ConfigurationError(
                f"{path} is a copy of a stream that a cluster keeps, and a cluster needs more than is installed "
                f"({error.name}): pip install 'veritydb[server,cluster]'; nothing was started"
            ) from error
        told = json.loads((folder / SHARED_FILE).read_text(encoding="utf-8"))
        self._name = str(told["name"])
        self._stream = bytes.fromhex(told["stream"])
        self._client = shared_stream(cluster, self._name, str(path)).client
        self._members = list(self._client.group.members.values()) if isinstance(self._client, Client) else None
        """None: the stream is in NATS, whose servers are asked nothing here."""
        self._db = Connection(str(path), key=key, cluster=cluster, stream=self._name, check_same_thread=False)
        self._local = LocalQuorum()
        self._reached = 0
        self._looked = -FRESH_SECONDS

    def __call__(self, folder: Path) -> Quorum:
        """Return how far the stream is agreed, and how many nodes take connections. Raises Error, OSError."""
        try:
            end = self._client.end(self._stream, timeout=SECONDS)
            durable, agreed = (-1 if end is None else end[0] - 1), True
        except GroupUnavailable:
            durable, agreed = self._local(folder).durable, False
        members = self._members
        if members is None:
            return Quorum(members=None, needed=None, reached=None, durable=durable, stream=self._name)
        needed = len(members) // 2 + 1
        if time.monotonic() - self._looked > FRESH_SECONDS:
            with concurrent.futures.ThreadPoolExecutor(len(members)) as pool:
                self._reached = sum(pool.map(_takes_connections, members))
            self._looked = time.monotonic()
        # Nodes that take connections and do not agree are no quorum.
        reached = max(self._reached, needed) if agreed else min(self._reached, needed - 1)
        return Quorum(members=len(members), needed=needed, reached=reached, durable=durable, stream=self._name)

    def close(self) -> None:
        """Keep the copy current no longer."""
        self._db.close()


def clustered(path: Path, folder: Path, key: Any) -> Clustered | None:
    """Return what ``VERITYDB_CLUSTER`` makes of a database that is a copy of a stream; None without it."""
    cluster = os.environ.get("VERITYDB_CLUSTER")
    if not cluster or not (folder / SHARED_FILE).exists():
        return None
    return Clustered(path, folder, cluster, key)


def _takes_connections(address: Any) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), CONNECT_SECONDS):
        return True
    return False


__all__ = ["Clustered", "clustered"]
