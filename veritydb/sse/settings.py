"""What a server is told: where it listens, who may come, what they may see, and how much it may cost.

One TOML file (:func:`read_settings`), or the same as values in a program. Every mistake is named with its place
(``roles.ward.tables.patients.colums``), an unknown key is one, and nothing starts before all of it is right. Secrets
are not in the file: a key is there as its SHA-256, a token's secret as the name of another file or of a variable.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from veritydb.errors import ConfigurationError
from veritydb.sse.guarded import Limits
from veritydb.sse.rights import Claim, Role, TableRule, as_list

KEY_PREFIX = "vk_"
"""How keys begin that :func:`new_key` draws: so that one that has got somewhere is recognised."""
SETTINGS_BYTES_MAX = 1 << 20

_HASH = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that a program or a person presents."""

    name: str
    """Who it stands for."""
    sha256: str
    """Of the key: 64 hexadecimal digits."""
    role: str
    expires: datetime | None = None
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What a token would claim, for row filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwt:
    """Which tokens are believed (RFC 7519)."""

    algorithms: tuple[str, ...]
    key: str = field(repr=False)
    """The shared secret, or the issuer's public key as PEM."""
    audience: str | None = None
    issuer: str | None = None
    role_claim: str = "role"
    leeway_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """What streams may cost, and how they are kept alive."""

    heartbeat_seconds: float = 15.0
    retry_ms: int = 2_000
    """How long a browser waits before it connects again."""
    streams_max: int = 2_000
    streams_per_caller_max: int = 200
    stall_seconds: float = 60.0
    """A client that takes nothing for so long is disconnected; it can resume."""
    value_bytes_max: int = 64 << 10
    """A longer text or blob is omitted from an event."""
    tables_max: int = 100
    """Names in one request."""
    snapshots_max: int = 8
    """Snapshots that are read at once; others wait."""
    snapshot_seconds: float = 120.0
    """For a snapshot to be taken by its client; while it is, SQLite's write-ahead log cannot be cut back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What looking at the past may cost."""

    files_max: int = 6
    """Rebuilt files that are kept."""
    bytes_max: int = 2 << 30
    """Of all of them together."""
    seconds: float = 30.0
    """For rebuilding one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it."""

    roles: Mapping[str, Role] = field(default_factory=dict[str, Role])
    api_keys: tuple[ApiKey, ...] = ()
    jwt: Jwt | None = None
    anonymous: str | None = None
    """The role of those who present nothing; None: they are refused."""
    cors_origins: tuple[str, ...] = ()
    """Of pages on other hosts that may read the answers (``https://ward.example``)."""
    queries_max: int = 4
    """Queries at once."""
    limits: Limits = field(default_factory=Limits)
    streams: Streams = field(default_factory=Streams)
    past: Past = field(default_factory=Past)
    cookie_secure: bool = False
    """Whether the cookie of a session is for https only; ``veritydb serve`` sets it where it does TLS."""

    def role_of(self, name: str) -> Role | None:
        """Return a role."""
        return self.roles.get(name)


ALL = "all"


def everything(key: str) -> Settings:
    """Return the settings of a server that shows everything to whoever has ``key``."""
    role = Role(name=ALL, tables={"*": TableRule()})
    return Settings(roles={ALL: role}, api_keys=(ApiKey(name="you", sha256=hash_of(key), role=ALL),))


def new_key() -> str:
    """Draw a key."""
    return KEY_PREFIX + secrets.token_urlsafe(24)


