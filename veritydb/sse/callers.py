"""Who is asking: an API key or a token (RFC 7519, by PyJWT), in a header or in the cookie of a session.

A browser's ``EventSource`` cannot send a header of its own, so ``POST /session`` puts what was presented into a cookie
that scripts cannot read and other sites cannot have sent (``HttpOnly``, ``SameSite=Strict``). Nothing is taken from
addresses: they end in logs.

Whatever is wrong with a token, the answer is one of two: it has expired, or it is not valid.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from starlette.requests import HTTPConnection

from veritydb.sse.problems import Problem
from veritydb.sse.rights import Rights, bind
from veritydb.sse.settings import ApiKey, Settings, hash_of

COOKIE = "veritydb_session"
CREDENTIAL_BYTES_MAX = 4_000
"""Of a key or token; more does not fit into a cookie."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks."""

    name: str
    role: str
    rights: Rights
    expires: float | None = None
    """Seconds since 1970-01-01 UTC."""

    def check(self) -> None:
        """Raise Problem if the key or token has expired meanwhile."""
        if self.expires is not None and time.time() >= self.expires:
            raise Problem("token-expired")


class Gate:
    """Knows callers by what they present."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = {key.sha256: key for key in settings.api_keys}

    def caller(self, connection: HTTPConnection) -> Caller:
        """Return who makes a request. Raises Problem."""
        presented = credential(connection)
        if presented is not None:
            return self.known(presented)
        if self._settings.anonymous is None:
            raise Problem("sign-in", "present an API key or a token: Authorization: Bearer …")
        return self._caller("anonymous", self._settings.anonymous, {}, None)

    def known(self, presented: str) -> Caller:
        """Return whom a key or token stands for. Raises Problem."""
        if len(presented) > CREDENTIAL_BYTES_MAX:
            raise Problem("bad-token")
        key = self._key(presented)
        if key is not None:
            caller = self._caller(
                key.name, key.role, key.claims, None if key.expires is None else key.expires.timestamp()
            )
            caller.check()
            return caller
        return self._by_token(presented)

    def _key(self, presented: str) -> ApiKey | None:
        hashed = hash_of(presented)
        found = None
        for known, key in self._keys.items():  # All of them, so that time does not tell which begins like it.
            if hmac.compare_digest(known, hashed):
                found = key
        return found

    def _by_token(self, presented: str) -> Caller:
        believed = self._settings.jwt
        if believed is None:
            raise Problem("bad-token")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                presented,
                believed.key,
                algorithms=list(believed.algorithms),
                audience=believed.audience,
                issuer=believed.issuer,
                leeway=believed.leeway_seconds,
                # A token for ever would be a key that nobody can take back.
                options={"require": ["exp"], "verify_aud": believed.audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise Problem("token-expired") from None
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise Problem("bad-token") from error
        role, name = claims.get(believed.role_claim), claims.get("sub")
        if not isinstance(role, str) or role not in self._settings.roles:
            raise Problem("bad-token")
        return self._caller(
            name if isinstance(name, str) else "", role, claims, float(claims["exp"]) + believed.leeway_seconds
        )

    def _caller(self, name: str, role: str, claims: Mapping[str, Any], expires: float | None) -> Caller:
        return Caller(name, role, bind(self._settings.roles[role], claims), expires)


def credential(connection: HTTPConnection) -> str | None:
    """Return the key or token of a request, if it has one. Raises Problem for another kind of authorisation."""
    header = connection.headers.get("authorization")
    if header is not None:
        scheme, _, presented = header.partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise Problem("bad-token", "Authorization: Bearer …")
        return presented.strip()
    return connection.headers.get("x-api-key") or connection.cookies.get(COOKIE)


def moment_text(expires: float | None) -> str | None:
    """Return when a credential expires, for people."""
    return None if expires is None else datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z")
