"""A node's doors: TLS, with a certificate of the cluster's authority, or nothing; and a count of who did not get in."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections import Counter

from veritydb.cluster.config import Address
from veritydb.cluster.logs import fields
from veritydb.errors import ConfigurationError

log = logging.getLogger("veritydb.node")


def refuse(error: Exception, remote: object, counts: Counter[str]) -> None:
    """Count, and log ever more rarely, that somebody did not get in."""
    problem = handshake_problem(error)
    why = f"refused: {problem}"
    counts[why] += 1
    count = counts[why]
    if count & (count - 1) == 0:  # The 1st, 2nd, 4th, 8th: whoever knocks all day does not fill the log.
        log.warning("handshake refused", extra=fields(remote=remote, why=problem, so_far=count))


def take(address: Address) -> socket.socket:
    """Return a socket that has an address and does not listen yet. Raises ConfigurationError.

    Who dials it meanwhile is turned away at once, and not left to wait.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(_why_not(address, error)) from error
    return listener


def listen(listener: socket.socket, address: Address, backlog: int) -> None:
    """Let somebody in. Raises ConfigurationError."""
    try:
        listener.listen(backlog)
    except OSError as error:  # Linux lets two take an address, and one of them listen.
        raise ConfigurationError(_why_not(address, error)) from error


def _why_not(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is taken: another process listens there"
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return f"{address} cannot be listened on: {reason}"


def handshake_problem(error: Exception) -> str:
    """Return why a handshake failed, in few words, and one of few."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "failed"
        return _PROBLEMS.get(reason, f"TLS: {reason.replace('_', ' ').lower()}")
    if isinstance(error, (TimeoutError, ConnectionAbortedError)):  # The second is asyncio's word for it.
        return "no handshake in time"
    return "hung up during the handshake"


_PROBLEMS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate",
    "HTTP_REQUEST": "not TLS",
    "WRONG_VERSION_NUMBER": "not TLS",
    "UNSUPPORTED_PROTOCOL": "TLS below 1.3",
}
