"""Events of the log, carried out on a database.

:class:`Applier` is driven by :mod:`veritydb.replay.rebuilding` on a new file and by :mod:`veritydb.replay.redo` on one
that is behind. It changes exactly what the event says: no trigger, cascade, check or conflict clause acts a second
time, because what they did when the transaction was live is in the log as events of its own.

It trusts nothing it can check cheaply. Every UPDATE and DELETE must meet the one row it names, and the schema after a
schema statement must have the digest that was logged: a database that is not in the state the log was written against
raises ReplayMismatch instead of drifting on. Transactions are the caller's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from types import TracebackType
from typing import Any

import apsw

from veritydb import events
from veritydb.errors import DatabaseError, MissingFunction, ReplayMismatch
from veritydb.events import BlobWrite, Clear, Event, Genesis, Op, RawText, Rows, Schema, Setting, Value
from veritydb.replay.digest import schema_digest
from veritydb.replay.hidden import Unhidden, forget_schema
from veritydb.replay.quiet import Quiet
from veritydb.replay.shapes import counts_in_sequence, shape_of
from veritydb.replay.statements import Binding, Statements, quoted, raw_parameters

_SETTINGS = frozenset({"user_version", "application_id", "auto_vacuum"})
_STATISTICS = re.compile(r"sqlite_stat\d\Z", re.IGNORECASE)
_DROPS_STATISTICS = re.compile(r"\bdrop\b.*\bsqlite_stat\d", re.IGNORECASE | re.DOTALL)
_MISSING = re.compile(r"(?:no such|unknown) (?:function|collation sequence|module|tokenizer)|no query solution")
# A statement that fails in one of these ways fails because of what the database holds. Others (full, busy, unreadable)
# say nothing about the log and are the caller's.
_OF_THE_STATE = (apsw.SQLError, apsw.ConstraintError, apsw.BindingsError, apsw.MismatchError, apsw.RangeError)


class Applier:
    """Applies events to ``db``, one after the other; :meth:`finish` ends each transaction of the log.

    The connection is made quiet (:class:`~veritydb.replay.quiet.Quiet`) until :meth:`close`. After an error roll back,
    and use a new applier.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._total_changes = db.total_changes
        self._quiet = Quiet(db)
        self._tables: dict[str, Statements] = {}
        self._counting: set[str] = set()
        self._unhidden: list[tuple[str, Unhidden]] = []
        self._legacy_alter_table = False
        self._dqs_ddl = True
        self._shadow_tables_changed = False
        self.auto_vacuum: int | None = None
        """The last mode that the log has set; None if none."""
        self._handlers: dict[type, Callable[[Any], None]] = {
            Rows: self._rows,
            Schema: self._schema,
            BlobWrite: self._blob_write,
            Setting: self._setting,
            events.Sequence: self._sequence,
            Clear: self._clear,
            Genesis: self._genesis,
            events.Cut: _nothing,
        }

    def __enter__(self) -> Applier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def apply(self, event: Event) -> None:
        """Carry out ``event``. Raises ReplayMismatch or MissingFunction, or what SQLite raises for its own troubles."""
        try:
            self._handlers[type(event)](event)
        except _OF_THE_STATE as error:
            raise _explained(error, event) from error

    def finish(self) -> None:
        """End a transaction of the log: nothing that only helped to carry it out is left."""
        while self._unhidden:
            table, unhidden = self._unhidden.pop()
            unhidden.hide()
            self._tables.pop(table, None)

    def close(self) -> None:
        """Leave the connection as it was before, outside of any transaction of the log."""
        self._quiet.leave()
        if self._unhidden or self._shadow_tables_changed:
            # After a failure the schema in memory names tables that the file will not have. And FTS keeps what it has
            # read of its shadow tables, and trusts it until others write: a schema read anew has new virtual tables.
            forget_schema(self._db)

    # Rows.

    def _rows(self, event: Rows) -> None:
        table, op = event.table, event.op
        statements = self._tables.get(table) or self._learn(table)
        images = event.before if op is Op.DELETE else event.after
        if not images:
            return
        if len(images[0]) != statements.width:
            raise ReplayMismatch(
                f"the log has rows of {len(images[0])} columns for {table}, which has {statements.width} at this point"
            )
        if op is Op.INSERT:
            self._run(statements.insert, statements.insert_sql, statements.insert_bindings(event.rowids, images))
        elif op is Op.DELETE:
            bindings = statements.delete_bindings(event.rowids, images)
            self._run(statements.delete, statements.delete_sql, bindings, event)
        else:
            self._update(statements, event)

    def _learn(self, table: str) -> Statements:
        shape = shape_of(self._db, table)
        statements = Statements(shape)
        if statements.has_rowid and statements.rowid is None:
            unhidden = Unhidden(self._db, shape, len(self._unhidden))
            self._unhidden.append((table, unhidden))
            statements = Statements(unhidden.shape)
        if counts_in_sequence(self._db, shape):
            self._counting.add(table)
        if shape.shadow:
            self._shadow_tables_changed = True
        self._tables[table] = statements
        return statements

    def _update(self, statements: Statements, event: Rows) -> None:
        before, after = event.before, event.after
        assert before is not None
        assert after is not None
        start = 0
        if event.rowids_after is None and not event.net:
            so_far = self._total_changes()
            try:
                bindings = statements.update_bindings(event.rowids, before, after)
                self._run(statements.update, statements.update_sql, bindings, event)
                return
            except apsw.ConstraintError:
                start = self._total_changes() - so_far
        # From here on rows are taken out and put in. No UPDATE moves a sequence, but an INSERT does.
        counting = event.table in self._counting
        sequence = self._read_sequence(event.table) if counting else None
        if event.rowids_after is not None and not event.net:
            self._move(statements, event)
        else:
            self._replace_as_set(statements, event, start)
        if counting:
            self._set_sequence(event.table, sequence)

    def _move(self, statements: Statements, event: Rows) -> None:
        """Carry out updates that change rowids: out at the old place, in at the new one, in the order of the log."""
        assert event.rowids is not None
        assert event.rowids_after is not None
        assert event.after is not None
        for old, new, image in zip(event.rowids, event.rowids_after, event.after, strict=True):
            self._db.execute(statements.delete, (old,))
            if self._db.changes() != 1:
                raise _absent(event.table, f"rowid {old}")
            self._run(statements.insert, statements.insert_sql, statements.insert_bindings([new], [image]))

    def _replace_as_set(self, statements: Statements, event: Rows, start: int) -> None:
        """Carry out the updates from number ``start`` on as one: all old rows out, then all new ones in.

        For a net effect, whose order means nothing and where rows may have swapped unique values; and for a run that
        met a constraint between two of its rows.
        """
        before, after = event.before, event.after
        assert before is not None
        assert after is not None
        places: Sequence[Any]
        places_after: Sequence[Any]
        if event.rowids is not None:
            places, places_after = event.rowids, event.rowids_after or event.rowids
        else:
            places, places_after = list(statements.keys(before)), list(statements.keys(after))
        out: list[int] = []
        rows_in: dict[Any, int] = {}
        for number in range(start, len(after)):
            # In a run that is a sequence of events, a later one may go on with the row of an earlier one.
            if event.net or rows_in.pop(places[number], None) is None:
                out.append(number)
            rows_in[places_after[number]] = number
        if not event.net:
            assert len(rows_in) == len(out), "a row was updated into the place of another"
        chosen = list(rows_in.values())
        rowids = event.rowids and [event.rowids[number] for number in out]
        gone = Rows(event.table, Op.DELETE, rowids, None, [before[number] for number in out], None)
        assert gone.before is not None
        self._run(statements.delete, statements.delete_sql, statements.delete_bindings(gone.rowids, gone.before), gone)
        rowids = event.rowids and [places_after[number] for number in chosen]
        bindings = statements.insert_bindings(rowids, [after[number] for number in chosen])
        self._run(statements.insert, statements.insert_sql, bindings)

    def _run(
        self,
        sql: str,
        make_sql: Callable[[Collection[int]], str],
        bindings: Sequence[Binding],
        checked: Rows | None = None,
    ) -> None:
        """Run one statement for each binding; with ``checked`` each has to meet exactly one row."""
        if RawText in map(type, chain.from_iterable(bindings)):
            self._run_raw(make_sql, bindings, checked)
        elif checked is None:
            self._db.executemany(sql, bindings)
        else:
            self._db.executemany(sql, self._watched(bindings, checked))

    def _run_raw(
        self, make_sql: Callable[[Collection[int]], str], bindings: Sequence[Binding], checked: Rows | None
    ) -> None:
        for binding in bindings if checked is None else self._watched(bindings, checked):
            self._db.execute(make_sql(raw_parameters(binding)), binding)

    def _watched(self, bindings: Sequence[Binding], event: Rows) -> Iterator[Binding]:
        """Yield ``bindings``, and look after each whether its statement has met a row."""
        total_changes = self._total_changes
        expected = total_changes()
        for number, binding in enumerate(bindings):
            yield binding
            expected += 1
            if total_changes() != expected:
                place = f"rowid {event.rowids[number]}" if event.rowids is not None else f"key of {_short(binding)}"
                raise _absent(event.table, place)

    # sqlite_sequence. Inserting rows moves it as it did live; where live it moved otherwise, the log says so.

    def _sequence(self, event: events.Sequence) -> None:
        self._set_sequence(event.table, None if event.gone else (event.value,))

    def _read_sequence(self, table: str) -> tuple[Value, ...] | None:
        sql = "SELECT seq FROM main.sqlite_sequence WHERE name = ?"
        row: tuple[Value, ...] | None = self._db.execute(sql, (table,)).fetchone()
        return row

    def _set_sequence(self, table: str, row: tuple[Value, ...] | None) -> None:
        execute = self._db.execute
        if row is None:
            execute("DELETE FROM main.sqlite_sequence WHERE name = ?", (table,))
            return
        execute("UPDATE main.sqlite_sequence SET seq = ? WHERE name = ?", (row[0], table))
        if not self._db.changes():
            execute("INSERT INTO main.sqlite_sequence(name, seq) VALUES (?, ?)", (table, row[0]))

    # Everything else.

    def _schema(self, event: Schema) -> None:
        self.finish()
        self._tables.clear()
        self._counting.clear()
        if event.legacy_alter_table is not self._legacy_alter_table:
            self._db.config(apsw.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE, event.legacy_alter_table)
            self._legacy_alter_table = event.legacy_alter_table
        if event.dqs_ddl is not self._dqs_ddl:
            self._db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, event.dqs_ddl)
            self._dqs_ddl = event.dqs_ddl
        if _DROPS_STATISTICS.search(event.sql):
            self._make_statistics_tables()
        if event.legacy_alter_table and event.digest:
            self._alter_as_then(event)
            return
        self._execute(event.sql)
        if event.digest and schema_digest(self._db) != event.digest:
            raise _another_schema(event)

    def _alter_as_then(self, event: Schema) -> None:
        """Carry out a statement that depends on a setting the log does not name, but whose outcome it knows.

        Under legacy_alter_table, RENAME rewrites the foreign keys of other tables only while foreign keys are enforced
        (https://www.sqlite.org/lang_altertable.html#alter_table_rename).
        """
        execute = self._db.execute
        execute("SAVEPOINT veritydb_alter")
        self._execute(event.sql)
        renames = event.sql.lstrip()[:5].upper() == "ALTER"
        if schema_digest(self._db) != event.digest and renames:
            execute("ROLLBACK TO veritydb_alter")
            self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 1)
            try:
                self._execute(event.sql)
            finally:
                self._db.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)
        execute("RELEASE veritydb_alter")
        if schema_digest(self._db) != event.digest:
            raise _another_schema(event)

    def _execute(self, sql: str) -> None:
        self._db.execute(sql).fetchall()

    def _make_statistics_tables(self) -> None:
        # The only statement that makes sqlite_stat1 and sqlite_stat4 without filling them.
        self._db.execute("ANALYZE main.sqlite_schema")

    def _clear(self, event: Clear) -> None:
        if _STATISTICS.match(event.table) and not self._db.table_exists("main", event.table):
            self._make_statistics_tables()
        self._db.execute(f"DELETE FROM main.{quoted(event.table)}")

    def _blob_write(self, event: BlobWrite) -> None:
        with self._db.blob_open("main", event.table, event.column, event.rowid, True) as blob:
            blob.seek(event.offset)
            if blob.read(len(event.before)) != event.before:
                raise ReplayMismatch(
                    f"column {event.column} of {event.table}, rowid {event.rowid}, does not hold what the log says"
                )
            blob.seek(event.offset)
            blob.write(event.data)

    def _setting(self, event: Setting) -> None:
        if event.name not in _SETTINGS:
            raise ReplayMismatch(f"the log sets {event.name}, which is no header field this program knows")
        if event.name == "auto_vacuum":
            self.auto_vacuum = event.value
        self._db.pragma(event.name, event.value, schema="main")

    def _genesis(self, event: Genesis) -> None:
        db = self._db
        if db.pragma("page_count") == 0:
            db.pragma("encoding", event.encoding)
            db.pragma("page_size", event.page_size)
            db.pragma("auto_vacuum", event.auto_vacuum)
        if db.pragma("encoding") != event.encoding:
            raise ReplayMismatch(f"the log was written by a database in {event.encoding}, this one is not")


def _nothing(event: Event) -> None:
    """Do nothing: the event is about the log."""


def _absent(table: str, place: str) -> ReplayMismatch:
    return ReplayMismatch(f"the log changes a row of {table} that is not there: {place}; nothing of it was kept")


def _another_schema(event: Schema) -> ReplayMismatch:
    return ReplayMismatch(f"the statement leaves another schema than it did when it was logged: {_short(event.sql)}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _explained(error: apsw.Error, event: Event) -> DatabaseError:
    message = str(error)
    if _MISSING.search(message):
        return MissingFunction(
            f"the schema needs what is not registered: {message}; register it (register=…, or --register)"
        )
    what = event.sql if isinstance(event, Schema) else getattr(event, "table", "")
    return ReplayMismatch(f"{type(event).__name__} of the log cannot be carried out: {message}: {_short(what)}")
