"""What a node observes of itself and of the others, between its replica and those who want to know.

The node tells :class:`Observer` whom it hears; a task of the node asks the other members now and then how they are
(:meth:`Observer.watch`), for their clocks and versions. :meth:`Observer.status` puts it together when somebody asks:
nothing is reckoned for nobody, and all of it happens on the event loop, so that it is of one moment.

Before a member takes part it asks the others, too (:meth:`Observer.ask_before_start`): one whose clock is wrong by what
most members say would put its time on everybody's records, and one whose place is taken by another process would be
two members with one vote.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread

from veritydb.cluster.asking import Answered, StatusLine, Unanswered, ask_all
from veritydb.cluster.config import Address, NodeConfig
from veritydb.cluster.keeping import Keeper
from veritydb.cluster.logs import fields
from veritydb.cluster.session import Group
from veritydb.cluster.status import Degraded, Limits, Observed, Peer, Status, clocks_off, is_outvoted, judge
from veritydb.errors import ConfigurationError
from veritydb.version import VERSION
from veritydb.vsr.core import Status as ReplicaStatus
from veritydb.vsr.messages import Commit, Ping, Pong
from veritydb.vsr.replica import Replica

log = logging.getLogger("veritydb.node")

WATCH_SECONDS = 5.0
"""How often the other members are asked, and the disk."""
FIRST_SECONDS = 2.0
"""After the start, before the log says what is wrong."""
ASK_SECONDS = 2.0
"""How long a member has to answer."""
DUPLICATE_SECONDS = 0.7
"""Members say something every half second: nobody speaks as this one, if none has heard it for so long."""
DUPLICATE_ROUNDS = 4
_STATES = {
    ReplicaStatus.NORMAL: "normal",
    ReplicaStatus.VIEW_CHANGE: "view_change",
    ReplicaStatus.RECOVERING_HEAD: "recovering_head",
}


class Observer:
    """What one node knows. For the event loop's thread."""

    def __init__(self, config: NodeConfig, group: Group, replica: Replica, keeper: Keeper) -> None:
        self._config = config
        self._replica = replica
        self._keeper = keeper
        self._began = time.monotonic()
        self._limits = Limits(
            config.clock_limit,
            config.disk_reserve << 20,
            min(Limits._field_defaults["behind_ops"], config.options.checkpoint_interval),
        )
        self._heard: dict[int, float] = {}
        self._answers: dict[int, Answered] = {}
        self._commit_group = 0
        self._overdue_since: float | None = None
        self._disk = (0, 0)
        self._group = group
        self._lines = {member: StatusLine(group, member) for member in group.members}
        self._left: list[StatusLine] = []
        """Lines to members who are elsewhere now, or gone; not hung up yet."""
        self._told: frozenset[str] = frozenset()
        self.phase = "starting"
        self.connected: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Client sessions, and connections."""
        self.addresses: Callable[[], Mapping[int, Address]] = lambda: config.members
        """Where the members are."""

    # ---- what the node tells

    def heard(self, message: Any) -> None:
        """Note a message of another member."""
        self._heard[message.src] = time.monotonic()
        if isinstance(message, (Commit, Ping, Pong)) and message.commit_max > self._commit_group:
            self._commit_group = message.commit_max

    @property
    def has_heard_anybody(self) -> bool:
        """Whether another member has said anything that was understood."""
        return bool(self._heard)

    def tick(self) -> None:
        """Look at what has to be watched over time."""
        replica = self._replica
        if replica.head < replica.checkpoint.op + replica.options.checkpoint_interval:
            self._overdue_since = None
        elif self._overdue_since is None:
            self._overdue_since = time.monotonic()

    # ---- asking the others

    def find(self, group: Group) -> None:
        """Members are elsewhere now, or others. Who is asked about here is also who is known to have been heard."""
        stays = {
            member: line
            for member, line in self._lines.items()
            if group.members.get(member) == self._group.members[member]
        }
        self._left += [line for member, line in self._lines.items() if member not in stays]
        self._group = group
        self._lines = {member: stays.get(member) or StatusLine(group, member) for member in group.members}

    async def ask_before_start(self) -> None:
        """Ask the others whether this node may take part. Raises ConfigurationError if it may not."""
        own = self._config.member
        answers = await self._ask()
        for attempt in range(DUPLICATE_ROUNDS):
            hearing = [member for member, told in answers.items() if _silence(told, own) < DUPLICATE_SECONDS]
            if not hearing:
                break
            if attempt + 1 == DUPLICATE_ROUNDS:
                raise ConfigurationError(f"another process runs as member {own}: member {hearing[0]} hears it now")
            # It may have been this one, before it was started again; then it falls silent.
            await anyio.sleep(DUPLICATE_SECONDS)
            answers = await self._ask()
        others = {member: told.document.get("slots") for member, told in answers.items()}
        for member, slots in others.items():
            if isinstance(slots, int) and slots and slots != self._config.slots:
                raise ConfigurationError(
                    f"slots = {self._config.slots} here and {slots} at member {member}; it is the same on all"
                )
        peers = self._peers()
        off = clocks_off(peers, self._limits.clock_seconds)
        if is_outvoted(off, len(self._config.members), self._limits.clock_seconds):
            worst = max(off.values(), key=abs)
            raise ConfigurationError(
                f"this machine's clock is {abs(worst):.1f} s {'behind' if worst > 0 else 'ahead of'} those of "
                f"{len(off)} other members; clock_limit is {self._limits.clock_seconds:g} s"
            )

    async def watch(self) -> None:
        """Ask the others and the disk, for ever, and say in the log what has changed."""
        await self._ask()
        await self._look_at_disk()
        await anyio.sleep(FIRST_SECONDS)  # Members that start together have not found each other yet.
        while True:
            await self._ask()
            await self._look_at_disk()
            self._say(self.status().degraded)
            await anyio.sleep(WATCH_SECONDS)

    async def close(self) -> None:
        """Hang up."""
        for line in [*self._lines.values(), *self._left]:
            await line.close()

    async def _ask(self) -> Mapping[int, Answered]:
        while self._left:
            await self._left.pop().close()
        answers = await ask_all(self._lines, ASK_SECONDS)
        self._answers = {member: told for member, told in answers.items() if isinstance(told, Answered)}
        for member, told in answers.items():
            if isinstance(told, Unanswered):
                log.debug("peer does not say how it is", extra=fields(peer=member, why=told))
        return self._answers

    async def _look_at_disk(self) -> None:
        try:
            # A thread: on a file system that hangs, this does.
            found = await anyio.to_thread.run_sync(os.statvfs, self._config.data, abandon_on_cancel=True)
        except OSError as error:
            log.warning("disk cannot be looked at", extra=fields(why=error))
            return
        self._disk = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    def _say(self, degraded: tuple[Degraded, ...]) -> None:
        labels = frozenset(found.state.label for found in degraded)
        for found in degraded:
            if found.state.label not in self._told:
                log.warning("degraded", extra=fields(state=found.state.label, why=found.why))
        for label in sorted(self._told - labels):
            log.info("no longer degraded", extra=fields(state=label))
        self._told = labels

    # ---- telling

    def _peers(self) -> dict[int, Peer]:
        now = time.monotonic()
        return {
            member: Peer(
                now - self._heard[member] if member in self._heard else None,
                answer.clock_seconds if answer is not None else None,
                answer.seconds / 2 if answer is not None else 0.0,
                answer.document["version"] if answer is not None else None,
            )
            for member in self._lines
            for answer in (self._answers.get(member),)
        }

    def status(self) -> Status:
        """Say how this node is."""
        replica = self._replica
        now = time.monotonic()
        primary = replica.primary_of(replica.view) if replica.status is ReplicaStatus.NORMAL else None
        clients, connections = self.connected()
        state = replica.state
        seen = Observed(
            cluster=self._config.cluster.hex(),
            member=self._config.member,
            version=VERSION,
            time=time.time(),
            uptime=now - self._began,
            phase=self.phase,
            status=_STATES[replica.status],
            epoch=replica.epoch,
            view=replica.view,
            primary=primary,
            members=replica.members,
            quorum=replica.quorums.replication,
            suspects=replica.member in replica.exit_votes,
            op=replica.head,
            commit=replica.commit_min if state is not None else 0,
            commit_group=max(self._commit_group, replica.commit_max),
            checkpoint=replica.checkpoint.op,
            journal_used=replica.head - replica.checkpoint.op,
            journal_size=replica.op_max - replica.checkpoint.op,
            overdue_seconds=now - self._overdue_since if self._overdue_since is not None else 0.0,
            stuck=replica.stuck,
            awaited=replica.awaited,
            streams=len(state.streams) if state is not None else 0,
            sessions=len(state.sessions) if state is not None else 0,
            records_missing=len(self._keeper.missing),
            records_unknown=self._keeper.is_looking,
            records_waiting=self._keeper.queued,
            disk_free=self._disk[0],
            disk_size=self._disk[1],
            clients=clients,
            connections=connections,
            peers=self._peers(),
            addresses={member: str(address) for member, address in self.addresses().items()},
            slots=self._config.slots,
        )
        return judge(seen, self._limits)


def _silence(answer: Answered, member: int) -> float:
    """Return for how long another member had not heard a member, when it answered; infinite if it never has."""
    try:
        seconds = answer.document["peers"][str(member)]["heard_seconds"]
        return float("inf") if seconds is None else float(seconds)
    except (KeyError, TypeError, ValueError):
        return float("inf")
