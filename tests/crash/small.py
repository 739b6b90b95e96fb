"""Sizes so small that a short run meets what otherwise takes gigabytes: segments that roll, parts that spill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from veritydb.hooks.capture import Capture
from veritydb.log.store import Log

if TYPE_CHECKING:
    import pytest

SEGMENT_SIZE = 16 << 10
ROWS_MAX = 8
"""Rows that the change buffer holds before it spills a part."""


def make_small(monkeypatch: pytest.MonkeyPatch | None = None, *, segment_size: int = SEGMENT_SIZE) -> None:
    """Give the log and the change buffer of this process other sizes, for good or until the end of a test."""
    for function, option, value in (
        (Log.open.__func__, "segment_size", segment_size),
        (Log.create.__func__, "segment_size", segment_size),
        # For a reader that waits while the same thread holds the lock, as where a missing file is made from its log.
        (Log.open.__func__, "patience", 0.0),
        (Capture.__init__, "rows_max", ROWS_MAX),
    ):
        defaults: dict[str, Any] = function.__kwdefaults__
        assert option in defaults
        if monkeypatch is None:
            defaults[option] = value
        else:
            monkeypatch.setitem(defaults, option, value)
