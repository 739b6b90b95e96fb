"""What a node says while it runs: one line an event, for people or for programs.

A message says what happened in words that never change; what differs goes into fields: ``log.info("listening",
extra=fields(address=…))``. As text that is ``listening address=10.0.0.1:7400``, as JSON an object, so that whoever
searches a year of logs for one event finds it by its message. Fields are numbers, addresses, names of streams and
members: never a key, a record, or what a client sent.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

ROOT = "veritydb"
_PLAIN = (bool, int, float, str, type(None))
_QUIET = ("anyio", "asyncio", "uvicorn")
"""Libraries whose own words are for those who develop: only what is wrong is shown."""


def fields(**values: object) -> dict[str, object]:
    """Return ``extra`` for a log call."""
    return {"fields": values}


def set_up(style: str, level: str, **always: object) -> None:
    """Send the log to the error stream as ``text`` or ``json``; ``always`` is in every JSON line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(always) if style == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(ROOT).setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


class TextLines(logging.Formatter):
    """``2026-11-30T08:00:00.123Z INFO listening address=10.0.0.1:7400``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; the lines of a traceback follow it."""
        told: dict[str, object] = getattr(record, "fields", {})
        said = "".join(f" {name}={_word(value)}" for name, value in told.items())
        line = f"{_time(record)} {record.levelname} {_one_line(record.getMessage())}{said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """The same as an object: ``time``, ``level``, ``logger``, ``message``, then the fields."""

    def __init__(self, always: dict[str, object]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, object] = getattr(record, "fields", {})
        document: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **{name: value if isinstance(value, _PLAIN) else str(value) for name, value in told.items()},
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text.isprintable() or any(sign in text for sign in ' "=') or not text else text


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
