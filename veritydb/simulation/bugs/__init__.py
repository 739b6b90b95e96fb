"""Bugs of the protocol and of the kernel, each as an exact replacement of text.

==============  ==================================================
``committing``  who is counted, what an acknowledgement promises
``views``       from one primary to the next
``storage``     after a crash; checkpoints
``members``     who belongs to the group
``clients``     what clients are told; the kernel
``planting``    what a bug is
==============  ==================================================

Each is one that sank somebody's system (the P-numbers are those of ``docs/internals/vsr.md``, "Pitfalls"), or that an
author of this protocol could make on a bad day. :mod:`veritydb.simulation.planted` plants them into copies of the code
and sees whether the simulator finds them. Production code knows nothing of it, and a replacement that no longer fits is
an error, not a bug that is silently no longer planted.
"""

from __future__ import annotations

from veritydb.simulation.bugs import clients, committing, members, storage, views
from veritydb.simulation.bugs.planting import Planted

BUGS: tuple[Planted, ...] = (*committing.BUGS, *views.BUGS, *storage.BUGS, *members.BUGS, *clients.BUGS)

__all__ = ["BUGS", "Planted"]
