"""How a node is: what it observes of itself, and what of that is wrong.

:class:`Observed` holds facts, which :mod:`veritydb.cluster.observing` fills in; :func:`judge` names what is wrong with
them. Each :class:`State` has one name, the same in ``/readyz``, in ``veritydb_node_degraded{state=…}``, in the log and
in ``veritydb cluster status``, and says whether a node in it is *ready*: whether it does what the group counts on it
for. ``docs/reference/node.md`` tells what to do about each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

SILENT_SECONDS = 3.0
"""A member that was not heard for so long is not reached. Members say something every half second."""
OVERDUE_SECONDS = 5.0
"""For so long a journal may wait for its next checkpoint."""
BEHIND_OPS = 256
"""So many committed ops a node may have before it and not be called behind; less with a small journal."""


class State(Enum):
    """What may be wrong with a node: its name, and whether the node is ready all the same."""

    HALTED = ("halted", False)
    STOPPING = ("stopping", False)
    STARTING = ("starting", False)
    LOG_LOST = ("log_lost", False)
    LOG_AWAITED = ("log_awaited", False)
    NO_PRIMARY = ("no_primary", False)
    PRIMARY_UNREACHABLE = ("primary_unreachable", False)
    NO_QUORUM = ("no_quorum", False)
    NOT_A_MEMBER = ("not_a_member", False)
    BEHIND = ("behind", False)
    RECORDS_MISSING = ("records_missing", False)
    JOURNAL_NEARLY_FULL = ("journal_nearly_full", False)
    CLOCK_OFF = ("clock_off", False)
    DISK_NEARLY_FULL = ("disk_nearly_full", True)
    PEER_UNREACHABLE = ("peer_unreachable", True)
    CLOCKS_DISAGREE = ("clocks_disagree", True)
    VERSIONS_DIFFER = ("versions_differ", True)

    def __init__(self, label: str, is_ready: bool) -> None:
        self.label = label
        self.is_ready = is_ready


class Degraded(NamedTuple):
    """Something that is wrong, and what exactly."""

    state: State
    why: str


class Peer(NamedTuple):
    """Another member, as this one knows it."""

    heard_seconds: float | None = None
    """How long ago anything was heard of it; None: never."""
    clock_seconds: float | None = None
    """By how much its clock is before this node's."""
    clock_uncertainty: float = 0.0
    """How far off that may be: half of the time that asking took."""
    version: str | None = None
    """Of its program."""


class Observed(NamedTuple):
    """What a node knows of itself."""

    cluster: str
    member: int
    version: str
    time: float
    """Its clock, in seconds since 1970."""
    uptime: float
    phase: str
    """``starting``, ``running``, ``stopping``, ``halted: …``."""
    status: str
    """Of the replica: ``normal``, ``view_change``, ``recovering_head``."""
    epoch: int
    view: int
    primary: int | None
    """Who it takes for the primary; None while a view is being looked for."""
    members: tuple[int, ...]
    quorum: int
    """Members that have to have an op before it is committed."""
    suspects: bool
    """Whether it has heard nothing of the primary for too long."""
    op: int
    """The end of its log."""
    commit: int
    """What is committed and applied here."""
    commit_group: int
    """What is committed, by all it has heard."""
    checkpoint: int
    journal_used: int
    """Ops since the checkpoint."""
    journal_size: int
    """How many there may be."""
    overdue_seconds: float
    """For how long the next checkpoint has been due."""
    stuck: int | None
    """An op that may have been committed and that no member has."""
    awaited: int | None
    """An op that may have been committed and that only members who do not answer can have."""
    streams: int
    sessions: int
    records_missing: int
    """Streams of which records are missing here."""
    records_waiting: int
    """Ops that the thread that keeps records has before it."""
    disk_free: int
    disk_size: int
    """Bytes; 0: nobody has looked yet."""
    clients: int
    """Client sessions that are connected."""
    connections: int
    peers: Mapping[int, Peer]
    addresses: Mapping[int, str] = {}  # nobody writes into it
    """Where it finds the members: for clients that were told of others when there were others."""
    records_unknown: bool = False
    """Whether it has yet to look which records are missing."""
    slots: int = 0
    """Ops that its journal has room for; the same on all."""

    @property
    def lag(self) -> int:
        """Committed ops that this node has before it."""
        return max(0, self.commit_group - self.commit)

    @property
    def is_primary(self) -> bool:
        """Whether it serves."""
        return self.primary == self.member


class Limits(NamedTuple):
    """What is too much."""

    clock_seconds: float
    disk_free: int
    behind_ops: int = BEHIND_OPS


class Status(NamedTuple):
    """What a node observes, judged."""

    observed: Observed
    degraded: tuple[Degraded, ...]

    @property
    def is_ready(self) -> bool:
        """Whether the node does what the group counts on it for."""
        return all(found.state.is_ready for found in self.degraded)

    def document(self) -> dict[str, Any]:
        """Return what ``/readyz`` and the wire tell."""
        told: dict[str, Any] = self.observed._asdict()
        told["lag"] = self.observed.lag
        told["peers"] = {str(member): peer._asdict() for member, peer in self.observed.peers.items()}
        told["addresses"] = {str(member): address for member, address in self.observed.addresses.items()}
        told["ready"] = self.is_ready
        told["degraded"] = [
            {"state": found.state.label, "ready": found.state.is_ready, "why": found.why} for found in self.degraded
        ]
        return told

    def encode(self) -> bytes:
        """Return the document as bytes."""
        return json.dumps(self.document(), separators=(",", ":")).encode()


