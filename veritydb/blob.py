"""Incremental blob I/O: ``sqlite3.Blob`` over a blob handle of the session, whose writes are captured.

The handle that :meth:`Session.blob_open` gives reads and writes at offsets; position, slices and the checks are here.
"""

# The connection and its blobs are one thing in two files, and look into each other.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, SupportsIndex

from veritydb.constants import SQLITE_ABORT, SQLITE_READONLY
from veritydb.errors import OperationalError, ProgrammingError

if TYPE_CHECKING:
    from typing import Self

    from veritydb.connection import Connection

_OFFSET_MAX = 2**31 - 1


class Handle(Protocol):
    """What the session opens for one value."""

    @property
    def length(self) -> int:
        """The number of bytes, which never changes."""
        ...

    readonly: bool
    """Whether it was opened for reading only."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``."""
        ...

    def close(self) -> None:
        """Give the handle back."""
        ...


class _Expired:
    """What is left of a handle whose row has changed."""

    length = 0
    readonly = False

    def read(self, offset: int, length: int) -> bytes:
        """Return nothing: there is nothing."""
        return b""

    def write(self, offset: int, data: bytes) -> None:
        """Take nothing: nothing fits."""

    def close(self) -> None:
        """Do nothing."""


_EXPIRED = _Expired()


