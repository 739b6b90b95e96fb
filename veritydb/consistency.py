"""How much of what others have committed a reader must see, where several machines share a database.

================  ====================================================================================================
``default``       everything that one has written or seen oneself, wherever: a *token* says how far that is, and
                  travels in a header or a cookie
``synchronized``  everything that was committed anywhere before the question (linearizable): the cluster is asked how
                  far that is, which takes a round trip to a quorum
``eventual``      the file as it is
================  ====================================================================================================

A connection waits before it reads, outside of transactions, until its file is that far, at most as long as its
time-out; ConsistencyTimeout says that it did not get there. Whoever answers requests puts :class:`Consistency` (ASGI)
or :class:`ConsistencyWSGI` around the application, and a browser that has written at one server reads it at the next::

    X-Write-Offset        in an answer: what was written for it, a token
    X-Read-After          in a request: a token; nothing older is read for it
    X-Read-Consistency    in a request: default, synchronized or eventual
    X-Served-At           in an answer: how far the files were from which it was read, a token

A token is ``offset@stream``, with the first 16 hex digits of the stream's id, or several of them with commas between.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any

from veritydb.errors import ConfigurationError, CursorMalformed

CONSISTENCIES = ("default", "synchronized", "eventual")
TOKENS_MAX = 64
_TOKEN = re.compile(r"(0|[1-9][0-9]{0,18})@([0-9a-f]{16})")

Tokens = dict[str, int]
"""By the first 16 hex digits of a stream's id: the offset of a transaction."""


class Scope:
    """One request, or whatever else reads and writes for somebody: what it must see, has written, has read."""

    __slots__ = ("after", "consistency", "served", "written")

    def __init__(self, after: Tokens, consistency: str | None) -> None:
        self.after = after
        self.consistency = consistency
        self.written: Tokens = {}
        self.served: Tokens = {}

    def note_written(self, stream: str, offset: int) -> None:
        """Take note of a commit; what is read from now on includes it."""
        self.written[stream] = max(offset, self.written.get(stream, -1))
        self.after[stream] = max(offset, self.after.get(stream, -1))

    @property
    def token(self) -> str:
        """What one must see to see everything that was written or asked for here; empty if that is nothing."""
        return format_tokens(self.after)


_scope: ContextVar[Scope | None] = ContextVar("veritydb consistency", default=None)


def current() -> Scope | None:
    """Return the scope that this runs in."""
    return _scope.get()


@contextlib.contextmanager
def scope(after: str = "", consistency: str | None = None) -> Generator[Scope]:
    """Run what is inside for somebody who has seen ``after``, a token; the scope then knows what was written.

    Raises CursorMalformed, ConfigurationError.
    """
    made = Scope(parse_tokens(after), None if consistency is None else check(consistency))
    reset = _scope.set(made)
    try:
        yield made
    finally:
        _scope.reset(reset)


def check(consistency: object) -> str:
    """Return the word, if it is one. Raises ConfigurationError."""
    if consistency not in CONSISTENCIES:
        raise ConfigurationError(f"consistency is one of {', '.join(CONSISTENCIES)}, not {consistency!r}")
    return str(consistency)


def parse_tokens(text: str) -> Tokens:
    """Return what a token says. Raises CursorMalformed."""
    tokens: Tokens = {}
    for each in text.split(",", TOKENS_MAX) if text.strip() else ():
        found = _TOKEN.fullmatch(each.strip())
        if found is None or int(found[1]) >= 1 << 63:
            raise CursorMalformed(f"{each[:100]!r} is no token: offset@stream, with commas between several")
        tokens[found[2]] = max(int(found[1]), tokens.get(found[2], -1))
    return tokens


def format_tokens(tokens: Tokens) -> str:
    """Return tokens as they travel."""
    return ",".join(f"{offset}@{stream}" for stream, offset in sorted(tokens.items()))


# Around an application -----------------------------------------------------------------------------------------------

_Messages = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Application = Callable[[MutableMapping[str, Any], _Messages, _Send], Awaitable[None]]


def _headers(opened: Scope) -> list[tuple[str, str]]:
    return [
        (name, format_tokens(tokens))
        for name, tokens in (("X-Write-Offset", opened.written), ("X-Served-At", opened.served))
        if tokens
    ]


class Consistency:
    """ASGI middleware: reads and writes tokens in headers, and in a cookie if ``cookie`` names one.

    A request whose token is none is answered with 400.
    """

    def __init__(self, app: _Application, *, cookie: str = "") -> None:
        self.app = app
        self.cookie = cookie

    async def __call__(self, asked: MutableMapping[str, Any], receive: _Messages, send: _Send) -> None:
        """Answer a request."""
        if asked["type"] != "http":
            await self.app(asked, receive, send)
            return
        told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in asked["headers"]}
        try:
            entered = scope(_after(told, self.cookie), told.get("x-read-consistency"))
            opened = entered.__enter__()
        except (CursorMalformed, ConfigurationError) as error:
            body = str(error).encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return

        async def stamped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = _headers(opened) + _set_cookie(opened, self.cookie)
                message = {**message, "headers": [*message["headers"], *_encoded(more)]}
            await send(message)

        try:
            await self.app(asked, receive, stamped)
        finally:
            entered.__exit__(None, None, None)


class ConsistencyWSGI:
    """The same for WSGI."""

    def __init__(self, app: Callable[..., Iterable[bytes]], *, cookie: str = "") -> None:
        self.app = app
        self.cookie = cookie

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        told = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        try:
            entered = scope(_after(told, self.cookie), told.get("x-read-consistency"))
            opened = entered.__enter__()
        except (CursorMalformed, ConfigurationError) as error:
            start_response("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")])
            return [str(error).encode()]

        def stamped(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, *_headers(opened), *_set_cookie(opened, self.cookie)], *rest)

        try:
            body = self.app(environ, stamped)
        finally:
            entered.__exit__(None, None, None)
        if isinstance(body, (list, tuple, environ.get("wsgi.file_wrapper", tuple))):
            return body  # All of it is there; a server knows these, and how long they are.
        return _Body(body, opened)


class _Body:
    """A WSGI answer that is made while it is sent, and perhaps reads or writes for it only then: in its scope."""

    def __init__(self, body: Iterable[bytes], opened: Scope) -> None:
        self._body = body
        self._pieces: Iterator[bytes] | None = None
        self._scope = opened

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        reset = _scope.set(self._scope)
        try:
            if self._pieces is None:
                self._pieces = iter(self._body)
            return next(self._pieces)
        finally:
            _scope.reset(reset)

    def close(self) -> None:
        """What the server calls in the end (PEP 3333)."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _after(headers: dict[str, str], cookie: str) -> str:
    told = headers.get("x-read-after", "")
    if not told and cookie:
        for each in headers.get("cookie", "").split(";"):
            name, _, value = each.strip().partition("=")
            if name == cookie:
                # What a browser keeps may be of another time; it must not keep anybody from coming in.
                with contextlib.suppress(CursorMalformed):
                    return format_tokens(parse_tokens(value.replace("|", ",")))
    return told


def _set_cookie(opened: Scope, cookie: str) -> list[tuple[str, str]]:
    if not cookie or not opened.written:
        return []
    # A comma must not stand in a cookie (RFC 6265, section 4.1.1).
    return [("Set-Cookie", f"{cookie}={opened.token.replace(',', '|')}; Path=/; HttpOnly; SameSite=Lax")]


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


__all__ = [
    "CONSISTENCIES",
    "Consistency",
    "ConsistencyWSGI",
    "Scope",
    "check",
    "current",
    "format_tokens",
    "parse_tokens",
    "scope",
]
