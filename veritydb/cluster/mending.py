"""A stream's log that has lost something: what is whole is kept, the rest is set aside, and the group sends it again.

A node writes its streams' logs without waiting for the disk, so a loss of power may leave holes in what was written
last: pages that never got there before others that did. The application's log would call that damage and refuse it,
because nobody else has what was lost. A node is not alone: everything in these logs was committed by a quorum, the
others have it, and the chain tells exactly up to where this copy is good. So the log is cut there and the rest fetched.

What was found is not thrown away: the folder as it was moves to ``damaged`` beside the streams, for people to look at.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from veritydb.chain import ZERO_HASH
from veritydb.log.files import Files
from veritydb.log.record import Malformed
from veritydb.log.segment import FIRST, Head, Segment, StoredRecord, enter, follow, segment_name
from veritydb.syncing import sync

_COPIED = 1 << 20


class Mended(NamedTuple):
    """What became of a log."""

    next_offset: int
    """Where it ends now."""
    aside: Path
    """Where it is as it was found."""
    why: str
    """What was wrong behind that offset."""


def mend(folder: Path, stream: bytes, aside: Path) -> Mended:
    """Cut a log behind its last good record, durably, and keep what was found in a folder below ``aside``.

    Nobody may have it open. Raises OSError; after that, or a crash, the log is as it was, or cut, or not there at all
    and found in ``aside``: then the group sends the whole stream.
    """
    head, why = good_end(folder, stream)
    cut = folder.with_name(f"{folder.name}.cut")
    if cut.exists():
        shutil.rmtree(cut)
    if head is not None:
        _copy(folder, cut, head)
    aside.mkdir(mode=0o700, exist_ok=True)
    kept = next(path for number in range(1 << 20) if not (path := aside / f"{folder.name}-{number}").exists())
    folder.rename(kept)
    if head is not None:
        cut.rename(folder)
    for changed in (folder.parent, aside, aside.parent):
        sync(changed)
    return Mended(0 if head is None else head.next_offset, kept, why)


def good_end(folder: Path, stream: bytes) -> tuple[Head | None, str]:
    """Return the end of the records that are whole and follow each other from the beginning, and what stops there.

    No end: not even the first segment begins as this stream's.
    """
    head = Head(0, ZERO_HASH, 0, 0, 0, FIRST)
    files = Files()
    number = 0
    while True:
        try:
            segment = Segment(files, str(folder / segment_name(number)), number)
        except FileNotFoundError:
            return (head if number else None), f"{segment_name(number)} is not there"
        try:
            try:
                head = enter(head, segment.header(), stream)
            except Malformed as bad:
                return (head if number else None), f"{segment_name(number)}: {bad.why}"
            try:
                while isinstance(frame := segment.frame(head.position), StoredRecord):
                    head = follow(head, frame, stream)
            except Malformed as bad:
                return head, f"{segment_name(number)}, byte {head.position}: {bad.why}"
        finally:
            segment.close()
        if frame is None:
            return head, f"{segment_name(number)}, byte {head.position}: nothing stands there"
        number += 1


def _copy(folder: Path, to: Path, head: Head) -> None:
    """Make a log of the segments before the head's and of what is before the head in its own."""
    to.mkdir(mode=0o700)
    for number in range(head.segment):
        os.link(folder / segment_name(number), to / segment_name(number))  # Nobody writes into these any more.
    fd = os.open(to / segment_name(head.segment), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as made, (folder / segment_name(head.segment)).open("rb") as found:
        left = head.position
        while left:
            piece = found.read(min(left, _COPIED))
            made.write(piece)
            left -= len(piece)
        made.flush()
        os.fsync(fd)
    sync(to)
