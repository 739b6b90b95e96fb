"""From one view to the next: leaving, choosing the log, starting.

VR Revisited, section 4.2, with four differences (``docs/internals/vsr.md`` gives the reasons): a member leaves a view
only when a quorum wants to (exit votes), says so only when that is durable, the new primary repairs before it serves,
and what only was prepared is dropped by proof (:mod:`veritydb.vsr.choosing`).

::

    normal ── silence ──► own exit vote ── a quorum of them ──► view + 1, durable ──► JoinView to all
                                                                                        │
       primary of the new view: a quorum of JoinViews ──► choose the log ──► headers complete, durable ──► StartView
                                                              └──► entries complete, all committed ──► normal, no-op
       everybody else: StartView ──► its log's end, durable ──► normal, acknowledge
"""

from __future__ import annotations

from itertools import pairwise

from veritydb import kernel
from veritydb.vsr.choosing import Chosen, Fork, Stuck, Wait, choose_log
from veritydb.vsr.core import Status
from veritydb.vsr.effects import Image
from veritydb.vsr.entry import Header
from veritydb.vsr.messages import (
    Checkpoint,
    ExitView,
    GetView,
    JoinView,
    Ping,
    Pong,
    StartView,
)
from veritydb.vsr.options import Options
from veritydb.vsr.repair import PATIENCE, Repairing

COMMITTED = -1
"""In place of a StartView's nonce: not a primary's word, but ops that are committed, of an epoch that the receiver has
missed (:mod:`veritydb.vsr.reconfiguration`)."""