def hash_of(key: str) -> str:
    """Return what the settings say of a key. It is drawn at random, so nothing is stretched."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_settings(path: str | os.PathLike[str]) -> Settings:
    """Read a TOML file. Raises ConfigurationError, which names the place."""
    where = Path(path)
    try:
        with where.open("rb") as file:
            content = file.read(SETTINGS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{where} cannot be read: {error.strerror}") from error
    if len(content) > SETTINGS_BYTES_MAX:
        raise ConfigurationError(f"{where} has more than {SETTINGS_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not TOML: {error}") from error
    try:
        return parse(document, where.parent)
    except _Wrong as wrong:
        raise ConfigurationError(f"{where}: {wrong}") from None


# Parsing: a table of TOML is read key by key, and what is left over is a mistake.


class _Wrong(Exception):
    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}" if place else what)


class _Entry(NamedTuple):
    place: str
    value: Any


Read: TypeAlias = Callable[[_Entry], Any]


def parse(document: Mapping[str, Any], folder: Path) -> Settings:
    """Return the settings that a parsed file says; names of files in it are relative to ``folder``."""
    root = _Entry("", document)
    readers: dict[str, Read] = {
        "roles": lambda entry: {name: _role(name, part) for name, part in _parts(entry)},
        "api_keys": lambda entry: tuple(_api_key(part) for part in _list(entry)),
        "jwt": lambda entry: _jwt(entry, folder),
        "anonymous": _text,
        "cors_origins": _texts,
        "queries_max": _count,
        "limits": lambda entry: _numbers(entry, Limits),
        "streams": lambda entry: _numbers(entry, Streams),
        "past": lambda entry: _numbers(entry, Past),
    }
    settings = Settings(**_members(root, readers))
    for place, role in _named_roles(settings):
        if role not in settings.roles:
            raise _Wrong(place, f"there is no role {role!r}")
    names = [key.sha256 for key in settings.api_keys]
    if len(set(names)) < len(names):
        raise _Wrong("api_keys", "one key is there twice")
    return settings


def _named_roles(settings: Settings) -> list[tuple[str, str]]:
    named = [(f"api_keys[{number}].role", key.role) for number, key in enumerate(settings.api_keys)]
    return named + ([("anonymous", settings.anonymous)] if settings.anonymous is not None else [])


def _role(name: str, entry: _Entry) -> Role:
    readers: dict[str, Read] = {
        "tables": lambda tables: {table.lower(): _table(part) for table, part in _parts(tables)},
        "query": _flag,
        "history": _flag,
        "actors": _flag,
    }
    return Role(name=name, **_members(entry, readers))


def _table(entry: _Entry) -> TableRule:
    readers: dict[str, Read] = {
        "columns": _texts,
        "rows": lambda rows: tuple((column, _condition(part)) for column, part in _parts(rows)),
    }
    return TableRule(**_members(entry, readers))


def _condition(entry: _Entry) -> tuple[str | int | float, ...] | Claim:
    place, value = entry
    if isinstance(value, dict):
        return Claim(_members(entry, {"claim": _text}, needed=("claim",))["claim"])
    items = as_list(value)
    for item in items:
        if not isinstance(item, (str, int, float)) or isinstance(item, bool):
            raise _Wrong(place, 'a column is compared with texts and numbers, or with {claim = "name"}')
    return tuple(items)


def _api_key(entry: _Entry) -> ApiKey:
    readers: dict[str, Read] = {
        "name": _text,
        "sha256": _hash,
        "role": _text,
        "expires": _moment,
        "claims": lambda claims: dict(_table_of(claims)),
    }
    return ApiKey(**_members(entry, readers, needed=("name", "sha256", "role")))


def _jwt(entry: _Entry, folder: Path) -> Jwt:
    readers: dict[str, Read] = {
        "algorithms": _texts,
        "secret_file": lambda part: _file(part, folder),
        "secret_variable": _variable,
        "public_key_file": lambda part: _file(part, folder),
        "audience": _text,
        "issuer": _text,
        "role_claim": _text,
        "leeway_seconds": _number,
    }
    said = _members(entry, readers, needed=("algorithms",))
    keys = [said.pop(name) for name in ("secret_file", "secret_variable", "public_key_file") if name in said]
    if len(keys) != 1:
        raise _Wrong(entry.place, "give one of secret_file, secret_variable, public_key_file")
    public = "public_key_file" in entry.value
    for algorithm in said["algorithms"]:
        # "none" is no algorithm, and a public key taken for a shared secret would let everybody sign.
        if algorithm.startswith("HS") == public or algorithm.lower() == "none":
            raise _Wrong(f"{entry.place}.algorithms", f"{algorithm} does not go with that kind of key")
    return Jwt(key=keys[0], **said)


def _members(entry: _Entry, readers: Mapping[str, Read], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    table = _table_of(entry)
    for name in table:
        if name not in readers:
            raise _Wrong(_join(entry.place, name), f"unknown; there are {', '.join(readers)}")
    for name in needed:
        if name not in table:
            raise _Wrong(_join(entry.place, name), "missing")
    return {name: readers[name](_Entry(_join(entry.place, name), value)) for name, value in table.items()}


def _parts(entry: _Entry) -> list[tuple[str, _Entry]]:
    return [(name, _Entry(_join(entry.place, name), value)) for name, value in _table_of(entry).items()]


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _table_of(entry: _Entry) -> dict[str, Any]:
    if not isinstance(entry.value, dict):
        raise _Wrong(entry.place, "a table is wanted")
    return entry.value  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  TOML has no types


def _list(entry: _Entry) -> list[_Entry]:
    place, value = entry
    if not isinstance(value, list):
        raise _Wrong(place, "a list is wanted")
    return [_Entry(f"{place}[{number}]", item) for number, item in enumerate(as_list(value))]


def _text(entry: _Entry) -> str:
    if not isinstance(entry.value, str) or not entry.value:
        raise _Wrong(entry.place, "a text is wanted")
    return entry.value


def _texts(entry: _Entry) -> tuple[str, ...]:
    return tuple(map(_text, _list(entry)))


def _flag(entry: _Entry) -> bool:
    if not isinstance(entry.value, bool):
        raise _Wrong(entry.place, "true or false is wanted")
    return entry.value


def _number(entry: _Entry) -> float:
    if isinstance(entry.value, bool) or not isinstance(entry.value, (int, float)) or not 0 <= entry.value < 1e15:
        raise _Wrong(entry.place, "a number is wanted, not below 0")
    return entry.value


def _count(entry: _Entry) -> int:
    number = _number(entry)
    if not isinstance(number, int) or number < 1:
        raise _Wrong(entry.place, "a whole number is wanted, at least 1")
    return number


def _numbers(entry: _Entry, kind: type[Any]) -> Any:
    readers: dict[str, Read] = {
        item.name: _count if isinstance(item.default, int) else _positive for item in fields(kind)
    }
    return kind(**_members(entry, readers))


def _positive(entry: _Entry) -> float:
    number = _number(entry)
    if number <= 0:
        raise _Wrong(entry.place, "a number above 0 is wanted")
    return number


def _hash(entry: _Entry) -> str:
    text = _text(entry).lower()
    if not _HASH.match(text):
        raise _Wrong(entry.place, "the SHA-256 of a key is 64 hexadecimal digits; `veritydb keys api` makes one")
    return text


def _moment(entry: _Entry) -> datetime:
    if not isinstance(entry.value, datetime):
        raise _Wrong(entry.place, "a date and time is wanted, without quotes: 2031-05-01T00:00:00Z")
    return entry.value if entry.value.tzinfo is not None else entry.value.replace(tzinfo=UTC)


def _file(entry: _Entry, folder: Path) -> str:
    path = folder / _text(entry)
    try:
        content = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _Wrong(entry.place, f"{path} cannot be read: {error}") from None
    if not content:
        raise _Wrong(entry.place, f"{path} is empty")
    return content


def _variable(entry: _Entry) -> str:
    name = _text(entry)
    value = os.environ.get(name)
    if not value:
        raise _Wrong(entry.place, f"the environment variable {name} is not set")
    return value
