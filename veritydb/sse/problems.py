"""What is answered when something cannot be: a status and a JSON body as of RFC 9457.

Everything below raises :class:`Problem`; :mod:`veritydb.sse.app` turns it into an answer, and a stream that has begun
says it as an event. ``type`` is a name to program against, and never changes its meaning::

    {"type": "urn:problem-type:veritydb:unknown-table", "title": "There is no such table, or you may not see it.",
     "status": 404, "detail": "patints"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:problem-type:veritydb:"


class Kind(NamedTuple):
    """A kind of problem."""

    status: int
    title: str


KINDS: Mapping[str, Kind] = {
    "bad-request": Kind(400, "The request says what cannot be."),
    "bad-cursor": Kind(400, "The cursor is malformed."),
    "future-offset": Kind(400, "The log has no such offset yet."),
    "other-database": Kind(409, "The cursor belongs to another database."),
    "sign-in": Kind(401, "Who you are has to be known for this."),
    "bad-token": Kind(401, "The key or token is not valid."),
    "token-expired": Kind(401, "The key or token has expired."),
    "forbidden": Kind(403, "Your role may not do this."),
    "unknown-table": Kind(404, "There is no such table, or you may not see it."),
    "unknown-name": Kind(400, "The statement names a table, column or function that is not there for you."),
    "not-found": Kind(404, "There is nothing at this address."),
    "method-not-allowed": Kind(405, "This address does not take that method."),
    "bad-statement": Kind(400, "SQLite does not accept the statement."),
    "not-a-read": Kind(403, "Only SELECT is allowed here."),
    "too-large": Kind(413, "The request, or its answer, is larger than the limit."),
    "too-slow": Kind(503, "The statement ran longer than the limit."),
    "too-many": Kind(429, "Too many streams or requests at once."),
    "behind": Kind(504, "The database did not reach the offset in time."),
    "retired": Kind(410, "The log no longer reaches back that far."),
    "dropped": Kind(410, "The table is gone."),
    "unavailable": Kind(503, "The database cannot be read now."),
    "internal": Kind(500, "The server failed."),
}


class Problem(Exception):
    """Something that cannot be, with what RFC 9457 wants to be told of it."""

    def __init__(self, kind: str, detail: str = "", *, headers: Mapping[str, str] | None = None, **facts: Any) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.status, self.title = KINDS[kind]
        self.detail = detail
        self.facts = facts
        """Further members of the body."""
        self.headers = dict(headers or {})
        if self.status == 401:
            self.headers.setdefault("WWW-Authenticate", 'Bearer realm="veritydb"')

    @property
    def body(self) -> dict[str, Any]:
        """The members of the JSON body."""
        body: dict[str, Any] = {"type": PREFIX + self.kind, "title": self.title, "status": self.status}
        if self.detail:
            body["detail"] = self.detail
        return body | self.facts
