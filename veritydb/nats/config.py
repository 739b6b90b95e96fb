"""Where the NATS servers are, who one is to them, and what a commit promises.

As a value, or as an address with what is to be said behind it::

    nats://a:4222,b:4222,c:4222
    nats://app:secret@a:4222,b:4222?replicas=3&sync=interval
    tls://a:4222?authority=ca.pem&credentials=app.creds&monitors=http://a:8222,http://b:8222

``VERITYDB_CREDENTIALS`` names a file of credentials (``.creds``) for addresses that have none. No error and no ``repr``
shows a password, a token, or what is in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from veritydb.errors import ConfigurationError

SCHEMES = ("nats://", "tls://")
CREDENTIALS = "VERITYDB_CREDENTIALS"
SYNCS = ("always", "interval")
REPLICAS = (1, 2, 3, 4, 5)
PORT = 4222


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsConfig:
    """NATS, as one client reaches it. Raises ConfigurationError for what cannot be."""

    servers: tuple[str, ...]
    """``host:port`` each. One is enough to find the others, if it is there."""
    replicas: int = 3
    """Servers that keep the stream. A stream with fewer is refused; one that is made gets so many."""
    sync: str = "always"
    """What an acknowledgement means. ``always``: the record is on disk; the servers are configured with
    ``sync_interval: always``. ``interval``: it is in the memory of the servers' systems, and on disk within their
    ``sync_interval``, two minutes by default."""
    monitors: tuple[str, ...] = ()
    """Addresses of the servers' monitoring, ``http://host:8222``, where it is looked up how they sync."""
    domain: str = ""
    """JetStream's domain, if there are several."""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    credentials: Path | None = None
    """A ``.creds`` file: JWT and seed."""
    nkey: Path | None = None
    """A file with the seed of an nkey."""
    tls: bool = False
    """Whether to speak TLS even if the server would let one without."""
    authority: Path | None = None
    """PEM: who signs the servers' certificates, if that is not an authority of this system. It implies TLS."""
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without asking."""
        if not self.servers:
            raise ConfigurationError("a NATS configuration names at least one server, host:port")
        for server in self.servers:
            split = _split(f"nats://{server}", server)
            if not split.hostname or split.username is not None or split.path or split.port is None:
                raise ConfigurationError(f"a NATS server is host:port, not {server.rpartition('@')[2]!r}")
        if self.replicas not in REPLICAS:
            raise ConfigurationError(f"replicas is a number from 1 to 5, not {self.replicas!r}")
        if self.sync not in SYNCS:
            raise ConfigurationError(f"sync is one of {', '.join(SYNCS)}, not {self.sync!r}")
        ways = [bool(self.user or self.password), bool(self.token), self.credentials is not None, self.nkey is not None]
        if sum(ways) > 1:
            raise ConfigurationError("one way to say who one is: user and password, token, credentials, or nkey")
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a client's certificate and its key go together")
        for monitor in self.monitors:
            if not monitor.startswith(("http://", "https://")):
                raise ConfigurationError(f"a monitor is http://host:8222, not {monitor!r}")

    def __str__(self) -> str:
        """The servers."""
        return ",".join(self.servers)


def read_address(text: str, environment: Mapping[str, str]) -> NatsConfig:
    """Return what an address says. Raises ConfigurationError, which shows nothing that stands before an ``@``."""
    scheme, _, rest = text.partition("://")
    rest, _, query = rest.partition("?")
    userinfo, _, hosts = rest.rpartition("@")
    told: dict[str, Any] = {
        "servers": tuple(_with_port(each.strip()) for each in hosts.rstrip("/").split(",")),
        "tls": scheme == "tls",
    }
    if userinfo:
        user, colon, password = userinfo.partition(":")
        told |= {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}
    known = {each.name: each for each in fields(NatsConfig)}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known or name in ("servers", "user", "password", "token", "tls"):
            raise ConfigurationError(f"there is no setting {name!r} in the address of NATS {hosts}")
        told[name] = _value(name, value)
    if not (userinfo or "credentials" in told or "nkey" in told) and environment.get(CREDENTIALS):
        told["credentials"] = Path(environment[CREDENTIALS])
    return NatsConfig(**told)


def _value(name: str, value: str) -> Any:
    if name == "replicas":
        return int(value) if value.isdecimal() else value
    if name == "monitors":
        return tuple(each.strip() for each in value.split(","))
    return value if name in ("sync", "domain") else Path(value)


def _with_port(server: str) -> str:
    return server if server.rpartition("]")[2].count(":") else f"{server}:{PORT}"


def _split(url: str, shown: str) -> SplitResult:
    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError:
        raise ConfigurationError(f"a NATS server is host:port, not {shown.rpartition('@')[2]!r}") from None
    return split
