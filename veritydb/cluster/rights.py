"""Who may do what with which stream: ``rights.toml``, by the name in a client's certificate.

::

    [client]                      # the certificate's common name, or a DNS name in it
    append = ["*"]                # every stream; who may append may read
    create = ["*"]

    [reports]
    read = ["clinic", "billing"]  # streams by their names, or by their ids in hex

    ["site-*"]                    # all clients with such a name
    append = ["clinic"]

    [admin]
    administer = true             # everything, and what is no single stream's: dropping streams, changing members

Sections whose name fits add up. Whom none fits may do nothing. A node reads the file when it starts and on SIGHUP;
all nodes should have the same one, because a client may come to each.

Pure, but for :func:`read_rights`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, cast

from veritydb.cluster.naming import stream_id
from veritydb.errors import ConfigurationError

FILE_MAX = 1 << 20
ALL = "*"


class Right(Enum):
    """What a client may do with a stream."""

    READ = "read"
    APPEND = "append"
    CREATE = "create"
    ADMINISTER = "administer"


class Streams(NamedTuple):
    """Some streams, or all."""

    all: bool
    ids: frozenset[bytes]

    def has(self, stream: bytes) -> bool:
        """Return whether it is one of them."""
        return self.all or stream in self.ids

    def __or__(self, other: Streams) -> Streams:
        return Streams(self.all or other.all, self.ids | other.ids)


NONE = Streams(False, frozenset())
EVERY = Streams(True, frozenset())


class Rights(NamedTuple):
    """What one client may do."""

    read: Streams = NONE
    append: Streams = NONE
    create: Streams = NONE
    administer: bool = False

    def allow(self, right: Right, stream: bytes | None) -> bool:
        """Return whether the right is there; ``stream`` None: for every stream there is."""
        if self.administer:
            return True
        if right is Right.ADMINISTER:
            return False
        granted: Streams = getattr(self, right.value)
        return granted.all if stream is None else granted.has(stream)

    def __or__(self, other: Rights) -> Rights:
        return Rights(
            self.read | other.read,
            self.append | other.append,
            self.create | other.create,
            self.administer or other.administer,
        )


DEFAULT = f"""\
# What a client may do: by the name in its certificate. read, append (which includes reading) and create name streams,
# "*" is every one; administer = true is everything. Sections whose name fits add up.
# After a change: kill -HUP the node. All nodes should have the same file.

[client]
append = ["{ALL}"]
create = ["{ALL}"]

[admin]
administer = true

["member-*"]                      # nodes fetch from each other what they lack
read = ["{ALL}"]
"""


class RightsTable:
    """What a ``rights.toml`` says."""

    def __init__(self, sections: Mapping[str, Rights]) -> None:
        self._sections = dict(sections)

    def of(self, names: Iterable[str]) -> Rights:
        """Return the rights of a client whose certificate has these names."""
        granted = Rights()
        for name in names:
            for pattern, rights in self._sections.items():
                if fnmatchcase(name, pattern):
                    granted |= rights
        return granted


def read_rights(path: Path | None, cluster: bytes) -> RightsTable:
    """Return what the file says; without one, what ``veritydb cluster init`` writes into it.

    Raises ConfigurationError in one line that names the file, the section and the setting.
    """
    if path is None:
        return parse_rights(DEFAULT, cluster)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
        if len(data) > FILE_MAX:
            raise ConfigurationError(f"{path} has more than {FILE_MAX} bytes")
        return parse_rights(data.decode(), cluster)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except _Mistake as mistake:
        raise ConfigurationError(f"{path}: {mistake}") from None


def parse_rights(text: str, cluster: bytes) -> RightsTable:
    """Return what a file with this text says. Raises ConfigurationError, tomllib.TOMLDecodeError."""
    return RightsTable({name: _section(name, told, cluster) for name, told in tomllib.loads(text).items()})


def with_client(text: str, name: str, rights: Mapping[Right, list[str]], *, administer: bool) -> str:
    """Return a file's text with a section for one more client. Raises ConfigurationError if it has one."""
    if name in tomllib.loads(text):
        raise ConfigurationError(f"there is a section [{name}] already")
    lines = [f"{right.value} = [{', '.join(map(_quoted, names))}]" for right, names in rights.items() if names]
    if administer:
        lines.append("administer = true")
    return f"{text.rstrip()}\n\n[{_quoted(name)}]\n" + "".join(line + "\n" for line in lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # A basic string of TOML, for printable text.


class _Mistake(ConfigurationError):
    """What a section says cannot be."""


def _section(name: str, told: Any, cluster: bytes) -> Rights:
    if not isinstance(told, dict):
        raise _Mistake(f"{name} must be a section: [{name}]")
    settings = cast("dict[str, Any]", told)
    for setting in settings:
        if setting not in {right.value for right in Right}:
            raise _Mistake(f"[{name}] has {setting!r}; known are {', '.join(right.value for right in Right)}")
    administer = settings.get("administer", False)
    if not isinstance(administer, bool):
        raise _Mistake(f"[{name}] administer is true or false, not {administer!r}")
    read, append, create = (
        _streams(name, right, settings.get(right.value, []), cluster)
        for right in (Right.READ, Right.APPEND, Right.CREATE)
    )
    return Rights(read | append, append, create, administer)


def _streams(section: str, right: Right, told: Any, cluster: bytes) -> Streams:
    listed = cast("list[object]", told) if isinstance(told, list) else [None]
    names = [name for name in listed if isinstance(name, str)]
    if len(names) != len(listed):
        raise _Mistake(f'[{section}] {right.value} is a list of streams\' names, or ["{ALL}"], not {told!r}')
    try:
        ids = frozenset(stream_id(cluster, name) for name in names if name != ALL)
    except ConfigurationError as error:
        raise _Mistake(f"[{section}] {right.value}: {error}") from None
    return Streams(ALL in names, ids)
