"""What a seed decides before anything runs: how many members, how much work, and everything that will go wrong.

Swarm testing (Groce et al., ISSTA 2012): each seed draws its own set of faults and their rates, and leaves most of them
out. A run in which all faults are always possible never gets deep into any one of them.

A scenario is a value: faults can be taken out of it one by one, which is how a failing seed is shrunk
(:mod:`veritydb.simulation.shrinking`).
"""

from __future__ import annotations

from typing import NamedTuple

from veritydb.simulation.chance import Chance
from veritydb.simulation.network import Weather
from veritydb.simulation.storage import Habits

MILLISECOND = 1_000
SECOND = 1_000_000


class Fault(NamedTuple):
    """Something that will go wrong once."""

    at: int
    """Microseconds from the start."""
    kind: str
    members: tuple[int, ...]
    lasts: int
    draw: int
    """Decides what else there is to choose."""

    def __str__(self) -> str:
        whom = ",".join(map(str, self.members)) or "all"
        return f"{self.at / SECOND:8.3f} s {self.kind} of {whom} for {self.lasts / MILLISECOND:.0f} ms"


class Scenario(NamedTuple):
    """A whole run, before it."""

    seed: int
    members: int = 3
    slots: int = 64
    checkpoint_interval: int = 16
    pipeline_max: int = 4
    batch_max: int = 8
    clients: int = 4
    streams: int = 3
    think: int = 60 * MILLISECOND
    """Mean time between an answer and the next request of a client."""
    record_max: int = 200
    """Bytes of a record's body."""
    target: int = 220
    """Ops to commit before the healthy end."""
    chaos: int = 12 * SECOND
    """How long things go wrong at least."""
    chaos_max: int = 60 * SECOND
    weather: Weather = Weather()
    habits: Habits = Habits()
    faults: tuple[Fault, ...] = ()
    wire: bool = False
    """Whether messages go through bytes."""
    pipeline_eager: int = 2
    chunk_size: int = 256 << 10
    """Bytes of a snapshot in one message."""
    keeping: int = 1
    """How much slower outputs are kept than a block of the disk is written."""
    readers: int = 0
    """Clients that read all the time, and of everybody."""
    beyond: bool = False
    """Whether the disks lose more than the protocol promises to survive."""


KINDS = (
    "crash",
    "pause",
    "partition",
    "one-way cut",
    "isolation",
    "clog",
    "slow disk",
    "bit rot",
    "unreadable sector",
    "superblock rot",
    "clock jump",
    "blackout",
    "upgrade",
    "primary isolation",
    "primary crash",
    "crash with rot",
)
"""Faults of a plan. Those of the weather and the disks' habits come on top."""
AIMED = ("hot seat", "hot seat", "crash at event", "crash at event", "crash in superblock", "rotten head")
"""Faults that wait for their moment. Drawn apart, as the next ones."""
CHANGES = ("member comes", "member comes", "member leaves", "lost disk")
"""What happens to the group itself. Drawn apart from the others, which so stay what they were for a seed."""


CORNERS = ("thin superblock", "old wish", "split epoch", "false alarm", "step down", "late answer")
"""Corners that nothing else gets into. Drawn apart from all others."""
_OF_CHANGES = ("old wish", "split epoch")


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    chance = Chance(seed).split("scenario")
    members = chance.pick((1, 3, 3, 3, 3, 3, 5, 5))
    interval = chance.pick((8, 16, 16, 32))
    pipeline = chance.between(1, min(8, interval - 1))
    beyond = members > 1 and chance.happens(50_000)
    scenario = Scenario(
        seed,
        members=members,
        slots=2 * interval + 2 * pipeline + chance.pick((0, 0, 1, 16)),
        checkpoint_interval=interval,
        pipeline_max=pipeline,
        batch_max=chance.pick((1, 2, 8, 32)),
        clients=chance.between(2, 8),
        streams=chance.between(1, 4),
        think=chance.pick((5, 20, 60, 120, 240)) * MILLISECOND,
        record_max=chance.pick((20, 200, 200, 3000)),
        target=chance.between(200, 300),
        weather=_weather(chance),
        habits=_habits(chance, members),
        wire=chance.happens(150_000),
        beyond=beyond,
    )
    scenario = scenario._replace(faults=_plan(scenario, chance))
    later = Chance(seed).split("later")  # What seeds have got since they were first drawn.
    if later.happens(250_000):
        weather = scenario.weather._replace(damage=_some(later, 2_000, 20_000, 100_000))
        scenario = scenario._replace(wire=True, weather=weather)
    if later.happens(400_000):
        scenario = scenario._replace(weather=scenario.weather._replace(echo=later.pick((50_000, 500_000))))
    scenario = scenario._replace(
        pipeline_eager=later.pick((min(2, pipeline), pipeline)),
        chunk_size=later.pick((256 << 10, 256 << 10, 300)),
        readers=int(later.happens(250_000)),
        keeping=later.pick((1, 1, 10, 100)),
    )
    if later.happens(600_000):
        scenario = scenario._replace(faults=tuple(sorted((*scenario.faults, *_aimed(scenario, later)))))
    if later.happens(500_000) and not beyond:
        faults = sorted((*scenario.faults, *_changes(scenario, later)))
        scenario = scenario._replace(faults=tuple(faults))
    faults = sorted((*scenario.faults, *_corners(scenario, Chance(seed).split("corners"))))
    return scenario._replace(faults=tuple(faults))


