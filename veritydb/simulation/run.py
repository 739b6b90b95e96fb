"""One run: things go wrong, then a healthy core must converge, then the answers are judged.

The end is not a time of general healing. A quorum of members is made healthy and the rest stays dead or cut off: a
cluster that needs all of its members to recover is stuck in production, and random faults that all pass hide it
(TigerBeetle's "liveness mode"). The core is chosen so that what the protocol promises is possible: of everything that
may be committed, it has a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from veritydb.simulation.checkers import Checkers
from veritydb.simulation.clients import Clients
from veritydb.simulation.code import Code, installed
from veritydb.simulation.linearizability import Undecided, check_each
from veritydb.simulation.network import CLIENTS
from veritydb.simulation.scenario import SECOND
from veritydb.simulation.streams import Stream
from veritydb.simulation.violation import Violation
from veritydb.simulation.world import Node, World
from veritydb.vsr.effects import Zone
from veritydb.vsr.quorums import QUORUMS

if TYPE_CHECKING:
    from veritydb.simulation.scenario import Scenario
    from veritydb.simulation.world import Story

CONVERGE = 40 * SECOND
"""Virtual time in which a healthy core must have answered everything."""
CALM = 5 * SECOND
"""How long a core is then watched, while others disturb it."""
CALM_VIEWS = 4
LINEARIZABLE_STEPS = 2_000_000


class Failure(NamedTuple):
    """Why a run is not as it should be."""

    rule: str
    """What was broken; the same for the same kind of bug."""
    facts: str
    at: int
    """Virtual time."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.facts} (at {self.at / SECOND:.6f} s)"


class Result(NamedTuple):
    """What came of a run."""

    seed: int
    failure: Failure | None
    ops: int
    """Committed."""
    answers: int
    kinds: dict[str, int]
    """Faults that really happened, by kind."""
    marks: dict[str, int]
    """Corners of the protocol that were reached."""
    steps: int
    virtual: int
    """Microseconds that passed in the world."""
    trace: str
    """Digest of everything that happened."""

    @property
    def useful(self) -> bool:
        """Whether it did what a run should do to count."""
        return self.ops >= 200 and len(self.kinds) >= 5


