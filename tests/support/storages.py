"""Real and imaginary storage behind one face, for the tests that both must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from veritydb import kernel
from veritydb.cluster.disk import Disk, format_disk
from veritydb.vsr.effects import Image, Key, Write, WriteDone, Zone
from veritydb.vsr.entry import root_entry
from veritydb.vsr.recovery import blank
from veritydb.vsr.superblock import COPIES, Superblock, as_copy, encode, first_superblock

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = b"the cluster here"
SLOTS = 8
BODY_MAX = 100_000


def first_block(member: int = 1) -> Superblock:
    """Return the superblock of a new member."""
    root = root_entry(CLUSTER).header
    return first_superblock(
        cluster=CLUSTER, member=member, members=(0, 1, 2), root=root, snapshot=kernel.snapshot(kernel.EMPTY)
    )


def first_image(slots: int = SLOTS) -> Image:
    """Return what a new member's storage holds."""
    block = first_block()
    data = encode(block)
    blanks = tuple(blank(slot) for slot in range(slots))
    snapshots = {block.checkpoint.root: kernel.snapshot(kernel.EMPTY)}
    return Image(tuple(as_copy(data, number) for number in range(COPIES)), blanks, blanks, snapshots)


class Storage(Protocol):
    """What the contract speaks of."""

    def write(self, *writes: Write) -> list[WriteDone]:
        """Submit writes, carry them all out, return what was told of them."""
        ...

    def begin(self, write: Write) -> None:
        """Submit a write and do no more."""
        ...

    def read(self, zone: Zone, key: Key) -> bytes | None:
        """Look up."""
        ...

    def remove(self, zone: Zone, key: Key) -> None:
        """Forget a snapshot."""
        ...

    def start_again(self) -> Image:
        """Let the process die and another one open what is there."""
        ...

    def close(self) -> None:
        """End."""
        ...


class RealStorage:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "member"
        format_disk(self._folder, first_image(), body_max=BODY_MAX)
        self.disk = Disk(self._folder)

    def write(self, *writes: Write) -> list[WriteDone]:
        for write in writes:
            self.disk.submit(write)
        done: list[WriteDone] = []
        self.disk.flush(done.append)
        return done

    def begin(self, write: Write) -> None:
        self.disk.submit(write)

    def read(self, zone: Zone, key: Key) -> bytes | None:
        return self.disk.read(zone, key)

    def remove(self, zone: Zone, key: Key) -> None:
        self.disk.remove(zone, key)

    def start_again(self) -> Image:
        self.disk.close()
        self.disk = Disk(self._folder)
        return self.disk.image()

    def close(self) -> None:
        self.disk.close()


class ImaginaryStorage:
    """The simulator's disk, with no faults."""

    def __init__(self) -> None:
        from veritydb.simulation.chance import Chance
        from veritydb.simulation.storage import Atlas, Disk, Habits

        self.disk = Disk(1, first_image(), Habits(), Atlas((0, 1, 2)), Chance(1))

    def write(self, *writes: Write) -> list[WriteDone]:
        for write in writes:
            self.disk.submit(write)
        return [WriteDone(token, self._finish(token)) for token in list(self.disk.pending)]

    def _finish(self, token: int) -> bool:
        while (ok := self.disk.finish(token)) is None:
            pass
        return ok

    def begin(self, write: Write) -> None:
        self.disk.submit(write)

    def read(self, zone: Zone, key: Key) -> bytes | None:
        return self.disk.read(zone, key)

    def remove(self, zone: Zone, key: Key) -> None:
        self.disk.remove(zone, key)

    def start_again(self) -> Image:
        self.disk.crash()
        return self.disk.open()

    def close(self) -> None:
        pass
