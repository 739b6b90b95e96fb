"""The addresses: what each takes, and what it answers. ``docs/reference/http.md`` describes them.

Each is a function of a request; who asks is found out first, always. Parameters are checked here and nowhere else.
Nothing that is wrong is answered by anything but a :class:`~veritydb.sse.problems.Problem`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple, cast

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from veritydb.consistency import format_tokens, parse_tokens
from veritydb.errors import CursorMalformed
from veritydb.events import Value
from veritydb.sse.callers import COOKIE, Caller, moment_text
from veritydb.sse.messages import Asked, time_text
from veritydb.sse.pipes import pipe_of
from veritydb.sse.problems import MEDIA_TYPE, Problem
from veritydb.sse.queries import CONSISTENCIES
from veritydb.sse.rights import Rights
from veritydb.sse.service import Service
from veritydb.sse.stream import Stream, retry_text, text_of
from veritydb.sse.values import sql_value
from veritydb.subscriptions.updates import ACTIONS, Cursor

_BODY_BYTES_MAX = 1 << 20
_BODY_SECONDS = 10.0
_FRAME_BYTES_MAX = 4 << 10
_FRAMES_MAX = 100
"""A client has nothing to say on a WebSocket; so many frames are forgiven."""
_PARAMETER_CHARACTERS_MAX = 10_000
DIRECT = "veritydb.send"
"""Where a request's scope has the server's own ``send``."""
_NO_STORE = {"Cache-Control": "no-store"}

STREAM_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # no-transform: a proxy that compressed would hold events back until it has enough of them.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


def service_of(connection: HTTPConnection) -> Service:
    """Return the service of the application that a request came to."""
    service: Service = connection.app.state.service
    return service


def problem_response(problem: Problem) -> Response:
    """Return the answer that says it."""
    body = json.dumps(problem.body, ensure_ascii=False)
    return Response(body, problem.status, media_type=MEDIA_TYPE, headers={**_NO_STORE, **problem.headers})


# Streams


class Events:
    """``GET /events``: an event stream. A raw ASGI application, for a stream is sent piece by piece."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until it goes, or its key expires, or the server ends."""
        request = Request(scope, receive)
        if request.method not in ("GET", "HEAD"):
            raise Problem("method-not-allowed", headers={"Allow": "GET, HEAD"})
        service = service_of(request)
        caller, wanted = stream_request(service, request)
        async with service.hub.stream(caller, *wanted) as stream:
            headers = [(name.lower().encode(), value.encode()) for name, value in STREAM_HEADERS.items()]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if request.method == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            # What is sent from now on is the server's business alone: no middleware of ours has to see each piece.
            direct = scope.get(DIRECT, send)
            stream.pipe = pipe_of(direct)
            await _until_gone(receive, _serve(stream, direct))


