"""The live page: three files that the server sends as they are.

It asks the same addresses as everybody, with the caller's own rights. Its policy allows nothing from other hosts, no
inline script, and no frame around it.
"""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def routes() -> list[BaseRoute]:
    """Return the addresses of the page."""
    return [_route(address, *file) for address, file in _FILES.items()]


def _route(address: str, name: str, media_type: str) -> Route:
    content = resources.files("veritydb.sse").joinpath("static", name).read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, headers={**HEADERS, "Content-Type": media_type})

    return Route(f"/{address}", send)
