"""Bugs of the protocol and of the kernel, each as an exact replacement of text.

Each is one that sank somebody's system (the P-numbers are those of ``docs/internals/vsr.md``, "Pitfalls"), or that an
author of this protocol could make on a bad day. :mod:`veritydb.simulation.planted` plants them into copies of the code
and sees whether the simulator finds them. Production code knows nothing of it, and a replacement that no longer fits is
an error, not a bug that is silently no longer planted.
"""

from __future__ import annotations

from typing import NamedTuple

from veritydb.simulation.code import Replacement


class Planted(NamedTuple):
    """A bug."""

    name: str
    """What is wrong, in a few words."""
    pitfall: str
    """Its number in VSR.md, section 14, or empty."""
    replacements: tuple[Replacement, ...]
    needs: frozenset[str] = frozenset()
    """Kinds of fault without one of which it cannot show: seeds that have none of them are counted, and not run."""

    @property
    def quick(self) -> bool:
        """Whether a dozen seeds are enough to find it."""
        return self.name in _QUICK


def _in(module: str, old: str, new: str) -> Replacement:
    return Replacement(f"veritydb.{module}", old, new)


BUGS: tuple[Planted, ...] = (
    # ---- counting
    Planted(
        "acknowledgements are counted by message, not by member",
        "",
        (_in("vsr.normal", "voters.add(member)", "voters.add((member, len(voters)))"),),
    ),
    Planted(
        "one member less than a replication quorum commits",
        "",
        (_in("vsr.normal", "needed = self.quorums.replication\n", "needed = max(1, self.quorums.replication - 1)\n"),),
    ),
    Planted(
        "one JoinView is enough to choose a log",
        "",
        (_in("vsr.view_change", "len(self.joins) < self.quorums.view_change", "len(self.joins) < 1"),),
    ),
    Planted(
        "one denial is enough to drop an op",
        "P4",
        (_in("vsr.choosing", "if nacks >= quorums.nack:", "if nacks >= 1:"),),
    ),
    Planted(
        "an op that nobody present has is taken never to have been committed",
        "P4",
        (
            _in(
                "vsr.choosing",
                "            return Wait(op) if len(everyone) < members else Stuck(op)\n",
                "            return Chosen(log_view, op - 1, floor, {k: headers[k] for k in range(floor, op) if k in headers})\n",
            ),
        ),
    ),
    Planted(
        "a primary counts itself before its write is done",
        "P16",
        (_in("vsr.normal", "self.oks[op] = set()", "self.oks[op] = {self.member}"),),
    ),
    Planted(
        "an acknowledgement counts for the op behind, too",
        "",
        (
            _in(
                "vsr.normal",
                "            self._count_ok(message.op, message.src)\n",
                "            self._count_ok(message.op + 1, message.src)\n            self._count_ok(message.op, message.src)\n",
            ),
        ),
    ),
    # ---- acknowledging
    Planted(
        "an entry is acknowledged before its header record is durable",
        "P16",
        (
            _in(
                "vsr.storing",
                "        if isinstance(what, _EntryWrite):\n            written, header = what.header, self.headers.get(what.header.op)\n",
                "        if isinstance(what, _EntryWrite):\n            written, header = what.header, self.headers.get(what.header.op)\n"
                "            self.durable[self._slot(what.header.op)] = what.header\n"
                "            self._advance_durable()\n            self._on_durable(self.commit_max)\n",
            ),
        ),
    ),
    Planted(
        "a member acknowledges when it takes an op, not when the op is on disk",
        "P16",
        (
            _in("vsr.normal", "op > self.durable_to or not self._is_durable(op)", "op > self.head"),
            _in(
                "vsr.normal",
                "        self._learn_commit(header.commit)\n",
                "        self._learn_commit(header.commit)\n        self._acknowledge(header.op)\n",
            ),
        ),
    ),
    Planted(
        "an op above a gap is acknowledged",
        "",
        (
            _in("vsr.normal", "op > self.durable_to or not self._is_durable(op)", "not self._is_durable(op)"),
            _in(
                "vsr.normal",
                "for op in range(max(before, self.commit_max) + 1, self.durable_to + 1):",
                "for op in range(self.commit_max + 1, self.head + 1):",
            ),
        ),
    ),
    Planted(
        "a member acknowledges while it changes the view",
        "",
        (
            _in(
                "vsr.normal",
                "        if self.status is not Status.NORMAL or op > self.durable_to",
                "        if op > self.durable_to",
            ),
        ),
    ),
    Planted(
        "a member goes on after a failed write",
        "P15",
        (
            _in(
                "vsr.replica",
                '            self._halt("a write to disk failed")\n        elif',
                "            self._on_write_done(event._replace(ok=True))\n        elif",
            ),
        ),
    ),
    # ---- views
    Planted(
        "the longest log wins, whatever its view",
        "",
        (
            _in(
                "vsr.choosing",
                "reign, log_view = max(_reign(join) for join in everyone)",
                "reign, log_view = _reign(max(everyone, key=lambda join: (join.op, _reign(join))))",
            ),
        ),
    ),
    Planted(
        "a primary that crashed goes on in its old view",
        "",
        (
            _in(
                "vsr.replica",
                "            self._enter_view_change(self.view + 1)\n        else:\n            self._become_backup()",
                "            self._become_backup()\n            self.view_committed = True\n            self._heartbeat()\n"
                "            self.oks = {op: set() for op in range(self.commit_max + 1, self.head + 1)}\n"
                "            for op in range(self.commit_max + 1, self.head + 1):\n                self._acknowledge(op)\n"
                "        else:\n            self._become_backup()",
            ),
        ),
    ),
    Planted(
        "a member joins a view before it is durable that it left the ones below",
        "P3",
        (
            _in(
                "vsr.view_change",
                "if self.status is not Status.VIEW_CHANGE or not self._view_durable or",
                "if self.status is not Status.VIEW_CHANGE or",
            ),
            _in(
                "vsr.view_change",
                '        self._start_timer("join_resend", self.options.join_resend, spread=2)\n        self._persist()\n',
                '        self._start_timer("join_resend", self.options.join_resend, spread=2)\n        self._persist()\n        self._send_join()\n',
            ),
        ),
    ),
    Planted(
        "the log view is taken to be the view after a restart",
        "P3",
        (_in("vsr.core", "self.log_view: int = block.log_view", "self.log_view: int = block.view"),),
    ),
    Planted(
        "the log view goes back with a restart",
        "P3",
        (
            _in(
                "vsr.storing",
                "            log_view=self.log_view,\n",
                "            log_view=min(self.log_view, before.log_view + 1),\n",
            ),
        ),
    ),
    Planted(
        "a view is started before it is durable at its primary",
        "P3",
        (
            _in(
                "vsr.view_change",
                "if not self._chain_complete or not self._view_durable:",
                "if not self._chain_complete:",
            ),
        ),
    ),
    Planted(
        "messages of the primary of an earlier view are obeyed",
        "",
        (
            _in(
                "vsr.normal",
                "return view == self.view and src == self.primary_of(view)",
                "return view <= self.view and src == self.primary_of(view)",
            ),
        ),
    ),
    Planted(
        "a StartView of an earlier view is obeyed",
        "",
        (
            _in(
                "vsr.view_change",
                "if message.view < self.view or message.src == self.member or",
                "if message.src == self.member or",
            ),
        ),
    ),
    Planted(
        "a late StartView of the same view takes the log back",
        "",
        (_in("vsr.view_change", "elif message.view == self.log_view and message.op < self.head:", "elif False:"),),
    ),
    Planted(
        "what is committed is learned from a message of another view",
        "",
        (
            _in(
                "vsr.view_change",
                "    def _hear_of_view(self, message: Ping | Pong) -> None:\n",
                "    def _hear_of_view(self, message: Ping | Pong) -> None:\n        self._learn_commit(message.op)\n",
            ),
        ),
    ),
    Planted(
        "the log is cut to what is committed when another view is asked for",
        "P1",
        (
            _in(
                "vsr.view_change",
                "        self._wanted_view = max(view, self._wanted_view)\n",
                "        if view > self._wanted_view and self.commit_max in self.headers and self.commit_max >= self.chain_min:\n"
                "            self._install_suffix((self.headers[self.commit_max],))\n"
                "        self._wanted_view = max(view, self._wanted_view)\n",
            ),
        ),
    ),
    Planted(
        "a repaired entry may be the next op, whatever view it is of",
        "P5",
        (
            _in(
                "vsr.repair",
                "        header = message.entry.header\n        known = self.headers.get(header.op)\n        if (\n",
                "        header = message.entry.header\n        known = self.headers.get(header.op)\n"
                "        if header.op == self.head + 1 and header.parent == self.headers[self.head].checksum:\n"
                "            self._take(message.entry)\n        if (\n",
            ),
            _in(
                "vsr.repair",
                "        for header in missing:\n",
                "        self._send(peer, GetPrepare(self.epoch, self.view, self.member, self.head + 1, b''))\n"
                "        for header in missing:\n",
            ),
            _in(
                "vsr.repair",
                "        if entry is not None and entry.header.checksum == message.checksum:\n            self._send(",
                "        if entry is not None and message.checksum in (entry.header.checksum, b''):\n            self._send(",
            ),
        ),
    ),
    Planted(
        "the first member is primary of every view",
        "",
        (_in("vsr.core", "return self.members[view % len(self.members)]", "return self.members[0]"),),
    ),
    Planted(
        "each member changes the view by itself when it hears nothing",
        "P13",
        (
            _in(
                "vsr.view_change",
                "        if self.is_voter:\n            self._vote_to_exit()",
                "        if self.is_voter:\n            self._enter_view_change(self.view + 1)",
            ),
            _in(
                "vsr.replica",
                '"view_change": Reconfiguring._vote_to_exit',
                '"view_change": lambda replica: replica._enter_view_change(replica.view + 1)',
            ),
        ),
    ),
    Planted(
        "a primary that is not heard of never falls silent",
        "P14",
        (
            _in("vsr.replica", "        self._abdicating = True\n", "        pass\n"),
            _in("vsr.normal", "            self._abdicating = True\n", "            pass\n"),
        ),
    ),
    Planted(
        "a primary takes it that whom it hears hears it, too",
        "P14",
        (_in("vsr.replica", "if isinstance(message, (PrepareOk, CommitAck, Pong)):", "if True:"),),
    ),
    Planted(
        "a new primary serves before it has the ops that it counts itself for",
        "P16",
        (
            _in(
                "vsr.view_change",
                "self.oks = {op: set() for op in range(self.commit_max + 1, self.head + 1)}",
                "self.oks = {op: {self.member} for op in range(self.commit_max + 1, self.head + 1)}",
            ),
            _in(
                "vsr.view_change",
                "        if any(not self._is_durable(op) for op in range(self.commit_min + 1, self.head + 1)):\n            return\n",
                "",
            ),
        ),
    ),
    # ---- after a crash
    Planted(
        "every bad entry is taken for a torn one",
        "P4",
        (
            _in(
                "vsr.recovery",
                "        elif slot.header_fresh:\n            if entry is None",
                "        elif entry is None:\n            if entry is None",
            ),
        ),
    ),
    Planted(
        "a header record that was lost ends all doubt about what lies above it",
        "P4",
        (
            _in(
                "vsr.recovery",
                "        return self.header_fresh and (\n"
                "            self.entry_blank or (self.entry is not None and self.entry.header.op < self.candidate)\n"
                "        )\n",
                "        return self.header_fresh\n",
            ),
        ),
    ),
    Planted(
        "entries of any view continue the log after a crash",
        "",
        (
            _in(
                "vsr.recovery",
                "if header.parent == headers[head].checksum and header.view == block.log_view",
                "if header.parent == headers[head].checksum",
            ),
        ),
    ),
    Planted(
        "a member is sure of its log's end whatever has rotted",
        "P6",
        (_in("vsr.recovery", "uncertain = block.view == block.log_view and any(", "uncertain = False and any("),),
    ),
    Planted(
        "a member that does not know its log's end believes an old StartView",
        "P6",
        (_in("vsr.view_change", "if message.view <= self.view and message.nonce != self._view_nonce:", "if False:"),),
    ),
    Planted(
        "what has rotted is denied",
        "P6",
        (_in("vsr.core", "if op <= self.commit_max or self._slot(op) in self.faulty:", "if op <= self.commit_max:"),),
    ),
    Planted(
        "what is found to have rotted is left so",
        "",
        (
            _in(
                "vsr.repair",
                "            if of_this_log and serving.op > self.checkpoint.op:\n",
                "            if False:\n",
            ),
        ),
    ),
    Planted(
        "the newest copy of a superblock is believed, and built upon before it is whole",
        "P19",
        (
            _in("vsr.superblock", "if len(held) >= OPEN_QUORUM]", "if len(held) >= 1]"),
            _in("vsr.replica", "            self._write_again()\n", "            self._begin()\n"),
        ),
        frozenset({"thin superblock"}),
    ),
    Planted(
        "a superblock is overwritten before the one found is whole",
        "P19",
        (
            _in(
                "vsr.replica",
                "            self._write_again()\n",
                "            self._persist()\n            self._begin()\n",
            ),
        ),
    ),
    # ---- checkpoints
    Planted(
        "slots are used again before the checkpoint allows it",
        "",
        (
            _in(
                "vsr.recovery",
                "return checkpoint + options.checkpoint_interval + options.pipeline_max",
                "return checkpoint + options.slots + options.checkpoint_interval",
            ),
        ),
    ),
    Planted(
        "a checkpoint names another op than its snapshot holds",
        "P8",
        (
            _in(
                "vsr.storing",
                "                snapshot = kernel.snapshot(self.state)\n",
                "                snapshot = kernel.snapshot(before)\n",
            ),
            _in(
                "vsr.storing",
                "            outputs: tuple[kernel.Output, ...] = ()\n",
                "            outputs: tuple[kernel.Output, ...] = ()\n            before = self.state\n",
            ),
        ),
    ),
    Planted(
        "the applied op is not what the installed snapshot says",
        "P8",
        (
            _in(
                "vsr.view_change",
                "self.commit_min, self.commit_checksum = point.op, point.checksum",
                "self.commit_min, self.commit_checksum = message.op, message.headers[0].checksum",
            ),
        ),
    ),
    Planted(
        "the log is given up before the snapshot has come",
        "P8",
        (
            _in(
                "vsr.view_change",
                "        self._sync = message\n        self._fetch(message.checkpoint)\n",
                "        self._sync = message\n        self._fetch(message.checkpoint)\n        self.durable = [None] * self.options.slots\n        self.faulty.clear()\n",
            ),
        ),
    ),
    Planted(
        "a checkpoint does not wait until its outputs are kept",
        "P9",
        (
            _in("vsr.storing", "or self._next_due or not self._outputs_kept(point):", "or self._next_due:"),
            _in("vsr.view_change", "if self._outputs_kept(point):", "if True:"),
        ),
    ),
    # ---- other members
    Planted(
        "a learner's acknowledgement counts",
        "P17",
        (
            _in(
                "vsr.normal",
                "        if message.src not in self.members or header is None or",
                "        if header is None or",
            ),
        ),
    ),
    Planted(
        "a wish for other members is granted again when it comes again",
        "",
        (
            _in(
                "vsr.reconfiguration",
                'if why == "" and message.members != self.members and message.epoch != self.epoch:',
                "if False:",
            ),
        ),
        frozenset({"old wish"}),
    ),
    Planted(
        "votes and acknowledgements of an epoch that is over count",
        "",
        (_in("vsr.replica", "        if message.epoch == self.epoch:", "        if True:"),),
    ),
    Planted(
        "the newest log is told by its view alone, whatever epoch it is of",
        "",
        (
            _in(
                "vsr.choosing",
                "    return (head.epoch if head is not None else 0), join.log_view\n",
                "    return 0, join.log_view\n",
            ),
        ),
        frozenset({"split epoch"}),
    ),
    Planted(
        "a disk that replaces a lost one begins in view 0",
        "P7",
        (_in("vsr.superblock", "        view=view,\n        log_view=0,", "        view=0,\n        log_view=0,"),),
        frozenset({"lost disk"}),
    ),
    Planted(
        "a frame's authenticity code is not looked at",
        "",
        (_in("vsr.wire", "    if blake3(data[: _SIGNED.size] + message, key=key).digest() != code:", "    if False:"),),
    ),
    # ---- clients
    Planted(
        "ops are applied when they are known, not when they are committed",
        "",
        (_in("vsr.storing", "while self.commit_min < self.commit_max and", "while self.commit_min < self.head and"),),
    ),
    Planted(
        "a read is answered without asking whether one still is primary",
        "P12",
        (_in("vsr.normal", "len(probe.answered) < self.quorums.read", "len(probe.answered) < 1"),),
    ),
    Planted(
        "a new primary answers reads before it has committed an op of its own",
        "P12",
        (
            _in(
                "vsr.normal",
                "        if not self.view_committed:\n            self._redirect(message.client, message.number)\n"
                "            return\n        if len(self._reads_waiting) >=",
                "        if len(self._reads_waiting) >=",
            ),
        ),
    ),
    Planted(
        "a read joins a probe that was sent before it came",
        "P12",
        (
            _in(
                "vsr.normal",
                "        self._reads_waiting.append(message)\n        if self._probe is None:\n",
                "        if self._probe is not None:\n"
                "            self._probe = self._probe._replace(reads=(*self._probe.reads, message))\n            return\n"
                "        self._reads_waiting.append(message)\n        if self._probe is None:\n",
            ),
        ),
    ),
    Planted(
        "a primary that leaves its view tells its clients that they failed",
        "P10",
        (
            _in(
                "vsr.normal",
                '        """Forget what belonged to a view: acknowledgements, requests whose outcome the next view decides, reads."""\n',
                '        """Forget."""\n'
                "        for client, number in self._busy.items():\n"
                "            known = kernel.session(self.state, client) if self.state is not None else None\n"
                "            if known is not None:\n"
                "                refused = kernel.encode_reply(kernel.Refused(kernel.Refusal.BUSY))\n"
                "                self._answer(client, Reply(client, known.session, number, self.commit_min, refused, self.view))\n",
            ),
        ),
    ),
    Planted(
        "a request that is repeated is executed again",
        "",
        (
            _in(
                "kernel.state",
                "        return Duplicate(known.reply) if checksum == known.checksum else Verdict.CHANGED\n",
                "        return Verdict.NEW\n",
            ),
        ),
    ),
    Planted(
        "an id that is not found is called aborted, and may still come",
        "P10",
        (
            _in(
                "kernel.machine",
                "        self.ids = self.ids.set(key, Fate(self.op, stream.next_offset, ZERO_HASH))\n        self.decided.append",
                "        self.decided.append",
            ),
        ),
    ),
    Planted(
        "an append that builds on an earlier head is accepted",
        "",
        (
            _in(
                "kernel.machine",
                "if why is not None:",
                "if first_offset > offset or why is Misfit.TIME:",
            ),
        ),
    ),
    Planted(
        "an id decides after the head, not before it",
        "",
        (
            _in(
                "kernel.machine",
                "            if key in self.ids:\n                return encode_reply(_what",
                "            if key in self.ids and first_offset == stream.next_offset:\n                return encode_reply(_what",
            ),
        ),
    ),
    Planted(
        "the kernel draws a number of its own",
        "",
        (
            _in(
                "kernel.machine",
                'seed = b"stream" + self.op.to_bytes(8, "little") +',
                'seed = id(self).to_bytes(8, "little") +',
            ),
        ),
    ),
    Planted(
        "an op's time is the primary's clock, which may go back",
        "",
        (_in("vsr.normal", "timestamp=max(before.timestamp + 1, self._now // 1000)", "timestamp=self._now // 1000"),),
    ),
)

_QUICK = frozenset(
    {
        "one member less than a replication quorum commits",
        "acknowledgements are counted by message, not by member",
        "a primary counts itself before its write is done",
        "an entry is acknowledged before its header record is durable",
        "a member acknowledges while it changes the view",
        "a member joins a view before it is durable that it left the ones below",
        "a view is started before it is durable at its primary",
        "a StartView of an earlier view is obeyed",
        "a late StartView of the same view takes the log back",
        "what is committed is learned from a message of another view",
        "every bad entry is taken for a torn one",
        "what has rotted is denied",
    }
)
"""Found within a dozen seeds, so the usual run of the tests looks for them."""
