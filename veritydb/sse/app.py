"""The ASGI application, put together: addresses, problems, origins.

Runs under uvicorn (``veritydb serve`` does that), and mounted in any other ASGI application::

    fastapi_app.mount("/live", veritydb.sse.create_app("clinic.db", settings=settings))

It needs an asyncio loop, and nothing to be started before it is asked.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncGenerator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from veritydb.keys import Key
from veritydb.replay.registering import Register
from veritydb.sse import endpoints, page
from veritydb.sse.health import QuorumOf
from veritydb.sse.problems import Problem
from veritydb.sse.service import Service
from veritydb.sse.settings import Settings

_EXPOSED = ["X-Served-At", "Retry-After"]
_ALLOWED = ["Authorization", "Content-Type", "Last-Event-ID", "X-API-Key", "X-Read-After", "X-Read-Consistency"]
_KINDS_BY_STATUS = {404: "not-found", 405: "method-not-allowed"}

log = logging.getLogger("veritydb.sse")


def create_app(
    database: str | os.PathLike[str],
    *,
    key: Key | None = None,
    settings: Settings,
    ui: bool = False,
    register: Register = None,
    quorum: QuorumOf | None = None,
) -> Starlette:
    """Return an application that serves the database at the path ``database``.

    ``settings`` say who may see what (:func:`veritydb.sse.read_settings`); ``ui`` adds the page; ``register`` names
    what the schema needs; ``quorum`` asks who else has the log (:mod:`veritydb.sse.health`). Raises ConfigurationError,
    KeyMissing, WrongKey, NotEncrypted.
    """
    service = Service(database, key=key, settings=settings, register=register, quorum=quorum)
    routes: list[BaseRoute] = [
        Route("/events", endpoints.Events()),
        WebSocketRoute("/ws", endpoints.Socket()),
        Route("/query", endpoints.query, methods=["POST"]),
        Route("/tables", endpoints.tables),
        Route("/status", endpoints.status),
        Route("/session", endpoints.session, methods=["POST", "DELETE"]),
        Route("/healthz", endpoints.healthy),
        Route("/event.schema.json", endpoints.schema),
    ]
    if ui:
        routes += page.routes()
    middleware: list[Middleware] = []
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=_ALLOWED,
                expose_headers=_EXPOSED,
                # Cookies are for pages of this host; those of others send a header.
                allow_credentials=False,
            )
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            service.hub.end("the server is ending")
            await service.hub.ended(1.0)
            service.close()

    app = _Application(
        routes=routes,
        middleware=middleware,
        exception_handlers={Problem: _problem, HTTPException: _http, Exception: _failed},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


class _Application(Starlette):
    """Lets a stream reach the server without the layers between: a thousand of them send thirty times a second."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[endpoints.DIRECT] = send
        await super().__call__(scope, receive, send)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return endpoints.problem_response(error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = _KINDS_BY_STATUS.get(error.status_code, "bad-request")
    return endpoints.problem_response(Problem(kind, headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return endpoints.problem_response(Problem("internal"))
