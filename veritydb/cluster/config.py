"""``node.toml`` and ``client.toml``: what a node and a client are told, and what is wrong with it.

::

    cluster = "0f3c…"                    # 32 hex digits
    member = 1
    data = "data"                        # beside this file
    secret_file = "secret"               # 32 bytes as 64 hex digits
    authority = "authority.crt"
    certificate = "member-1.crt"
    key = "member-1.key"
    rights_file = "rights.toml"          # who may do what: veritydb.cluster.rights
    slots = 4096                         # ops that the journal holds; the same on all members

    [members]                            # everybody's address, this node's own with them
    1 = "10.0.0.1:7400"
    2 = "10.0.1.1:7400"
    3 = "10.0.2.1:7400"

A client has a folder of its own (``veritydb cluster client`` makes it) with a certificate in its name and this
``client.toml``::

    cluster = "0f3c…"                    # 32 hex digits, the nodes'
    client_key = "client.secret"         # a file of 64 hex digits: what clients and members speak under
    authority = "authority.crt"
    certificate = "client.crt"
    key = "client.key"
    regions = ["eu-central-1"]           # where the nodes are; without it: anywhere

    [members]                            # where the nodes are; who is no member any more does no harm
    1 = "10.0.0.1:7400"
    2 = "10.0.1.1:7400"
    3 = "10.0.2.1:7400"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from veritydb.errors import ConfigurationError
from veritydb.vsr.options import Options
from veritydb.vsr.quorums import MEMBERS_MAX

T = TypeVar("T")


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NodeConfig(NamedTuple):
    """One node."""

    cluster: bytes
    member: int
    data: Path
    secret_file: Path
    authority: Path
    certificate: Path
    key: Path
    slots: int
    members: Mapping[int, Address]
    rights_file: Path | None = None

    @property
    def listen(self) -> Address:
        """This node's own address."""
        return self.members[self.member]

    @property
    def options(self) -> Options:
        """Sizes that follow from the journal's."""
        return options_for(self.slots)


class ClusterConfig(NamedTuple):
    """A cluster, as one client of it reaches it."""

    cluster: bytes
    client_key: Path
    authority: Path
    certificate: Path
    key: Path
    members: Mapping[int, Address]
    regions: frozenset[str] = frozenset()
    """Where the group's nodes are; none: that is not said, and any stream may be kept there."""


def options_for(slots: int) -> Options:
    """Return the sizes of a replica whose journal has so many slots."""
    return Options(slots=slots, checkpoint_interval=slots // 4)


SLOTS = 4096
SLOTS_MIN = 64
SLOTS_MAX = 1 << 16
_PATHS = ("data", "secret_file", "authority", "certificate", "key")
_OPTIONAL = frozenset({"slots", "rights_file"})
_KNOWN = frozenset({"cluster", "member", "members", *_PATHS}) | _OPTIONAL
_CLIENT_PATHS = ("client_key", "authority", "certificate", "key")
_CLIENT_KNOWN = frozenset({"cluster", "members", "regions", *_CLIENT_PATHS})
CLIENT_FILE = "client.toml"


def read_config(path: Path) -> NodeConfig:
    """Return what the file says. Raises ConfigurationError in one line that names the file and the setting."""
    return _read(path, _node)


def read_client_config(path: Path) -> ClusterConfig:
    """Return what a ``client.toml`` says; ``path`` is the file, or the folder in which it is.

    Raises ConfigurationError in one line that names the file and the setting.
    """
    return _read(path / CLIENT_FILE if path.is_dir() else path, _client)


def _read(path: Path, meaning: Callable[[dict[str, Any], Path], T]) -> T:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    try:
        return meaning(told, path.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _node(told: dict[str, Any], folder: Path) -> NodeConfig:
    _check_names(told, _KNOWN, _OPTIONAL)
    members = _members(told["members"])
    member = told["member"]
    if type(member) is not int or member not in members:
        raise ConfigurationError(f"member = {member!r} is none of the members {', '.join(map(str, members))}")
    slots = told.get("slots", SLOTS)
    if type(slots) is not int or not SLOTS_MIN <= slots <= SLOTS_MAX:
        raise ConfigurationError(f"slots is a number from {SLOTS_MIN} to {SLOTS_MAX}, not {slots!r}")
    paths = _paths(told, _PATHS, folder)
    rights = _paths(told, ("rights_file",), folder) if "rights_file" in told else {}
    return NodeConfig(_hex(told["cluster"], 16, "cluster"), member, slots=slots, members=members, **paths, **rights)


def _client(told: dict[str, Any], folder: Path) -> ClusterConfig:
    _check_names(told, _CLIENT_KNOWN, frozenset({"regions"}))
    paths = _paths(told, _CLIENT_PATHS, folder)
    listed = told.get("regions", [])
    regions = cast("list[object]", listed) if isinstance(listed, list) else [None]
    names = frozenset(region for region in regions if isinstance(region, str))
    if len(names) != len(regions):
        raise ConfigurationError(f"regions is a list of different names, not {listed!r}")
    return ClusterConfig(
        _hex(told["cluster"], 16, "cluster"), members=_members(told["members"]), regions=names, **paths
    )


def _check_names(told: dict[str, Any], known: frozenset[str], optional: frozenset[str]) -> None:
    for name in told:
        if name not in known:
            raise ConfigurationError(f"there is no setting {name!r}; known are {', '.join(sorted(known))}")
    for name in sorted(known - optional):
        if name not in told:
            raise ConfigurationError(f"the setting {name!r} is missing")


def _paths(told: dict[str, Any], names: tuple[str, ...], folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name in names:
        if not isinstance(told[name], str) or not told[name]:
            raise ConfigurationError(f"{name} must be a path")
        paths[name] = folder / told[name]
    return paths


def _members(settings: Any) -> dict[int, Address]:
    told: dict[str, Any] = cast("dict[str, Any]", settings) if isinstance(settings, dict) else {}
    if not 1 <= len(told) <= MEMBERS_MAX + 8:
        raise ConfigurationError(f"[members] names 1 to {MEMBERS_MAX} members, each with its address")
    members: dict[int, Address] = {}
    for name, address in told.items():
        if not name.isdecimal() or not 1 <= int(name) < 1 << 63:
            raise ConfigurationError(f"a member is named by a number, not {name!r}")
        if int(name) in members:
            raise ConfigurationError(f"member {int(name)} is named twice")
        members[int(name)] = parse_address(address)
    if len(set(members.values())) != len(members):
        raise ConfigurationError("two members have one address")
    return members


def parse_address(told: Any) -> Address:
    """Return ``host:port`` as its parts. Raises ConfigurationError."""
    host, colon, port = told.rpartition(":") if isinstance(told, str) else ("", "", "")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigurationError(f"an address is host:port, not {told!r}")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def read_secret(path: Path) -> bytes:
    """Return a secret of 32 bytes. Raises ConfigurationError if others may read the file, or it holds none."""
    try:
        status = path.stat()
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the secret {path} cannot be read: {error}") from error
    if status.st_mode & 0o077:
        raise ConfigurationError(f"others may read {path}, which holds a secret of the cluster; chmod 600 {path}")
    return _hex(text.strip(), 32, str(path))


def _hex(told: Any, size: int, name: str) -> bytes:
    try:
        value = bytes.fromhex(told) if isinstance(told, str) else b""
    except ValueError:
        value = b""
    if len(value) != size:
        raise ConfigurationError(f"{name} must be {2 * size} hex digits")
    return value
