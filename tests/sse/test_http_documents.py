"""The guide and the reference of HTTP say what is so."""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.routing import Route, WebSocketRoute

from tests.support.asgi import Asgi
from tests.support.cli import KEY, ROOT, command
from veritydb.sse import create_app, read_settings
from veritydb.sse.guarded import Limits
from veritydb.sse.problems import KINDS
from veritydb.sse.settings import Past, Settings, Streams, everything, hash_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sse.conftest import Clinic

GUIDE = (ROOT / "docs" / "guides" / "sse.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference" / "http.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def settings(tmp_path: Path) -> tuple[Settings, Ed25519PrivateKey, str]:
    """Of the guide, with a key that ``veritydb keys api`` has drawn."""
    drawn = command("keys", "api", "--json").json
    assert hash_of(drawn["key"]) == drawn["sha256"]
    issuer = Ed25519PrivateKey.generate()
    public = issuer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "issuer.pem").write_bytes(public)
    (text,) = blocks("toml")
    (tmp_path / "server.toml").write_text(re.sub(r"[0-9a-f]{64}", drawn["sha256"], text))
    return read_settings(tmp_path / "server.toml"), issuer, drawn["key"]


def test_the_configuration_of_the_guide_does_what_the_guide_says(clinic: Clinic, settings: Any) -> None:
    """A screen sees its ward by an API key; an auditor, by a token that the issuer has signed, sees all."""
    read, issuer, key = settings
    clinic.db.execute("INSERT INTO patients VALUES (1, 'Jane', 'A', '111'), (2, 'Ali', 'B', '222')")
    app = create_app(clinic.path, key=KEY, settings=read)
    with Asgi(app, service=app.state.service) as client:
        ask = {"sql": "SELECT * FROM patients"}
        screen = client.ask("POST", "/query", json=ask, key=key)
        assert screen.json()["rows"] == [[1, "Jane", "A"]]
        token = jwt.encode({"exp": time.time() + 60, "aud": "clinic", "role": "auditor"}, issuer, algorithm="EdDSA")
        auditor = client.ask("POST", "/query", json=ask, key=token)
        assert len(auditor.json()["rows"]) == 2


def test_the_program_of_the_guide_runs(clinic: Clinic, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clinic.path.parent)
    names: dict[str, Any] = {"key": KEY}
    program, django = blocks("python")
    compile(django, "urls.py", "exec")  # tests/sse/test_live_examples.py runs one like it.
    exec(program, names)
    with Asgi(names["app"]) as client:
        assert client.ask("GET", "/live/healthz").json() == {"status": "ok"}
        assert client.ask("GET", "/live/status", key=settings[2]).json()["you"]["name"] == "ward screen A"


def test_the_reference_lists_addresses_problems_and_settings(clinic: Clinic) -> None:
    app = create_app(clinic.path, key=KEY, settings=everything("x"), ui=True)
    written = set(re.findall(r"`(?:GET|POST|DELETE) (/[\w.]*)`", REFERENCE))
    files = {"/page.css", "/page.js", "/icon.svg"}
    assert written == {route.path for route in app.routes if isinstance(route, (Route, WebSocketRoute))} - files
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|$", REFERENCE, re.MULTILINE))
    assert table == {name: str(kind.status) for name, kind in KINDS.items()}
    configuration = REFERENCE.partition("## Configuration")[2]
    for kind in (Limits, Streams, Past):
        for item in fields(kind):
            assert f"`{item.name}`" in configuration


def test_the_schema_is_one() -> None:
    import jsonschema

    from veritydb.sse.endpoints import event_schema

    jsonschema.Draft202012Validator.check_schema(json.loads(event_schema()))
