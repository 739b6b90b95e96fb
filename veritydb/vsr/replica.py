"""One replica of the log, as a state machine without clocks, sockets, or disks.

A node feeds it messages and ticks and carries out the effects it returns (:mod:`veritydb.vsr.effects` states the
contract); :mod:`veritydb.simulation` does so with imaginary peers and disks. Same code, so what the simulation proves
holds in production.

The protocols are in :mod:`~veritydb.vsr.normal`, :mod:`~veritydb.vsr.repair`, :mod:`~veritydb.vsr.view_change` and
:mod:`~veritydb.vsr.reconfiguration`, which build on one another; this module has the entrance: :meth:`Replica.start`,
:meth:`Replica.step`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from veritydb.vsr.core import CannotStart, Halted, ProtocolError, Status
from veritydb.vsr.effects import Arrived, Effect, Event, Gone, ReadDone, Retained, Tick, WriteDone
from veritydb.vsr.messages import (
    Commit,
    CommitAck,
    ExitView,
    GetHeaders,
    GetPrepare,
    GetSnapshot,
    GetView,
    Headers,
    JoinView,
    NewEpoch,
    Ping,
    Pong,
    Prepare,
    PrepareOk,
    ReadRequest,
    Reconfigure,
    Repair,
    Request,
    SnapshotChunk,
    StartView,
)
from veritydb.vsr.reconfiguration import Reconfiguring


class Replica(Reconfiguring):
    """One member of a group, or a learner that follows it.

    ``image`` is what its storage held when it was opened. Raises SuperblockDamaged or CannotStart if that does not
    allow it to take part.
    """

    # ---- entrance

    def start(self, now: int) -> list[Effect]:
        """Return the first effects; ``now`` is in nanoseconds since 1970."""
        self._now = now
        if len(self.members) == 1 and self.is_voter:
            lost = [op for op in self._unwritten if self._slot(op) in self.faulty and op not in self.bodies]
            if lost or self.head_uncertain or self.chain_min > self.commit_min + 1 or self.state is None:
                raise CannotStart("the only copy of the log is damaged; restore it from a backup")
        if self.head_uncertain:
            self.status = Status.RECOVERING_HEAD
        if self._block_complete:
            self._begin()
        else:
            # Two copies were enough to know who this is. Before the next superblock is written over one of them, all
            # have to be this one: or a crash leaves more copies of the one before, and what was promised is forgotten.
            self._write_again()
        return self._finish()

    def _begin(self) -> None:
        self.begun = True
        self._start_timer("ping", 1)
        self._start_timer("repair", self.options.repair)
        self._start_timer("scrub", self.options.repair)
        if self.state is None:
            self._fetch(self.checkpoint)
        self._pump_writes()
        if self.status is Status.RECOVERING_HEAD or not self.is_voter:
            self._ask_for_view(self.view)
        elif self.view > self.log_view:
            self.status = Status.VIEW_CHANGE
            self._start_timer("view_change", self.options.view_change, spread=self.options.view_change // 2)
            self._start_timer("join_resend", 1)
        elif self.is_primary:
            # Never as primary of the view it crashed in: acknowledgements and proposals that only its memory knew are
            # gone, and another entry under the same view and op would be a fork.
            self._enter_view_change(self.view + 1)
        else:
            self._become_backup()
        # What is committed is so in every view. It may tell of other members, who wait to be told.
        self._apply()

    def step(self, now: int, event: Event) -> list[Effect]:
        """Take in one event and return what is to be done, in order.

        Raises ProtocolError if an invariant of this replica's own is broken, and Halted if it is called after a Halt.
        """
        if self.halted is not None:
            raise Halted(self.halted)
        self._now = now
        if not self.begun and not isinstance(event, WriteDone):
            return []
        if isinstance(event, Arrived):
            self._arrived(event.message)
        elif isinstance(event, WriteDone):
            self._on_write_done(event)
        elif isinstance(event, Tick):
            for name in self._expired():
                self._TIMERS[name](self)
        elif isinstance(event, ReadDone):
            self._read_done(event.token, event.data)
        elif isinstance(event, Retained):
            self.retained = max(self.retained, event.op)
            self._write_snapshot()
        elif isinstance(event, Gone):
            self._on_gone(event.member)
        else:
            self._on_step_down()
        return self._finish()

    def _finish(self) -> list[Effect]:
        if self.elected:
            self._progress()
        self.check()
        out, self._out = self._out, []
        return out

    def check(self) -> None:
        """Raise ProtocolError if an invariant does not hold; called after every step, in every build."""
        # Spelled out, not by a helper that takes the truth and a text: this runs for each message.
        if not self.checkpoint.op <= self.commit_min <= self.commit_max <= self.head:
            raise ProtocolError("commit points out of order")
        if self.log_view > self.view:
            raise ProtocolError("log_view above view")
        if self.head - self.commit_max > self.options.pipeline_max:
            raise ProtocolError("the uncommitted end is too long")
        if self.head not in self.headers:
            raise ProtocolError("the header at the head is not known")
        if self.status is Status.NORMAL and not (self.view == self.log_view and self._view_durable):
            raise ProtocolError("normal without the view's log, or before the view is durable")
        if self._entry_writes > self.options.pipeline_max:
            raise ProtocolError("too many writes at once")

    # ---- what comes in

    def _on_write_done(self, event: WriteDone) -> None:
        if not event.ok:
            # What a failed write or sync has left is not known, and asking again would not tell.
            self._halt("a write to disk failed")
        elif self._block_write is not None and event.token == self._block_write[0]:
            if self.begun:
                self._block_written()
            else:
                self._block_write = None
                self._begin()
        else:
            self._write_done(event.token)

    def _on_abdicate(self) -> None:
        # No acknowledgement for a long time: it may be that this primary is heard and hears nobody. It falls silent, so
        # that the others choose another one.
        self._abdicating = True

    def _on_step_down(self) -> None:
        # What a primary does when it comes back from a crash: it leaves the view for all, and whoever hears so follows.
        if self.status is Status.NORMAL and self.is_primary and len(self.members) > 1:
            self._enter_view_change(self.view + 1)

    def _on_gone(self, member: int) -> None:
        self.gone.add(member)
        if self.status is Status.NORMAL and not self.is_primary and member == self.primary_of(self.view):
            self._suspect()

    def _on_exit_resend(self) -> None:
        if self.member in self.exit_votes:
            self._vote_to_exit()

    def _on_ping_timer(self) -> None:
        self._start_timer("ping", self.options.ping, spread=self.options.ping // 4)
        self._broadcast(self._ping())

    def _arrived(self, message: Any) -> None:
        if isinstance(message, (Request, ReadRequest, Reconfigure)):
            self._handle(message)
            return
        if self.gone:
            self.gone.discard(message.src)
        if message.epoch == self.epoch:
            if isinstance(message, (PrepareOk, CommitAck, Pong)):
                self._heard.add(message.src)  # An answer: it hears us, too. That we hear it would not be enough.
            self._handle(message)
        else:
            self._other_epoch(message)

    def _handle(self, message: Any) -> None:
        self._HANDLERS[type(message)](self, message)

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        Request: Reconfiguring.on_request,
        ReadRequest: Reconfiguring.on_read,
        Prepare: Reconfiguring.on_prepare,
        PrepareOk: Reconfiguring.on_prepare_ok,
        Commit: Reconfiguring.on_commit,
        CommitAck: Reconfiguring.on_commit_ack,
        ExitView: Reconfiguring.on_exit_view,
        JoinView: Reconfiguring.on_join_view,
        StartView: Reconfiguring.on_start_view,
        GetView: Reconfiguring.on_get_view,
        GetHeaders: Reconfiguring.on_get_headers,
        Headers: Reconfiguring.on_headers,
        GetPrepare: Reconfiguring.on_get_prepare,
        Repair: Reconfiguring.on_repair,
        GetSnapshot: Reconfiguring.on_get_snapshot,
        SnapshotChunk: Reconfiguring.on_snapshot_chunk,
        Ping: Reconfiguring.on_ping,
        Pong: Reconfiguring.on_pong,
        NewEpoch: Reconfiguring.on_new_epoch,
        Reconfigure: Reconfiguring.on_reconfigure,
    }

    _TIMERS: ClassVar[dict[str, Callable[[Any], None]]] = {
        "heartbeat": Reconfiguring._heartbeat,
        "suspect": Reconfiguring._suspect,
        "prepare_retry": Reconfiguring._resend_prepares,
        "abdicate": _on_abdicate,
        "deaf": Reconfiguring._on_deaf,
        "exit_resend": _on_exit_resend,
        "exit_window": Reconfiguring._forget_exit_votes,
        "view_change": Reconfiguring._vote_to_exit,
        "join_resend": Reconfiguring._resend_join,
        "getview_resend": Reconfiguring._resend_get_view,
        "probe": Reconfiguring._retry_probe,
        "repair": Reconfiguring._repair,
        "scrub": Reconfiguring._scrub,
        "draining": Reconfiguring._drained,
        "sync": Reconfiguring._ask_snapshot,
        "ping": _on_ping_timer,
    }


__all__ = ["CannotStart", "Halted", "ProtocolError", "Replica", "Status"]