def judge(seen: Observed, limits: Limits) -> Status:
    """Name what is wrong."""
    found = [*_of_itself(seen, limits), *_of_the_group(seen), *_of_the_clocks(seen, limits)]
    return Status(seen, tuple(Degraded(state, why) for state, why in found))


def _of_itself(seen: Observed, limits: Limits) -> list[tuple[State, str]]:
    found: list[tuple[State, str]] = []
    if seen.phase.startswith("halted"):
        found.append((State.HALTED, seen.phase))
    elif seen.phase == "stopping":
        found.append((State.STOPPING, "it was asked to stop"))
    elif seen.phase == "starting":
        found.append((State.STARTING, "it asks the others before it takes part"))
    if seen.stuck is not None:
        found.append((State.LOG_LOST, f"op {seen.stuck} may have been committed, and no member has it"))
    if seen.awaited is not None:
        why = f"op {seen.awaited} may have been committed, and only members that do not answer can have it: start them"
        found.append((State.LOG_AWAITED, why))
    if seen.member not in seen.members:
        found.append((State.NOT_A_MEMBER, "it follows the group and does not count"))
    if seen.lag > limits.behind_ops:
        found.append((State.BEHIND, f"{seen.lag} committed ops are not applied here"))
    if seen.records_missing:
        found.append((State.RECORDS_MISSING, f"records of {seen.records_missing} streams are being fetched"))
    elif seen.records_unknown:
        found.append((State.RECORDS_MISSING, "it has got a snapshot, and looks which records are missing"))
    if seen.overdue_seconds > OVERDUE_SECONDS:
        why = f"{seen.journal_used} of {seen.journal_size} ops, and no checkpoint for {seen.overdue_seconds:.0f} s"
        found.append((State.JOURNAL_NEARLY_FULL, why))
    if seen.disk_size and seen.disk_free < limits.disk_free:
        found.append((State.DISK_NEARLY_FULL, f"{seen.disk_free >> 20} of {seen.disk_size >> 20} MiB are free"))
    return found


def _of_the_group(seen: Observed) -> list[tuple[State, str]]:
    found: list[tuple[State, str]] = []
    others = [member for member in seen.members if member != seen.member]
    silent = [member for member in others if not _is_heard(seen.peers.get(member))]
    if seen.status == "recovering_head":
        found.append((State.NO_PRIMARY, "it does not know where its own log ends, and asks for the primary"))
    elif seen.status != "normal":
        found.append((State.NO_PRIMARY, f"view {seen.view} has not started"))
    elif seen.is_primary:
        if len(others) + 1 - len(silent) < seen.quorum:
            found.append((State.NO_QUORUM, f"{_names(silent)} cannot be heard, and {seen.quorum} members are needed"))
    elif seen.suspects or seen.primary in silent:
        found.append((State.PRIMARY_UNREACHABLE, f"nothing is heard of member {seen.primary}"))
    if silent:
        found.append((State.PEER_UNREACHABLE, f"nothing is heard of {_names(silent)}"))
    others_run = {peer.version for peer in seen.peers.values() if peer.version is not None} - {seen.version}
    if others_run:
        found.append((State.VERSIONS_DIFFER, f"{seen.version} here, elsewhere {', '.join(sorted(others_run))}"))
    return found


def _is_heard(peer: Peer | None) -> bool:
    return peer is not None and peer.heard_seconds is not None and peer.heard_seconds <= SILENT_SECONDS


def _of_the_clocks(seen: Observed, limits: Limits) -> list[tuple[State, str]]:
    off = clocks_off(seen.peers, limits.clock_seconds)
    if not off:
        return []
    told = ", ".join(f"{-seconds:+.1f} s from member {member}'s" for member, seconds in sorted(off.items()))
    if is_outvoted(off, len(seen.members), limits.clock_seconds):
        return [(State.CLOCK_OFF, f"this clock is {told}")]
    return [(State.CLOCKS_DISAGREE, f"this clock is {told}; which one is right cannot be told")]


def clocks_off(peers: Mapping[int, Peer], limit: float) -> dict[int, float]:
    """Return the members whose clock certainly differs by more than ``limit`` seconds, and by how much."""
    return {
        member: peer.clock_seconds
        for member, peer in peers.items()
        if peer.clock_seconds is not None and abs(peer.clock_seconds) - peer.clock_uncertainty > limit
    }


def is_outvoted(off: Mapping[int, float], members: int, limit: float) -> bool:
    """Whether more than half of the members agree, within ``limit``, that this node's clock is wrong."""
    agreeing = max((sum(abs(one - other) <= limit for other in off.values()) for one in off.values()), default=0)
    return agreeing > members // 2


def _names(members: list[int]) -> str:
    return f"member{'s' if len(members) > 1 else ''} {', '.join(map(str, members))}"
