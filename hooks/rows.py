"""The preupdate hook: each row that SQLite changes, into the change buffer.

A part of :class:`veritydb.hooks.capture.Capture`, which inherits it. The hook may not run SQL and is the hottest code
of the product: a row that goes on with the run before it is appended to two lists and no more; every other one comes
to :meth:`RowHook._begin_run`, which decides what kind of row it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import apsw

from veritydb.errors import CaptureError
from veritydb.hooks.buffer import DELETE, INSERT, UPDATE, ChangeBuffer
from veritydb.hooks.images import Kind, Table

if TYPE_CHECKING:
    from veritydb.hooks.catalog import Catalog
    from veritydb.hooks.late import Late
    from veritydb.hooks.statistics import Statistics


class RowHook:
    """What of a capture the hook needs, and the hook."""

    buffer: ChangeBuffer
    catalog: Catalog
    enabled: bool
    poison: BaseException | None
    tail_due: bool
    _late: Late
    _statistics: Statistics
    _heard_of: set[str]
    _numbered: str | None
    _numbers: list[int]

    if TYPE_CHECKING:

        def _poison(self, error: BaseException) -> None: ...

    def _make_hook(self) -> Callable[[apsw.PreUpdate], None]:
        buffer = self.buffer
        begin = self._begin_run

        def on_row(u: apsw.PreUpdate) -> None:
            try:
                # The name goes first: it differs oftenest, and is None when there is no run to go on with.
                if u.table_name == buffer.name and u.opcode == buffer.code and u.database_name == "main":
                    code = buffer.code
                    if code == INSERT:
                        buffer.add_after(u.new)
                    elif code == UPDATE:
                        before = u.old
                        buffer.add_after(u.new)
                        buffer.add_before(before)
                        buffer.add_rowid_after(u.rowid_new)
                    else:
                        if u.blob_write >= 0:
                            begin(u)
                            return
                        buffer.add_before(u.old)
                    # Last, because the number of rowids is the length of the run.
                    buffer.add_rowid(u.rowid)
                    if len(buffer.rowids) >= buffer.check_at:
                        buffer.look()
                else:
                    begin(u)
            except (UnicodeDecodeError, apsw.RangeError):
                self._on_unreadable_row(u)
            except BaseException as error:
                self._poison(error)
                raise

        return on_row

    def _on_unreadable_row(self, u: apsw.PreUpdate) -> None:
        """Handle a row of the current run whose images cannot be had."""
        try:
            self._begin_run(u)
        except BaseException as error:
            self._poison(error)
            raise

    def _begin_run(self, u: apsw.PreUpdate) -> None:
        """Handle a row that does not go on with the current run."""
        if u.table_name == self._numbered and u.database_name == "main":
            self._numbers.append(u.rowid)
            return
        if not self.enabled or u.database_name != "main" or self.poison is not None:
            return
        buffer = self.buffer
        name = u.table_name
        table = self.catalog.tables.get(name)
        if table is None:
            table = self.catalog.meet(name)
        elif table.kind is not Kind.PLAIN:
            if table.kind is not Kind.IGNORED:
                self._on_special_row(table, u)
            return
        if table.owner and table.owner not in self._heard_of:
            self._heard_of.add(table.owner)
            self.tail_due = True
        code = u.opcode
        late = self._late
        if table.name in late.touched or (code == DELETE and u.blob_write >= 0):
            self._on_late_row(table, u)
            return
        try:
            before: Any = u.old
            after: Any = u.new
        except (UnicodeDecodeError, apsw.RangeError):
            self._on_late_row(table, u)
            return
        if self.catalog.text_encoding != "utf-8" and _has_text(before, after):
            # SQLite translates text for the hook, and invalid UTF-16 becomes other text without a word.
            self._on_late_row(table, u)
            return
        rowid = u.rowid
        buffer.begin_run(table, code)
        if after is not None:
            buffer.add_after(after)
        if before is not None:
            buffer.add_before(before)
        if code == UPDATE:
            buffer.add_rowid_after(u.rowid_new)
        buffer.add_rowid(rowid)
        if self.catalog.text_encoding != "utf-8":
            buffer.pause_run()  # The next row is to be looked at too.

    def _on_late_row(self, table: Table, u: apsw.PreUpdate) -> None:
        self.buffer.pause_run()
        self._late.touch(table, u.rowid)
        if u.opcode == UPDATE:
            self._late.touch(table, u.rowid_new)

    def _on_special_row(self, table: Table, u: apsw.PreUpdate) -> None:
        kind = table.kind
        if kind == Kind.LATE:
            self._on_late_row(table, u)
        elif kind == Kind.STATISTICS:
            self._statistics.due = True
        elif kind == Kind.FORBIDDEN:
            self._poison(CaptureError("sqlite_schema was written directly, which cannot be logged"))


def _has_text(*images: tuple[Any, ...] | None) -> bool:
    return any(type(value) is str for image in images if image is not None for value in image)
