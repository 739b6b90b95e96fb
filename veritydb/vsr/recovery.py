"""What the bytes of a journal mean after a crash.

Every op stands in two places: its entry, and its header once more in a sector of its own that is written when the entry
is durable and before anybody is told so. From the two together one can tell a write that never finished, which was
never acknowledged and may be denied, from one that was acknowledged and has rotted since, which may not. Taking the
second for the first loses committed data, cluster-wide (Alagappan et al., "Protocol-Aware Recovery", FAST 2018).

Two rules of the replica carry the inference:

- Entries are written in the order of their ops, at most ``pipeline_max`` at a time.
- An op is acknowledged only when all ops before it, back to the checkpoint, have been durable.

So if the lowest unfinished write is op T, nothing from T on was ever acknowledged, and no op at or beyond ``T +
pipeline_max`` was begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from veritydb.vsr.effects import Image
from veritydb.vsr.entry import HEADER_SIZE, BadEntry, Entry, Header, read_entry, read_header
from veritydb.vsr.options import Options
from veritydb.vsr.superblock import Superblock, SuperblockDamaged

_BLANK = b"VSRBLANK"


def blank(slot: int) -> bytes:
    """Return what stands in a slot that was never used: its own number, so that a misdirected write shows."""
    return _BLANK + slot.to_bytes(8, "little")


class Journal(NamedTuple):
    """What a journal holds, and how sure that is."""

    head: int
    headers: dict[int, Header]
    """Of the log, from ``head`` downwards without a gap; where it ends above the checkpoint, the rest is not known."""
    entries: dict[int, Entry]
    """Of the ops of ``headers``, those whose entry can be read."""
    durable: list[Header | None]
    """Slot by slot: the header of the entry that is whole in both places."""
    faulty: set[int]
    """Slots of which it is not certain what they held: no op there may be denied."""
    unfinished: set[int]
    """Of these, the slots whose entry is whole and only has to be written again."""
    head_uncertain: bool
    """There may have been ops above ``head`` that were acknowledged."""


class _Slot(NamedTuple):
    number: int
    candidate: int
    """The one op above the checkpoint that this slot may hold now: the journal is longer than what may lie above it."""
    entry: Entry | None
    entry_old: bool
    """The entry's sectors are whole and have not heard of the candidate: blank, or of an op that is over."""
    header: Header | None
    header_old: bool
    """So is the header's."""

    @property
    def has_entry(self) -> bool:
        """Whether an entry of the candidate is here."""
        return self.entry is not None and not self.entry_old

    @property
    def never_written(self) -> bool:
        """Whether the candidate certainly was not made durable here, for both places speak of something older."""
        return self.entry_old and self.header_old


def recover(image: Image, block: Superblock, options: Options) -> Journal:
    """Classify every slot, find the head, and follow the chain down from it."""
    checkpoint = block.checkpoint.op
    cap = op_cap(checkpoint, options)
    slots = [_slot(number, image, block, options) for number in range(options.slots)]
    durable: list[Header | None] = [None] * options.slots
    faulty: set[int] = set()
    torn: list[_Slot] = []
    for slot in slots:
        entry, header = slot.entry, slot.header
        if entry is not None and header is not None and entry.header.checksum == header.checksum:
            durable[slot.number] = header
        elif slot.candidate > cap:
            pass  # Nothing above the checkpoint can have been here, and what is below it is of no use any more.
        elif slot.has_entry:
            # Whole, but for its header; or two versions of one op, and who knows which is newer.
            faulty.add(slot.number)
        elif slot.header_old:
            if not slot.entry_old:
                torn.append(slot)
        elif slot.entry_old and header is None:
            pass  # The header's sector has rotted, or its write was torn. Had the candidate been here, its entry were.
        else:
            faulty.add(slot.number)

    # Where a slot certainly never got its op, nothing from that op on was acknowledged: whatever is bad above it is bad
    # because it was being written, and leaves no doubt.
    first_empty = min((slot.candidate for slot in slots if slot.never_written), default=cap + 1)
    torn = [slot for slot in torn if slot.candidate < first_empty]
    faulty = {number for number in faulty if slots[number].candidate < first_empty}
    limit = cap + 1
    if torn:
        # The same holds from the first torn one on: had it been acknowledged, its header would be here, or its loss
        # would show. Unless there is something that cannot have been under way together with it.
        first = min(slot.candidate for slot in torn)
        seen = max((op for slot in slots for op in _ops(slot) if op > checkpoint), default=checkpoint)
        doubtful = any(slots[number].candidate > first and not _half_written(slots[number]) for number in faulty)
        if doubtful or seen >= first + options.pipeline_max:
            faulty.update(slot.number for slot in torn)
        else:
            limit = first
            faulty = {number for number in faulty if slots[number].candidate < first}

    headers, head = _log(slots, block, limit)
    readable = {slot.entry.header.checksum: slot.entry for slot in slots if slot.entry is not None}
    entries = {op: readable[header.checksum] for op, header in headers.items() if header.checksum in readable}
    for slot in slots:
        if slot.number in faulty and slot.candidate not in entries and slot.has_entry and slot.header_old:
            faulty.discard(slot.number)  # Its op was given up by a view change, or lies beyond what was cut.
        held = durable[slot.number]
        if held is not None and held.op > head:
            durable[slot.number] = None  # Not of this log, or never acknowledged.
    unfinished = {
        slot.number
        for slot in slots
        if slot.number in faulty and slot.candidate in entries and (slot.header_old or slot.header is None)
    }
    uncertain = block.view == block.log_view and any(slots[number].candidate > head for number in faulty)
    return Journal(head, headers, entries, durable, faulty, unfinished, uncertain)


