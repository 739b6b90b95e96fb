"""One connection's statements: each is planned, joined to the log where it writes, run, and seen through.

The DB-API shell (:mod:`veritydb.connection`, :mod:`veritydb.cursor`) gives SQL and bindings; :mod:`veritydb.planner`
says what a statement will do; :mod:`veritydb.transaction` owns join and commit. What is decided here is *when* a
transaction begins and ends: PEP 249's implicit transactions, ``autocommit``, explicit BEGIN and savepoints, and bare
statements, which are wrapped in a transaction and, when they fail, leave what bare SQLite would have left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import apsw

from veritydb import applied
from veritydb.blobs import BlobHandle
from veritydb.boundaries import LEGACY_TRANSACTION_CONTROL, Boundaries
from veritydb.chain import ZERO_HASH
from veritydb.errors import ConfigurationError, ConflictError, ProgrammingError
from veritydb.many import Batch
from veritydb.planner import Plan
from veritydb.recovery import restore
from veritydb.running import RUNNERS, Ran, run_again
from veritydb.splitting import has_statement, split
from veritydb.streams import Shared, Stream, making, open_stream
from veritydb.translation import translated

if TYPE_CHECKING:
    from veritydb.freshness import Freshness

_ISOLATION_LEVELS = {
    "": "BEGIN ",  # With the space that sqlite3 leaves, and shows in its trace.
    "DEFERRED": "BEGIN DEFERRED",
    "IMMEDIATE": "BEGIN IMMEDIATE",
    "EXCLUSIVE": "BEGIN EXCLUSIVE",
}


class Session(Boundaries):
    """One connection to one database; not shared between threads at once (:mod:`veritydb.sharing` is)."""

    gate: AbstractContextManager[Any] = nullcontext()
    """Held during each call, where several threads make them."""
    dropped: list[apsw.Cursor] = []  # noqa: RUF012  # never filled where there is one thread
    """Cursors that the garbage collector found with rows left while another thread was at work."""

    def __init__(
        self,
        stream: Stream,
        *,
        timeout: float,
        isolation_level: str | None,
        autocommit: bool | int,
        actor: str,
        register: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(stream, timeout=timeout, actor=actor, register=register)
        self.plans = self.planner.plans
        self._isolation_level: str | None = ""
        self.isolation_level = isolation_level
        self.freshness: Freshness | None = None
        """Of a shared database: what has to be seen before anything is read."""
        self.register = register
        """What the program registers; the caller calls it once there is a connection to call it with."""
        self._prepare()
        self.follow_up_vacuum()
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
        shared: Shared | None = None,
    ) -> Session:
        """Open ``database`` and bring file and log together. Raises as :func:`veritydb.streams.open_stream` does."""
        function, actor = _loaded(register), _text("actor", actor)

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
                shared=shared,
            )

        try:
            with making(database, uri=uri):
                stream = opened()
                while stream.fresh and stream.path and not stream.read_only and _has_records(stream, timeout):
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
            if self._autocommit == LEGACY_TRANSACTION_CONTROL and self.in_transaction:
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
        if value is True and self._autocommit is not True and self.in_transaction:
            self.commit_open()
        self._autocommit = value if isinstance(value, bool) else LEGACY_TRANSACTION_CONTROL
        if value is False and not self.in_transaction:
            self.start("BEGIN")

    # Statements -------------------------------------------------------------------------------------------------------

    def execute(self, cursor: apsw.Cursor, sql: str, bindings: Any = ()) -> Ran:
        """Run one statement. Returns its plan, its rows if they are already fetched, and the row count (-1: none)."""
        plan = self.plans.get(sql)
        if plan is None:
            plan = self._plan(sql, bindings)
        if plan.reads:
            if self.freshness is not None:
                self.freshness.before(self)
            try:
                cursor.execute(plan.sql, bindings)
            except Exception as error:
                if not plan.explains or not self.overtaken():
                    self.failed(error)
                self._explain_anew(cursor, plan, bindings)
            return plan, None, -1
        outside = not self.db.in_transaction
        if self.batch is not None:
            self.batch.disturb()
        self.offset_before = offset = self.transactions.last_offset
        try:
            try:
                return RUNNERS[plan.kind](self, cursor, plan, bindings)
            except ConflictError:
                if not outside or not self._is_bare(plan):
                    raise  # Only the program knows what its transaction is made of.
                return run_again(self, cursor, sql, bindings)
        except Exception:
            raise
        except BaseException as interruption:
            self.interrupted(interruption, offset, cursor, bare=outside and self._is_bare(plan))
            raise

    def execute_many(self, cursor: apsw.Cursor, sql: str, many: Iterable[Any]) -> tuple[Plan, int]:
        """Run a row-writing statement once for each bindings of ``many``. Returns the plan and the rows changed."""
        bare = not self.db.in_transaction and (self.begin_text is None or self._autocommit is True)
        offset = self.transactions.last_offset
        self.disturb()
        outer = self.batch
        try:
            batch = self.batch = Batch(self, sql)
            batch.run(cursor, many)
        except Exception:
            raise
        except BaseException as interruption:
            self.interrupted(interruption, offset, cursor, bare=bare)
            raise
        finally:
            self.batch = outer
        return batch.plan, batch.changed

    def execute_script(self, sql: str, cursor: apsw.Cursor | None = None) -> None:
        """Run all statements of ``sql``; an open transaction is committed first, as sqlite3 does."""
        if self._autocommit == LEGACY_TRANSACTION_CONTROL and self.in_transaction:
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
        if self.in_transaction:
            self.commit_open()
        if self._autocommit is False:
            self.start("BEGIN")

    def commit_open(self) -> None:
        """Commit the open transaction, whatever the mode."""
        if self.batch is not None:
            self.batch.disturb()
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
        if self.in_transaction:
            self.rolled_back(self.transactions.rollback)
        if self._autocommit is False:
            self.start("BEGIN")

    def interrupt(self) -> None:
        """Stop what runs now; from any thread."""
        self.db.interrupt()

    def close(self) -> None:
        """Roll back what is open and close everything; harmless if called again."""
        try:
            self.log_mode_if_left()
            self.transactions.close()
            agreed = self.transactions.agreed
            if agreed is not None:
                self._remember(applied.unpack(agreed))
        finally:
            for reader in self._readers:
                reader.close(True)
            self._readers.clear()
            if self.reminder is not None:
                self.reminder.release()
            self.db.close(True)
            self.stream.log.close()

    def catch_up(self) -> None:
        """Bring the file to where its log and, of a shared stream, other machines are known to be; tell who listens.

        Nothing may be open. Raises what redo raises, and OperationalError where somebody holds the locks.
        """
        self.transactions.recover()
        head = self.stream.log.head
        if head.next_offset:
            self.transactions.topic.publish(head.next_offset)

    def applied(self) -> int:
        """Return how many transactions the file has; a transaction that has read nothing yet goes on seeing nothing."""
        cursor = self._inner
        if self.db.in_transaction and self.db.txn_state("main") == apsw.SQLITE_TXN_NONE:
            reader = self._reader()
            cursor = cursor if reader is None else reader.cursor()
        self.planner.internal += 1
        try:
            index = applied.read(cursor)
        finally:
            self.planner.internal -= 1
        return 0 if index is None else index.next_offset

    def keep_registering(self, register: Callable[[Any], object] | None) -> None:
        """Have what the schema needs registered at each catching up: this connection belongs to no program."""
        self._recovery.register = register

    def blob_open(self, table: str, column: str, row: int, *, readonly: bool = False, name: str = "main") -> BlobHandle:
        """Open a value for incremental I/O."""
        return BlobHandle(self, table, column, row, readonly=readonly, name=name)

    def guard(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` with APSW's errors made ours."""
        try:
            return call()
        except Exception as error:
            self.failed(error)

    # Inside -----------------------------------------------------------------------------------------------------------

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

    def foreign_keys(self) -> bool:
        """Whether foreign keys are enforced."""
        return bool(self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, -1))


def _has_records(stream: Stream, timeout: float) -> bool:
    """Whether the log of an empty file holds transactions. Somebody may be making the file from it just now."""
    try:
        stream.log.acquire(timeout)
        stream.log.release()
    except BaseException:
        stream.db.close(True)
        stream.log.close()
        raise
    head = stream.log.head
    # The file of a shared stream is made as its genesis says, and not as this program would make it.
    return head.next_offset > 0 or (stream.log.shared and head.hash != ZERO_HASH)


def _loaded(register: str | Callable[[Any], object] | None) -> Callable[[Any], object] | None:
    if not isinstance(register, str):
        return register
    from veritydb.replay.registering import load

    return load(register)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be str, not {type(value).__name__}")
    if len(value) > 10_000:
        raise ConfigurationError(f"{name} has {len(value):,} characters; 10,000 is the limit")
    return value


__all__ = ["LEGACY_TRANSACTION_CONTROL", "Session"]
