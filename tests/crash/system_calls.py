"""System calls of SQLite that fail: what the operating system says, below every VFS.

SQLite's unix VFS calls the system through a table whose entries can be replaced (``xSetSystemCall``, made for such
tests, https://www.sqlite.org/c3ref/vfs.html). So a failure is what it is in life: -1 and ``errno``, with no
exception of Python on its way, and the shared memory of the WAL is within reach. fsync is not in that table; the VFS of
:mod:`tests.crash.faults` has it.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_char_p, c_int, c_longlong, c_size_t, c_ssize_t, c_uint, c_void_p
from typing import TYPE_CHECKING, Any, Self

import apsw

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.faults import Faults

# Name: what it returns, what it takes, what it returns when it fails, and with what it may fail.
_IO = (errno.EIO, errno.ENOSPC)
_MAP_FAILED = ctypes.c_void_p(-1).value
_CALLS: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "open": (c_int, (c_char_p, c_int, c_int), -1),
    "access": (c_int, (c_char_p, c_int), -1),
    "ftruncate": (c_int, (c_int, c_longlong), -1),
    "pread64": (c_ssize_t, (c_int, c_void_p, c_size_t, c_longlong), -1),
    "pwrite64": (c_ssize_t, (c_int, c_void_p, c_size_t, c_longlong), -1),
    "unlink": (c_int, (c_char_p,), -1),
    "openDirectory": (c_int, (c_char_p, c_void_p), apsw.SQLITE_CANTOPEN),
    "mmap": (c_void_p, (c_void_p, c_size_t, c_int, c_int, c_int, c_longlong), _MAP_FAILED),
    "fchmod": (c_int, (c_int, c_uint), -1),
}


class SystemCalls:
    """While it is entered, SQLite's system calls go through ``faults``."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._vfs = apsw.VFS("system calls", "unix")
        self._before: dict[str, int] = {}
        self._callbacks: list[Any] = []

    def __enter__(self) -> Self:
        for name, (result, arguments, failure) in _CALLS.items():
            address = self._vfs.xGetSystemCall(name)
            assert address, name
            kind = ctypes.CFUNCTYPE(result, *arguments, use_errno=True)
            callback = kind(self._counted(name, kind(address), failure))
            self._before[name] = address
            self._callbacks.append(callback)
            self._vfs.xSetSystemCall(name, ctypes.cast(callback, c_void_p).value)
        return self

    def __exit__(self, *_: object) -> None:
        for name, address in self._before.items():
            self._vfs.xSetSystemCall(name, address)
        self._vfs.unregister()

    def _counted(self, name: str, inner: Callable[..., Any], failure: Any) -> Callable[..., Any]:
        faults = self._faults

        def call(*arguments: Any) -> Any:
            if faults.hit(name):
                if name == "pwrite64" and faults.number == errno.ENOSPC and arguments[2] > 1:
                    # A disk that fills up takes what fits first.
                    return inner(arguments[0], arguments[1], arguments[2] // 2, arguments[3])
                ctypes.set_errno(faults.number)
                return failure
            return inner(*arguments)

        return call
