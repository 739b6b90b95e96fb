"""The live examples, under uvicorn, as their README says."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import veritydb
from tests.support.cli import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in (ROOT / "examples" / "live").iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    with contextlib.closing(veritydb.connect(tmp_path / "clinic.db", autocommit=True)) as db:
        db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, ward TEXT, ssn TEXT)")
    return tmp_path


@contextlib.contextmanager
def running(folder: Path, program: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", program, "--port", str(port), "--timeout-graceful-shutdown", "1"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            while not (lines and "Uvicorn running" in lines[-1]):
                line = process.stderr.readline()
                assert line, "".join(lines)
                lines.append(line)
            yield port
        finally:
            process.terminate()
            process.communicate(timeout=20)


def add(folder: Path, name: str) -> None:
    with contextlib.closing(veritydb.connect(folder / "clinic.db", autocommit=True)) as db:
        db.execute("INSERT INTO patients (name, ward, ssn) VALUES (?, 'A', '123')", (name,))


def first(port: int, path: str, wanted: str, work: object, headers: dict[str, str] | None = None) -> str:
    """Return the first block of a stream that has ``wanted`` in it; ``work`` is done when the stream has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("Content-Encoding", "identity") == "identity"
        block = ""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            line = response.readline().decode()
            assert line, "the stream ended"
            block += line
            if line == "\n":
                if "event: " in block and callable(work):
                    work, _ = None, work()
                if wanted in block:
                    return block
                block = ""
        raise AssertionError(f"{wanted} did not come")
    finally:
        connection.close()
        response.close()


def cookie_of(port: int) -> str:
    """Open the page, and return the cookie that it gives."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert b"EventSource" in response.read()
    connection.close()
    return str(response.getheader("Set-Cookie")).partition(";")[0]


def test_fastapi_pushes_to_a_plain_page_and_to_datastar(folder: Path) -> None:
    with running(folder, "fastapi_live:app") as port:
        block = first(port, "/live/events?images=1", "event: change", lambda: add(folder, "Jane"))
        assert json.loads(block.partition("data: ")[2])["after"] == {"id": 1, "name": "Jane", "ward": "A"}
        block = first(port, "/patients", "&lt;Ali&gt;", lambda: add(folder, "<Ali>"))
        assert block.startswith("event: datastar-patch-elements\ndata: elements <ul id=")


def test_django_pushes_what_its_role_may_see(folder: Path) -> None:
    """Through GZipMiddleware, to a client that takes gzip; who has no role is refused, and mistakes are problems."""
    with running(folder, "django_live:application") as port:
        accepts = {"Cookie": cookie_of(port), "Accept-Encoding": "gzip"}
        block = first(port, "/events/?images=1", "event: change", lambda: add(folder, "Jane"), accepts)
        change = json.loads(block.partition("data: ")[2])
        assert change["after"] == {"id": 1, "name": "Jane", "ward": "A"}
        cursor = block.partition("id: ")[2].partition("\n")[0]
        add(folder, "Ali")
        block = first(port, "/events/?images=1", "event: change", None, accepts | {"Last-Event-ID": cursor})
        assert json.loads(block.partition("data: ")[2])["after"]["name"] == "Ali"
        for path, headers, status, kind in (
            ("/events/", {}, 403, "forbidden"),
            ("/events/?tables=secrets", accepts, 404, "unknown-table"),
            ("/events/?since=x", accepts, 400, "bad-cursor"),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            assert response.status == status
            assert json.loads(response.read())["type"].endswith(kind)
            connection.close()
