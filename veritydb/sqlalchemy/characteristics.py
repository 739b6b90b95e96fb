"""Actor and reason as execution options: ``veritydb_actor`` and ``veritydb_reason``.

SQLAlchemy calls what an execution option sets on a connection, and what must be set back before the pool lends that
connection again, a *characteristic*. So an option given to an engine, a connection or a session stamps the transactions
of that one, and nobody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.characteristics import ConnectionCharacteristic

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect


class _Stamp(ConnectionCharacteristic):
    """Sets an attribute of the connection; setting back means what the connection had when it was opened."""

    def __init__(self, attribute: str) -> None:
        self._attribute = attribute

    def get_characteristic(self, dialect: Dialect, dbapi_conn: DBAPIConnection) -> Any:
        """Return what is set now."""
        return getattr(dbapi_conn, self._attribute)

    def set_characteristic(self, dialect: Dialect, dbapi_conn: DBAPIConnection, value: Any) -> None:
        """Set ``value`` for the transactions that follow."""
        setattr(dbapi_conn, self._attribute, value)

    def reset_characteristic(self, dialect: Dialect, dbapi_conn: DBAPIConnection) -> None:
        """Set back what the connection was opened with."""
        setattr(dbapi_conn, self._attribute, getattr(dbapi_conn, f"first_{self._attribute}"))


STAMPS = {"veritydb_actor": _Stamp("actor"), "veritydb_reason": _Stamp("reason_text")}
