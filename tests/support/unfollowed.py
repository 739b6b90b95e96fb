"""Files that are behind their logs while connections to them are open: as when a process died between the two."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import veritydb


@contextlib.contextmanager
def left_behind(db: veritydb.Connection) -> Iterator[None]:
    """While it is entered, what ``db`` commits reaches the log and not the file; the commit raises OutcomeUnknown."""
    transactions, recovery = db._session.transactions, db._session._recovery
    writer, run = transactions._writer, recovery.run

    class Appends:
        """A writer whose disk goes once the record is on it."""

        sealer = writer.sealer

        def commit(self, *arguments: Any) -> None:
            writer.commit(*arguments)
            raise OSError("no disk")

    def redo(*_: object, **__: object) -> None:
        raise OSError("no disk")

    transactions._writer, recovery.run = Appends(), redo  # type: ignore[method-assign, assignment]  # a stand-in, for as long as it is entered
    try:
        yield
    finally:
        transactions._writer, recovery.run = writer, run  # type: ignore[method-assign]  # what was there
