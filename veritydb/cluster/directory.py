"""Which streams there are, and which group of nodes has which.

A stream is placed by its region: it is created in a group whose nodes are there, and never leaves it. There is one
group yet, so the directory has one entry and the group's own list of streams is its index; with several, each answers
for its own, and a stream is in the only one that knows its id. Routing goes through :meth:`Directory.place_for` and
:meth:`Directory.find` already, so that more groups are more entries and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from veritydb import kernel
from veritydb.cluster.clients import group_of
from veritydb.cluster.config import ClusterConfig
from veritydb.cluster.naming import stream_id
from veritydb.cluster.session import Session
from veritydb.errors import ConfigurationError, OperationalError


class Place(NamedTuple):
    """A group, and what it takes."""

    cluster: bytes
    session: Session
    regions: frozenset[str]
    """Where its nodes are; none: that is not said, and it takes everything."""


class Entry(NamedTuple):
    """A stream."""

    name: str | None
    """What people call it; None if its id is not that of a name."""
    info: kernel.StreamInfo
    place: Place


class Directory:
    """The streams of a cluster's groups. Asks for everything; keeps nothing."""

    def __init__(self, places: Sequence[Place], *, timeout: float = 10.0) -> None:
        self._places = tuple(places)
        self._timeout = timeout

    @classmethod
    def of(cls, config: ClusterConfig, *, timeout: float = 10.0) -> Directory:
        """Return the directory of one group. Raises ConfigurationError; :meth:`close` it."""
        return cls([Place(config.cluster, Session(group_of(config)), config.regions)], timeout=timeout)

    def close(self) -> None:
        """Hang up."""
        for place in self._places:
            place.session.close()

    def __iter__(self) -> Iterator[Entry]:
        """Yield every stream, dropped ones as well, group by group in the order of their creation."""
        deadline = time.monotonic() + self._timeout
        for place in self._places:
            after = 0
            while True:
                listed = self._ask(place, kernel.ListStreams(after, kernel.PAGE_MAX), deadline)
                assert isinstance(listed, kernel.Streams)
                for info in listed.streams:
                    yield Entry(_name(place, info), info, place)
                after += len(listed.streams)
                if len(listed.streams) < kernel.PAGE_MAX:
                    break

    def place_for(self, placement: kernel.Placement) -> Place:
        """Return the group in which a stream with this placement belongs. Raises ConfigurationError."""
        problem = placement.problem
        if problem is not None:
            raise ConfigurationError(f"{problem}; nothing was done")
        for place in self._places:
            if not placement.region or not place.regions or placement.region in place.regions:
                return place
        known = sorted({region for place in self._places for region in place.regions})
        raise ConfigurationError(f"no group keeps data in {placement.region!r}, only in {', '.join(known)}")

    def find(self, name: str) -> Entry | None:
        """Return the stream of this name (or id, in hex); None if no group has it."""
        for entry in self:
            if entry.info.stream == stream_id(entry.place.cluster, name):
                return entry
        return None

    def create(self, name: str, placement: kernel.Placement) -> kernel.Created:
        """Make a stream where it belongs. Raises ConfigurationError, OperationalError."""
        place = self.place_for(placement)
        stream = stream_id(place.cluster, name)
        called = "" if stream.hex() == name else name  # An id is nobody's name.
        reply = self._ask(place, kernel.CreateStream(stream, placement, called), time.monotonic() + self._timeout)
        if isinstance(reply, kernel.Created):
            return reply
        raise OperationalError(f"{_REASONS.get(reply, reply)}; nothing was done".format(name=name))

    def drop(self, name: str) -> kernel.Dropped:
        """End a stream: nothing is appended to it any more, and the nodes set its records aside.

        Raises OperationalError if there is none.
        """
        for place in self._places:
            command = kernel.DropStream(stream_id(place.cluster, name))
            reply = self._ask(place, command, time.monotonic() + self._timeout)
            if isinstance(reply, kernel.Dropped):
                return reply
        raise OperationalError(f"there is no stream {name}; nothing was done")

    def _ask(self, place: Place, command: kernel.Command, deadline: float) -> kernel.Reply:
        return place.session.command(command, timeout=max(0.1, deadline - time.monotonic()))


_REASONS: dict[kernel.Reply, str] = {
    kernel.Refused(kernel.Refusal.STREAM_EXISTS): "there is a stream {name} with another placement or name",
    kernel.Refused(kernel.Refusal.STREAM_DROPPED): "there was a stream {name}; its name is not used again",
    kernel.Refused(kernel.Refusal.STREAMS_FULL): "the group has as many streams as it can have",
}


def _name(place: Place, info: kernel.StreamInfo) -> str | None:
    """Return a stream's name if its id is that name's: what a client calls a stream is his word, the id is not."""
    try:
        return info.name if stream_id(place.cluster, info.name) == info.stream else None
    except ConfigurationError:
        return None
