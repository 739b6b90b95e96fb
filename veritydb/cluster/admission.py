"""Whether a node listens to a client's message: what it needs, and whether the client's name has it.

Pure, but for reading ``rights.toml`` and writing a log line. A refusal is answered (:class:`Denied` says why), counted
and logged; the log names client, right and stream, and nothing of what the message carried.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from veritydb import kernel
from veritydb.cluster.logs import fields
from veritydb.cluster.rights import Right, Rights, read_rights
from veritydb.errors import ConfigurationError
from veritydb.vsr.messages import AskStatus, ClientMessage, FetchRecords, ReadRequest, Reconfigure, Request

log = logging.getLogger("veritydb.node")

LOGGED_MAX = 1000
"""Different refusals that are logged until the rights are read again; all are counted."""

_OF_COMMANDS = {
    kernel.Subject.REGISTER: None,
    kernel.Subject.CREATE: Right.CREATE,
    kernel.Subject.APPEND: Right.APPEND,
    kernel.Subject.RESOLVE: Right.APPEND,  # It may forbid an append for ever.
    kernel.Subject.LIST: Right.READ,
    kernel.Subject.DROP: Right.ADMINISTER,
}


class Admission:
    """A node's rights, and what it has refused."""

    def __init__(self, path: Path | None, cluster: bytes, counts: Counter[str]) -> None:
        self._path = path
        self._cluster = cluster
        self._counts = counts
        self._table = read_rights(path, cluster)
        self._visitors: set[Visitor] = set()
        self._logged: set[tuple[frozenset[str], Right | None, bytes | None]] = set()

    def reload(self) -> None:
        """Read the file again. If it cannot be read, all stays as it was, and the log says so."""
        try:
            self._table = read_rights(self._path, self._cluster)
        except ConfigurationError as error:
            log.error("rights stay as they were", extra=fields(why=error))
            return
        self._logged.clear()
        for visitor in self._visitors:
            visitor.rights = self._table.of(visitor.names)
        log.info("rights read again")

    def enter(self, certificate: Mapping[str, Any] | None) -> Visitor:
        """Return who has come, by the certificate that it showed (as :meth:`ssl.SSLSocket.getpeercert` gives it)."""
        names = names_in(certificate)
        visitor = Visitor(names, self._table.of(names))
        self._visitors.add(visitor)
        return visitor

    def leave(self, visitor: Visitor) -> None:
        """Forget somebody who has gone."""
        self._visitors.discard(visitor)

    def refusal(self, visitor: Visitor, message: ClientMessage) -> str | None:
        """Return why a message is not to be carried out; None if it is."""
        if visitor.rights.administer:
            return None
        try:
            right, stream = needed(message)
        except kernel.BadCommand as error:
            self._counts["refused: no command"] += 1
            return f"that is no command: {error}"
        if right is None:
            if visitor.rights != Rights():
                return None
            self._counts["refused: no rights"] += 1
            why = f"{visitor} has no rights here"
        elif visitor.rights.allow(right, stream):
            return None
        else:
            self._counts[f"refused: no right to {right.value}"] += 1
            what = "" if right is Right.ADMINISTER else f" {stream.hex() if stream else 'every stream'}"
            why = f"{visitor} has no right to {right.value}{what}"
        told = (visitor.names, right, stream)
        if told not in self._logged and len(self._logged) < LOGGED_MAX:
            self._logged.add(told)
            log.warning("refused", extra=fields(why=why))
        return why


class Visitor:
    """Somebody on one connection."""

    __slots__ = ("names", "rights")

    def __init__(self, names: frozenset[str], rights: Rights) -> None:
        self.names = names
        self.rights = rights

    def __str__(self) -> str:
        return ", ".join(sorted(self.names)) or "a client without a name"


def needed(message: ClientMessage) -> tuple[Right | None, bytes | None]:
    """Return the right that a message needs, and for which stream; None: for every one.

    Raises BadCommand for a request that has no command.
    """
    if isinstance(message, Request):
        subject, stream = kernel.subject(message.command)
        return _OF_COMMANDS[subject], stream
    if isinstance(message, (ReadRequest, FetchRecords)):
        return Right.READ, message.stream
    if isinstance(message, AskStatus):
        return None, None
    assert isinstance(message, Reconfigure)
    return Right.ADMINISTER, None


def names_in(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the common names and the DNS names that a certificate gives its owner."""
    if not certificate:
        return frozenset()
    common = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    other = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return frozenset(common) | frozenset(other)
