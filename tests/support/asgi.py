"""An ASGI application asked in this process, a loop for each question."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Asgi:
    """A client of an application; closes its service in the end."""

    def __init__(self, app: ASGIApp, *, service: Any = None) -> None:
        self._app = app
        self._service = service

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._service is not None:
            self._service.close()

    def ask(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        """Make one request."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://clinic.test") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(asked())
