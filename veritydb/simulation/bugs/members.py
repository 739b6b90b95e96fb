"""Bugs in who belongs to a group, and to which: learners, other members, new disks, forgers."""

from __future__ import annotations

from veritydb.simulation.bugs.planting import Planted, in_module

BUGS: tuple[Planted, ...] = (
    Planted(
        "a learner's acknowledgement counts",
        "P17",
        (
            in_module(
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
            in_module(
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
        (in_module("vsr.replica", "        if message.epoch == self.epoch:", "        if True:"),),
    ),
    Planted(
        "the newest log is told by its view alone, whatever epoch it is of",
        "",
        (
            in_module(
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
        (
            in_module(
                "vsr.superblock", "        view=view,\n        log_view=0,", "        view=0,\n        log_view=0,"
            ),
        ),
        frozenset({"lost disk"}),
    ),
    Planted(
        "a frame's authenticity code is not looked at",
        "",
        (
            in_module(
                "vsr.wire", "    if blake3(data[: _SIGNED.size] + message, key=key).digest() != code:", "    if False:"
            ),
        ),
    ),
)
