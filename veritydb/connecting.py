"""``connect``: opens a database and its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veritydb.connection import Connection
from veritydb.deprecations import keyword_only_soon

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any

    from veritydb.constants import LEGACY_TRANSACTION_CONTROL

_FACTORY = 5
"""Place of ``factory`` among the arguments."""

if TYPE_CHECKING:

    def connect(
        database: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        timeout: float = 5.0,
        detect_types: int = 0,
        isolation_level: str | None = "",
        check_same_thread: bool = True,
        factory: type[Connection] = Connection,
        cached_statements: int = 128,
        uri: bool = False,
        *,
        autocommit: bool | int = LEGACY_TRANSACTION_CONTROL,
        key: Any = None,
        actor: str = "",
        on_missing: str | None = None,
        register: str | Callable[[Any], object] | None = None,
        cluster: Any = None,
        stream: str | None = None,
        consistency: str = "default",
    ) -> Connection:
        """Open a database and its log; see :class:`Connection`."""
        ...

else:

    @keyword_only_soon("sqlite3.connect", 0)
    def connect(*args, **kwargs):
        """Open a database and its log; see :class:`Connection`.

        ``factory`` (by default Connection) is called with all arguments as they were given, itself included.
        """
        factory = args[_FACTORY] if len(args) > _FACTORY else kwargs.get("factory", Connection)
        return factory(*args, **kwargs)


connect.__module__ = "veritydb"
