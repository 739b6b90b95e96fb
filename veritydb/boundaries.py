"""Where the transactions of one connection begin and end, and what is left when a statement fails.

The half of :class:`veritydb.session.Session` that the runners of statements (:mod:`veritydb.running`) lean on: a
transaction is opened and joined before a statement that writes, an empty database gets its AppliedIndex at its first
use, and a bare statement that fails leaves what bare SQLite would have left. What to run, and when the program's own
transactions begin, is the session's business.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import apsw

from veritydb import applied, errors, opening
from veritydb.applied import AppliedIndex
from veritydb.errors import ProgrammingError, StatementRefused
from veritydb.events import Setting
from veritydb.hooks.capture import StatementMark
from veritydb.log import Place
from veritydb.log.resuming import remember
from veritydb.planner import Kind, Plan, Planner
from veritydb.records import Writer
from veritydb.recovery import Recovery
from veritydb.reminder import Reminder
from veritydb.sealing import Opener, Sealer
from veritydb.streams import Stream
from veritydb.transaction import Transactions, busy
from veritydb.translation import translated

if TYPE_CHECKING:
    from veritydb.many import Batch

LEGACY_TRANSACTION_CONTROL = -1
_PAUSE = 0.005
_PATIENCE = 0.2
"""Seconds that opening waits for the locks, to redo what is missing; a writer may hold them for long."""
BARE_BEGIN = "BEGIN/*bare*/"
"""Begins the transaction around one bare statement. No program knows of it, so no trace shows it."""
UNKNOWN_MODE = -1
"""Of ``auto_vacuum``, where nobody knows which one the log has."""
_DEFERRED = frozenset({BARE_BEGIN, "BEGIN", "BEGIN ", "BEGIN DEFERRED"})
"""What takes no lock, without asking SQLite. A program may word it otherwise."""


class Boundaries:
    """The connection's parts, and the ways into and out of its transactions."""

    def __init__(self, stream: Stream, *, timeout: float, actor: str, register: Callable[[Any], object] | None) -> None:
        self.db = db = stream.db
        self.stream = stream
        self._readers: list[apsw.Connection] = []
        database_key = stream.keyring.current if stream.keyring is not None else None
        self.planner = Planner(db, encrypted=database_key is not None, in_memory=not stream.path)
        opener = Opener(stream.keyring)
        self._recovery = Recovery(stream.path or ":memory:", opener, register=register)
        writer = Writer(stream.log, Sealer(database_key))
        self._writer = writer
        self.transactions = Transactions(
            db,
            self.planner,
            stream.log,
            writer,
            self._recovery,
            path=stream.path,
            folder=stream.folder,
            timeout=timeout,
            reader=self._reader,
        )
        self.transactions.actor = actor
        self.capture = self.transactions.capture
        self.counters = self.transactions.counters
        self._inner = db.cursor()
        self.control = db.cursor()
        self.fresh = stream.fresh
        self.schema_touched = False
        self.logged_mode: int | None = None
        """The ``auto_vacuum`` that the log has, while VACUUM may have given the file another one."""
        self.reminder = Reminder(stream.folder) if stream.folder is not None and not stream.read_only else None
        """The same, for whoever comes after this process if it dies."""
        self.offset_before: int | None = None
        """The connection's last offset before the statement that ran last and was not a plain read."""
        self._autocommit: bool | int = LEGACY_TRANSACTION_CONTROL
        self.begin_text: str | None = "BEGIN"
        """The BEGIN that a row-writing statement gets; None: it is wrapped for itself alone."""
        self.batch: Batch | None = None
        """The ``executemany`` that is running, the innermost."""

    # Beginning and ending ---------------------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open of which the program knows: not the one around a bare statement."""
        return self.db.in_transaction and self.transactions.begun is not BARE_BEGIN

    def enter(self, plan: Plan) -> bool:
        """See that a transaction is open and joined. Returns True if it is for this statement alone."""
        bare = begun = False
        if not self.db.in_transaction:
            begin = self.begin_text
            if begin is None or not plan.is_dml or self._autocommit is True:
                begin, bare = BARE_BEGIN, True
                self.planner.internal += 1
                try:
                    self.start(begin)
                finally:
                    self.planner.internal -= 1
            else:
                self.start(begin)
            begun = True
        if not self.capture.joined:
            try:
                self.transactions.join(untouched=begun)
            except BaseException as error:
                if plan.kind is Kind.ROWS:
                    self.counters.changes = None  # A statement that failed has changed nothing, begun or not.
                if bare:
                    self.abandon()
                if isinstance(error, apsw.Error):
                    raise translated(error) from error
                raise
            if self.capture.schema_moved:
                self.planner.forget()
        return bare

    def disturb(self) -> None:
        """Tell a running ``executemany`` that the program does something in between."""
        if self.batch is not None:
            self.batch.disturb()

    def abandon(self) -> None:
        """Roll back what the program did not begin, or what is past help; its authorizer is not asked."""
        if self.db.in_transaction:
            self.planner.internal += 1
            try:
                self.rolled_back(self.transactions.rollback)
            finally:
                self.planner.internal -= 1

    def commit_bare(self) -> None:
        """Commit the transaction of one bare statement, of which the program, and its authorizer, know nothing."""
        self.planner.internal += 1
        try:
            self.transactions.finish()
        finally:
            self.planner.internal -= 1
        self.schema_touched = False

    def interrupted(
        self, error: BaseException, offset: int | None, cursor: apsw.Cursor | None = None, *, bare: bool = False
    ) -> None:
        """Leave no half-made step behind ``error``, which a signal's handler raised, and say on it what has committed.

        ``offset`` is the connection's last one before the call that was interrupted; ``bare`` says that what is open
        was opened for that call alone.
        """
        if cursor is not None:
            cursor.execute("")  # Rows of RETURNING that were not fetched would keep the statement running.
        self._inner.execute("")
        self.transactions.interrupted()
        if bare:
            self.abandon()
        if self.transactions.last_offset != offset and not hasattr(error, "committed_offset"):
            error.committed_offset = self.transactions.last_offset  # type: ignore[attr-defined]  # told on the program's own exception

    def _is_bare(self, plan: Plan) -> bool:
        """Whether a statement that finds no transaction open gets one for itself alone."""
        if plan.kind in (Kind.BEGIN, Kind.SAVEPOINT):
            return False
        return self.begin_text is None or not plan.is_dml or self._autocommit is True

    def enter_write(self) -> bool:
        """Open and join a transaction for a write that is not a statement. Returns True if it is for that alone."""
        self.disturb()
        return self.enter(_WRITE)

    def start(self, begin: str) -> None:
        """Run ``begin``, a BEGIN of any kind."""
        if self.fresh:
            self.first_use()
        if self.logged_mode is not None:
            self.log_mode_if_left()
        # Noted before: an interruption may come when it has been done, and the program has to find it open.
        before, self.transactions.begun = self.transactions.begun, begin
        try:
            self.control.execute(begin)
        except Exception as error:
            self.transactions.begun = before
            self.failed(error)
        if begin not in _DEFERRED and self.db.txn_state("main") == apsw.SQLITE_TXN_WRITE:
            # BEGIN IMMEDIATE or EXCLUSIVE. Joining now means that what it reads next is the log's end.
            try:
                self.transactions.join(untouched=True)
            except BaseException as error:
                self.abandon()
                if isinstance(error, apsw.Error):
                    raise translated(error) from error
                raise

    def log_mode(self) -> None:
        """Log the file's mode of ``auto_vacuum`` if VACUUM has changed it, for the sake of the rebuilt file's header.

        No transaction is open. If this is interrupted, or VACUUM before it was, ``logged_mode`` stays, and the next
        transaction, or closing, comes here first.
        """
        logged, self.logged_mode = self.logged_mode, None
        reminder = self.reminder
        try:
            if reminder is not None and not reminder.left():
                return  # Somebody else has followed it up, or is about to.
            mode = self.pragma("auto_vacuum")
            if mode != logged:
                self.enter_write()
                self.capture.add(Setting("auto_vacuum", mode))
                self.commit_bare()
            if reminder is not None:
                reminder.remove()
        except BaseException:
            self.logged_mode = logged if reminder is None else UNKNOWN_MODE  # Others may log it meanwhile.
            self.abandon()
            if reminder is not None:
                reminder.release()
            raise

    def log_mode_if_left(self) -> None:
        """Do what an interrupted VACUUM has left to do; where it cannot be done, the next transaction tries again."""
        if self.logged_mode is not None and not self.db.in_transaction:
            with contextlib.suppress(errors.OperationalError):
                self.log_mode()

    def follow_up_vacuum(self) -> None:
        """Log what a VACUUM has left unlogged whose process was killed."""
        if self.reminder is not None and not self.fresh and self.reminder.left():
            self.logged_mode = UNKNOWN_MODE
            self.log_mode_if_left()

    def first_use(self) -> None:
        """Give an empty database its AppliedIndex; as late as this, so that its encoding can still be chosen."""
        if not self.fresh or self.db.in_transaction or self.stream.read_only:
            return
        planner = self.planner
        planner.internal += 1
        try:
            self.capture.pause()
            if self.stream.path:
                self._set("PRAGMA journal_mode = WAL")
            with self.counters.kept():
                self._recovery.initialise(
                    self.db, self._inner, self.stream.log, self._writer, self.transactions.timeout
                )
        except apsw.Error as error:
            raise translated(error) from error
        finally:
            planner.internal -= 1
            self.capture.enabled = True
        self.fresh = False

    def rolled_back(self, rollback: Callable[[], None]) -> None:
        """Run ``rollback`` and forget what was known of a schema that it undid."""
        self.disturb()
        try:
            rollback()
        except Exception as error:
            self.failed(error)
        if self.schema_touched:
            self.schema_touched = False
            self.planner.forget()

    def statement_failed(self, error: BaseException, mark: Any, *, bare: bool) -> NoReturn:
        """Leave what bare SQLite would have left, and raise ``error`` as ours."""
        if not isinstance(error, apsw.Error) or hasattr(error, "from_callback"):
            self.capture.unwind(mark, error)
        transactions = self.transactions
        if self.schema_touched:
            self.planner.forget()
        if not self.db.in_transaction:
            transactions.settle()
        elif bare:
            capture = self.capture
            kept = isinstance(error, apsw.ConstraintError) and _extended(error) != apsw.SQLITE_CONSTRAINT_DATATYPE
            if kept and capture.may_have_captured:
                # A bare OR FAIL keeps, and commits, its earlier rows; ABORT has undone them. A wrong type in a STRICT
                # table is no constraint to a conflict clause: nothing of the statement stays.
                changes = self.counters.current()
                try:
                    self.commit_bare()
                except BaseException:
                    self.abandon()
                    self.counters.undo(changes)
                    raise
            else:
                self.abandon()
        self.failed(error)

    def half_logged(self, error: BaseException, undone: Callable[[], bool]) -> None:
        """Let nobody commit what a statement may have done, and ``error`` has kept from being logged.

        ``undone`` says that SQLite has taken it back: it is how it ends if the statement itself has failed.
        """
        capture = self.capture
        if capture.poison is None and self.db.in_transaction:
            capture.poison = error  # First, for looking may be interrupted, too.
            if undone():
                capture.poison = None

    def failed(self, error: BaseException) -> NoReturn:
        """Raise ``error`` as ours."""
        if isinstance(error, apsw.AuthError) and self.planner.refusal is not None:
            refusal, self.planner.refusal = self.planner.refusal, None
            raise StatementRefused(f"{refusal}; nothing was changed") from error
        if isinstance(error, apsw.BindingsError):
            raise ProgrammingError(_bindings_message(str(error))) from error
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_COMMITHOOK:
            cause = self.capture.refusal  # A statement that has ended its transaction by itself, and was not let.
            if isinstance(cause, errors.CaptureError):
                # Where it had a savepoint of its own (FTS3 has), the rows are gone and the transaction is still open.
                self.abandon()
                raise cause from error
        if isinstance(error, apsw.Error):
            raise translated(error) from error
        try:
            raise error
        finally:
            del error  # In this frame it would be a cycle, which keeps the cursor and its statement for a while.

    def statement_mark(self) -> StatementMark:
        """Return where the statement that follows begins."""
        if self.capture.tail_due:
            self.transactions.join_tail()
        return self.capture.statement_mark()

    def virtual_written(self, plan: Plan) -> None:
        """Tell the capture which virtual tables a statement wrote."""
        capture = self.capture
        for name in plan.written & capture.virtual_tables:
            capture.wrote_virtual(name)
        if capture.tail_due:
            self.transactions.join_tail()

    def pragma(self, name: str) -> int:
        """Return a header field of the main database."""
        self.planner.internal += 1
        try:
            return int(self._inner.execute(f"PRAGMA main.{name}").get)
        finally:
            self.planner.internal -= 1

    def _set(self, settings: str) -> None:
        # SQLite itself does not wait where the change to WAL meets somebody else's, or his recovery of a WAL.
        deadline = time.monotonic() + self.transactions.timeout
        while True:
            try:
                self._inner.execute(settings).fetchall()
                return
            except apsw.BusyError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE)

    def _prepare(self) -> None:
        """Settings every connection has, then recovery."""
        db, stream = self.db, self.stream
        db.set_busy_timeout(int(self.transactions.timeout * 1000))
        self.planner.internal += 1
        try:
            self.capture.pause()  # The change to WAL is a commit, and not one of the log.
            settings: list[str] = []
            if stream.keyring is not None:
                settings.append("PRAGMA temp_store = MEMORY")
            if stream.path and not stream.read_only:
                settings.append("PRAGMA synchronous = NORMAL")
                if not stream.fresh:
                    settings.append("PRAGMA journal_mode = WAL")
            if settings:
                self._set("; ".join(settings))
        finally:
            self.planner.internal -= 1
            self.capture.enabled = True
        if stream.read_only or stream.fresh:
            return
        log = stream.log
        if stream.resumed is not None:
            self._recovery.agreed = (stream.resumed, log.head)
            return
        if log.torn is None:
            index = self._file_index()
            if log.head.next_offset == index.next_offset:
                self._remember(index)
                return
        db.set_busy_timeout(int(_PATIENCE * 1000))
        try:
            self.transactions.recover(_PATIENCE)
        except (apsw.Error, errors.OperationalError) as error:
            if not busy(error):
                raise
            # Somebody else holds the locks, and has found what we found or will find it.
        finally:
            db.set_busy_timeout(int(self.transactions.timeout * 1000))

    def _remember(self, index: AppliedIndex) -> None:
        """Keep in mind, for the next opening, that the file and the log agree."""
        stream = self.stream
        if stream.folder is not None and index.next_offset:
            place = Place(index.segment, index.position)
            remember(stream.folder, stream.log.stream, stream.log.head, applied.pack(*index), place)

    def _file_index(self) -> AppliedIndex:
        log = self.stream.log
        index = applied.read(self._inner)
        assert index is not None
        if index.next_offset > log.head.next_offset:
            # Somebody may have committed between our look at the log and this one at the file: look again.
            try:
                log.acquire(0)
            except errors.OperationalError as error:
                if not busy(error):
                    raise
                return index  # Whoever joins compares again.
            log.release()
        self._recovery.check(log, index)
        return index

    def _reader(self) -> apsw.Connection | None:
        """Return a read-only connection to the same file, opened at its first use."""
        if not self.stream.path:
            return None
        if not self._readers:
            keyring = self.stream.keyring
            file_key = keyring.current.file_key() if keyring is not None else None
            reader = opening.open_file(self.stream.path, file_key, read_only=True)
            # A reader of a WAL waits for nobody, unless PRAGMA locking_mode keeps everybody out for good.
            reader.set_busy_timeout(int(min(self.transactions.timeout, _PATIENCE) * 1000))
            self._readers.append(reader)
        return self._readers[0]


_COUNTS = re.compile(r"uses (\d+) and there are (\d+) supplied")


def _bindings_message(message: str) -> str:
    found = _COUNTS.search(message)
    if found is None:
        return message
    return (
        f"Incorrect number of bindings supplied. The current statement uses {found[1]}, "
        f"and there are {found[2]} supplied."
    )


def _extended(error: apsw.Error) -> int:
    code: int = getattr(error, "extendedresult", 0)
    return code


_WRITE = Plan("")
_WRITE.kind, _WRITE.reads = Kind.SETTING, False
