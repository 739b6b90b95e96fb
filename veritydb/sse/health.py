"""How a database's log is, and how many have what stands in it: what ``GET /status`` and the page tell.

Everything here is read from the log's folder when it is asked for. Who else has the log's records is one question, and
one object answers it: :class:`LocalQuorum` for a log of this machine; whoever keeps a log with others gives
:func:`veritydb.sse.create_app` one of the same shape, which asks them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from veritydb.log import Place
from veritydb.log.store import Log
from veritydb.log.tailing import Tail
from veritydb.streams import SHARED_FILE

_SHARED_BYTES_MAX = 4_096
_RECORDS = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """Who has to have a record before it is committed, and who is there."""

    members: int | None
    """None: it was not asked."""
    needed: int | None
    reached: int | None
    """Members that answered just now."""
    durable: int
    """The last offset that is known to be on as many disks as are needed; -1: none."""
    stream: str | None = None
    """Name of the cluster's stream; None for a log of this machine alone."""


QuorumOf: TypeAlias = Callable[[Path], Quorum]
"""Returns the quorum of the log in a folder. Raises Error, OSError."""


class LocalQuorum:
    """Answers for a log as its folder shows it: one has to have it, unless it is a copy of what others keep, too."""

    def __init__(self) -> None:
        self._place: Place | None = None
        """Of the last record that was known to be durable, where the next look begins."""

    def __call__(self, folder: Path) -> Quorum:
        """Return the quorum of the log in ``folder``. Raises Error, OSError."""
        durable = self._durable(folder)
        shared = _shared_with(folder)
        if shared is not None:
            return Quorum(members=None, needed=None, reached=None, durable=durable, stream=shared)
        return Quorum(members=1, needed=1, reached=1, durable=durable)

    def _durable(self, folder: Path) -> int:
        """Return the last offset that is on this machine's disk for certain, as a reader without the lock can tell."""
        with contextlib.closing(Tail(folder, start=self._place)) as tail:
            while records := tail.advance(_RECORDS):
                self._place = records[-1].place
            return tail.head.next_offset - 1


def log_health(folder: Path, quorum: QuorumOf) -> dict[str, Any]:
    """Return the facts of a log. Raises Error, OSError."""
    with contextlib.closing(Log.open(folder, read_only=True)) as log:
        head, stream, torn = log.head, log.stream.hex(), log.torn
    sizes = [segment.stat().st_size for segment in folder.glob("*.seg")]
    room = os.statvfs(folder)
    return {
        "stream": stream,
        "transactions": head.next_offset,
        "offset": head.next_offset - 1,
        "head_hash": head.hash.hex(),
        "head_time": head.timestamp,
        "generation": head.generation,
        "log_bytes": sum(sizes),
        "log_segments": len(sizes),
        "log_bytes_free": room.f_bavail * room.f_frsize,
        "torn": torn is not None,
        "quorum": asdict(quorum(folder)),
    }


def _shared_with(folder: Path) -> str | None:
    try:
        with (folder / SHARED_FILE).open(encoding="utf-8") as file:
            told = json.loads(file.read(_SHARED_BYTES_MAX))
        return str(told["name"])[:200]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


__all__ = ["LocalQuorum", "Quorum", "QuorumOf", "log_health"]
