"""Whether a stream and its servers can keep what a commit promises, as far as a client can see it.

============================  =======================================================================================
seen in the stream            how many servers keep it, in files or in memory, and whether it forgets: by age, by size,
                              by number, when somebody has read it
seen in a server's greeting   its version: before 2.10 there is no ``sync_interval`` at all
seen in a server's monitoring  ``sync_always``
not seen                      how a server syncs whose monitoring one may not ask; what disks do; what the servers do
                              with what they have read back wrongly
============================  =======================================================================================

All of it is pure but :func:`look_up`. ``docs/guides/nats.md`` tells people what is promised with which setting.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from veritydb.errors import ConfigurationError

if TYPE_CHECKING:
    from nats.js.api import StreamConfig

SYNC_SINCE = (2, 10)
"""The version of the server that has ``sync_interval``."""
MONITOR_SECONDS = 2.0
_ANSWER_MAX = 1 << 20


def stream_problem(config: StreamConfig, *, subject: str, replicas: int) -> str | None:
    """Return why a stream does not keep every record for ever on so many servers; None if it does."""
    if config.subjects != [subject] or config.mirror or config.sources or config.subject_transform:
        return f"it must hold the subject {subject} and nothing else"
    if config.storage != "file":
        return "its storage is memory; a restart loses it"
    if (config.num_replicas or 1) < replicas:
        return f"{config.num_replicas or 1} servers keep it, and replicas={replicas} is asked for"
    if config.no_ack:
        return "it acknowledges nothing (no_ack)"
    if config.retention != "limits" or config.max_age or config.allow_rollup_hdrs:
        return "it forgets: retention must be limits, max_age 0, and roll-ups forbidden"
    if (config.max_msgs or -1) > 0 or config.max_msgs_per_subject > 0:
        return "it forgets: max_msgs and max_msgs_per_subject must be unlimited"
    if (config.max_bytes or -1) > 0 and config.discard != "new":
        return "it forgets what is old when it is full: with max_bytes, discard must be new"
    if config.persist_mode == "async":
        return "it acknowledges what it has not written (persist_mode async)"
    return None


def version_problem(version: str) -> str | None:
    """Return why a server of this version cannot sync before it acknowledges; None if it can be told to."""
    found = re.search(r"(\d+)\.(\d+)", version)  # The client library writes <nats server v2.12.1>.
    if found is None or (int(found[1]), int(found[2])) < SYNC_SINCE:
        return (
            f"the NATS server is {version or 'of an unknown version'}, and sync_interval came with 2.10: it "
            "acknowledges what may be lost when its machine fails"
        )
    return None


def sync_problem(answer: Any) -> str | None:
    """Return what a server's ``/jsz`` says against ``sync_interval: always``; None if it is so."""
    try:
        if answer["config"]["sync_always"] is True:
            return None
    except (LookupError, TypeError):
        pass
    return "it is not configured with jetstream { sync_interval: always }"


def look_up(monitors: Sequence[str]) -> None:
    """Ask servers how they sync. Raises ConfigurationError that names the one that does not, or does not say."""
    for monitor in monitors:
        try:
            with urllib.request.urlopen(f"{monitor.rstrip('/')}/jsz?config=1", timeout=MONITOR_SECONDS) as answer:
                problem = sync_problem(json.loads(answer.read(_ANSWER_MAX)))
        except (OSError, ValueError) as error:
            problem = f"it cannot be asked how it syncs ({error})"
        if problem is not None:
            raise ConfigurationError(
                f"sync='always' is asked for, and of the NATS server at {monitor} {problem}. sync='interval' says "
                "that a commit need not be on disk when it is acknowledged; nothing was written"
            )
