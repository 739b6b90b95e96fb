"""A network between members and clients that does what networks do, and what one has seen them do once.

Messages are lost, doubled, late by a little or by very much (and so overtake each other), and one of long ago may come
again. A link, which is one direction between two ends, may be *cut* (what is sent is lost) or *clogged* (what is sent
is held back and comes all at once when it opens). Partitions, symmetric or of one direction, are sets of cut links; a
swizzle-clog clogs all links of some members one after the other and opens them in another order (FoundationDB found
more bugs with it than with any other fault).

This module only decides when a message arrives; the world carries it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from veritydb.simulation.chance import Chance

CLIENTS = -1
"""The end that stands for all clients: to a member, they are one side of a link."""
_REMEMBERED = 64
_CAUSES = {"StartView": "PrepareOk", "GetView": "StartView", "ExitView": "JoinView", "Reconfigured": "Reconfigure"}
"""What a member sends, and what old messages to it could do harm then."""
_ECHOED = frozenset(_CAUSES.values())
_ECHOES = 8


class Weather(NamedTuple):
    """What the network does all the time; chances per million messages, times in microseconds."""

    delay_low: int = 200
    delay_scale: int = 800
    loss: int = 0
    duplication: int = 0
    replay: int = 0
    """That some message of long ago comes again with this one."""
    echo: int = 0
    """That old messages come again just when they would be believed, if anybody believed old messages."""
    damage: int = 0
    """That a message arrives as other bytes than were sent, or that such bytes come beside it."""


class Network:
    """The links."""

    def __init__(
        self,
        weather: Weather,
        chance: Chance,
        deliver: Callable[[int, int, int, Any], None],
        spoil: Callable[[Any], Any] | None = None,
    ) -> None:
        self.weather = weather
        self._spoil = spoil
        """Makes other bytes of a message, where messages are bytes."""
        self._chance = chance
        self._deliver = deliver
        """``deliver(delay, src, dst, message)``: have the message arrive after ``delay``."""
        self._cut: dict[tuple[int, int], int] = {}  # how many faults have it cut
        self._clogged: dict[tuple[int, int], list[Any]] = {}
        self._old: list[tuple[int, int, Any]] = []
        self.counts = {
            "lost": 0,
            "cut": 0,
            "clogged": 0,
            "duplicated": 0,
            "replayed": 0,
            "late": 0,
            "spoiled": 0,
            "echoed": 0,
        }
        self._said: dict[tuple[int, str], deque[tuple[int, Any]]] = {}

    def send(self, src: int, dst: int, message: Any) -> None:
        """Carry ``message``, or not."""
        weather, chance = self.weather, self._chance
        if self._cut and (src, dst) in self._cut:
            self.counts["cut"] += 1
            return
        if self._clogged and (src, dst) in self._clogged:
            self.counts["clogged"] += 1
            self._clogged[src, dst].append(message)
            return
        if chance.happens(weather.loss):
            self.counts["lost"] += 1
            return
        delay = chance.heavy(weather.delay_low, weather.delay_scale)
        if self._spoil is not None and chance.happens(weather.damage):
            self.counts["spoiled"] += 1
            self._deliver(delay, src, dst, self._spoil(message))
            if chance.happens(500_000):
                return
        if delay > 16 * weather.delay_scale:
            self.counts["late"] += 1
        self._deliver(delay, src, dst, message)
        if chance.happens(weather.duplication):
            self.counts["duplicated"] += 1
            self._deliver(chance.heavy(weather.delay_low, 4 * weather.delay_scale), src, dst, message)
        if weather.replay:
            self._replay(src, dst, message)
        if weather.echo:
            self._echo(src, dst, message)

    def _echo(self, src: int, dst: int, message: Any) -> None:
        kind = _kind(message)
        if kind in _ECHOED:
            self._said.setdefault((dst, kind), deque(maxlen=_ECHOES)).append((src, message))
        cause = _CAUSES.get(kind)
        if cause is not None and self._chance.happens(self.weather.echo):
            for old_src, old in self._said.pop((src, cause), ()):  # Once: an echo may be answered by another cause.
                if (old_src, src) not in self._cut:
                    self.counts["echoed"] += 1
                    delay = self._chance.heavy(self.weather.delay_low, self.weather.delay_scale)
                    self._deliver(delay, old_src, src, old)

    def _replay(self, src: int, dst: int, message: Any) -> None:
        if len(self._old) < _REMEMBERED:
            self._old.append((src, dst, message))
        elif self._chance.happens(50_000):  # Seldom, so that what is remembered is of all ages.
            self._old[self._chance.below(_REMEMBERED)] = (src, dst, message)
        if self._chance.happens(self.weather.replay):
            old_src, old_dst, old = self._chance.pick(self._old)
            if (old_src, old_dst) not in self._cut:
                self.counts["replayed"] += 1
                self._deliver(
                    self._chance.heavy(self.weather.delay_low, self.weather.delay_scale), old_src, old_dst, old
                )

    def cut(self, links: Iterable[tuple[int, int]]) -> None:
        """Lose all that is sent over these, until they are mended as often as they were cut."""
        for link in links:
            self._cut[link] = self._cut.get(link, 0) + 1

    def mend(self, links: Iterable[tuple[int, int]]) -> None:
        """Undo one :meth:`cut`."""
        for link in links:
            count = self._cut.get(link, 0)
            if count > 1:
                self._cut[link] = count - 1
            elif count:
                del self._cut[link]

    def clog(self, links: Iterable[tuple[int, int]]) -> None:
        """Hold back all that is sent over these."""
        for link in links:
            self._clogged.setdefault(link, [])

    def unclog(self, links: Iterable[tuple[int, int]]) -> None:
        """Let what was held back arrive."""
        for src, dst in links:
            for message in self._clogged.pop((src, dst), ()):
                self._deliver(self._chance.heavy(0, self.weather.delay_scale), src, dst, message)

    def holds_back(self, link: tuple[int, int], kind: str) -> bool:
        """Whether a message of this kind is held back on this link."""
        return any(_kind(message) == kind for message in self._clogged.get(link, ()))

    def let_through(self, links: Iterable[tuple[int, int]], kind: str) -> None:
        """Have what is held back of one kind arrive now; the rest stays where it is."""
        for link in links:
            for message in self._clogged.get(link, ()):
                if _kind(message) == kind:
                    self._deliver(0, *link, message)

    def heal(self) -> None:
        """Be a good network from now on; what is under way stays under way."""
        self._cut.clear()
        self.unclog(list(self._clogged))
        self._old.clear()
        self.weather = Weather(self.weather.delay_low, self.weather.delay_scale)

    def is_cut(self, src: int, dst: int) -> bool:
        """Whether nothing gets through at the moment."""
        return (src, dst) in self._cut


def _kind(message: Any) -> str:
    """Return the name of a message's kind, also of one that is bytes by now."""
    return type(getattr(message, "message", message)).__name__