def op_cap(checkpoint: int, options: Options) -> int:
    """Return the highest op that may be written by a member whose checkpoint is at ``checkpoint``."""
    return checkpoint + options.checkpoint_interval + options.pipeline_max


def _half_written(slot: _Slot) -> bool:
    """Whether a crash between its two writes, or in the second, would leave it like this."""
    return slot.has_entry and (slot.header_old or slot.header is None)


def _log(slots: list[_Slot], block: Superblock, limit: int) -> tuple[dict[int, Header], int]:
    """Return the headers that are certainly of this log, and its head."""
    found: dict[int, list[Header]] = {}
    for slot in slots:
        for header in (slot.entry.header if slot.entry is not None else None, slot.header):
            if header is not None:
                found.setdefault(header.op, []).append(header)
    for header in block.headers:
        if header is not None:
            found.setdefault(header.op, []).append(header)

    # A superblock names the head as it was when it was written, which is not below the checkpoint it names.
    checkpoint, first = block.checkpoint, block.headers[0]
    if first is None or first.op < checkpoint.op:
        raise SuperblockDamaged("the superblock's log ends below its checkpoint")
    headers = {first.op: first}
    head = first.op
    if block.view == block.log_view:
        # What this view has added since. Entries of other views beyond that were given up by it.
        while head + 1 < limit:
            following = [
                header
                for header in found.get(head + 1, ())
                if header.parent == headers[head].checksum and header.view == block.log_view
            ]
            if not following:
                break
            head += 1
            headers[head] = following[0]
    op = first.op
    while op > checkpoint.op:
        parents = [header for header in found.get(op - 1, ()) if header.checksum == headers[op].parent]
        if not parents:
            break
        op -= 1
        headers[op] = parents[0]
    if op == checkpoint.op + 1:
        connected = headers[op].parent == checkpoint.checksum
    else:
        connected = op > checkpoint.op or headers[checkpoint.op].checksum == checkpoint.checksum
    if not connected:
        raise SuperblockDamaged("the log does not continue the checkpoint that the superblock names")
    return headers, head


def _ops(slot: _Slot) -> Iterator[int]:
    if slot.entry is not None:
        yield slot.entry.header.op
    if slot.header is not None:
        yield slot.header.op


def _slot(number: int, image: Image, block: Superblock, options: Options) -> _Slot:
    raw_entry, raw_header = image.entries[number], image.headers[number]
    entry: Entry | None = None
    header: Header | None = None
    try:
        if raw_entry is not None:
            entry = read_entry(raw_entry)
            if entry.header.cluster != block.cluster or entry.header.op % options.slots != number:
                entry = None  # Misdirected, or another cluster's.
    except BadEntry:
        pass
    try:
        if raw_header is not None:
            header = read_header(raw_header[:HEADER_SIZE])
            if header.cluster != block.cluster or header.op % options.slots != number:
                header = None
    except BadEntry:
        pass
    checkpoint = block.checkpoint.op
    candidate = checkpoint + 1 + (number - checkpoint - 1) % options.slots
    entry_old = _is_blank(raw_entry, number) or (entry is not None and _is_old(entry.header, candidate, block))
    header_old = _is_blank(raw_header, number) or (header is not None and _is_old(header, candidate, block))
    return _Slot(number, candidate, entry, entry_old, header, header_old)


def _is_old(header: Header, candidate: int, block: Superblock) -> bool:
    """Whether this is of an earlier lap of the journal, or of an op that the log of this view has given up."""
    if header.op < candidate:
        return True
    # Above the head that the superblock names, all ops of a view that has begun here are its own.
    begun, newest = block.view == block.log_view, block.headers[0]
    return begun and header.view < block.log_view and newest is not None and header.op > newest.op


def _is_blank(raw: bytes | None, number: int) -> bool:
    return raw is not None and raw[:16] == blank(number)
