"""What is raised when a promise is broken."""

from __future__ import annotations


class Violation(Exception):
    """The protocol did what it must not, or did not do what it must."""

    def __init__(self, what: str, facts: str = "") -> None:
        super().__init__(f"{what}: {facts}" if facts else what)
        self.what = what
        """The rule that was broken; failures of one kind have one text."""
