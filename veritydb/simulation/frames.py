"""Messages as the bytes that real nodes send, for the seeds that want it.

What is sent is encoded, what arrives is decoded by the receiver (:mod:`veritydb.vsr.wire`), and two things are asked: a
frame that nobody touched arrives as the message that was sent, and a frame that somebody did touch arrives as nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from veritydb.simulation.founding import CLUSTER
from veritydb.simulation.network import CLIENTS
from veritydb.simulation.violation import Violation

if TYPE_CHECKING:
    from veritydb.simulation.chance import Chance
    from veritydb.simulation.code import Code

_SECRET = b"of the simulated group, 32 bytes"
_ANOTHER = b"of another group which does not "


class Frame(NamedTuple):
    """A message under way."""

    message: Any
    """What was sent; only for the comparison."""
    data: bytes
    spoiled: str = ""
    """What was done to it."""


class Frames:
    """Encodes, decodes, and spoils."""

    def __init__(self, code: Code, chance: Chance) -> None:
        self._wire = code.wire
        self._chance = chance
        self._keys = code.wire.derive_keys(_SECRET)
        self._foreign = code.wire.derive_keys(_ANOTHER)
        self._wires: dict[int, Any] = {}
        self._last: Frame | None = None
        self.heard: dict[str, int] = {}
        """How many of each kind of spoiled frame were rightly not heard."""

    def make(self, message: Any) -> Frame:
        """Return a message as bytes. What goes to many is encoded once."""
        last = self._last
        if last is None or last.message is not message:
            last = self._last = Frame(message, self._wire.encode(message, cluster=CLUSTER, keys=self._keys))
        return last

    def spoil(self, frame: Frame) -> Frame:
        """Return the frame as somebody who has no key, or as bad luck, can make it."""
        chance, data = self._chance, frame.data
        kind = chance.below(6)
        if kind == 0:
            at = chance.below(len(data))
            return frame._replace(
                data=data[:at] + bytes([data[at] ^ 1 << chance.below(8)]) + data[at + 1 :], spoiled="flipped"
            )
        if kind == 1:
            return frame._replace(data=data[: chance.below(len(data))], spoiled="cut")
        if kind == 2:
            return frame._replace(data=data + chance.octets(8), spoiled="longer")
        if kind == 3:
            return frame._replace(data=chance.octets(len(data)), spoiled="noise")
        if kind == 4:
            cluster = b"another group..."
            data = self._wire.encode(frame.message, cluster=cluster, keys=self._keys)
            return frame._replace(data=data, spoiled="foreign")
        data = self._wire.encode(frame.message, cluster=CLUSTER, keys=self._foreign)
        return frame._replace(data=data, spoiled="forged")

    def hear(self, dst: int, frame: Frame) -> Any:
        """Return what arrives at ``dst``; None if nothing does."""
        wire = self._wires.get(dst)
        if wire is None:
            member = None if dst == CLIENTS else dst
            wire = self._wires[dst] = self._wire.Wire(cluster=CLUSTER, keys=self._keys, member=member)
        message = wire.decode(frame.data)
        if frame.spoiled:
            if message is not None:
                raise Violation("what is not exactly a message is not heard", f"{frame.spoiled}: {message}")
            self.heard[frame.spoiled] = self.heard.get(frame.spoiled, 0) + 1
        elif message != frame.message:
            raise Violation("a message arrives as it was sent", f"{frame.message} arrived as {message}")
        return message
