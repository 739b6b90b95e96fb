"""Django's database backend: ``ENGINE: "veritydb.django"``, and who acts.

Django's own SQLite backend does the work; each module here changes the one thing that its name says::

    base              the connection: options, functions, what Django's cursor needs
    connecting        a connection and a cursor that know who acts
    acting            who acts, and why: a context that every write looks at
    middleware        puts each request's user and address into that context
    creation          test databases: a file and its log come, are copied and go together
    introspection     hides the one table that is not the program's
    features, operations, schema
                      where Django asks the standard ``sqlite3`` module instead of the backend's own
    client, shell     ``manage.py dbshell``

``vendor`` stays "sqlite", so that whatever Django or a package does for SQLite, it does here.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from typing import Any

from veritydb.django.acting import acting, current

__all__ = ["acting", "current", "register"]


def register(connection: Any) -> None:
    """Give ``connection`` the SQL functions that Django gives each of its connections.

    A schema may use them, in an index, a constraint or a generated column. Then whoever replays the log has to have
    them too: ``veritydb replay --register veritydb.django:register``.
    """
    from veritydb.connection import Connection
    from veritydb.django.functions import add_functions, register_functions

    session = connection._session if isinstance(connection, Connection) else None
    if session is None:
        register_functions(connection)
    else:
        add_functions(session.db)
