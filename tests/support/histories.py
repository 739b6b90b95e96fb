"""Histories whose verdict is known: where they lie, how they are read, and the objects they are about.

They are not in the project: a test reads them from ``VERITYDB_HISTORIES`` or from ``../shared/histories`` beside the
checkout, and is skipped by name where neither is there. ``conftest`` takes variables ``VERITYDB_*`` away, so this is
read at import.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from veritydb.simulation.linearizability import Operation

_CHECKOUT = Path(__file__).parents[2]
_PLACES = (os.environ.get("VERITYDB_HISTORIES"), *(above / "shared/histories" for above in _CHECKOUT.parents[:2]))
_FOUND = [Path(place) for place in _PLACES if place and Path(place).is_dir()]
FOLDER: Path | None = _FOUND[0] if _FOUND else None
MISSING = "known-answer histories are in neither $VERITYDB_HISTORIES nor ../shared/histories"


class Register:
    """A register with read, write, and compare-and-set; a failed compare-and-set tells nothing to rely on."""

    def initial(self) -> Any:
        return "nothing"

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        kind, value = asked
        if kind == "read":
            return state if not known or answer == state else None
        if kind == "write":
            return value
        swapped = state == value[0]
        if known and swapped != answer:
            return None
        return value[1] if swapped else state


class AppendedText:
    """A value that is read, put, and appended to."""

    def initial(self) -> Any:
        return ""

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        kind, value = asked
        if kind == "get":
            return state if not known or answer == state else None
        return value if kind == "put" else state + value


class Mutex:
    """Held, or not."""

    def initial(self) -> Any:
        return False

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        if asked == "acquire":
            return None if state else True
        return False if state else None


class Summing:
    """A counter, a set of elements, or accounts: what is read is all that was added before."""

    def initial(self) -> Any:
        return frozenset()

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        kind, value = asked
        if kind == "read":
            return state if not known or frozenset(answer) == state else None
        return state | {value}


class Counter:
    """A number that is added to."""

    def initial(self) -> Any:
        return 0

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        kind, value = asked
        if kind == "read":
            return state if not known or answer == state else None
        return state + value


class Accounts:
    """Balances; a transfer that would overdraw fails."""

    def __init__(self, start: dict[str, int]) -> None:
        self.start = tuple(sorted(start.items()))

    def initial(self) -> Any:
        return self.start

    def step(self, state: Any, asked: Any, answer: Any, *, known: bool) -> Any:
        kind, value = asked
        if kind == "read":
            return state if not known or tuple(sorted(answer.items())) == state else None
        balances = dict(state)
        balances[str(value["from"])] -= value["amount"]
        balances[str(value["to"])] += value["amount"]
        return tuple(sorted(balances.items()))


def etcd(path: Path) -> list[Operation]:
    """Read one of Jepsen's logs: ``process :type :function value``."""
    history: list[Operation] = []
    open_calls: dict[str, int] = {}
    for time, line in enumerate(path.read_text().splitlines()):
        match = re.match(r"INFO +jepsen\.util - (\S+)\s+:(\w+)\s+:(\w+)\s+(.*)", line)
        if match is None:
            continue
        process, kind, function, text = match.groups()
        if kind == "invoke":
            value: Any = text
            if function == "cas":
                old, new = text.strip("[]").split()
                value = (old, new)
            open_calls[process] = len(history)
            history.append(Operation(time, None, (function, value), None))
        elif kind in ("ok", "fail"):
            index = open_calls.pop(process)
            op = history[index]
            if kind == "fail" and function == "read":
                continue  # It timed out; a read changes nothing.
            output: Any = kind == "ok" if function == "cas" else "nothing" if text == "nil" else text
            history[index] = op._replace(ret=time, output=output)
        else:  # :info: nobody knows
            open_calls.pop(process)
    return history


def texts(path: Path) -> list[Operation]:
    """Read one of Porcupine's logs of a key-value store; the input begins with its key."""
    pattern = re.compile(r'\{:process (\d+), :type :(\w+), :f :(\w+), :key "(.*)", :value (nil|"(.*)")\}')
    history: list[Operation] = []
    open_calls: dict[str, int] = {}
    for time, line in enumerate(path.read_text().splitlines()):
        match = pattern.fullmatch(line.strip())
        if match is None:
            continue
        process, kind, function, key, _, text = match.groups()
        if kind == "invoke":
            open_calls[process] = len(history)
            history.append(Operation(time, None, (key, function, text), None))
        else:
            index = open_calls.pop(process)
            history[index] = history[index]._replace(ret=time, output=text)
    return history


def events(path: Path) -> list[dict[str, Any]]:
    """Read events in EDN, as far as these files use it: maps, vectors, keywords, numbers, nil; or in JSON."""
    text = path.read_text()
    if path.suffix == ".json":
        return list(json.loads(text))
    items = _edn(text)
    while len(items) == 1 and isinstance(items[0], list):
        items = items[0]
    return [item for item in items if isinstance(item, dict)]


_TOKEN = re.compile(r'[\s,]+|;[^\n]*|([{}\[\]()]|#\{)|"((?:[^"\\]|\\.)*)"|:([^\s,{}\[\]()]+)|([^\s,{}\[\]()]+)')


def _edn(text: str) -> list[Any]:
    stack: list[tuple[str, list[Any]]] = [("", [])]
    for match in _TOKEN.finditer(text):
        mark, quoted, keyword, word = match.groups()
        if mark in ("{", "[", "(", "#{"):
            stack.append((mark, []))
        elif mark:
            opened, items = stack.pop()
            value: Any = dict(zip(items[::2], items[1::2], strict=True)) if opened == "{" else items
            stack[-1][1].append(value)
        elif quoted is not None or keyword is not None:
            stack[-1][1].append(quoted if quoted is not None else keyword)
        elif word is not None:
            constants = {"nil": None, "true": True, "false": False}
            stack[-1][1].append(constants[word] if word in constants else _number(word))
    return stack[0][1]


def _number(word: str) -> Any:
    try:
        return int(word)
    except ValueError:
        return word


def operations(found: list[dict[str, Any]]) -> list[Operation]:
    """Pair invocations with completions; a failed operation did not happen (Jepsen's meaning), an info one may have."""
    history: list[Operation] = []
    open_calls: dict[Any, int] = {}
    failed: set[int] = set()
    for time, event in enumerate(found):
        process = event.get("process")
        if event["type"] == "invoke":
            open_calls[process] = len(history)
            history.append(Operation(time, None, (event["f"], _hashable(event.get("value"))), None))
            continue
        index = open_calls.pop(process, None)
        if index is None:
            continue
        if event["type"] == "ok":
            value = event.get("value")
            history[index] = history[index]._replace(ret=time, output=value)
        elif event["type"] == "fail":
            failed.add(index)
    return [op for index, op in enumerate(history) if index not in failed]


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
