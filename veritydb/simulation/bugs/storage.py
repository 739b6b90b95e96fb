"""Bugs in what a member makes of its disk: after a crash, and when it takes a checkpoint."""

from __future__ import annotations

from veritydb.simulation.bugs.planting import Planted, in_module

BUGS: tuple[Planted, ...] = (
    # ---- after a crash
    Planted(
        "every bad entry is taken for a torn one",
        "P4",
        (
            in_module(
                "vsr.recovery",
                "        elif slot.header_old:\n            if not",
                "        elif entry is None:\n            if not",
            ),
        ),
        quick=True,
    ),
    Planted(
        "a header record that was lost ends all doubt about what lies above it",
        "P4",
        (
            in_module(
                "vsr.recovery",
                "        return self.entry_old and self.header_old\n",
                "        return self.header_old\n",
            ),
        ),
    ),
    Planted(
        "entries of any view continue the log after a crash",
        "",
        (
            in_module(
                "vsr.recovery",
                "if header.parent == headers[head].checksum and header.view == block.log_view",
                "if header.parent == headers[head].checksum",
            ),
        ),
    ),
    Planted(
        "a member is sure of its log's end whatever has rotted",
        "P6",
        (in_module("vsr.recovery", "uncertain = block.view == block.log_view and any(", "uncertain = False and any("),),
    ),
    Planted(
        "a member that does not know its log's end believes an old StartView",
        "P6",
        (
            in_module(
                "vsr.view_change", "if message.view <= self.view and message.nonce != self._view_nonce:", "if False:"
            ),
        ),
    ),
    Planted(
        "what has rotted is denied",
        "P6",
        (
            in_module(
                "vsr.core", "if op <= self.commit_max or self._slot(op) in self.faulty:", "if op <= self.commit_max:"
            ),
        ),
        quick=True,
    ),
    Planted(
        "what is found to have rotted is left so",
        "",
        (
            in_module(
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
            in_module("vsr.superblock", "if len(held) >= OPEN_QUORUM]", "if len(held) >= 1]"),
            in_module("vsr.replica", "            self._write_again()\n", "            self._begin()\n"),
        ),
        frozenset({"thin superblock"}),
    ),
    Planted(
        "a superblock is overwritten before the one found is whole",
        "P19",
        (
            in_module(
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
            in_module(
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
            in_module(
                "vsr.storing",
                "                snapshot = kernel.snapshot(self.state)\n",
                "                snapshot = kernel.snapshot(before)\n",
            ),
            in_module(
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
            in_module(
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
            in_module(
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
            in_module("vsr.storing", "or self._next_due or not self._outputs_kept(point):", "or self._next_due:"),
            in_module("vsr.view_change", "if self._outputs_kept(point):", "if True:"),
        ),
    ),
)
