"""What must never happen, looked for after every step of every member.

A checker may look where no member can: into all memories and all disks at once. It keeps what it has seen, so that each
step costs it little:

===================  ===============================================================================================
one history          an op that was ever known to be committed has one checksum, on all members, for ever
evidence             when an op is first said to be committed, a replication quorum has it on disk
chain                it names the one before
durable promises     no PrepareOk without entry, header record and view on disk (on what the disk *said* is there)
one primary          one member proposes in an epoch and view, one entry stands at a view and op
members              all agree who the members of an epoch are; quorums are of them alone
new disks            a member whose disk was lost begins in a view that it can have promised nothing in
views rise           the durable view and log view of a member never go back, over all of its processes
honest denials       a member that acknowledged an op in a view never denies it when it joins with that view's log
equal states         at one op all kernels are equal, and all gave the same outputs
exactly once         a request of a session is executed once
replies              a client is told only what was committed, and what came out
kept                 a checkpoint waits until the outputs of the ops that it stands for are durable
time                 the time of an op is later than that of the op before
bounds               nothing that a replica keeps grows beyond what its options say
===================  ===============================================================================================
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, cast

from veritydb.simulation.founding import CLUSTER
from veritydb.simulation.violation import Violation
from veritydb.vsr.effects import Zone
from veritydb.vsr.quorums import QUORUMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from veritydb.simulation.world import Node, World

_EVERY = 32
"""Steps between two looks at the sizes of what a replica keeps."""
_STATES_EVERY = 8
"""Ops between two comparisons of kernels, which cost a snapshot each."""


_CONTAINERS: tuple[Any, ...] = (dict, list, set, deque, tuple)


class Checkers:
    """All of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        code = world.code
        self._kernel = code.kernel
        self._refusals = frozenset(code.kernel.machine.REFUSALS.values())
        self.normal = code.core.Status.NORMAL
        self._looks: dict[type, Any] = {
            code.effects.Send: self._on_send,
            code.effects.Committed: self._on_committed,
            code.effects.Answer: self._on_answer,
        }
        messages = code.messages
        self._sent: dict[type, Any] = {
            messages.Prepare: self._on_prepare,
            messages.PrepareOk: self._on_prepare_ok,
            messages.JoinView: self._on_join_view,
            messages.StartView: self._on_start_view,
            messages.Commit: self._on_commit,
        }
        self._reply = messages.Reply
        self._halt = code.effects.Halt
        self._write_done = code.effects.WriteDone
        self.committed: dict[int, bytes] = {0: self._root()}
        """Op to checksum."""
        self.commit_max = 0
        self.time = 0
        """Of the last op that is committed."""
        self.committed_in: dict[tuple[int, int], int] = {}
        """By view: the highest op that was first committed in it."""
        self.applied: dict[int, Any] = {}
        """Op to outputs."""
        self.states: dict[int, Any] = {}
        self.executed: dict[tuple[bytes, int, int], tuple[int, bytes]] = {}
        """Requests, to the op that executed them and the reply."""
        self.proposers: dict[tuple[int, int], int] = {}
        self.entries: dict[tuple[int, int], bytes] = {}
        """View in which it was first prepared and op, to checksum."""
        self.acknowledged: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """By member: op to the last view in which it said that it is durable."""
        self.views: dict[int, tuple[int, int, int]] = {}
        self.logs: dict[int, tuple[int, int]] = {}
        """By member: the latest epoch and view whose log it had in memory."""
        self.sequences: dict[int, int] = {}
        """By member: of the last superblock that it knew to be durable."""
        self.checkpoints: dict[int, int] = {}
        self.given: dict[int, tuple[int, int]] = {}
        """By member: its process, and the last op at a checkpoint's place of which it has given out the outputs."""
        self.views_started: set[tuple[int, int]] = set()
        self.marks: dict[str, int] = {}
        """Corners of the protocol that were reached, and how often."""
        self._steps = 0

    def _root(self) -> bytes:
        return bytes(self.world.code.entry.root_entry(CLUSTER).header.checksum)

    def mark(self, corner: str) -> None:
        """A corner of the protocol was reached."""
        self.marks[corner] = self.marks.get(corner, 0) + 1

    # The world tells

    def started(self, node: Node, effects: list[Any]) -> None:
        """A process has begun."""
        replica = node.replica
        epoch, view, log_view = self.views.get(node.member, (0, 0, 0))
        if replica.view < view or (replica.epoch, replica.log_view) < (epoch, log_view):
            raise Violation(
                "a member starts with the view and log view it made durable",
                f"member {node.member} had view {view}, log view {log_view}, starts with "
                f"{replica.view}, {replica.log_view}",
            )
        if replica.durable_block.sequence < self.sequences.get(node.member, 0):
            raise Violation(
                "a member starts with the superblock that it has built upon",
                f"member {node.member}: {replica.durable_block.sequence} after {self.sequences[node.member]}",
            )
        if replica.status == self.world.code.core.Status.RECOVERING_HEAD:
            self.mark("recovering head")
        if replica.faulty:
            self.mark("faulty slot at start")
        self._look(node, effects)

    def stepped(self, node: Node, event: Any, effects: list[Any]) -> None:
        """A step was made."""
        if (
            type(event) is self._write_done
            and not event.ok
            and not any(isinstance(effect, self._halt) for effect in effects)
        ):
            raise Violation("a replica halts when its disk failed", f"member {node.member} goes on")
        if effects:
            self._look(node, effects)
        replica = node.replica
        if replica.epoch > self.world.people.epoch:
            self.world.people.epoch_began(replica.epoch, replica.members)
            self.mark("members changed")
        log = (replica.epoch, replica.log_view)
        if log > self.logs.get(node.member, (0, 0)):
            self.logs[node.member] = log
        if replica.commit_max > self.commit_max:
            self._learn_commit(node, replica)
        block = replica.durable_block if replica.begun else None
        if block is not None:
            self._look_at_block(node, block)
        if replica.oks and replica.status == self.normal:
            self._own_acknowledgements(node, replica)
        self._steps += 1
        if self._steps % _EVERY == 0:
            self._check_bounds(node, replica)

    def _look_at_block(self, node: Node, block: Any) -> None:
        self.sequences[node.member] = block.sequence
        now = (block.epoch, block.view, block.log_view)
        before = self.views.get(node.member)
        if now != before:
            if before is not None and (now[1] < before[1] or (now[0], now[2]) < (before[0], before[2])):
                raise Violation("the durable view never goes back", f"member {node.member}: {before}, then {now}")
            self.views[node.member] = now
            if self.world.people.epochs.setdefault(block.epoch, block.members) != block.members:
                raise Violation("all agree who the members of an epoch are", f"member {node.member}: {block.members}")
        point = block.checkpoint.op
        if point != self.checkpoints.get(node.member, 0):
            self.checkpoints[node.member] = point
            # What came with a snapshot was never given out here.
            if self.given.get(node.member) == (node.incarnation, point) and node.retained < point:
                raise Violation(
                    "a checkpoint waits until what it stands for is kept",
                    f"member {node.member}: checkpoint {point}, kept to op {node.retained}",
                )

    def stopped(self, node: Node) -> None:
        """A process has ended."""

    def formatted(self, node: Node) -> None:
        """A lost disk was replaced: what it promised is kept by others, and by views that the new one is not in."""
        self.acknowledged[node.member].clear()
        self.logs[node.member] = (0, 0)
        self.sequences[node.member] = 0
        _epoch, view, _log_view = self.views[node.member]
        block, _ = self.world.code.superblock.open_copies(node.disk.copies)
        if block.view <= view:
            raise Violation(
                "a new disk knows of no view that the lost one took part in",
                f"member {node.member} was in view {view}, and begins in {block.view}",
            )
        self.views[node.member] = (block.epoch, block.view, block.log_view)
        self.mark("disk formatted")

    def halted(self, node: Node, reason: str) -> None:
        """A replica has stopped itself: only for what is beyond the promise, or because its disk failed."""
        if node.write_failed or self.world.scenario.beyond:
            self.mark("halt")
            return
        raise Violation("a replica halts only when its disk failed", f"member {node.member}: {reason}")

    # What is looked at

    def _look(self, node: Node, effects: Iterable[Any]) -> None:
        looks = self._looks
        for effect in effects:
            kind: type = effect.__class__
            look = looks.get(kind)
            if look is not None:
                look(node, effect)

    def _on_send(self, node: Node, effect: Any) -> None:
        kind: type = effect.message.__class__
        look = self._sent.get(kind)
        if look is not None:
            look(node, effect.message)

    def _on_prepare(self, node: Node, message: Any) -> None:
        header = message.entry.header
        proposer = self.proposers.setdefault((message.epoch, message.view), node.member)
        if proposer != node.member:
            raise Violation(
                "one member proposes in a view", f"members {proposer} and {node.member} in view {message.view}"
            )
        checksum = self.entries.setdefault((header.view, header.op), header.checksum)
        if checksum != header.checksum:
            raise Violation("one entry stands at a view and op", f"view {header.view}, op {header.op}")
        if header.view > message.view:
            raise Violation("no entry is of a later view than its message", f"{header} in view {message.view}")

    def _on_prepare_ok(self, node: Node, message: Any) -> None:
        slot = message.op % self.world.options.slots
        entry = node.disk.holds(Zone.ENTRY, slot)
        header = node.disk.holds(Zone.HEADER, slot)
        # Behind 16 bytes of preface stands the checksum that names the entry.
        if entry is None or entry[16:32] != message.checksum:
            raise Violation("no PrepareOk without a durable entry", f"member {node.member}, op {message.op}")
        if header is None or header[16:32] != message.checksum:
            raise Violation("no PrepareOk without a durable header record", f"member {node.member}, op {message.op}")
        block = node.replica.durable_block
        if block.view != message.view or block.log_view != message.view:
            raise Violation(
                "no PrepareOk without a durable view",
                f"member {node.member} in view {message.view}; on disk {block.view}, log {block.log_view}",
            )
        self.acknowledged[node.member][message.op] = message.view

    def _own_acknowledgements(self, node: Node, replica: Any) -> None:
        member = node.member
        for op, voters in replica.oks.items():
            if member in voters:
                known = self.acknowledged[member]
                if known.get(op) != replica.view:
                    slot = op % self.world.options.slots
                    entry = node.disk.holds(Zone.ENTRY, slot)
                    header = node.disk.holds(Zone.HEADER, slot)
                    checksum = replica.headers[op].checksum
                    if entry is None or entry[16:32] != checksum or header is None or header[16:32] != checksum:
                        raise Violation("a primary counts itself when its own write is done", f"op {op}")
                    known[op] = replica.view

    def _on_join_view(self, node: Node, message: Any) -> None:
        known = self.acknowledged[node.member]
        block = node.replica.durable_block
        # If its memory once had a later view's log, that view has proven which ops of this one were never committed,
        # and their slots may hold later ones although a crash came before the superblock: what it denies then is
        # settled.
        if (message.epoch, message.log_view) < self.logs.get(node.member, (0, 0)):
            known = {}
        if block.view < message.view:
            raise Violation("no JoinView before the view is durable", f"member {node.member}, view {message.view}")
        for op, view in known.items():
            if view != message.log_view:
                continue
            index = message.op - op
            if index < 0 or (index < len(message.suffix.headers) and message.suffix.nack >> index & 1):
                raise Violation(
                    "a member never denies what it acknowledged",
                    f"member {node.member}, op {op}, acknowledged in view {view}; join for view {message.view}",
                )
        if any(header is None for header in message.suffix.headers):
            self.mark("join with a blank")
        if message.suffix.nack:
            self.mark("join with a denial")

    def _on_start_view(self, node: Node, message: Any) -> None:
        self.views_started.add((message.epoch, message.view))
        # What an earlier view has committed. A later one may have committed more while this one is still being told of.
        # A member that has missed the end of its epoch may begin views of it, with numbers that later epochs have had.
        own = message.epoch, message.view
        earlier = max((op for when, op in self.committed_in.items() if when < own), default=0)
        for header in message.headers:
            if header.op <= max(earlier, message.commit_max):
                self._agree(node, header.op, header.checksum, "StartView")
        if message.op < earlier:
            raise Violation(
                "a view starts with all that is committed",
                f"view {message.view} starts at op {message.op}, op {earlier} is committed",
            )

    def _on_commit(self, node: Node, message: Any) -> None:
        if message.commit_max > self.commit_max:
            self._learn_commit(node, node.replica)
        self._agree(node, message.commit_max, message.checksum, "Commit")

    def _on_answer(self, node: Node, effect: Any) -> None:
        message = effect.message
        if type(message) is not self._reply:
            return
        if message.op > self.commit_max:
            raise Violation("a reply follows the commit", f"op {message.op}, committed is {self.commit_max}")
        self.on_reply(message)

    def on_reply(self, message: Any) -> None:
        """A reply is sent or taken: it must be what was committed."""
        known = self.executed.get(_key(message))
        if known is None:
            raise Violation("a client is told only what was committed", f"request {message.number}: no op has it")
        if known[1] != message.result:
            raise Violation("a client is told what came out", f"request {message.number} of op {known[0]}")

    # Commits

    def _learn_commit(self, node: Node, replica: Any) -> None:
        """A member says for the first time that ops are committed."""
        for op in range(self.commit_max + 1, replica.commit_max + 1):
            header = replica.headers.get(op)
            if header is None:
                return  # It will say what it is when it knows.
            people = self.world.people
            members = people.epochs[header.epoch]  # An epoch's ops are committed by its members.
            needed = QUORUMS[len(members)].replication
            holders = [member for member in members if self._has(member, op, header.checksum)]
            if len(holders) < needed:
                raise Violation(
                    "a replication quorum has on disk what is committed",
                    f"op {op}, said by member {node.member} in view {replica.view}, is on {holders}",
                )
            if replica.is_primary and replica.status == self.normal:
                if replica.durable_to >= op and self._has_both(node, op, header.checksum):
                    self.acknowledged[node.member][op] = replica.view  # Its own counts without a message.
                acknowledged = [member for member in members if self.acknowledged[member].get(op, -1) >= replica.view]
                if len(acknowledged) < needed:
                    raise Violation(
                        "a replication quorum acknowledged in this view what is committed in it",
                        f"op {op} in view {replica.view}: {acknowledged}",
                    )
            if header.timestamp <= self.time:
                raise Violation("cluster time goes on", f"op {op} at {header.timestamp}, the one before at {self.time}")
            self.time = header.timestamp
            self.committed[op] = header.checksum
            self.commit_max = people.committed = op
            # Who has applied the end of its epoch has left the view in which that was committed.
            self.committed_in[header.epoch, replica.view - (header.epoch < replica.epoch)] = op
            if header.epoch == people.epoch and people.changing:
                people.epoch_runs()
            if header.view < replica.view:
                self.mark("op of an earlier view committed")

    def _has(self, member: int, op: int, checksum: bytes) -> bool:
        node = self.world.nodes.get(member)
        if node is None:
            return False
        replica = node.replica
        if replica is not None and replica.checkpoint.op >= op:
            return True
        slot = op % self.world.options.slots
        entry = node.disk.holds(Zone.ENTRY, slot)
        return entry is not None and entry[16:32] == checksum

    def _has_both(self, node: Node, op: int, checksum: bytes) -> bool:
        """Whether entry and header record were reported durable."""
        slot = op % self.world.options.slots
        entry, header = node.disk.holds(Zone.ENTRY, slot), node.disk.holds(Zone.HEADER, slot)
        return entry is not None and header is not None and entry[16:32] == header[16:32] == checksum

    def _agree(self, node: Node, op: int, checksum: bytes, where: str) -> None:
        known = self.committed.get(op)
        if known is None:
            if op > self.commit_max:
                return
            known = self.committed.setdefault(op, checksum)
        if known != checksum:
            raise Violation(
                "there is one committed history",
                f"op {op}: member {node.member} has {checksum.hex()[:6]} in {where}, {known.hex()[:6]} is committed",
            )

    def _on_committed(self, node: Node, effect: Any) -> None:
        header, outputs = effect
        op = header.op
        if op % self.world.options.checkpoint_interval == 0:
            self.given[node.member] = (node.incarnation, op)
        if op > self.commit_max:
            self._learn_commit(node, node.replica)
        self._agree(node, op, header.checksum, "its log")
        before = self.committed.get(op - 1)
        if before is not None and before != header.parent:
            raise Violation("a committed op names the one before", f"op {op} at member {node.member}")
        if op in self.applied:
            if self.applied[op] != outputs:
                raise Violation("all members get the same of an op", f"op {op} at member {node.member}")
        else:
            self.applied[op] = outputs
            for output in outputs:
                self._execute(op, output)
        replica = node.replica
        if op == replica.commit_min and op % _STATES_EVERY == 0 and replica.state is not None:
            digest = self._kernel.digest(replica.state)
            if self.states.setdefault(op, digest) != digest:
                raise Violation("all kernels are equal at an op", f"op {op} at member {node.member}")

    def _execute(self, op: int, output: Any) -> None:
        key = _key(output)
        known = self.executed.get(key)
        if known is None:
            self.executed[key] = (op, output.reply)
        elif output.effects or (output.number and output.reply not in {known[1], *self._refusals}):
            raise Violation("a request is executed once", f"ops {known[0]} and {op}")

    # Bounds

    def _check_bounds(self, node: Node, replica: Any) -> None:
        bound = 2 * replica.options.slots + replica.options.queue_max + 64
        fields = cast("dict[str, Any]", vars(replica))
        for name, value in fields.items():
            if isinstance(value, _CONTAINERS) and len(value) > bound:
                raise Violation("what a replica keeps is bounded", f"member {node.member}: {len(value)} in {name}")
        for op in [op for op in self.acknowledged[node.member] if op < replica.checkpoint.op]:
            del self.acknowledged[node.member][op]


def _key(message: Any) -> tuple[bytes, int, int]:
    """Return what names a request; a client registers once, before it has a session."""
    return message.client, message.session if message.number else 0, message.number