class ViewChange(Repairing):
    """Exit votes, JoinView, StartView."""

    def __init__(
        self, *, cluster: bytes, member: int, image: Image, seed: int, options: Options | None = None, release: int = 1
    ) -> None:
        super().__init__(cluster=cluster, member=member, image=image, seed=seed, options=options, release=release)
        self.exit_votes: set[int] = set()
        self.joins: dict[int, JoinView] = {}
        self.elected = False
        """Whether this member, whose turn it is, has adopted a log for ``view``."""
        self._start_sent = False
        self._elected_in_vain = 0
        """Repairs since this member was elected, or since one of them last brought something."""
        self._elected_at = (0, 0, 0)
        """What it had then: applied up to, headers down to, entries missing."""
        self._installing = False
        """Whether the log of ``view`` has been installed, and is not durable yet."""
        self._committed_log = False
        """Whether the log here, in a view change, is known to be committed to its end."""
        self.stuck: int | None = None
        """An op that may have been committed and that nobody has; people must look."""
        self.awaited: int | None = None
        """An op that may have been committed and that none of those who have spoken has: the others are waited for."""
        self._view_nonce = self._draw(1 << 31) << 31 | self._draw(1 << 31)
        self._wanted_view = 0
        self._heard_views: dict[int, int] = {}
        """By member, the highest view that it has told of as durable."""

    # ---- leaving

    def _suspect(self) -> None:
        """Nothing was heard of the primary for too long."""
        if self.is_voter:
            self._vote_to_exit()
        else:
            self._get_view_due = True
            self._resend_get_view()
            self._start_timer("suspect", self.options.suspect)

    def _vote_to_exit(self) -> None:
        self._start_timer("exit_resend", self.options.exit_resend, spread=4)
        self.exit_votes.add(self.member)
        self._broadcast(ExitView(self.epoch, self.view, self.member))
        self._weigh_exit()

    def on_exit_view(self, message: ExitView) -> None:
        """Count one vote to leave a view."""
        if message.view > self.view:
            self._enter_view_change(message.view)
        if message.view == self.view and message.src in self.members and self.status is not Status.RECOVERING_HEAD:
            self.exit_votes.add(message.src)
            if self._abdicating:
                self.exit_votes.add(self.member)  # A primary that gets nothing done, and hears who is tired of it.
            if "exit_window" not in self._timers:
                self._start_timer("exit_window", self.options.exit_window)
            self._weigh_exit()
        elif message.view < self.view:
            self._send(message.src, self._ping())  # It has missed something.

    def _weigh_exit(self) -> None:
        if len(self.exit_votes) >= self.quorums.view_change and self.is_voter:
            self._enter_view_change(self.view + 1)

    def _forget_exit_votes(self) -> None:
        own = {self.member} & self.exit_votes
        self.exit_votes.clear()
        self.exit_votes |= own
        if own:
            self._start_timer("exit_window", self.options.exit_window)

    def _heard_primary(self) -> None:
        self._start_timer("suspect", self.options.suspect, spread=self.options.suspect // 2)
        if self.member in self.exit_votes:
            self.exit_votes.discard(self.member)
            self._stop_timer("exit_resend")

    def _enter_view_change(self, view: int) -> None:
        """Leave all views below ``view``: from here on this member acknowledges nothing in them."""
        if self.status is Status.RECOVERING_HEAD:
            self._ask_for_view(view)
            return
        if not self.is_voter:
            self._ask_for_view(view)
            return
        self._check(view > self.view, "a view change must go up")
        self._committed_log = False
        self._leave_view()
        self.view = view
        self.status = Status.VIEW_CHANGE
        self.exit_votes.clear()
        self.joins.clear()
        self.elected = self._start_sent = self._installing = False
        self._sync = None
        for timer in ("suspect", "exit_resend", "exit_window"):
            self._stop_timer(timer)
        self._start_timer("view_change", self.options.view_change, spread=self.options.view_change // 2)
        self._start_timer("join_resend", self.options.join_resend, spread=2)
        self._persist()

    def _on_persisted(self) -> None:
        if not self._view_durable:
            return
        if self._installing:
            self._installing = False
            self._become_backup()
        elif self.status is Status.VIEW_CHANGE and not self.elected:
            self._send_join()
            if self._committed_log:
                self._apply()

    # ---- joining

    def _join_message(self) -> JoinView:
        return JoinView(
            self.epoch,
            self.view,
            self.member,
            self.log_view,
            self.head,
            self.commit_min,
            self.commit_max,
            self.checkpoint,
            self._suffix(),
        )

    def _send_join(self) -> None:
        """Say how this log ends: only when it is durable that the views below are left."""
        if self.status is not Status.VIEW_CHANGE or not self._view_durable or self.elected or self._installing:
            return
        if self._sync is not None or not self.is_voter:
            return
        message = self._join_message()
        self._broadcast(message)
        if self.is_primary:
            self.joins[self.member] = message
            self._choose()

    def _resend_join(self) -> None:
        self._start_timer("join_resend", self.options.join_resend, spread=2)
        if not self.elected:
            self._send_join()
        elif self._start_sent:
            self._broadcast(self._start_message(0))

    def on_join_view(self, message: JoinView) -> None:
        """Hear how a member's log ends."""
        if message.view > self.view:
            self._enter_view_change(message.view)
        if message.view != self.view or message.src not in self.members:
            if message.view < self.view:
                self._send(message.src, self._ping())
            return
        if not self.is_primary or self.status is Status.RECOVERING_HEAD:
            return
        if self._start_sent:
            self._send(message.src, self._start_message(0))
        elif self.status is Status.VIEW_CHANGE and not self.elected:
            self.joins[message.src] = message
            self._choose()

    def _choose(self) -> None:
        """Choose the view's log, as soon as a quorum has spoken, this member with them."""
        if len(self.joins) < self.quorums.view_change or self.member not in self.joins:
            return
        self.joins[self.member] = self._join_message()
        newest = max((join.checkpoint for join in self.joins.values()), key=lambda point: point.op)
        if self._needs_snapshot(newest) or (self.state is None and newest.op > self.checkpoint.op):
            # What is missing here, others may no longer have. Let one of those who need nothing be primary.
            self._enter_view_change(self.view + 1)
            return
        choice = choose_log(
            self.joins, members=len(self.members), quorums=self.quorums, pipeline_max=self.options.pipeline_max
        )
        self.stuck = choice.op if isinstance(choice, Stuck) else None
        self.awaited = choice.op if isinstance(choice, Wait) else None
        if isinstance(choice, Fork):
            self._halt(f"two logs of one view disagree at op {choice.op}")
        elif isinstance(choice, Chosen):
            self._adopt(choice)

    def _adopt(self, chosen: Chosen) -> None:
        """Make the chosen log this member's own; its headers are of the old view's log no longer."""
        self._check(chosen.head >= self.commit_max, "the chosen log lacks what is committed")
        suffix: list[Header] = []
        for op in range(chosen.head, chosen.floor - 1, -1):
            header = chosen.headers.get(op)
            if header is None:
                break
            suffix.append(header)
        if not suffix:
            # All of it is committed, and only its number is known: the header comes from whoever has it.
            known = self.headers.get(chosen.head)
            if known is None:
                return
            suffix.append(known)
        self.elected = True
        self._elected_in_vain = 0
        self.log_view = self.view
        self._install_suffix(tuple(suffix))
        self.commit_max = min(max(self.commit_max, chosen.floor), self.head)
        if self.state is None:
            self._fetch(self.checkpoint)
        self._start_timer("view_change", 4 * self.options.view_change)
        self._persist()
        self._apply()

    def _repair(self) -> None:
        super()._repair()
        if self.elected and self.status is Status.VIEW_CHANGE:
            self._repair_in_office()
        elif self._asked_in_vain > PATIENCE and self.status is Status.NORMAL and not self.is_primary:
            self._fall_behind()  # The primary tells of its checkpoint. It may have fallen silent, waiting for us.

    def _repair_in_office(self) -> None:
        # Counted anew for each election, unlike what was asked for in vain before: this log's end may be another one,
        # and so may be who can help.
        now = (self.commit_min, self.chain_min, len(self._unwritten))
        self._elected_in_vain = self._elected_in_vain + 1 if now == self._elected_at else 0
        self._elected_at = now
        if self._elected_in_vain > PATIENCE:
            # What this log lacks, nobody has any more: others have a snapshot instead, or who had it is gone and it may
            # be denied. Those who have installed the view wait for its primary; only it can tell that none will come.
            self._enter_view_change(self.view + 1)

    def _knows_log(self) -> bool:
        return self.elected or self._installing or self._committed_log

    def _progress(self) -> None:
        """As primary of a view that has not started: go on as far as what is here allows."""
        if not self.elected or self.status is not Status.VIEW_CHANGE or self.halted is not None:
            return
        if not self._start_sent:
            if not self._chain_complete or not self._view_durable:
                return
            self._start_sent = True
            self.oks = {op: set() for op in range(self.commit_max + 1, self.head + 1)}
            self._broadcast(self._start_message(0))
        if self.commit_min < self.commit_max or self.state is None:
            return
        if any(not self._is_durable(op) for op in range(self.commit_min + 1, self.head + 1)):
            return
        self.status = Status.NORMAL
        self.stuck = self.awaited = None
        self.joins.clear()
        # It may have grown tired of waiting for this view. Its own vote against it would stand, and be told for ever.
        self.exit_votes.discard(self.member)
        for timer in ("view_change", "join_resend", "exit_resend"):
            self._stop_timer(timer)
        self._heartbeat()
        for op in range(self.commit_max + 1, self.head + 1):
            self._acknowledge(op)
        self._opening_due = True
        self._commit()
        self._open_view()
        if self.oks:
            self._start_timer("prepare_retry", 1)
            self._start_timer("abdicate", self.options.abdicate)

    # ---- starting

    def _start_message(self, nonce: int) -> StartView:
        headers: list[Header] = []
        for op in range(self.head, min(self.commit_max, self.head) - 1, -1):
            header = self.headers.get(op)
            if header is None or op < self.chain_min:
                break
            headers.append(header)
        return StartView(
            self.epoch,
            self.view,
            self.member,
            self.head,
            self.commit_max,
            tuple(headers),
            self.checkpoint,
            nonce,
            self.members,
        )

    def on_get_view(self, message: GetView) -> None:
        """Tell a member that asks that the view runs, and how its log ends.

        A backup tells what its primary has told it: a member that cannot hear the primary follows all the same. Its
        answer is as good as a StartView of the primary's that was long under way, so it does not do for somebody who
        must be sure of what it acknowledged in this view, who waits for its own nonce.
        """
        if message.view > self.view:
            return
        if self.is_primary and (self.status is Status.NORMAL or self._start_sent):
            if message.src not in self.members and (
                message.src in self._learners or len(self._learners) < self.options.learners_max
            ):
                self._learners.setdefault(message.src, 0)
            self._send(message.src, self._start_message(message.nonce))
        elif self.status is Status.NORMAL:
            self._send(message.src, self._start_message(0))

    def _ask_for_view(self, view: int) -> None:
        """Ask the primary of ``view`` how its log ends; again and again, on a timer, until it is told."""
        self._wanted_view = max(view, self._wanted_view)
        if "getview_resend" not in self._timers:
            self._resend_get_view()

    def _resend_get_view(self) -> None:
        behind = self._wanted_view > self.view or (
            self._wanted_view == self.view and self.status is not Status.NORMAL and not self.elected
        )
        if not behind and not self._get_view_due and self.status is not Status.RECOVERING_HEAD:
            return
        view = max(self._wanted_view, self.view)
        self._start_timer("getview_resend", self.options.getview_resend, spread=2)
        message = GetView(self.epoch, view, self.member, self._view_nonce)
        if self.status is Status.RECOVERING_HEAD or not self.is_voter:
            self._broadcast(message)
        else:
            self._send(self.primary_of(view), message)
            peer = self._peer()
            if self._get_view_due and peer is not None and (peer, self.view) != (self.primary_of(view), view):
                # What was missed of the view that runs here is not waited for until one that was heard of has begun;
                # and its primary, who is heard, may not hear. Any backup will do.
                self._send(peer, message._replace(view=self.view))
        self._get_view_due = False

    def on_start_view(self, message: StartView) -> None:
        """Take the log's end of a view that has started."""
        if message.view < self.view or message.src == self.member or not message.members:
            return
        if message.src not in message.members or not is_chain(message.headers, message.op):
            return
        if self.status is Status.RECOVERING_HEAD:
            # One that was sent before the crash may be older than what was acknowledged after it.
            if message.view <= self.view and message.nonce != self._view_nonce:
                return
        elif message.view == self.log_view and message.op < self.head:
            return
        if message.view == self.view and self.elected:
            return
        newer = message.view > self.view or message.epoch > self.epoch
        if newer or self.status is not Status.NORMAL:
            if self._needs_snapshot(message.checkpoint) or (
                self.state is None and message.checkpoint.op > self.checkpoint.op
            ):
                self._sync_to(message)
                return
        elif self._needs_snapshot(message.checkpoint):
            self._sync_to(message)
            return
        if newer or self.status is not Status.NORMAL:
            self._leave_view()
            self.exit_votes.clear()
            self.joins.clear()
            self.elected = self._start_sent = False
            self.view = self.log_view = message.view
            self.epoch, self.members = message.epoch, message.members
            self.status = Status.VIEW_CHANGE
            self.head_uncertain = False
            self._installing = True
        self._install_suffix(message.headers)
        self.commit_max = min(max(self.commit_max, message.commit_max), self.head)
        self._sync = None
        if self.state is None and self.checkpoint.root == message.checkpoint.root:
            self._fetch(self.checkpoint)
        if self.halted is not None:
            return
        if self._installing:
            self._start_timer("view_change", self.options.view_change, spread=self.options.view_change // 2)
            self._persist()
        else:
            if message.src == self.primary_of(self.view):
                self._heard_primary()
            self._on_durable(self.commit_max)
        self._apply()
        self._repair()

    def _become_backup(self) -> None:
        """The view's log is durable here: take part in it."""
        self.status = Status.NORMAL
        self.stuck = self.awaited = None
        for timer in ("view_change", "join_resend", "exit_resend", "exit_window"):
            self._stop_timer(timer)
        self._heard_primary()
        for op in range(self.commit_max + 1, self.head + 1):
            self._acknowledge(op)
        self._apply()
        self._pump_writes()

    # ---- a snapshot, together with a log's end

    def _sync_to(self, message: StartView) -> None:
        """Fetch the snapshot that a started view's log builds on; the log here stays as it is until it has come."""
        # Whoever does not know where its log ended may not write down another view: it would look as if it knew.
        if message.view > self.view and self.status is not Status.RECOVERING_HEAD:
            self._leave_view()
            self.exit_votes.clear()
            self.joins.clear()
            self.elected = self._start_sent = self._installing = False
            self.view = message.view
            self.status = Status.VIEW_CHANGE
            self._start_timer("view_change", 4 * self.options.view_change)
            self._persist()
        self._sync = message
        self._fetch(message.checkpoint)

    def _snapshot_fetched(self, point: Checkpoint, data: bytes) -> None:
        own = self._next_checkpoint is not None and self._next_checkpoint.op <= self.commit_min
        if own or self._next_due:
            # A checkpoint of our own is on its way, and makes room in the journal. It will be asked for again.
            self._fall_behind()
            return
        self._next_checkpoint, self._next_snapshot, self._next_due = point, data, False
        self._write_snapshot()

    def _snapshot_written(self, root: bytes) -> None:
        point, message = self._next_checkpoint, self._sync
        if point is None or point.root != root:
            if self._sync is not None:
                self._fall_behind()  # What was fetched for it has given way to a checkpoint of our own.
            return
        if self.state is not None and point.op <= self.commit_min:
            if self._outputs_kept(point):  # Not yet, if it was fetched, and this member has come to the op by itself.
                super()._snapshot_written(root)
            return
        if (
            message is None
            or message.epoch < self.epoch
            or (message.view < self.view and message.nonce != COMMITTED)
            or message.op < point.op
        ):
            # The view it was fetched for is over. The next one's primary will be asked, and the file is here already.
            self._next_checkpoint = self._next_snapshot = None
            self._ask_for_view(self.view)
            return
        self._install_snapshot(point, message)

    def _install_snapshot(self, point: Checkpoint, message: StartView) -> None:
        """Switch to the snapshot and the log's end: in memory here, and on disk by one superblock write."""
        assert self._next_snapshot is not None
        self._leave_view()
        self.view = self.log_view = max(self.view, message.view)
        if message.nonce == COMMITTED:
            self._committed_log, self._installing = True, False
            if message.epoch > self.epoch:
                self.log_view = message.headers[0].view  # As one who was there and has heard no more.
                self._start_timer("join_resend", 1)
        else:
            self._installing = True
        self.epoch, self.members = message.epoch, message.members
        self.status = Status.VIEW_CHANGE
        self.elected = self._start_sent = False
        self.head_uncertain = False
        self._sync = None
        self.state = kernel.restore(self._next_snapshot)
        # What was not committed here may be another log's than the one that the snapshot stands for.
        committed = min(self.commit_min, point.op - 1)
        self.headers = {op: header for op, header in self.headers.items() if op <= committed}
        self.commit_min, self.commit_checksum = point.op, point.checksum
        self.commit_max = point.op
        self.retained = max(self.retained, point.op)
        self.bodies.clear()
        self._unwritten.clear()
        self._install_suffix(message.headers)
        self.commit_max = min(max(point.op, message.commit_max), self.head)
        self._next_due = True
        self._persist()

    # ---- where everybody is

    def _ping(self) -> Ping:
        block = self.durable_block
        return Ping(
            self.epoch,
            block.view,
            self.member,
            block.log_view,
            self.head,
            self.commit_max,
            self.checkpoint,
            self.release,
        )

    def on_ping(self, message: Ping) -> None:
        """Hear where a member is, and say where this one is."""
        self._heard_views[message.src] = max(message.view, self._heard_views.get(message.src, 0))
        own = self._ping()
        self._send(message.src, Pong(*own, self._heard_views[message.src]))
        self._hear_of_view(message)

    def on_pong(self, message: Pong) -> None:
        """Hear where a member is, and what it has heard of this one."""
        if message.heard_view > self.durable_block.view:
            self._halt(
                f"member {message.src} has heard of view {message.heard_view} from this member, whose files know only "
                f"view {self.durable_block.view}: they are an old copy"
            )
            return
        self._hear_of_view(message)

    def _hear_of_view(self, message: Ping | Pong) -> None:
        if message.src in self._learners:
            self._learners[message.src] = message.commit_max
        if message.src not in self.members:
            return  # Who only follows counts views as they come to it, and takes part in none.
        if message.view > self.view:
            if message.view == message.log_view:
                self._ask_for_view(message.view)
            else:
                self._enter_view_change(message.view)
        if message.view == message.log_view >= self.view and self._misses_primary(message):
            self._send(message.src, GetView(self.epoch, message.view, self.member, self._view_nonce))

    def _misses_primary(self, message: Ping | Pong) -> bool:
        """Whether a view goes on elsewhere, of which this member would have heard if it heard the view's primary."""
        if message.view > self.view or self.status is not Status.NORMAL:
            return not self.elected
        return self.member in self.exit_votes and message.commit_max > self.commit_max


def is_chain(headers: tuple[Header, ...], head: int) -> bool:
    """Whether ``headers``, newest first, are one chain that ends at ``head``."""
    if not headers or headers[0].op != head:
        return False
    return all(above.parent == below.checksum and above.op == below.op + 1 for above, below in pairwise(headers))
