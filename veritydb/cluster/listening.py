"""A node's door: TLS, with a certificate of the cluster's authority, or nothing; and a count of who did not get in."""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from dataclasses import dataclass, field

import anyio
import anyio.abc
from anyio.streams.tls import TLSListener

log = logging.getLogger("veritydb.node")


@dataclass(eq=False)
class Listener(TLSListener):
    """A listener that counts handshakes that failed, by why, and logs them ever more rarely."""

    counts: Counter[str] = field(default_factory=Counter[str])

    async def handle_handshake_error(self, exc: BaseException, stream: anyio.abc.AnyByteStream) -> None:  # type: ignore[override]  # theirs has no self
        """Hang up, and count."""
        await anyio.aclose_forcefully(stream)
        if not isinstance(exc, Exception):
            raise exc
        why = f"refused: {handshake_problem(exc)}"
        self.counts[why] += 1
        count = self.counts[why]
        if count & (count - 1) == 0:  # The 1st, 2nd, 4th, 8th: whoever knocks all day does not fill the log.
            peer = stream.extra(anyio.abc.SocketAttribute.remote_address, "somebody")
            log.warning("%s: %s (%s so far)", why, peer, count)


def handshake_problem(error: Exception) -> str:
    """Return why a handshake failed, in few words, and one of few."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "failed"
        return _PROBLEMS.get(reason, f"TLS: {reason.replace('_', ' ').lower()}")
    if isinstance(error, TimeoutError):
        return "no handshake in time"
    return "hung up during the handshake"


_PROBLEMS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate",
    "HTTP_REQUEST": "not TLS",
    "WRONG_VERSION_NUMBER": "not TLS",
    "UNSUPPORTED_PROTOCOL": "TLS below 1.3",
}