class Blob:
    """A value that is read and written in place, like a file of fixed length. Made by :meth:`Connection.blobopen`."""

    __slots__ = ("__weakref__", "_connection", "_handle", "_position")

    _connection: Connection
    _handle: Handle | None
    _position: int

    def __new__(cls, *_: object, **__: object) -> Self:
        """Refuse, as it is not made by calling it."""
        raise TypeError(f"cannot create 'veritydb.{cls.__name__}' instances")

    # Like a file ------------------------------------------------------------------------------------------------------

    def read(self, length: int = -1, /) -> bytes:
        """Return at most ``length`` bytes from the current position on; all of the rest if negative."""
        handle = self._opened()
        left = handle.length - self._position
        length = left if length < 0 else min(length, left)
        if length == 0:
            return b""
        data: bytes = self._tried(lambda: handle.read(self._position, length))
        self._position += length
        return data

    def write(self, data: Any, /) -> None:
        """Write ``data`` at the current position; a blob cannot grow."""
        written = _bytes_of(data)
        self._opened()
        self._write(self._position, written)
        self._position += len(written)

    def seek(self, offset: int, origin: int = os.SEEK_SET, /) -> None:
        """Set the current position, relative to start, current position or end."""
        length = self._opened().length
        if not -_OFFSET_MAX - 1 <= offset <= _OFFSET_MAX:
            raise OverflowError("Python int too large to convert to C int")
        if origin == os.SEEK_CUR:
            base = self._position
        elif origin == os.SEEK_END:
            base = length
        elif origin == os.SEEK_SET:
            base = 0
        else:
            raise ValueError("'origin' should be os.SEEK_SET, os.SEEK_CUR, or os.SEEK_END")
        if base and offset > _OFFSET_MAX - base:
            raise OverflowError("seek offset results in overflow")
        if not 0 <= base + offset <= length:
            raise ValueError("offset out of blob range")
        self._position = base + offset

    def tell(self) -> int:
        """Return the current position."""
        self._opened()
        return self._position

    def close(self) -> None:
        """Close the blob; it cannot be used any more."""
        self._connection._check()
        handle, self._handle = self._handle, None
        if handle is not None:
            self._tried(handle.close)

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened()
        self.close()

    # Like a sequence --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._opened().length

    def __getitem__(self, key: int | slice, /) -> Any:
        handle = self._opened()
        if isinstance(key, slice):
            start, stop, step = _indices(key, handle.length)
            covered = len(range(start, stop, step))
            if covered == 0:
                return b""
            if step == 1:
                return self._tried(lambda: handle.read(start, stop - start))
            low, high = _span(start, step, covered)
            data = self._tried(lambda: handle.read(low, high - low))
            return bytes([data[position - low] for position in range(start, stop, step)])
        position = self._index(key)
        return self._tried(lambda: handle.read(position, 1))[0]

    def __setitem__(self, key: int | slice, value: Any, /) -> None:
        handle = self._opened()
        if isinstance(key, slice):
            self._set_slice(handle, key, value)
            return
        position = self._index(key)
        try:
            number = index(value)
        except TypeError:
            raise TypeError(f"{type(value).__name__!r} object cannot be interpreted as an integer") from None
        if not 0 <= number <= 255:
            raise ValueError("byte must be in range(0, 256)")
        self._write(position, bytes([number]))

    def __delitem__(self, key: int | slice, /) -> NoReturn:
        self._opened()
        if isinstance(key, slice):
            raise TypeError("Blob doesn't support slice deletion")
        raise TypeError("Blob doesn't support item deletion")

    # It is not to be iterated over, although it has a length and items.
    __iter__ = None

    def _set_slice(self, handle: Handle, key: slice, value: Any) -> None:
        start, stop, step = _indices(key, handle.length)
        covered = len(range(start, stop, step))
        data = _bytes_of(value)
        if len(data) != covered:
            raise IndexError("Blob slice assignment is wrong size")
        if covered == 0:
            return
        if step == 1:
            self._write(start, data)
            return
        low, high = _span(start, step, covered)
        whole = bytearray(self._tried(lambda: handle.read(low, high - low)))
        for number, position in enumerate(range(start, stop, step)):
            whole[position - low] = data[number]
        self._write(low, bytes(whole))

    # Inside -----------------------------------------------------------------------------------------------------------

    def _index(self, key: object) -> int:
        if not isinstance(key, SupportsIndex):
            raise TypeError("Blob indices must be integers")
        position = index(key)
        if position.bit_length() > 63:
            raise IndexError("cannot fit 'int' into an index-sized integer")
        length = self._opened().length
        if position < 0:
            position += length
        if not 0 <= position < length:
            raise IndexError("Blob index out of range")
        return position

    def _write(self, offset: int, data: bytes) -> None:
        handle = self._opened()
        if len(data) > handle.length - offset:
            raise ValueError("data longer than blob length")
        if handle.readonly:
            error = OperationalError("attempt to write a readonly database")
            error.sqlite_errorcode, error.sqlite_errorname = SQLITE_READONLY, "SQLITE_READONLY"
            raise error
        self._tried(lambda: handle.write(offset, data))

    def _tried(self, use: Callable[[], Any]) -> Any:
        try:
            return use()
        except OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_ABORT:
                self._handle = _EXPIRED  # The row has changed. SQLite says so once; then the blob has no bytes.
            raise

    def _opened(self) -> Handle:
        self._connection._check()
        if self._handle is None:
            raise ProgrammingError("Cannot operate on a closed blob.")
        return self._handle

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("cannot pickle 'veritydb.Blob' object")


def blob(connection: Connection, handle: Handle) -> Blob:
    """Return a Blob over ``handle``."""
    made = object.__new__(Blob)
    made._connection = connection
    made._handle = handle
    made._position = 0
    return made


def _bytes_of(value: Any) -> bytes:
    try:
        view = memoryview(value)
    except TypeError as error:
        raise TypeError(str(error).removeprefix("memoryview: ")) from None
    with view:
        if not view.c_contiguous:
            raise BufferError("memoryview: underlying buffer is not C-contiguous")
        return view.tobytes()


def _indices(key: slice, length: int) -> tuple[int, int, int]:
    for bound in (key.start, key.stop, key.step):
        if bound is not None and not isinstance(bound, SupportsIndex):
            raise TypeError("slice indices must be integers or None or have an __index__ method")
    return key.indices(length)


def _span(start: int, step: int, covered: int) -> tuple[int, int]:
    last = start + step * (covered - 1)
    return min(start, last), max(start, last) + 1


Blob.__module__ = "veritydb"
