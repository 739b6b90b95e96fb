"""Those who run the group: they let members come and go, and replace disks that are lost.

They know what people can know (what nodes that are up say of themselves), do one thing after the other, and keep to
what ``docs/internals/vsr.md`` asks of them ("Other members", "A disk is lost"). Each thing they do is a generator that
is gone on with every few ticks, since most of it is waiting.

They also tell the atlas which sets of members count: while the members change, two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from veritydb.simulation.violation import Violation
from veritydb.vsr.quorums import MEMBERS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veritydb.simulation.world import World

_LOOK = 40_000
"""Microseconds between two looks at how things are going."""
_PATIENCE = 6
"""Looks after which they ask again, perhaps somebody else."""


class People:
    """They, and what they know."""

    def __init__(self, world: World, members: tuple[int, ...]) -> None:
        self._world = world
        self._chance = chance = world.chance.split("people")
        self.id = chance.octets(16)
        self.members = members
        """Of the newest epoch that has begun."""
        self.epoch = 0
        self.epochs = {0: members}
        self.committed = 0
        """Ops: what they ask the group to do after a disk was lost is answered, and that tells them."""
        self.changing = False
        """Whether other members were asked for, and no op is committed by them yet."""
        self.finishing = False
        self.refusals: dict[str, int] = {}
        self.split: tuple[int, int] | None = None
        """For how long, and by what chance, somebody is cut off when the next epoch begins."""
        self._task: Iterator[None] | None = None
        self._wished: dict[int, tuple[int, ...]] = {}
        """By epoch, who was asked for to follow its members."""
        self._number = 0
        self._trust: int | None = None
        self._next = max(members) + 1

    @property
    def counting(self) -> set[int]:
        """Of all who may be needed now: the members, and those of an epoch that is asked for or has hardly begun."""
        return {one for group in self._world.atlas.groups for one in group}.union(self._wished.get(self.epoch, ()))

    @property
    def waiting(self) -> bool:
        """Whether it is not known for sure who the members are: the next epoch was asked for, or has hardly begun."""
        return self.changing or self.epoch in self._wished

    # What they are wished to do

    def wish_more(self) -> None:
        """One more member, if they have time and it is possible."""
        if self._task is None and len(self.members) < MEMBERS_MAX:
            self._begin(self._more())

    def wish_fewer(self, member: int) -> None:
        """One member less."""
        if self._task is None and member in self.members and len(self.members) > self._smallest():
            self._begin(self._fewer(member))

    def wish_again(self, which: int) -> None:
        """Something that was asked for in an epoch that is over is heard once more."""
        over = sorted(epoch for epoch in self._wished if epoch < self.epoch)
        if over and not self.finishing:
            epoch = over[which % len(over)]
            self._world.count("old wish")
            self._send(self._wished[epoch], epoch)

    def lose_disk(self, member: int, *, formatted: bool) -> None:
        """A member's disk is gone, if the atlas can bear it. ``formatted``: it comes back under its number."""
        world = self._world
        if self._task is not None or member not in self.members:
            return
        for other, node in sorted(world.nodes.items()):
            if other != member:
                node.disk.mend()  # What is bad there now would be more than is promised: let it not have been.
        if not (world.atlas.may_lose(member) and world.can_do_without(world.nodes[member])):
            return
        world.crash(member)
        world.count("lost disk")
        world.tell(member, "lost its disk", "")
        world.nodes[member].lost = True
        world.atlas.gone.add(member)
        self._begin(self._format(member) if formatted else self._replace(member))

    def _smallest(self) -> int:
        habits = self._world.scenario.habits
        if habits.lost or habits.misdirected or habits.unreadable:
            return 3  # Fewer copies than that, and what disks do all the time would be more than is promised.
        return 1

    # What they do

    def _more(self) -> Iterator[None]:
        yield from self._change((*self.members, self._learner()))
        self._world.count("member came")

    def _fewer(self, member: int) -> Iterator[None]:
        yield from self._change(tuple(one for one in self.members if one != member))
        self._world.count("member left")
        self._switch_off(member)

    def _replace(self, member: int) -> Iterator[None]:
        """Another member takes the place of one whose disk is lost."""
        learner = self._learner()
        if self._chance.happens(500_000):
            yield from self._change((*self.members, learner))
            yield from self._change(tuple(one for one in self.members if one != member))
        else:
            yield from self._change(tuple(one for one in self.members if one != member))
            yield from self._change((*self.members, learner))
        self._switch_off(member)
        self._world.count("member replaced")

    def _format(self, member: int) -> Iterator[None]:
        """A member gets a new disk, and takes part only in views that the lost one can know nothing of."""
        world = self._world
        needed = self.committed + world.options.pipeline_max
        while self.committed < needed or not self._up():
            yield
        view = max(node.replica.view for node in self._up())
        for _ in range(self._chance.below(4)):
            yield
        committed = self.committed
        node = world.give_disk(member, self.members, epoch=self.epoch, view=view + 2)
        if world.watcher is not None:
            world.watcher.formatted(node)
        world.start(member)
        normal = world.code.core.Status.NORMAL
        while node.replica is None or node.replica.status != normal or node.replica.commit_min < committed:
            yield
        world.atlas.gone.discard(member)
        world.count("disk formatted")

    def _change(self, members: tuple[int, ...]) -> Iterator[None]:
        """Have these be the members; end when they have committed something."""
        world = self._world
        while not world.atlas.may_change_to(members):
            yield
        self.changing = True
        self._wished[self.epoch] = members
        world.atlas.groups = (self.members, members)
        while self.members != members:
            self._ask(members)
            for _ in range(_PATIENCE):
                yield
                if self.members == members:
                    break
        while self.changing:
            yield

    def _ask(self, members: tuple[int, ...]) -> None:
        self._send(members, self.epoch)

    def _send(self, members: tuple[int, ...], epoch: int) -> None:
        self._number += 1
        whom = self._trust
        if whom is None or whom not in self.members:
            whom = self._chance.pick(self.members)
        self._trust = None
        self._world.ask(whom, self._world.code.messages.Reconfigure(self.id, self._number, members, epoch))

    def hear(self, member: int, message: Any) -> None:
        """Take an answer."""
        messages = self._world.code.messages
        if isinstance(message, messages.Redirect):
            self._trust = message.primary
        elif isinstance(message, messages.Reconfigured):
            self._trust = member
            if not message.accepted:
                self.refusals[message.why] = self.refusals.get(message.why, 0) + 1

    def _learner(self) -> int:
        """Start a new node, which follows."""
        member, self._next = self._next, self._next + 1
        self._world.give_disk(member, self.members, epoch=self.epoch)
        self._world.start(member)
        return member

    def _switch_off(self, member: int) -> None:
        world = self._world
        world.nodes[member].dead = True
        world.crash(member)
        world.atlas.gone.discard(member)

    # What they see

    def _up(self) -> list[Any]:
        nodes = (self._world.nodes[member] for member in self.members)
        return [node for node in nodes if node.replica is not None]

    def epoch_began(self, epoch: int, members: tuple[int, ...]) -> None:
        """Somebody is in an epoch that nobody was in before."""
        if self._wished.get(epoch - 1) != members:
            raise Violation("members are those that were asked for", f"epoch {epoch} has {members}")
        before = self.members
        self.epoch, self.members = epoch, members
        self.epochs[epoch] = members
        self.changing = True
        self._world.atlas.groups = (before, members)
        if self.split is not None:
            lasts, which = self.split
            self.split = None
            nodes = self._world.nodes
            behind = [one for one in before if nodes[one].replica is not None and nodes[one].replica.epoch < epoch]
            if behind:
                self._world.plan.cut_off(behind[which % len(behind)], lasts)

    def epoch_runs(self) -> None:
        """The newest epoch's members have committed something: the change is over."""
        self.changing = False
        self._world.atlas.groups = (self.members,)
        self._world.known(self.members)

    # Time

    def _begin(self, task: Iterator[None]) -> None:
        self._task = task
        self._look()

    def _look(self) -> None:
        if self.finishing or self._task is None:
            return
        try:
            next(self._task)
        except StopIteration:
            self._task = None
        else:
            self._world.after(_LOOK, self._look)
