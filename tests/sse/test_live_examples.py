"""The live examples, under uvicorn, as their README says.

Datastar's script is not ours to keep. Where ``DATASTAR`` names a folder with that of its 1.0, Chromium tries its page.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect, sync_playwright

import veritydb
from tests.sse.test_page import ARGUMENTS, CHROMIUM, SOON
from tests.support.cli import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATASTAR = os.environ.get("DATASTAR")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in (ROOT / "examples" / "live").iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    with contextlib.closing(veritydb.connect(tmp_path / "clinic.db", autocommit=True)) as db:
        db.execute("CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT, ward TEXT, ssn TEXT)")
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(folder: Path, program: str, port: int = 0, **variables: str) -> Iterator[int]:
    port = port or free_port()
    command = [sys.executable, "-m", "uvicorn", program, "--port", str(port), "--timeout-graceful-shutdown", "1"]
    with subprocess.Popen(
        command, cwd=folder, env=environment() | variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
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


def fetched(port: int, path: str) -> tuple[str, http.client.HTTPMessage]:
    """Return a page, and its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    text = response.read().decode()
    connection.close()
    return text, response.headers


def cookie_of(port: int) -> str:
    """Open the page, and return the cookie that it gives."""
    text, headers = fetched(port, "/")
    assert "EventSource" in text
    return str(headers["Set-Cookie"]).partition(";")[0]


def test_fastapi_pushes_to_a_plain_page_and_to_datastar(folder: Path) -> None:
    with running(folder, "fastapi_live:app") as port:
        block = first(port, "/live/events?images=1", "event: change", lambda: add(folder, "Jane"))
        assert json.loads(block.partition("data: ")[2])["after"] == {"id": 1, "name": "Jane", "ward": "A"}
        block = first(port, "/patients", "&lt;Ali&gt;", lambda: add(folder, "<Ali>"))
        assert block.startswith("event: datastar-patch-elements\ndata: elements <ul id=")


HOSTILE = "x\n\nevent: datastar-patch-signals\rdata: signals {a: (document.title = 1)}\r\n\r\n"


def test_lines_of_a_row_are_no_events_for_datastar(folder: Path) -> None:
    """What came behind a line break would be an event, and Datastar runs the expressions in some."""
    add(folder, HOSTILE)
    add(folder, "Zoe")
    with running(folder, "fastapi_live:app") as port:
        event, *lines = re.split("\r\n|\r|\n", first(port, "/patients", "Zoe", None).removesuffix("\n\n"))
    assert event == "event: datastar-patch-elements"
    assert {line[: len("data: elements ")] for line in lines} == {"data: elements "}
    assert "\n".join(line.removeprefix("data: elements ") for line in lines) == (
        '<ul id="patients"><li id="patient-2">Zoe, A</li><li id="patient-1">'
        "x\n\nevent: datastar-patch-signals\ndata: signals {a: (document.title = 1)}\n\n, A</li></ul>"
    )


def test_the_page_for_datastar_names_what_the_program_serves(folder: Path) -> None:
    """A module of another type than a script's, browsers refuse."""
    (folder / "scripts").mkdir()
    (folder / "scripts" / "datastar.js").write_text("export {}", encoding="utf-8")
    with running(folder, "fastapi_live:app", DATASTAR="scripts") as port:
        page, _ = fetched(port, "/datastar")
        script, headers = fetched(port, re.findall('src="(.+?)"', page)[0])
        assert (script, headers.get_content_type()) == ("export {}", "text/javascript")
        block = first(port, re.findall(r"@get\('(.+?)'", page)[0], "Jane", lambda: add(folder, "Jane"))
        assert re.findall('<ul id="(.+?)"', block) == re.findall('<ul id="(.+?)"', page)


class Unavailing(BaseHTTPRequestHandler):
    """What a proxy says while the program behind it starts."""

    def do_GET(self) -> None:
        self.send_response(502)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


@contextlib.contextmanager
def proxy_without_a_program(port: int) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", port), Unavailing) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield
        finally:
            proxy.shutdown()
            thread.join()


@pytest.mark.skipif(not DATASTAR or not CHROMIUM, reason="DATASTAR names no folder with datastar.js, or no chromium")
def test_datastar_shows_what_is_committed_and_goes_on_after_a_restart(folder: Path) -> None:
    """Without a reload; who was there keeps its element; what is in a row is text."""
    scripts = os.path.abspath(DATASTAR or "")
    with sync_playwright() as playwright, contextlib.ExitStack() as life:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        life.callback(browser.close)
        page = browser.new_page()
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        items = page.locator("#patients > li")
        with running(folder, "fastapi_live:app", DATASTAR=scripts) as port:
            page.goto(f"http://127.0.0.1:{port}/datastar")
            add(folder, "Jane")
            expect(items).to_have_text(["Jane, A"], timeout=SOON)
            page.evaluate("document.querySelector('#patients > li').kept = true")
            add(folder, "Ali & <b>Sons</b>")
            expect(items).to_have_text(["Ali & <b>Sons</b>, A", "Jane, A"], timeout=SOON)
            assert items.evaluate_all("items => items.map(item => item.kept)") == [None, True]
            add(folder, HOSTILE)
            expect(items.last).to_contain_text("event: datastar-patch-signals", timeout=SOON)
        with (
            proxy_without_a_program(port),
            page.expect_response(lambda response: response.status == 502, timeout=SOON),
        ):
            add(folder, "Zoe")
        with running(folder, "fastapi_live:app", port, DATASTAR=scripts):
            expect(items.nth(2)).to_have_text("Zoe, A", timeout=SOON)
        assert items.evaluate_all("items => items.map(item => item.kept)") == [None, True, None, None]
        assert page.title() == "Patients, live"
        assert failures == []


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
