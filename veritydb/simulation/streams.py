"""What one stream must look like to its clients: the object that histories are explained by.

It is written from the promises in ``docs/internals/vsr.md`` and the docstrings of :mod:`veritydb.kernel`, and shares no
code with the kernel: a record is appended if it builds on the head; an id is committed once, or forbidden for ever; a
read gives the head.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from veritydb.kernel.replies import (
    Appended,
    Conflict,
    Created,
    Forbidden,
    Forgotten,
    Known,
    Refusal,
    Refused,
)


class Create(NamedTuple):
    """Make the stream."""


class Add(NamedTuple):
    """Append a record."""

    ids: tuple[bytes, ...]
    """Of its transactions, in order."""
    offset: int
    before: bytes
    hash: bytes


class Ask(NamedTuple):
    """Resolve an id."""

    id: bytes


class Look(NamedTuple):
    """Read where the stream ends."""


class Head(NamedTuple):
    """What a read gave."""

    known: bool
    next_offset: int
    hash: bytes


class Content(NamedTuple):
    """A stream's state; None where there is no stream."""

    next_offset: int
    hash: bytes
    committed: frozenset[tuple[bytes, int, bytes]]
    """Ids with their offsets and their records' hashes."""
    forbidden: frozenset[bytes]


_EMPTY = Content(0, bytes(32), frozenset(), frozenset())


class Stream:
    """The model of one stream."""

    def initial(self) -> Any:
        """Return the state of a stream that does not exist."""
        return "none"

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        """Return the state afterwards, or None if the answer is not one that a stream gives."""
        after, expected = self._do(state, asked)
        if not known or answer == expected:
            return after
        if isinstance(answer, Forgotten):
            return state  # The table's bound is the kernel's business; it says that it does not know, and that is true.
        if isinstance(answer, Refused) and answer.reason == Refusal.BUSY:
            return state
        return None

    def _do(self, state: Any, asked: Any) -> tuple[Any, Any]:
        if isinstance(asked, Create):
            return (_EMPTY, False) if state == "none" else (state, True)
        if state == "none":
            return state, Head(False, 0, bytes(32)) if isinstance(asked, Look) else Refused(Refusal.STREAM_UNKNOWN)
        if isinstance(asked, Look):
            return state, Head(True, state.next_offset, state.hash)
        if isinstance(asked, Ask):
            found = _find(state, asked.id)
            if found is None:
                return state._replace(forbidden=state.forbidden | {asked.id}), Forbidden(asked.id)
            return state, found
        return self._add(state, asked)

    def _add(self, state: Content, asked: Add) -> tuple[Content, Any]:
        for id_ in asked.ids:
            found = _find(state, id_)
            if found is not None:
                return state, found
        if (asked.offset, asked.before) != (state.next_offset, state.hash):
            return state, Conflict(state.next_offset, state.hash)
        following = asked.offset + len(asked.ids)
        added = {(id_, asked.offset + number, asked.hash) for number, id_ in enumerate(asked.ids)}
        after = Content(following, asked.hash, state.committed | added, state.forbidden)
        return after, Appended(asked.offset, following, asked.hash)


def _find(state: Content, id_: bytes) -> Known | Forbidden | None:
    if id_ in state.forbidden:
        return Forbidden(id_)
    for committed, offset, hash_ in state.committed:
        if committed == id_:
            return Known(id_, offset, hash_)
    return None


def as_output(reply: Any) -> Any:
    """Return a kernel's reply as this model gives it."""
    return reply.existed if isinstance(reply, Created) else reply
