"""What happens on the stage, in words: effects, messages, and where members are. :mod:`tests.support.stage` asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from veritydb.vsr.effects import Write, Zone
from veritydb.vsr.entry import HEADER_SIZE, Header, read_header
from veritydb.vsr.messages import Evicted, ReadReply, Reconfigured, Redirect, Reply
from veritydb.vsr.replica import Replica
from veritydb.vsr.superblock import COPIES, as_copy, open_copies


def message(what: Any) -> str:
    """Say what a member tells another one."""
    kind = type(what).__name__
    told = _TOLD.get(kind)
    return f"{kind} {told(what)}".rstrip() if told is not None else kind


def where(replica: Replica | None) -> str:
    """Say where a member is."""
    if replica is None:
        return "down"
    if replica.halted is not None:
        return f"halted: {replica.halted}"
    parts = [replica.status.name.lower().replace("_", " ")]
    if replica.is_primary and replica.is_voter and replica.status == 1:
        parts[0] = "primary"
    if not replica.is_voter:
        parts[0] = "learner" if replica.epoch == 0 else "no member"
    parts.append(f"view {replica.view}")
    if replica.log_view != replica.view:
        parts.append(f"log of view {replica.log_view}")
    parts += [f"log to {name(replica.headers[replica.head])}", f"committed {replica.commit_max}"]
    if replica.commit_min != replica.commit_max:
        parts.append(f"applied {replica.commit_min}")
    if replica.epoch:
        parts.append(f"epoch {replica.epoch}")
    if replica.checkpoint.op:
        parts.append(f"checkpoint {replica.checkpoint.op}")
    missing = [op for op in sorted(replica._unwritten) if op not in replica.bodies]
    if missing:
        parts.append(f"lacks {', '.join(map(str, missing))}")
    if replica.stuck is not None:
        parts.append(f"stuck at op {replica.stuck}")
    if replica.awaited is not None:
        parts.append(f"waits for op {replica.awaited}")
    if replica._abdicating:
        parts.append("silent")
    return ", ".join(parts)


def name(header: Header | None) -> str:
    """Return ``op@view``."""
    return "?" if header is None else f"{header.op}@{header.view}"


def _names(headers: Iterable[Header | None]) -> str:
    return " ".join(map(name, headers))


def _suffix(message: Any) -> str:
    parts: list[str] = []
    for index, header in enumerate(message.suffix.headers):
        op = message.op - index
        text = name(header) if header is not None else f"{op}@?"
        here, denied = message.suffix.present >> index & 1, message.suffix.nack >> index & 1
        parts.append(text + (" here" if here else "") + (" denied" if denied else ""))
    return ", ".join(parts)


_TOLD: dict[str, Callable[[Any], str]] = {
    "Prepare": lambda m: (
        f"{name(m.entry.header)}, committed {m.commit_max}"
        + (f", in view {m.view}" if m.view != m.entry.header.view else "")
    ),
    "PrepareOk": lambda m: f"{m.op}, view {m.view}",
    "Commit": lambda m: f"{m.commit_max}, view {m.view}" + (", probe" if m.nonce else ""),
    "CommitAck": lambda m: f"view {m.view}",
    "ExitView": lambda m: f"{m.view}",
    "JoinView": lambda m: f"{m.view}: log of view {m.log_view}, committed {m.commit_max}: {_suffix(m)}",
    "StartView": lambda m: f"{m.view}: committed {m.commit_max}: {_names(m.headers)}",
    "GetView": lambda m: f"{m.view}",
    "GetHeaders": lambda m: f"{m.op_min} to {m.op_max}",
    "Headers": lambda m: _names(m.headers),
    "GetPrepare": lambda m: f"{m.op}",
    "Repair": lambda m: name(m.entry.header),
    "GetSnapshot": lambda m: f"from byte {m.offset}",
    "SnapshotChunk": lambda m: f"{m.offset} to {m.offset + len(m.data)} of {m.size}",
    "NewEpoch": lambda m: f"{m.epoch} is over: {_names(m.headers)}",
    "Ping": lambda m: f"view {m.view}, log to {m.op}",
    "Pong": lambda m: f"view {m.view}, log to {m.op}, heard {m.heard_view}",
}


def written(write: Write) -> str:
    """Say what is written."""
    if write.zone is Zone.SUPERBLOCK:
        block, _ = open_copies([as_copy(write.data, number) for number in range(COPIES)])
        return f"superblock: view {block.view}, log of view {block.log_view} to {name(block.headers[0])}" + (
            f", checkpoint {block.checkpoint.op}" if block.checkpoint.op else ""
        )
    if write.zone is Zone.SNAPSHOT:
        return "snapshot"
    if write.data.startswith(b"VSRBLANK"):
        return f"blank header in slot {write.key}"
    header = read_header(write.data[:HEADER_SIZE])
    return f"{write.zone.name.lower()} {name(header)}"


def answer(message: Any) -> str:
    """Say what a client is told."""
    if isinstance(message, Reply):
        return f"Reply to request {message.number}, op {message.op}"
    if isinstance(message, Redirect):
        return f"Redirect to {message.primary}"
    if isinstance(message, ReadReply):
        return f"ReadReply: op {message.op}"
    if isinstance(message, Reconfigured):
        return f"Reconfigured: {message.why or f'epoch {message.epoch}'}"
    assert isinstance(message, Evicted)
    return "Evicted"
