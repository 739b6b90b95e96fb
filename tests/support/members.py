"""Values of the replicated log for tests: chains of entries, disks as they would be read."""

from __future__ import annotations

from veritydb import kernel
from veritydb.vsr.effects import Image
from veritydb.vsr.entry import Entry, Header, Kind, checksum, make_entry, root_entry
from veritydb.vsr.messages import Checkpoint, JoinView, Suffix
from veritydb.vsr.options import Options
from veritydb.vsr.recovery import blank
from veritydb.vsr.superblock import COPIES, Superblock, as_copy, encode, first_superblock

CLUSTER = bytes(range(16))
ROOT = root_entry(CLUSTER)
SNAPSHOT = kernel.snapshot(kernel.EMPTY)
OPTIONS = Options(slots=32, checkpoint_interval=8, pipeline_max=4, pipeline_eager=2, headers_max=16)
POINT = Checkpoint(0, ROOT.header.checksum, checksum(SNAPSHOT), len(SNAPSHOT))


def following(before: Entry, *, view: int = 1, body: bytes = b"", commit: int = 0, kind: Kind = Kind.NOOP) -> Entry:
    """Return an entry that continues ``before``."""
    header = before.header
    return make_entry(
        kind=kind,
        cluster=CLUSTER,
        epoch=0,
        view=view,
        op=header.op + 1,
        parent=header.checksum,
        commit=commit,
        timestamp=header.timestamp + 1,
        body=body,
    )


def chain(length: int, *, view: int = 1, after: Entry = ROOT, body: bytes = b"") -> list[Entry]:
    """Return ``length`` entries, each continuing the one before."""
    entries: list[Entry] = []
    for _ in range(length):
        after = following(after, view=view, body=body)
        entries.append(after)
    return entries


def first_block(**changes: object) -> Superblock:
    """Return the superblock of a new member of three."""
    block = first_superblock(cluster=CLUSTER, member=0, members=(0, 1, 2), root=ROOT.header, snapshot=SNAPSHOT)
    return block._replace(**changes)


class Disk:
    """What a member's storage holds, to be changed by a test."""

    def __init__(self, block: Superblock | None = None, options: Options = OPTIONS) -> None:
        self.options = options
        self.superblock: list[bytes | None] = []
        self.entries: list[bytes | None] = [blank(slot) for slot in range(options.slots)]
        self.headers: list[bytes | None] = [blank(slot) for slot in range(options.slots)]
        self.snapshots = {POINT.root: SNAPSHOT}
        self.write(ROOT)
        self.name(block or first_block())

    def name(self, block: Superblock) -> None:
        """Write a superblock."""
        self.superblock = [as_copy(encode(block), number) for number in range(COPIES)]

    def write(self, entry: Entry, *, entry_too: bool = True, header_too: bool = True) -> None:
        """Write an entry into its two places, or one of them."""
        slot = entry.header.op % self.options.slots
        if entry_too:
            self.entries[slot] = entry.raw
        if header_too:
            self.headers[slot] = entry.header.raw

    def image(self) -> Image:
        """Return what would be read."""
        return Image(tuple(self.superblock), tuple(self.entries), tuple(self.headers), dict(self.snapshots))


def join(
    src: int,
    entries: list[Entry],
    *,
    log_view: int = 1,
    commit: int = 0,
    present: str | None = None,
    nack: str | None = None,
    unknown: tuple[int, ...] = (),
) -> JoinView:
    """Return how a member's log ends: all of ``entries``, oldest first, above op 0.

    ``present`` and ``nack`` have a character for each, oldest first: ``x`` where the bit is set. Default: all present.
    """
    log: list[Header | None] = [ROOT.header, *(entry.header for entry in entries)]
    for op in unknown:
        log[op] = None
    kept = log[min(commit, len(entries)) :]
    size = len(kept)

    def bits(text: str | None, default: str) -> int:
        marks = (text if text is not None else default * len(entries)).rjust(size, default)[-size:]
        return sum(1 << index for index, mark in enumerate(reversed(marks)) if mark == "x")

    suffix = Suffix(tuple(reversed(kept)), bits(present, "x"), bits(nack, "."))
    return JoinView(0, 2, src, log_view, len(entries), commit, commit, POINT, suffix)
