"""What a reader on another machine sees: tokens, synchronized reads, and the headers that carry them."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import veritydb
from tests.cluster.machines import begin, texts
from veritydb import consistency, follower
from veritydb.consistency import Consistency, ConsistencyWSGI, format_tokens, parse_tokens, scope
from veritydb.errors import ConfigurationError, ConsistencyTimeout, CursorMalformed, GroupUnavailable, ProgrammingError


@pytest.fixture
def held(monkeypatch):
    """Followers that stand still until they are told to go on."""
    gate = threading.Event()
    step = follower.Follower._step

    def wait(self, *arguments):
        while not gate.wait(0.01):
            if self._stopping.is_set():
                return None
        return step(self, *arguments)

    monkeypatch.setattr(follower.Follower, "_step", wait)
    yield gate
    gate.set()


@pytest.fixture
def two(machines, held):
    """Machine a, which has written, and b, whose file does not know of it."""
    a = begin(machines)
    b = machines.connect("b", timeout=0.3, isolation_level=None)
    with a:
        a.execute("INSERT INTO notes (text) VALUES ('x')")
    yield a, b, held
    held.set()
    a.close()
    b.close()


def test_the_default_is_what_one_has_seen_oneself(two):
    a, b, gate = two
    assert texts(a) == ["x"]
    assert texts(b) == []
    with pytest.raises(ConsistencyTimeout) as late:
        b.read_after(a.token)
    assert (late.value.offset, late.value.applied) == (a.last_offset, a.last_offset - 1)
    gate.set()
    b.read_after(a.token, timeout=30)
    assert texts(b) == ["x"]
    assert b.token == a.token


def test_a_scope_carries_what_was_written_to_who_reads(two):
    a, b, gate = two
    with scope() as request:
        with a:
            a.execute("INSERT INTO notes (text) VALUES ('y')")
        assert request.token == a.token == format_tokens(request.written)
        with pytest.raises(ConsistencyTimeout):
            b.execute("SELECT count(*) FROM notes")
    with scope(request.token), pytest.raises(ConsistencyTimeout):
        texts(b)
    with scope(request.token, "eventual") as eventual:
        assert texts(b) == []
        assert eventual.served == parse_tokens(b.token)
    gate.set()
    with scope(request.token):
        b._session.freshness.timeout = 30
        assert texts(b) == ["x", "y"]


def test_synchronized_sees_everything_that_was_committed_before(two):
    _, b, gate = two
    with pytest.raises(ConsistencyTimeout), b.read("synchronized"):
        raise AssertionError("not reached")
    assert not b.in_transaction
    gate.set()
    with b.read("synchronized", timeout=30) as same:
        assert same is b
        assert texts(b) == ["x"]
        assert b.in_transaction
    assert not b.in_transaction


def test_a_connection_may_always_be_synchronized(two, machines):
    a, _, gate = two
    gate.set()
    with contextlib.closing(machines.connect("c", consistency="synchronized", timeout=30)) as c:
        for number in range(5):
            with a:
                a.execute("INSERT INTO notes (text) VALUES (?)", (str(number),))
            assert len(texts(c)) == 2 + number


def test_an_open_transaction_goes_on_seeing_what_it_saw(two):
    a, b, gate = two
    b.execute("BEGIN")
    gate.set()
    b.read_after(a.token, timeout=30)  # It has read nothing yet.
    assert texts(b) == ["x"]
    with a:
        a.execute("INSERT INTO notes (text) VALUES ('y')")
    with pytest.raises(ProgrammingError, match="end it first"):
        b.read_after(a.token, timeout=30)
    assert texts(b) == ["x"]
    with pytest.raises(ProgrammingError, match="end it first"), b.read():
        pass
    b.execute("ROLLBACK")
    b.read_after(a.token, timeout=30)
    assert texts(b) == ["x", "y"]


def test_a_synchronized_read_needs_the_group(two):
    _, b, _ = two
    b._session.freshness._client = Unreachable()
    with pytest.raises(GroupUnavailable), b.read("synchronized"):
        pass
    with b.read():
        assert texts(b) == []


class Unreachable:
    linearizable = True

    def end(self, stream, *, timeout):
        raise GroupUnavailable("nobody answers")


def test_a_database_of_one_machine_has_all_words_and_waits_for_nothing(tmp_path):
    with contextlib.closing(veritydb.connect(tmp_path / "x.db")) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (1)")
        db.commit()
        assert db.token == ""
        db.wait_for_offset(db.last_offset)
        with pytest.raises(ConsistencyTimeout):
            db.wait_for_offset(db.last_offset + 1)
        with db.read("synchronized"):
            assert db.execute("SELECT x FROM t").fetchall() == [(1,)]
        assert not db.in_transaction


# Around an application


def application(a, b):
    async def write(request):
        with a:
            a.execute("INSERT INTO notes (text) VALUES ('w')")
        return PlainTextResponse("written")

    async def read(request):
        try:
            return JSONResponse(texts(b))
        except ConsistencyTimeout:
            return PlainTextResponse("behind", 503)

    return Starlette(routes=[Route("/write", write, methods=["POST"]), Route("/read", read)])


class Browser:
    """Asks an ASGI application, and keeps its cookies."""

    def __init__(self, app):
        self.app = app
        self.cookies = httpx.Cookies()

    def _ask(self, method, path, headers=None):
        async def ask():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://ward", cookies=self.cookies) as client:
                answer = await client.request(method, path, headers=headers)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())

    def get(self, path, headers=None):
        return self._ask("GET", path, headers)

    def post(self, path):
        return self._ask("POST", path)


@pytest.fixture
def web(machines, held):
    a = machines.connect("a", check_same_thread=False)
    with a:
        a.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
    b = machines.connect("b", check_same_thread=False, timeout=0.3, isolation_level=None)
    yield Browser(Consistency(application(a, b), cookie="seen")), b, held
    held.set()
    a.close()
    b.close()


def test_headers_carry_it_from_one_server_to_the_next(web):
    client, b, gate = web
    written = client.post("/write")
    token = written.headers["x-write-offset"]
    assert parse_tokens(token)
    client.cookies.clear()
    read = client.get("/read")
    assert read.json() == []
    assert parse_tokens(read.headers["x-served-at"]) == parse_tokens(b.token)
    assert client.get("/read", headers={"X-Read-After": token}).status_code == 503
    eventual = {"X-Read-After": token, "X-Read-Consistency": "eventual"}
    assert client.get("/read", headers=eventual).json() == []
    gate.set()
    b._session.freshness.timeout = 30
    assert client.get("/read", headers={"X-Read-After": token}).json() == ["w"]


def test_a_cookie_carries_it_for_a_browser(web):
    client, b, gate = web
    client.post("/write")
    assert client.cookies["seen"]
    assert client.get("/read").status_code == 503
    gate.set()
    b._session.freshness.timeout = 30
    assert client.get("/read").json() == ["w"]


def test_what_is_no_token_is_the_callers_mistake(web):
    client, *_ = web
    assert client.get("/read", headers={"X-Read-After": "yesterday"}).status_code == 400
    answer = client.get("/read", headers={"X-Read-Consistency": "best"})
    assert answer.status_code == 400
    assert "consistency is one of" in answer.text
    client.cookies.set("seen", "nonsense")
    assert client.get("/read").status_code == 200


def test_wsgi_carries_it_too(two):
    a, b, gate = two

    def application_of(environ, start_response):
        if environ["PATH_INFO"] == "/write":
            with a:
                a.execute("INSERT INTO notes (text) VALUES ('w')")
        start_response("200 OK", [])
        return [",".join(texts(a if environ["PATH_INFO"] == "/write" else b)).encode()]

    def ask(path, **headers):
        told = {}

        def start_response(status, headers, *_):
            told.update(dict(headers), status=status)

        environ = {"PATH_INFO": path, **{f"HTTP_{name.upper()}": value for name, value in headers.items()}}
        return b"".join(ConsistencyWSGI(application_of, cookie="seen")(environ, start_response)), told

    body, told = ask("/write")
    # The headers are made before the body, and after what was written.
    assert body == b"x,w"
    gate.set()
    b._session.freshness.timeout = 30
    assert ask("/read", x_read_after=told["X-Write-Offset"])[0] == b"x,w"
    assert ask("/read", cookie=told["Set-Cookie"].partition(";")[0])[0] == b"x,w"
    assert ask("/read", x_read_after="?")[1]["status"].startswith("400")


def test_wsgi_carries_it_for_an_answer_that_is_made_while_it_is_sent(two):
    """Before, what a generator read and wrote was read and written for nobody."""
    a, b, gate = two
    closed = []

    def written_later(environ, start_response):
        try:
            with a:
                a.execute("INSERT INTO notes (text) VALUES ('w')")
            start_response("200 OK", [])
            yield b"written"
        finally:
            closed.append(True)

    def read_later(environ, start_response):
        start_response("200 OK", [])
        yield ",".join(texts(b)).encode()

    def ask(application, **headers):
        told = {}
        answer = ConsistencyWSGI(application)(headers, lambda status, headers: told.update(headers))
        try:
            return b"".join(answer), told
        finally:
            answer.close()

    token = ask(written_later)[1]["X-Write-Offset"]
    assert closed
    with pytest.raises(ConsistencyTimeout):
        ask(read_later, HTTP_X_READ_AFTER=token)
    gate.set()
    b._session.freshness.timeout = 30
    assert ask(read_later, HTTP_X_READ_AFTER=token)[0] == b"x,w"


@pytest.mark.parametrize("text", ["x", "1", "1@", "-1@0123456789abcdef", "1@0123456789abcdeg", f"{10**20}@{0:016}"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(CursorMalformed):
        parse_tokens(text)


def test_tokens_of_several_databases_travel_together():
    text = "5@0123456789abcdef,7@fedcba9876543210"
    assert format_tokens(parse_tokens(text + ", 3@0123456789abcdef")) == text
    assert parse_tokens("") == {}


def test_no_other_word_is_a_consistency(tmp_path):
    with pytest.raises(ConfigurationError):
        consistency.check("strong")
    with contextlib.closing(veritydb.connect(tmp_path / "x.db")) as db, pytest.raises(ConfigurationError):
        db.read("strong").__enter__()
