"""``node.toml`` and ``client.toml``: what a node and a client are told, and what is wrong with it.

Over its file, a node is told things by the environment, and over that by flags. :data:`SETTINGS` names each setting
once and says how it is read. The file, the variables ``VERITYDB_NODE_…`` and the flags of ``veritydb node run`` are
three ways to the same settings; a mistake is told with the way it came. ``docs/reference/node.md`` lists them for
people, and a test holds the two together.

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
    metrics = "127.0.0.1:7410"           # health and metrics over HTTP

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
from typing import Any, NamedTuple, cast

from veritydb.errors import ConfigurationError
from veritydb.vsr.options import Options
from veritydb.vsr.quorums import MEMBERS_MAX

ENVIRONMENT = "VERITYDB_NODE_"
"""What the names of the variables begin with; the setting follows, in capitals."""
SLOTS = 4096
SLOTS_MIN = 64
SLOTS_MAX = 1 << 16
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
CLIENT_FILE = "client.toml"


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NodeConfig(NamedTuple):
    """One node. The fields are the settings."""

    cluster: bytes
    member: int
    data: Path
    secret_file: Path
    authority: Path
    certificate: Path
    key: Path
    members: Mapping[int, Address]
    slots: int = SLOTS
    rights_file: Path | None = None
    listen: Address | None = None
    metrics: Address | None = None
    log_format: str = "text"
    log_level: str = "info"
    clock_limit: float = 5.0
    disk_reserve: int = 1024

    @property
    def address(self) -> Address:
        """Where this node listens."""
        return self.listen or self.members[self.member]

    @property
    def options(self) -> Options:
        """Sizes that follow from the journal's."""
        return options_for(self.slots)


class ClusterConfig(NamedTuple):
    """A cluster, as one client of it reaches it. The fields are the settings."""

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


class Told(NamedTuple):
    """A setting as text, and where it came from: ``--slots``, ``VERITYDB_NODE_SLOTS``."""

    text: str
    origin: str


class Setting(NamedTuple):
    """How one setting is read."""

    check: Callable[[Any, str, Path], Any]
    """Gets what was told, the setting's name and the folder that paths are relative to. Raises ConfigurationError."""
    from_text: Callable[[str], Any] = str
    """Makes of text what a TOML file would have. Raises ValueError."""


def _hex_id(told: Any, name: str, _: Path) -> bytes:
    return _hex(told, 16, name)


def _member(told: Any, _: str, __: Path) -> int:
    if type(told) is not int:
        raise ConfigurationError(f"member = {told!r} is none of the members; it is a number")
    return told


def _path(told: Any, name: str, folder: Path) -> Path:
    if not isinstance(told, str) or not told:
        raise ConfigurationError(f"{name} must be a path")
    return folder / told


def _address(told: Any, name: str, _: Path) -> Address:
    return parse_address(told)


def _members(told: Any, _: str, __: Path) -> dict[int, Address]:
    named: dict[str, Any] = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    if not 1 <= len(named) <= MEMBERS_MAX + 8:
        raise ConfigurationError(f"[members] names 1 to {MEMBERS_MAX} members, each with its address")
    members: dict[int, Address] = {}
    for name, address in named.items():
        if not name.isdecimal() or not 1 <= int(name) < 1 << 63:
            raise ConfigurationError(f"a member is named by a number, not {name!r}")
        if int(name) in members:
            raise ConfigurationError(f"member {int(name)} is named twice")
        members[int(name)] = parse_address(address)
    if len(set(members.values())) != len(members):
        raise ConfigurationError("two members have one address")
    return members


def _members_from_text(text: str) -> dict[str, str]:
    """Read ``1=host:port,2=host:port``."""
    members: dict[str, str] = {}
    for one in text.split(","):
        name, equals, address = one.strip().partition("=")
        if not equals:
            raise ValueError("members are named as 1=host:port,2=host:port")
        if name in members:
            raise ValueError(f"member {name} is named twice")
        members[name] = address
    return members


def _regions(told: Any, _: str, __: Path) -> frozenset[str]:
    listed = cast("list[object]", told) if isinstance(told, list) else [None]
    names = frozenset(region for region in listed if isinstance(region, str))
    if len(names) != len(listed):
        raise ConfigurationError(f"regions is a list of different names, not {told!r}")
    return names


