"""The connection as the dialects open it, with its reason as an attribute and the actor it had at first."""

from __future__ import annotations

from typing import Any

import veritydb


class StampedConnection(veritydb.Connection):
    """What :mod:`veritydb.sqlalchemy.characteristics` sets attributes of, and sets them back."""

    __slots__ = ("first_actor",)

    first_reason_text = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.first_actor = self.actor

    @property
    def reason_text(self) -> str:
        """Why the transactions that follow are made."""
        return self._opened().reason_text

    @reason_text.setter
    def reason_text(self, value: str) -> None:
        self._opened().reason_text = value
