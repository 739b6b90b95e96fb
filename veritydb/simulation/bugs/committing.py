"""Bugs in what commits an op: who is counted, and what an acknowledgement promises."""

from __future__ import annotations

from veritydb.simulation.bugs.planting import Planted, in_module

BUGS: tuple[Planted, ...] = (
    # ---- counting
    Planted(
        "acknowledgements are counted by message, not by member",
        "",
        (in_module("vsr.normal", "voters.add(member)", "voters.add((member, len(voters)))"),),
        quick=True,
    ),
    Planted(
        "one member less than a replication quorum commits",
        "",
        (
            in_module(
                "vsr.normal", "needed = self.quorums.replication\n", "needed = max(1, self.quorums.replication - 1)\n"
            ),
        ),
        quick=True,
    ),
    Planted(
        "one JoinView is enough to choose a log",
        "",
        (in_module("vsr.view_change", "len(self.joins) < self.quorums.view_change", "len(self.joins) < 1"),),
    ),
    Planted(
        "one denial is enough to drop an op",
        "P4",
        (in_module("vsr.choosing", "if nacks >= quorums.nack:", "if nacks >= 1:"),),
    ),
    Planted(
        "an op that nobody present has is taken never to have been committed",
        "P4",
        (
            in_module(
                "vsr.choosing",
                "            return Wait(op) if len(everyone) < members else Stuck(op)\n",
                "            return Chosen(log_view, op - 1, floor, {k: headers[k] for k in range(floor, op) if k in headers})\n",
            ),
        ),
    ),
    Planted(
        "a primary counts itself before its write is done",
        "P16",
        (in_module("vsr.normal", "self.oks[op] = set()", "self.oks[op] = {self.member}"),),
        quick=True,
    ),
    Planted(
        "an acknowledgement counts for the op behind, too",
        "",
        (
            in_module(
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
            in_module(
                "vsr.storing",
                "        if isinstance(what, _EntryWrite):\n            written, header = what.header, self.headers.get(what.header.op)\n",
                "        if isinstance(what, _EntryWrite):\n            written, header = what.header, self.headers.get(what.header.op)\n"
                "            self.durable[self._slot(what.header.op)] = what.header\n"
                "            self._advance_durable()\n            self._on_durable(self.commit_max)\n",
            ),
        ),
        quick=True,
    ),
    Planted(
        "a member acknowledges when it takes an op, not when the op is on disk",
        "P16",
        (
            in_module("vsr.normal", "op > self.durable_to or not self._is_durable(op)", "op > self.head"),
            in_module(
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
            in_module("vsr.normal", "op > self.durable_to or not self._is_durable(op)", "not self._is_durable(op)"),
            in_module(
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
            in_module(
                "vsr.normal",
                "        if self.status is not Status.NORMAL or op > self.durable_to",
                "        if op > self.durable_to",
            ),
        ),
        quick=True,
    ),
    Planted(
        "a member goes on after a failed write",
        "P15",
        (
            in_module(
                "vsr.replica",
                '            self._halt("a write to disk failed")\n        elif',
                "            self._on_write_done(event._replace(ok=True))\n        elif",
            ),
        ),
    ),
)
