"""The thread in which the event loop of NATS's client library runs, for callers that wait in their own.

A commit hook blocks: the program's thread waits for the stream anyway. The library speaks asyncio, so one daemon thread
of the process has a loop, and :func:`wait` hands it a coroutine and waits for what comes of it. A forked child has no
such thread and begins another.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def begin(coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
    """Have a coroutine run in the loop's thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, _running())


def wait(future: concurrent.futures.Future[_T], seconds: float) -> _T:
    """Return what came of it. If the wait is over, interrupted, or ``future`` cancelled elsewhere, it does not go on.

    Raises TimeoutError: it is in the caller's hand, not the library's, that a commit does not wait for ever.
    """
    try:
        return future.result(seconds)
    except BaseException:
        future.cancel()
        raise


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="veritydb-nats", daemon=True).start()
        return _loop


def _forget() -> None:
    global _lock, _loop
    _lock = threading.Lock()
    _loop = None


os.register_at_fork(after_in_child=_forget)
