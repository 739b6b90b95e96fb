"""Capture: SQLite's callbacks in, events out.

One :class:`Capture` belongs to one connection. The session drives it in these steps:

1. ``join()`` before a transaction's first change to the main file: it takes the write lock, and the witness listens.
2. ``statement_mark()`` before each statement; ``unwind(mark, error)`` after it if a Python exception came out of it
   (``unwind(None, error)`` if it handles savepoints); ``join_tail()`` after it if ``tail_due``.
3. For what no hook reports: ``add(event)``; ``settle()`` before a schema statement, ``add_schema(event, mark)`` after.
4. Before COMMIT, if virtual tables have joined: ``join_tail()``, so that a witness hears of it behind them, or
   ``drain()``, so that they have nothing left to write.
5. COMMIT. SQLite calls ``client.on_sync()`` (SQL allowed; late rows, sequences and statistics are in the buffer by
   then), then ``client.on_commit()`` (no SQL; ``buffer.events()`` is the transaction), which answers whether to veto.
   ``client.on_rollback()`` follows every rollback of a whole transaction. ``unwind(None, error)`` if a Python
   exception came out.

:mod:`veritydb.hooks.rows` has the preupdate hook. ``docs/internals/capture.md`` explains what that cannot see, and what
is done about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from types import CodeType
from typing import Protocol, TypeAlias

import apsw

from veritydb.errors import CaptureError
from veritydb.events import Event, Schema
from veritydb.hooks import buffer as buffers
from veritydb.hooks import hidden
from veritydb.hooks import witness as witnesses
from veritydb.hooks.buffer import ChangeBuffer, Mark, Overflow, Run
from veritydb.hooks.catalog import Catalog
from veritydb.hooks.images import Table
from veritydb.hooks.late import Late
from veritydb.hooks.rows import RowHook
from veritydb.hooks.sequences import Sequences
from veritydb.hooks.statistics import Statistics
from veritydb.hooks.witness import Head, Witness


class CaptureClient(Protocol):
    """Who is told (the session)."""

    def on_sync(self) -> None:
        """Handle the coming commit. SQL is allowed, on a cursor kept for it. An exception refuses the commit."""
        ...

    def on_commit(self) -> bool:
        """Handle the commit itself: True, or an exception, turns it into a rollback. No SQL."""
        ...

    def on_rollback(self) -> None:
        """Handle the rollback of the whole transaction."""
        ...

    def reader(self) -> apsw.Connection | None:
        """Return a connection that sees the file as it was when the transaction began; None if there is none."""
        ...


class Quiet(Protocol):
    """Who must not be asked about our own statements (the planner, for its authorizer): counted up while they run."""

    internal: int


class _Nobody:
    internal = 0


StatementMark: TypeAlias = "tuple[Mark, int]"
"""Where a statement began: the place in the buffer, and how many savepoints were open. A plain tuple costs least."""


class Capture(RowHook):
    """Row changes of ``db``'s schema ``main``, recorded as they happen and forgotten as SQLite rolls them back."""

    def __init__(
        self,
        db: apsw.Connection,
        client: CaptureClient,
        overflow: Overflow | None = None,
        *,
        quiet: Quiet | None = None,
        callbacks: Collection[CodeType] = (),
        rows_max: int = buffers.ROWS_MAX,
        bytes_max: int = buffers.BYTES_MAX,
    ) -> None:
        self.db = db
        self.buffer = ChangeBuffer(overflow, rows_max=rows_max, bytes_max=bytes_max)
        self.enabled = True
        """Whether changes are captured; off while the log's own transactions are applied. :meth:`pause` switches it
        off. On again is an assignment, because a signal's exception can keep a call of a function from happening, and
        none comes between the words ``finally`` and an assignment."""
        self.joined = False
        """Whether the witness is in the transaction."""
        self.poison: BaseException | None = None
        """Why this transaction may not commit: something could not be captured."""
        self._refused: BaseException | None = None
        """Why the last one did not, until the next one is joined."""
        self.tail_due = False
        """Whether another virtual table has joined, so that :meth:`join_tail` should be called before going on."""
        self.schema_moved = False
        """Whether the last join found another schema than the one before: what was planned may be out of date."""
        self.version: int | None = None
        """SQLite's number of the file's state, in which the catalog is true: as the last join found it, or as the last
        commit left it. Another connection's commit makes it another one, which shows under the write lock."""
        self.announced = False
        """Whether there was something to log when the client was told of the commit."""

        self._client = client
        self._quiet: Quiet = quiet if quiet is not None else _Nobody()
        self._cursor = db.cursor()
        self._execute = self._cursor.execute
        self.catalog = Catalog()
        self._late = Late(self)
        self._sequences = Sequences(self)
        self._statistics = Statistics(self, self._late)

        self._schema_changed = False
        """Whether this transaction has changed the schema."""
        self._schema_stale = False
        """Whether a savepoint has taken that back."""
        self._marks: dict[int, Mark] = {}
        self._depth = 0
        self._joining = False
        self._numbered: str | None = None
        """The table whose rows are being numbered: changes of it are none."""
        self._numbers: list[int] = []
        self._head = Head(self)
        self._tails: list[tuple[Witness, str]] = []
        """The witnesses behind other virtual tables, and the statement by which each joins."""
        self._tail_count = 0
        """Tails in the transaction."""
        self._last: Witness = self._head
        self._heard_of: set[str] = set()
        """Virtual tables known to be in the transaction."""

        self._join_statement = witnesses.install(db, witnesses.HEAD, self._head)
        self.buffer.on_truncate = self._truncated
        hook = self._make_hook()
        # Other callbacks on this connection (the authorizer): what leaves one of those, too, SQLite takes for a failure
        # in the middle of something. A text index that was about to prepare a statement of its own keeps half of it.
        self._callbacks = (hook.__code__, *callbacks)
        db.preupdate_hook(hook, id=self)
        db.set_commit_hook(self._on_commit_hook, id=self)
        db.set_rollback_hook(self._on_rollback_hook, id=self)

    # ---- for the session

    def pause(self) -> None:
        """Capture nothing until ``enabled`` is set; call it inside of the ``try`` whose ``finally`` sets it."""
        self._sequences.forget()  # What is written while capture is off moves them.
        # The hook stays installed: a DELETE without WHERE that is prepared while there is none reports no rows ever.
        # It tests nothing more than the name of the current run.
        self.buffer.end_run()
        self.enabled = False

    @property
    def refusal(self) -> BaseException | None:
        """Why the transaction may not commit; if it is over, why it did not."""
        return self._refused if self.poison is None else self.poison

    @property
    def virtual_tables(self) -> frozenset[str]:
        """The virtual tables of the schema, as far as it is known since the last join."""
        return self.catalog.virtual

    @property
    def captured(self) -> bool:
        """Whether there is anything to log. Exact in ``on_sync``, if :meth:`drain` was called where it is due."""
        return self.buffer.any()

    @property
    def may_have_captured(self) -> bool:
        """Whether there is anything to log, as far as that is known before ``on_sync``."""
        return self.captured or bool(self._late.touched or self._heard_of) or self.catalog.has_sequence

    @property
    def virtual_joined(self) -> bool:
        """Whether another virtual table is known to be in the transaction, so that :meth:`drain` is due."""
        return bool(self._heard_of)

    def join(self) -> None:
        """Enter the transaction, before its first change. Takes the main file's write lock."""
        if self.joined:
            return
        early = len(self.buffer) > 0
        catalog = self.catalog
        self._joining = True
        self._quiet.internal += 1
        try:
            self._execute(self._join_statement)
            version = self.db.data_version("main")
            if version == self.version and catalog.trusted:
                self.schema_moved = False
            else:
                self.schema_moved = catalog.check(self._cursor)
                self.version = version
            if catalog.has_sequence:
                self._sequences.begin(self._cursor)
        except apsw.Error:
            raise
        except BaseException as error:
            self._poison(error)  # What the witness missed is not known, and this transaction may go on.
            raise
        finally:
            self._quiet.internal -= 1
            self._joining = False
        if early:
            self._poison(CaptureError("rows were changed before the transaction was joined; it cannot commit"))
        self.joined = True

    def committed(self) -> int:
        """Return the number of the state that a commit of ours has left; called right after it."""
        self.version = version = self.db.data_version("main")
        return version

    def join_tail(self) -> None:
        """Let one more witness join, behind the virtual tables that have joined so far."""
        self.tail_due = False
        number = self._tail_count
        if number == len(self._tails):
            tail = Witness(self)
            self._tails.append((tail, witnesses.install(self.db, f"{witnesses.TAIL}{number}", tail)))
        tail, statement = self._tails[number]
        self._joining = True
        self._quiet.internal += 1
        try:
            self._execute(statement)
        finally:
            self._quiet.internal -= 1
            self._joining = False
        self._tail_count = number + 1
        self._last = tail

    def wrote_virtual(self, name: str) -> None:
        """Take note that a statement wrote virtual table ``name``: some show it by no row until they are flushed."""
        if name not in self._heard_of:
            self._heard_of.add(name)
            self.tail_due = True

    def drain(self) -> None:
        """Make the virtual tables write out what they hold back (FTS its index), before COMMIT."""
        self._quiet.internal += 1
        try:
            self._execute("SAVEPOINT _veritydb_drain")
            self._execute("RELEASE _veritydb_drain")
        finally:
            self._quiet.internal -= 1

    @property
    def settlement_due(self) -> bool:
        """Whether :meth:`settle_early` has to be called before COMMIT: in the commit it would be too late."""
        return bool(self._late.touched) and self._late.hidden

    def settle_early(self) -> None:
        """Log the late rows now, because there are some whose row ids have to be found out under a savepoint."""
        self._quiet.internal += 1
        try:
            self._late.settle()
        finally:
            self._quiet.internal -= 1

    def statement_mark(self) -> StatementMark:
        """Return where the statement that follows begins. A tail that is due joins, a schema taken back is read."""
        if self.tail_due:
            self.join_tail()
        if self._schema_stale:
            self._read_schema()
        return self.buffer.mark(), self._depth

    def unwind(self, mark: StatementMark | None, error: BaseException) -> None:
        """Bring the buffer to what is really there, after a statement that a Python exception left.

        While the exception is on its way APSW calls no callback, so the rollback of the statement was not heard. What
        SQLite does is known all the same: a statement that opened a journal, which was heard, is rolled back to it;
        one that did not keeps its rows; and if the whole transaction is gone, autocommit is on. Only if the exception
        came out of our own callbacks, a row or a savepoint may be missing, and the transaction may not commit.

        ``mark`` is None for a statement that handles savepoints (SAVEPOINT, RELEASE, ROLLBACK TO): it leaves no rows to
        take back, and the savepoint it made may be there. After an error of SQLite's own there is nothing to do, and
        nothing is done.
        """
        if self.joined and self.db.get_autocommit():
            self._sequences.forget()  # It may have been the end of a commit that was interrupted.
            self._on_rollback_hook()
            return
        if self._passed_through_us(error):
            self._poison(error)
        if mark is None or self.poison is not None:
            return
        _, depth = mark
        if self._depth > depth:
            self.buffer.truncate(self._marks[depth])
            self._depth = depth

    def add(self, event: Event) -> None:
        """Append an event that no hook reports."""
        self.buffer.add(event)

    def settle(self) -> None:
        """Log the late rows now; before a schema statement, for it may change what can be read."""
        if self._schema_stale:
            self._read_schema()
        # A schema statement makes SQLite connect virtual tables anew, and what is new joins behind our tails.
        self._heard_of.clear()
        self._quiet.internal += 1
        try:
            self._late.settle()
        finally:
            self._quiet.internal -= 1

    def add_schema(self, event: Schema, mark: StatementMark) -> None:
        """Append a schema statement that has run since ``mark``, and read the schema anew.

        Rows that it wrote into tables which it has made itself (a virtual table's shadow tables) are forgotten:
        replaying the statement writes them again. Rows reported of other tables (the cascades of DROP TABLE) stay,
        before the statement.
        """
        self.buffer.drop_runs(mark[0], _is_new)
        self._late.forget_new()
        self.buffer.add(event)
        self.schema_changed()

    def schema_changed(self) -> None:
        """Read the schema, which has changed inside this transaction."""
        self._schema_changed = True
        self._heard_of.clear()
        self._read_schema()

    def refresh_statistics(self) -> None:
        """Log the content of the tables ``sqlite_stat*`` at the commit: ANALYZE, DROP INDEX, DROP TABLE change them."""
        self._statistics.due = True

    def add_table(self, table: str) -> None:
        """Append the whole content of ``table`` as inserts: no row of CREATE TABLE … AS SELECT is reported."""
        self._quiet.internal += 1
        try:
            self._late.add_content(table)
        finally:
            self._quiet.internal -= 1

    def touch(self, table: str, rowid: int) -> None:
        """Remember that a row has changed in a way that no image tells; it is read at the commit."""
        self._late.touch(self.catalog.find(table), rowid)

    def interrupted(self) -> None:
        """Drop what a signal's exception has left half-read: an unfinished statement would keep its lock."""
        self._execute("")

    def close(self) -> None:
        """Take the hooks off the connection, before it is closed."""
        self.db.preupdate_hook(None, id=self)
        self.db.set_commit_hook(None, id=self)
        self.db.set_rollback_hook(None, id=self)
        self._cursor.close()

    def numbers(self, table: Table) -> list[int]:
        """Return the row ids of a table that hides them, in order."""
        self.buffer.end_run()
        self._numbers = []
        self._numbered = table.name
        try:
            hidden.number_rows(self.db, table)
        finally:
            self._numbered = None
        return sorted(self._numbers)

    def open_reader(self) -> apsw.Connection | None:
        """Return the client's view of the file as it was when the transaction began."""
        return self._client.reader()

    # ---- what the witnesses hear

    def on_begin(self, source: Witness) -> None:
        """See :class:`veritydb.hooks.witness.Listener`."""
        if source is self._head:
            self.poison = self._refused = None

    def on_savepoint(self, source: Witness, level: int) -> None:
        """See :class:`veritydb.hooks.witness.Listener`."""
        try:
            if self._joining:
                # SQLite tells a newcomer which savepoint is the innermost. It is older than what a tail would mark,
                # and marks below the head's join are the beginning.
                if source is self._head:
                    self._depth = level + 1
                return
            if self.poison is not None:
                return
            self._marks[level] = self.buffer.mark()
            self._depth = level + 1
        except BaseException as error:
            self._poison(error)
            raise

    def on_rollback_to(self, level: int) -> None:
        """See :class:`veritydb.hooks.witness.Listener`."""
        if self.poison is not None:
            return
        try:
            self.buffer.truncate(self._marks.get(level, (0, -1)))
            self._depth = level + 1
            if self._schema_changed:
                self._schema_stale = True
                self._heard_of.clear()
        except BaseException as error:
            self._poison(error)
            raise

    def on_release(self, level: int) -> None:
        """See :class:`veritydb.hooks.witness.Listener`."""
        self._depth = level

    def on_sync(self, source: Witness) -> None:
        """See :class:`veritydb.hooks.witness.Listener`."""
        if source is not self._last or not self.enabled or self.poison is not None:
            return
        self._quiet.internal += 1
        try:
            if self._schema_stale:
                self._read_schema()
            if self._late.touched:
                self._late.settle(committing=True)
            if self.catalog.has_sequence:
                self._sequences.settle(self._cursor)
            if self._statistics.due:
                self._statistics.settle()
            self.announced = self.buffer.any()
            self._client.on_sync()
        except BaseException as error:
            # Not raised: APSW would call no callback any more. The commit hook refuses, and the client has the cause.
            self._poison(error)
        finally:
            self._quiet.internal -= 1

    def on_end(self, *, committed: bool) -> None:
        """See :class:`veritydb.hooks.witness.Listener`."""
        self._forget(committed=committed)

    # ---- the two other hooks

    def _on_commit_hook(self) -> bool:
        if not self.enabled:
            return False
        announced, self.announced = self.announced, False
        try:
            if self.poison is None and not announced and (self.buffer.any() or self._late.touched):
                self.poison = CaptureError("rows were changed by a commit that was not prepared for; rolled back")
            elif self._late.touched:
                self._poison(CaptureError("a row was changed after the commit was prepared; rolled back"))
            if self._client.on_commit():
                return True
        except BaseException as error:
            self._poison(error)
        return self.poison is not None

    def _on_rollback_hook(self) -> None:
        self._forget(committed=False)
        if self.enabled:
            self._client.on_rollback()

    # ---- inside

    def _read_schema(self) -> None:
        self.buffer.end_run()
        self._schema_stale = True
        self._quiet.internal += 1
        try:
            self.catalog.read(self._cursor)
        finally:
            self._quiet.internal -= 1
        self._schema_stale = False

    def _poison(self, error: BaseException) -> None:
        if self.poison is None:
            self.poison = error
            self.buffer.pause_run()  # What comes now need not be kept, and what is there may be torn.

    def _forget(self, *, committed: bool) -> None:
        """Forget the transaction, but for why it was refused. What says that there is one goes last."""
        self.announced = False
        self.tail_due = self._schema_changed = self._schema_stale = False
        self._marks.clear()
        self._depth = 0
        self._tail_count = 0
        self._last = self._head
        self._heard_of.clear()
        late = self._late
        if late.touched or late.settled:
            late.clear()
        self._statistics.due = False
        self._sequences.end(committed=committed)
        self.buffer.clear()
        if self.poison is not None:
            self._refused, self.poison = self.poison, None
        self.joined = False

    def _truncated(self, mark: Mark) -> None:
        self._late.truncate(mark)
        self._sequences.truncate(mark)

    def _passed_through_us(self, error: BaseException) -> bool:
        """Whether ``error`` came out of one of our callbacks.

        A signal's exception can be raised at the first instruction of a function, before its ``try``.
        """
        frame = error.__traceback__
        codes = _our_code().union(self._callbacks)
        while frame is not None:
            if frame.tb_frame.f_code in codes:
                return True
            frame = frame.tb_next
        return False


def _is_new(run: Run) -> bool:
    return not run.table.resolved


@cache
def _our_code() -> frozenset[CodeType]:
    """Return the code of the methods of our classes, some of which SQLite calls."""

    def codes() -> Iterator[CodeType]:
        for kind in (RowHook, Capture, Witness, Head, ChangeBuffer):
            for part in vars(kind).values():
                code = getattr(part, "__code__", None)
                if code is not None:
                    yield code

    return frozenset(codes())
