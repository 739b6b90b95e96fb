"""A client's folder: what lets one program, under one name, speak with a cluster.

===================  ================================================================================================
``client.toml``      the cluster's id, where its members are, and the names of the other files
``authority.crt``    whose certificates the members have
``client.crt``       this client's certificate: its common name is the client's name, by which it has its rights
``client.key``       its private key
``client.secret``    the key under which clients and members speak: derived from the cluster's secret, and less than it
===================  ================================================================================================

Carry the folder to where the program runs; it is readable by its owner only. It suffices for what the client's name may
do (:mod:`veritydb.cluster.rights`), and for nothing that members do.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path

from veritydb.cluster.certificates import Issued, Role, check_time, context, issue
from veritydb.cluster.config import CLIENT_FILE, Address, ClusterConfig, read_secret
from veritydb.cluster.files import write_new
from veritydb.cluster.session import Group
from veritydb.errors import ConfigurationError
from veritydb.vsr.wire import Keys, derive_keys

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
MEMBER_PREFIX = "member-"
"""Names of members' certificates begin so, and no client's do."""


def group_of(config: ClusterConfig, *, secret: Path | None = None) -> Group:
    """Return how the group is reached. Raises ConfigurationError naming the file that cannot be used.

    ``secret`` is the members' own, which changing the members takes.
    """
    tls = context(config.authority, config.certificate, config.key, server=False)
    check_time(config.certificate, datetime.datetime.now(datetime.UTC))
    keys = Keys(client=read_secret(config.client_key), peer=None)
    if secret is not None:
        keys = derive_keys(read_secret(secret))
    return Group(config.cluster, config.members, keys, tls)


def check_client_name(name: str) -> None:
    """Raise ConfigurationError if no client can have this name."""
    if not _NAME.fullmatch(name) or name.startswith(MEMBER_PREFIX):
        raise ConfigurationError(
            f"a client's name has up to 64 of A-Z a-z 0-9 . _ - and does not begin with {MEMBER_PREFIX}: {name!r}"
        )


def make_client(
    home: Path, *, name: str, cluster: bytes, secret: bytes, authority: Issued, members: Mapping[int, Address]
) -> None:
    """Make a client's folder. Raises ConfigurationError if it exists, or for a name that no client can have."""
    check_client_name(name)
    if home.exists():
        raise ConfigurationError(f"{home} exists; nothing was changed")
    home.mkdir(mode=0o700, parents=True)
    issued = issue(authority, name, datetime.datetime.now(datetime.UTC), role=Role.CLIENT)
    write_new(home / "authority.crt", authority.certificate)
    write_new(home / "client.crt", issued.certificate)
    write_new(home / "client.key", issued.key)
    write_new(home / "client.secret", derive_keys(secret).client.hex().encode() + b"\n")
    write_new(home / CLIENT_FILE, _client_toml(cluster, members))


def _client_toml(cluster: bytes, members: Mapping[int, Address]) -> bytes:
    lines = [
        f'cluster = "{cluster.hex()}"',
        'client_key = "client.secret"',
        'authority = "authority.crt"',
        'certificate = "client.crt"',
        'key = "client.key"',
        "",
        "[members]",
        *(f'{number} = "{address}"' for number, address in members.items()),
        "",
    ]
    return "\n".join(lines).encode()
