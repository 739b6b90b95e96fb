"""Which log a new view gets.

The primary of a view that is about to start has heard from a quorum how their logs end (:class:`JoinView`). The log of
the *newest view* among them is the one to go on with, not the longest and not the one with the most commits; of its
end, ops are dropped that provably were never committed, and only those (VR Revisited, section 4.2; Protocol-Aware
Recovery, section 3.4). Pure: :mod:`veritydb.vsr.view_change` asks, and acts on the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from veritydb.vsr.entry import Header
from veritydb.vsr.messages import JoinView
from veritydb.vsr.quorums import Quorums


class Chosen(NamedTuple):
    """Go on with this log."""

    log_view: int
    head: int
    floor: int
    """All ops up to this one are committed."""
    headers: dict[int, Header]
    """From ``floor`` to ``head``."""


class Wait(NamedTuple):
    """Others may have what these lack."""

    op: int


class Stuck(NamedTuple):
    """All have spoken: the op may have been committed, and nobody has it. Nobody may guess."""

    op: int


class Fork(NamedTuple):
    """Two members have different logs of one view, which cannot be."""

    op: int


Choice: TypeAlias = Chosen | Wait | Stuck | Fork


def choose_log(joins: Mapping[int, JoinView], *, members: int, quorums: Quorums, pipeline_max: int) -> Choice:
    """Return the log that ``joins``, a view change quorum by member id, allow."""
    everyone = [joins[member] for member in sorted(joins)]
    reign, log_view = max(_reign(join) for join in everyone)
    canonical = [join for join in everyone if _reign(join) == (reign, log_view)]
    floor = max(max(join.commit_min, join.commit_max, _lowest(join), join.op - pipeline_max) for join in everyone)
    newest = [join.suffix.headers[0] for join in canonical]
    floor = max(floor, max((header.commit for header in newest if header is not None), default=0))
    head_max = max(join.op for join in canonical)
    if head_max < floor:
        return Fork(floor)  # A committed op that no log of the newest view has.

    headers: dict[int, Header] = {}
    for op in range(head_max, floor - 1, -1):
        known = {header.checksum: header for join in canonical if (header := header_at(join, op)) is not None}
        if len(known) > 1:
            return Fork(op)
        if known:
            (headers[op],) = known.values()
        above = headers.get(op + 1)
        if above is not None:
            # The header above names this one, so a header from an older view's log will do if it is the one.
            if op in headers:
                if headers[op].checksum != above.parent:
                    return Fork(op)
            else:
                for join in everyone:
                    header = header_at(join, op)
                    if header is not None and header.checksum == above.parent:
                        headers[op] = header

    for op in range(floor + 1, head_max + 1):
        header = headers.get(op)
        above = headers.get(op + 1)
        checksum = header.checksum if header is not None else above.parent if above is not None else None
        nacks = sum(_denies(join, op, checksum, (reign, log_view)) for join in everyone)
        if nacks >= quorums.nack:
            kept = {kept: headers[kept] for kept in range(floor, op) if kept in headers}
            return Chosen(log_view, op - 1, floor, kept)
        copies = sum(_has(join, op, checksum) for join in everyone)
        if header is None or not copies:
            return Wait(op) if len(everyone) < members else Stuck(op)
    return Chosen(log_view, head_max, floor, headers)


def header_at(join: JoinView, op: int) -> Header | None:
    """Return the header that a member has at ``op``; None if it has none or did not say."""
    index = join.op - op
    return join.suffix.headers[index] if 0 <= index < len(join.suffix.headers) else None


def _reign(join: JoinView) -> tuple[int, int]:
    """Return the epoch and the view that a log is of.

    The epoch first: views of two epochs may have one number, or run on in one that is over (those who have not heard of
    its end). Once an op of an epoch is committed, whoever acknowledged it has an op of that epoch at its log's head.
    """
    head = join.suffix.headers[0]
    return (head.epoch if head is not None else 0), join.log_view


def _lowest(join: JoinView) -> int:
    return join.op - len(join.suffix.headers) + 1


def _has(join: JoinView, op: int, checksum: bytes | None) -> bool:
    header = header_at(join, op)
    return header is not None and header.checksum == checksum and bool(join.suffix.present >> (join.op - op) & 1)


def _denies(join: JoinView, op: int, checksum: bytes | None, newest: tuple[int, int]) -> bool:
    """Whether ``join`` proves that its member never acknowledged the op with ``checksum`` at ``op``."""
    if join.op < op:
        return True
    if join.suffix.nack >> (join.op - op) & 1:
        return True
    header = header_at(join, op)
    if header is None:
        return False
    if checksum is None:
        return _reign(join) < newest
    return header.checksum != checksum
