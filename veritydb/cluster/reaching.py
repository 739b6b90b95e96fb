"""From what a program says (``cluster=…``, ``stream=…``, the environment) to a stream of a group.

===========================  ========================================================================================
``cluster``                  a :class:`~veritydb.cluster.config.ClusterConfig`; the path of a ``client.toml`` or of the
                             folder that has one; or "host1:7400,host2:7400,host3:7400". Or NATS JetStream:
                             "nats://host1:4222,host2:4222" or a :class:`~veritydb.nats.NatsConfig`
``VERITYDB_CLUSTER``         what ``cluster`` is if the program does not say
``VERITYDB_CREDENTIALS``     folder with the ``client.toml`` that goes with addresses: id, keys and certificates; for
                             NATS, a ``.creds`` file
``stream``                   its name; ``VERITYDB_STREAM``; or the name of the file, without what is behind the dot
===========================  ========================================================================================

A process has one :class:`~veritydb.cluster.client.Client` for each cluster that it is told of in the same words, and of
NATS one :class:`~veritydb.nats.sequencer.NatsSequencer` for each stream.
"""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path
from typing import Any, cast

from veritydb.cluster.client import Client
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import Address, ClusterConfig, parse_address, read_client_config
from veritydb.cluster.group_log import Sequencer
from veritydb.cluster.naming import domain_id, stream_id
from veritydb.cluster.shared import SharedStream
from veritydb.errors import ConfigurationError
from veritydb.nats.config import SCHEMES, NatsConfig, read_address

CLUSTER = "VERITYDB_CLUSTER"
CREDENTIALS = "VERITYDB_CREDENTIALS"
STREAM = "VERITYDB_STREAM"

_clients: dict[object, Client] = {}
_sequencers: dict[object, Sequencer] = {}
_lock = threading.Lock()


def shared_stream(cluster: Any, stream: str | None, database: str) -> SharedStream:
    """Return the stream that these words mean. Raises ConfigurationError."""
    name = stream or os.environ.get(STREAM) or Path(database.removeprefix("file:").partition("?")[0]).stem
    client = _in_nats(cluster, name) or reach(cluster)
    return SharedStream(client, name, stream_id(client.cluster, name))


def _in_nats(cluster: Any, name: str) -> Sequencer | None:
    """Return who is asked in NATS; None if ``cluster`` is no NATS."""
    if isinstance(cluster, str) and cluster.startswith(SCHEMES):
        cluster = read_address(cluster, os.environ)
    if not isinstance(cluster, NatsConfig):
        return None
    try:
        from veritydb.nats.sequencer import NatsSequencer
    except ImportError as error:
        raise ConfigurationError(
            f"NATS is asked for and needs more than is installed ({error.name}): pip install 'veritydb[nats]'"
        ) from error
    with _lock:
        known = _sequencers.get((cluster, name))
        if known is None:
            domain = domain_id(cluster.domain)
            known = _sequencers[cluster, name] = NatsSequencer(cluster, name, domain, stream_id(domain, name))
        return known


def reach(cluster: Any) -> Client:
    """Return this process's client of a cluster. Raises ConfigurationError."""
    said, config = _said(cluster)
    with _lock:
        client = _clients.get(said)
        if client is None:
            client = _clients[said] = Client(group_of(config()))
        return client


def _said(cluster: Any) -> tuple[object, Any]:
    """Return what tells this cluster from others, and how to read its configuration."""
    if isinstance(cluster, ClusterConfig):
        rest = tuple(value for name, value in cluster._asdict().items() if name != "members")
        return (rest, tuple(sorted(cluster.members.items()))), lambda: cluster
    if not isinstance(cluster, str | os.PathLike) or not os.fspath(cluster):
        raise ConfigurationError(
            f"cluster is addresses, the path of a client.toml, a ClusterConfig or a NatsConfig, not {cluster!r}"
        )
    text = os.fsdecode(cast("str", cluster))
    if os.path.exists(text):
        path = Path(text).absolute()
        return str(path), lambda: read_client_config(path)
    if ":" not in text or os.sep in text:
        raise ConfigurationError(f"there is no {text}: cluster is the path of a client.toml, or host:port,host:port,…")
    folder = os.environ.get(CREDENTIALS)
    if not folder:
        raise ConfigurationError(
            f"cluster={text!r} says where the nodes are; {CREDENTIALS} must name the folder with the client.toml that "
            "says who this client is"
        )
    addresses = [parse_address(each.strip()) for each in text.split(",")]
    return (text, folder), lambda: _at(read_client_config(Path(folder)), addresses)


def _at(config: ClusterConfig, addresses: list[Address]) -> ClusterConfig:
    """Return a configuration with these addresses. Members are known by number: the nodes name the primary so."""
    known = {address: number for number, address in config.members.items()}
    if all(address in known for address in addresses):
        return config._replace(members={known[address]: address for address in addresses})
    return config._replace(members=dict(enumerate(addresses, start=1)))


def _hang_up() -> None:
    for client in (*_clients.values(), *_sequencers.values()):
        client.close()


atexit.register(_hang_up)


def _forget() -> None:
    """A forked child reaches the nodes by itself: the lock may be held by a thread that it does not have."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
