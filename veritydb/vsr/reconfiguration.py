"""Other members: one step at a time, each an op that ends an epoch.

VR Revisited, section 7, made smaller. The new members stand in an op, ``RECONFIGURE``, which is the last one of its
epoch and commits under the old members' quorum. Whoever applies it is in the next epoch, in a view change, with the new
members; votes and acknowledgements of one epoch count for nothing in another. A member to be follows as a *learner*
first, and the op is not proposed before it has what the others have: so the new members have the log from their first
view on.

A member that missed the end of its epoch hears of it from anybody who has not (:class:`NewEpoch`: the op that ended it
is committed, and this is the chain that leads there), or, later, from the primary of a newer epoch (:class:`StartView`
names the members).
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from veritydb.vsr.core import Status
from veritydb.vsr.effects import Image
from veritydb.vsr.entry import Header, Kind
from veritydb.vsr.messages import (
    GetHeaders,
    GetPrepare,
    GetSnapshot,
    GetView,
    Headers,
    NewEpoch,
    Reconfigure,
    Reconfigured,
    Repair,
    SnapshotChunk,
    StartView,
)
from veritydb.vsr.options import Options
from veritydb.vsr.quorums import MEMBERS_MAX
from veritydb.vsr.view_change import COMMITTED, ViewChange, is_chain

_COUNT = Struct("<QI")

ANY_EPOCH = frozenset({GetHeaders, Headers, GetPrepare, Repair, GetSnapshot, SnapshotChunk})
"""What is taken for its content alone."""


class BadMembers(ValueError):
    """Bytes that do not name members."""


def encode_members(epoch: int, members: tuple[int, ...]) -> bytes:
    """Return the body of an op that begins ``epoch``."""
    return _COUNT.pack(epoch, len(members)) + b"".join(member.to_bytes(8, "little") for member in members)


def decode_members(body: bytes) -> tuple[int, tuple[int, ...]]:
    """Return epoch and members of a body. Raises BadMembers."""
    if len(body) < _COUNT.size:
        raise BadMembers("too short")
    epoch, count = _COUNT.unpack_from(body)
    if not 1 <= count <= MEMBERS_MAX or len(body) != _COUNT.size + 8 * count:
        raise BadMembers(f"{count} members in {len(body)} bytes")
    members = tuple(int.from_bytes(body[at : at + 8], "little") for at in range(_COUNT.size, len(body), 8))
    if len(set(members)) != count:
        raise BadMembers("a member twice")
    return epoch, members


class Reconfiguring(ViewChange):
    """The end of an epoch and the beginning of the next."""

    def __init__(
        self, *, cluster: bytes, member: int, image: Image, seed: int, options: Options | None = None, release: int = 1
    ) -> None:
        super().__init__(cluster=cluster, member=member, image=image, seed=seed, options=options, release=release)
        self._ended: dict[int, NewEpoch] = {}
        """How epochs have ended whose last op still is in the log here, for those who missed it."""

    # ---- asking for other members

    def on_reconfigure(self, message: Reconfigure) -> None:
        """Propose other members, if they are one step away and the new one is ready."""
        if self.status is not Status.NORMAL or not self.is_primary:
            self._redirect(message.client, message.number)
            return
        if not self.view_committed:
            return
        why = "" if message.members == self.members else self._refusal(message.members)
        if why == "" and message.members != self.members and message.epoch != self.epoch:
            why = f"this was asked for in epoch {message.epoch}, and this is epoch {self.epoch}"
        if why or message.members == self.members:
            self._answer(message.client, Reconfigured(message.client, message.number, self.epoch, not why, why))
            return
        if self.oks or not self._has_room():
            # It has to be alone in the pipeline. What is queued waits, and whoever asked asks again.
            self._draining = True
            self._start_timer("draining", self.options.view_change)
            return
        self._draining = False
        self._append(Kind.RECONFIGURE, encode_members(self.epoch + 1, message.members))

    def _refusal(self, members: tuple[int, ...]) -> str:
        """Return why these members cannot follow the present ones; empty if they can."""
        if not 1 <= len(members) <= MEMBERS_MAX or len(set(members)) != len(members):
            return f"a group has 1 to {MEMBERS_MAX} different members"
        added = [member for member in members if member not in self.members]
        removed = [member for member in self.members if member not in members]
        if len(added) + len(removed) != 1:
            return f"one member at a time: {len(added)} would come and {len(removed)} go"
        for member in added:
            reached = self._learners.get(member)
            if reached is None:
                return f"member {member} does not follow this group; start it as a learner first"
            if reached < self.commit_max - self.options.pipeline_max:
                return f"member {member} has op {reached} of {self.commit_max}; ask again when it has caught up"
        return ""

    def _drained(self) -> None:
        self._draining = False
        self._propose()

    # ---- the end

    def _on_members(self, header: Header, body: bytes) -> None:
        """An op that ends an epoch is committed and applied."""
        epoch, members = decode_members(body)
        suffix = tuple(
            found
            for op in range(header.op, max(self.chain_min, header.op - self.options.pipeline_max) - 1, -1)
            if (found := self.headers.get(op)) is not None
        )
        self._ended[epoch - 1] = NewEpoch(epoch - 1, self.view, self.member, suffix, self.checkpoint, members)
        if epoch <= self.epoch:
            return  # Applied again after a restart.
        self._check(epoch == self.epoch + 1, "an epoch was left out")
        if self.status is Status.NORMAL and self.is_primary:
            self._spread(self._commit_message(0))  # So that the others hear of it while they still listen.
        self.epoch, self.members = epoch, members
        self._committed_log, self._guide = False, None
        self._learners.pop(self.member, None)
        for member in members:
            self._learners.pop(member, None)
        if self.status is Status.RECOVERING_HEAD:
            # The log ends here, whatever this member was unsure of.
            self.head_uncertain = False
            self.status = Status.VIEW_CHANGE
        if self.is_voter:
            self._enter_view_change(self.view + 1)
        else:
            self._follow()

    def _follow(self) -> None:
        """Be a member no more: take part in nothing, keep what was promised, and help those who ask."""
        self._leave_view()
        self.view += 1
        self.status = Status.VIEW_CHANGE
        self.exit_votes.clear()
        self.joins.clear()
        self.elected = self._start_sent = self._installing = False
        for timer in ("suspect", "exit_resend", "exit_window", "view_change", "join_resend"):
            self._stop_timer(timer)
        self._persist()

    # ---- hearing of it

    def _handle(self, message: Any) -> None:
        raise NotImplementedError

    def _other_epoch(self, message: Any) -> None:
        """A message of a time with other members: it counts for nothing, but tells that somebody is behind."""
        if type(message) in ANY_EPOCH or (isinstance(message, NewEpoch) and message.epoch == self.epoch):
            self._handle(message)
        elif isinstance(message, NewEpoch) and message.epoch > self.epoch:
            self._on_later_epoch(message)
        elif isinstance(message, NewEpoch):
            pass  # Whoever tells of the end of an epoch that is over here, too, is not behind: two would tell for ever.
        elif message.epoch < self.epoch:
            if message.view > self.view and self.is_voter:
                self._enter_view_change(message.view)  # Its views have gone on; it must not be told of a lower one.
            elif self.is_primary and self.status is Status.NORMAL:
                nonce = message.nonce if isinstance(message, GetView) else 0
                self._send(message.src, self._start_message(nonce))
            else:
                self._tell_of_epoch(message.src, message.epoch)
        elif isinstance(message, StartView):
            self.on_start_view(message)
        else:
            self._send(message.src, GetView(self.epoch, self.view, self.member, self._view_nonce))

    def _tell_of_epoch(self, dst: int, epoch: int) -> None:
        """Tell a member of an epoch that is over what it needs to come into this one."""
        point = self.checkpoint
        for over in [over for over, end in self._ended.items() if end.headers[0].op <= point.op]:
            del self._ended[over]  # Its last op is below the checkpoint, which may be all that is left of it.
        ended = self._ended.get(epoch)
        if ended is not None:
            self._send(dst, ended._replace(view=self.view, checkpoint=point))
            return
        last = self._ended.get(self.epoch - 1)
        known = self.headers.get(point.op)
        if last is not None:
            self._send(dst, last._replace(epoch=self.epoch, view=self.view, checkpoint=point))
        elif known is not None and known.epoch + (known.kind is Kind.RECONFIGURE) == self.epoch:
            # All up to the checkpoint is committed, and this epoch had begun by then.
            self._send(dst, NewEpoch(self.epoch, self.view, self.member, (known,), point, self.members))

    def on_new_epoch(self, message: NewEpoch) -> None:
        """Hear that this epoch has ended: its last op is committed, so this chain is the log."""
        if not message.headers or not is_chain(message.headers, message.headers[0].op):
            return
        last = message.headers[0]
        if last.kind is not Kind.RECONFIGURE or last.op <= self.commit_min or last.epoch != self.epoch:
            return
        self._guide = message.src
        if self._needs_snapshot(message.checkpoint):
            self._sync_to_committed(message, self.members)
            return
        known = self.headers.get(last.op)
        is_last = known is not None and known.checksum == last.checksum
        if not self._committed_log and not (is_last and self.status is Status.NORMAL):
            self._leave_view()
            self.exit_votes.clear()
            self.joins.clear()
            self.elected = self._start_sent = self._installing = False
            self.view = max(self.view, message.view)
            self.log_view = self.view
            self.status = Status.VIEW_CHANGE
            self.head_uncertain = False
            self._committed_log = True
            self._install_suffix(message.headers)
            self._persist()
        self.commit_max = max(self.commit_max, min(last.op, self.head))
        self._apply()
        self._repair()

    def _on_later_epoch(self, message: NewEpoch) -> None:
        """Hear of an epoch of which nobody has, any more, the ops that lead there from here: only a snapshot."""
        if not message.headers or not is_chain(message.headers, message.headers[0].op):
            return
        if self.commit_min < message.checkpoint.op <= message.headers[0].op:
            self._guide = message.src
            self._sync_to_committed(message, message.members)

    def _sync_to_committed(self, message: NewEpoch, members: tuple[int, ...]) -> None:
        """Fetch a snapshot that a log builds on which is committed to its end, and not of any view's primary."""
        last = message.headers[0]
        view = max(self.view, message.view)
        start = StartView(
            message.epoch, view, message.src, last.op, last.op, message.headers, message.checkpoint, COMMITTED, members
        )
        self._sync_to(start)