async def _serve(stream: Stream, send: Send) -> None:
    await send({"type": "http.response.body", "body": retry_text(stream), "more_body": True})
    async for piece in stream.pieces():
        stream.begin_sending()
        await send({"type": "http.response.body", "body": text_of(piece), "more_body": True})
        stream.sending = False
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, serving: Any) -> None:
    """Serve until it is done, or the client has gone."""
    task: asyncio.Future[None] = asyncio.ensure_future(serving)
    gone: asyncio.Future[None] = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (gone, task):
            each.cancel()
        results = await asyncio.gather(task, gone, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # What a client sends with a GET is of no interest.


class Socket:
    """``/ws``: the same stream as text frames of JSON, one message a frame: cursor, event, data."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        socket = WebSocket(scope, receive, send)
        service = service_of(socket)
        try:
            _check_origin(service, socket)
            caller, wanted = stream_request(service, socket)
            async with service.hub.stream(caller, *wanted) as stream:
                await socket.accept()
                await _until_gone(receive, _serve_frames(stream, socket))
        except Problem as problem:
            await socket.send_denial_response(problem_response(problem))


async def _serve_frames(stream: Stream, socket: WebSocket) -> None:
    async def write(text: str) -> None:
        stream.touch()
        stream.sending = True
        await socket.send_text(text)
        stream.sending = False
        stream.touch()

    try:
        async for piece in stream.pieces():
            if isinstance(piece, Problem):
                await write(json.dumps({"event": "problem", "data": piece.body}))
                # 1008: policy; 1012: the server restarts (RFC 6455 and its registry).
                await socket.close(1008 if piece.kind == "token-expired" else 1012)
                return
            if not piece:
                await write('{"event":"heartbeat"}')
            for frame in _frames(piece):
                await write(frame)
    except WebSocketDisconnect:
        pass


def _frames(sse: bytes) -> list[str]:
    """Return what an event stream says as frames. The text is our own: id, if there is one, event, data."""
    frames: list[str] = []
    for part in sse.decode().split("\n\n")[:-1]:
        *ids, event, data = part.split("\n")
        cursor = "".join(f'"id":"{line.removeprefix("id: ")}",' for line in ids)
        frames.append(f'{{{cursor}"event":"{event.removeprefix("event: ")}","data":{data.removeprefix("data: ")}}}')
    return frames


def _check_origin(service: Service, socket: WebSocket) -> None:
    """A page of another host may open a WebSocket here, cookie and all: browsers leave it to us to refuse that."""
    origin = socket.headers.get("origin")
    if origin is None or origin in service.settings.cors_origins or "*" in service.settings.cors_origins:
        return
    if origin.partition("://")[2] != socket.headers.get("host"):
        raise Problem("forbidden", "this origin is not one of cors_origins")


class Wanted(NamedTuple):
    """A stream that is asked for."""

    asked: Asked
    since: str | None
    """The cursor behind which it begins."""
    snapshot: bool
    """Whether the rows there are come first."""


def stream_request(service: Service, request: HTTPConnection) -> tuple[Caller, Wanted]:
    """Return who asks for a stream, and for which. Raises Problem."""
    caller = service.gate.caller(request)
    return caller, wanted_by(service, caller.rights, request.query_params, request.headers.get("last-event-id"))


def wanted_by(service: Service, rights: Rights, parameters: QueryParams, resumed: str | None) -> Wanted:
    """Return what is asked for by the parameters of an address and by Last-Event-ID. Raises Problem."""
    _only(parameters, ("tables", "actions", "images", "since", "snapshot"))
    tables = _names(parameters, "tables", service.settings.streams.tables_max)
    actions = _names(parameters, "actions", len(ACTIONS))
    if actions is not None and not actions <= set(ACTIONS):
        raise Problem("bad-request", f"actions are {', '.join(ACTIONS)}")
    snapshot = _flag(parameters, "snapshot")
    if snapshot and "since" in parameters:
        raise Problem("bad-request", "a snapshot is of now: it cannot begin in the past (since)")
    if snapshot and not rights.query:
        raise Problem("forbidden", "this role may not query, and a snapshot is the answer to one")
    since = resumed or parameters.get("since")
    if since is not None:
        if len(since) > 100:
            raise Problem("bad-cursor")
        cursor = _cursor(since)
        if not rights.history and not resumed and not cursor.stream:
            # A cursor that a stream gave out resumes; a bare offset asks for what was.
            raise Problem("forbidden", "this role may not ask what was")
        if cursor.stream and not resumed and cursor.stream != service.queries.stream:
            # A browser that resumes is told by a resync event instead, for it would not come back after an error.
            raise Problem("other-database")
    return Wanted(Asked(tables, actions, _flag(parameters, "images")), since, snapshot)


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.parse(text)
    except Exception:
        raise Problem("bad-cursor", "a cursor is offset, offset.index, or offset.index@stream") from None


# Questions


async def query(request: Request) -> Response:
    """``POST /query``: one SELECT."""
    service = service_of(request)
    caller = service.gate.caller(request)
    body = await _json_body(request)
    for name in body:
        if name not in ("sql", "parameters", "at"):
            raise Problem("bad-request", f"unknown member {str(name)[:100]!r}; there are sql, parameters, at")
    sql, at = body.get("sql"), body.get("at")
    if not isinstance(sql, str):
        raise Problem("bad-request", "sql is a text")
    if at is not None and (not isinstance(at, int) or isinstance(at, bool)):
        raise Problem("bad-request", "at is an offset")
    consistency = request.headers.get("x-read-consistency", "default")
    if consistency not in CONSISTENCIES:
        raise Problem("bad-request", f"X-Read-Consistency is one of {', '.join(CONSISTENCIES)}")
    stream = service.queries.stream
    seen = request.headers.get("x-read-after")
    answer = await service.ask(
        service.queries.run,
        caller.rights,
        sql,
        _parameters(body.get("parameters", [])),
        at=at,
        after=_seen(seen, stream),
        consistency=consistency,
    )
    # Who asks in tokens passes on what he is told, perhaps to another database's server.
    served = format_tokens({stream: answer.offset}) if seen is not None and "@" in seen else str(answer.offset)
    return JSONResponse(
        {"columns": answer.columns, "rows": answer.rows, "offset": answer.offset},
        headers={**_NO_STORE, "X-Served-At": served},
    )


async def tables(request: Request) -> Response:
    """``GET /tables``: what the caller may see, now or as of an offset."""
    service = service_of(request)
    caller = service.gate.caller(request)
    _only(request.query_params, ("at",))
    found, offset = await service.ask(service.queries.tables, caller.rights, at=_offset(request.query_params.get("at")))
    listed = [{"name": table.name, "kind": table.kind, "columns": table.columns, "key": table.key} for table in found]
    return JSONResponse({"tables": listed, "offset": offset}, headers={**_NO_STORE, "X-Served-At": str(offset)})


async def status(request: Request) -> Response:
    """``GET /status``: how log and file are, and who the caller is."""
    service = service_of(request)
    caller = service.gate.caller(request)
    facts = await service.ask(service.queries.status)
    facts["head_time"] = time_text(facts["head_time"]) if facts["transactions"] else None
    facts["streams"] = service.hub.count
    facts["you"] = {
        "name": caller.name,
        "role": caller.role,
        "query": caller.rights.query,
        "history": caller.rights.history,
        "expires": moment_text(caller.expires),
    }
    return JSONResponse(facts, headers=_NO_STORE)


async def healthy(request: Request) -> Response:
    """``GET /healthz``: the process answers. For load balancers; it tells nothing of the database."""
    if service_of(request).hub.ending is not None:
        raise Problem("unavailable", "the server is ending")
    return JSONResponse({"status": "ok"}, headers=_NO_STORE)


async def schema(request: Request) -> Response:
    """``GET /event.schema.json``: what ``data`` of an event may be."""
    return Response(event_schema(), media_type="application/schema+json")


def event_schema() -> str:
    """Return the JSON Schema of the messages."""
    return resources.files("veritydb.sse").joinpath("event.schema.json").read_text(encoding="utf-8")


# Sessions


async def session(request: Request) -> Response:
    """``POST /session``: put a key or token into a cookie; ``DELETE``: take it away."""
    service = service_of(request)
    path = request.scope.get("root_path") or "/"
    if request.method == "DELETE":
        response = Response(status_code=204, headers=_NO_STORE)
        response.delete_cookie(COOKIE, path=path, httponly=True, samesite="strict")
        return response
    body = await _json_body(request)
    presented = body.get("credential")
    if set(body) != {"credential"} or not isinstance(presented, str) or not presented:
        raise Problem("bad-request", 'the body is {"credential": "key or token"}')
    caller = service.gate.known(presented)
    response = JSONResponse(
        {"name": caller.name, "role": caller.role, "expires": moment_text(caller.expires)}, headers=_NO_STORE
    )
    secure = service.settings.cookie_secure or request.url.scheme == "https"
    response.set_cookie(COOKIE, presented, path=path, httponly=True, samesite="strict", secure=secure)
    return response


# Parameters


def _only(parameters: QueryParams, known: tuple[str, ...]) -> None:
    for name in parameters:
        if name not in known:
            raise Problem("bad-request", f"unknown parameter {name[:100]!r}; there are {', '.join(known)}")
        if len(parameters.getlist(name)) > 1:
            raise Problem("bad-request", f"{name} is there twice")


def _names(parameters: QueryParams, name: str, most: int) -> frozenset[str] | None:
    text = parameters.get(name)
    if text is None:
        return None
    if len(text) > _PARAMETER_CHARACTERS_MAX:
        raise Problem("too-large", name)
    names = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    if not names or len(names) > most:
        raise Problem("bad-request", f"{name} is a list of names, at most {most}, with commas between them")
    return names


def _flag(parameters: QueryParams, name: str) -> bool:
    text = parameters.get(name, "0")
    if text not in ("0", "1", "false", "true"):
        raise Problem("bad-request", f"{name} is 1 or 0")
    return text in ("1", "true")


def _seen(text: str | None, stream: str) -> int | None:
    """Return the offset that the caller has seen: the text itself, or what its tokens say of this stream."""
    if text is None or "@" not in text:
        return _offset(text)
    try:
        return parse_tokens(text).get(stream)
    except CursorMalformed as error:
        raise Problem("bad-request", str(error)) from error


def _offset(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.removeprefix("-").isdecimal() or len(text) > 19:
        raise Problem("bad-request", "an offset is a whole number")
    return int(text)


async def _json_body(request: Request) -> dict[str, Any]:
    content = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                content += piece
                if len(content) > _BODY_BYTES_MAX:
                    raise Problem("too-large", f"a body has at most {_BODY_BYTES_MAX:,} bytes")
    except TimeoutError:
        raise Problem("bad-request", "the body did not come in time") from None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # Which a form of another site cannot send.
        raise Problem("bad-request", "the body is application/json")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Problem("bad-request", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Problem("bad-request", "the body is a JSON object")
    return body  # pyright: ignore[reportUnknownVariableType]  JSON has no types


def _parameters(given: Any) -> list[Value] | dict[str, Value]:
    try:
        if isinstance(given, list):
            return [sql_value(value) for value in cast("list[object]", given)]
        if isinstance(given, dict):
            named = cast("dict[str, object]", given)
            return {name: sql_value(value) for name, value in named.items()}
    except ValueError as error:
        raise Problem("bad-request", str(error)) from None
    raise Problem("bad-request", "parameters are a list, or an object for named ones")
