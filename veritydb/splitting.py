"""Scripts into statements. Pure, but for SQLite's own word on where a trigger's body ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

import apsw

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|;""", re.DOTALL
)


def split(script: str) -> Iterator[str]:
    """Yield the statements of ``script``; SQLite says where a trigger's body ends."""
    start = 0
    for token in _TOKEN.finditer(script):
        if token.group() != ";":
            continue
        statement = script[start : token.end()]
        if apsw.complete(statement):
            yield statement
            start = token.end()
    rest = script[start:]
    if has_statement(rest):
        yield rest


_BLANK = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)


def has_statement(sql: str) -> bool:
    """Whether ``sql`` holds anything but white space and comments."""
    match = _BLANK.match(sql)
    return match is None or match.end() < len(sql)
