"""The exit codes. Scripts rely on them, so a number never changes its meaning."""

from __future__ import annotations

from enum import IntEnum

from veritydb import errors


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    PROBLEM = 1
    """``verify`` found that file and log differ, or a command could not do its work."""
    USAGE = 2
    """The command line says what cannot be: an unknown option, a target that exists, no such file."""
    KEY = 3
    """No key, the wrong key, or a key for a database that has none."""
    LOG = 4
    """The log is damaged or missing, or is not the log of this file."""
    NOT_ADOPTED = 5
    """The file has content and no log; ``veritydb adopt`` gives it one."""
    BUSY = 6
    """Another program uses the database; try again."""
    UNAVAILABLE = 7
    """A cluster was looked at, and cannot commit."""
    INTERRUPTED = 130
    """Control-C, as shells count it."""


_BUSY_CODES = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED."""


def exit_of(error: BaseException) -> Exit:
    """Return the exit code for an error that a command did not handle."""
    if isinstance(error, errors.KeyProblem):
        return Exit.KEY
    if isinstance(error, errors.LogProblem):
        return Exit.LOG
    if isinstance(error, errors.NotAdopted):
        return Exit.NOT_ADOPTED
    if isinstance(error, errors.ProgrammingError):
        return Exit.USAGE
    if isinstance(error, errors.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY_CODES:
        return Exit.BUSY
    return Exit.PROBLEM