def _number(least: float, most: float, *, whole: bool = True) -> Callable[[Any, str, Path], Any]:
    def check(told: Any, name: str, _: Path) -> Any:
        if isinstance(told, bool) or not isinstance(told, int if whole else (int, float)) or not least <= told <= most:
            raise ConfigurationError(f"{name} is a number from {least} to {most}, not {told!r}")
        return told

    return check


def _one_of(known: tuple[str, ...]) -> Callable[[Any, str, Path], str]:
    def check(told: Any, name: str, _: Path) -> str:
        if told not in known:
            raise ConfigurationError(f"{name} is one of {', '.join(known)}, not {told!r}")
        return str(told)

    return check


SETTINGS: Mapping[str, Setting] = {
    "cluster": Setting(_hex_id),
    "member": Setting(_member, int),
    "data": Setting(_path),
    "secret_file": Setting(_path),
    "authority": Setting(_path),
    "certificate": Setting(_path),
    "key": Setting(_path),
    "members": Setting(_members, _members_from_text),
    "slots": Setting(_number(SLOTS_MIN, SLOTS_MAX), int),
    "rights_file": Setting(_path),
    "listen": Setting(_address),
    "metrics": Setting(_address),
    "log_format": Setting(_one_of(LOG_FORMATS)),
    "log_level": Setting(_one_of(LOG_LEVELS)),
    "clock_limit": Setting(_number(0.1, 86_400, whole=False), float),
    "disk_reserve": Setting(_number(0, 1 << 40), int),
}


_CLIENT_SETTINGS: Mapping[str, Setting] = {
    **{name: SETTINGS[name] for name in ("cluster", "authority", "certificate", "key", "members")},
    "client_key": Setting(_path),
    "regions": Setting(_regions),
}


def read_config(path: Path | None, over: Mapping[str, Told] | None = None) -> NodeConfig:
    """Return what the file says, and ``over`` it what was said elsewhere.

    Paths of the file are relative to its folder, others to the working directory. Raises ConfigurationError in one
    line that names the setting and where it came from.
    """
    values = _read(path, SETTINGS) if path is not None else {}
    for name, (text, origin) in (over or {}).items():
        with _from(origin):
            setting = _known(name, SETTINGS)
            try:
                value = setting.from_text(text)
            except ValueError as error:
                why = str(error) if name == "members" else f"{name} is a number, not {text!r}"
                raise ConfigurationError(why) from None
            values[name] = setting.check(value, name, Path())
    with _from(str(path) if path is not None else "the node's settings"):
        _check_complete(values, NodeConfig)
        config = NodeConfig(**values)
        if config.member not in config.members:
            known = ", ".join(map(str, config.members))
            raise ConfigurationError(f"member = {config.member!r} is none of the members {known}")
        if config.metrics == config.address:
            raise ConfigurationError("metrics and the node itself have one address")
    return config


def read_client_config(path: Path) -> ClusterConfig:
    """Return what a ``client.toml`` says; ``path`` is the file, or the folder in which it is.

    Raises ConfigurationError in one line that names the file and the setting.
    """
    path = path / CLIENT_FILE if path.is_dir() else path
    values = _read(path, _CLIENT_SETTINGS)
    with _from(str(path)):
        _check_complete(values, ClusterConfig)
    return ClusterConfig(**values)


def _read(path: Path, settings: Mapping[str, Setting]) -> dict[str, Any]:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    with _from(str(path)):
        return {name: _known(name, settings).check(value, name, path.parent) for name, value in told.items()}


def _check_complete(values: Mapping[str, Any], config: type[NodeConfig] | type[ClusterConfig]) -> None:
    for name in config._fields:
        if name not in values and name not in config._field_defaults:
            raise ConfigurationError(f"the setting {name!r} is missing")


def told_by(environment: Mapping[str, str]) -> dict[str, Told]:
    """Return the settings that variables have. Raises ConfigurationError for a variable that names no setting."""
    told: dict[str, Told] = {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT) and variable != ENVIRONMENT + "CONFIG":
            name = variable.removeprefix(ENVIRONMENT).lower()
            with _from(variable):
                _known(name, SETTINGS)
            told[name] = Told(text, variable)
    return told


class _from:  # noqa: N801  # it reads as a word of the with statement
    """Says of a mistake where it was made."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ConfigurationError):
            raise ConfigurationError(f"{self._origin}: {error}") from None


def _known(name: str, settings: Mapping[str, Setting]) -> Setting:
    if name not in settings:
        raise ConfigurationError(f"there is no setting {name!r}; known are {', '.join(sorted(settings))}")
    return settings[name]


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
