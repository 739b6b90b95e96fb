"""A line of the log is one line, for people or for programs, whatever is in its fields."""

from __future__ import annotations

import json
import logging
import sys

from veritydb.cluster.config import Address
from veritydb.cluster.logs import JsonLines, TextLines, fields


def record(message, error=None, **values):
    made = logging.LogRecord("veritydb.node", logging.WARNING, "", 0, message, (), error)
    made.created = 1_000_000_000.25
    made.__dict__.update(fields(**values))
    return made


def test_text_has_the_message_and_then_the_fields():
    line = TextLines().format(record("listening", address=Address("::1", 7400), view=3, why="no room = none"))
    assert line == '2001-09-09T01:46:40.250Z WARNING listening address=[::1]:7400 view=3 why="no room = none"'


def test_what_a_field_holds_cannot_begin_a_line_or_another_field():
    line = TextLines().format(record("refused\n1", why='a"\nforged=1', empty="", escape="\x1b[31m"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert line.endswith('refused\\n1 why="a\\"\\nforged=1" empty="" escape="\\u001b[31m"')


def test_json_is_one_object_a_line():
    line = JsonLines({"member": 1}).format(record("listening", address=Address("a", 1), view=3, why=None))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2001-09-09T01:46:40.250Z",
        "level": "warning",
        "logger": "veritydb.node",
        "message": "listening",
        "member": 1,
        "address": "a:1",
        "view": 3,
        "why": None,
    }


def test_a_traceback_is_kept():
    try:
        raise ValueError("bad")
    except ValueError:
        error = sys.exc_info()
    assert "ValueError: bad" in TextLines().format(record("records", error))
    assert "ValueError: bad" in json.loads(JsonLines({}).format(record("records", error)))["traceback"]
