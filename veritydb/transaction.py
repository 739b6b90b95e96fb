"""One connection's transactions: join, sync, commit, and what became of it.

:class:`Transactions` is the client of the capture hooks (:mod:`veritydb.hooks`): SQLite tells it of the coming commit
(:meth:`on_sync`), asks it for leave (:meth:`on_commit`), and it answers once the record is durable in the log. The
session (:mod:`veritydb.session`) drives it: :meth:`join` before a transaction's first change, :meth:`finish` to commit.

The order is the product (docs/internals/architecture.md)::

    join    witness enters (SQLite's write lock) -> log's lock -> file and log compared, redo if the log is ahead
    change  the hooks fill the change buffer
    sync    late rows, sequences; the AppliedIndex is written in the same SQLite transaction
    hook    encode, seal, append, wait until durable; a failure vetoes the commit
    after   whatever COMMIT raised: is our record in the log? Then it is committed, and the file follows

Lock order: SQLite's write lock, then the log's; released after COMMIT or ROLLBACK.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import apsw

from veritydb import applied
from veritydb.codec import encode_rows
from veritydb.counters import Counters
from veritydb.errors import (
    CaptureError,
    ConflictError,
    DatabaseError,
    LogMismatch,
    LogUnavailable,
    OperationalError,
    OutcomeUnknown,
    StaleSnapshot,
)
from veritydb.events import Event
from veritydb.hooks.capture import Capture
from veritydb.log import Replicator
from veritydb.log.lock import LogBusy
from veritydb.planner import Planner
from veritydb.publishing import topic_of
from veritydb.records import Spilled, Writer, one_transaction
from veritydb.recovery import Recovery
from veritydb.translation import translated

_pack = applied.pack
_SELECT_APPLIED = applied.SELECT
_TABLE = applied.TABLE
_PROGRESS = "veritydb program's progress handler"
_T = TypeVar("_T")


class Transactions:
    """The write side of one connection."""

    def __init__(
        self,
        db: apsw.Connection,
        planner: Planner,
        log: Replicator,
        writer: Writer,
        recovery: Recovery,
        *,
        path: str,
        folder: Path | None,
        timeout: float,
        reader: Callable[[], apsw.Connection | None],
    ) -> None:
        self._db = db
        self._planner = planner
        self._log = log
        self._writer = writer
        self._recovery = recovery
        self._path = path
        self._folder = folder
        self.timeout = timeout
        self._reader = reader
        self._inode = _inode(path) if path else 0
        self._control = db.cursor()
        self._inner = db.cursor()
        self._applied: bytes | None = None
        """The AppliedIndex last known to agree with ``_agreed``, as stored."""
        self._agreed: object = None
        self._version: int | None = None
        """SQLite's number of the file's state in which that was stored."""
        self._pending: bytes | None = None
        self._identity: bytes | None = None
        self._spilled: Spilled | None = None
        self._appending = False
        self._expected = 0
        """Next offset of the log once our record is in it."""
        self._failure: BaseException | None = None
        self._active = False
        """Whether we hold the log's lock for the open transaction."""
        self.broken: BaseException | None = None
        """Set when the fate of a transaction could not be told: nothing is written any more."""
        self.begun: str | None = None
        """The BEGIN that opened the open transaction; None if a SAVEPOINT did."""
        self.actor = ""
        self.reason = ""
        self.said = ("", "")
        """Actor and reason of the open transaction: what held when it joined, or was set since."""
        self.last_offset: int | None = None
        self.topic = topic_of(str(folder) if folder is not None else path or ":memory:", log.stream)
        """Whom to tell of a commit."""
        self.after_commit: Callable[[int], object] | None = None
        """Called with the offset of what this connection has committed; must not raise."""
        self.progress: tuple[Callable[[], bool], int] | None = None
        """The program's progress handler, and after how many instructions it is called."""
        self.counters = Counters(db)
        self.capture = Capture(db, self, _Overflow(self), quiet=planner, callbacks=planner.callbacks)

    # What the session drives ------------------------------------------------------------------------------------------

    def join(self, *, untouched: bool = False) -> None:
        """Enter the witness into the open SQLite transaction, before its first change.

        ``untouched`` says that nothing was read since its BEGIN, which SQLite itself can only tell of a BEGIN that took
        no lock. Raises OperationalError (locked), StaleSnapshot, LogUnavailable, LogMismatch; then nothing of this
        statement has happened, and the SQLite transaction is as it was or rolled back, as SQLite would have left it.
        """
        if self.broken is not None:
            raise OutcomeUnknown("an earlier commit's fate is unknown; open a new connection") from self.broken
        planner = self._planner
        capture = self.capture
        self._failure = None
        if self._active:
            self._reset()  # An interruption came between a commit and the lines that note it.
        untouched = untouched or self._db.txn_state("main") == apsw.SQLITE_TXN_NONE
        changes = self.counters.current()
        planner.internal += 1
        try:
            capture.join()
            self.counters.hold(changes)
            log = self._log
            log.acquire(self.timeout)
            self._active = True
            self.said = (self.actor, self.reason)
            # In the state that our last commit left, the row says what that commit wrote.
            stored = self._applied
            if capture.version != self._version:
                stored = self._inner.execute(_SELECT_APPLIED).get
            if stored != self._applied or log.head is not self._agreed or log.torn is not None:
                self._compare(stored, untouched=untouched)
            elif self._path and _inode(self._path) != self._inode:
                raise LogMismatch(f"{self._path} was moved or replaced under this connection; open it again")
        except BaseException:
            planner.internal -= 1
            self._leave()
            self.counters.hold(changes)
            raise
        planner.internal -= 1

    def join_tail(self) -> None:
        """Let a witness join behind the virtual tables that have joined."""
        self._planner.internal += 1
        try:
            changes = self.counters.current()
            self._as_writer(self.capture.join_tail)
            self.counters.hold(changes)
        finally:
            self._planner.internal -= 1

    def settle_early(self) -> None:
        """Have late rows logged that cannot be in the commit; no counter shows it."""
        if self.capture.virtual_joined:
            self.capture.drain()  # What it writes of its index is the program's, and counts.
        with self.counters.kept():
            self.capture.settle_early()

    def _open_applied(self) -> apsw.Blob:
        return self._db.blob_open("main", _TABLE, "applied", 1, True)

    def _as_writer(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except apsw.ReadOnlyError:
            # Rows that were changed before PRAGMA query_only was set are committed all the same.
            if not self._inner.execute("PRAGMA query_only").get:
                raise
        self._inner.execute("PRAGMA query_only = 0")
        try:
            return call()
        finally:
            self._inner.execute("PRAGMA query_only = 1")

    def finish(self, sql: str = "COMMIT") -> None:
        """Run ``sql``, which commits or may commit (COMMIT, END, RELEASE), and see it through.

        Returns if the transaction is in the log and in the file (or if the savepoint was an inner one). Raises what
        SQLite raised if it stays open (BUSY, a deferred key), the true cause if it was rolled back, OutcomeUnknown.
        """
        active = self._active  # An error that rolls everything back has reset it by the time it arrives here.
        ours = active or self.capture.poison is not None  # What was refused before it joined is refused for a reason.
        try:
            if self.capture.tail_due:
                self.join_tail()  # Behind all virtual tables: it hears of the commit when they have written.
            if self.capture.settlement_due:
                self.settle_early()
            self._control.execute(sql)
        except BaseException as error:
            self.capture.unwind(None, error)  # No callback comes while an exception of Python's is on its way.
            if not ours:
                if isinstance(error, apsw.Error):
                    raise translated(error) from error
                raise
            self._after_failure(error)
            return
        if self._active:
            if not self._db.in_transaction:
                if self._pending is not None:
                    self._applied = self._pending
                    self._agreed = head = self._log.head
                    self.last_offset = head.next_offset - 1
                    if self._path:  # Connections to one database in memory count together, at any time.
                        self._version = self.capture.committed()
                    self._reset()
                    if self.topic.notify is not None:
                        self.topic.publish(head.next_offset)
                    if self.after_commit is not None:
                        self.after_commit(head.next_offset - 1)
                    return
                self._reset()
        elif active:
            # An I/O error inside Sync made SQLite roll back, and what then was committed was nothing.
            self._after_failure(self.capture.refusal or CaptureError("SQLite rolled the transaction back"))

    def say(self, actor: str, reason: str) -> None:
        """Set who acts and why, now and from now on; an empty word takes nothing back from the open transaction."""
        self.actor, self.reason = actor, reason
        if self._active:
            self.said = (actor or self.said[0], reason or self.said[1])

    def rollback(self) -> None:
        """Roll the open SQLite transaction back, if there is one."""
        if self._db.in_transaction:
            self._control.execute("ROLLBACK")
        if self._active:
            self._reset()

    def settle(self) -> None:
        """After a statement that ended the transaction by itself (OR ROLLBACK, FULL, interrupt): forget it."""
        if self._active and not self._db.in_transaction:
            self._reset()

    def interrupted(self) -> None:
        """Finish what a signal's exception may have left between two steps; everything here may be done twice."""
        self.capture.interrupted()
        self._restore_progress_handler()
        self._inner.execute("")  # A statement that has not been read to its end would keep its lock.
        if not self._db.in_transaction:
            self._reset()

    def close(self) -> None:
        """Roll back what is open; the connection is about to close, which rolls back what this cannot."""
        with contextlib.suppress(apsw.Error):  # A progress handler may interrupt a ROLLBACK.
            self.rollback()

    def set_progress_handler(self, handler: Callable[[], bool] | None, steps: int) -> None:
        """Have ``handler`` called every ``steps`` instructions, but not while the file follows the log."""
        self._db.set_progress_handler(handler, steps, id=_PROGRESS)
        self.progress = None if handler is None else (handler, steps)

    def _restore_progress_handler(self) -> None:
        if self.progress is not None:
            self._db.set_progress_handler(*self.progress, id=_PROGRESS)

    # What the hooks call ----------------------------------------------------------------------------------------------

    def on_sync(self) -> None:
        """Write the AppliedIndex into the committing transaction. Runs for every commit route, perhaps twice."""
        if not self.capture.announced:
            return
        log = self._log
        segment, position = log.place()
        head = log.head
        self._expected = expected = head.next_offset + 1
        identity = self._identity
        if identity is None:
            identity = self._identity = os.urandom(16)
        self._pending = pending = _pack(log.stream, expected, identity, head.hash, segment, position)
        try:
            handle = self._db.blob_open("main", _TABLE, "applied", 1, True)
        except apsw.ReadOnlyError:
            handle = self._as_writer(self._open_applied)
        except apsw.SchemaChangeError as error:
            # Under the write lock nobody changes the schema: it is what SQLite says when it was interrupted here.
            raise apsw.InterruptError("interrupted") from error
        try:
            handle.write(pending)
        finally:
            handle.close(True)  # Without raising a failed write again; left open, it would keep a statement busy.

    def on_commit(self) -> bool:
        """Append the transaction's record; True vetoes the commit. Called from SQLite's commit hook: no SQL here."""
        capture = self.capture
        if capture.poison is not None:
            return True
        if self._pending is None:
            return False  # Nothing was captured: the log is not touched.
        identity = self._identity
        assert identity is not None
        actor, reason = self.said
        try:
            few = capture.buffer.few() if self._spilled is None else None
            if few is not None:
                body = encode_rows(identity, actor, reason, few)
            else:
                body = one_transaction(identity, actor, reason, capture.buffer.events())
            self._appending = True
            self._writer.commit(identity, body, self._spilled)
        except Exception as error:
            self._failure = error
            return True
        return False

    def on_rollback(self) -> None:
        """SQLite rolled back. What was being appended is decided by :meth:`finish`, not here."""
        if not self._appending:
            self._reset()

    def reader(self) -> apsw.Connection | None:
        """Return a read-only connection whose snapshot is this transaction's start; None for in-memory databases."""
        return self._reader()

    @property
    def agreed(self) -> bytes | None:
        """The AppliedIndex, as stored, if it is known to be that of the log's head."""
        return self._applied if self._agreed is self._log.head else None

    @property
    def spilled(self) -> Spilled:
        """Where the change buffer puts what no longer fits in memory."""
        if self._spilled is None:
            if self._identity is None:
                self._identity = os.urandom(16)
            self._spilled = Spilled(self._folder, self._writer.sealer, self._recovery.opener, self._identity)
        return self._spilled

    # Outcomes ---------------------------------------------------------------------------------------------------------

    def _after_failure(self, error: BaseException) -> None:
        # The commit raised. If the record was being appended the log decides; if not, SQLite does.
        committed = self._appending and self._fate(error)
        db = self._db
        failure = self._failure or self.capture.refusal
        if failure is not None and not isinstance(failure, Exception):
            error = failure  # An interruption that our callbacks kept to themselves.
        if not committed:
            if db.in_transaction:
                if failure is None and isinstance(error, apsw.Error):
                    # It stays open, as SQLite says: somebody reads, a deferred key is not satisfied, no such savepoint.
                    self._pending = None
                    raise translated(error) from error
                self._control.execute("ROLLBACK")
            self._reset()
            if not isinstance(error, apsw.Error):
                raise error  # An interruption, before the record was in the log.
            if failure is None:
                raise translated(error) from error
            if isinstance(failure, OutcomeUnknown):
                self.broken = failure
            if isinstance(failure, ConflictError):
                self._catch_up_with(failure)
            if isinstance(failure, apsw.Error):
                raise translated(failure) from failure
            if failure is self.capture.refusal and not isinstance(failure, DatabaseError):
                raise CaptureError(f"a change could not be captured ({failure!r}); rolled back") from failure
            if isinstance(failure, (DatabaseError, MemoryError)):
                raise failure
            raise LogUnavailable(f"the transaction could not be logged and was rolled back: {failure}") from failure
        # Committed: the log has it. The file follows now, or at the latest at the next open.
        offset = self._log.head.next_offset - 1
        self.last_offset = offset
        if db.in_transaction:
            self._control.execute("ROLLBACK")
        self._reset()
        try:
            self.recover()
        except Exception as redo_failure:
            # Nothing is broken for that: whoever joins next finds the log ahead, as if we had died here.
            unknown = OutcomeUnknown(
                f"the transaction is committed at offset {offset}, but the file could not follow ({redo_failure}); "
                "it will before anything else is written to it, or when it is opened again"
            )
            unknown.committed_offset = offset  # type: ignore[attr-defined]  # told on whatever exception it is
            raise unknown from error
        self.topic.publish(offset + 1)
        if self.after_commit is not None:
            self.after_commit(offset)
        if not isinstance(error, Exception):
            error.committed_offset = offset  # type: ignore[attr-defined]  # told on whatever exception it is
            raise error

    def _catch_up_with(self, conflict: ConflictError) -> NoReturn:
        """Bring the file to where another writer is, so that an immediate retry can win, and raise ``conflict``."""
        try:
            self.recover()
        except (DatabaseError, apsw.Error) as error:
            raise conflict from error  # Whoever joins next compares again.
        if self._log.head.next_offset:
            self.topic.publish(self._log.head.next_offset)
        raise conflict

    def _fate(self, error: BaseException) -> bool:
        """Whether our record is in the log. The log's lock is still held, so what was appended is ours."""
        try:
            self._log.refresh()
            return self._log.head.next_offset >= self._expected
        except Exception as unreadable:
            if isinstance(unreadable, OutcomeUnknown):
                # A group could not be asked. The log asks again before anything else is done with it.
                if self._db.in_transaction:
                    self._control.execute("ROLLBACK")
                self._reset()
                raise unreadable from error
            self.broken = unreadable
            if self._db.in_transaction:
                self._control.execute("ROLLBACK")
            self._reset()
            raise OutcomeUnknown(
                "the log cannot be read back, so whether the transaction committed cannot be told; "
                "open the database again to learn it"
            ) from error

    def recover(self, timeout: float | None = None) -> None:
        """Bring the file to the log's end, in a transaction of its own. Nothing may be open.

        Waits ``timeout`` seconds for the log's lock, or as long as the connection always does. The program's progress
        handler is not asked: what is redone has been committed, and whoever would stop it is too late.
        """
        wait = self.timeout if timeout is None else timeout
        self._planner.internal += 1
        try:
            self.capture.pause()
            if self.progress is not None:
                self._db.set_progress_handler(None, id=_PROGRESS)
            with self.counters.kept():
                self._recovery.run(self._db, self._inner, self._log, self._writer, timeout=wait)
        except BaseException as error:
            if self._db.in_transaction:
                self.capture.poison = error  # Nobody who finds this half open may commit it.
            raise
        finally:
            self._planner.internal -= 1
            self.capture.enabled = True
            self._restore_progress_handler()
        self._applied = self._version = None

    # Inside -----------------------------------------------------------------------------------------------------------

    def _compare(self, stored: bytes | None, *, untouched: bool) -> None:
        if stored is None:
            raise LogMismatch(f"{_TABLE} is empty; was it written by hand?")
        log = self._log
        if self._path and _inode(self._path) != self._inode:
            raise LogMismatch(f"{self._path} was moved or replaced under this connection; open it again")
        if log.torn is not None:
            self._recovery.cut(log, self._writer)
        index = applied.unpack(stored)
        self._recovery.check(log, index)
        if index.next_offset < log.head.next_offset:
            self._catch_up(untouched=untouched)
            return
        self._applied = stored
        self._agreed = log.head

    def _catch_up(self, *, untouched: bool) -> None:
        # Another process died between log and file. Its transaction is redone in a transaction of its own.
        begun = self.begun
        self._control.execute("ROLLBACK")
        self._reset()
        self.recover()
        if begun is None or not untouched:
            raise StaleSnapshot("the database has changed since this transaction began; roll back and retry")
        self._control.execute(begun)
        self.join(untouched=True)

    def _leave(self) -> None:
        # A join failed half-way: a transaction that is still open goes on without us, and may only read.
        self.capture.joined = False
        self._active = False
        self._log.release()

    def _reset(self) -> None:
        self._pending = None
        self._identity = None
        self._appending = False
        self._active = False
        if self._spilled is not None:
            self.drop_spilled()
        self._log.release()

    def drop_spilled(self) -> None:
        """Forget what was put aside."""
        spilled, self._spilled = self._spilled, None
        if spilled is not None:
            with contextlib.suppress(OSError):
                spilled.close()


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return -1


class _Overflow:
    """The change buffer's overflow: sealed parts, made when the first one comes."""

    def __init__(self, owner: Transactions) -> None:
        self._owner = owner

    @property
    def count(self) -> int:
        return self._owner.spilled.count

    def add(self, events: list[Event]) -> None:
        self._owner.spilled.add(events)

    def read(self, index: int) -> list[Event]:
        return self._owner.spilled.read(index)

    def truncate(self, count: int) -> None:
        if count:
            self._owner.spilled.truncate(count)
        else:
            self._owner.drop_spilled()  # Which cannot fail: it is how a transaction that has failed is forgotten.


def busy(error: BaseException) -> bool:
    """Whether ``error`` says that somebody else holds a lock."""
    return isinstance(error, (apsw.BusyError, apsw.LockedError, LogBusy)) or (
        isinstance(error, OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF == apsw.SQLITE_BUSY
    )


__all__ = ["Transactions", "busy"]
