"""Whatever a client sends, the answer is a success or a problem; never a failure of the server."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

import veritydb
from tests.support.asgi import Asgi
from tests.support.cli import KEY
from veritydb.errors import ConfigurationError
from veritydb.sse import Problem, create_app, everything
from veritydb.sse.endpoints import wanted_by
from veritydb.sse.rights import EVERYTHING
from veritydb.sse.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "vk_fuzz"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
header = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@pytest.fixture(scope="module")
def asgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asgi]:
    path = tmp_path_factory.mktemp("fuzz") / "clinic.db"
    db = veritydb.connect(path, key=KEY, autocommit=True)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body)")
    db.close()
    app = create_app(path, key=KEY, settings=everything(SECRET))
    with Asgi(app, service=app.state.service) as client:
        yield client


def is_an_answer(answer: Any) -> bool:
    if answer.status_code < 400:
        return True
    kind = answer.headers["content-type"]
    return answer.status_code < 500 and kind == "application/problem+json" and answer.json()["status"] >= 400


@given(sql=st.text(max_size=60) | st.sampled_from(["SELECT ?", "SELECT :a"]), parameters=values, at=values, more=values)
def test_a_query_of_any_shape_is_answered(asgi: Asgi, sql: str, parameters: Any, at: Any, more: Any) -> None:
    for body in ({"sql": sql, "parameters": parameters}, {"sql": sql, "at": at}, more):
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        assert is_an_answer(asgi.ask("POST", "/query", content=content, headers=headers, key=SECRET))


@given(content=st.binary(max_size=100), name=header, value=header)
def test_any_body_and_any_header_is_answered(asgi: Asgi, content: bytes, name: str, value: str) -> None:
    for path in ("/query", "/session"):
        sent = {"Content-Type": "application/json", "X-Read-After": name, "X-Read-Consistency": value}
        assert is_an_answer(asgi.ask("POST", path, content=content, headers=sent, key=SECRET))
    for sent in ({"Authorization": value}, {"X-API-Key": value}, {"Cookie": f"veritydb_session={value}"}):
        assert is_an_answer(asgi.ask("GET", "/tables", headers=sent))


@given(
    parameters=st.lists(
        st.tuples(st.sampled_from(["tables", "actions", "images", "since", "snapshot", "x"]), st.text(max_size=40)),
        max_size=4,
    ),
    resumed=st.none() | st.text(max_size=40),
)
def test_any_parameters_of_a_stream_are_understood_or_refused(asgi: Asgi, parameters: Any, resumed: Any) -> None:
    service = asgi._app.state.service
    with contextlib.suppress(Problem):
        wanted_by(service, EVERYTHING, QueryParams(parameters), resumed)


@given(text=st.text(max_size=60), name=st.sampled_from(["roles", "api_keys", "jwt", "limits", "streams", "anonymous"]))
def test_any_configuration_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    for content in (
        text,
        f"{name} = {text}",
        f"[{name}]\n{text} = 1",
        f"[[{name}]]\n{text}",
        f"[{name}.a]\nb = {text}",
    ):
        path.write_text(content, encoding="utf-8", errors="replace")
        with contextlib.suppress(ConfigurationError):
            read_settings(path)
