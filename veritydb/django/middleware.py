"""Who made a request, and which one it was, in the log with everything that the request changed.

First in the list, so that what other middleware writes (the session, after the view) has its actor, too::

    MIDDLEWARE = ["veritydb.django.middleware.ActorMiddleware", ...]

A project that wants other words inherits from :class:`ActorMiddleware` and says them in ``actor`` and ``reason``.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from veritydb.django.acting import acting

ANONYMOUS = "anonymous"


class ActorMiddleware:
    """Lets each request act in the name of its user, under WSGI and ASGI.

    The user is asked for at the first write, not before, so a page that only reads costs no query more; and again at
    each later write, so that what a login writes after it has its user has that user.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer ``request``."""
        if self._is_async:
            return self._answer(request)
        with acting(partial(self.actor, request), partial(self.reason, request)):
            response: HttpResponseBase = self.get_response(request)
            return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        with acting(partial(self.actor, request), partial(self.reason, request)):
            response: HttpResponseBase = await self.get_response(request)
            return response

    def actor(self, request: HttpRequest) -> str | None:
        """Return who acts; None: whoever the connection's option ``actor`` names."""
        user: Any = getattr(request, "user", None)
        if user is None:
            return None  # No authentication in this project, or not yet in this request.
        return str(user.get_username()) if user.is_authenticated else ANONYMOUS

    def reason(self, request: HttpRequest) -> str | None:
        """Return why: method and path. A query string may hold what is nobody's business in a log."""
        return f"{request.method} {request.path}"