class Run:
    """A world with its clients and checkers."""

    def __init__(self, scenario: Scenario, code: Code | None = None, story: Story | None = None) -> None:
        self.scenario = scenario
        self.code = code = code or installed()
        self.world = World(scenario, code)
        self.checkers = Checkers(self.world)
        self.clients = Clients(self.world)
        self.world.watcher = self.checkers
        self.world.story = story
        self.world.clients = self.clients.hear
        self.clients.on_reply = self.checkers.on_reply
        self.world.known = self.clients.know
        self.core: tuple[int, ...] = ()

    def run(self) -> Result:
        """Run to the end."""
        failure: Failure | None = None
        try:
            self._chaos()
            if not self.scenario.beyond:
                self._converge()
            self._judge()
        except Violation as violation:
            text = str(violation)
            facts = text[len(violation.what) + 2 :]
            failure = Failure(violation.what, facts, self.world.now)
        except Undecided as undecided:
            failure = Failure("the history is decided", str(undecided), self.world.now)
        except RecursionError:
            raise
        except Exception as error:  # What a member raises is as much a failure as what it does wrong.
            failure = Failure(
                f"a step raises nothing: {type(error).__name__}", f"{error} {_where(error)}", self.world.now
            )
        return self._result(failure)

    def _chaos(self) -> None:
        world, scenario, checkers = self.world, self.scenario, self.checkers
        for member in world.nodes:
            world.start(member)
        self.clients.begin()
        world.plan.schedule(scenario.faults)
        world.run(scenario.chaos)
        world.run(scenario.chaos_max, lambda: checkers.commit_max >= scenario.target)

    def _converge(self) -> None:
        """Make a quorum healthy, kill the rest, and see whether that suffices."""
        world = self.world
        world.people.finishing = True
        self.core = core = self._choose_core()
        world.network.heal()
        reached = set(core)
        for member, node in world.nodes.items():
            node.doom = -1
            node.disk.slowness = 1
            node.disk.habits = node.disk.habits._replace(lost=0, misdirected=0, failed=0, unreadable=0)
            if member not in core and self._leave_outside(node):
                reached.add(member)
        for member in core:
            node = world.nodes[member]
            if node.inbox is not None:
                node.pauses = 1
                world.after(0, world.resume, node, node.incarnation)
            if node.replica is None:
                world.after(1, world.revive, member, node.incarnation)
        clients = self.clients
        clients.finishing = True
        clients.members = sorted(reached)
        clients.forget_trust()
        deadline = world.now + CONVERGE
        for client in clients.all:
            world.after(1_000, client.proceed)
        if not world.run(deadline, self._settled):
            raise Violation("a healthy core answers everything", self._state())
        # And it must still take new work.
        for client in clients.all[:2]:
            if client.session:
                client.append(clients.streams[0])
        for stream in clients.streams:
            for client in clients.all:
                if client.waiting is None:
                    client.read(stream)
                    break
        if not world.run(world.now + CONVERGE, self._settled):
            raise Violation("a healthy core answers new questions", self._state())
        if self._rotten() and not world.run(world.now + CONVERGE, lambda: not self._rotten()):
            raise Violation("a healthy core mends what has rotted", f"{self._rotten()}; {self._state()}")
        if any(node.replica is not None and member not in core for member, node in world.nodes.items()):
            started = len(self.checkers.views_started)
            world.run(world.now + CALM)
            started = len(self.checkers.views_started) - started
            if started > CALM_VIEWS:
                raise Violation("who is outside does not disturb a healthy core", f"{started} views have started")

    def _leave_outside(self, node: Node) -> bool:
        """What is not of the core is dead, or is cut off in some way. Return whether clients reach it."""
        world = self.world
        chance = world.chance.split("outside")
        if chance.happens(350_000):
            node.dead = True
            world.crash(node.member)
            return False
        shape = chance.pick((0, 1, 1, 2, 3, 4, 4))
        # Who has links left may be primary by right, of a quorum that it hears and that hears it.
        others = [other for other in (*world.nodes, *((CLIENTS,) if shape < 3 else ())) if other != node.member]
        inward = [(node.member, other) for other in others]
        outward = [(other, node.member) for other in others]
        if shape >= 3:  # Some it hears, and some hear it; or each of the others one or the other.
            each = [chance.below(4 if shape == 3 else 2) for _ in inward]
            links = [link for link, what in zip(inward, each, strict=True) if what in (0, 2)]
            links += [link for link, what in zip(outward, each, strict=True) if what in (1, 2)]
        else:
            links = inward if shape == 0 else outward if shape == 1 else inward + outward
        world.network.cut(links)
        return shape >= 3

    def _choose_core(self) -> tuple[int, ...]:
        world, people = self.world, self.world.people
        if people.waiting:  # Nobody may be sure yet whose quorum is needed.
            return tuple(sorted(one for one in people.counting if not world.nodes[one].lost))
        everyone = sorted(people.members)
        chance = world.chance.split("core")
        sizes = QUORUMS[len(everyone)]
        size = max(sizes.replication, sizes.view_change)
        candidates = [member for member in everyone if not world.nodes[member].lost]
        if chance.happens(300_000):
            return tuple(candidates)
        everyone = list(candidates)
        chance.shuffle(candidates)
        primary = world.plan.primary()
        if primary in candidates and chance.happens(500_000):  # It may go on as if it were one.
            candidates.remove(primary)
            candidates.append(primary)
        core = tuple(sorted(candidates[: chance.between(size, len(everyone))]))
        if any(self._damaged(world.nodes[member]) for member in core):
            return tuple(everyone)
        return core

    def _damaged(self, node: Node) -> bool:
        """Whether the member's disk lacks something that it once had: others may be needed to give it back."""
        bad = node.disk.bad
        return (
            any(place[0] != Zone.SUPERBLOCK for place in bad) or node.refused is not None or bool(self._forgetful(node))
        )

    def _forgetful(self, node: Node) -> bool:
        replica = node.replica
        if replica is None:  # What would it know, if it started now?
            try:
                replica = self.world.make_replica(node, node.disk.open(), 0)
            except (self.code.superblock.SuperblockDamaged, self.code.core.CannotStart):
                return True
            return bool(replica.faulty) or replica.head_uncertain
        return bool(replica.faulty) or replica.status == self.code.core.Status.RECOVERING_HEAD

    def _rotten(self) -> list[tuple[int, int]]:
        """Return members of the core, and ops above their checkpoint whose entry is not what was promised."""
        found: list[tuple[int, int]] = []
        for member in self.core:
            node = self.world.nodes[member]
            replica = node.replica
            if replica is None or member not in self.world.people.members:
                continue
            for op in range(replica.checkpoint.op + 1, replica.commit_min + 1):
                slot = op % self.scenario.slots
                data = node.disk.promised[Zone.ENTRY, slot]
                header = replica.headers.get(op)
                if header is None or data is None or data[16:32] != header.checksum:
                    continue
                if node.disk.entries[slot] != data:
                    found.append((member, op))
        return found

    def _settled(self) -> bool:
        if self.clients.waiting:
            return False
        people = self.world.people
        replicas = [self.world.nodes[member].replica for member in self.core if member in people.members]
        if any(replica is None or replica.epoch != people.epoch for replica in replicas):
            return False
        first = replicas[0]
        return all(
            replica.status == self.checkers.normal
            and replica.commit_min == replica.commit_max == replica.head == first.head
            and replica.view == first.view
            for replica in replicas
        )

    def _state(self) -> str:
        """Return in one line what the core's members are doing, for a report of a stall."""
        parts: list[str] = []
        for member, node in sorted(self.world.nodes.items()):
            replica = node.replica
            if replica is None:
                parts.append(f"{member}: {'dead' if node.dead else node.refused or 'down'}")
                continue
            parts.append(
                f"{member}{'*' if member in self.core else ''}: {replica.status.name.lower()} view {replica.view}/"
                f"{replica.log_view} head {replica.head} commit {replica.commit_min}/{replica.commit_max} "
                f"checkpoint {replica.checkpoint.op} epoch {replica.epoch} of {','.join(map(str, replica.members))}"
            )
        waiting = ", ".join(
            f"client {client.name} {type(client.waiting.message).__name__} {client.waiting.number}"
            for client in self.clients.waiting
            if client.waiting is not None
        )
        return "; ".join(parts) + (f"; waiting: {waiting}" if waiting else "")

    def _judge(self) -> None:
        parts = self.clients.parts()
        names = {stream: number for number, stream in enumerate(parts)}
        verdicts = check_each(Stream(), parts, budget=LINEARIZABLE_STEPS)
        for stream, verdict in verdicts.items():
            if not verdict.ok:
                stuck = parts[stream][verdict.stuck] if verdict.stuck is not None else None
                raise Violation(
                    "clients see one stream, one step at a time",
                    f"stream {names[stream]}: after {len(verdict.order)} of {len(parts[stream])} operations, {stuck}",
                )

    def _result(self, failure: Failure | None) -> Result:
        world = self.world
        kinds = dict(world.faults)
        for kind, count in world.network.counts.items():
            if count and kind not in ("cut", "clogged"):
                kinds[f"message {kind}"] = count
        for node in world.nodes.values():
            for kind, count in node.disk.counts.items():
                kinds[kind] = kinds.get(kind, 0) + count
        return Result(
            self.scenario.seed,
            failure,
            self.checkers.commit_max,
            self.clients.answered,
            dict(sorted(kinds.items())),
            dict(sorted(self.checkers.marks.items())),
            world.steps,
            world.now,
            world.trace.hexdigest(),
        )


def _where(error: BaseException) -> str:
    """Return the innermost place of the protocol in which it was raised."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.startswith("veritydb."):
            place = f"in {name}.{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def simulate(scenario: Scenario, code: Code | None = None, story: Story | None = None) -> Result:
    """Run a scenario to its end and judge it."""
    return Run(scenario, code, story).run()
