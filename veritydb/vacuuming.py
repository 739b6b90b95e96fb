"""VACUUM, whose effect on rowids is logged before it happens.

VACUUM renumbers the rows of a table that has neither an INTEGER PRIMARY KEY nor an index, runs no commit hook and
reports nothing. So the rows that it would renumber are renumbered first, by logged updates in a transaction of their
own: 1, 2, 3 … in rowid order, which is what VACUUM does. After that VACUUM changes nothing that replay has to know.

Where columns hide the rowid under all its names no statement can renumber rows. VACUUM is refused then, if it would.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.boundaries import UNKNOWN_MODE
from veritydb.errors import StatementRefused
from veritydb.refusals import attached
from veritydb.translation import translated

if TYPE_CHECKING:
    from veritydb.planner import Plan
    from veritydb.session import Session

_COPIED_ONE_BY_ONE = (
    "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type IN ('view', 'trigger') OR rootpage = 0)"
)


_SKIPPED = r"(?:[\s;\ufeff]|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*+"
_NAME = r"""\"(?:[^"]|\"")*\"|`(?:[^`]|``)*`|'(?:[^']|'')*'|\[[^\]]*\]|(?!INTO\b)[^\W\d][\w$]*"""
_VACUUM = re.compile(rf"{_SKIPPED}VACUUM{_SKIPPED}({_NAME})?{_SKIPPED}(INTO\b)?", re.DOTALL | re.IGNORECASE)


def run(session: Session, cursor: apsw.Cursor, plan: Plan, bindings: Any) -> None:
    """Run VACUUM, or VACUUM INTO."""
    schema, into = _read(plan.sql)
    others = {name.lower() for name in session.db.db_names()} - {"main", "temp"}
    if schema in others and not into and session.planner.may_not_write(schema):
        raise StatementRefused(f"{attached(schema)}; nothing was changed")
    outside = not session.db.in_transaction
    # While a query is read SQLite refuses; it must not find rows moved under it before that.
    unread = session.db.txn_state("main") == apsw.SQLITE_TXN_NONE
    changes_file = outside and not into and schema == "main"
    if changes_file and unread:
        _renumber(session)
    session.planner.internal += 1
    try:
        session.capture.pause()
        if changes_file:
            mode = session.pragma("auto_vacuum") if session.logged_mode is None else session.logged_mode
            left = session.reminder is not None and session.reminder.make(session.transactions.timeout)
            session.logged_mode = UNKNOWN_MODE if left else mode
        cursor.execute(plan.sql, bindings).fetchall()
        if session.db.execute(_COPIED_ONE_BY_ONE).get:
            # VACUUM writes these rows of the schema last, so their number is the last rowid. One table is ours.
            session.db.set_last_insert_rowid(session.db.last_insert_rowid() - 1)
    except apsw.Error as error:
        if session.reminder is not None:
            session.reminder.release()  # The next transaction looks what became of it; nobody's VACUUM waits for that.
        raise translated(error) from error
    finally:
        session.planner.internal -= 1
        session.capture.enabled = True
    if changes_file:
        session.log_mode()


def _read(sql: str) -> tuple[str, bool]:
    """Return the database that a VACUUM names, in lower case, and whether it leaves that as it is (INTO)."""
    found = _VACUUM.match(sql)
    if found is None:
        return "main", False
    name = found[1] or "main"
    if name[0] in "\"'`[":
        quote = name[-1]
        name = name[1:-1].replace(quote + quote, quote)
    return name.lower(), bool(found[2])


def _renumber(session: Session) -> None:
    db = session.db
    session.planner.internal += 1
    try:
        tables = [name for name in _rowid_tables(db) if _has_gaps(db, name)]
    finally:
        session.planner.internal -= 1
    if not tables:
        return
    triggers = db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, -1)
    session.enter_write()
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    session.planner.internal += 1
    try:
        with session.counters.kept():
            for name in tables:
                _close_gaps(db, name)
    except BaseException as error:
        session.abandon()
        if isinstance(error, apsw.Error):
            raise translated(error) from error
        raise
    finally:
        session.planner.internal -= 1
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, triggers)
    session.commit_bare()


def _rowid_tables(db: apsw.Connection) -> list[str]:
    # Ordinary tables with a rowid of their own, without any index (VACUUM keeps the rowids of the others).
    names: list[str] = []
    listing = "SELECT name, wr, type FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'shadow')"
    for found, without_rowid, _ in db.execute(listing).fetchall():
        name = str(found)
        if without_rowid or name in ("sqlite_schema", "sqlite_sequence") or name.startswith("_veritydb_"):
            continue
        columns = db.execute("SELECT pk, type, name FROM pragma_table_xinfo(?, 'main')", (name,)).fetchall()
        keys = [column for column in columns if column[0]]
        if len(keys) == 1 and str(keys[0][1]).upper() == "INTEGER":
            continue
        if not db.execute("SELECT 1 FROM pragma_index_list(?, 'main')", (name,)).fetchall():
            names.append(name)
    return names


def _rowid_name(db: apsw.Connection, table: str) -> str | None:
    taken = {row[0].lower() for row in db.execute("SELECT name FROM pragma_table_xinfo(?, 'main')", (table,))}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def _has_gaps(db: apsw.Connection, table: str) -> bool:
    rowid = _rowid_name(db, table)
    if rowid is None:
        if _has_hidden_gaps(db, table):
            raise StatementRefused(
                f"VACUUM would renumber the rows of {table}, whose columns have all names of the row id, which cannot "
                "be logged; rename one of the columns, or add an index; nothing was changed"
            )
        return False
    sql = f"SELECT count(*), min({rowid}), max({rowid}) FROM main.{_quoted(table)}"
    count, lowest, highest = db.execute(sql).get or (0, None, None)
    return bool(count) and (lowest != 1 or highest != count)


def _has_hidden_gaps(db: apsw.Connection, table: str) -> bool:
    """Whether rows are not numbered 1, 2, 3 …, or may not be, where no name reaches their numbers: blob handles do."""
    count = int(db.execute(f"SELECT count(*) FROM main.{_quoted(table)}").get)
    column = db.execute("SELECT name FROM pragma_table_info(?, 'main') LIMIT 1", (table,)).get
    for rowid in range(1, count + 1):
        try:
            db.blob_open("main", table, str(column), rowid, False).close()
        except apsw.SQLError as error:
            if "cannot open value of type" not in str(error):
                return True  # No such row; or a table with generated columns, of which no blob can be opened.
    return False


def _close_gaps(db: apsw.Connection, table: str) -> None:
    rowid = _rowid_name(db, table)
    name = _quoted(table)
    update = f"UPDATE main.{name} SET {rowid} = ? WHERE {rowid} = ?"
    cursor = db.cursor()
    rowids = [row[0] for row in cursor.execute(f"SELECT {rowid} FROM main.{name} ORDER BY {rowid}")]
    # Upwards, rows that move down: each finds its place empty. Rows below 1 move up: those from the top.
    moves = [(number, old) for number, old in enumerate(rowids, 1) if number != old]
    down = [move for move in moves if move[0] < move[1]]
    up = [move for move in moves if move[0] > move[1]]
    cursor.executemany(update, down)
    cursor.executemany(update, reversed(up))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
