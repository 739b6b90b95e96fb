"""Bugs in the change from one primary to the next."""

from __future__ import annotations

from veritydb.simulation.bugs.planting import Planted, in_module

BUGS: tuple[Planted, ...] = (
    Planted(
        "the longest log wins, whatever its view",
        "",
        (
            in_module(
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
            in_module(
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
            in_module(
                "vsr.view_change",
                "if self.status is not Status.VIEW_CHANGE or not self._view_durable or",
                "if self.status is not Status.VIEW_CHANGE or",
            ),
            in_module(
                "vsr.view_change",
                '        self._start_timer("join_resend", self.options.join_resend, spread=2)\n        self._persist()\n',
                '        self._start_timer("join_resend", self.options.join_resend, spread=2)\n        self._persist()\n        self._send_join()\n',
            ),
        ),
        quick=True,
    ),
    Planted(
        "the log view is taken to be the view after a restart",
        "P3",
        (in_module("vsr.core", "self.log_view: int = block.log_view", "self.log_view: int = block.view"),),
    ),
    Planted(
        "the log view goes back with a restart",
        "P3",
        (
            in_module(
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
            in_module(
                "vsr.view_change",
                "if not self._chain_complete or not self._view_durable:",
                "if not self._chain_complete:",
            ),
        ),
        quick=True,
    ),
    Planted(
        "messages of the primary of an earlier view are obeyed",
        "",
        (
            in_module(
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
            in_module(
                "vsr.view_change",
                "if message.view < self.view or message.src == self.member or",
                "if message.src == self.member or",
            ),
        ),
        quick=True,
    ),
    Planted(
        "a late StartView of the same view takes the log back",
        "",
        (
            in_module(
                "vsr.view_change", "elif message.view == self.log_view and message.op < self.head:", "elif False:"
            ),
        ),
        quick=True,
    ),
    Planted(
        "what is committed is learned from a message of another view",
        "",
        (
            in_module(
                "vsr.view_change",
                "    def _hear_of_view(self, message: Ping | Pong) -> None:\n",
                "    def _hear_of_view(self, message: Ping | Pong) -> None:\n        self._learn_commit(message.op)\n",
            ),
        ),
        quick=True,
    ),
    Planted(
        "the log is cut to what is committed when another view is asked for",
        "P1",
        (
            in_module(
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
            in_module(
                "vsr.repair",
                "        header = message.entry.header\n        known = self.headers.get(header.op)\n        if (\n",
                "        header = message.entry.header\n        known = self.headers.get(header.op)\n"
                "        if header.op == self.head + 1 and header.parent == self.headers[self.head].checksum:\n"
                "            self._take(message.entry)\n        if (\n",
            ),
            in_module(
                "vsr.repair",
                "        self._asked = {header.op for header in missing}\n",
                "        self._send(peer, GetPrepare(self.epoch, self.view, self.member, self.head + 1, b''))\n"
                "        self._asked = {header.op for header in missing}\n",
            ),
            in_module(
                "vsr.repair",
                "        if entry is not None and entry.header.checksum == message.checksum:\n            self._send(",
                "        if entry is not None and message.checksum in (entry.header.checksum, b''):\n            self._send(",
            ),
        ),
    ),
    Planted(
        "the first member is primary of every view",
        "",
        (in_module("vsr.core", "return self.members[view % len(self.members)]", "return self.members[0]"),),
    ),
    Planted(
        "each member changes the view by itself when it hears nothing",
        "P13",
        (
            in_module(
                "vsr.view_change",
                "        if self.is_voter:\n            self._vote_to_exit()",
                "        if self.is_voter:\n            self._enter_view_change(self.view + 1)",
            ),
            in_module(
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
            in_module("vsr.replica", "        self._abdicating = True\n", "        pass\n"),
            in_module("vsr.normal", "            self._abdicating = True\n", "            pass\n"),
        ),
    ),
    Planted(
        "a primary takes it that whom it hears hears it, too",
        "P14",
        (in_module("vsr.replica", "if isinstance(message, (PrepareOk, CommitAck, Pong)):", "if True:"),),
    ),
    Planted(
        "a new primary serves before it has the ops that it counts itself for",
        "P16",
        (
            in_module(
                "vsr.view_change",
                "self.oks = {op: set() for op in range(self.commit_max + 1, self.head + 1)}",
                "self.oks = {op: {self.member} for op in range(self.commit_max + 1, self.head + 1)}",
            ),
            in_module(
                "vsr.view_change",
                "        if any(not self._is_durable(op) for op in range(self.commit_min + 1, self.head + 1)):\n            return\n",
                "",
            ),
        ),
    ),
)
