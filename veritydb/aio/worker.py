"""One thread that carries out calls in the order they come, and the tasks that wait for it.

A connection has one. When a task that waits is cancelled, its call is withdrawn if it has not begun. If it has, the
task goes on waiting until the call is over, and only then is it cancelled: so whoever catches the cancellation finds
the connection idle, and nothing happens behind its back. To make that wait short, a call may offer to be interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

Result = TypeVar("Result")


class _Call:
    """A call, the one who waits for it, and what came of it."""

    __slots__ = ("_token", "begun", "claim", "done", "error", "function", "may_interrupt", "result")

    def __init__(self, function: Callable[[], Any], may_interrupt: Callable[[], bool] | None) -> None:
        self.function = function
        self.may_interrupt = may_interrupt
        self.begun = False
        """It is running, and may be interrupted."""
        self.claim = [None]
        """Whoever takes what is in here decides: the thread begins the call, or the task withdraws it."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = anyio.Event()
        self._token: Any = anyio.lowlevel.current_token().native_token

    def carry_out(self) -> None:
        """Run it, and wake the one who waits."""
        try:
            self.claim.pop()
        except IndexError:
            return
        try:
            self.begun = self.may_interrupt is not None and self.may_interrupt()
            self.result = self.function()
        except BaseException as error:
            self.error = error
        self.begun = False
        token = self._token
        soon = token.call_soon_threadsafe if hasattr(token, "call_soon_threadsafe") else token.run_sync_soon
        try:
            soon(self.done.set)
        except RuntimeError:
            pass  # The event loop is closed; nobody waits any more.


class Worker:
    """A thread and its queue. The thread is started by the first call, and ends with :meth:`stop`."""

    __slots__ = ("_calls", "_stopped", "_thread")

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether no more calls are taken."""
        return self._stopped

    async def run(
        self,
        function: Callable[[], Result],
        *,
        interrupt: Callable[[], object] | None = None,
        may_interrupt: Callable[[], bool] | None = None,
    ) -> Result:
        """Return what ``function()`` returns in the thread, or raise what it raises.

        ``may_interrupt``, asked in the thread before the call, says whether ``interrupt()`` would lose nothing.
        """
        call = _Call(function, may_interrupt)
        self._start()
        self._calls.put(call)
        try:
            await call.done.wait()
        except BaseException:
            try:
                call.claim.pop()
            except IndexError:
                if call.begun and interrupt is not None:
                    interrupt()
                with anyio.CancelScope(shield=True):
                    await call.done.wait()
            raise
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call  # The traceback holds this frame, and the frame would hold the error.
        return cast("Result", call.result)

    def stop(self, last: Callable[[], object]) -> Ending:
        """Take no more calls; once those that came before are done, run ``last`` in the thread and end it."""
        if not self._stopped:
            self._stopped = True
            if self._thread is not None:
                self._calls.put(last)
                self._calls.put(None)
        return Ending(self._thread)

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, so that a connection that nobody closed does not keep the program from ending. What it would
            # have committed is either in the log, or was never reported as committed.
            self._thread = threading.Thread(target=_work, args=(self._calls,), name="veritydb.aio", daemon=True)
            self._thread.start()


class Ending:
    """Awaited, it waits for the end of a thread; nobody has to."""

    __slots__ = ("_thread",)

    def __init__(self, thread: threading.Thread | None) -> None:
        self._thread = thread

    def __await__(self) -> Generator[Any, Any, None]:
        return self._ended().__await__()

    async def _ended(self) -> None:
        if self._thread is not None:
            await anyio.to_thread.run_sync(self._thread.join)


def _work(calls: SimpleQueue[_Call | Callable[[], object] | None]) -> None:
    # Knows the queue and not the worker, so that a connection nobody refers to can go while its thread waits.
    while True:
        call = calls.get()
        if call is None:
            return
        if isinstance(call, _Call):
            call.carry_out()
        else:
            call()
        del call