def _corners(scenario: Scenario, chance: Chance) -> list[Fault]:
    changes = any(fault.kind.startswith("member") for fault in scenario.faults)
    faults: list[Fault] = []
    for kind in CORNERS:
        if (changes or kind not in _OF_CHANGES) and chance.happens(300_000):
            for _ in range(chance.between(1, 4)):
                at, whom = chance.below(scenario.chaos), chance.below(scenario.members)
                faults.append(Fault(at, kind, (whom,), chance.between(50, 1_500) * MILLISECOND, chance.bits()))
    return faults


def _aimed(scenario: Scenario, chance: Chance) -> list[Fault]:
    kinds = [kind for kind in AIMED if chance.happens(500_000) and (scenario.members > 1 or kind.startswith("crash"))]
    at = chance.heavy(100 * MILLISECOND, 300 * MILLISECOND)
    pace = chance.pick((100, 300, 1_000)) * MILLISECOND
    faults: list[Fault] = []
    while kinds and at < scenario.chaos and len(faults) < 30:
        whom = chance.below(scenario.members)
        lasts = chance.pick((20, 200, 1_500)) * MILLISECOND
        faults.append(Fault(at, chance.pick(kinds), (whom,), lasts, chance.bits()))
        at += chance.heavy(50 * MILLISECOND, pace)
    return faults


def _changes(scenario: Scenario, chance: Chance) -> list[Fault]:
    kinds = [kind for kind in CHANGES if chance.happens(600_000)]
    if scenario.members == 1:
        kinds = ["member comes"]
    at = chance.heavy(100 * MILLISECOND, 400 * MILLISECOND)
    pace = chance.pick((300, 1_000, 3_000)) * MILLISECOND
    faults: list[Fault] = []
    while kinds and at < scenario.chaos and len(faults) < 12:
        whom = chance.below(scenario.members)
        faults.append(Fault(at, chance.pick(kinds), (whom,), MILLISECOND, chance.bits()))
        at += chance.heavy(100 * MILLISECOND, pace)
    return faults


def _some(chance: Chance, *values: int) -> int:
    """Return 0 half of the time, else one of ``values``."""
    return 0 if chance.happens(500_000) else chance.pick(values)


def _weather(chance: Chance) -> Weather:
    return Weather(
        delay_low=chance.pick((50, 200, 1_000)),
        delay_scale=chance.pick((200, 800, 800, 5_000)),
        loss=_some(chance, 2_000, 20_000, 100_000),
        duplication=_some(chance, 5_000, 50_000, 200_000),
        replay=_some(chance, 2_000, 20_000),
    )


def _habits(chance: Chance, members: int) -> Habits:
    whole = members == 1  # With one member there is no other copy: nothing may be lost.
    return Habits(
        delay_low=chance.pick((20, 50, 200)),
        delay_scale=chance.pick((100, 300, 2_000)),
        lost=0 if whole else _some(chance, 5_000, 20_000),
        misdirected=0 if whole else _some(chance, 2_000, 10_000),
        failed=_some(chance, 500, 2_000) if chance.happens(300_000) else 0,
        unreadable=0 if whole else _some(chance, 20_000, 200_000),
        keep=chance.pick((0, 200_000, 500_000, 900_000)),
        tear=chance.pick((0, 300_000, 900_000)),
    )


def _plan(scenario: Scenario, chance: Chance) -> tuple[Fault, ...]:
    everyone = tuple(range(scenario.members))
    kinds = [kind for kind in KINDS if chance.happens(500_000) and (scenario.members > 1 or kind in _ALONE)]
    if not kinds:
        kinds = ["crash"]
    faults: list[Fault] = []
    pace = chance.pick((60, 100, 200, 400, 800)) * MILLISECOND
    longest = chance.pick((100, 400, 1_500, 4_000)) * MILLISECOND
    at = chance.heavy(100 * MILLISECOND, pace)
    while at < scenario.chaos and len(faults) < 80:
        kind = chance.pick(kinds)
        lasts = chance.between(MILLISECOND, longest)
        picked = list(everyone)
        chance.shuffle(picked)
        count = 1
        if kind in ("partition", "clog"):
            count = chance.between(1, max(1, scenario.members - 1))
        elif kind == "one-way cut":
            count = min(2, scenario.members)
        elif kind in ("blackout", "crash with rot"):
            count = scenario.members if kind == "blackout" else chance.between(1, scenario.members)
        faults.append(Fault(at, kind, tuple(picked[:count]), lasts, chance.bits()))
        at += chance.heavy(MILLISECOND, pace)
    return tuple(faults)


_ALONE = (
    "crash",
    "pause",
    "slow disk",
    "superblock rot",
    "clock jump",
    "blackout",
    "upgrade",
    "isolation",
    "primary crash",
)
"""Faults that a cluster of one member survives."""
