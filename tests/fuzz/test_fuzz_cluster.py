"""Whatever stands in the files of a node or a client, or in a header, is read, or is a mistake that is named."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veritydb.cluster.config import SETTINGS, Told, read_client_config, read_config, told_by
from veritydb.cluster.rights import Right, read_rights
from veritydb.cluster.shared import shared_with
from veritydb.consistency import Consistency, ConsistencyWSGI, format_tokens, parse_tokens
from veritydb.errors import ConfigurationError, CursorMalformed
from veritydb.streams import SHARED_FILE

CLUSTER = bytes(range(16))
NODE = {
    "cluster": CLUSTER.hex(), "member": 1, "data": "data", "secret_file": "secret", "authority": "a.crt",
    "certificate": "m.crt", "key": "m.key", "slots": 4096, "members": {"1": "10.0.0.1:7400", "2": "10.0.0.2:7400"},
}  # fmt: skip
CLIENT = {name: NODE[name] for name in ("cluster", "authority", "certificate", "key", "members")} | {
    "client_key": "client.secret", "regions": ["eu-1"],
}  # fmt: skip
RIGHTS = {"client": {"append": ["*"]}, "site-*": {"read": ["clinic"]}, "admin": {"administer": True}}
READERS: dict[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
    "node.toml": (NODE, read_config),
    "client.toml": (CLIENT, read_client_config),
    "rights.toml": (RIGHTS, lambda path: read_rights(path, CLUSTER)),
}
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | words
    | st.sampled_from(["a:1", "[::1]:70000", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([*SETTINGS, *CLIENT, *RIGHTS, *(right.value for right in Right)]) | words


def toml(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(name))} = {toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return json.dumps(value)


def mistake(read: Callable[..., object], *arguments: Any) -> str | None:
    """Return what is said to be wrong, if anything; any other error fails the test."""
    try:
        read(*arguments)
    except ConfigurationError as error:
        return str(error)
    return None


def is_read_or_named(read: Callable[[Path], object], path: Path) -> None:
    said = mistake(read, path)
    assert said is None or (str(path) in said and "\n" not in said)


@pytest.mark.parametrize("name", READERS)
@given(changes=st.dictionaries(names, values, max_size=3), gone=st.sets(names, max_size=2))
def test_whatever_a_file_says_it_is_read_or_a_mistake_in_one_line(
    name: str, changes: dict[str, Any], gone: set[str]
) -> None:
    good, read = READERS[name]
    told = {key: value for key, value in {**good, **changes}.items() if key not in gone}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in told.items())
        path.write_text(text, encoding="utf-8")
        is_read_or_named(read, path)


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_file_with_any_bytes_in_it_is_read_or_a_mistake_in_one_line(name: str, data: st.DataObject) -> None:
    good, read = READERS[name]
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in good.items()).encode()
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.binary(max_size=20)) + text[data.draw(st.integers(at, len(text))) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(changed)
        is_read_or_named(read, path)


@given(name=st.sampled_from(sorted(SETTINGS)), text=words)
def test_whatever_a_flag_or_a_variable_says_it_is_read_or_named(name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.toml"
        path.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in NODE.items()))
        for over in ({name: Told(text, "--flag")}, told_by({f"VERITYDB_NODE_{name.upper()}": text})):
            assert "\n" not in (mistake(read_config, path, over) or "")


@given(data=st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_whatever_says_that_a_log_is_shared_it_is_read_or_named(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SHARED_FILE).write_bytes(data)
        assert folder in (mistake(shared_with, Path(folder)) or folder)


@given(text=st.text(max_size=60) | st.from_regex(r"[0-9]{1,25}@[0-9a-f]{15,17}(,[0-9]+@[0-9a-f]{16})?"))
def test_whatever_a_token_says_it_is_read_or_malformed(text: str) -> None:
    try:
        tokens = parse_tokens(text)
    except CursorMalformed:
        return
    assert parse_tokens(format_tokens(tokens)) == tokens


header = st.text(st.characters(max_codepoint=255), max_size=60)


@given(after=header, consistency=header, cookie=header)
def test_whatever_a_request_says_it_is_answered(after: str, consistency: str, cookie: str) -> None:
    statuses = []
    told = {"x-read-after": after, "x-read-consistency": consistency, "cookie": f"seen={cookie}"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(name.encode(), value.encode("latin-1")) for name, value in told.items()]
        await Consistency(app, cookie="seen")({"type": "http", "headers": headers}, _nothing, send)

    asyncio.run(ask())
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in told.items()}

    def answer(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    ConsistencyWSGI(answer, cookie="seen")(environ, lambda status, *_: statuses.append(int(status[:3])))
    assert len(statuses) == 2
    assert statuses[0] == statuses[1]
    assert statuses[0] in (200, 400)


async def _nothing() -> dict[str, Any]:
    return {}
