"""Values of SQLite as JSON has them. Pure.

JSON's numbers are JavaScript's in every browser: whole numbers beyond 2**53 - 1 would arrive changed. So what JSON
cannot say exactly is an object with one member that says what it is::

    integers beyond +-(2**53 - 1)    {"int": "9223372036854775807"}
    infinities                       {"real": "inf"}
    blobs                            {"blob": "c0ffee"}                      hexadecimal
    text that is not valid UTF-8     {"text": "ff"}                          hexadecimal, of its bytes
    what is too long to be pushed    {"omitted": "blob", "bytes": 104857600}

The forms are those of ``veritydb log --json``, and the two that a browser needs beside them.
"""

from __future__ import annotations

from typing import cast

from veritydb.events import RawText, Value

EXACT_MAX = 2**53 - 1
"""The largest integer below which every one is exact in a binary64 (RFC 8259, section 6)."""


def json_value(value: Value, length_max: int) -> object:
    """Return ``value`` as JSON has it; text and blobs of more than ``length_max`` bytes are omitted, and say so."""
    if value is None or isinstance(value, float):
        if isinstance(value, float) and value - value != 0:  # Neither infinities nor NaN are JSON.
            return {"real": repr(value)}
        return value
    if isinstance(value, int):
        return value if -EXACT_MAX <= value <= EXACT_MAX else {"int": str(value)}
    if isinstance(value, str):
        # A character takes at most four bytes, so most texts need not be encoded to be measured.
        if len(value) * 4 > length_max and (length := len(value.encode("utf-8", "surrogatepass"))) > length_max:
            return {"omitted": "text", "bytes": length}
        return value
    kind = "text" if isinstance(value, RawText) else "blob"
    if len(value) > length_max:
        return {"omitted": kind, "bytes": len(value)}
    return {kind: value.hex()}


def sql_value(value: object) -> Value:
    """Return what JSON said as a parameter of a statement. Raises ValueError for what is no value."""
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, (int, float, str)):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError("an integer of SQLite has 64 bits")
        return value
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        number, blob = members.get("int"), members.get("blob")
        if len(members) == 1 and isinstance(number, str) and len(number) <= 20:
            return sql_value(int(number))
        if len(members) == 1 and isinstance(blob, str):
            return bytes.fromhex(blob)
    raise ValueError('a parameter is null, a number, a text, {"int": "…"} or {"blob": "…"}')
