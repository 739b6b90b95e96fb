"""The id of a stream that people call by a name.

The group knows streams by 16 bytes (they stand in every record's header), people by a name: ``clinic``. The id is
derived from the cluster's id and the name, so that everybody who is told the name finds the stream, without asking
anybody, and the same name in another cluster is another stream.

32 hex digits are an id already: that is how a stream is called whose name nobody knows.
"""

from __future__ import annotations

import re
import unicodedata

from blake3 import blake3

from veritydb.errors import ConfigurationError

ID_SIZE = 16
NAME_MAX = 64
"""Bytes of a name, as UTF-8."""
_ID = re.compile(r"[0-9a-f]{32}")


def stream_id(cluster: bytes, name: str) -> bytes:
    """Return the 16 bytes by which a cluster knows the stream of this name.

    Raises ConfigurationError if there is no such name: :func:`name_problem` says why.
    """
    problem = name_problem(name)
    if problem is not None:
        raise ConfigurationError(problem)
    if _ID.fullmatch(name):
        return bytes.fromhex(name)
    key = blake3(cluster, derive_key_context="VerityDB 2026 id of a stream by its name").digest()
    return blake3(name.encode(), key=key).digest(length=ID_SIZE)


def domain_id(domain: str) -> bytes:
    """Return the 16 bytes that stand for a domain of NATS JetStream, which has no id, among clusters."""
    key = blake3(b"", derive_key_context="VerityDB 2026 id of a NATS JetStream domain").digest()
    return blake3(domain.encode(), key=key).digest(length=ID_SIZE)


def name_problem(name: str) -> str | None:
    """Return why no stream can have this name; None if one can."""
    if not name or len(name.encode(errors="surrogatepass")) > NAME_MAX:
        return f"a stream's name has 1 to {NAME_MAX} bytes, not {len(name.encode(errors='surrogatepass'))}"
    if not name.isprintable() or name != name.strip() or "*" in name:
        return f"a stream's name has printable characters, no * and no spaces around it: {name!r}"
    if unicodedata.normalize("NFC", name) != name:
        # Two spellings that look alike would be two streams.
        return f"a stream's name is written in Unicode's normal form C: {name!r}"
    return None
