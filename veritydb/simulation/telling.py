"""A run as text: one line for whatever happened, in words a person can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from veritydb.vsr.effects import Zone

if TYPE_CHECKING:
    from collections.abc import Callable


def say(what: Any) -> str:
    """Return an event, an effect or a message in a few words."""
    name = type(what).__name__
    teller = _WORDS.get(name)
    if teller is not None:
        return teller(what)
    fields: dict[str, Any] | None = what._asdict() if hasattr(what, "_asdict") else None
    if fields is not None:
        return f"{name}({', '.join(f'{field}={_short(value)}' for field, value in fields.items())})"
    return str(what)


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:3].hex()
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _place(zone: int, key: Any) -> str:
    name = Zone(zone).name.lower()
    return name if zone == Zone.SUPERBLOCK else f"{name} {_short(key)}"


def _suffix(message: Any) -> str:
    parts: list[str] = []
    for index, header in enumerate(message.suffix.headers):
        present = message.suffix.present >> index & 1
        denied = message.suffix.nack >> index & 1
        what = "?" if header is None else f"v{header.view}.{header.checksum.hex()[:4]}"
        parts.append(f"{message.op - index}:{what}{'+' if present else ''}{'-' if denied else ''}")
    return " ".join(parts)


def _headers(headers: Any) -> str:
    return " ".join(f"{header.op}:v{header.view}.{header.checksum.hex()[:4]}" for header in headers)


_WORDS: dict[str, Callable[[Any], str]] = {
    "Tick": lambda _: "tick",
    "Arrived": lambda event: f"hears {say(event.message)}",
    "WriteDone": lambda event: f"write {event.token} {'done' if event.ok else 'FAILED'}",
    "ReadDone": lambda event: f"read {event.token} {'done' if event.data is not None else 'impossible'}",
    "Retained": lambda event: f"outputs kept to op {event.op}",
    "Send": lambda effect: f"to {effect.dst}: {say(effect.message)}",
    "Answer": lambda effect: f"to client: {say(effect.message)}",
    "Write": lambda effect: f"write {effect.token}: {_place(effect.zone, effect.key)}",
    "Read": lambda effect: f"read {effect.token}: {_place(effect.zone, effect.key)}",
    "Remove": lambda effect: f"remove {_place(effect.zone, effect.key)}",
    "Committed": lambda effect: f"op {effect.header.op} applied, {len(effect.outputs)} results",
    "Halt": lambda effect: f"HALT: {effect.reason}",
    "Request": lambda message: f"Request {message.number} of {message.client.hex()[:4]}",
    "Reply": lambda message: f"Reply {message.number} to {message.client.hex()[:4]}, op {message.op}",
    "Evicted": lambda message: f"Evicted {message.client.hex()[:4]}, session {message.session}",
    "Redirect": lambda message: f"Redirect {message.client.hex()[:4]} to {message.primary}",
    "ReadRequest": lambda message: f"ReadRequest {message.number} of {message.client.hex()[:4]}",
    "ReadReply": lambda message: f"ReadReply {message.number} to {message.client.hex()[:4]}: op {message.op}",
    "Prepare": lambda message: (
        f"Prepare v{message.view} op {message.entry.header.op} "
        f"(v{message.entry.header.view}.{message.entry.header.checksum.hex()[:4]}) commit {message.commit_max}"
    ),
    "PrepareOk": lambda message: f"PrepareOk v{message.view} op {message.op} ({message.checksum.hex()[:4]})",
    "Commit": lambda message: (
        f"Commit v{message.view} to op {message.commit_max}" + (f", probe {message.nonce}" if message.nonce else "")
    ),
    "CommitAck": lambda message: f"CommitAck v{message.view} probe {message.nonce}",
    "ExitView": lambda message: f"ExitView v{message.view}",
    "JoinView": lambda message: (
        f"JoinView v{message.view}: log of v{message.log_view} to op {message.op}, commit {message.commit_min}/"
        f"{message.commit_max}, {_suffix(message)}"
    ),
    "StartView": lambda message: (
        f"StartView v{message.view}: to op {message.op}, commit {message.commit_max}, {_headers(message.headers)}"
    ),
    "GetView": lambda message: f"GetView v{message.view}",
    "GetHeaders": lambda message: f"GetHeaders {message.op_min}..{message.op_max}",
    "Headers": lambda message: f"Headers {_headers(message.headers)}",
    "GetPrepare": lambda message: f"GetPrepare op {message.op} ({message.checksum.hex()[:4]})",
    "Repair": lambda message: f"Repair op {message.entry.header.op} ({message.entry.header.checksum.hex()[:4]})",
    "GetSnapshot": lambda message: f"GetSnapshot {message.root.hex()[:4]} from {message.offset}",
    "SnapshotChunk": lambda message: (
        f"SnapshotChunk {message.root.hex()[:4]} {message.offset}+{len(message.data)} of {message.size}"
    ),
    "Ping": lambda message: f"Ping v{message.view}/{message.log_view} op {message.op}, commit {message.commit_max}",
    "Pong": lambda message: f"Pong v{message.view}/{message.log_view} op {message.op}, commit {message.commit_max}",
}


class Telling:
    """Writes lines, as things happen."""

    def __init__(self, write: Callable[[str], object], *, ticks: bool = False, since: int = 0) -> None:
        self._write = write
        self._ticks = ticks
        self._since = since

    def tell(self, time: int, member: int, kind: str, what: Any) -> None:
        """Something has happened at a member."""
        if time < self._since:
            return
        words = say(what)
        if kind == "event":
            if words != "tick" or self._ticks:
                self._write(f"{time / 1e6:11.6f} {member} | {words}")
        elif kind == "effect":
            self._write(f"{time / 1e6:11.6f} {member} |    -> {words}")
        else:
            self._write(f"{time / 1e6:11.6f} {member} # {kind} {words}")

    def carry(self, sent: int, arrived: int, src: int, dst: int, message: Any) -> None:
        """A message has arrived: the event says so."""
