"""What tests of subscribers share."""

from __future__ import annotations

from typing import Any

from veritydb.subscriptions import TableUpdate

WAIT = 20
"""Seconds for which a test waits for what must come."""


def told(update: Any) -> tuple[Any, ...]:
    """What an update says, without who and when."""
    assert isinstance(update, TableUpdate)
    return update.table, update.action, update.row_id
