"""Looking at a group again and again: for a table that lives, and for commands that wait until all is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import anyio

from veritydb.cluster.asking import StatusLine, ask_all
from veritydb.cluster.overview import Overview, overview
from veritydb.cluster.session import Group
from veritydb.errors import OperationalError

ASK_SECONDS = 2.0
"""How long a member has to say how it is."""
POLL_SECONDS = 0.1


class Watch:
    """A connection to each member of a group."""

    def __init__(self, group: Group) -> None:
        self._cluster = group.cluster.hex()
        self._lines = {member: StatusLine(group, member) for member in group.members}

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        for line in self._lines.values():
            await line.close()

    async def look(self) -> Overview:
        """Ask everybody."""
        return overview(self._cluster, await ask_all(self._lines, ASK_SECONDS))

    async def until_ready(
        self, members: Collection[int] | None, seconds: float, check: Callable[[], None] = lambda: None
    ) -> Overview:
        """Wait until these members are ready, and there is a primary; None: all in office, and they hear each other.

        ``check`` is called in between, and may raise. Raises OperationalError when the time is over.
        """
        deadline = time.monotonic() + seconds
        while True:
            seen = await self.look()
            if members is None:
                waiting = [one for one in seen.members if one.counts and not (one.is_ready and one.hears_all)]
            else:
                waiting = [one for one in seen.members if one.member in members and not one.is_ready]
            if not waiting and seen.primary is not None:
                return seen
            check()
            if time.monotonic() > deadline:
                told = "; ".join(f"member {one.member}: {one.why or one.role}" for one in waiting)
                raise OperationalError(f"not ready after {seconds:g} s: {told or 'there is no primary'}")
            await anyio.sleep(POLL_SECONDS)
