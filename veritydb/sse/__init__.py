"""Committed changes over HTTP: server-sent events, a WebSocket, queries that only read, a page.

    app = veritydb.sse.create_app("clinic.db", key=..., settings=veritydb.sse.read_settings("server.toml"))

is an ASGI application; ``veritydb serve clinic.db`` runs it. It needs ``pip install veritydb[server]``.

==============  ====================================================================================================
``settings``    one TOML file: keys, tokens, roles, limits
``rights``      what a caller may see (pure)
``values``      values of SQLite as JSON (pure)
``messages``    updates as text, made once for all who see the same (pure)
``problems``    what is answered when something cannot be, RFC 9457 (pure)
``callers``     who is asking
``guarded``     a connection on which one can only read, and only what one may see
``past``        databases as of earlier offsets
``queries``     questions to now and to the past
``pieces``      what a stream takes at once
``pipes``       a client's connection, written to without its task
``stream``      one client's stream
``hub``         the streams of one event loop, over one feed
``service``     one database and all of the above
``endpoints``   the addresses
``page``        the live page
``app``         the ASGI application
``serving``     uvicorn, told to end streams before it ends
==============  ====================================================================================================
"""

from __future__ import annotations

from veritydb.sse.app import create_app
from veritydb.sse.problems import Problem
from veritydb.sse.rights import Claim, Role, TableRule
from veritydb.sse.settings import ApiKey, Jwt, Settings, everything, new_key, read_settings

__all__ = [
    "ApiKey",
    "Claim",
    "Jwt",
    "Problem",
    "Role",
    "Settings",
    "TableRule",
    "create_app",
    "everything",
    "new_key",
    "read_settings",
]
