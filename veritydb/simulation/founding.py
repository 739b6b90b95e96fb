"""The disks that members begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veritydb.vsr.effects import Image

if TYPE_CHECKING:
    from veritydb.simulation.code import Code

CLUSTER = b"simulated group."


def new_disk(code: Code, member: int, members: tuple[int, ...], slots: int, *, epoch: int = 0, view: int = 0) -> Image:
    """Return what is on a new disk.

    ``epoch`` and ``view`` are not 0 where a group has run before: for a learner, or for a member whose disk was lost
    (``docs/internals/vsr.md``, "A disk is lost").
    """
    superblock, recovery = code.superblock, code.recovery
    snapshot = code.kernel.snapshot(code.kernel.EMPTY)
    block = superblock.first_superblock(
        cluster=CLUSTER,
        member=member,
        members=members,
        root=code.entry.root_entry(CLUSTER).header,
        snapshot=snapshot,
        epoch=epoch,
        view=view,
    )
    data = superblock.encode(block)
    copies = tuple(superblock.as_copy(data, number) for number in range(superblock.COPIES))
    blanks = tuple(recovery.blank(slot) for slot in range(slots))
    return Image(copies, blanks, blanks, {block.checkpoint.root: snapshot})
