"""The normal case: a primary orders requests, members make them durable and say so, a quorum commits.

VR Revisited, section 4.1, with the differences that ``docs/internals/vsr.md`` names: many clients' requests share an
op, an acknowledgement follows the disk, and a new primary commits an op of its own before it serves anybody.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from veritydb import kernel
from veritydb.vsr.core import Status
from veritydb.vsr.effects import Image
from veritydb.vsr.entry import Entry, Header, Kind, make_entry
from veritydb.vsr.messages import (
    Checkpoint,
    Commit,
    CommitAck,
    Evicted,
    PeerMessage,
    Prepare,
    PrepareOk,
    ReadReply,
    ReadRequest,
    Redirect,
    Reply,
    Request,
)
from veritydb.vsr.options import Options
from veritydb.vsr.storing import Storing


class _Probe(NamedTuple):
    """A question to the members, whether this still is their primary; and the reads that wait for the answer."""

    nonce: int
    commit: int
    """What was committed when it was asked: the reads see at least that."""
    reads: tuple[ReadRequest, ...]
    answered: set[int]


class Normal(Storing):
    """Ordering, acknowledging, committing; reads."""

    def __init__(
        self, *, cluster: bytes, member: int, image: Image, seed: int, options: Options | None = None, release: int = 1
    ) -> None:
        super().__init__(cluster=cluster, member=member, image=image, seed=seed, options=options, release=release)
        # As primary.
        self.oks: dict[int, set[int]] = {}
        """By op of the pipeline, the members that have it on disk in this view."""
        self.view_committed = False
        """Whether an op of this view is committed: before that, what is committed is not known for certain."""
        self._opening_due = False
        """Whether the op that settles this has yet to be proposed."""
        self.queue: deque[Request] = deque()
        self._busy: dict[bytes, int] = {}
        """By client, the number of its request that is queued or in the pipeline."""
        self._stamp = 0
        self._nonce = 0
        self._reads_waiting: list[ReadRequest] = []
        self._probe: _Probe | None = None
        self._reads_proven: deque[_Probe] = deque()
        self._learners: dict[int, int] = {}
        """Members to be, with the op up to which they have committed."""
        self._abdicating = False
        self._draining = False
        """Whether nothing is proposed until the pipeline is empty, because other members were asked for."""
        self._heard: set[int] = set()
        """Members that have answered since the timer "deaf" began."""
        # As backup.
        self._stamp_seen = -1
        self._ahead: dict[int, Prepare] = {}
        self._furthest = 0
        """The highest op of this view that was heard of above a gap."""
        self._get_view_due = False

    # ---- requests

    def on_request(self, message: Request) -> None:
        """Queue a client's request, unless it has been carried out or is on its way."""
        if self.status is not Status.NORMAL or not self.is_primary:
            self._redirect(message.client, message.number)
            return
        if self.state is None or self._abdicating:
            return  # The client asks again.
        if not self.view_committed:
            self._redirect(message.client, message.number)
            return
        if message.client in self._busy:
            return
        found = kernel.lookup(self.state, message.client, message.session, message.number, message.command)
        if isinstance(found, kernel.Duplicate):
            self._answer(
                message.client,
                Reply(message.client, message.session, message.number, self.commit_min, found.reply, self.view),
            )
        elif found is kernel.Verdict.NEW:
            if len(self.queue) < self.options.queue_max and len(message.command) <= self.options.body_max // 2:
                self._busy[message.client] = message.number
                self.queue.append(message)
                self._propose()
        elif message.view <= self.view and found in (kernel.Verdict.UNKNOWN, kernel.Verdict.CHANGED):
            # A client that has heard of a higher view knows more than we do; then it is not for us to send it away.
            self._answer(message.client, Evicted(message.client, message.session, self.view))

    def _redirect(self, client: bytes, number: int) -> None:
        """Say who is primary, or is about to be, this member perhaps: a client that hears nothing waits far longer."""
        if self.status is not Status.RECOVERING_HEAD:
            self._answer(client, Redirect(client, number, self.primary_of(self.view), self.view))

    def _propose(self) -> None:
        """Make ops of what is queued, as far as the pipeline has room."""
        options = self.options
        while self.queue and self._may_propose() and len(self.oks) < options.pipeline_eager:
            batch: list[Request] = []
            size = 0
            while self.queue and len(batch) < options.batch_max:
                size += len(self.queue[0].command) + 64
                if batch and size > options.body_max:
                    break
                batch.append(self.queue.popleft())
            self._append(Kind.COMMANDS, kernel.encode_batch(batch))

    def _may_propose(self) -> bool:
        return self.view_committed and not self._abdicating and not self._draining and self._has_room()

    def _has_room(self) -> bool:
        last = self.headers[self.head]
        return (
            self.status is Status.NORMAL
            and len(self.oks) < self.options.pipeline_max
            and self.head < self.op_max
            and not (last.kind is Kind.RECONFIGURE and last.epoch == self.epoch)  # Nothing follows it in its epoch.
        )

    def _on_checkpoint(self) -> None:
        self._open_view()
        self._propose()

    def _open_view(self) -> None:
        """Propose the op that makes certain what the views before have committed."""
        if self._opening_due and self._has_room():
            self._opening_due = False
            self._append(Kind.NOOP, b"")

    def _append(self, kind: Kind, body: bytes) -> None:
        """Put an op at the head of the log, and have all members make it durable."""
        before = self.headers[self.head]
        entry = make_entry(
            kind=kind,
            cluster=self.cluster,
            epoch=self.epoch,
            view=self.view,
            op=self.head + 1,
            parent=before.checksum,
            commit=self.commit_max,
            timestamp=max(before.timestamp + 1, self._now // 1000),
            body=body,
        )
        op = entry.header.op
        self.headers[op] = entry.header
        self.head = op
        self.oks[op] = set()
        self._keep(entry)
        self._spread(Prepare(self.epoch, self.view, self.member, entry, self.commit_max))
        if "prepare_retry" not in self._timers:
            self._start_timer("prepare_retry", self.options.prepare_retry)
            self._start_timer("abdicate", self.options.abdicate)

    def _spread(self, message: PeerMessage) -> None:
        """Send to all members and learners."""
        self._broadcast(message)
        for learner in self._learners:
            self._send(learner, message)

    def _resend_prepares(self) -> None:
        """Send the oldest op that is not committed to those who have not acknowledged it."""
        op = self.commit_max + 1
        voters = self.oks.get(op)
        if voters is None:
            return
        self._start_timer("prepare_retry", self.options.prepare_retry, spread=2)
        entry = self.bodies.get(op)
        if entry is not None:
            for member in self.members:
                if member not in voters:
                    self._send(member, Prepare(self.epoch, self.view, self.member, entry, self.commit_max))

    # ---- preparing

    def on_prepare(self, message: Prepare) -> None:
        """Take an op into the log, in order, and have it made durable."""
        if not self._in_view(message.view, message.src):
            return
        header = message.entry.header
        op = header.op
        if op <= self.head:
            # No sign of the primary's health: one that hears nobody sends the same op for ever.
            known = self.headers.get(op)
            if known is not None and known.checksum == header.checksum:
                if self._is_durable(op):
                    self._acknowledge(op)  # It was lost, or the primary is in a hurry.
                elif op > self.checkpoint.op:  # Below, its slot may hold a later op by now.
                    self._keep(message.entry)
        elif op == self.head + 1:
            if header.parent != self.headers[self.head].checksum:
                self._halt(f"two logs of view {self.view}: {header} does not follow {self.headers[self.head]}")
                return
            self._heard_primary()
            self._take(message.entry)
            while (following := self._ahead.pop(self.head + 1, None)) is not None:
                if following.entry.header.parent != self.headers[self.head].checksum:
                    break
                self._take(following.entry)
            if self._get_view_due and not any(ahead > self.head for ahead in self._ahead):
                self._get_view_due = False
        else:
            if op > self._furthest:  # Else it may be a repeated one, of a primary that hears nobody.
                self._furthest = op
                self._heard_primary()
            if op <= self.head + self.options.pipeline_max:
                self._ahead = {ahead: kept for ahead, kept in self._ahead.items() if ahead > self.head}
                self._ahead[op] = message
            self._fall_behind()
        self._learn_commit(message.commit_max)

    def _fall_behind(self) -> None:
        """Something of this view was missed; if it does not come by itself in a moment, ask for the view's log."""
        self._get_view_due = True
        if "getview_resend" not in self._timers:
            self._start_timer("getview_resend", 2)

    def _take(self, entry: Entry) -> None:
        header = entry.header
        self.headers[header.op] = header
        self.head = header.op
        self._keep(entry)
        self._learn_commit(header.commit)

    def _in_view(self, view: int, src: int) -> bool:
        """Whether a primary's message is of the view that runs here. Of a later one: ask for it, it is running."""
        if view > self.view or (view == self.view and self.status is not Status.NORMAL):
            if src == self.primary_of(view):
                self._ask_for_view(view)
            return False
        return view == self.view and src == self.primary_of(view) and src != self.member

    def _ask_for_view(self, view: int) -> None:
        raise NotImplementedError

    def _learn_commit(self, commit_max: int) -> None:
        """Take note of what the primary of this view says is committed. Never of another view's."""
        if commit_max > self.commit_max:
            self.commit_max = min(commit_max, self.head)
            self._apply()

    def _acknowledge(self, op: int) -> None:
        """Say that an op is durable here, if that may be said: see :mod:`veritydb.vsr.recovery`."""
        if self.status is not Status.NORMAL or op > self.durable_to or not self._is_durable(op):
            return
        if self.is_primary:
            self._count_ok(op, self.member)
        else:
            self._send(
                self.primary_of(self.view),
                PrepareOk(
                    self.epoch,
                    self.view,
                    self.member,
                    op,
                    self.headers[op].checksum,
                    self.commit_min,
                    self.checkpoint.op,
                ),
            )

    def _on_durable(self, before: int) -> None:
        for op in range(max(before, self.commit_max) + 1, self.durable_to + 1):
            self._acknowledge(op)
        self._apply()

    # ---- committing

    def on_prepare_ok(self, message: PrepareOk) -> None:
        """Count one acknowledgement; commit when a quorum has the op."""
        if message.view != self.view or not self.is_primary or self.status is Status.RECOVERING_HEAD:
            return
        if message.src in self._learners:
            self._learners[message.src] = message.commit_min
        header = self.headers.get(message.op)
        if message.src not in self.members or header is None or header.checksum != message.checksum:
            return
        if message.op in self.oks:
            self._abdicating = False
            self._start_timer("abdicate", self.options.abdicate)
            self._count_ok(message.op, message.src)

    def _count_ok(self, op: int, member: int) -> None:
        voters = self.oks.get(op)
        if voters is None or not self.is_voter:
            return
        voters.add(member)  # A set: a repeated message counts once.
        if self.status is Status.NORMAL:
            self._commit()

    def _commit(self) -> None:
        """Commit, in order, what a quorum has."""
        needed = self.quorums.replication
        before = self.commit_max
        while len(self.oks.get(self.commit_max + 1, ())) >= needed:
            self.commit_max += 1
            del self.oks[self.commit_max]
        if self.commit_max == before:
            return
        if self.headers[self.commit_max].view == self.view:
            self.view_committed = True
        self._abdicating = False  # A quorum answers; alone, one has nobody else who would say so.
        if not self.oks:
            self._stop_timer("prepare_retry")
            self._stop_timer("abdicate")
        self._apply()
        self._open_view()
        self._propose()

    def _on_applied(self, header: Header, entry: Entry, outputs: tuple[kernel.Output, ...]) -> None:
        if self.is_primary and self.status is Status.NORMAL:
            for output in outputs:
                self._busy.pop(output.client, None)
                self._answer(
                    output.client,
                    Reply(output.client, output.session, output.number, header.op, output.reply, self.view),
                )
        self._serve_reads()

    # ---- heartbeat

    def _heartbeat(self) -> None:
        """Tell all members what is committed, and that this primary lives. Its timer ends with the view."""
        self._start_timer("heartbeat", self.options.heartbeat)
        if "deaf" not in self._timers:
            self._start_timer("deaf", self.options.deaf)
        if not self._abdicating:
            self._spread(self._commit_message(0))

    def _on_deaf(self) -> None:
        """Fall silent if too few were heard for a long time: to them, this primary may be all there is to hear."""
        heard = sum(member in self._heard for member in self.members if member != self.member)
        if heard + 1 < self.quorums.read:
            self._abdicating = True
        elif not self.oks:
            self._abdicating = False  # With ops in the pipeline, it is an acknowledgement that ends it.
        self._heard.clear()
        self._start_timer("deaf", self.options.deaf)

    def _commit_message(self, nonce: int) -> Commit:
        self._stamp += 1
        known = self.headers.get(self.commit_max)
        return Commit(
            self.epoch,
            self.view,
            self.member,
            self.commit_max if known is not None else self.commit_min,
            known.checksum if known is not None else self.commit_checksum,
            self._stamp,
            nonce,
            self.checkpoint,
        )

    def on_commit(self, message: Commit) -> None:
        """Hear the primary."""
        if not self._in_view(message.view, message.src):
            return
        if message.nonce:
            self._send(message.src, CommitAck(self.epoch, self.view, self.member, message.nonce))
        if message.stamp <= self._stamp_seen:
            return  # An old one: it says nothing of the primary's health.
        self._stamp_seen = message.stamp
        self._heard_primary()
        header = self.headers.get(message.commit_max)
        if header is not None and message.commit_max >= self.chain_min and header.checksum != message.checksum:
            self._halt(f"two logs of view {self.view}: {header} is not what the primary has committed there")
            return
        if message.commit_max > self.head or self._needs_snapshot(message.checkpoint):
            self._fall_behind()
        self._learn_commit(message.commit_max)

    def _needs_snapshot(self, point: Checkpoint) -> bool:
        raise NotImplementedError

    def _heard_primary(self) -> None:
        raise NotImplementedError

    # ---- reads

    def on_read(self, message: ReadRequest) -> None:
        """Answer where a stream ends, once it is proven that no later view has committed anything (section 11)."""
        if self.status is not Status.NORMAL or not self.is_primary:
            self._redirect(message.client, message.number)
            return
        if not self.view_committed:
            self._redirect(message.client, message.number)
            return
        if len(self._reads_waiting) >= self.options.reads_max:
            return
        self._reads_waiting.append(message)
        if self._probe is None:
            self._send_probe()

    def _send_probe(self) -> None:
        # A read may not join a probe that was sent before it came: the answer would speak of an earlier time.
        self._nonce += 1
        reads = tuple(self._reads_waiting)
        self._reads_waiting.clear()
        self._probe = _Probe(self._nonce, self.commit_max, reads, {self.member})
        self._start_timer("probe", self.options.heartbeat)
        self._broadcast(self._commit_message(self._nonce))
        self._weigh_probe()

    def _retry_probe(self) -> None:
        assert self._probe is not None, "the timer ends with the probe"
        self._start_timer("probe", self.options.heartbeat)
        if not self._abdicating:  # It would be heard as a heartbeat.
            self._broadcast(self._commit_message(self._probe.nonce))

    def on_commit_ack(self, message: CommitAck) -> None:
        """Count one answer to a probe."""
        probe = self._probe
        if (
            probe is not None
            and message.view == self.view
            and self.status is Status.NORMAL
            and message.nonce == probe.nonce
            and message.src in self.members
        ):
            probe.answered.add(message.src)
            self._weigh_probe()

    def _weigh_probe(self) -> None:
        probe = self._probe
        if probe is None or len(probe.answered) < self.quorums.read:
            return
        self._probe = None
        self._stop_timer("probe")
        self._reads_proven.append(probe)
        self._serve_reads()
        if self._reads_waiting:
            self._send_probe()

    def _serve_reads(self) -> None:
        while self._reads_proven and self.state is not None and self._reads_proven[0].commit <= self.commit_min:
            for read in self._reads_proven.popleft().reads:
                found = kernel.head(self.state, read.stream)
                offset, own = (0, bytes(32)) if found is None else (found[0], found[1])
                self._answer(
                    read.client,
                    ReadReply(read.client, read.number, self.commit_min, found is not None, offset, own, self.view),
                )

    # ---- leaving

    def _leave_view(self) -> None:
        """Forget what belonged to a view: acknowledgements, requests whose outcome the next view decides, reads."""
        self.oks.clear()
        self.queue.clear()
        self._busy.clear()
        self.view_committed = self._opening_due = False
        self._abdicating = self._draining = False
        self._reads_waiting.clear()
        self._reads_proven.clear()
        self._probe = None
        self._ahead.clear()
        self._furthest = 0
        self._stamp_seen = -1
        self._get_view_due = False
        for timer in ("heartbeat", "prepare_retry", "abdicate", "probe", "deaf", "draining"):
            self._stop_timer(timer)
