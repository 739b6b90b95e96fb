"""From the log back to a database.

==================  ====================================================================================
``statements``      pure: a table's description in, the SQL that puts its row changes back out
``shapes``          a table's description, read from SQLite
``applier``         events, carried out one after the other on a connection that ``quiet`` has made quiet
``hidden``          tables whose columns take every name of the rowid
``redo``            a file that is behind its log catches up
``rebuilding``      a new file from a log: now, or as of an offset or a time
``registering``     functions and collations that an application's schema needs
``digest``          one value for a whole schema, logged with each schema statement and compared by replay
``snapshot``        a database boiled down to what replay has to get right
``compare``         where two databases differ, in words
==================  ====================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veritydb.replay.compare import differences
    from veritydb.replay.rebuilding import Rebuilt, rebuild
    from veritydb.replay.snapshot import Snapshot, describe

_HOMES = {
    "Rebuilt": "rebuilding",
    "Snapshot": "snapshot",
    "describe": "snapshot",
    "differences": "compare",
    "rebuild": "rebuilding",
}


def __getattr__(name: str) -> Any:
    # A session needs one small module of these; the rest is imported when something is replayed.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["Rebuilt", "Snapshot", "describe", "differences", "rebuild"]
