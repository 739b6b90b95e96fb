"""Reading Cap'n Proto messages that may be forged or rotten.

One border for all of them: what Cap'n Proto finds wrong becomes LogDamaged, and no more may be read than twice what is
there, so that pointers to one place cannot make many values of few bytes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from veritydb.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@cache
def kj_exception() -> type[Exception]:
    """Return the class of what Cap'n Proto raises. Imported at its first use, as :mod:`veritydb.schemas` says."""
    import capnp

    library: Any = capnp  # It has no types.
    kind: type[Exception] = library.KjException
    return kind


def read_message(struct: Any, data: bytes, what: str, read: Callable[[Any], T]) -> T:
    """Return ``read`` of the message ``data``, whose root is a ``struct``; ``what`` it is, for the error's text.

    ``read`` gets a reader that it must not keep, and asks for each field once. Raises LogDamaged.
    """
    try:
        # Every list and struct counts when it is asked for. So does, once more, what a pointer into another segment
        # goes by: a message of several segments comes to more words than it has, and to less than twice as many.
        with struct.from_bytes(data, traversal_limit_in_words=len(data) // 4) as message:
            return read(message)
    except BaseException as error:
        _forget_readers(error)
        # ValueError: a length that is no multiple of a word, text that is not UTF-8.
        if isinstance(error, (kj_exception(), ValueError)):
            # Cap'n Proto's text goes on with a stack of addresses.
            reason = str(error).partition("\n")[0]
            raise LogDamaged(f"{what} is not what was written: {reason}") from error
        raise
    finally:
        message = None


def _forget_readers(error: BaseException) -> None:
    """Clear the variables of the frames through which ``error`` came.

    Readers are among them, and showing one whose limit is used up ends the whole process: its ``repr`` throws through
    code that cannot (pycapnp 2.2). Error pages and test runners show variables.
    """
    import traceback

    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
