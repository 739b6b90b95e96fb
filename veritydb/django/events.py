"""A Django view that streams committed changes: server-sent events, under ASGI.

    from veritydb.django.events import event_stream

    def role(request):
        return WARD if request.user.has_perm("clinic.view_patient") else None

    urlpatterns = [path("events/", event_stream(role))]

Who may see what is Django's to say, by the :class:`~veritydb.sse.Role` that ``role`` returns for a request; what is
sent, and how a browser resumes, is as in :mod:`veritydb.sse`, whose streams these are.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from starlette.datastructures import QueryParams

from veritydb.sse.callers import Caller
from veritydb.sse.endpoints import STREAM_HEADERS, Wanted, wanted_by
from veritydb.sse.problems import MEDIA_TYPE, Problem
from veritydb.sse.rights import Role, bind
from veritydb.sse.service import Service
from veritydb.sse.settings import Settings
from veritydb.sse.stream import retry_text, text_of

RoleOf = Callable[[HttpRequest], "Role | Awaitable[Role | None] | None"]


def event_stream(role: RoleOf, *, using: str = "default", settings: Settings | None = None) -> Callable[..., Any]:
    """Return a view that streams the changes of the database ``using``.

    ``role``, a function or coroutine function, returns what the request may see, or None to refuse it. ``settings``
    give the limits of streams.
    """

    @cache
    def service() -> Service:
        options = connections[using].get_connection_params()
        key = options.get("key")
        return Service(
            options["database"], key=key, settings=settings or Settings(), register="veritydb.django:register"
        )

    async def view(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        try:
            if request.method not in ("GET", "HEAD"):
                raise Problem("method-not-allowed", headers={"Allow": "GET, HEAD"})
            found: Any = await role(request) if iscoroutinefunction(role) else await sync_to_async(role)(request)
            if found is None:
                raise Problem("forbidden")
            serving = await sync_to_async(service)()
            caller = Caller(str(request.META.get("REMOTE_ADDR", "")), found.name, bind(found, {}))
            parameters = QueryParams(request.META.get("QUERY_STRING", ""))
            wanted = wanted_by(serving, caller.rights, parameters, request.META.get("HTTP_LAST_EVENT_ID"))
            pieces = _pieces(serving, caller, wanted)
            first = await anext(pieces)  # What cannot be is found here, while there is still a status to say it with.
        except Problem as problem:
            body = json.dumps(problem.body, ensure_ascii=False).encode()
            return HttpResponse(body, status=problem.status, content_type=MEDIA_TYPE, headers=problem.headers)
        response = StreamingHttpResponse(_chained(first, pieces), headers=dict(STREAM_HEADERS))
        response["Content-Encoding"] = "identity"  # GZipMiddleware, which would hold events back, leaves this alone.
        return response

    return view


async def _pieces(service: Service, caller: Caller, wanted: Wanted) -> AsyncIterator[bytes]:
    async with service.hub.stream(caller, *wanted) as stream:
        yield retry_text(stream)
        async for piece in stream.pieces():
            # While this is suspended Django is sending; a client that takes nothing is given up.
            stream.begin_sending()
            yield text_of(piece)
            stream.sending = False


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):  # type: ignore[type-var]  # an iterator here always is a generator
        yield first
        async for piece in rest:
            yield piece


__all__ = ["event_stream"]
