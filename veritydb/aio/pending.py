"""What ``cursor()`` and ``execute()`` return: something to await, or to enter with ``async with``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

Made = TypeVar("Made")


class Pending(Coroutine[Any, Any, Made], Generic[Made]):
    """A coroutine whose result, if it is entered, is closed at the end of the ``async with``."""

    __slots__ = ("_coroutine", "_made")

    def __init__(self, coroutine: Coroutine[Any, Any, Made]) -> None:
        self._coroutine = coroutine
        self._made: Any = None

    def __await__(self) -> Generator[Any, Any, Made]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """As any coroutine's."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """As any coroutine's."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """As any coroutine's."""
        self._coroutine.close()

    async def __aenter__(self) -> Made:
        self._made = await self._coroutine
        return self._made  # type: ignore[no-any-return]  # the below has no type

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close = getattr(self._made, "aclose", None) or getattr(self._made, "close", None)
        if close is not None:
            await close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        made: Any = await self._coroutine
        async for each in made:
            yield each
