"""Bugs in what clients are told, and in the kernel, which decides it."""

from __future__ import annotations

from veritydb.simulation.bugs.planting import Planted, in_module

BUGS: tuple[Planted, ...] = (
    Planted(
        "ops are applied when they are known, not when they are committed",
        "",
        (
            in_module(
                "vsr.storing", "while self.commit_min < self.commit_max and", "while self.commit_min < self.head and"
            ),
        ),
    ),
    Planted(
        "a read is answered without asking whether one still is primary",
        "P12",
        (in_module("vsr.normal", "len(probe.answered) < self.quorums.read", "len(probe.answered) < 1"),),
    ),
    Planted(
        "a new primary answers reads before it has committed an op of its own",
        "P12",
        (
            in_module(
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
            in_module(
                "vsr.normal",
                "        self._reads_waiting.append(message)\n        if self._probe is None:\n",
                "        if self._probe is not None:\n"
                "            self._probe = self._probe._replace(reads=(*self._probe.reads, message))\n            return\n"
                "        self._reads_waiting.append(message)\n        if self._probe is None:\n",
            ),
        ),
        frozenset({"late answer"}),
    ),
    Planted(
        "a primary that leaves its view tells its clients that they failed",
        "P10",
        (
            in_module(
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
            in_module(
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
            in_module(
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
            in_module(
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
            in_module(
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
            in_module(
                "kernel.machine",
                'seed = b"stream" + self.op.to_bytes(8, "little") +',
                'seed = id(self).to_bytes(8, "little") +',
            ),
        ),
    ),
    Planted(
        "an op's time is the primary's clock, which may go back",
        "",
        (
            in_module(
                "vsr.normal", "timestamp=max(before.timestamp + 1, self._now // 1000)", "timestamp=self._now // 1000"
            ),
        ),
    ),
)
