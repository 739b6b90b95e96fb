"""One connection's statements: each is planned, joined to the log where it writes, run, and seen through.

The DB-API shell (:mod:`veritydb.connection`, :mod:`veritydb.cursor`) gives SQL and bindings; :mod:`veritydb.planner`
says what a statement will do; :mod:`veritydb.transaction` owns join and commit. What is decided here is *when* a
transaction begins and ends: PEP 249's implicit transactions, ``autocommit``, explicit BEGIN and savepoints, and bare
statements, which are wrapped in a transaction and, when they fail, leave what bare SQLite would have left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import apsw

from veritydb import applied, errors, opening
from veritydb.blobs import BlobHandle
from veritydb.errors import ConfigurationError, ProgrammingError, StatementRefused
from veritydb.hooks.capture import StatementMark
from veritydb.planner import Kind, Plan, Planner
from veritydb.records import Writer
from veritydb.recovery import Recovery, restore
from veritydb.running import RUNNERS, Ran, run_rows
from veritydb.sealing import Opener, Sealer
from veritydb.splitting import has_statement, split
from veritydb.streams import Stream, open_stream
from veritydb.transaction import Transactions, busy
from veritydb.translation import translated

LEGACY_TRANSACTION_CONTROL = -1
_PATIENCE = 0.2
"""Seconds that opening waits for the locks, to redo what is missing; a writer may hold them for long."""
BARE_BEGIN = "BEGIN/*bare*/"
"""Begins the transaction around one bare statement. No program knows of it, so no trace shows it."""
_ISOLATION_LEVELS = {
    "": "BEGIN ",  # With the space that sqlite3 leaves, and shows in its trace.
    "DEFERRED": "BEGIN DEFERRED",
    "IMMEDIATE": "BEGIN IMMEDIATE",
    "EXCLUSIVE": "BEGIN EXCLUSIVE",
}


class Session:
    """One connection to one database; not shared between threads at once (:mod:`veritydb.sharing` is)."""

    gate: AbstractContextManager[Any] = nullcontext()
    """Held during each call, where several threads make them."""

    def __init__(
        self,
        stream: Stream,
        *,
        timeout: float,
        isolation_level: str | None,
        autocommit: bool | int,
        key: Any,
        actor: str,
        register: Callable[[Any], object] | None,
    ) -> None:
        self.db = db = stream.db
        self.stream = stream
        self._key = key
        self._readers: list[apsw.Connection] = []
        database_key = stream.keyring.current if stream.keyring is not None else None
        self.planner = Planner(db, encrypted=database_key is not None, in_memory=not stream.path)
        self.plans = self.planner.plans
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
        self.offset_before: int | None = None
        """The connection's last offset before the statement that ran last and was not a plain read."""
        self._autocommit: bool | int = LEGACY_TRANSACTION_CONTROL
        self._isolation_level: str | None = ""
        self.begin_text: str | None = "BEGIN"
        self.isolation_level = isolation_level
        self.register = register
        """What the program registers; the caller calls it once there is a connection to call it with."""
        self._prepare()
        self._recovery.register = None  # From now on the connection has the functions, or its program does not.
        self.autocommit = autocommit

    @classmethod
    def open(
        cls,
        database: str,
        *,
        timeout: float = 5.0,
        isolation_level: str | None = "",
        autocommit: bool | int = LEGACY_TRANSACTION_CONTROL,
        cached_statements: int = 128,
        uri: bool = False,
        key: Any = None,
        actor: str = "",
        on_missing: str = "rebuild",
        register: str | Callable[[Any], object] | None = None,
        read_only: bool = False,
        vfs: str | None = None,
    ) -> Session:
        """Open ``database`` and bring file and log together. Raises as :func:`veritydb.streams.open_stream` does."""
        function = _loaded(register)

        def opened() -> Stream:
            return open_stream(
                database,
                key=key,
                uri=uri,
                on_missing=on_missing,
                statement_cache=cached_statements,
                read_only=read_only,
                timeout=timeout,
                vfs=vfs,
            )

        try:
            stream = opened()
            if stream.fresh and stream.path and not stream.read_only and _has_records(stream, timeout):
                restore(stream, key=key, register=function, timeout=timeout)
                stream = opened()
        except apsw.Error as error:
            raise translated(error) from error
        try:
            return cls(
                stream,
                timeout=timeout,
                isolation_level=isolation_level,
                autocommit=autocommit,
                key=key,
                actor=actor,
                register=function,
            )
        except BaseException as error:
            stream.db.close(True)
            stream.log.close()
            if isinstance(error, apsw.Error):
                raise translated(error) from error
            raise

    # Properties -------------------------------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.db.in_transaction

    @property
    def total_changes(self) -> int:
        """Rows changed since the connection was opened."""
        return self.counters.total()

    @property
    def last_insert_rowid(self) -> int:
        """As SQLite counts it."""
        return self.db.last_insert_rowid()

    @property
    def last_offset(self) -> int | None:
        """Offset of this connection's last committed transaction; None if there was none."""
        return self.transactions.last_offset

    @property
    def actor(self) -> str:
        """Who the transactions of this connection are made by."""
        return self.transactions.actor

    @actor.setter
    def actor(self, value: str) -> None:
        self.transactions.say(_text("actor", value), self.transactions.reason)

    @property
    def reason_text(self) -> str:
        """Why the transactions of this connection are made."""
        return self.transactions.reason

    @reason_text.setter
    def reason_text(self, value: str) -> None:
        self.transactions.say(self.transactions.actor, _text("reason", value))

    @property
    def user_authorizer(self) -> Any:
        """The program's own authorizer, asked before ours."""
        return self.planner.user_authorizer

    @user_authorizer.setter
    def user_authorizer(self, value: Any) -> None:
        self.planner.user_authorizer = value
        self.planner.reset_authorizer()

    @property
    def isolation_level(self) -> str | None:
        """The BEGIN that a first INSERT, UPDATE, DELETE or REPLACE gets; None: none."""
        return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, value: str | None) -> None:
        if value is None:
            self._isolation_level, self.begin_text = None, None
            if self._autocommit == LEGACY_TRANSACTION_CONTROL and self.db.in_transaction:
                self.commit()
            return
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]  the caller's word is not proof
            raise TypeError("isolation_level must be str or None")
        if value.upper() not in _ISOLATION_LEVELS:
            raise ValueError("isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'")
        self._isolation_level, self.begin_text = value, _ISOLATION_LEVELS[value.upper()]

    @property
    def autocommit(self) -> bool | int:
        """As in Python 3.12: True, False, or LEGACY_TRANSACTION_CONTROL (-1), where ``isolation_level`` rules."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool | int) -> None:
        if value is not True and value is not False and value != LEGACY_TRANSACTION_CONTROL:
            raise ValueError("autocommit must be True, False, or sqlite3.LEGACY_TRANSACTION_CONTROL")
        if value is True and self._autocommit is not True and self.db.in_transaction:
            self.commit_open()
        self._autocommit = value if isinstance(value, bool) else LEGACY_TRANSACTION_CONTROL
        if value is False and not self.db.in_transaction:
            self.start("BEGIN")

    # Statements -------------------------------------------------------------------------------------------------------

    def execute(self, cursor: apsw.Cursor, sql: str, bindings: Any = ()) -> Ran:
        """Run one statement. Returns its plan, its rows if they are already fetched, and the row count (-1: none)."""
        plan = self.plans.get(sql)
        if plan is None:
            plan = self._plan(sql, bindings)
        if plan.reads:
            try:
                cursor.execute(plan.sql, bindings)
            except Exception as error:
                if not plan.explains or not self.overtaken():
                    self.failed(error)
                self._explain_anew(cursor, plan, bindings)
            return plan, None, -1
        outside = not self.db.in_transaction
        self.offset_before = offset = self.transactions.last_offset
        try:
            return RUNNERS[plan.kind](self, cursor, plan, bindings)
        except Exception:
            raise
        except BaseException as interruption:
            self.interrupted(interruption, offset, cursor, bare=outside and self._is_bare(plan))
            raise

    def execute_many(self, cursor: apsw.Cursor, sql: str, many: Iterable[Any]) -> tuple[Plan | None, int]:
        """Run a row-writing statement once for each bindings of ``many``. Returns the plan and the rows changed."""
        bare = not self.db.in_transaction and (self.begin_text is None or self._autocommit is True)
        offset = self.transactions.last_offset
        try:
            return self._execute_many(cursor, sql, many)
        except Exception:
            raise
        except BaseException as interruption:
            self.interrupted(interruption, offset, cursor, bare=bare)
            raise

    def _execute_many(self, cursor: apsw.Cursor, sql: str, many: Iterable[Any]) -> tuple[Plan | None, int]:
        iterator = iter(many)
        plan = self.plans.get(sql)
        if plan is None:
            found = next(iterator, None)
            if found is None:
                plan = self._plan(sql, None)
                self._require_dml(plan)
                return plan, 0
            plan = self._plan(sql, found)
            iterator = _again(found, iterator)
        self._require_dml(plan)
        if not self.db.in_transaction and (self.begin_text is None or self._autocommit is True):
            count = 0
            for bindings in iterator:  # Each statement is a transaction of its own, as in sqlite3.
                count += run_rows(self, cursor, plan, bindings)[2]
            return plan, count
        bare = self.enter(plan)
        assert not bare
        plan = self.plans.get(sql) or self._plan(sql, None)
        counted = plan.triggers or plan.temp or self._foreign_keys()
        before = self.db.total_changes()
        mark = self.statement_mark()
        summed = 0
        try:
            if counted:
                for bindings in iterator:
                    cursor.execute(plan.sql, bindings)
                    if plan.returns_rows:
                        cursor.fetchall()
                    summed += self.db.changes()
            elif plan.returns_rows:
                cursor.executemany(plan.sql, iterator).fetchall()
            else:
                cursor.executemany(plan.sql, iterator)
        except BaseException as error:
            self.counters.changes = None
            self.statement_failed(error, mark, bare=False)
        self.counters.changes = None
        if self.capture.virtual_tables:
            self.virtual_written(plan)
        return plan, summed if counted else self.db.total_changes() - before

    def execute_script(self, sql: str, cursor: apsw.Cursor | None = None) -> None:
        """Run all statements of ``sql``; an open transaction is committed first, as sqlite3 does."""
        if self._autocommit == LEGACY_TRANSACTION_CONTROL and self.db.in_transaction:
            self.commit_open()
        made = cursor is None
        cursor = cursor or self.db.cursor()
        begin, self.begin_text = self.begin_text, None
        try:
            for statement in split(sql):
                _, rows, _ = self.execute(cursor, statement)
                if rows is None:
                    try:
                        for _ in cursor:
                            pass
                    except Exception as error:
                        self.failed(error)
        finally:
            self.begin_text = begin
            if made:
                cursor.close(True)

    def commit(self) -> None:
        """Commit the open transaction, if there is one (PEP 249)."""
        if self._autocommit is True:
            return
        if self.db.in_transaction:
            self.commit_open()
        if self._autocommit is False:
            self.start("BEGIN")

    def commit_open(self) -> None:
        """Commit the open transaction, whatever the mode."""
        offset = self.transactions.last_offset
        try:
            self.transactions.finish("COMMIT")
        except Exception:
            raise
        except BaseException as interruption:
            self.interrupted(interruption, offset)
            raise
        self.schema_touched = False

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one (PEP 249)."""
        if self._autocommit is True:
            return
        if self.db.in_transaction:
            self.rolled_back(self.transactions.rollback)
        if self._autocommit is False:
            self.start("BEGIN")

    def interrupt(self) -> None:
        """Stop what runs now; from any thread."""
        self.db.interrupt()

    def close(self) -> None:
        """Roll back what is open and close everything; harmless if called again."""
        try:
            self.transactions.close()
        finally:
            for reader in self._readers:
                reader.close(True)
            self._readers.clear()
            self.db.close(True)
            self.stream.log.close()

    def blob_open(self, table: str, column: str, row: int, *, readonly: bool = False, name: str = "main") -> BlobHandle:
        """Open a value for incremental I/O."""
        return BlobHandle(self, table, column, row, readonly=readonly, name=name)

    def guard(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` with APSW's errors made ours."""
        try:
            return call()
        except Exception as error:
            self.failed(error)

    # Beginning and ending ---------------------------------------------------------------------------------------------

    def enter(self, plan: Plan) -> bool:
        """See that a transaction is open and joined. Returns True if it is for this statement alone."""
        bare = False
        if not self.db.in_transaction:
            begin = self.begin_text
            if begin is None or not plan.is_dml or self._autocommit is True:
                begin, bare = BARE_BEGIN, True
            self.start(begin)
        if not self.capture.joined:
            try:
                self.transactions.join()
            except BaseException as error:
                if plan.kind is Kind.ROWS:
                    self.counters.changes = None  # A statement that failed has changed nothing, begun or not.
                if bare and self.db.in_transaction:
                    self.transactions.rollback()
                if isinstance(error, apsw.Error):
                    raise translated(error) from error
                raise
            if self.capture.schema_moved:
                self.planner.forget()
        return bare

    def abandon(self) -> None:
        """Roll back a bare statement that could not be committed; nobody is there to try again."""
        if self.db.in_transaction:
            self.rolled_back(self.transactions.rollback)

    def interrupted(
        self, error: BaseException, offset: int | None, cursor: apsw.Cursor | None = None, *, bare: bool = False
    ) -> None:
        """Leave no half-made step behind ``error``, which a signal's handler raised, and say on it what has committed.

        ``offset`` is the connection's last one before the call that was interrupted; ``bare`` says that what is open
        was opened for that call alone.
        """
        if cursor is not None:
            cursor.execute("")  # Rows of RETURNING that were not fetched would keep the statement running.
        self.transactions.interrupted()
        if bare:
            self.abandon()
        if self.transactions.last_offset != offset and not hasattr(error, "committed_offset"):
            error.committed_offset = self.transactions.last_offset  # type: ignore[attr-defined]

    def _is_bare(self, plan: Plan) -> bool:
        """Whether a statement that finds no transaction open gets one for itself alone."""
        if plan.kind in (Kind.BEGIN, Kind.SAVEPOINT):
            return False
        return self.begin_text is None or not plan.is_dml or self._autocommit is True

    def enter_write(self) -> bool:
        """Open and join a transaction for a write that is not a statement. Returns True if it is for that alone."""
        return self.enter(_WRITE)

    def start(self, begin: str) -> None:
        """Run ``begin``, a BEGIN of any kind."""
        if self.fresh:
            self.first_use()
        try:
            self.control.execute(begin)
        except Exception as error:
            self.failed(error)
        self.transactions.begun = begin
        if self.db.txn_state("main") == apsw.SQLITE_TXN_WRITE:
            # BEGIN IMMEDIATE or EXCLUSIVE. Joining now means that what it reads next is the log's end.
            try:
                self.transactions.join(untouched=True)
            except BaseException as error:
                self.transactions.rollback()
                if isinstance(error, apsw.Error):
                    raise translated(error) from error
                raise

    def first_use(self) -> None:
        """Give an empty database its AppliedIndex; as late as this, so that its encoding can still be chosen."""
        if not self.fresh or self.db.in_transaction or self.stream.read_only:
            return
        planner = self.planner
        planner.internal += 1
        self.capture.enabled = False
        try:
            if self.stream.path:
                self._inner.execute("PRAGMA journal_mode = WAL").fetchall()
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
                    transactions.finish()
                except BaseException:
                    self.abandon()
                    self.counters.undo(changes)
                    raise
            else:
                transactions.rollback()
        self.failed(error)

    def failed(self, error: BaseException) -> NoReturn:
        """Raise ``error`` as ours."""
        if isinstance(error, apsw.AuthError) and self.planner.refusal is not None:
            refusal, self.planner.refusal = self.planner.refusal, None
            raise StatementRefused(f"{refusal}; nothing was changed") from error
        if isinstance(error, apsw.BindingsError):
            raise ProgrammingError(_bindings_message(str(error))) from error
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_COMMITHOOK:
            poison = self.capture.poison  # A statement that has ended its transaction by itself, and was not let.
            if isinstance(poison, errors.CaptureError):
                raise poison from error
        if isinstance(error, apsw.Error):
            raise translated(error) from error
        try:
            raise error
        finally:
            del error  # In this frame it would be a cycle, which keeps the cursor and its statement for a while.

    # Inside -----------------------------------------------------------------------------------------------------------

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

    def _explain_anew(self, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> None:
        # SQLite prepared it a second time, and told of all that the explained statement would change.
        self.planner.changes_schema = True
        try:
            cursor.execute(plan.sql, bindings)
        except Exception as error:
            self.failed(error)
        finally:
            self.planner.changes_schema = False

    def overtaken(self) -> bool:
        """Whether a statement that failed was stopped because its plan was out of date; asked once."""
        planner = self.planner
        overtaken, planner.overtaken = planner.overtaken, False
        if overtaken:
            planner.refusal = None
        return overtaken

    def can_be_prepared(self, plan: Plan, bindings: Any) -> bool:
        """Whether SQLite still understands the statement of ``plan``."""
        try:
            self.planner.plan(plan.sql, bindings)
        except apsw.Error:
            return False
        return True

    def planned(self, sql: str, bindings: Any) -> Plan:
        """Return a plan of ``sql`` as the schema is now."""
        return self._plan(sql, bindings)

    def _plan(self, sql: str, bindings: Any) -> Plan:
        try:
            plan = self.planner.plan(sql, bindings)
        except Exception as error:
            self.failed(error)
        if plan.tail and has_statement(plan.tail):
            raise ProgrammingError("You can only execute one statement at a time.")
        self.planner.remember(sql, plan)
        return plan

    def _require_dml(self, plan: Plan) -> None:
        if not plan.is_dml:
            raise ProgrammingError("executemany() can only execute DML statements.")

    def _foreign_keys(self) -> bool:
        return bool(self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, -1))

    def pragma(self, name: str) -> int:
        """Return a header field of the main database."""
        self.planner.internal += 1
        try:
            return int(self._inner.execute(f"PRAGMA main.{name}").get)
        finally:
            self.planner.internal -= 1

    def _prepare(self) -> None:
        """Settings every connection has, then recovery."""
        db, stream = self.db, self.stream
        db.set_busy_timeout(int(self.transactions.timeout * 1000))
        self.planner.internal += 1
        self.capture.enabled = False  # The change to WAL is a commit, and not one of the log.
        try:
            if stream.keyring is not None:
                db.pragma("temp_store", 2)
            if stream.read_only:
                return
            if stream.path:
                db.pragma("synchronous", 1)
                if not stream.fresh:
                    db.pragma("journal_mode", "WAL")
        finally:
            self.planner.internal -= 1
            self.capture.enabled = True
        log = stream.log
        if stream.fresh or (log.torn is None and log.head.next_offset == self._file_offset()):
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

    def _file_offset(self) -> int:
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
                return index.next_offset  # Whoever joins compares again.
            log.release()
        self._recovery.check(log, index)
        return index.next_offset

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


def _has_records(stream: Stream, timeout: float) -> bool:
    """Whether the log of an empty file holds transactions. Somebody may be making the file from it just now."""
    try:
        stream.log.acquire(timeout)
        stream.log.release()
    except BaseException:
        stream.db.close(True)
        stream.log.close()
        raise
    return stream.log.head.next_offset > 0


_WRITE = Plan("")
_WRITE.kind, _WRITE.reads = Kind.SETTING, False


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


def _loaded(register: str | Callable[[Any], object] | None) -> Callable[[Any], object] | None:
    if not isinstance(register, str):
        return register
    from veritydb.replay.registering import load

    return load(register)


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be str, not {type(value).__name__}")
    if len(value) > 10_000:
        raise ConfigurationError(f"{name} has {len(value):,} characters; 10,000 is the limit")
    return value


__all__ = ["LEGACY_TRANSACTION_CONTROL", "Session"]
